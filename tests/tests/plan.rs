//! A plan lists what code would do and does none of it; a snapshot remembers values by path.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use debug_tests::{Certificates, Client, Ctl, Dice, Service};
use serde_json::{Value, json};

fn attach(operator: &str) -> (Certificates, Service, Client) {
    let certificates = Certificates::new();
    let service = Service::start(&certificates);
    let client = Client::attach(service.agent(), &certificates.operator(operator));
    (certificates, service, client)
}

/// The lines of a plan of the code.
#[track_caller]
fn plan(client: &mut Client, code: &str) -> Value {
    let id = client.start_payload(&json!({ "code": code, "dry": true, "reason": "a test" }));
    client.reply(id).unwrap().ok()["value"].clone()
}

fn permits(client: &mut Client) -> u64 {
    client.eval("info().permits").display().parse().unwrap()
}

#[test]
fn a_plan_lists_each_effect_with_what_policy_says_and_sees_its_own_writes() {
    let (_certificates, service, mut client) = attach("alice");
    service.health();
    let lines = plan(
        &mut client,
        r##"config.db.port += 1; config.db.port += 1; config.slack.token = config.slack.token;
            patch("GET /api/healthcheck", |req| #{ status: 418 }); log_info("x"); reveal("config.slack.sign")"##,
    );
    let told: Vec<(&str, &str, bool)> = lines
        .as_array()
        .unwrap()
        .iter()
        .map(|line| {
            let text = |name: &str| line[name].as_str().unwrap_or_default();
            (
                text("function"),
                text("target"),
                line["allowed"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("set", "state:config.db.port", true),
            ("set", "state:config.db.port", true),
            ("set", "state:config.slack.token", true),
            ("patch", "point:GET /api/healthcheck", true),
            ("log_info", "x", true),
            ("reveal", "state:config.slack.sign", false),
        ]
    );
    let ports: Vec<(i64, i64)> = lines.as_array().unwrap()[..2]
        .iter()
        .map(|line| (line["before"].as_i64().unwrap(), line["after"].as_i64().unwrap()))
        .collect();
    assert_eq!(ports[0].1, ports[1].0);
    assert_eq!(ports[1].1, ports[0].0 + 2);
    assert!(
        lines[2]["after"].as_str().unwrap().starts_with("‹secret"),
        "{lines}"
    );
    assert!(
        lines[5]["verdict"].as_str().unwrap().starts_with("denied"),
        "{lines}"
    );
    assert_eq!(service.health().status, 200);
    assert_eq!(client.eval("config.db.port").display(), ports[0].0.to_string());
    assert_eq!(client.eval("leases().len()").display(), "0");
}

#[test]
fn a_plan_of_what_one_may_not_do_says_so_and_why() {
    let (_certificates, _service, mut client) = attach("vera");
    let lines = plan(&mut client, "config.db.port = 1");
    assert_eq!(lines[0]["allowed"], false);
    assert!(
        lines[0]["verdict"]
            .as_str()
            .unwrap()
            .contains("no rule allows it"),
        "{lines}"
    );
}

/// A function of the session is planned with copies of its captured values.
#[test]
fn a_planned_function_changes_neither_the_service_nor_a_variable() {
    let (_certificates, _service, mut client) = attach("alice");
    let before = client.eval("config.db.port").display().to_owned();
    let shown = client
        .eval("let n = 1; let p = plan(|| { n += 1; config.db.port = n; }); `${n} ${p.len()} ${p[0].after}`");
    assert_eq!(shown.display(), "\"1 1 2\"");
    assert_eq!(client.eval("config.db.port").display(), before);
    let (_, message) = client.eval("plan(|| plan(|| 1))").failed();
    assert!(message.contains("already"), "{message}");
}

#[test]
fn debugctl_shows_a_plan_and_enters_no_mode() {
    let (certificates, service, mut client) = attach("alice");
    let target = service.agent().to_string();
    let code = "config.db.port = 1; config.db.port";
    let args = ["eval", &target, "--plan", "--change", "--reason", "INC-42", code];
    let ctl = Ctl::run(&certificates, "alice", &args);
    assert_eq!(ctl.code, 0, "{}", ctl.err);
    assert!(
        ctl.out.contains("1. set state:config.db.port") && ctl.out.contains("-> 1"),
        "{}",
        ctl.out
    );
    assert!(ctl.out.contains("nothing was changed"), "{}", ctl.out);
    assert_eq!(client.eval("leases().len()").display(), "0");
    let ctl = Ctl::run(
        &certificates,
        "alice",
        &["eval", &target, "--plan", "--persist", code],
    );
    assert_eq!(ctl.code, 2, "{}", ctl.err);
}

/// A small generator of programs: reads, writes, calls, branches, closures, functions, and ends of leases.
struct Programs(Dice);

impl Programs {
    fn statement(&mut self, depth: u64) -> String {
        let number = self.0.below(9_000);
        match self.0.below(if depth == 0 { 13 } else { 17 }) {
            0 => format!("config.db.port = {number};"),
            1 => "config.db.port += 1;".to_owned(),
            2 => format!(r#"set("config.db.host", "h{number}", #{{ ttl: "5m" }});"#),
            3 => r##"patch("GET /api/healthcheck", |req| #{ status: 418 });"##.to_owned(),
            4 => r#"let d = get("config.db"); d.port = 7; set("config.db", d);"#.to_owned(),
            5 => "revert_all();".to_owned(),
            6 => format!(r#"confirm(1, "{}s");"#, 1 + number),
            7 => r#"extend(1, "20m");"#.to_owned(),
            8 => format!(r#"log_info("line {number}");"#),
            9 => "revert(1);".to_owned(),
            10 => format!(r#"snapshot("s{number}");"#),
            11 => "observe();".to_owned(),
            12 => r#"change("again");"#.to_owned(),
            13 => format!("for i in 0..2 {{ {} }}", self.statement(depth - 1)),
            14 => format!("if config.db.port > {number} {{ {} }}", self.statement(depth - 1)),
            15 => format!("[1, 2].for_each(|| {{ {} }});", self.statement(depth - 1)),
            _ => format!(
                "try {{ {} }} catch {{ {} }}",
                self.statement(depth - 1),
                self.statement(depth - 1)
            ),
        }
    }

    fn program(&mut self) -> String {
        (0..=self.0.below(4))
            .map(|_| self.statement(2))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// No plan of any program makes the gate give a permit, or changes anything.
#[test]
fn no_plan_has_an_effect() {
    let (_certificates, service, mut client) = attach("alice");
    service.health();
    client.eval(r#"change("a test")"#).ok();
    // A change that plans could end.
    client.eval(r#"config.server.loglevel = "DEBUG""#).ok();
    let look = r#"`${get("config")} ${leases().map(|l| [l.id, l.state, l.owner])} ${snapshots().len()} ${sessions().map(|s| s.mode)}`"#;
    let before = client.eval(look).display().to_owned();
    let mut programs = Programs(Dice(42));
    let (mut listed, mut permitted) = (0, permits(&mut client));
    for _ in 0..150 {
        let code = programs.program();
        let id = client.start_payload(&json!({ "code": code, "dry": true, "after": "revert" }));
        // Some fail, as they would in a run; then all the more nothing happens.
        let reply = client.reply(id).unwrap();
        listed += reply.0["result"]["value"].as_array().map_or(0, Vec::len);
        // Reading the count takes one permit.
        let now = permits(&mut client);
        assert_eq!(now, permitted + 1, "{code}");
        permitted = now;
    }
    assert!(listed > 200, "only {listed} effects were listed");
    assert_eq!(client.eval(look).display(), before);
    assert_eq!(service.health().status, 200);
}

#[test]
fn a_snapshot_is_compared_and_put_back_as_a_change_with_a_deadline() {
    let (certificates, _service, mut client) = attach("alice");
    client.eval(r#"snapshot("before")"#).ok();
    assert_eq!(client.eval(r#"diff("before").len()"#).display(), "0");
    client.eval(r#"change("a test")"#).ok();
    let before = client.eval("config.db.port").display().to_owned();
    let id = client
        .eval(r#"set("config.db.port", 1111, #{ persist: true })"#)
        .ok()["leases"][0]["id"]
        .clone();
    let secret = client.secret_payload(
        "config.slack.token = fresh",
        "fresh",
        "another-token-that-is-not-real",
    );
    let call = client.start("eval", secret);
    client.reply(call).unwrap().ok();
    let diff = client.eval(r#"diff("before")"#).ok()["value"].clone();
    let paths: Vec<&str> = diff
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["path"].as_str().unwrap())
        .collect();
    assert_eq!(paths, ["config.slack.token", "config.db.port"]);
    assert_eq!(diff[1]["now"], 1111);
    assert!(diff[0]["now"].as_str().unwrap().starts_with("‹secret"), "{diff}");
    let (_, message) = client.eval(r#"restore("before")"#).failed();
    assert!(message.contains("already changed"), "{message}");
    client.eval("revert_all()").ok();
    client.eval(r#"let d = get("config.db"); d.port = 1; d.host = "x"; set("config.db", d); snapshot("odd"); revert_all()"#).ok();
    let reply = client.eval(r#"restore("odd", #{ ttl: "5m" })"#);
    assert_eq!(reply.ok()["leases"][0]["target"], "state:config.db");
    assert_eq!(client.eval("config.db.port").display(), "1");
    client.eval("revert_all()").ok();
    assert_eq!(client.eval("config.db.port").display(), before);
    let names = client.eval("snapshots().map(|s| s.name)").ok()["value"].clone();
    let automatic = names
        .as_array()
        .unwrap()
        .iter()
        .filter(|name| name.as_str().unwrap().starts_with("eval-"));
    assert!(automatic.count() >= 3, "{names}");
    assert_eq!(client.eval(r#"snapshot("before")"#).failed().0, "state");
    assert!(id.is_u64());
    let audit = certificates.audit();
    let verified = Ctl::run(
        &certificates,
        "alice",
        &["audit", "verify", audit.to_str().unwrap()],
    );
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
}

/// A call that makes several changes needs permission for each change below one of them.
#[test]
fn a_snapshot_is_put_back_over_several_changes() {
    let (_certificates, _service, mut client) = attach("alice");
    client.eval(r#"change("a test")"#).ok();
    client
        .eval(r#"snapshot("before", ["config.db", "config.server", "rota"])"#)
        .ok();
    let live = "`${config.db.port} ${config.server.port} ${config.server.loglevel}`";
    let before = client.eval(live).display().to_owned();
    let id = |client: &mut Client, code: &str| client.eval(code).ok()["leases"][0]["id"].as_u64().unwrap();
    let db = id(&mut client, "config.db.port = 1");
    let server = id(&mut client, "config.server.port = 2");
    let level = id(&mut client, r#"config.server.loglevel = "TRACE""#);
    let refused = [
        // The newest lease at a place stands for all leases there.
        (
            String::new(),
            format!("`restore(name, #{{ over: [{db}, {level}] }})`"),
        ),
        (
            format!("#{{ over: {db} }}"),
            format!("`restore(name, #{{ over: [{db}, {level}] }})`"),
        ),
        (
            format!("#{{ over: [{db}, {server}] }}"),
            format!("`restore(name, #{{ over: [{db}, {level}] }})`"),
        ),
        (
            format!("#{{ over: [{db}, {level}, 999] }}"),
            "`over: 999` names no change in force".to_owned(),
        ),
        (
            format!("#{{ over: [{db}, \"x\"] }}"),
            "must be a whole number".to_owned(),
        ),
    ];
    for (options, told) in refused {
        let comma = if options.is_empty() { "" } else { ", " };
        let reply = client.eval(&format!("restore(\"before\"{comma}{options})"));
        let (_, message) = reply.failed();
        assert!(
            message.contains(&told) || reply.help().contains(&told),
            "{options}: {}",
            reply.0
        );
        assert_eq!(client.eval("leases().len()").display(), "3", "{options}");
    }
    let all = format!("restore(\"before\", #{{ over: [{db}, {server}, {level}] }})");
    let lines = plan(&mut client, &all);
    assert!(
        lines
            .as_array()
            .unwrap()
            .iter()
            .all(|line| line["allowed"] == true),
        "{lines}"
    );
    let leases = client.eval(&all).ok()["leases"].clone();
    assert_eq!(leases.as_array().unwrap().len(), 2, "{leases}");
    assert_eq!(client.eval(live).display(), before);
    for lease in leases.as_array().unwrap() {
        client.eval(&format!("revert({})", lease["id"])).ok();
    }
    assert_eq!(client.eval(live).display(), "\"1 2 TRACE\"");
    // A place with one change takes a single id.
    let one = client.eval(&format!(r#"set("config.db.port", 3, #{{ over: [{db}] }})"#));
    assert!(one.failed().1.contains("must be a whole number"), "{}", one.0);
}

/// Before the mode is entered there can be no reason: that does not count as a denial in a plan.
#[test]
fn a_plan_without_a_reason_tells_that_the_mode_is_entered_with_one() {
    let (certificates, mut service, mut client) = attach("alice");
    let mut verdict = |code: &str| {
        let id = client.start_payload(&json!({ "code": code, "dry": true }));
        let lines = client.reply(id).unwrap().ok()["value"].clone();
        assert_eq!(lines[0]["allowed"], false, "{lines}");
        lines[0]["verdict"].as_str().unwrap().to_owned()
    };
    let told = "would need: mode change with a reason, as `:change REASON` enters it";
    assert_eq!(verdict("config.db.port = 1"), told);
    assert_eq!(
        verdict(r##"patch("GET /api/healthcheck", |req| #{ status: 418 }, #{ unseen: true })"##),
        told
    );
    // A lack that a reason alone does not cure is reported as usual.
    let long = verdict(r#"set("config.db.port", 1, #{ ttl: "2h" })"#);
    assert!(
        long.starts_with("denied by change: ") && long.contains("allowed up to 30m"),
        "{long}"
    );
    assert!(verdict(r#"reveal("config.slack.token")"#).contains("no rule allows it"));

    service.terminate();
    let policy = std::fs::read_to_string(certificates.folder().join("agent/policy.toml")).unwrap();
    certificates.write_policy(&policy.replace(r#"reason = "*""#, r#"reason = "INC-*""#));
    let service = Service::start(&certificates);
    let target = service.agent().to_string();
    let ctl = Ctl::run(
        &certificates,
        "bob",
        &["eval", &target, "--plan", "config.db.port = 1"],
    );
    assert!(
        ctl.out
            .contains("would need: mode change with a reason like `INC-*`, as"),
        "{}{}",
        ctl.out,
        ctl.err
    );
}

/// An operator may neither store nor compare what they may not read.
#[test]
fn a_snapshot_asks_for_each_leaf() {
    let certificates = Certificates::new();
    certificates.write_policy(
        r#"version = 1
[[rule]]
id = "look"
why = "a test"
allow = ["attach", "list", "read"]
except = ["state:config.db.**"]
"#,
    );
    let service = Service::start(&certificates);
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    for code in [r#"snapshot("all")"#, r#"snapshot("some", ["config.db"])"#] {
        assert_eq!(client.eval(code).failed().0, "denied", "{code}");
    }
    client.eval(r#"snapshot("mine", ["config.server", "rota"])"#).ok();
    assert_eq!(client.eval(r#"diff("mine").len()"#).display(), "0");
    assert_eq!(client.eval(r#"restore("mine")"#).ok()["display"], "nothing to do");
}

/// Permission to plan permits nothing else: an operator who may not read sees no value, neither one to be replaced nor one to be
/// revealed, and no name.
#[test]
fn a_plan_shows_nothing_that_its_operator_may_not_read() {
    let certificates = Certificates::new();
    certificates.write_policy(
        r#"version = 1
[[rule]]
id = "enter"
why = "a test"
allow = ["attach", "list", "change"]
roles = ["oncall"]
[[rule]]
id = "write-only"
why = "a test"
allow = ["write"]
roles = ["oncall"]
on = ["state:config.db.port"]
[[rule]]
id = "everything"
why = "a test"
allow = ["attach", "list", "read"]
roles = ["lead"]
"#,
    );
    let service = Service::start(&certificates);
    let mut lea = Client::attach(service.agent(), &certificates.operator("lea"));
    let port = lea.eval("config.db.port").display().to_owned();
    lea.eval(r#"snapshot("base")"#).ok();
    let mut eve = Client::attach(service.agent(), &certificates.operator("alice"));
    let host = "localhost";
    for code in [
        r#"let x = reveal("config.db.host"); print("is " + x);"#,
        r#"set("config.db.host", "x")"#,
        r#"set("config.db.port", 1)"#,
        r#"restore("base")"#,
        r#"diff("base")"#,
        r#"get("config.db.host")"#,
    ] {
        for whole in [code.to_owned(), format!("plan(|| {{ {code} }})")] {
            let id = eve.start_payload(&json!({ "code": whole, "dry": whole == code, "after": "revert" }));
            let reply = eve.reply(id).unwrap().0.to_string();
            let said: String = eve.notifications.iter().map(ToString::to_string).collect();
            assert!(!format!("{reply}{said}").contains(host), "{whole}: {reply}{said}");
            assert!(!reply.contains(&format!(":{port}")), "{whole}: {reply}");
        }
    }
    // Nor which leaves exist.
    for code in [r#"snapshot("mine")"#, r#"diff("base")"#, r#"restore("base")"#] {
        let reply = eve.eval(code);
        assert_eq!(reply.failed().0, "denied", "{code}");
        assert!(
            !reply.0["error"].to_string().contains("config."),
            "{code}: {}",
            reply.0
        );
    }
}

#[test]
fn a_plan_makes_no_points() {
    let (_certificates, _service, mut client) = attach("alice");
    let count = r#"points().len()"#;
    let before = client.eval(count).display().to_owned();
    let lines = plan(
        &mut client,
        r##"for i in 0..20 { patch(`GET /fill/${i}`, |req| #{ status: 418 }, #{ unseen: true }); }"##,
    );
    assert_eq!(lines.as_array().unwrap().len(), 20);
    assert_eq!(client.eval(count).display(), before);
}

/// The thread that ends changes waits for no plan; a plan waits for the session's variables like any code.
#[test]
fn a_plan_of_a_revert_does_not_hold_up_reverts() {
    let (_certificates, service, mut client) = attach("alice");
    service.health();
    client.eval(r#"change("a test")"#).ok();
    let made = client.eval(r##"patch("GET /api/healthcheck", |req| #{ status: 418 })"##);
    let id = made.ok()["leases"][0]["id"].as_u64().unwrap();
    let busy = client.start_payload(&json!({ "code": "loop { for x in 0..100 { [x].map(|y| y); } }" }));
    let planned = client.start_payload(&json!({ "code": format!("revert({id})"), "dry": true }));
    // Answered before the two earlier calls.
    let revert = client.start_payload(&json!({ "code": format!("revert({id})") }));
    let first = loop {
        let message = client.read().unwrap();
        if let Some(id) = message["id"].as_u64() {
            break id;
        }
    };
    assert_eq!(first, revert);
    assert_eq!(service.health().status, 200);
    assert_ne!(busy, planned);
}

/// A call that works without the log still has its reason checked for secrets.
#[test]
fn a_secret_in_a_reason_is_not_recorded() {
    let (certificates, _service, mut client) = attach("alice");
    client.eval("config.slack.token").ok();
    for dry in [false, true] {
        let secret = debug_tests::process::SLACK_TOKEN;
        let payload = json!({ "code": "leases()", "dry": dry, "reason": secret });
        let id = client.start_payload(&payload);
        assert_eq!(client.reply(id).unwrap().failed().0, "denied");
    }
    let files = std::fs::read_dir(certificates.audit())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let logs = files.filter(|path| path.extension().is_some_and(|e| e == "jsonl"));
    let text: String = logs.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert!(!text.contains(debug_tests::process::SLACK_TOKEN), "{text}");
}

/// The end of the log, from the last read on.
struct Tail {
    file: std::path::PathBuf,
    read: usize,
    records: Vec<Value>,
}

impl Tail {
    fn new(certificates: &Certificates) -> Self {
        let files = std::fs::read_dir(certificates.audit())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut logs: Vec<_> = files
            .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
            .collect();
        assert_eq!(logs.len(), 1, "{logs:?}");
        Self {
            file: logs.remove(0),
            read: 0,
            records: Vec::new(),
        }
    }

    /// Reads the records since the last call.
    fn read(&mut self) {
        let bytes = std::fs::read(&self.file).unwrap();
        let whole = bytes[self.read..]
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
        let text = std::str::from_utf8(&bytes[self.read..self.read + whole]).unwrap();
        self.records = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        self.read += whole;
    }

    /// The effects of an eval, each as its distinguishing values.
    fn effects(&self, eval: u64) -> Vec<Value> {
        let of = |record: &&Value| {
            record["eval"] == eval
                && ["effect", "lease.made"]
                    .iter()
                    .any(|kind| record["kind"] == **kind)
        };
        let told = |record: &Value| {
            let members = [
                "function",
                "path",
                "target",
                "before",
                "after",
                "value",
                "about",
                "text",
                "revert",
                "renew",
                "ttl_ms",
                "adopt",
                "settle",
                "how",
                "guarded",
                "snapshot",
                "parts_kept",
                "differing",
                "reason",
            ];
            let mut told: serde_json::Map<String, Value> = members
                .iter()
                .map(|name| ((*name).to_owned(), record[*name].clone()))
                .collect();
            told.insert("allowed".to_owned(), record["gate"]["allowed"].clone());
            told.insert("own".to_owned(), record["gate"]["own"].clone());
            Value::Object(told)
        };
        self.records.iter().filter(of).map(told).collect()
    }
}

/// The number of the eval's record that a reply names.
#[track_caller]
fn eval_of(reply: &debug_tests::Reply) -> u64 {
    let result = reply.0["result"]["audit"]["eval"].as_u64();
    result
        .or_else(|| reply.0["error"]["data"]["audit"]["eval"].as_u64())
        .unwrap_or_else(|| panic!("{}", reply.0))
}

/// Programs of more kinds than those above, to find anything that a plan could treat otherwise than a run.
struct Rich(Dice);

impl Rich {
    fn path(&mut self) -> &'static str {
        self.0.one_of(&[
            "config.db.port",
            "config.db.host",
            "config.db",
            "config.server.loglevel",
            "config.server.access_log",
            "rota.people",
            "rota.people.0",
            "rota.on_duty",
            "config.nothing",
            "config.slack.token",
        ])
    }

    fn value(&mut self) -> String {
        let number = self.0.below(9_000);
        match self.0.below(7) {
            0 => format!("\"h{number}\""),
            1 => "true".to_owned(),
            2 => "\"DEBUG\"".to_owned(),
            3 => "()".to_owned(),
            4 => format!("[\"p{number}\", \"q\"]"),
            _ => number.to_string(),
        }
    }

    fn options(&mut self) -> &'static str {
        self.0.one_of(&[
            "",
            "",
            "",
            ", #{ ttl: \"5m\" }",
            ", #{ ttl: \"2h\" }",
            ", #{ over: 999 }",
            ", #{ persist: true }",
            ", #{ over: leases()[0].id }",
            ", #{ guard: |s| get(\"config.db.port\") < 9000 }",
            ", #{ guard: |s| get(\"config.db.port\") > 4000, reason: \"r\" }",
            ", #{ odd: 1 }",
        ])
    }

    fn statement(&mut self, depth: u64) -> String {
        let number = self.0.below(9_000);
        match self.0.below(if depth == 0 { 26 } else { 31 }) {
            0..=2 => format!("set(\"{}\", {}{});", self.path(), self.value(), self.options()),
            3 => format!("config.db.port = {number};"),
            4 => "config.db.port += 1; config.db.port += 1;".to_owned(),
            5 => format!("rota.people[0] = \"n{number}\";"),
            6 => format!(
                "let d = get(\"config.db\"); d.port = {number}; d.host = \"z\"; set(\"config.db\", d{});",
                self.options()
            ),
            7 => format!(
                "let p = get(\"rota.people\"); p.push(\"n{number}\"); set(\"rota.people\", p); set(`rota.people.${{p.len() - 1}}`, \"again\");"
            ),
            8 => format!(
                "patch(\"GET /api/healthcheck\", |req| #{{ status: 418 }}{});",
                self.options()
            ),
            9 => "patch(\"GET /api/healthchec\", |req| 1);".to_owned(),
            10 => {
                format!(
                    "patch(\"GET /made/{}\", |req| #{{ status: 418 }}, #{{ unseen: true }});",
                    number % 3
                )
            }
            11 => "log_level(\"dienstplan::http\", \"debug\");".to_owned(),
            12 => "log_level(\"dienstplan\", \"trace\");".to_owned(),
            13 => "if leases().len() > 0 { revert(leases()[0].id); }".to_owned(),
            14 => "if leases().len() > 1 { revert(leases()[1].id); revert(leases()[1].id); }".to_owned(),
            15 => "revert_all();".to_owned(),
            16 => "if leases().len() > 0 { confirm(leases()[0].id, \"7m\"); }".to_owned(),
            17 => {
                "if leases().len() > 0 { let l = leases(); extend(l[l.len() - 1].id, \"20m\"); }".to_owned()
            }
            18 => "if leases().len() > 0 { guard(leases()[0].id, |s| get(\"config.db.port\") > 100); }"
                .to_owned(),
            19 => format!("snapshot(\"s{}\", [\"{}\"]);", number % 9, self.path()),
            20 => format!("diff(\"s{}\");", number % 9),
            21 => format!("restore(\"s{}\"{});", number % 9, self.options()),
            22 => self
                .0
                .one_of(&["observe();", "change(\"again\");", "observe(); change(\"back\");"])
                .to_owned(),
            23 => format!("log_info(\"line ${{leases().len()}} {number}\");"),
            24 => format!("get(\"{}\");", self.path()),
            25 => "if leases().len() > 0 { adopt(leases()[0].id); }".to_owned(),
            26 => format!("for i in 0..3 {{ {} }}", self.statement(depth - 1)),
            27 => format!(
                "if config.db.port > {number} {{ {} }} else {{ {} }}",
                self.statement(depth - 1),
                self.statement(depth - 1)
            ),
            28 => format!("[1, 2].for_each(|| {{ {} }});", self.statement(depth - 1)),
            29 => {
                format!(
                    "try {{ {} }} catch {{ {} }}",
                    self.statement(depth - 1),
                    self.statement(depth - 1)
                )
            }
            _ => format!("fn f() {{ {} }} f(); f();", self.statement(0)),
        }
    }

    fn program(&mut self) -> String {
        (0..=self.0.below(4))
            .map(|_| self.statement(2))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// The lines of a plan up to the failure of its code. A plan continues after a change that is refused and may fail later; then
/// its reply is only the failure. So the longest prefix of the code that can be planned is planned.
fn lines(client: &mut Client, code: &str, planned: &debug_tests::Reply) -> Value {
    if planned.is_ok() {
        return planned.0["result"]["value"].clone();
    }
    let statements: Vec<&str> = code.lines().collect();
    let shorter = (0..statements.len())
        .rev()
        .map(|end| statements[..end].join("\n"));
    let mut plans = shorter.map(|code| {
        let payload = json!({ "code": code, "dry": true, "reason": "a test", "after": "revert" });
        let id = client.start_payload(&payload);
        client.reply(id).unwrap()
    });
    plans
        .find(debug_tests::Reply::is_ok)
        .map_or(Value::Null, |plan| plan.0["result"]["value"].clone())
}

/// Whether a plan and a run agree, each with its effects; `looks_on` is an operator who may not enter the mode.
fn agree(
    (planned, plan, lines): (&debug_tests::Reply, &[Value], &Value),
    (ran, run): (&debug_tests::Reply, &[Value]),
    looks_on: bool,
) -> Result<(), String> {
    if let Some((planned, ran)) = plan.iter().zip(run).find(|(planned, ran)| planned != ran) {
        return Err(format!("an effect differs: {planned} {ran}"));
    }
    if plan.len() < run.len() {
        return Err("the run has more effects than its plan".to_owned());
    }
    let lines = lines.as_array();
    let refused = lines.and_then(|lines| lines.iter().find(|line| line["allowed"] == false));
    if ran.is_ok() {
        let agrees = planned.is_ok() && refused.is_none() && plan.len() == run.len();
        return if agrees {
            Ok(())
        } else {
            Err("the plan refuses what the run does".to_owned())
        };
    }
    let (kind, message) = ran.failed();
    let agrees = match refused {
        Some(line) => {
            let verdict = line["verdict"].as_str().unwrap();
            // An operator who may not enter the mode is denied for the mode first; a plan is decided as if the mode were entered.
            let denied = kind == "denied"
                && verdict.starts_with("denied")
                && (looks_on || verdict.ends_with(&ran.help()));
            denied || verdict == format!("refused: {message}; {}", ran.help())
        }
        None => !planned.is_ok() && planned.failed() == ran.failed(),
    };
    if agrees {
        Ok(())
    } else {
        Err("they are refused in other words".to_owned())
    }
}

/// A plan lists the effects of the run: the same effects on the same targets with the same values and answers, up to the first
/// refusal, with the same text.
#[test]
fn a_run_has_the_effects_of_its_plan() {
    const PROGRAMS: u64 = 320;
    let (certificates, service, mut lea) = attach("lea");
    service.health();
    let mut clients: Vec<Client> = ["alice", "bob", "vera"]
        .iter()
        .map(|operator| Client::attach(service.agent(), &certificates.operator(operator)))
        .collect();
    lea.eval(r#"change("to clean up")"#).ok();
    let mut tail = Tail::new(&certificates);
    let (mut effects, mut failures, mut worked, mut differing) = (0, 0, 0, Vec::new());
    for seed in 0..PROGRAMS {
        let mut dice = Rich(Dice(seed * 7_919 + 17));
        let code = dice.program();
        // A change of another operator, or of an earlier eval.
        if dice.0.below(3) == 0 {
            let path = dice
                .0
                .one_of(&["config.db.port", "config.db.dbname", "config.server.loglevel"]);
            let value = if path == "config.db.port" {
                "5000"
            } else {
                "\"WARN\""
            };
            lea.eval(&format!("set(\"{path}\", {value}, #{{ persist: true }})"))
                .ok();
        }
        let who = [0, 0, 0, 0, 0, 0, 1, 2][usize::try_from(dice.0.below(8)).unwrap()];
        let client = &mut clients[who];
        if dice.0.below(3) == 0 {
            client.eval("config.db.host = \"earlier\"");
        }
        client.eval("change(\"a test\")");
        let id = client
            .start_payload(&json!({ "code": code, "dry": true, "reason": "a test", "after": "revert" }));
        let planned = client.reply(id).unwrap();
        let lines = lines(client, &code, &planned);
        let ran = client.eval(&code);
        let story = format!("seed {seed}:\n{code}\nplan: {}\nrun: {}", planned.0, ran.0);
        tail.read();
        let (plan, run) = (tail.effects(eval_of(&planned)), tail.effects(eval_of(&ran)));
        effects += run.len();
        match ran.is_ok() {
            true => worked += 1,
            false => failures += 1,
        }
        if let Err(why) = agree((&planned, &plan, &lines), (&ran, &run), who == 2) {
            differing.push(format!("{why}\n{story}"));
        }
        lea.eval("revert_all()").ok();
        assert_eq!(lea.eval("leases().len()").display(), "0", "{story}");
        client.eval("observe()");
    }
    let shown = differing.iter().take(4).cloned().collect::<Vec<_>>().join("\n\n");
    assert!(
        differing.is_empty(),
        "{} differ, such as\n{shown}",
        differing.len()
    );
    assert!(
        effects > 500 && failures > 50 && worked > 50,
        "{effects} effects, {failures} failed, {worked} did not"
    );
}

/// A submission is one transaction: it may write its own places again, and all of it is undone in any order.
#[test]
fn one_submission_writes_a_place_more_than_once() {
    let (_certificates, service, mut client) = attach("alice");
    service.health();
    client.eval(r#"change("a test")"#).ok();
    let look = r#"`${get("config.db")} ${get("rota")} ${points().map(|p| p.patched)} ${info().levels}`"#;
    let before = client.eval(look).display().to_owned();
    let programs = [
        (
            "config.db.minimum_idle = 6; config.db.minimum_idle = 7",
            "config.db.minimum_idle",
            "7",
        ),
        (
            "config.db.port += 1; config.db.port += 1; config.db.port - 5432",
            "config.db.port",
            "5434",
        ),
        ("for i in 1..4 { config.db.port = i }", "config.db.port", "3"),
        (
            r#"config.db.port = 1; let d = get("config.db"); d.port += 1; set("config.db", d)"#,
            "config.db.port",
            "2",
        ),
        (
            r#"let d = get("config.db"); d.port = 1; set("config.db", d); config.db.port = 2"#,
            "config.db.port",
            "2",
        ),
        (
            r#"config.db.port = 1; config.db.host = "x"; let d = get("config.db"); d.host = "y"; set("config.db", d); config.db.port = 3"#,
            "config.db.port",
            "3",
        ),
        (
            r#"rota.people = ["a", "b", "c", "d", "e"]; rota.people[4] = "z"; rota.people[4] = "y""#,
            "rota.people.4",
            "\"y\"",
        ),
        (
            r##"patch("GET /api/healthcheck", |req| #{ status: 418 }); patch("GET /api/healthcheck", |req| #{ status: 419 })"##,
            "config.db.port",
            "5432",
        ),
        (
            r#"log_level("dienstplan::http", "debug"); log_level("dienstplan::http", "trace")"#,
            "config.db.port",
            "5432",
        ),
    ];
    let mut dice = Dice(5);
    for (code, path, value) in programs {
        for order in 0..4 {
            let lines = plan(&mut client, code);
            assert!(
                lines
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|line| line["allowed"] == true),
                "{code}: {lines}"
            );
            let reply = client.eval(code);
            let leases = reply.ok()["leases"].as_array().unwrap().clone();
            assert!(
                !leases.is_empty() && leases.iter().all(|l| l["state"] == "provisional"),
                "{code}: {leases:?}"
            );
            let mut ids: Vec<u64> = leases.iter().map(|lease| lease["id"].as_u64().unwrap()).collect();
            assert_eq!(
                client.eval(&format!("get(\"{path}\")")).display(),
                value,
                "{code}"
            );
            match order {
                0 => {}
                1 => ids.reverse(),
                _ => (1..ids.len())
                    .for_each(|at| ids.swap(at, usize::try_from(dice.below(at as u64 + 1)).unwrap())),
            }
            for id in &ids {
                client.eval(&format!("revert({id})")).ok();
            }
            assert_eq!(
                client.eval(look).display(),
                before,
                "{code}, reverted in the order {ids:?}"
            );
        }
        // And all at once if it fails.
        client.eval(&format!("{code}; throw 1")).failed();
        assert_eq!(client.eval(look).display(), before, "{code}");
        assert_eq!(client.eval("leases().len()").display(), "0", "{code}");
    }
}

/// Changes of other operators stay theirs, and advice only names what will be there.
#[test]
fn a_submission_stands_on_no_change_of_others_that_it_did_not_name() {
    let (certificates, service, mut alice) = attach("alice");
    let mut bob = Client::attach(service.agent(), &certificates.operator("bob"));
    bob.eval(r#"change("theirs")"#).ok();
    alice.eval(r#"change("a test")"#).ok();
    let theirs = bob.eval(r#"config.db.host = "b""#).ok()["leases"][0]["id"]
        .as_u64()
        .unwrap();
    let earlier = alice.eval("config.db.minimum_idle = 3").ok()["leases"][0]["id"]
        .as_u64()
        .unwrap();
    let whole = r#"config.db.port = 1; config.db.port = 2; let d = get("config.db"); d.dbname = "x"; set("config.db", d OPTIONS)"#;
    // The newest lease that is not its own stands for all, as usual.
    let reply = alice.eval(&whole.replace("OPTIONS", ""));
    assert!(
        reply
            .failed()
            .1
            .contains(&format!("already changed by lease {earlier} of alice")),
        "{}",
        reply.0
    );
    assert!(
        reply
            .help()
            .contains(&format!("`set(\"config.db\", value, #{{ over: {earlier} }})`")),
        "{}",
        reply.0
    );
    let reply = alice.eval(&whole.replace("OPTIONS", &format!(", #{{ over: {theirs} }}")));
    assert!(
        reply
            .help()
            .contains(&format!("`set(\"config.db\", value, #{{ over: {earlier} }})`")),
        "{}",
        reply.0
    );
    alice
        .eval(&whole.replace("OPTIONS", &format!(", #{{ over: {earlier} }}")))
        .ok();
    // In another eval its leases are like any others.
    let reply = alice.eval("config.db.port = 9");
    assert!(
        reply.failed().1.contains("already changed by lease"),
        "{}",
        reply.0
    );
}
