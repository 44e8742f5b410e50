//! The audit log: acknowledged records are on disk, altered ones are found, and nothing runs that cannot be recorded.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use std::path::Path;
use std::process::Command;

use debug_tests::{Certificates, Client, Ctl, Service, process, wait};

fn set() -> (Certificates, Service) {
    let certificates = Certificates::new();
    let service = Service::start(&certificates);
    (certificates, service)
}

fn verify(certificates: &Certificates, folder: &Path) -> Ctl {
    let inventory = certificates.folder().join("inventory.json");
    Ctl::run(
        certificates,
        "alice",
        &[
            "audit",
            "verify",
            folder.to_str().unwrap(),
            "--inventory",
            inventory.to_str().unwrap(),
        ],
    )
}

/// A copy of the log, taken once the file of hashes, which lags behind the replies, has caught up with the records.
fn copy(certificates: &Certificates) -> std::path::PathBuf {
    wait::until_true("the hashes have caught up", || {
        let hashes =
            std::fs::metadata(certificates.audit().join("leaves")).map_or(0, |leaves| leaves.len() / 32);
        let records = std::fs::read_to_string(records(&certificates.audit()))
            .unwrap()
            .lines()
            .count();
        hashes == records as u64
    });
    let to = certificates.scratch().join("copy");
    std::fs::create_dir(&to).unwrap();
    for entry in std::fs::read_dir(certificates.audit()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    to
}

fn records(folder: &Path) -> std::path::PathBuf {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "jsonl"));
    files.sort();
    files.remove(0)
}

#[test]
fn a_log_verifies_while_it_grows_and_after_the_service_stopped() {
    let (certificates, mut service) = set();
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    client.eval("config.db.host").ok();
    let ctl = verify(&certificates, &certificates.audit());
    assert_eq!(ctl.code, 0, "{}{}", ctl.out, ctl.err);
    assert!(ctl.out.contains("verified"), "{}", ctl.out);
    service.terminate();
    assert_eq!(verify(&certificates, &certificates.audit()).code, 0);
}

/// For anything that operators send, and however they leave, the log still verifies.
#[test]
fn no_operator_can_spoil_the_log() {
    let (certificates, mut service) = set();
    let mut client = Client::attach(service.agent(), &certificates.operator("vera"));
    // It looks like a secret, so it is neither run nor recorded.
    assert_eq!(
        client.eval(r#""xoxb-123456789012-abcdefghijkl""#).failed().0,
        "denied"
    );
    // Too long for a record, in the longest escaping.
    let long = r#"let s = ""; s.pad(20000, '\x01'); throw s"#;
    assert_eq!(client.eval(long).failed().0, "eval");
    for _ in 0..10 {
        let mut gone = Client::attach(service.agent(), &certificates.operator("vera"));
        for _ in 0..3 {
            gone.start_payload(&serde_json::json!({ "code": "ls()", "after": "revert" }));
        }
        gone.vanish();
    }
    client.eval("1").ok();
    service.terminate();
    let ctl = verify(&certificates, &certificates.audit());
    assert_eq!(ctl.code, 0, "{}{}", ctl.out, ctl.err);
    let text = std::fs::read_to_string(records(&certificates.audit())).unwrap();
    assert!(text.contains("\"kind\":\"eval.refused\""));
    assert_eq!(
        text.matches("\"code\":\"eval\"").count(),
        1,
        "the long error has its outcome"
    );
}

/// A payload of several records is proven to the operator and verified, like a short one.
#[test]
fn a_payload_in_several_records_is_proven_whole() {
    let (certificates, mut service) = set();
    let code = format!("// {}\nconfig.db.host", "é".repeat(12_000));
    let ctl = Ctl::run(
        &certificates,
        "alice",
        &["eval", &service.agent().to_string(), &code],
    );
    assert_eq!(
        (ctl.code, ctl.out.as_str()),
        (0, "\"localhost\"\n"),
        "{}",
        ctl.err
    );
    service.terminate();
    let text = std::fs::read_to_string(records(&certificates.audit())).unwrap();
    assert_eq!(text.matches("\"kind\":\"eval.part\"").count(), 3);
    let ctl = verify(&certificates, &certificates.audit());
    assert_eq!(ctl.code, 0, "{}{}", ctl.out, ctl.err);
    assert!(
        ctl.out
            .contains("the operators' certificates were issued by the CA `"),
        "{}",
        ctl.out
    );
}

/// Records appended after the checkpoint are shown as unproven.
#[test]
fn records_behind_the_checkpoint_are_marked_and_not_counted() {
    let (certificates, mut service) = set();
    Client::attach(service.agent(), &certificates.operator("alice"))
        .eval("1")
        .ok();
    service.terminate();
    let folder = certificates.audit();
    let before = verify(&certificates, &folder);
    let path = records(&folder);
    let text = std::fs::read_to_string(&path).unwrap();
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let seq = last["seq"].as_u64().unwrap() + 1;
    let forged = format!("{{\"v\":1,\"seq\":{seq},\"kind\":\"effect\",\"function\":\"forged\"}}\n");
    std::fs::write(&path, text + &forged).unwrap();
    let after = verify(&certificates, &folder);
    assert_eq!((before.code, after.code), (0, 0));
    assert_eq!(before.out.lines().next(), after.out.lines().next());
    let inventory = certificates.folder().join("inventory.json");
    let list = [
        "audit",
        "list",
        folder.to_str().unwrap(),
        "--inventory",
        inventory.to_str().unwrap(),
    ];
    let ctl = Ctl::run(&certificates, "alice", &list);
    let row = ctl.out.lines().find(|line| line.contains("forged")).unwrap();
    assert!(row.contains("unproven"), "{row}");
    assert!(
        ctl.err.contains("1 of those shown follow the checkpoint"),
        "{}",
        ctl.err
    );
}

/// Reading a log through the agent is planned: until then the error says so, instead of reporting a missing folder.
#[test]
fn a_log_is_not_read_through_the_agent_and_that_is_said() {
    let (certificates, service) = set();
    let target = service.agent().to_string();
    for command in [
        &["list", &target][..],
        &["show", &target, "3"],
        &["verify", &target],
    ] {
        let ctl = Ctl::run(&certificates, "alice", &[&["audit"], command].concat());
        assert_eq!((ctl.code, ctl.out.as_str()), (2, ""), "{}", ctl.err);
        let told = format!("reading the log of the agent at `{target}` is not part of this version");
        assert!(
            ctl.err.contains(&told) && ctl.err.contains("give the log's folder"),
            "{}",
            ctl.err
        );
    }
    let gone = certificates.scratch().join("gone");
    let ctl = Ctl::run(&certificates, "alice", &["audit", "list", gone.to_str().unwrap()]);
    assert!(
        !ctl.err.contains("not part of this version"),
        "a folder that is not there is another thing"
    );
}

/// A process that writes the log could write an inventory in its folder as well.
#[test]
fn an_inventory_in_the_logs_own_folder_vouches_for_nothing() {
    let (certificates, mut service) = set();
    service.terminate();
    let copy = copy(&certificates);
    std::fs::copy(
        certificates.folder().join("inventory.json"),
        copy.join("inventory.json"),
    )
    .unwrap();
    let ctl = Ctl::run(
        &certificates,
        "alice",
        &["audit", "verify", copy.to_str().unwrap()],
    );
    assert_eq!(ctl.code, 6, "{}{}", ctl.out, ctl.err);
}

/// T54.
#[test]
fn without_an_anchor_nobody_vouches() {
    let (certificates, service) = set();
    Client::attach(service.agent(), &certificates.operator("alice"))
        .eval("1")
        .ok();
    let copy = copy(&certificates);
    let ctl = Ctl::run(
        &certificates,
        "alice",
        &["audit", "verify", copy.to_str().unwrap()],
    );
    assert_eq!(ctl.code, 6, "{}{}", ctl.out, ctl.err);
    assert!(
        format!("{}{}", ctl.out, ctl.err).contains("nobody vouches for it"),
        "{}{}",
        ctl.out,
        ctl.err
    );
    let other = Certificates::new();
    let ctl = verify(&other, &copy);
    assert_eq!(ctl.code, 6, "{}{}", ctl.out, ctl.err);
}

/// One changed byte is found, and its record named.
#[test]
fn a_changed_byte_is_found_with_its_record() {
    let (certificates, service) = set();
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    let eval = client.eval("config.db.host").ok()["audit"]["eval"]
        .as_u64()
        .unwrap();
    let copy = copy(&certificates);
    let file = records(&copy);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("config.db.host", "config.db.hos_", 1)).unwrap();
    let ctl = verify(&certificates, &copy);
    assert_eq!(ctl.code, 6, "{}{}", ctl.out, ctl.err);
    assert!(
        format!("{}{}", ctl.out, ctl.err).contains(&format!("record {eval}")),
        "{}{}",
        ctl.out,
        ctl.err
    );
}

/// T51.
#[test]
fn a_missing_last_record_is_found() {
    let (certificates, service) = set();
    Client::attach(service.agent(), &certificates.operator("alice"))
        .eval("1")
        .ok();
    let copy = copy(&certificates);
    let file = records(&copy);
    let text = std::fs::read_to_string(&file).unwrap();
    let cut = text.trim_end().rfind('\n').unwrap() + 1;
    let cut = text[..cut - 1]
        .rfind("\"kind\":\"eval\"")
        .map_or(cut, |at| text[..at].rfind('\n').unwrap() + 1);
    std::fs::write(&file, &text[..cut]).unwrap();
    assert_eq!(verify(&certificates, &copy).code, 6);
}

/// The agent does not continue an edited log: it names the place, and the service runs.
#[test]
fn an_edited_log_is_refused_at_the_start_with_the_place() {
    let (certificates, mut service) = set();
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    let eval = client.eval("config.db.host").ok()["audit"]["eval"]
        .as_u64()
        .unwrap();
    service.terminate();
    let file = records(&certificates.audit());
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("config.db.host", "config.db.hos_", 1)).unwrap();
    let service = Service::start_with(&certificates, &[("DEBUG_AGENT", "1")]);
    let line = service.wait_for_log("debug-agent:");
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(
        line.contains(&format!("record {eval} ")) && line.contains(name),
        "{line}"
    );
    assert_eq!(service.health().status, 200);
    let after = std::fs::read_to_string(&file).unwrap();
    assert!(after.contains("config.db.hos_"), "nothing was changed on disk");
}

/// The entry cannot be read as a file by any user: root could read a file without permissions.
#[test]
fn a_log_that_cannot_be_read_is_refused_with_the_place() {
    let (certificates, mut service) = set();
    Client::attach(service.agent(), &certificates.operator("alice"))
        .eval("1")
        .ok();
    service.terminate();
    let file = records(&certificates.audit());
    std::fs::rename(&file, certificates.scratch().join("aside")).unwrap();
    std::fs::create_dir(&file).unwrap();
    let service = Service::start_with(&certificates, &[("DEBUG_AGENT", "1")]);
    let line = service.wait_for_log("debug-agent:");
    assert!(line.contains(file.to_str().unwrap()), "{line}");
    assert_eq!(service.health().status, 200);
    assert!(
        !service.log().contains("the debug agent listens"),
        "{}",
        service.log()
    );
}

/// T65: a line that was being written when the power failed.
#[test]
fn a_torn_last_line_is_moved_aside_and_told() {
    let (certificates, mut service) = set();
    Client::attach(service.agent(), &certificates.operator("alice"))
        .eval("1")
        .ok();
    service.kill();
    let file = records(&certificates.audit());
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str("{\"v\":1,\"seq\":99,\"kind\":\"ev");
    std::fs::write(&file, text).unwrap();
    let service = Service::start(&certificates);
    Client::attach(service.agent(), &certificates.operator("alice"))
        .eval("1")
        .ok();
    let list = Ctl::run(
        &certificates,
        "alice",
        &["audit", "list", certificates.audit().to_str().unwrap()],
    );
    assert!(
        list.out.lines().any(|line| line.contains("recovered")),
        "{}",
        list.out
    );
    assert_eq!(verify(&certificates, &certificates.audit()).code, 0);
}

/// T15: a log without its checkpoint could have been cut anywhere.
#[test]
fn a_log_without_its_checkpoint_is_refused() {
    let (certificates, mut service) = set();
    Client::attach(service.agent(), &certificates.operator("alice"))
        .eval("1")
        .ok();
    service.terminate();
    std::fs::remove_file(certificates.audit().join("checkpoint")).unwrap();
    let service = Service::start_with(&certificates, &[("DEBUG_AGENT", "1")]);
    let line = service.wait_for_log("debug-agent:");
    assert!(line.contains("checkpoint"), "{line}");
    assert_eq!(service.health().status, 200);
}

/// A rolling restart: the second process waits, serves, and takes over when the first is gone.
#[test]
fn a_second_process_waits_for_the_folder_and_takes_over() {
    let (certificates, mut first) = set();
    let second = Service::start_with(&certificates, &[("DEBUG_AGENT", "1")]);
    second.wait_for_log("waiting: another process holds the audit folder");
    assert_eq!(second.health().status, 200);
    first.terminate();
    second.wait_for_log("the debug agent listens on");
    assert_eq!(
        Client::attach(second.agent(), &certificates.operator("alice"))
            .eval("1")
            .display(),
        "1"
    );
    assert_eq!(verify(&certificates, &certificates.audit()).code, 0);
}

/// The same port and the same folder: the same service started twice.
#[test]
fn a_second_process_with_the_same_configuration_waits_and_takes_over() {
    let (certificates, mut first) = set();
    let address = first.agent();
    let config = std::fs::read_to_string(certificates.agent_config()).unwrap();
    std::fs::write(
        certificates.agent_config(),
        config.replace("127.0.0.1:0", &address.to_string()),
    )
    .unwrap();
    let second = Service::start_with(&certificates, &[("DEBUG_AGENT", "1")]);
    second.wait_for_log("waiting: another process holds the audit folder");
    assert_eq!(second.health().status, 200);
    assert_eq!(
        Client::attach(address, &certificates.operator("alice"))
            .eval("1")
            .display(),
        "1"
    );
    assert!(first.terminate().success());
    second.wait_for_log("the debug agent listens on");
    assert_eq!(second.agent(), address);
    assert_eq!(
        Client::attach(address, &certificates.operator("alice"))
            .eval("2")
            .display(),
        "2"
    );
    assert_eq!(verify(&certificates, &certificates.audit()).code, 0);
}

/// The same port, another folder.
#[test]
fn a_second_process_waits_for_the_port() {
    let (certificates, first) = set();
    let other = Certificates::new();
    let config = std::fs::read_to_string(other.agent_config()).unwrap();
    std::fs::write(
        other.agent_config(),
        config.replace("127.0.0.1:0", &first.agent().to_string()),
    )
    .unwrap();
    let second = Service::start_with(&other, &[("DEBUG_AGENT", "1")]);
    second.wait_for_log("waiting: another process listens on");
    drop(first);
    second.wait_for_log("the debug agent listens on");
    assert!(certificates.folder().exists());
}

/// `dienstplan` in a mount namespace of its own, with a small file system under its audit folder.
fn on_a_small_disk(certificates: &Certificates) -> Service {
    let script = "mount -t tmpfs -o size=3m,mode=0700 none \"$0\" && exec \"$1\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
    command
        .arg(certificates.audit())
        .arg(process::programs().join("dienstplan"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
        .env("DEBUG_AGENT", "1")
        .env("DEBUG_AGENT_CONFIG", certificates.agent_config());
    command
        .env("SERVER__PORT", "0")
        .env("SERVER__LOGLEVEL", "info")
        .env("NO_COLOR", "1");
    Service::spawn(command)
}

/// The audit folder as the service sees it.
fn inside(service: &Service, certificates: &Certificates) -> std::path::PathBuf {
    let audit = certificates.audit();
    Path::new("/proc")
        .join(service.pid().to_string())
        .join("root")
        .join(audit.strip_prefix("/").unwrap())
}

/// Runs a command in the service's namespaces.
fn enter(service: &Service, args: &[&str]) {
    let pid = service.pid().to_string();
    let status = Command::new("nsenter")
        .args(["--target", &pid, "--user", "--mount", "--preserve-credentials"])
        .args(args)
        .status()
        .unwrap();
    assert!(status.success(), "{args:?}");
}

/// T48: a full disk. Nothing runs without its record; a manual revert works; with space again, everything works.
#[test]
fn on_a_full_disk_nothing_runs_but_a_revert_works() {
    let certificates = Certificates::new();
    let service = on_a_small_disk(&certificates);
    service.health();
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    client.eval(r#"change("a test")"#).ok();
    let made = client.eval(r#"patch("GET /api/healthcheck", |req| #{ status: 418 }, #{ ttl: "30m" })"#);
    let id = made.ok()["leases"][0]["id"].as_u64().unwrap();
    assert_eq!(service.health().status, 418);

    let filler = inside(&service, &certificates).join("filler");
    fill(&filler);
    wait::until_true("evals are refused", || {
        let reply = client.eval("config.db.host");
        reply
            .0
            .get("error")
            .is_some_and(|error| error["data"]["code"] == "audit")
    });
    assert_eq!(client.eval("config.db.port = 1").failed().0, "audit");
    let reply = client.eval(&format!("revert({id})"));
    let warnings = reply.ok()["warnings"].to_string();
    assert!(
        warnings.contains("not yet on disk: the audit log cannot be written"),
        "{}",
        reply.0
    );
    assert!(
        reply.ok()["audit"].is_null(),
        "what is not on disk has no place in the log: {}",
        reply.0
    );
    assert_eq!(service.health().status, 200);
    client.eval("leases()").ok();
    client.eval("info()").ok();

    std::fs::remove_file(&filler).unwrap();
    wait::until_true("evals run again", || {
        client.eval("config.db.host").0.get("result").is_some()
    });
    let folder = inside(&service, &certificates);
    let ctl = verify(&certificates, &folder);
    assert_eq!(ctl.code, 0, "{}{}", ctl.out, ctl.err);
    let list = Ctl::run(
        &certificates,
        "alice",
        &["audit", "list", folder.to_str().unwrap()],
    );
    assert_eq!(
        list.out
            .lines()
            .filter(|line| line.contains("lease.reverted"))
            .count(),
        1,
        "{}",
        list.out
    );
}

fn fill(file: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(file).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    while file.write_all(&[0]).is_ok() {}
}

/// T48: a disk that became read-only.
#[test]
fn on_a_read_only_disk_nothing_runs_but_a_revert_works() {
    let certificates = Certificates::new();
    let service = on_a_small_disk(&certificates);
    service.health();
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    client.eval(r#"change("a test")"#).ok();
    let made = client.eval(r#"patch("GET /api/healthcheck", |req| #{ status: 418 }, #{ ttl: "30m" })"#);
    let id = made.ok()["leases"][0]["id"].as_u64().unwrap();
    let audit = certificates.audit();
    // A file open for writing blocks a remount; a forced mount acts like a failing disk.
    enter(
        &service,
        &[
            "mount",
            "-t",
            "tmpfs",
            "-o",
            "ro",
            "none",
            audit.to_str().unwrap(),
        ],
    );
    wait::until_true("evals are refused", || {
        let reply = client.eval("config.db.host");
        reply
            .0
            .get("error")
            .is_some_and(|error| error["data"]["code"] == "audit")
    });
    let reply = client.eval(&format!("revert({id})"));
    assert!(
        reply.ok()["warnings"].to_string().contains("not yet on disk"),
        "{}",
        reply.0
    );
    assert_eq!(service.health().status, 200);
    enter(&service, &["umount", audit.to_str().unwrap()]);
    wait::until_true("evals run again", || {
        client.eval("config.db.host").0.get("result").is_some()
    });
    assert_eq!(verify(&certificates, &inside(&service, &certificates)).code, 0);
}

/// Variables, too: an eval without a recorded success leaves nothing.
#[test]
fn an_eval_whose_outcome_cannot_be_recorded_leaves_no_variable() {
    let certificates = Certificates::new();
    let service = on_a_small_disk(&certificates);
    let audit = inside(&service, &certificates);
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    let mut count = 0;
    for round in 0..8 {
        fill(&audit.join("filler"));
        // Of different lengths, so that the disk fills up at another place each time.
        let failed = (0..60).find_map(|_| {
            count += 1;
            let code = format!("let k{count} = 41; \"{}\"", "x".repeat(100 + 37 * round));
            client.eval(&code).0.get("error").is_some().then_some(count)
        });
        std::fs::remove_file(audit.join("filler")).unwrap();
        wait::until_true("evals run again", || client.eval("1").0.get("result").is_some());
        let count = failed.expect("the disk is full");
        assert_eq!(
            client.eval(&format!("k{count}")).failed().0,
            "eval",
            "round {round}: `k{count}` is there"
        );
    }
}
