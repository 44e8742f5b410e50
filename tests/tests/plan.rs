//! A plan lists what code would do and does nothing of it; a snapshot remembers what stood where.
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

/// What a plan of the code lists.
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
            (text("function"), text("target"), line["allowed"].as_bool().unwrap())
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
    assert!(lines[2]["after"].as_str().unwrap().starts_with("‹secret"), "{lines}");
    assert!(lines[5]["verdict"].as_str().unwrap().starts_with("denied"), "{lines}");
    assert_eq!(service.health().status, 200);
    assert_eq!(client.eval("config.db.port").display(), ports[0].0.to_string());
    assert_eq!(client.eval("leases().len()").display(), "0");
}

#[test]
fn a_plan_of_what_one_may_not_do_says_so_and_why() {
    let (_certificates, _service, mut client) = attach("vera");
    let lines = plan(&mut client, "config.db.port = 1");
    assert_eq!(lines[0]["allowed"], false);
    assert!(lines[0]["verdict"].as_str().unwrap().contains("no rule allows it"), "{lines}");
}

/// A function of the session is planned with copies of what it captured.
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
    assert!(ctl.out.contains("1. set state:config.db.port") && ctl.out.contains("-> 1"), "{}", ctl.out);
    assert!(ctl.out.contains("nothing was changed"), "{}", ctl.out);
    assert_eq!(client.eval("leases().len()").display(), "0");
    let ctl = Ctl::run(&certificates, "alice", &["eval", &target, "--plan", "--persist", code]);
    assert_eq!(ctl.code, 2, "{}", ctl.err);
}

/// A small generator of programs: reads, writes, calls, branches, closures, functions, and what ends leases.
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
            _ => format!("try {{ {} }} catch {{ {} }}", self.statement(depth - 1), self.statement(depth - 1)),
        }
    }

    fn program(&mut self) -> String {
        (0..=self.0.below(4)).map(|_| self.statement(2)).collect::<Vec<_>>().join("\n")
    }
}

/// No plan of any program makes the gate give a permit, or changes anything.
#[test]
fn no_plan_has_an_effect() {
    let (_certificates, service, mut client) = attach("alice");
    service.health();
    client.eval(r#"change("a test")"#).ok();
    // Something that plans could end.
    client.eval(r#"config.server.loglevel = "DEBUG""#).ok();
    let look = r#"`${get("config")} ${leases().map(|l| [l.id, l.state, l.owner])} ${snapshots().len()} ${sessions().map(|s| s.mode)}`"#;
    let before = client.eval(look).display().to_owned();
    let mut programs = Programs(Dice(42));
    let (mut listed, mut permitted) = (0, permits(&mut client));
    for _ in 0..150 {
        let code = programs.program();
        let id = client.start_payload(&json!({ "code": code, "dry": true, "after": "revert" }));
        // Some fail, as they would in earnest; then nothing happens all the more.
        let reply = client.reply(id).unwrap();
        listed += reply.0["result"]["value"].as_array().map_or(0, Vec::len);
        // Looking at the count takes one.
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
    let id =
        client.eval(r#"set("config.db.port", 1111, #{ persist: true })"#).ok()["leases"][0]["id"].clone();
    let secret =
        client.secret_payload("config.slack.token = fresh", "fresh", "another-token-that-is-not-real");
    let call = client.start("eval", secret);
    client.reply(call).unwrap().ok();
    let diff = client.eval(r#"diff("before")"#).ok()["value"].clone();
    let paths: Vec<&str> = diff.as_array().unwrap().iter().map(|row| row["path"].as_str().unwrap()).collect();
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
    let automatic =
        names.as_array().unwrap().iter().filter(|name| name.as_str().unwrap().starts_with("eval-"));
    assert!(automatic.count() >= 3, "{names}");
    assert_eq!(client.eval(r#"snapshot("before")"#).failed().0, "state");
    assert!(id.is_u64());
    let audit = certificates.audit();
    let verified = Ctl::run(&certificates, "alice", &["audit", "verify", audit.to_str().unwrap()]);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
}

/// One call that makes several changes needs leave for each that stands below one of them.
#[test]
fn a_snapshot_is_put_back_over_several_changes() {
    let (_certificates, _service, mut client) = attach("alice");
    client.eval(r#"change("a test")"#).ok();
    client.eval(r#"snapshot("before", ["config.db", "config.server", "rota"])"#).ok();
    let live = "`${config.db.port} ${config.server.port} ${config.server.loglevel}`";
    let before = client.eval(live).display().to_owned();
    let id = |client: &mut Client, code: &str| client.eval(code).ok()["leases"][0]["id"].as_u64().unwrap();
    let db = id(&mut client, "config.db.port = 1");
    let server = id(&mut client, "config.server.port = 2");
    let level = id(&mut client, r#"config.server.loglevel = "TRACE""#);
    let refused = [
        // The newest of those in one place stands for all of them.
        (String::new(), format!("`over: [{db}, {level}]`")),
        (format!("#{{ over: {db} }}"), format!("`over: [{db}, {level}]`")),
        (format!("#{{ over: [{db}, {server}] }}"), format!("`over: [{db}, {level}]`")),
        (format!("#{{ over: [{db}, {level}, 999] }}"), "`over: 999` names no change in force".to_owned()),
        (format!("#{{ over: [{db}, \"x\"] }}"), "must be a whole number".to_owned()),
    ];
    for (options, told) in refused {
        let comma = if options.is_empty() { "" } else { ", " };
        let reply = client.eval(&format!("restore(\"before\"{comma}{options})"));
        let (_, message) = reply.failed();
        assert!(message.contains(&told) || reply.help().contains(&told), "{options}: {}", reply.0);
        assert_eq!(client.eval("leases().len()").display(), "3", "{options}");
    }
    let all = format!("restore(\"before\", #{{ over: [{db}, {server}, {level}] }})");
    let lines = plan(&mut client, &all);
    assert!(lines.as_array().unwrap().iter().all(|line| line["allowed"] == true), "{lines}");
    let leases = client.eval(&all).ok()["leases"].clone();
    assert_eq!(leases.as_array().unwrap().len(), 2, "{leases}");
    assert_eq!(client.eval(live).display(), before);
    for lease in leases.as_array().unwrap() {
        client.eval(&format!("revert({})", lease["id"])).ok();
    }
    assert_eq!(client.eval(live).display(), "\"1 2 TRACE\"");
    // Where there is one change there is one id.
    let one = client.eval(&format!(r#"set("config.db.port", 3, #{{ over: [{db}] }})"#));
    assert!(one.failed().1.contains("must be a whole number"), "{}", one.0);
}

/// Where the mode is not entered yet there can be no reason yet: that is no denial of what is planned.
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
    // What a reason alone does not help is told as ever.
    let long = verdict(r#"set("config.db.port", 1, #{ ttl: "2h" })"#);
    assert!(long.starts_with("denied by change: ") && long.contains("allowed up to 30m"), "{long}");
    assert!(verdict(r#"reveal("config.slack.token")"#).contains("no rule allows it"));

    service.terminate();
    let policy = std::fs::read_to_string(certificates.folder().join("agent/policy.toml")).unwrap();
    certificates.write_policy(&policy.replace(r#"reason = "*""#, r#"reason = "INC-*""#));
    let service = Service::start(&certificates);
    let target = service.agent().to_string();
    let ctl = Ctl::run(&certificates, "bob", &["eval", &target, "--plan", "config.db.port = 1"]);
    assert!(
        ctl.out.contains("would need: mode change with a reason like `INC-*`, as"),
        "{}{}",
        ctl.out,
        ctl.err
    );
}

/// What one may not read, one may neither keep nor compare.
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

/// Leave to plan is leave to nothing: who may not read sees no value, neither of what would be replaced nor of what would be
/// revealed, and hears no name.
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
    // Neither which leaves there are.
    for code in [r#"snapshot("mine")"#, r#"diff("base")"#, r#"restore("base")"#] {
        let reply = eve.eval(code);
        assert_eq!(reply.failed().0, "denied", "{code}");
        assert!(!reply.0["error"].to_string().contains("config."), "{code}: {}", reply.0);
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

/// The thread on which changes are ended waits for no plan, which like any code waits for the session's variables.
#[test]
fn a_plan_of_a_revert_does_not_hold_up_reverts() {
    let (_certificates, service, mut client) = attach("alice");
    service.health();
    client.eval(r#"change("a test")"#).ok();
    let made = client.eval(r##"patch("GET /api/healthcheck", |req| #{ status: 418 })"##);
    let id = made.ok()["leases"][0]["id"].as_u64().unwrap();
    let busy = client.start_payload(&json!({ "code": "loop { for x in 0..100 { [x].map(|y| y); } }" }));
    let planned = client.start_payload(&json!({ "code": format!("revert({id})"), "dry": true }));
    // Answered before both of those that came first.
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

/// Of a call that works in an emergency no more is let off than the call itself.
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
    let files = std::fs::read_dir(certificates.audit()).unwrap().map(|entry| entry.unwrap().path());
    let logs = files.filter(|path| path.extension().is_some_and(|e| e == "jsonl"));
    let text: String = logs.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert!(!text.contains(debug_tests::process::SLACK_TOKEN), "{text}");
}
