//! Changes are undone without a request: at their deadline, when their session is lost, when the service stops.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use std::time::{Duration, Instant};

use debug_tests::{Certificates, Client, Ctl, Service, wait};

fn teapot(client: &mut Client, options: &str) -> u64 {
    client.eval(r#"change("a test")"#).ok();
    let reply = client.eval(&format!(
        "patch(\"GET /api/healthcheck\", |req| #{{ status: 418 }}, {options})"
    ));
    reply.ok()["leases"][0]["id"].as_u64().unwrap()
}

fn set() -> (Certificates, Service) {
    let certificates = Certificates::new();
    let service = Service::start(&certificates);
    service.health();
    (certificates, service)
}

#[test]
fn confirm_keeps_a_change_past_its_first_deadline() {
    let (certificates, service) = set();
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    let id = teapot(&mut client, r#"#{ ttl: "2s" }"#);
    client.eval(&format!("confirm({id}, \"20m\")")).ok();
    let row = client.eval("leases()").ok()["value"][0].clone();
    assert_eq!(row["state"], "confirmed");
    assert!(row["reverts_in_ms"].as_u64().unwrap() > 1_000_000, "{row}");
}

#[test]
fn extend_sets_another_deadline_and_confirms_nothing() {
    let (certificates, service) = set();
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    let id = teapot(&mut client, r#"#{ ttl: "2s" }"#);
    client.eval(&format!("extend({id}, \"20m\")")).ok();
    let row = client.eval("leases()").ok()["value"][0].clone();
    assert_eq!(row["state"], "provisional");
    let left = row["reverts_in_ms"].as_u64().unwrap();
    assert!(left > 1_000_000, "{row}");
    client.eval(&format!("extend({id}, \"5m\")")).ok();
    let row = client.eval("leases()").ok()["value"][0].clone();
    assert!(
        row["reverts_in_ms"].as_u64().unwrap() <= 300_000,
        "it sets, it does not add: {row}"
    );
    let records = certificates.records();
    assert_eq!(records.matches("\"function\":\"extend\"").count(), 2, "{records}");
}

/// The commands are the functions, with mode and reason.
#[test]
fn debugctl_confirms_and_extends() {
    let (certificates, service) = set();
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    let id = teapot(&mut client, "#{}").to_string();
    let target = service.agent().to_string();
    let mut row = |command: &str, ttl: &str| {
        let args = [command, &target, &id, ttl, "--reason", "INC-42 holds"];
        let ctl = Ctl::run(&certificates, "alice", &args);
        assert_eq!(ctl.code, 0, "{}{}", ctl.out, ctl.err);
        client.eval("leases()").ok()["value"][0].clone()
    };
    let extended = row("extend", "25m");
    assert_eq!(extended["state"], "provisional");
    assert!(
        extended["reverts_in_ms"].as_u64().unwrap() > 20 * 60_000,
        "{extended}"
    );
    let confirmed = row("confirm", "15m");
    assert_eq!(confirmed["state"], "confirmed");
    assert!(
        confirmed["reverts_in_ms"].as_u64().unwrap() <= 15 * 60_000,
        "{confirmed}"
    );
    for (command, ttl, code, told) in [
        ("extend", "31m", 3, "30m"),
        ("confirm", "0s", 1, "no time"),
        ("confirm", "10", 1, "unit"),
    ] {
        let args = [command, &target, &id, ttl, "--reason", "INC-42 holds"];
        let ctl = Ctl::run(&certificates, "alice", &args);
        assert_eq!(ctl.code, code, "{command} {ttl}: {}", ctl.err);
        assert!(ctl.err.contains(told), "{command} {ttl}: {}", ctl.err);
    }
}

#[test]
fn a_lead_keeps_the_change_of_another_and_a_colleague_does_not() {
    let (certificates, service) = set();
    let mut alice = Client::attach(service.agent(), &certificates.operator("alice"));
    let id = teapot(&mut alice, r#"#{ ttl: "5m" }"#);
    let calls = [
        format!("extend({id}, \"20m\")"),
        format!("confirm({id}, \"25m\")"),
    ];
    let mut bob = Client::attach(service.agent(), &certificates.operator("bob"));
    bob.eval(r#"change("a test")"#).ok();
    let mut lea = Client::attach(service.agent(), &certificates.operator("lea"));
    for call in &calls {
        assert_eq!(bob.eval(call).failed().0, "denied", "{call}");
        let reply = lea.eval(call);
        assert_eq!(reply.failed().0, "denied", "without mode change: {call}");
        assert!(reply.help().contains("mode change"), "{}", reply.help());
    }
    let row = alice.eval("leases()").ok()["value"][0].clone();
    assert_eq!(row["state"], "provisional", "{row}");
    lea.eval(r#"change("a test")"#).ok();
    for call in &calls {
        lea.eval(call).ok();
    }
    let row = alice.eval("leases()").ok()["value"][0].clone();
    assert_eq!(
        (row["state"].as_str(), row["owner"].as_str()),
        (Some("confirmed"), Some("alice")),
        "{row}"
    );
    assert!(row["reverts_in_ms"].as_u64().unwrap() > 20 * 60_000, "{row}");
}

/// The shipped policy's `max_life`, with a `max_ttl` that is not reached first.
#[test]
fn nothing_lives_longer_than_the_policy_says() {
    let certificates = Certificates::new();
    let policy = debug_policy::DEFAULT;
    assert!(policy.contains("max_life = \"4h\""));
    certificates.write_policy(&policy.replace("max_ttl = \"30m\"", "max_ttl = \"10h\""));
    let service = Service::start(&certificates);
    service.health();
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    let id = teapot(&mut client, r#"#{ ttl: "3h" }"#);
    for call in ["extend", "confirm"] {
        client.eval(&format!("{call}({id}, \"3h\")")).ok();
        let reply = client.eval(&format!("{call}({id}, \"4h1m\")"));
        assert_eq!(reply.failed().0, "denied", "{call}");
        assert!(reply.help().contains("4h"), "{}", reply.help());
    }
    client.eval(&format!("revert({id})")).ok();
    let reply = client.eval(r#"patch("GET /api/healthcheck", |req| 1, #{ ttl: "4h1m" })"#);
    assert_eq!(reply.failed().0, "denied");
    assert!(reply.help().contains("4h"), "{}", reply.help());
}

#[test]
fn wrong_ids_say_what_became_of_them() {
    let (certificates, service) = set();
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    let id = teapot(&mut client, r#"#{ ttl: "300ms" }"#);
    wait::until_true("it expired", || service.health().status == 200);
    wait::until_true("it is gone", || client.eval("leases().len()").display() == "0");
    let (_, message) = client.eval(&format!("confirm({id}, \"5m\")")).failed();
    assert!(message.contains("expired"), "{message}");
    let (_, message) = client.eval("revert(999)").failed();
    assert!(message.contains("no lease 999"), "{message}");
    assert_eq!(client.eval("revert(-1)").failed().0, "state");
}

#[test]
fn a_lead_ends_the_change_of_another_and_a_viewer_does_not() {
    let (certificates, service) = set();
    let mut alice = Client::attach(service.agent(), &certificates.operator("alice"));
    let id = teapot(&mut alice, "#{}");
    for other in ["vera", "bob"] {
        let mut client = Client::attach(service.agent(), &certificates.operator(other));
        assert_eq!(
            client.eval(&format!("revert({id})")).failed().0,
            "denied",
            "{other}"
        );
        assert_eq!(service.health().status, 418);
    }
    let mut lea = Client::attach(service.agent(), &certificates.operator("lea"));
    lea.eval(&format!("revert({id})")).ok();
    assert_eq!(service.health().status, 200);
}

/// A lost session has a grace, in which its operator takes the changes over by attaching again.
#[test]
fn a_new_session_of_the_same_operator_takes_over() {
    let (certificates, service) = set();
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    let id = teapot(&mut client, "#{}");
    client.vanish();
    let mut watcher = Client::attach(service.agent(), &certificates.operator("vera"));
    wait::until_true("the loss was noticed", || {
        watcher.eval("leases()").ok()["value"][0]["note"] == "its session is lost"
    });
    assert_eq!(service.health().status, 418);
    let mut again = Client::attach(service.agent(), &certificates.operator("alice"));
    let row = again.eval("leases()").ok()["value"][0].clone();
    assert_eq!(
        (row["id"].as_u64(), row["note"].as_str()),
        (Some(id), Some("")),
        "{row}"
    );
}

/// The counterpart: without a new session within the 60 s the change reverts.
#[test]
fn what_a_lost_session_changed_reverts_after_the_grace() {
    let (certificates, service) = set();
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    let id = teapot(&mut client, r#"#{ ttl: "30m" }"#);
    let lost = Instant::now();
    client.vanish();
    assert_eq!(service.health().status, 418);
    // Read from the log: polling the patched route would trip its breaker.
    let record = wait::within(Duration::from_secs(120), "the end is recorded", || {
        let records = certificates.records();
        records
            .lines()
            .find(|line| line.contains("\"kind\":\"lease.session-lost\""))
            .map(str::to_owned)
    });
    assert!(
        lost.elapsed() >= Duration::from_secs(59),
        "after {:?}",
        lost.elapsed()
    );
    assert!(record.contains(&format!("\"lease\":{id},")), "{record}");
    assert_eq!(service.health().status, 200);
    let mut again = Client::attach(service.agent(), &certificates.operator("alice"));
    assert_eq!(again.eval("leases().len()").display(), "0");
}

#[test]
fn revert_works_while_code_of_the_same_operator_runs() {
    let (certificates, service) = set();
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    let id = teapot(&mut client, "#{}");
    let busy = client.start_payload(
        &serde_json::json!({ "code": "let i = 0; while true { for x in 0..100 { [x].map(|y| y); } }" }),
    );
    let target = service.agent().to_string();
    let ctl = Ctl::run(&certificates, "alice", &["revert", &target, &id.to_string()]);
    assert_eq!(ctl.code, 0, "{}", ctl.err);
    assert_eq!(service.health().status, 200);
    client.reply(busy).unwrap().failed();
}

#[test]
fn an_eval_that_does_not_say_what_becomes_of_its_changes_makes_none() {
    let (certificates, service) = set();
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    client.eval(r#"change("a test")"#).ok();
    let id = client.start_payload(&serde_json::json!({ "code": "config.db.port = 1" }));
    let (code, message) = client.reply(id).unwrap().failed();
    assert_eq!(code, "state");
    assert!(message.contains("session ends"), "{message}");
}

/// T70, in brief: the next start records the leases that the killed process left.
#[test]
fn a_killed_process_leaves_leases_that_the_next_start_ends_in_the_log() {
    let (certificates, mut service) = set();
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    let id = teapot(&mut client, "#{}");
    service.kill();
    let service = Service::start(&certificates);
    assert_eq!(service.health().status, 200);
    let audit = certificates.audit();
    let ctl = Ctl::run(
        &certificates,
        "alice",
        &["audit", "verify", audit.to_str().unwrap()],
    );
    assert_eq!(ctl.code, 0, "{}{}", ctl.out, ctl.err);
    let list = Ctl::run(
        &certificates,
        "alice",
        &["audit", "list", audit.to_str().unwrap()],
    );
    assert!(
        list.out.lines().any(|line| line.contains("lease.restart")),
        "{}",
        list.out
    );
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    service.health();
    assert!(
        teapot(&mut client, "#{}") > id,
        "ids rise over the life of the log"
    );
}

#[test]
fn stopping_the_service_writes_shutdown_after_the_last_revert() {
    let (certificates, mut service) = set();
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    teapot(&mut client, "#{}");
    service.terminate();
    let list = Ctl::run(
        &certificates,
        "alice",
        &["audit", "list", certificates.audit().to_str().unwrap()],
    );
    let kinds: Vec<&str> = list.out.lines().collect();
    let at = |kind: &str| {
        kinds
            .iter()
            .position(|line| line.contains(kind))
            .unwrap_or_else(|| panic!("no {kind} in {}", list.out))
    };
    assert!(
        at("lease.shutdown") < kinds.iter().rposition(|line| line.contains(" shutdown")).unwrap(),
        "{}",
        list.out
    );
}

/// A stack that ends from below, a change inside another, a patch, and changes that the shutdown ends: the log proves that each
/// ended once and what was restored.
#[test]
fn the_log_proves_what_was_put_back() {
    let (certificates, mut service) = set();
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    let mut make = |code: &str| client.eval(code).ok()["leases"][0]["id"].as_u64();
    make(r#"change("a test")"#);
    let below = make("config.db.port = 1").unwrap();
    let above = make(&format!("set(\"config.db.port\", 2, #{{ over: {below} }})")).unwrap();
    let patch = make(r#"patch("GET /api/healthcheck", |req| #{ status: 418 })"#).unwrap();
    let inside = make("config.server.port = 3").unwrap();
    for id in [below, above, patch, inside] {
        make(&format!("revert({id})"));
    }
    make(r#"config.server.loglevel = "DEBUG""#).unwrap();
    service.terminate();
    let audit = certificates.audit();
    let ctl = Ctl::run(
        &certificates,
        "alice",
        &["audit", "verify", audit.to_str().unwrap()],
    );
    assert_eq!(ctl.code, 0, "{}{}", ctl.out, ctl.err);
    let told = "\n5 leases, all ended exactly once; 4 put back what stood there before (checked by digest), 1 changed no state\n";
    assert!(ctl.out.contains(told), "{}", ctl.out);
}

/// What monitoring can read without attaching, and what the service's own log and `info()` say.
#[test]
fn a_process_with_changes_in_force_is_marked() {
    let (certificates, mut service) = set();
    let active = certificates.folder().join("agent/active");
    let file = active.join("active.json");
    let mode =
        |path: &std::path::Path| std::os::unix::fs::MetadataExt::mode(&path.metadata().unwrap()) & 0o7777;
    let marked = || {
        let text = wait::until("the file is there", || std::fs::read_to_string(&file).ok());
        (serde_json::from_str::<serde_json::Value>(&text).unwrap(), text)
    };
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    assert_eq!((mode(&active), file.exists()), (0o755, false));
    let info = client.eval("info()").ok()["value"].clone();
    assert_eq!(
        (&info["leases"], &info["next_revert"]),
        (&serde_json::json!(0), &serde_json::Value::Null)
    );

    let id = teapot(&mut client, "#{}");
    let (first, text) = marked();
    assert_eq!(
        (first["in_force"].as_u64(), first["pid"].as_u64()),
        (Some(1), Some(service.pid().into()))
    );
    assert_eq!(mode(&file), 0o644);
    for word in ["alice", "healthcheck", "a test"] {
        assert!(!text.contains(word), "{text}");
    }
    assert!(
        first["shortest_deadline"].as_str() > first["heartbeat"].as_str(),
        "{text}"
    );
    let info = client.eval("info()").ok()["value"].clone();
    assert_eq!(info["leases"], 1);
    let next = info["next_revert"].as_str().unwrap();
    assert!(next.starts_with("9m5") && !next.contains("ms"), "{info}");
    let event = service.wait_for_log("debug_agent::leases");
    assert!(
        event.contains("in_force=1") && event.contains("shortest_ms="),
        "{event}"
    );
    wait::until_true("its heart beats", || {
        marked().0["heartbeat"] != first["heartbeat"]
    });
    client.eval(&format!("revert({id})")).ok();
    wait::until_true("the file is gone", || !file.exists());
    service.wait_for_log("in_force=0");

    // A crash leaves the mark behind; the next start removes it, and so does a shutdown.
    teapot(&mut client, "#{}");
    marked();
    service.kill();
    assert!(file.exists());
    let mut service = Service::start(&certificates);
    assert!(!file.exists());
    service.health();
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    teapot(&mut client, "#{}");
    marked();
    service.terminate();
    assert!(!file.exists());
}

/// An answer of the policy does not apply to a lease that did not exist when it was asked.
#[test]
fn an_id_that_does_not_exist_yet_permits_nothing() {
    let certificates = Certificates::new();
    let service = Service::start(&certificates);
    let mut vera = Client::attach(service.agent(), &certificates.operator("vera"));
    let (kind, message) = vera.eval(r#"extend(1, "300h")"#).failed();
    assert_eq!(kind, "state", "{message}");
    assert!(message.contains("there is no lease 1"), "{message}");
    let text = certificates.records();
    assert!(!text.contains("\"decisions\":[]"), "{text}");
}
