//! `debugctl audit` on the log of a real run, and on what somebody made of it.

use std::fs;
use std::path::Path;

use crate::world::World;

/// A world in which something happened, with the key of the log.
fn world() -> (World, String) {
    let world = World::new();
    world.eval("config.db.host").check(0, "config.db.host\n", "");
    world.eval("deny").check(3, "", "");
    let vkey = world.key.verifier().to_string();
    (world, vkey)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

fn edit(dir: &Path, change: impl FnOnce(String) -> String) {
    let path = dir.join("records-0.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, change(text)).unwrap();
}

#[test]
fn a_true_log_verifies_and_says_who_vouches_and_who_witnessed() {
    let (world, vkey) = world();
    let ended = world.run(&["audit", "verify", "DIR", "--vkey", &vkey]);
    ended.check(0, &ended.stdout, "");
    for text in [
        "verified: 7 records of `example.internal/dienstplan/1/",
        "2 evals signed with 1 certificate\n",
        "vouched for by the key given",
        "witnessed up to 7 (by this client, ",
        "; 0 records after it rest on the host alone",
    ] {
        assert!(ended.stdout.contains(text), "`{text}`: {}", ended.stdout);
    }
    fs::write(world.path("inventory.json"), format!(r#"{{"agents":[{{"vkey":"{vkey}"}}]}}"#)).unwrap();
    let ended = world.run(&["audit", "verify", "DIR"]);
    ended.check(0, &ended.stdout, "");
    assert!(ended.stdout.contains("vouched for by the inventory `"), "{}", ended.stdout);
}

#[test]
fn a_payload_in_parts_is_joined_before_its_signature_is_checked() {
    let world = World::new();
    world.lies.lock().unwrap().split = true;
    world.eval("a long one").check(0, "a long one\n", "");
    let vkey = world.key.verifier().to_string();
    let ended = world.run(&["audit", "verify", "DIR", "--vkey", &vkey]);
    ended.check(0, &ended.stdout, "");
    assert!(
        ended.stdout.contains("verified: 6 records")
            && ended.stdout.contains(" 1 eval signed with 1 certificate\n")
    );
}

#[test]
fn without_a_key_nobody_vouches() {
    let (world, _) = world();
    let ended = world.run(&["audit", "verify", "DIR"]);
    ended.check(6, &ended.stdout, "the log is consistent in itself; nobody vouches for it");
    assert!(!ended.stdout.contains("verified"), "{}", ended.stdout);
}

/// T51, T52, T54, T55: never exit 0, never the word.
#[test]
fn a_log_that_was_touched_does_not_verify() {
    let (world, vkey) = world();
    let other = debug_audit::SigningKey::generate("example.internal/dienstplan/1").unwrap();
    let check = |name: &str, vkey: &str, in_stderr: &str, change: &dyn Fn(&Path)| {
        let dir = world.path(name);
        copy(&world.audit(), &dir);
        change(&dir);
        let ended = world.run(&["audit", "verify", dir.to_str().unwrap(), "--vkey", vkey]);
        ended.check(6, "", in_stderr);
    };
    check("other-key", &other.verifier().to_string(), "is not signed by the key", &|_| ());
    check("altered", &vkey, "record 2", &|dir| {
        edit(dir, |text| text.replace("config.db.host", "config.db.port"))
    });
    check("cut", &vkey, "are missing", &|dir| {
        edit(dir, |text| text.split_inclusive('\n').take(3).collect());
    });
    check("empty", &vkey, "does not verify", &|dir| edit(dir, |_| String::new()));
    check("garbage", &vkey, "does not verify", &|dir| edit(dir, |_| "\u{1b}[2J\0\n".repeat(9)));
    check("no-checkpoint", &vkey, "does not verify", &|dir| fs::remove_file(dir.join("checkpoint")).unwrap());
}

/// T52: whoever has the log's key can sign another log, but not what this client has seen.
#[test]
fn a_log_signed_anew_is_told_by_the_witness() {
    let (world, vkey) = world();
    let dir = world.path("resigned");
    copy(&world.audit(), &dir);
    let records = fs::read_to_string(dir.join("records-0.jsonl")).unwrap();
    let resign = |records: &str| {
        let mut tree = debug_audit::tree::Tree::new();
        for line in records.lines() {
            tree.append(debug_audit::tree::leaf_hash(line.as_bytes()));
        }
        let boot: serde_json::Value = serde_json::from_str(records.lines().next().unwrap()).unwrap();
        let origin = boot["origin"].as_str().unwrap().to_owned();
        let head = debug_audit::Checkpoint { origin, size: tree.size(), root: tree.root() };
        fs::write(dir.join("records-0.jsonl"), records).unwrap();
        fs::write(dir.join("checkpoint"), head.sign(&world.key)).unwrap();
        let _ = fs::remove_file(dir.join("leaves"));
    };
    let verify = || world.run(&["audit", "verify", dir.to_str().unwrap(), "--vkey", &vkey]);

    resign(&records.split_inclusive('\n').take(4).collect::<String>());
    verify().check(6, "", "the log was cut: 4 records are signed, this client has seen 7");
    resign(&records.replace(r#""outcome":"failed""#, r#""outcome":"ok""#));
    verify().check(6, "", "the log was rewritten");
    // With the operator's words changed the signature tells, before any witness does.
    fs::remove_dir_all(world.path("state")).unwrap();
    resign(&records.replace("config.db.host", "config.db.port"));
    verify().check(6, "", "record 2 (`records-0.jsonl`, line 3) does not verify: the operator's signature");
    resign(&records.replace(r#""counter":1"#, r#""counter":2"#));
    verify().check(6, "", "record 2");
    resign(&records.replace("/operator/alice", "/operator/bob"));
    verify().check(6, "", "record 1");
    resign(&records);
    assert_eq!(verify().code, 0);
}

/// T53.
#[test]
fn lists_tell_how_much_they_show_and_whether_it_is_verified() {
    let (world, vkey) = world();
    let list =
        |dir: &str, more: &[&str]| world.run(&[&["audit", "list", dir, "--vkey", &vkey], more].concat());
    let ended = list("DIR", &["--kind", "eval", "--operator", "alice"]);
    ended.check(0, &ended.stdout, "2 of 7 records shown; verified: 7 records");
    let columns = |line: &str| -> Vec<String> {
        line.split("  ").filter(|c| !c.is_empty()).map(|c| c.trim().to_owned()).collect()
    };
    let lines: Vec<_> = ended.stdout.lines().map(columns).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        [&lines[0][0], &lines[0][2], &lines[0][3], &lines[0][4]],
        ["2", "eval", "alice", "config.db.host"]
    );
    list("DIR", &["--operator", "bob"]).check(0, "", "0 of 7 records shown");
    assert_eq!(list("DIR", &["--kind", "session."]).stdout.lines().count(), 2);

    let dir = world.path("altered");
    copy(&world.audit(), &dir);
    edit(&dir, |text| text.replace(r#""outcome":"failed""#, r#""outcome":"ok""#));
    let ended = list(dir.to_str().unwrap(), &[]);
    ended.check(6, &ended.stdout, "WARNING: 7 of 7 records shown, of a log that is NOT verified");
    assert_eq!(ended.stdout.lines().count(), 7);
}

/// T46.
#[test]
fn a_record_is_shown_whole_and_escaped() {
    let world = World::new();
    world.eval("'\u{1b}[2J\u{202e}'");
    let vkey = world.key.verifier().to_string();
    let ended = world.run(&["audit", "show", "DIR", "2", "--vkey", &vkey]);
    ended.check(0, &ended.stdout, "");
    let value: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert!(value["payload"].as_str().unwrap().contains('\u{202e}'), "the bytes can be recovered");
    assert!(!ended.stdout.contains('\u{202e}'));
    let listed = world.run(&["audit", "list", "DIR", "--vkey", &vkey]);
    listed.check(0, &listed.stdout, "");
    assert!(listed.stdout.contains(r"'\u{1b}[2J\u{202e}'"), "{}", listed.stdout);
    world.run(&["audit", "show", "DIR", "99", "--vkey", &vkey]).check(2, "", "there is no record 99");
}
