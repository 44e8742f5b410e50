//! A plan shows what the run would show: the points, the mode that it lacks, and its effects up to where it fails. Through real
//! processes and sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use debug_tests::{Certificates, Client, Ctl, Service};
use serde_json::{Value, json};

fn attach() -> (Certificates, Service, Client) {
    let certificates = Certificates::new();
    let service = Service::start(&certificates);
    service.health();
    let client = Client::attach(service.agent(), &certificates.operator("alice"));
    (certificates, service, client)
}

/// The texts that the code logs; they show what the code itself saw.
#[track_caller]
fn seen(client: &mut Client, code: &str) -> Vec<String> {
    let lines = client.eval(&format!("plan(|| {{ {code} }})")).ok()["value"].clone();
    let logged = lines
        .as_array()
        .unwrap()
        .iter()
        .filter(|line| line["function"] == "log_info");
    logged
        .map(|line| line["target"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn points_and_leases_inside_a_plan_are_those_that_the_run_sees() {
    let (_certificates, _service, mut client) = attach();
    client.eval(r#"change("a test")"#).ok();
    client
        .eval(r##"patch("GET /api/healthcheck", |req| #{ status: 418 })"##)
        .ok();
    let look = r#"
        let rows = points().filter(|p| p.kind == "route" && p.patched.len() > 0);
        let shown = rows.map(|p| `${p.name} ${p.patched} ${p.owner} ${p.patched_calls}`);
        shown += [`${leases().map(|l| l.guard)}`, `${info().levels}`];"#;
    let changes = r##"
        patch("GET /made", |req| #{ status: 418 }, #{ unseen: true, guard: |s| true });
        patch("GET /api/healthcheck", |req| #{ status: 419 }, #{ over: leases()[0].id });
        log_level("dienstplan::http", "debug");
        revert(leases()[0].id);"##;
    let planned = seen(
        &mut client,
        &format!("{changes} {look} for text in shown {{ log_info(text); }}"),
    );
    let ran = client.eval(&format!(
        "{changes} {look} shown += [`${{describe(\"GET /made\").patched.len()}}`]; shown"
    ));
    let ran: Vec<String> = serde_json::from_value(ran.ok()["value"].clone()).unwrap();
    assert_eq!(ran.last().unwrap(), "1");
    assert_eq!(ran[..ran.len() - 1], planned);
    assert!(
        planned.iter().any(|text| text.starts_with("GET /made [")),
        "{planned:?}"
    );
    assert!(
        planned.contains(&"[\"holds\", \"\", \"\"]".to_owned()),
        "{planned:?}"
    );
    // And the plan leaves nothing behind.
    client.eval("revert_all()").ok();
    let after = seen(
        &mut client,
        &format!("{look} for text in shown {{ log_info(text); }}"),
    );
    assert!(!after.iter().any(|text| text.contains("GET ")), "{after:?}");
}

#[test]
fn a_guard_is_shown_where_leases_are() {
    let (certificates, service, mut client) = attach();
    client.eval(r#"change("a test")"#).ok();
    client
        .eval(r##"set("config.db.port", 1, #{ persist: true, guard: |s| s.errors < 10 })"##)
        .ok();
    client
        .eval(r##"set("config.db.host", "h", #{ persist: true })"##)
        .ok();
    assert_eq!(
        client.eval("leases().map(|l| l.guard)").ok()["value"],
        json!(["holds", ""])
    );
    let ctl = Ctl::run(&certificates, "alice", &["leases", &service.agent().to_string()]);
    let lines: Vec<&str> = ctl.out.lines().collect();
    assert!(
        lines[0].contains("guard") && lines[1].contains("holds"),
        "{}",
        ctl.out
    );
    assert!(!lines[2].contains("holds"), "{}", ctl.out);
}

#[test]
fn a_plan_whose_code_fails_tells_what_it_lists_up_to_there() {
    let (certificates, service, mut client) = attach();
    let target = service.agent().to_string();
    let code = "config.db.port = 1; config.db.port = 2; throw \"enough\"";
    for arguments in [
        vec!["eval", &target, "--change", "--reason", "a test", "--plan", code],
        vec!["eval", &target, &format!("plan(|| {{ {code} }})")],
    ] {
        let ctl = Ctl::run(&certificates, "alice", &arguments);
        assert_eq!(ctl.code, 1, "{}{}", ctl.out, ctl.err);
        let listed = "a plan up to where the code failed:\n1. set state:config.db.port  5432 -> 1";
        assert!(ctl.out.starts_with(listed), "{}", ctl.out);
        assert!(
            ctl.out.contains("2. set state:config.db.port  1 -> 2"),
            "{}",
            ctl.out
        );
        assert!(ctl.err.contains("enough"), "{}", ctl.err);
    }
    // A refusal that ends an eval ends only the planned code.
    let ctl = Ctl::run(
        &certificates,
        "alice",
        &["eval", &target, "--plan", "config.db.port = 1; get(\"nosuch\")"],
    );
    assert!(
        ctl.out.contains("1. set state:config.db.port"),
        "{}{}",
        ctl.out,
        ctl.err
    );
    assert_eq!(client.eval("config.db.port").display(), "5432");
}

/// What fails in the plan would fail in the run: it is neither allowed nor counted.
#[test]
fn what_fails_in_a_plan_is_listed_as_refused() {
    let (certificates, service, _client) = attach();
    let target = service.agent().to_string();
    for (code, refused) in [
        (
            "config.db.prot = 3",
            "set state:config.db.prot  refused: no such path `config.db.prot`; did you mean `port`?",
        ),
        (
            "config.db.port = 70000",
            "set state:config.db.port  refused: cannot write",
        ),
        (
            "get(\"config.db.prot\")",
            "get state:config.db.prot  refused: no such path",
        ),
        (
            "patch(\"GET /nope\", |req| #{})",
            "patch point:GET /nope  refused: there is no point `GET /nope`",
        ),
    ] {
        let code = format!("config.db.host = \"h\"; {code}");
        let planned = format!("plan(|| {{ {code} }})");
        for arguments in [["--plan", &code], ["--persist", &planned]] {
            let arguments = [
                &["eval", &target, "--change", "--reason", "a test"],
                &arguments[..],
            ]
            .concat();
            let ctl = Ctl::run(&certificates, "alice", &arguments);
            assert_eq!(ctl.code, 1, "{}{}", ctl.out, ctl.err);
            assert!(ctl.out.contains(&format!("2. {refused}")), "{}", ctl.out);
            assert!(
                ctl.out
                    .contains("a plan: 1 effect, 1 refused; nothing was changed"),
                "{}",
                ctl.out
            );
        }
    }
}

/// Where no rule asks for a reason, the run still lacks the mode.
#[test]
fn a_plan_outside_the_mode_change_says_that_the_run_needs_it() {
    let certificates = Certificates::new();
    let policy = std::fs::read_to_string(certificates.folder().join("agent/policy.toml")).unwrap();
    let without: Vec<&str> = policy
        .lines()
        .filter(|line| !line.trim_start().starts_with("reason = "))
        .collect();
    assert!(without.len() < policy.lines().count(), "{policy}");
    certificates.write_policy(&without.join("\n"));
    let service = Service::start(&certificates);
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    let first = |client: &mut Client, code: &str| -> Value { client.eval(code).ok()["value"][0].clone() };
    let line = first(&mut client, "plan(|| config.db.port = 1)");
    assert_eq!(line["allowed"], false, "{line}");
    let verdict = line["verdict"].as_str().unwrap();
    assert!(
        verdict.starts_with("would need: mode change, as `:change REASON` enters it; then allowed by "),
        "{verdict}"
    );
    assert_eq!(client.eval("config.db.port = 1").failed().0, "denied");
    // Code that enters the mode itself, and a session that has entered it, lack nothing.
    let lines = client
        .eval("plan(|| { change(\"a test\"); config.db.port = 1; })")
        .ok()["value"]
        .clone();
    assert_eq!(lines[1]["allowed"], true, "{lines}");
    client.eval(r#"change("a test")"#).ok();
    assert_eq!(first(&mut client, "plan(|| config.db.port = 1)")["allowed"], true);
    client.eval("config.db.port = 1").ok();
}
