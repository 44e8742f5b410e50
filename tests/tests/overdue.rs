//! An overdue change ends even if the process was stopped, undoing fails, or an operator keeps extending it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use std::time::{Duration, Instant};

use debug_tests::{Certificates, Client, Service, Set, http, wait};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

fn set() -> Set {
    Set::changing(env!("CARGO_BIN_EXE_handles"))
}

/// The only lease in force.
#[track_caller]
fn row(set: &mut Set) -> Value {
    let rows = set.client.eval("leases()").ok()["value"].clone();
    assert_eq!(rows.as_array().unwrap().len(), 1, "{rows}");
    rows[0].clone()
}

/// The time of a record on the boot-time clock.
fn time_of(record: &Value) -> Duration {
    Duration::from_nanos(record["boot_ns"].as_u64().unwrap())
}

fn now() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
}

/// T73: a process that was stopped past its deadlines, as in a suspended machine, behaves as if it had not been. The clock of the
/// deadlines cannot be stepped (CLOCK_BOOTTIME), and no deadline reads the wall clock (`agent/src/changes/model.rs` plays on a
/// clock of its own).
#[test]
fn what_was_over_while_the_process_stood_still_is_over_in_its_first_step() {
    const TTL: Duration = Duration::from_secs(8);
    let mut set = set();
    let began = Instant::now();
    let changes = [
        "patch(\"handles::answer\", || 7, #{ ttl: \"8s\" })",
        "set(\"live.most\", 2, #{ ttl: \"8s\" })",
        "set(\"rwlock.most\", 2, #{ ttl: \"8s\" })",
    ];
    for code in changes {
        set.client.eval(code).ok();
    }
    let made = Instant::now();
    let states = set.says("/states");
    assert_eq!(set.says("/answer"), "7");
    assert!(
        states.contains("live=2;") && states.contains("rwlock=2;"),
        "{states}"
    );
    set.service.signal(Signal::STOP);
    assert!(began.elapsed() < TTL, "this machine is too slow for this test");
    wait::until_true("all deadlines are past", || TTL < made.elapsed());
    // The requests wait in the system until the process takes them: it runs no code before they are there.
    let send = |path| http::send(set.service.http, "GET", path, &[], "").unwrap();
    let (answers, states) = (
        [send("/answer"), send("/answer"), send("/answer")],
        send("/states"),
    );
    let woken = now();
    set.service.signal(Signal::CONT);
    for answer in answers {
        assert_eq!(answer.answer().unwrap().body, "42");
    }
    let states = states.answer().unwrap().body;
    assert!(states.contains("live=1;"), "{states}");
    wait::until_true("the plain state is as it was", || {
        set.says("/states").contains("rwlock=1;")
    });
    let ended = wait::until("their ends are in the log", || {
        Some(set.certificates.records_of("lease.expired")).filter(|ended| ended.len() == 3)
    });
    for record in ended {
        let late = time_of(&record).saturating_sub(woken);
        assert!(
            late < Duration::from_secs(10),
            "{late:?} after it went on: {record}"
        );
    }
    assert_eq!(set.client.eval("leases()").display(), "[]");
    set.certificates.verified();
}

/// The field is changed, its setter fails in one way, the change ends, and finally the setter works again.
fn check(wrong: &str, why: &str) {
    let mut set = set();
    set.client.eval("limits.mail.rate = 2").ok();
    set.says(wrong);
    set.client.eval("extend(1, \"100ms\")").ok();

    // It is reported in the audit log, in the service's log, and in `leases()`.
    let alarm = wait::until("an alarm is in the audit log", || {
        set.certificates
            .records_of("alarm")
            .into_iter()
            .find(|record| record["lease"] == 1)
    });
    let told = alarm["revert_failed"].as_str().unwrap();
    assert!(told.contains(why), "{told}");
    let line = set.service.wait_for_log("lease 1 could not be undone");
    assert!(line.contains("ERROR") && line.contains(why), "{line}");
    let note = row(&mut set)["note"].as_str().unwrap().to_owned();
    assert!(
        note.contains("could not be undone") && note.contains("tried again"),
        "{note}"
    );
    assert!(note.contains(why), "{note}");

    wait::until_true("the service itself can see it", || {
        set.says("/status").contains("limits")
    });

    // No change can be stacked on it, and it cannot be extended.
    for code in [
        "set(\"limits.mail.rate\", 3)",
        "set(\"limits.mail.rate\", 3, #{ over: 1 })",
    ] {
        let (kind, message) = set.client.eval(code).failed();
        assert_eq!(kind, "state", "{message}");
        assert!(
            message.contains("lease 1 ") && message.contains("could not be undone"),
            "{message}"
        );
    }
    for code in ["extend(1, \"5m\")", "confirm(1, \"5m\")", "adopt(1)"] {
        let (_, message) = set.client.eval(code).failed();
        let tried = ["could not be undone", "is being ended right now"];
        assert!(
            message.contains("lease 1 ") && tried.iter().any(|t| message.contains(t)),
            "{code}: {message}"
        );
    }
    assert!(set.says("/states").contains("field=2;"));
    let (_, message) = set.client.eval("set(\"limits.mail.burst\", 3)").failed();
    assert!(
        message.contains("lease 1 "),
        "nor beside it in its state: {message}"
    );
    // Another state does not wait for it.
    let other = set.client.eval("set(\"atomic\", 2)").ok()["leases"][0]["id"].clone();
    set.client.eval(&format!("revert({other})")).ok();
    assert!(set.says("/states").contains("atomic=1;"));
    assert!(set.certificates.records_of("lease.expired").is_empty());

    set.says("/heal");
    wait::until_true("it is undone", || set.client.eval("leases()").display() == "[]");
    assert!(set.says("/states").contains("field=1;"));
    let ended = wait::until("its record", || {
        Some(set.certificates.records_of("lease.expired")).filter(|ended| !ended.is_empty())
    });
    assert_eq!(ended.len(), 1, "{ended:?}");
    assert_eq!(
        (&ended[0]["lease"], &ended[0]["conflict"]),
        (&Value::from(1), &Value::Null)
    );
    let alarms = set.certificates.records_of("alarm");
    assert_eq!(
        alarms.len(),
        1,
        "told once, however often it was tried: {alarms:?}"
    );
    set.client.eval("limits.mail.rate = 3").ok();
    assert!(set.says("/states").contains("field=3;"));
    let verified = set.certificates.verified();
    assert!(verified.contains("3 leases"), "{verified}");
}

/// T75. (A patch is in nothing of the service's, so ending it cannot fail.)
#[test]
fn an_undo_that_the_service_refuses_is_told_and_tried_until_it_succeeds() {
    check("/refuse", "the disk is full");
}

/// T75.
#[test]
fn an_undo_that_panics_is_told_and_tried_until_it_succeeds() {
    check("/panic", "panicked");
}

/// T75: `netplan` believes a revert that claims to have succeeded.
#[test]
fn an_undo_that_only_says_that_it_succeeded_is_told_and_tried_until_it_did() {
    check("/ignore", "store another value");
}

/// T75.
#[test]
fn an_undo_that_hangs_is_told_and_done_once_it_goes_on() {
    check("/hang", "busy");
}

/// T75: a hanging undo is in the service's status, too.
#[test]
fn an_undo_that_hangs_is_in_the_status() {
    let mut set = set();
    set.client.eval("limits.mail.rate = 2").ok();
    set.says("/hang");
    set.client.eval("revert(1)").failed();
    wait::until_true("the status tells of it", || {
        set.says("/status").contains("state `limits`")
    });
    set.says("/heal");
    wait::until_true("the status is as it was", || set.says("/status") == "running");
    assert!(set.says("/states").contains("field=1;"));
    wait::until_true("its record", || {
        set.certificates.records_of("lease.reverted").len() == 1
    });
}

/// T78.
#[test]
fn whoever_keeps_extending_comes_to_an_end() {
    const MAX_LIFE: Duration = Duration::from_secs(6);
    const TTL: Duration = Duration::from_secs(2);
    let certificates = Certificates::new();
    let policy = debug_policy::DEFAULT;
    let policy = policy.replace("max_life = \"4h\"", "max_life = \"6s\"");
    certificates.write_policy(&policy.replace("max_ttl = \"30m\"", "max_ttl = \"2s\""));
    let service = Service::start(&certificates);
    service.health();
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    let mut lea = Client::attach(service.agent(), &certificates.operator("lea"));
    for client in [&mut client, &mut lea] {
        client.eval(r#"change("a test")"#).ok();
    }
    client
        .eval(r#"patch("GET /api/healthcheck", |req| #{ status: 418 }, #{ ttl: "2s" })"#)
        .ok();
    let mut refused = String::new();
    // Each request asks for the longest allowed time, again and again; neither a new owner nor a confirmation resets the age.
    for round in 0.. {
        let (who, code) = match round {
            3 => (&mut lea, "adopt(1)"),
            4 => (&mut lea, "confirm(1, \"2s\")"),
            0..3 => (&mut client, "extend(1, \"2s\")"),
            _ => (&mut lea, "extend(1, \"2s\")"),
        };
        let reply = who.eval(code);
        if reply.is_ok() {
            continue;
        }
        let (kind, message) = reply.failed();
        if kind != "denied" {
            assert!(
                message.contains("lease 1 has already ended: expired"),
                "{code}: {message}"
            );
            break;
        }
        refused = reply.help();
    }
    assert!(refused.contains("6s"), "{refused}");
    assert_eq!(service.health().status, 200);
    let only = |kind: &str| {
        let records = certificates.records_of(kind);
        assert_eq!(records.len(), 1, "{kind}: {records:?}");
        records[0].clone()
    };
    let (made, ended) = (only("lease.made"), only("lease.expired"));
    let lived = time_of(&ended).saturating_sub(time_of(&made));
    assert!(
        Duration::from_secs(4) < lived && lived < MAX_LIFE + Duration::from_secs(5),
        "{lived:?}"
    );
    let deadline = |of: &Value| Duration::from_nanos(of["deadline_boot_ns"].as_u64().unwrap());
    // Policy counts in whole milliseconds.
    let end = deadline(&made["lease"]) - TTL + MAX_LIFE + Duration::from_millis(1);
    for record in certificates.records_of("lease.extended") {
        assert!(deadline(&record) < end, "{record}, {made}");
    }
    only("lease.confirmed");
    certificates.verified();
}
