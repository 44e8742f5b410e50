//! What undoing a change does to changes above, below and inside it, and to later writes of the service itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use debug_tests::process::SLACK_SIGN;
use debug_tests::{Certificates, Client, Ctl, Service, http, slack_signature, wait};
use serde_json::{Value, json};

fn attach() -> (Certificates, Service, Client) {
    let certificates = Certificates::new();
    let service = Service::start(&certificates);
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    client.eval(r#"change("a test")"#).ok();
    (certificates, service, client)
}

/// The lease that a change made.
#[track_caller]
fn made(client: &mut Client, code: &str) -> u64 {
    client.eval(code).ok()["leases"][0]["id"].as_u64().unwrap()
}

/// The service itself changes who is on duty, and since when.
fn rotate(service: &Service) {
    let body = r#"{"type":"event_callback","event":{"type":"app_mention","user":"U1","channel":"C1","text":"<@BOT> rotate"}}"#;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        .to_string();
    let signature = slack_signature(SLACK_SIGN, &now, body);
    let headers = [
        ("content-type", "application/json"),
        ("x-slack-request-timestamp", now.as_str()),
        ("x-slack-signature", signature.as_str()),
    ];
    let answer = http::request(service.http, "POST", "/api/events", &headers, body).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// The records of one kind.
fn records(certificates: &Certificates, kind: &str) -> Vec<Value> {
    let files = std::fs::read_dir(certificates.audit())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
        .collect();
    files.sort();
    let text: String = files
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let records = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.filter(|record| record["kind"] == kind).collect()
}

/// T76.
#[test]
fn what_the_service_changed_meanwhile_is_not_overwritten_and_the_rest_is_undone() {
    let (certificates, service, mut client) = attach();
    let id = made(
        &mut client,
        r#"let r = get("rota"); r.name = "other"; r.on_duty = "ben"; set("rota", r)"#,
    );
    rotate(&service);
    let after = client.eval("rota.on_duty").display().to_owned();
    let said = client.eval(&format!("revert({id})")).display().to_owned();
    assert!(
        said.contains("`rota.on_duty`") && said.contains("settle"),
        "{said}"
    );
    assert_eq!(client.eval("rota.name").display(), "\"on-call\"");
    assert_eq!(client.eval("rota.on_duty").display(), after);
    let row = client.eval("leases()").ok()["value"][0].clone();
    assert_eq!(
        (row["id"].as_u64(), row["state"].as_str()),
        (Some(id), Some("conflict")),
        "{row}"
    );
    let ended = records(&certificates, "lease.conflict");
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0]["conflict"]["ended_as"], "lease.reverted");
    let (_, message) = client.eval(&format!("revert({id})")).failed();
    assert!(message.contains("conflict"), "{message}");
}

#[test]
fn a_conflict_is_kept_or_forced_once() {
    let (certificates, service, mut client) = attach();
    for (how, expected) in [("keep", None), ("force", Some(()))] {
        let before = client.eval("rota.on_duty").display().to_owned();
        let ours = if how == "keep" { "ben" } else { "anna" };
        // It continues from there: to a person who was not on duty before.
        let id = made(&mut client, &format!("rota.on_duty = \"{ours}\""));
        rotate(&service);
        let theirs = client.eval("rota.on_duty").display().to_owned();
        client.eval(&format!("revert({id})")).ok();
        assert_eq!(
            client.eval(&format!("settle({id}, \"later\")")).failed().0,
            "state"
        );
        client.eval(&format!("settle({id}, \"{how}\")")).ok();
        assert_ne!(before, theirs);
        let stands = if expected.is_some() { &before } else { &theirs };
        assert_eq!(client.eval("rota.on_duty").display(), stands);
        assert_eq!(client.eval("leases().len()").display(), "0");
        client.eval(&format!("settle({id}, \"{how}\")")).failed();
        let settled = records(&certificates, "lease.settled");
        assert_eq!(settled.last().unwrap()["how"], how);
    }
}

/// A viewer may not settle a conflict; one's own lease in force has none.
#[test]
fn settling_needs_a_conflict_and_a_permission() {
    let (certificates, service, mut client) = attach();
    let id = made(&mut client, r#"rota.on_duty = "ben""#);
    let (_, message) = client.eval(&format!("settle({id}, \"force\")")).failed();
    assert!(message.contains("in force"), "{message}");
    rotate(&service);
    client.eval(&format!("revert({id})")).ok();
    let mut vera = Client::attach(service.agent(), &certificates.operator("vera"));
    assert_eq!(
        vera.eval(&format!("settle({id}, \"force\")")).failed().0,
        "denied"
    );
}

/// T80: the live value is that of the newest change in force.
#[test]
fn changes_on_top_of_around_and_inside_one_another_end_in_any_order() {
    let (certificates, _service, mut client) = attach();
    let read = |client: &mut Client| {
        client
            .eval(r#"get("config.db").to_string()"#)
            .display()
            .to_owned()
    };
    let before = read(&mut client);
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
        let first = made(&mut client, "config.db.port = 1111");
        let second = made(
            &mut client,
            &format!("set(\"config.db.port\", 2222, #{{ over: {first} }})"),
        );
        let around = format!(
            "let d = get(\"config.db\"); d.port = 3333; d.host = \"elsewhere\"; set(\"config.db\", d, #{{ over: {second} }})"
        );
        let third = made(&mut client, &around);
        let inside = format!("set(\"config.db.port\", 4444, #{{ over: {third} }})");
        let fourth = made(&mut client, &inside);
        let ids = [first, second, third, fourth];
        let mut standing: Vec<u64> = ids.to_vec();
        for at in order {
            client.eval(&format!("revert({})", ids[at])).ok();
            standing.retain(|id| *id != ids[at]);
            let port = [
                (fourth, "4444"),
                (third, "3333"),
                (second, "2222"),
                (first, "1111"),
            ];
            if let Some((_, port)) = port.iter().find(|(id, _)| standing.contains(id)) {
                assert_eq!(
                    client.eval("config.db.port").display(),
                    *port,
                    "{order:?}, without {}",
                    ids[at]
                );
            }
            let host = if standing.contains(&third) {
                "\"elsewhere\""
            } else {
                "\"localhost\""
            };
            assert_eq!(client.eval("config.db.host").display(), host);
        }
        assert_eq!(read(&mut client), before);
    }
    let audit = certificates.audit();
    let verified = Ctl::run(
        &certificates,
        "alice",
        &["audit", "verify", audit.to_str().unwrap()],
    );
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
}

/// T72: a second change at a place is refused, and the refusal names the first.
#[test]
fn a_place_that_is_changed_is_changed_again_only_on_purpose() {
    let (_certificates, _service, mut client) = attach();
    let id = made(&mut client, "config.db.port = 1111");
    for code in [
        "config.db.port = 2",
        r#"let d = get("config.db"); d.port = 2; set("config.db", d)"#,
    ] {
        let reply = client.eval(code);
        let (kind, message) = reply.failed();
        assert_eq!(kind, "state");
        assert!(message.contains(&format!("lease {id} of alice")), "{message}");
        assert!(reply.help().contains(&format!("over: {id}")), "{}", reply.help());
    }
    client.eval("config.db.host = \"elsewhere\"").ok();
    assert_eq!(client.eval("config.db.port").display(), "1111");
}

/// Two operators at once: one changes the place, the other gets an error that names the obstacle, a change or one in progress,
/// and the value is never a mixture.
#[test]
fn of_two_sessions_that_change_one_place_at_once_one_does() {
    let (certificates, service, mut alice) = attach();
    let mut bob = Client::attach(service.agent(), &certificates.operator("bob"));
    bob.eval(r#"change("a test")"#).ok();
    let before = alice.eval("config.db").display().to_owned();
    for round in 0..40 {
        let write = |port: u32| json!({ "code": format!("config.db.port = {port}"), "after": "revert" });
        let (first, second) = (alice.start_payload(&write(1111)), bob.start_payload(&write(2222)));
        let replies = [
            (alice.reply(first).unwrap(), "1111"),
            (bob.reply(second).unwrap(), "2222"),
        ];
        let (made, refused): (Vec<_>, Vec<_>) = replies
            .iter()
            .partition(|(reply, _)| reply.0.get("result").is_some());
        assert_eq!((made.len(), refused.len()), (1, 1), "round {round}: {replies:?}");
        let (kind, message) = refused[0].0.failed();
        let (mine, name) = (made[0].0.ok(), if made[0].1 == "1111" { "alice" } else { "bob" });
        let lease = format!("already changed by lease {} of {name}", mine["leases"][0]["id"]);
        let eval = format!(
            "is being changed by eval {} of {name} at this moment",
            mine["audit"]["eval"]
        );
        let told = message.contains(&lease) || message.contains(&eval);
        assert!(
            kind == "state" && told,
            "round {round}: {message}, not `{lease}` or `{eval}`"
        );
        assert_eq!(alice.eval("config.db.port").display(), made[0].1);
        alice.eval("revert_all()").ok();
        bob.eval("revert_all()").ok();
        assert_eq!(alice.eval("config.db").display(), before);
    }
}

#[test]
fn an_adopted_change_outlives_the_session_that_made_it() {
    let (certificates, service, mut client) = attach();
    let id = made(&mut client, "config.db.port = 1111");
    let mut bob = Client::attach(service.agent(), &certificates.operator("bob"));
    bob.eval(r#"change("a test")"#).ok();
    assert_eq!(bob.eval(&format!("adopt({id})")).failed().0, "denied");
    let mut lea = Client::attach(service.agent(), &certificates.operator("lea"));
    lea.eval(r#"change("a test")"#).ok();
    let said = lea.eval(&format!("adopt({id})")).display().to_owned();
    assert!(said.contains("it was alice's"), "{said}");
    client.vanish();
    wait::until_true("the loss was noticed", || {
        lea.eval("sessions().len()").display() == "2"
    });
    let row = lea.eval("leases()").ok()["value"][0].clone();
    assert_eq!(
        (row["owner"].as_str(), row["note"].as_str()),
        (Some("lea"), Some("")),
        "{row}"
    );
    assert_eq!(records(&certificates, "lease.adopted").len(), 1);
}

/// Its eval failed: the lease belongs to its earlier owner again.
#[test]
fn an_adoption_is_undone_with_its_eval() {
    let (certificates, service, mut client) = attach();
    let id = made(&mut client, "config.db.port = 1111");
    let mut lea = Client::attach(service.agent(), &certificates.operator("lea"));
    lea.eval(r#"change("a test")"#).ok();
    lea.eval(&format!("adopt({id}); throw \"no\"")).failed();
    let row = client.eval("leases()").ok()["value"][0].clone();
    assert_eq!(row["owner"], "alice", "{row}");
}

#[test]
fn a_second_confirmation_is_told_that_there_was_a_first() {
    let (_certificates, _service, mut client) = attach();
    let id = made(&mut client, "config.db.port = 1111");
    client.eval(&format!("confirm({id}, \"10m\")")).ok();
    let reply = client.eval(&format!("confirm({id}, \"10m\")"));
    let (_, message) = reply.failed();
    assert!(message.contains("confirmed before"), "{message}");
    assert!(reply.help().contains("extend"), "{}", reply.help());
}

/// T79.
#[test]
fn durations_of_no_length_below_none_too_long_or_without_a_unit_are_refused() {
    let (_certificates, _service, mut client) = attach();
    let id = made(&mut client, "config.db.port = 1111");
    for ttl in [
        "\"0s\"",
        "\"-5m\"",
        "\"18446744073709551616s\"",
        "\"NaN\"",
        "\"10\"",
        "10",
        "\"\"",
        "\"5 m\"",
    ] {
        for code in [
            format!("confirm({id}, {ttl})"),
            format!("extend({id}, {ttl})"),
            format!("set(\"config.db.host\", \"x\", #{{ ttl: {ttl} }})"),
        ] {
            let (kind, message) = client.eval(&code).failed();
            assert_eq!(kind, "state", "{code}: {message}");
        }
    }
    assert_eq!(client.eval("leases().len()").display(), "1");
}

/// `persist: true` keeps a change until its deadline although its session is lost.
#[test]
fn a_change_that_persists_does_not_depend_on_its_session() {
    let (certificates, service, mut client) = attach();
    made(&mut client, r#"set("config.db.port", 1111, #{ persist: true })"#);
    client.vanish();
    let mut vera = Client::attach(service.agent(), &certificates.operator("vera"));
    wait::until_true("the loss was noticed", || {
        vera.eval("sessions().len()").display() == "1"
    });
    let row = vera.eval("leases()").ok()["value"][0].clone();
    assert_eq!(row["note"], "", "{row}");
    assert!(row["reverts_in_ms"].as_u64().unwrap() > 300_000, "{row}");
}

/// A guard is true before the change, and ends it when it becomes false; the reason tells what the guard saw.
#[test]
fn a_change_ends_when_its_guard_is_false() {
    let (certificates, service, mut client) = attach();
    service.health();
    let id = made(
        &mut client,
        r##"patch("GET /api/healthcheck", |req| #{ status: 503 }, #{ guard: |s| s.errors < 3 })"##,
    );
    assert_eq!(service.health().status, 503);
    wait::until_true("the guard ended it", || service.health().status == 200);
    wait::until_true("its record", || {
        records(&certificates, "lease.guard-failed").len() == 1
    });
    let ended = &records(&certificates, "lease.guard-failed")[0];
    assert_eq!(ended["lease"].as_u64(), Some(id));
    let seen = ended["detail"].as_str().unwrap();
    assert!(seen.contains("\"errors\":"), "{seen}");
    // The lease's holder is told that it ended, but not what the guard saw: its author may be permitted to see more.
    let told = wait::until("its holder is told", || {
        client.call("ping", json!({})).ok()["ended"].get(0).cloned()
    });
    assert_eq!(
        (&told["id"], &told["how"], &told["why"]),
        (&json!(id), &json!("guard-failed"), &Value::Null)
    );
}

/// The route is not patched: its calls are counted for the guard that names it, from the change on.
#[test]
fn a_guard_counts_the_calls_of_a_route_that_it_names() {
    let (certificates, service, mut client) = attach();
    for _ in 0..5 {
        service.health();
    }
    let guard = r#"|s| s.points["GET /api/healthcheck"].calls < 3"#;
    let before = client.eval("config.db.port").display().to_owned();
    made(
        &mut client,
        &format!("set(\"config.db.port\", 1111, #{{ guard: {guard} }})"),
    );
    let lease = &records(&certificates, "lease.made")[0];
    assert_eq!(
        lease["guard"]["counts"],
        json!(["GET /api/healthcheck"]),
        "{lease}"
    );
    for _ in 0..2 {
        assert_eq!(service.health().status, 200);
    }
    assert_eq!(client.eval("config.db.port").display(), "1111");
    service.health();
    wait::until_true("the guard ended it", || {
        client.eval("config.db.port").display() == before
    });
    let ended = &records(&certificates, "lease.guard-failed")[0];
    let seen = ended["detail"].as_str().unwrap();
    assert!(
        seen.contains(r#""GET /api/healthcheck":{"calls":3,"errors":0"#),
        "{seen}"
    );
}

#[test]
fn a_guard_that_reads_a_state_ends_a_change_of_another() {
    let (_certificates, service, mut client) = attach();
    let id = made(&mut client, "config.db.port = 1111");
    client
        .eval(&format!("guard({id}, |s| get(\"rota.on_duty\") == \"anna\")"))
        .ok();
    let (_, message) = client.eval(&format!("guard({id}, |s| true)")).failed();
    assert!(message.contains("has a guard already"), "{message}");
    assert_eq!(client.eval("config.db.port").display(), "1111");
    rotate(&service);
    wait::until_true("the guard ended it", || {
        client.eval("config.db.port").display() != "1111"
    });
}

#[test]
fn a_guard_that_does_not_hold_or_cannot_tell_keeps_its_change_from_being_made() {
    let (_certificates, service, mut client) = attach();
    service.health();
    let before = client.eval("config.db.port").display().to_owned();
    for (guard, expected) in [
        ("|s| false", "does not hold"),
        ("|s| s.calls", "instead of true or false"),
        ("|s| { loop { } }", "cannot tell"),
        ("|s| throw \"no\"", "cannot tell"),
        // A missing value is a mistake, and not a value that is never reached.
        ("|s| !(s.gauges.queu > 10)", "cannot tell"),
        ("|s| s.nope == ()", "nope"),
        (
            "|s| s.points[\"GET /api/helthcheck\"].errors != 3",
            "did you mean `GET /api/healthcheck`?",
        ),
        (
            "|s| s.error < 3",
            "it reads `error`, which is not there; did you mean `errors`?",
        ),
        (
            "|s| s.foo",
            "a guard is given calls, errors, failures, mean_us, p99_us, points, gauges; gauges: ",
        ),
        ("|s| throw \"no\"", "it threw `"),
        ("|a, b| true", "takes 2 arguments"),
        ("|s| set(\"config.db.port\", 1)", "has an effect"),
        ("7", "must be a function"),
    ] {
        let (_, message) = client
            .eval(&format!("set(\"config.db.port\", 1, #{{ guard: {guard} }})"))
            .failed();
        assert!(message.contains(expected), "{guard}: {message}");
        assert_eq!(client.eval("config.db.port").display(), before);
    }
    assert_eq!(client.eval("leases().len()").display(), "0");
}
