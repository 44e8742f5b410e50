//! The changes are undone when the service, a client, the connection between them or a terminal dies or falls silent.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use debug_tests::terminal::{CTRL_C, ENTER, Terminal, UP};
use debug_tests::{Certificates, Client, Ctl, Proxy, Running, Service, wait};
use rustix::process::Signal;
use serde_json::{Value, json};

/// How long the agent lets a session be silent.
const SILENCE: Duration = Duration::from_secs(30);
/// How long changes outlive a lost session.
const GRACE: Duration = Duration::from_secs(60);
/// Wider than every line of these tests.
const WIDE: (u16, u16) = (40, 600);
/// A snapshot, and a change of each kind: lease 1 is provisional, 2 persists, 3 is confirmed; 4 is provisional, too.
const CHANGES: &str = "snapshot(\"before\"); \
    patch(\"GET /api/healthcheck\", |req| #{ status: 418 }, #{ ttl: \"20m\" }); \
    set(\"config.db.port\", 1111, #{ ttl: \"20m\", persist: true }); \
    config.server.port = 3333; confirm(3, \"20m\"); \
    set(\"rota.name\", \"other\", #{ ttl: \"20m\" }); leases().len()";

/// `dienstplan`, to which `alice` attaches first.
struct Set {
    certificates: Certificates,
    service: Service,
}

impl Set {
    fn new() -> Self {
        let certificates = Certificates::new();
        let service = Service::start(&certificates);
        // A route becomes a point at its first call.
        assert_eq!(service.health().status, 200);
        Self {
            certificates,
            service,
        }
    }

    fn attach(&self, operator: &str) -> Client {
        Client::attach(self.service.agent(), &self.certificates.operator(operator))
    }

    /// Like [`Set::attach`], in the mode `change`.
    fn change(&self, operator: &str) -> Client {
        let mut client = self.attach(operator);
        client.eval(r#"change("INC-42")"#).ok();
        client
    }

    /// `debugctl attach` of `alice`, in the mode `change`.
    fn terminal(&self, address: SocketAddr) -> Terminal {
        let mut command = Ctl::command(&self.certificates, "alice");
        command.args(["attach", &address.to_string(), "--change", "--reason", "INC-42"]);
        command.env("TERM", "xterm-256color");
        let terminal = Terminal::run(&command, WIDE.0, WIDE.1);
        let prompt = terminal.prompt();
        assert!(prompt.ends_with("CHANGE›"), "{prompt}");
        terminal
    }

    /// Like [`Set::terminal`], with the changes made.
    fn terminal_with_changes(&self, address: SocketAddr) -> Terminal {
        let terminal = self.terminal(address);
        let made = terminal.submit(CHANGES);
        assert!(made.lines().any(|line| line == "4"), "{made}");
        terminal
    }

    /// `debugctl eval --hold` of `alice`, with the changes made.
    fn held(&self) -> Running {
        let target = self.service.agent().to_string();
        let args = [
            "eval", &target, CHANGES, "--change", "--reason", "INC-42", "--hold",
        ];
        let mut held = Running::start(&self.certificates, "alice", &args);
        held.wait_for("holding leases 1, 2, 3, 4");
        held
    }

    /// The only record of a kind.
    #[track_caller]
    fn only(&self, kind: &str) -> Value {
        let records = self.certificates.records_of(kind);
        assert_eq!(records.len(), 1, "{kind}: {records:?}");
        records[0].clone()
    }
}

fn lease(id: u64) -> Value {
    json!(id)
}

/// The time of a record on the boot-time clock.
fn time_of(record: &Value) -> Duration {
    Duration::from_nanos(record["boot_ns"].as_u64().unwrap())
}

fn rows(client: &mut Client) -> Vec<Value> {
    client.eval("leases()").ok()["value"].as_array().unwrap().clone()
}

fn told(rows: &[Value], name: &str) -> Vec<String> {
    rows.iter()
        .map(|row| row[name].as_str().unwrap().to_owned())
        .collect()
}

/// The checks at the client's end after those of the agent.
type Afterwards = Box<dyn FnOnce()>;

/// A way to lose a session.
struct Way {
    name: &'static str,
    /// Makes [`CHANGES`] as `alice`, and loses her session.
    lose: fn(&Set) -> Afterwards,
    /// How long the agent may take to notice.
    noticed: Duration,
    /// The reason that the log gives for the session's end.
    why: &'static str,
}

/// Runs each way on a service of its own, all at once: each takes more than a minute.
fn check_all(ways: &[Way]) {
    thread::scope(|scope| {
        for way in ways {
            thread::Builder::new()
                .name(way.name.to_owned())
                .spawn_scoped(scope, || check(way))
                .unwrap();
        }
    });
}

fn check(way: &Way) {
    let set = Set::new();
    let mut lea = set.change("lea");
    let afterwards = (way.lose)(&set);
    let closed = wait::patiently(way.noticed + wait::LIMIT, "the agent notices the loss", || {
        lea.call("ping", json!({})).ok();
        let closed = set.certificates.records_of("session.close");
        closed
            .into_iter()
            .find(|record| record["operator"].as_str().unwrap().ends_with("/alice"))
    });
    let why = closed["why"].as_str().unwrap();
    assert!(why.starts_with("lost: ") && why.contains(way.why), "{why}");

    // Nothing is undone yet: alice could come back.
    let lost = "its session is lost";
    let before = rows(&mut lea);
    assert_eq!(told(&before, "note"), [lost, "", "", lost], "{before:?}");
    assert_eq!(
        told(&before, "state"),
        ["provisional", "provisional", "confirmed", "provisional"]
    );
    assert_eq!(set.service.health().status, 418);
    a_colleague_can_do_nothing(&set);
    let said = lea.eval("adopt(4)").display().to_owned();
    assert!(said.contains("it was alice's"), "{said}");

    wait::patiently(GRACE + wait::LIMIT, "the provisional lease ends", || {
        // A silent session would be lost.
        lea.call("ping", json!({})).ok();
        set.service.log().contains("how=\"session-lost\"").then_some(())
    });
    assert_eq!(set.service.health().status, 200);
    let after = rows(&mut lea);
    let ids: Vec<&Value> = after.iter().map(|row| &row["id"]).collect();
    assert_eq!(ids, [2, 3, 4], "{after:?}");
    assert_eq!(told(&after, "owner"), ["alice", "alice", "lea"]);
    assert_eq!(told(&after, "state"), ["provisional", "confirmed", "provisional"]);
    for (path, value) in [
        ("config.db.port", "1111"),
        ("config.server.port", "3333"),
        ("rota.name", "\"other\""),
    ] {
        assert_eq!(lea.eval(path).display(), value);
    }
    let ended = set.only("lease.session-lost");
    assert_eq!(ended["lease"], lease(1), "{ended}");
    let grace = time_of(&ended).saturating_sub(time_of(&closed));
    assert!(
        GRACE - Duration::from_secs(1) < grace && grace < GRACE + wait::LIMIT,
        "{grace:?}"
    );

    // The snapshot is still there, and the states are as they were.
    lea.eval("revert(2); revert(3); revert(4)").ok();
    assert_eq!(lea.eval("diff(\"before\")").display(), "[]");
    afterwards();
    set.certificates.verified();
}

/// He may make changes, but not touch those of others.
fn a_colleague_can_do_nothing(set: &Set) {
    let mut bob = set.change("bob");
    for id in 1..=4 {
        for (action, call) in [
            ("confirm", format!("confirm({id}, \"20m\")")),
            ("extend", format!("extend({id}, \"20m\")")),
            ("adopt", format!("adopt({id})")),
            ("revert", format!("revert({id})")),
        ] {
            let (kind, message) = bob.eval(&call).failed();
            assert_eq!(kind, "denied", "{call}: {message}");
            assert!(
                message.starts_with(&format!("denied: {action} ")),
                "{call}: {message}"
            );
        }
    }
    bob.close();
}

/// T71, without the lock: locking an operator out is of a later version, and `agent/lease/src/tests.rs` shows the effect of
/// `revoke`. However a session is lost, its provisional changes are undone within the bounds: 30 s of silence, 60 s of grace.
/// Confirmed and persisting changes stay, and so do changes that a lead takes over in the grace.
#[test]
fn a_lost_session_leaves_only_what_was_meant_to_stay() {
    check_all(&[
        Way {
            name: "reset",
            lose: by_reset,
            noticed: Duration::ZERO,
            why: "reset",
        },
        Way {
            name: "silent line",
            lose: by_a_silent_line,
            noticed: SILENCE,
            why: "nothing came for 30 s",
        },
        Way {
            name: "stopped REPL",
            lose: by_stopping_the_repl,
            noticed: SILENCE,
            why: "nothing came for 30 s",
        },
        Way {
            name: "stopped eval",
            lose: by_stopping_an_eval,
            noticed: SILENCE,
            why: "nothing came for 30 s",
        },
        Way {
            name: "expired",
            lose: by_expiry,
            noticed: LIFETIME,
            why: "the certificate expired",
        },
    ]);
}

fn by_reset(set: &Set) -> Afterwards {
    let mut client = set.change("alice");
    assert_eq!(client.eval(CHANGES).display(), "4");
    client.reset();
    Box::new(|| {})
}

/// Neither end is notified.
fn by_a_silent_line(set: &Set) -> Afterwards {
    let proxy = Proxy::start(set.service.agent());
    let terminal = set.terminal_with_changes(proxy.address);
    proxy.fall_silent();
    Box::new(move || {
        terminal.wait_for("the agent was silent for");
        // Keeps the proxy alive until here.
        drop(proxy);
    })
}

/// The client lives on, but does not ping.
fn by_stopping_the_repl(set: &Set) -> Afterwards {
    let terminal = set.terminal_with_changes(set.service.agent());
    terminal.signal(Signal::STOP);
    Box::new(move || {
        terminal.signal(Signal::CONT);
        terminal.wait_for("Attaching again");
        let leases = terminal.submit(":leases");
        assert!(leases.ends_with("no leases"), "{leases}");
    })
}

fn by_stopping_an_eval(set: &Set) -> Afterwards {
    let mut held = set.held();
    held.signal(Signal::STOP);
    Box::new(move || {
        held.signal(Signal::CONT);
        held.wait_for("the connection was lost");
        // It checks its leases each second; the code is 6 if it was stopped before the agent had proved the last answer.
        assert!(matches!(held.exit_code(), Some(5 | 6)));
    })
}

/// The lifetime of the certificate in this test: long enough to make changes on a loaded machine.
const LIFETIME: Duration = Duration::from_secs(15);

fn by_expiry(set: &Set) -> Afterwards {
    set.certificates
        .issue("alice", "oncall", &format!("{}s", LIFETIME.as_secs()));
    let mut client = set.change("alice");
    assert_eq!(client.eval(CHANGES).display(), "4");
    Box::new(move || {
        assert!(client.is_closed());
        let farewell = client.notifications.last().unwrap()["error"]["message"].clone();
        assert_eq!(farewell, "the certificate expired");
    })
}

/// T77: a hangup or an end of `debugctl` leaves the snapshot as it is, and its changes are undone like those of every lost
/// session. `debugctl` does not close the session then, so that its operator can still come back.
#[test]
fn a_lost_terminal_leaves_only_what_was_meant_to_stay() {
    check_all(&[
        Way {
            name: "hang-up",
            lose: by_hanging_up,
            noticed: Duration::ZERO,
            why: "the connection",
        },
        Way {
            name: "SIGTERM",
            lose: by_ending_the_repl,
            noticed: Duration::ZERO,
            why: "the connection",
        },
        Way {
            name: "closed window",
            lose: by_closing_the_window,
            noticed: Duration::ZERO,
            why: "the connection",
        },
        Way {
            name: "ended eval",
            lose: by_ending_an_eval,
            noticed: Duration::ZERO,
            why: "the connection",
        },
    ]);
}

fn by_hanging_up(set: &Set) -> Afterwards {
    by_signal(set, Signal::HUP)
}

fn by_ending_the_repl(set: &Set) -> Afterwards {
    by_signal(set, Signal::TERM)
}

fn by_signal(set: &Set, signal: Signal) -> Afterwards {
    let terminal = set.terminal_with_changes(set.service.agent());
    terminal.signal(signal);
    assert_eq!(terminal.exit_code(), 5);
    terminal.wait_for("revert 60 s after the session, unless you attach again");
    Box::new(move || assert!(terminal.modes().are_for_lines()))
}

fn by_closing_the_window(set: &Set) -> Afterwards {
    set.terminal_with_changes(set.service.agent()).vanish();
    Box::new(|| {})
}

fn by_ending_an_eval(set: &Set) -> Afterwards {
    let mut held = set.held();
    held.signal(Signal::TERM);
    assert_eq!(held.exit_code(), None, "the signal ends it");
    Box::new(|| {})
}

/// T77, the counterpart: Ctrl-C is deliberate, and immediately reverts the changes that were not confirmed otherwise, too.
#[test]
fn an_interrupt_ends_what_an_eval_holds() {
    let set = Set::new();
    let mut held = set.held();
    held.signal(Signal::INT);
    assert_eq!(held.exit_code(), Some(0));
    assert_eq!(set.service.health().status, 200);
    let mut vera = set.attach("vera");
    assert_eq!(vera.eval("leases()").display(), "[]");
    assert_eq!(vera.eval("diff(\"before\")").display(), "[]");
    assert_eq!(set.certificates.records_of("lease.reverted").len(), 4);
}

/// T77: anything but a complete `confirm` with id and duration confirms nothing.
#[test]
fn a_confirmation_without_its_lease_confirms_nothing() {
    let set = Set::new();
    let mut client = set.change("alice");
    client
        .eval(r#"patch("GET /api/healthcheck", |req| #{ status: 418 }, #{ ttl: "20m" })"#)
        .ok();
    for code in [
        "",
        "y",
        "yes",
        "confirm",
        "confirm()",
        "confirm(1)",
        "confirm(\"20m\")",
        "confirm((), \"20m\")",
    ] {
        client.eval(code);
        assert_eq!(told(&rows(&mut client), "state"), ["provisional"], "{code}");
    }
    let target = set.service.agent().to_string();
    let reason = ["--reason", "INC-42"];
    for (args, input) in [
        (vec![], "y\n"),
        (vec!["1"], "20m\n"),
        (vec!["20m"], "1\n"),
        (vec!["", "20m"], "1\ny\n"),
        (vec!["y", "20m"], ""),
        (vec!["-1", "20m"], ""),
        (vec!["1", "20m", "y"], ""),
    ] {
        let args: Vec<&str> = ["confirm", &target]
            .into_iter()
            .chain(args)
            .chain(reason)
            .collect();
        let ctl = Ctl::run_with_input(&set.certificates, "alice", &args, input);
        assert_eq!(ctl.code, 2, "{args:?}: {}{}", ctl.out, ctl.err);
    }
    let ctl = Ctl::run(&set.certificates, "alice", &["confirm", &target, "1", "20m"]);
    assert_eq!(ctl.code, 2, "without a reason: {}", ctl.err);
    assert_eq!(told(&rows(&mut client), "state"), ["provisional"]);
    assert!(set.certificates.records_of("lease.confirmed").is_empty());
    client.eval("confirm(1, \"20m\")").ok();
    assert_eq!(told(&rows(&mut client), "state"), ["confirmed"]);
}

/// T77: `iptables-apply` takes any key for a yes.
#[test]
fn stray_keys_at_a_terminal_confirm_nothing() {
    let set = Set::new();
    let terminal = set.terminal(set.service.agent());
    let patched = terminal.submit(r#"patch("GET /api/healthcheck", |req| #{ status: 418 })"#);
    assert!(patched.contains("unless confirmed"), "{patched}");
    for line in [
        "",
        " ",
        "y",
        "yes",
        "confirm",
        "confirm()",
        "confirm(1)",
        ":confirm",
        ":confirm 1",
        ":confirm 20m",
        ":confirm y 20m",
    ] {
        let told = terminal.submit(line);
        assert!(!told.contains("confirmed: "), "{told}");
    }
    let escape = "\x1b";
    terminal.press_below(&[escape, "\t", UP, "\x07", "\x1a", "y", CTRL_C].concat());
    let leases = terminal.submit(":leases");
    assert!(leases.contains("provisional"), "{leases}");
    assert!(set.certificates.records_of("lease.confirmed").is_empty());
    assert_eq!(set.service.health().status, 418);
    let confirmed = terminal.submit(":confirm 1 20m");
    assert!(confirmed.contains("lease 1 confirmed: "), "{confirmed}");
    terminal.press(ENTER);
}

/// T70: the changes of a killed service are gone with it, and the log says so for each.
#[test]
fn a_killed_service_comes_back_as_it_was() {
    let mut set = Set::new();
    let mut vera = set.attach("vera");
    let states =
        "[config.db.port, config.server, config.application, rota.name, info().levels, leases()].to_string()";
    let before = vera.eval(states).display().to_owned();
    let mut alice = set.change("alice");
    for code in [
        r#"patch("GET /api/healthcheck", |req| #{ status: 418 })"#,
        "config.db.port = 1111",
        r#"log_level("dienstplan::http", "debug")"#,
    ] {
        alice.eval(code).ok();
    }
    // The last change is made by an eval that does not finish.
    let unfinished = r#"rota.name = "other"; loop { get("config.db.host"); }"#;
    alice.start_payload(&json!({ "code": unfinished, "after": "revert" }));
    wait::until_true("the change is made", || {
        vera.eval("rota.name").display() == "\"other\""
    });
    set.service.kill();

    set.service = Service::start(&set.certificates);
    assert_eq!(set.service.health().status, 200);
    let mut vera = set.attach("vera");
    assert_eq!(vera.eval(states).display(), before);
    let restarts = set.certificates.records_of("lease.restart");
    let of = |record: &Value| {
        (
            record["lease"].as_u64().unwrap(),
            record["target"].as_str().unwrap().to_owned(),
        )
    };
    let targets = [
        "point:GET /api/healthcheck",
        "state:config.db.port",
        "target:dienstplan::http",
        "state:rota.name",
    ];
    let expected: Vec<_> = (1..).zip(targets.map(str::to_owned)).collect();
    assert_eq!(restarts.iter().map(of).collect::<Vec<_>>(), expected);
    let last = set.certificates.records_of("boot").last().unwrap()["seq"].as_u64();
    assert!(
        restarts.iter().all(|record| last < record["seq"].as_u64()),
        "by the process that follows"
    );
    let made = set.change("alice").eval("config.db.port = 2222").ok()["leases"][0]["id"].clone();
    assert_eq!(made, 5);
    let verified = set.certificates.verified();
    assert!(verified.contains("\n5 leases"), "{verified}");
}

/// T70: repeatedly, with a change in force each time.
#[test]
fn a_service_that_is_killed_again_and_again_tells_its_story() {
    const ROUNDS: u64 = 5;
    let certificates = Certificates::new();
    let mut story = Vec::new();
    for round in 1..=ROUNDS {
        let mut service = Service::start(&certificates);
        assert_eq!(service.health().status, 200);
        let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
        client.eval(r#"change("INC-42")"#).ok();
        let made = client.eval(r#"patch("GET /api/healthcheck", |req| #{ status: 418 })"#);
        assert_eq!(made.ok()["leases"][0]["id"], round);
        assert_eq!(service.health().status, 418);
        service.kill();
        certificates.verified();
        story.extend([
            ("session.open", round),
            ("lease.made", round),
            ("boot", 0),
            ("lease.restart", round),
        ]);
    }
    let service = Service::start(&certificates);
    assert_eq!(service.health().status, 200);
    let verified = certificates.verified();
    assert!(
        verified.contains("\n5 leases, all ended exactly once"),
        "{verified}"
    );
    let records = certificates.records_of("boot").len();
    assert_eq!(records as u64, ROUNDS + 1);
    let told: Vec<_> = ["session.open", "lease.", "boot"]
        .iter()
        .flat_map(|kind| certificates.records_of(kind))
        .collect();
    let mut told: Vec<_> = told
        .iter()
        .map(|record| (record["seq"].as_u64().unwrap(), record))
        .collect();
    told.sort_by_key(|(seq, _)| *seq);
    let number = |record: &Value| {
        let of = |value: &Value| value.as_u64();
        of(&record["lease"])
            .or(of(&record["lease"]["id"]))
            .or(of(&record["session"]))
            .unwrap_or(0)
    };
    let kinds: Vec<_> = told
        .iter()
        .map(|(_, record)| (record["kind"].as_str().unwrap(), number(record)))
        .collect();
    assert_eq!(kinds[0], ("boot", 0));
    assert_eq!(kinds[1..], story);
}
