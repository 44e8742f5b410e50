//! `log_level` shows more of one target in the service's log until a deadline; a level that shows nothing is no success.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use std::process::Command;

use debug_tests::{Certificates, Client, Ctl, Service, wait};

struct Set {
    certificates: Certificates,
    service: Service,
    client: Client,
}

impl Set {
    /// `dienstplan`, with `alice` attached in the mode `change`.
    fn new() -> Self {
        let certificates = Certificates::new();
        let service = Service::start(&certificates);
        let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
        client.eval(r#"change("INC-42")"#).ok();
        Self {
            certificates,
            service,
            client,
        }
    }

    /// How often the service's log contains a text, once the lines of a health check are complete.
    fn logged(&self, text: &str) -> usize {
        let lines = |text: &str| self.service.log().matches(text).count();
        let before = lines(ACCESS);
        assert_eq!(self.service.health().status, 200);
        wait::until_true("the health check is in the log", || before < lines(ACCESS));
        lines(text)
    }

    #[track_caller]
    fn refused(&mut self, code: &str, kind: &str, why: &[&str]) {
        let reply = self.client.eval(code);
        let (seen, message) = reply.failed();
        assert_eq!(seen, kind, "{code}: {message}");
        for part in why {
            assert!(
                message.contains(part) || reply.help().contains(part),
                "{code}: {message} ({})",
                reply.help()
            );
        }
        assert_eq!(self.client.eval("leases().len()").display(), "0", "{code}");
    }
}

const ACCESS: &str = "GET /api/healthcheck 200";
const DEBUG: &str = "DEBUG dienstplan::http: the health check is asked for";

#[test]
fn a_raised_target_is_in_the_log_until_its_deadline_and_then_no_more() {
    let mut set = Set::new();
    assert_eq!(set.logged(DEBUG), 0);
    let reply = set
        .client
        .eval(r#"log_level("dienstplan::http", "debug", #{ ttl: "2s" })"#);
    assert!(
        reply
            .display()
            .ends_with("dienstplan::http at DEBUG, reverts in 2s unless confirmed"),
        "{}",
        reply.display()
    );
    set.service.health();
    set.service.wait_for_log(DEBUG);
    wait::until_true("it expired", || {
        set.client.eval("leases().len()").display() == "0"
    });
    let seen = set.logged(DEBUG);
    assert_eq!(set.logged(DEBUG), seen);
    // A level that was never raised shows nothing.
    assert_eq!(set.logged("DEBUG dienstplan::rota"), 0);
    set.service.terminate();
    let audit = set.certificates.audit();
    let list = Ctl::run(
        &set.certificates,
        "alice",
        &["audit", "list", audit.to_str().unwrap()],
    );
    assert!(
        list.out.lines().any(|line| line.contains("lease.expired")),
        "{}",
        list.out
    );
    let verify = Ctl::run(
        &set.certificates,
        "alice",
        &["audit", "verify", audit.to_str().unwrap()],
    );
    assert_eq!(verify.code, 0, "{}{}", verify.out, verify.err);
}

#[test]
fn a_level_stands_in_the_listings_and_ends_by_hand() {
    let mut set = Set::new();
    let reply = set.client.eval(r#"log_level("dienstplan", "Debug")"#);
    let id = reply.ok()["leases"][0]["id"].as_u64().unwrap();
    assert_eq!(set.logged(DEBUG), 1);
    assert_eq!(
        set.client.eval("leases()[0].target").display(),
        "\"target:dienstplan\""
    );
    assert_eq!(
        set.client.eval("info().levels").display(),
        format!("[\"dienstplan at DEBUG by lease {id}\"]")
    );
    set.client.eval(&format!("revert({id})")).ok();
    assert_eq!(set.logged(DEBUG), 1);
    assert_eq!(set.client.eval("info().levels").display(), "[]");
}

#[test]
fn a_target_is_silenced_and_comes_back() {
    let mut set = Set::new();
    set.logged(ACCESS);
    set.client.eval(r#"log_level("dienstplan::http", "off")"#).ok();
    let seen = set.service.log().matches(ACCESS).count();
    set.service.health();
    // The agent's own events are still there: the end of this lease.
    set.client.eval("revert_all()").ok();
    set.service.wait_for_log("a lease ended");
    assert_eq!(set.service.log().matches(ACCESS).count(), seen);
    assert!(seen < set.logged(ACCESS));
}

#[test]
fn a_second_level_of_a_target_needs_over_and_ends_into_the_first() {
    let mut set = Set::new();
    let reply = set.client.eval(r#"log_level("dienstplan::http", "debug")"#);
    let first = reply.ok()["leases"][0]["id"].as_u64().unwrap();
    let (kind, message) = set
        .client
        .eval(r#"log_level("dienstplan::http", "off")"#)
        .failed();
    assert_eq!(kind, "state");
    assert!(message.contains("already changed by lease"), "{message}");
    let reply = set.client.eval(&format!(
        r#"log_level("dienstplan::http", "off", #{{ over: {first} }})"#
    ));
    let second = reply.ok()["leases"][0]["id"].as_u64().unwrap();
    let said = set.client.eval(&format!("revert({first})"));
    assert!(
        said.display().contains(&format!("stays as lease {second}")),
        "{}",
        said.display()
    );
    set.client.eval(&format!("revert({second})")).ok();
    assert_eq!(set.logged(DEBUG), 0, "neither holds any more");
}

#[test]
fn what_would_go_wrong_is_refused_with_the_reason() {
    let mut set = Set::new();
    set.refused(
        r#"log_level("hyper", "trace")"#,
        "state",
        &["whole crate", "may print secrets"],
    );
    set.refused(r#"log_level("hyper::", "trace")"#, "state", &["is no target"]);
    set.refused(
        r#"log_level("hyper", "verbose")"#,
        "state",
        &["off, error, warn, info, debug, trace"],
    );
    set.refused(r#"log_level("hyper", 3)"#, "state", &["must be a string"]);
    set.refused(r#"log_level("", "debug")"#, "state", &["is no target"]);
    set.refused(
        r#"log_level("debug_agent", "off")"#,
        "state",
        &["the agent itself says"],
    );
    set.refused(
        r#"log_level("debug_agent::script", "warn")"#,
        "state",
        &["the agent itself says"],
    );
    set.refused(
        r#"log_level("hyper", "debug", #{ unseen: true })"#,
        "state",
        &["ttl, reason, over"],
    );
    set.refused(
        r#"log_level("hyper", "debug", #{ ttl: "2h" })"#,
        "denied",
        &["allowed up to 30m"],
    );
    let reply = set.client.eval(r#"log_level("dienstplan::rota", "trace")"#);
    assert!(
        reply
            .display()
            .ends_with("; events of other crates may print secrets"),
        "{}",
        reply.display()
    );
    let note = set.client.eval("leases()[0].note");
    assert!(
        note.display()
            .ends_with("; events of other crates may print secrets\""),
        "{}",
        note.display()
    );
}

/// A misspelt target shows nothing, which is reported with the change.
#[test]
fn a_target_of_which_nothing_was_seen_is_told() {
    let mut set = Set::new();
    set.logged(ACCESS);
    let told = "no event of this target has been seen so far; if none comes, is it spelt right?";
    for (target, expected) in [
        ("dienstplan::http", false),
        ("dienstplan::htpp", true),
        ("dienstplam", true),
    ] {
        let reply = set.client.eval(&format!("log_level(\"{target}\", \"debug\")"));
        assert_eq!(reply.display().contains(told), expected, "{}", reply.display());
        let note = set.client.eval(&format!(
            r#"leases().filter(|l| l.target == "target:{target}")[0].note"#
        ));
        assert_eq!(note.display().contains(told), expected, "{}", note.display());
    }
}

#[test]
fn whom_policy_does_not_let_sets_no_level() {
    let set = Set::new();
    let code = r#"log_level("dienstplan::http", "debug")"#;
    for operator in ["vera", "bob"] {
        let mut client = Client::attach(set.service.agent(), &set.certificates.operator(operator));
        // `vera` is a viewer, `bob` has not entered the mode.
        assert_eq!(client.eval(code).failed().0, "denied", "{operator}");
    }
    assert_eq!(set.logged(DEBUG), 0);
}

/// A lost session restores its levels, and so does a service that lost the agent's threads: see the unit tests.
#[test]
fn an_eval_that_fails_leaves_no_level() {
    let mut set = Set::new();
    set.refused(
        r#"log_level("dienstplan::http", "debug"); throw "no""#,
        "eval",
        &[],
    );
    assert_eq!(set.logged(DEBUG), 0);
}

/// `oddball` has the agent's layer in its subscriber, but not the filter.
#[test]
fn a_service_without_the_filter_is_told_so() {
    let certificates = Certificates::for_service("oddball");
    let mut command = Command::new(env!("CARGO_BIN_EXE_oddball"));
    command
        .env_clear()
        .env("DEBUG_AGENT", "1")
        .env("DEBUG_AGENT_CONFIG", certificates.agent_config());
    let service = Service::spawn(command);
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    client.eval(r#"change("a test")"#).ok();
    let reply = client.eval(r#"log_level("oddball", "debug")"#);
    assert!(
        reply.failed().1.contains("no filter of this agent is installed"),
        "{}",
        reply.0
    );
    assert!(reply.help().contains("agent.log_filter"), "{}", reply.help());
}

/// Crates that use `log` emit no event above that crate's maximum level, which is raised only while the lease is in force.
#[test]
fn events_of_the_log_crate_come_through_while_a_level_holds() {
    let mut set = debug_tests::Set::changing(env!("CARGO_BIN_EXE_logged"));
    assert_eq!(set.says("/before"), "INFO");
    set.client
        .eval(r#"log_level("logged::old", "debug", #{ ttl: "3s" })"#)
        .ok();
    assert_eq!(set.says("/during"), "DEBUG");
    let line = set.service.wait_for_log("old /during");
    assert!(line.contains("DEBUG logged::old: old /during"), "{line}");
    wait::until_true("it expired", || {
        set.client.eval("leases().len()").display() == "0"
    });
    assert_eq!(set.says("/after"), "INFO");
    set.client.eval(r#"log_level("logged::old", "debug")"#).ok();
    set.says("/again");
    set.service.wait_for_log("old /again");
    set.client.eval("revert_all()").ok();
    assert_eq!(set.says("/end"), "INFO");
    let log = set.service.log();
    for absent in ["old /before", "old /after", "old /end", "other /"] {
        assert!(!log.contains(absent), "{absent}: {log}");
    }
}

/// A logger that asks no filter would show the events of every crate: its maximum level stays.
#[test]
fn the_ceiling_of_a_logger_that_filters_nothing_stays() {
    let program = env!("CARGO_BIN_EXE_logged");
    let mut set = debug_tests::Set::with(program, None, &[("LOGGER", "own")]);
    set.client.eval(r#"log_level("logged::old", "debug")"#);
    assert_eq!(set.says("/during"), "INFO");
    assert!(
        !set.service.log().contains("old /during"),
        "{}",
        set.service.log()
    );
}
