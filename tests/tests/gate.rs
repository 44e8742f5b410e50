//! No effect without permission: what policy does not allow is denied, for every function of the table, and changes nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use debug_policy::Action;
use debug_tests::{Certificates, Client, Service};
use debug_wire::table::FUNCTIONS;

/// `lea` may do everything; other operators only what `{}` allows.
const POLICY: &str = r#"
version = 1

[[rule]]
id = "little"
why = "Nearly nothing"
allow = [{}]
roles = ["oncall", "viewer"]

[[rule]]
id = "everything"
why = "Somebody must make the changes that others then cannot touch"
allow = ["attach", "read", "list", "log", "change", "write", "patch", "confirm", "extend", "revert", "reveal"]
roles = ["lead"]
on = ["agent", "state:**", "point:**", "point:* /**", "lease:*"]
max_ttl = "30m"
max_life = "4h"
"#;

struct Set {
    certificates: Certificates,
    service: Service,
}

impl Set {
    fn new(allowed: &[Action]) -> Self {
        let certificates = Certificates::new();
        let words: Vec<_> = allowed
            .iter()
            .map(|action| format!("\"{}\"", action.name()))
            .collect();
        certificates.write_policy(&POLICY.replace("{}", &words.join(", ")));
        let service = Service::start(&certificates);
        Self {
            certificates,
            service,
        }
    }

    fn attach(&self, operator: &str) -> Client {
        Client::attach(self.service.agent(), &self.certificates.operator(operator))
    }

    /// The records of the log, as on disk.
    fn records(&self) -> String {
        let files = std::fs::read_dir(self.certificates.audit())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let logs = files.filter(|path| path.extension().is_some_and(|e| e == "jsonl"));
        logs.map(|path| std::fs::read_to_string(path).unwrap()).collect()
    }
}

/// Everything of the service that an operator with all permissions sees.
fn everything(client: &mut Client) -> String {
    let mut all = String::new();
    for code in [
        "config",
        "rota",
        r#"leases().map(|l| [l.id, l.owner, l.target])"#,
        "points().map(|p| p.patched)",
    ] {
        all += client.eval(code).display();
    }
    all
}

/// An operator with only these permissions tries all other functions, on the service as it is and on another operator's change.
#[track_caller]
fn denied_but_for(allowed: &[Action]) {
    let set = Set::new(allowed);
    assert_eq!(set.service.health().status, 200);
    let mut lea = set.attach("lea");
    lea.eval(r#"change("a change that is not theirs")"#).ok();
    let reply = lea.eval(r#"set("config.server.loglevel", "DEBUG")"#);
    let id = reply.ok()["leases"][0]["id"].as_u64().unwrap();
    // The things that the examples name exist.
    lea.eval(r#"snapshot("before", ["config.db"])"#).ok();
    let before = everything(&mut lea);
    let mut alice = set.attach("alice");
    if allowed.contains(&Action::Change) {
        alice.eval(r#"change("to try")"#).ok();
    }
    for function in FUNCTIONS.iter().filter(|f| !allowed.contains(&f.action)) {
        // The examples name lease 1, if any.
        let code = function.example.replace("(1", &format!("({id}"));
        if function.name == "revert_all" {
            // It ends what the operator may end, which is nothing.
            let said = alice.eval(&code).display().to_owned();
            assert_eq!(said, "nothing to do: the one change in force is not yours to end");
            continue;
        }
        let reply = alice.eval(&code);
        let (kind, message) = reply.failed();
        assert_eq!(kind, "denied", "{code}: {message}");
        assert!(message.contains(function.action.name()), "{code}: {message}");
        let record = format!("\"function\":\"{}\"", function.name);
        assert!(
            set.records()
                .lines()
                .any(|line| line.contains(&record) && line.contains("\"kind\":\"effect\"")),
            "the denial of {code} is recorded"
        );
    }
    for code in [
        "config.db.host",
        "config.db.port = 1",
        "config.db.keys()",
        "config",
        "rota",
        r#"config.db.contains("host")"#,
    ] {
        assert_eq!(alice.eval(code).failed().0, "denied", "{code}");
    }
    assert_eq!(everything(&mut lea), before);
    assert_eq!(set.service.health().body, r#"{"status":"ok"}"#);
    assert!(
        !set.service.log().contains("teapot revolving"),
        "a denied line is not written"
    );
}

#[test]
fn who_may_only_attach_can_do_nothing_else() {
    denied_but_for(&[Action::Attach]);
}

/// The mode alone permits no effect: each needs a rule of its own.
#[test]
fn who_may_enter_the_mode_can_still_change_nothing() {
    denied_but_for(&[Action::Attach, Action::Change]);
}

#[test]
fn whom_no_rule_lets_attach_gets_no_answer_but_the_denial() {
    let set = Set::new(&[Action::Read, Action::List]);
    let identity = debug_tests::client::Identity::read(&set.certificates.operator("alice"));
    let mut client = Client::connect(set.service.agent(), Some(identity)).unwrap();
    let reply = client.call("hello", serde_json::json!({ "version": "test", "checkpoint": 0 }));
    assert_eq!(reply.failed().0, "denied");
    assert!(client.is_closed());
    set.attach("lea");
}

/// A state that an operator may not read is not listed, not named by errors, and indistinguishable from one that does not exist.
#[test]
fn who_may_read_a_part_learns_nothing_of_the_rest() {
    let certificates = Certificates::new();
    let policy = POLICY.replace("{}", "\"attach\", \"list\", \"change\"");
    certificates.write_policy(&format!(
        "{policy}\n[[rule]]\nid = \"database\"\nwhy = \"Hosts and ports\"\nallow = [\"read\"]\nroles = [\"oncall\"]\n\
         on = [\"state:config.db.host\", \"state:config.db.port\"]\n"
    ));
    let service = Service::start(&certificates);
    let mut alice = Client::attach(service.agent(), &certificates.operator("alice"));
    alice.eval(r#"change("to try")"#).ok();
    assert_eq!(alice.eval("ls().map(|s| s.name)").display(), r#"["config"]"#);
    assert_eq!(alice.eval(r#"ls("config")"#).display(), r#"["db"]"#);
    assert_eq!(
        alice.eval(r#"describe("config.db").names"#).display(),
        r#"["host", "port"]"#
    );
    assert_eq!(alice.eval("config.db.host").display(), "\"localhost\"");
    for code in [
        r#"ls("config.slack")"#,
        r#"ls("config.nothing")"#,
        r#"ls("rota")"#,
        r#"describe("config.slack")"#,
        r#"describe("config.slack.token")"#,
        "config.slack",
        "config.nothing",
        "type_of(config.slack)",
        "type_of(config.nothing)",
        "config.db",
        "config.db.keys()",
        r#"get("config.db.name")"#,
        r#"get("config.db.nothing")"#,
        r#"set("config.db.nothing", 1)"#,
        r#"set("config.db.name", 1)"#,
        r#"set("config.db.port", "many")"#,
        r#"reveal("config.slack.token")"#,
        r#"reveal("config.slack")"#,
        r#"reveal("config.slack.nothing")"#,
        r#"patch("GET /api/healthchek", |req| 1)"#,
    ] {
        let reply = alice.eval(code);
        let (kind, message) = reply.failed();
        assert_eq!(kind, "denied", "{code}: {message}");
        for name in ["token", "sign", "username", "password", "healthcheck`"] {
            assert!(
                !reply.0.to_string().contains(name) || code.contains(name),
                "{code}: {}",
                reply.0
            );
        }
    }
}

/// The number of calls of the service's own code for its states so far.
fn counted(service: &Service) -> u64 {
    debug_tests::http::get(service.http, "/count")
        .unwrap()
        .body
        .parse()
        .unwrap()
}

/// Policy decides on action, path and mode before the service's state is read.
#[test]
fn who_is_denied_makes_nobody_ask_the_service() {
    for allowed in [
        &[Action::Attach][..],
        &[Action::Attach, Action::Change],
        &[Action::Attach, Action::Change, Action::List],
    ] {
        let certificates = Certificates::new();
        let words: Vec<_> = allowed
            .iter()
            .map(|action| format!("\"{}\"", action.name()))
            .collect();
        certificates.write_policy(&POLICY.replace("{}", &words.join(", ")));
        let service = Service::start_program("counted", &certificates, &[("DEBUG_AGENT", "1")]);
        service.wait_for_log("the debug agent listens on");
        let mut lea = Client::attach(service.agent(), &certificates.operator("lea"));
        lea.eval(r#"change("what the others then try to change")"#).ok();
        let id = lea.eval(r#"set("config.server.port", 9)"#).ok()["leases"][0]["id"]
            .as_u64()
            .unwrap();
        lea.eval(r#"snapshot("before", ["config.db"])"#).ok();
        let mut alice = Client::attach(service.agent(), &certificates.operator("alice"));
        if allowed.contains(&Action::Change) {
            alice.eval(r#"change("to try")"#).ok();
        }
        let examples = FUNCTIONS
            .iter()
            .map(|function| function.example.replace("(1", &format!("({id}")));
        let others = [
            "config",
            "config.db.host",
            "config.db.port = 1",
            "config.db.keys()",
            "held.db.port",
            "config.nothing",
            r#"get("held")"#,
            r#"get("held.nothing")"#,
            r#"get("fields.rate")"#,
            r#"set("fields.rate", 3)"#,
            r#"set("held", 1)"#,
            r#"reveal("config.slack.token")"#,
            r#"ls("config")"#,
            r#"ls()"#,
            r#"ls("held.db")"#,
            r#"describe("config.db")"#,
            r#"snapshot("all")"#,
            r#"diff("before")"#,
            r#"restore("before")"#,
            r#"for x in config.db { print(x) }"#,
            r#"confi"#,
            r#"get("confg")"#,
            r##"patch("GET /new", |req| get("config.db.port"), #{ unseen: true })"##,
            r#"set("config.db.port", 1, #{ guard: |s| get("held.db.port") == 1 })"#,
            r#"plan(|| { config.db.port = 1; get("held") })"#,
        ];
        for code in examples.chain(others.map(str::to_owned)) {
            // Only denied examples matter here.
            if code.contains("log_") || code.starts_with("change") {
                continue;
            }
            let before = counted(&service);
            let reply = alice.eval(&code);
            assert_eq!(counted(&service), before, "{code}: {}", reply.0);
        }
        let dry = alice.start_payload(
            &serde_json::json!({ "code": "config.db.port = 1; get(\"held\")", "dry": true, "reason": "t" }),
        );
        let before = counted(&service);
        alice.reply(dry).unwrap();
        assert_eq!(counted(&service), before);
        // The counter does detect a read.
        let before = counted(&service);
        lea.eval("config.db.port").ok();
        assert_ne!(counted(&service), before);
        let points = lea.eval("points().map(|p| p.name)").display().to_owned();
        assert!(!points.contains("/new"), "{points}");
    }
}

/// Ending one's own change is the only effect without a decision of the policy, and its record says so.
#[test]
fn the_record_of_ending_ones_own_change_says_that_policy_was_not_asked() {
    let set = Set::new(&[Action::Attach, Action::Change, Action::Write]);
    let mut alice = set.attach("alice");
    alice.eval(r#"change("a test")"#).ok();
    let id = alice.eval(r#"set("config.db.port", 1)"#).ok()["leases"][0]["id"]
        .as_u64()
        .unwrap();
    alice.eval(&format!("revert({id})")).ok();
    let records = set.records();
    let effects = records
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let gates: Vec<_> = effects.filter(|record| record["function"].is_string()).collect();
    assert!(gates.len() > 2);
    for record in gates {
        let gate = &record["gate"];
        let asked = gate["decisions"]
            .as_array()
            .is_some_and(|decisions| !decisions.is_empty());
        let own = gate["own"].as_u64();
        assert_eq!(own, record["revert"].as_u64(), "{record}");
        assert!(asked != own.is_some(), "{record}");
    }
}

/// What stays and runs later is asked about when it is made: a patch that logs does so without a decision of its own.
#[test]
fn only_who_may_log_makes_patches_and_guards_that_log() {
    let set = Set::new(&[
        Action::Attach,
        Action::List,
        Action::Read,
        Action::Change,
        Action::Patch,
        Action::Write,
    ]);
    let mut alice = set.attach("alice");
    alice.eval(r#"change("a test")"#).ok();
    for code in [
        r#"patch("GET /x", |req| { log_info("here"); #{} }, #{ unseen: true })"#,
        r#"patch("GET /x", |req| { let told = |text| log_warn(text); told.call("here"); #{} }, #{ unseen: true })"#,
        r#"patch("GET /x", |req| { "here".log_info(); #{} }, #{ unseen: true })"#,
        r#"patch("GET /x", |req| { call(Fn("log_info"), "here"); #{} }, #{ unseen: true })"#,
        r#"set("config.db.port", 1, #{ guard: |s| { log_info("here"); true } })"#,
    ] {
        let reply = alice.eval(code);
        let (kind, message) = reply.failed();
        assert_eq!(kind, "denied", "{code}: {message}");
        assert!(message.contains("log agent"), "{code}: {message}");
        let planned = alice.eval(&format!("plan(|| {{ {code} }})"));
        assert!(planned.display().contains("allowed: false"), "{code}");
        for told in [reply.0.to_string(), planned.display().to_owned()] {
            assert!(
                told.contains("the code calls `log_info` or `log_warn`"),
                "{code}: {told}"
            );
        }
    }
    alice
        .eval(r#"patch("GET /x", |req| #{}, #{ unseen: true })"#)
        .ok();
}
