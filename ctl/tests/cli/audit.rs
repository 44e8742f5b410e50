//! `debugctl audit` on the log of a real run, and on altered copies of it.

use std::fs;
use std::path::Path;

use debug_audit::SigningKey;
use pki_types::CertificateDer;
use pki_types::pem::PemObject;
use sha2::Digest;

use crate::authority::{AGENT_ID, Authority, OPERATOR_ID};
use crate::world::{World, write};

/// A world with a log that holds evals and leases, and the key of the log.
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

/// A copy of the log with other records, signed with its key, as its host could do.
fn resign(world: &World, dir: &Path, records: &str) {
    copy(&world.audit(), dir);
    let mut tree = debug_audit::tree::HashTree::new();
    for line in records.lines() {
        tree.append(debug_audit::tree::leaf_hash(line.as_bytes()));
    }
    let boot: serde_json::Value = serde_json::from_str(records.lines().next().unwrap()).unwrap();
    let origin = boot["origin"].as_str().unwrap().to_owned();
    let head = debug_audit::Checkpoint {
        origin,
        size: tree.size(),
        root: tree.root(),
    };
    fs::write(dir.join("records-0.jsonl"), records).unwrap();
    fs::write(dir.join("checkpoint"), head.sign(&world.key)).unwrap();
    let _ = fs::remove_file(dir.join("leaves"));
}

fn records(world: &World) -> String {
    fs::read_to_string(world.audit().join("records-0.jsonl")).unwrap()
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
    fs::write(
        world.path("inventory.json"),
        format!(r#"{{"agents":[{{"vkey":"{vkey}"}}]}}"#),
    )
    .unwrap();
    let ended = world.run(&["audit", "verify", "DIR"]);
    ended.check(0, &ended.stdout, "");
    assert!(
        ended.stdout.contains("vouched for by the inventory `"),
        "{}",
        ended.stdout
    );
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
    ended.check(
        6,
        &ended.stdout,
        "the log is consistent in itself; nobody vouches for it",
    );
    assert!(!ended.stdout.contains("verified"), "{}", ended.stdout);
}

/// T51, T52, T54, T55: the exit code is never 0, and `verified` is never printed.
#[test]
fn a_log_that_was_touched_does_not_verify() {
    let (world, vkey) = world();
    let other = SigningKey::generate("example.internal/dienstplan/1").unwrap();
    let check = |name: &str, vkey: &str, in_stderr: &str, change: &dyn Fn(&Path)| {
        let dir = world.path(name);
        copy(&world.audit(), &dir);
        change(&dir);
        let ended = world.run(&["audit", "verify", dir.to_str().unwrap(), "--vkey", vkey]);
        ended.check(6, "", in_stderr);
    };
    check(
        "other-key",
        &other.verifier().to_string(),
        "is not signed by the key",
        &|_| (),
    );
    check("altered", &vkey, "record 2", &|dir| {
        edit(dir, |text| text.replace("config.db.host", "config.db.port"))
    });
    check("cut", &vkey, "are missing", &|dir| {
        edit(dir, |text| text.split_inclusive('\n').take(3).collect());
    });
    check("empty", &vkey, "does not verify", &|dir| {
        edit(dir, |_| String::new())
    });
    check("garbage", &vkey, "does not verify", &|dir| {
        edit(dir, |_| "\u{1b}[2J\0\n".repeat(9))
    });
    check("no-checkpoint", &vkey, "does not verify", &|dir| {
        fs::remove_file(dir.join("checkpoint")).unwrap()
    });
}

/// A usage error is no evidence against a log.
#[test]
fn where_no_log_is_nothing_is_said_of_one() {
    let (world, vkey) = world();
    let check = |dir: &Path, in_stderr: &str| {
        let dir = dir.to_str().unwrap();
        for command in [["verify", dir].as_slice(), &["list", dir], &["show", dir, "0"]] {
            let ended = world.run(&[&["audit"], command, &["--vkey", &vkey]].concat());
            ended.check(2, "", in_stderr);
            assert!(
                ended.stderr.contains("help: give the log's folder"),
                "{}",
                ended.stderr
            );
            assert!(!ended.stderr.contains("evidence"), "{}", ended.stderr);
        }
    };
    check(&world.path("nowhere"), "there is no folder `");
    check(&world.path("agent"), "there is no log in `");
    check(&world.audit().join("records-0.jsonl"), "is no folder");
    // A part of a log does count as one.
    let dir = world.path("part");
    fs::create_dir(&dir).unwrap();
    fs::copy(world.audit().join("checkpoint"), dir.join("checkpoint")).unwrap();
    world
        .run(&["audit", "verify", dir.to_str().unwrap(), "--vkey", &vkey])
        .check(6, "", "the records 0 to 6 are missing");
}

/// T52: the holder of the log's key can sign another log, but cannot change what this client remembers.
#[test]
fn a_log_signed_anew_is_told_by_the_witness() {
    let (world, vkey) = world();
    let dir = world.path("resigned");
    let records = records(&world);
    let resign = |records: &str| resign(&world, &dir, records);
    let verify = || world.run(&["audit", "verify", dir.to_str().unwrap(), "--vkey", &vkey]);

    resign(&records.split_inclusive('\n').take(4).collect::<String>());
    verify().check(
        6,
        "",
        "the log was cut: 4 records are signed, this client has seen 7",
    );
    resign(&records.replace(r#""outcome":"failed""#, r#""outcome":"ok""#));
    verify().check(6, "", "the log was rewritten");
    // If the operator's code was altered, its signature already fails, before the remembered checkpoint is compared.
    fs::remove_dir_all(world.path("state")).unwrap();
    resign(&records.replace("config.db.host", "config.db.port"));
    verify().check(
        6,
        "",
        "record 2 (`records-0.jsonl`, line 3) does not verify: the operator's signature",
    );
    resign(&records.replace(r#""counter":1"#, r#""counter":2"#));
    verify().check(6, "", "record 2");
    resign(&records.replace("/operator/alice", "/operator/bob"));
    verify().check(6, "", "record 1");
    resign(&records);
    assert_eq!(verify().code, 0);
}

/// Also in a log signed with the right key, a fault in the leases is reported with its record.
#[test]
fn leases_end_once_and_put_back_what_stood_there() {
    let (world, vkey) = world();
    let (dir, records) = (world.path("resigned"), records(&world));
    fs::remove_dir_all(world.path("state")).unwrap();
    let verify = |more: &[&str]| {
        let next = records.lines().count();
        let line = |(seq, rest): (usize, &&str)| format!("{{\"v\":1,\"seq\":{seq},{rest}}}\n");
        let more: String = (next..).zip(more).map(line).collect();
        resign(&world, &dir, &format!("{records}{more}"));
        world.run(&["audit", "verify", dir.to_str().unwrap(), "--vkey", &vkey])
    };
    let made = r#""kind":"lease.made","lease":{"id":3,"target":"state:config.db.port"},"before":{"hmac":"aa"},"after":{"hmac":"bb"}"#;
    let ended = r#""kind":"lease.expired","lease":3,"restored":{"hmac":"aa"}"#;
    let ended = verify(&[made, ended]);
    ended.check(0, &ended.stdout, "");
    let told = "\n1 lease, ended exactly once; 1 put back what stood there before (checked by digest)\n";
    assert!(ended.stdout.contains(told), "{}", ended.stdout);
    let kept = r#""kind":"lease.expired","lease":3,"restored":{"hmac":"bb"}"#;
    verify(&[made, kept]).check(
        6,
        "",
        "record 8 (`records-0.jsonl`, line 9) does not verify: lease 3 was to put back what stood there before it",
    );
    verify(&[made, r#""kind":"shutdown""#]).check(
        6,
        "",
        "the run ended with record 8, but no record ends lease 3, made by record 7\nhelp: keep the folder as evidence",
    );
    let list = world.run(&["audit", "list", dir.to_str().unwrap(), "--vkey", &vkey]);
    list.check(6, &list.stdout, "of a log that is NOT verified");
}

const ISSUED: &str = "the operators' certificates were issued by the CA `";
const WITH_NOTHING: &str =
    "the operators' certificates were compared with nothing: give their CA with `--ca`\n";

/// A log that does not verify outweighs a closed stdout.
#[test]
fn a_closed_pipe_is_quiet_unless_the_log_does_not_verify() {
    let (world, vkey) = world();
    let closed = |args: &[&str]| world.run_unread(&[args, &["--vkey", &vkey]].concat());
    let all: [&[&str]; 3] = [
        &["audit", "list", "DIR"],
        &["audit", "show", "DIR", "1"],
        &["audit", "verify", "DIR"],
    ];
    for args in all {
        let ended = closed(args);
        assert_eq!((ended.code, ended.stderr.as_str()), (141, ""), "{args:?}");
    }
    let file = world.audit().join("records-0.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("oncall", "onca11", 1)).unwrap();
    for args in all {
        closed(args).check(6, "", "error: the log does not verify");
    }
}

/// The holder of the log's key can record evals signed by invented operators; only the CA tells them from real ones.
#[test]
fn operators_that_the_ca_did_not_certify_are_named_with_their_record() {
    let (world, vkey) = world();
    let (own, other) = (world.path("own.pem"), world.path("other.pem"));
    write(&own, &world.authority.pem());
    write(&other, &Authority::new().pem());
    let verify = |ca: &Path| {
        world.run(&[
            "audit",
            "verify",
            "DIR",
            "--vkey",
            &vkey,
            "--ca",
            ca.to_str().unwrap(),
        ])
    };
    let ended = verify(&own);
    ended.check(0, &ended.stdout, "");
    assert!(
        ended.stdout.contains(&format!("{ISSUED}{}`\n", own.display())),
        "{}",
        ended.stdout
    );
    let ended = verify(&other);
    let finding = "record 1 (`records-0.jsonl`, line 2) does not verify: no CA vouches for the certificate of \
                   `spiffe://example.internal/operator/alice`: the CA `";
    ended.check(6, "", finding);
    ended.check(6, "", "` did not issue it\nhelp: keep the folder as evidence");
    verify(&world.path("nowhere.pem")).check(2, "", "nowhere.pem");
    verify(&world.path("alice/key.pem")).check(2, "", "it holds a private key, and no certificate in PEM");

    let list = |more: &[&str]| world.run(&[&["audit", "list", "DIR", "--vkey", &vkey], more].concat());
    let ended = list(&["--ca", other.to_str().unwrap()]);
    ended.check(6, &ended.stdout, finding);
    assert_eq!(
        ended.stdout.lines().filter(|line| line.contains("alice")).count(),
        6,
        "{}",
        ended.stdout
    );
    let ended = list(&[]);
    ended.check(0, &ended.stdout, WITH_NOTHING);
    let ended = list(&["--ca", own.to_str().unwrap()]);
    ended.check(0, &ended.stdout, "verified: 7 records");
    assert!(
        !ended.stderr.contains("the operators' certificates"),
        "{}",
        ended.stderr
    );
}

/// The signature is the operator's of the session, so no record of it may name another.
#[test]
fn a_record_that_names_another_operator_than_its_session_is_found() {
    let (world, vkey) = world();
    let forged = world.path("forged");
    let eval = records(&world)
        .lines()
        .find(|line| line.contains(r#""kind":"eval""#))
        .unwrap()
        .to_owned();
    let bob = "spiffe://example.internal/operator/bob";
    let body = eval.trim_end_matches('}');
    let own = format!(r#","operator":"{}""#, "spiffe://example.internal/operator/alice");
    let other = format!(r#","operator":"{bob}""#);
    let claimed = match body.contains(&own) {
        true => format!("{}}}", body.replace(&own, &other)),
        false => format!("{body}{other}}}"),
    };
    resign(&world, &forged, &records(&world).replace(&eval, &claimed));
    let args = |what: &str| world.run(&["audit", what, forged.to_str().unwrap(), "--vkey", &vkey]);
    args("verify").check(
        6,
        "",
        "it names `spiffe://example.internal/operator/bob`, and its session is that of `spiffe://example.internal/operator/alice`",
    );
    let listed = args("list");
    assert_eq!(listed.code, 6);
    let evals: Vec<&str> = listed
        .stdout
        .lines()
        .filter(|line| line.contains(" eval "))
        .collect();
    assert!(
        !evals.is_empty() && evals.iter().all(|line| !line.contains("bob")),
        "{}",
        listed.stdout
    );
}

#[test]
fn the_ca_is_found_beside_the_inventory_and_never_in_the_logs_folder() {
    let (world, vkey) = world();
    let verify = |more: &[&str]| world.run(&[&["audit", "verify", "DIR"], more].concat());
    let said = |more: &[&str], text: &str| {
        let ended = verify(more);
        ended.check(0, &ended.stdout, "");
        assert!(ended.stdout.contains(text), "`{text}`: {}", ended.stdout);
    };
    let inventory = format!(r#"{{"agents":[{{"vkey":"{vkey}"}}]}}"#);
    write(&world.path("inventory.json"), &inventory);
    said(&[], WITH_NOTHING);
    fs::create_dir(world.path("ca")).unwrap();
    write(&world.path("ca/ca.pem"), &world.authority.pem());
    said(&[], ISSUED);
    said(
        &["--inventory", world.path("inventory.json").to_str().unwrap()],
        "/ca/ca.pem`\n",
    );
    // A key given by hand comes without a set to find the CA in.
    said(&["--vkey", &vkey], WITH_NOTHING);
    write(&world.path("ca/ca.pem"), &Authority::new().pem());
    verify(&[]).check(
        6,
        "",
        "record 1 (`records-0.jsonl`, line 2) does not verify: no CA vouches",
    );
    write(&world.path("own.pem"), &world.authority.pem());
    said(&["--ca", world.path("own.pem").to_str().unwrap()], "/own.pem`\n");

    // A process that writes the log could have put these there.
    write(&world.audit().join("inventory.json"), &inventory);
    write(&world.audit().join("ca.pem"), &world.authority.pem());
    let inside = world.audit().join("inventory.json");
    said(&["--inventory", inside.to_str().unwrap()], WITH_NOTHING);

    let own = CertificateDer::from_pem_file(world.path("alice/cert.pem")).unwrap();
    let hash: String = sha2::Sha256::digest(&own)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let listed = format!(r#"{{"agents":[{{"vkey":"{vkey}"}}],"operators":[{{"sha256":"{hash}"}}]}}"#);
    write(&world.path("inventory.json"), &listed);
    fs::remove_dir_all(world.path("ca")).unwrap();
    said(
        &[],
        "the operators' certificates were compared with the inventory alone: give their CA with `--ca`\n",
    );
}

/// The host of a log holds a certificate of the same CA: its agent's.
#[test]
fn an_agent_is_no_operator_though_the_ca_issued_its_certificate() {
    let world = World::new();
    let vkey = world.key.verifier().to_string();
    world.identity(&world.authority.agent(), AGENT_ID, &vkey);
    world.eval("1").check(0, "1\n", "");
    let dir = world.path("resigned");
    resign(&world, &dir, &records(&world).replace(OPERATOR_ID, AGENT_ID));
    fs::remove_dir_all(world.path("state")).unwrap();
    let finding = "record 1 (`records-0.jsonl`, line 2) does not verify: the certificate is not an operator's: \
                   `spiffe://example.internal/agent/dienstplan/1` is an agent, expected an operator";
    world
        .run(&["audit", "verify", dir.to_str().unwrap(), "--vkey", &vkey])
        .check(6, "", finding);
}

/// The time of the check does not matter, and a record may be a few seconds late: an agent ends a session a moment after its
/// certificate expires.
#[test]
fn a_certificate_is_judged_at_the_time_of_its_record() {
    let world = World::new();
    let vkey = world.key.verifier().to_string();
    world.eval("1").check(0, "1\n", "");
    fs::remove_dir_all(world.path("state")).unwrap();
    write(&world.path("own.pem"), &world.authority.pem());
    let own = world.path("own.pem").display().to_string();
    let (dir, records) = (world.path("resigned"), records(&world));
    let verify = |kind: &str, time: jiff::Timestamp| {
        let altered: String = records
            .split_inclusive('\n')
            .map(|line| at(line, kind, time))
            .collect();
        resign(&world, &dir, &altered);
        world.run(&[
            "audit",
            "verify",
            dir.to_str().unwrap(),
            "--vkey",
            &vkey,
            "--ca",
            &own,
        ])
    };
    let pem = fs::read(world.path("alice/cert.pem")).unwrap();
    let der = CertificateDer::from_pem_slice(&pem).unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
    let validity = certificate.validity();
    let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let opened = "record 1 (`records-0.jsonl`, line 2) does not verify: no CA vouches for the certificate of \
                  `spiffe://example.internal/operator/alice`: it was not valid at the record's time";
    let signed = "record 2 (`records-0.jsonl`, line 3) does not verify: the operator's certificate was not valid at its";
    for (kind, finding) in [("session.open", opened), ("eval", signed)] {
        for time in [from, until, until + 5] {
            let ended = verify(kind, jiff::Timestamp::from_second(time).unwrap());
            ended.check(0, &ended.stdout, "");
        }
        for time in [from - 1, until + 6] {
            verify(kind, jiff::Timestamp::from_second(time).unwrap()).check(6, "", finding);
        }
    }
}

/// The line with that time, if it is of that kind.
fn at(line: &str, kind: &str, time: jiff::Timestamp) -> String {
    if !line.contains(&format!(r#""kind":"{kind}""#)) {
        return line.to_owned();
    }
    let record: serde_json::Value = serde_json::from_str(line).unwrap();
    line.replace(record["time"].as_str().unwrap(), &time.to_string())
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
        line.split("  ")
            .filter(|c| !c.is_empty())
            .map(|c| c.trim().to_owned())
            .collect()
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
    edit(&dir, |text| {
        text.replace(r#""outcome":"failed""#, r#""outcome":"ok""#)
    });
    let ended = list(dir.to_str().unwrap(), &[]);
    ended.check(
        6,
        &ended.stdout,
        "WARNING: 7 of 7 records shown, of a log that is NOT verified",
    );
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
    assert!(
        value["payload"].as_str().unwrap().contains('\u{202e}'),
        "the bytes can be recovered"
    );
    assert!(!ended.stdout.contains('\u{202e}'));
    let listed = world.run(&["audit", "list", "DIR", "--vkey", &vkey]);
    listed.check(0, &listed.stdout, "");
    assert!(
        listed.stdout.contains(r"'\u{1b}[2J\u{202e}'"),
        "{}",
        listed.stdout
    );
    world
        .run(&["audit", "show", "DIR", "99", "--vkey", &vkey])
        .check(2, "", "there is no record 99");
}
