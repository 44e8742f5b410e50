//! Patches: in force at once, gone at the deadline, and never a reason for the service to fail.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use debug_tests::{Certificates, Client, Ctl, Service, http, wait};
use serde_json::json;

struct Set {
    certificates: Certificates,
    service: Service,
    client: Client,
}

const HEALTH: &str = "GET /api/healthcheck";

impl Set {
    fn new() -> Self {
        let certificates = Certificates::new();
        let service = Service::start(&certificates);
        // A route becomes a point at its first call.
        assert_eq!(service.health().body, r#"{"status":"ok"}"#);
        let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
        client.eval(r#"change("INC-42 a test")"#).ok();
        Self {
            certificates,
            service,
            client,
        }
    }

    /// Patches the health check; returns the lease.
    #[track_caller]
    fn patch(&mut self, code: &str, options: &str) -> u64 {
        let reply = self
            .client
            .eval(&format!("patch(\"{HEALTH}\", {code}, {options})"));
        reply.ok()["leases"][0]["id"].as_u64().unwrap()
    }

    /// The patch is applied and fails at its first call: the service answers as without it.
    #[track_caller]
    fn patch_fails(&mut self, code: &str) {
        let id = self.patch(code, "#{}");
        let answer = self.service.health();
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, r#"{"status":"ok"}"#),
            "{code}"
        );
        self.client.eval(&format!("revert({id})"));
    }

    /// The patch is refused; the message contains all of `said`.
    #[track_caller]
    fn refused(&mut self, code: &str, said: &[&str]) {
        let (_, message) = self.client.eval(code).failed();
        for part in said {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
        assert_eq!(self.service.health().status, 200);
        assert_eq!(self.client.eval("leases().len()").display(), "0");
    }
}

/// The README's scenario.
#[test]
fn a_route_is_a_teapot_until_its_deadline() {
    let mut set = Set::new();
    let code = r#"|req| {
        log_warn("a china teapot revolving about the sun");
        #{ status: 418, body: #{ status: "I'm a teapot" } }
    }"#;
    set.patch(code, r#"#{ ttl: "2s" }"#);
    let answer = set.service.health();
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (418, r#"{"status":"I'm a teapot"}"#)
    );
    let line = set.service.wait_for_log("a china teapot revolving about the sun");
    assert!(
        line.contains("debug_agent::script") && line.contains("alice"),
        "{line}"
    );
    let other = http::request(set.service.http, "GET", "/nowhere", &[], "").unwrap();
    assert_eq!(
        (other.status, other.body.as_str()),
        (404, r#"{"message":"Page not found"}"#)
    );
    wait::until_true("the deadline has passed", || set.service.health().status == 200);
    wait::until_true("the lease is gone", || {
        set.client.eval("leases().len()").display() == "0"
    });
}

#[test]
fn a_patch_needs_the_mode_change() {
    let mut set = Set::new();
    set.client.eval("observe()").ok();
    let reply = set
        .client
        .eval(&format!("patch(\"{HEALTH}\", |req| #{{ status: 418 }})"));
    assert_eq!(reply.failed().0, "denied");
    assert!(reply.help().contains("mode change"), "{}", reply.help());
}

#[test]
fn a_viewer_is_denied_with_what_would_help() {
    let set = Set::new();
    let mut vera = Client::attach(set.service.agent(), &set.certificates.operator("vera"));
    let reply = vera.eval(r#"change("let me")"#);
    assert_eq!(reply.failed().0, "denied");
    assert!(!reply.help().is_empty());
}

#[test]
fn longer_than_policy_allows_is_denied_with_the_limit() {
    let mut set = Set::new();
    let reply = set.client.eval(&format!(
        "patch(\"{HEALTH}\", |req| #{{ status: 418 }}, #{{ ttl: \"2h\" }})"
    ));
    assert_eq!(reply.failed().0, "denied");
    assert!(reply.help().contains("30m"), "{}", reply.help());
}

/// T79.
#[test]
fn durations_without_sense_are_refused() {
    let mut set = Set::new();
    for ttl in [
        r#""0s""#,
        r#""-5m""#,
        r#""10""#,
        "10",
        r#""99999999999999999999h""#,
        r#""NaN""#,
        r#""""#,
    ] {
        set.refused(
            &format!("patch(\"{HEALTH}\", |req| #{{}}, #{{ ttl: {ttl} }})"),
            &["patch"],
        );
    }
}

#[test]
fn an_unknown_point_is_named_with_the_nearest() {
    let mut set = Set::new();
    set.refused(
        r#"patch("GET /api/healtcheck", |req| #{})"#,
        &["GET /api/healtcheck", HEALTH],
    );
}

#[test]
fn a_route_never_called_needs_unseen() {
    let mut set = Set::new();
    set.refused(r#"patch("GET /api/never", |req| #{})"#, &["GET /api/never"]);
    let reply = set
        .client
        .eval(r#"patch("GET /api/never", |req| #{}, #{ unseen: true })"#);
    assert!(
        reply.display().contains("matched 0 requests"),
        "{}",
        reply.display()
    );
}

#[test]
fn a_patch_that_does_not_compile_or_could_not_run_is_refused() {
    let mut set = Set::new();
    set.refused(&format!("patch(\"{HEALTH}\", |req| )"), &[]);
    set.refused(&format!("patch(\"{HEALTH}\", |req| nosuch(req))"), &["nosuch"]);
    set.refused(&format!("patch(\"{HEALTH}\", |req| missing + 1)"), &["missing"]);
    set.refused(
        &format!("patch(\"{HEALTH}\", |a, b| #{{}})"),
        &["2 arguments", "1"],
    );
    set.refused(&format!("patch(\"{HEALTH}\", 5)"), &["function"]);
    set.refused(
        &format!("patch(\"{HEALTH}\", |req| set(\"config.server.port\", 1))"),
        &["set", "no operator"],
    );
    set.refused(
        &format!("patch(\"{HEALTH}\", |req| reveal(\"config.slack.token\"))"),
        &["reveal"],
    );
    set.refused(
        &format!("patch(\"{HEALTH}\", |req| get(\"config.\" + \"db\"))"),
        &["computes"],
    );
    set.refused(
        &format!("let t = config.slack.token; patch(\"{HEALTH}\", |req| t)"),
        &["captures"],
    );
    set.refused(
        &format!("let c = config; patch(\"{HEALTH}\", |req| c.db.host)"),
        &["captures"],
    );
}

/// Invariant 5, on a worker thread of the service with a stack of 2 MiB.
#[test]
fn a_patch_that_fails_is_as_if_it_were_not_there() {
    let mut set = Set::new();
    for code in [
        r#"|req| { throw "no" }"#,
        "|req| { loop {} }",
        "|req| { loop { try { [1].map(|x| { loop {} }) } catch {} } }",
        "|req| { let f = |g| g.call(g); f.call(f) }",
        r#"|req| { let s = "a"; loop { s += s; } }"#,
        "|req| { let a = [1]; loop { a = [a, a]; } }",
        "|req| { let m = #{}; loop { m.a = m; } }",
        "|req| { let a = []; loop { a.push(a); } }",
        "|req| 1 / 0",
        "|req| { let n = 5; n }",
        "|req| { let code = 99; #{ status: code } }",
        "|req| { let answer = #{ status: 200 }; answer.bodi = 1; answer }",
        "|req| { let h = #{}; h[\"content-length\"] = \"3\"; #{ status: 200, headers: h } }",
    ] {
        set.patch_fails(code);
    }
    let log = set.service.log();
    assert!(!log.contains("panicked"), "{log}");
}

/// At the prompt the same names are errors.
#[test]
fn a_name_that_a_map_of_the_agent_lacks_fails_the_patch() {
    let mut set = Set::new();
    for (expression, said) in [
        (
            r#"get("config.db").hots"#,
            "there is no `hots` in it; did you mean `host`?",
        ),
        (
            "req.hedaers",
            "there is no `hedaers` in it; did you mean `headers`?",
        ),
        ("row.nmae", "there is no `nmae` in it; did you mean `name`?"),
        (r#"get("config.db.hots")"#, "did you mean"),
    ] {
        let code = format!("|req| #{{ status: 418, body: `${{{expression}}}` }}");
        let reply = set
            .client
            .eval(&format!("let row = points()[0]; patch(\"{HEALTH}\", {code})"));
        let id = reply.ok()["leases"][0]["id"].clone();
        let answer = set.service.health();
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, r#"{"status":"ok"}"#),
            "{code}"
        );
        let listed = set.client.eval("`${leases()}`").display().to_owned();
        assert!(listed.contains(said), "{code}: {listed}");
        set.client.eval(&format!("revert({id})")).ok();
    }
    let (_, message) = set
        .client
        .eval(&format!("patch(\"{HEALTH}\", |req| {{ lgo_warn(\"x\"); req }})"))
        .failed();
    assert!(message.contains("did you mean `log_warn`?"), "{message}");
    // A header that a request lacks is no mistake.
    let code = "|req| #{ status: 418, body: type_of(req.headers.authorization) }";
    set.patch(code, "#{}");
    let answer = set.service.health();
    assert_eq!((answer.status, answer.body.as_str()), (418, "()"));
}

/// The parts of an answer that are literals are checked when the patch is made.
#[test]
fn a_patch_whose_answer_can_be_seen_to_be_wrong_is_refused_when_it_is_made() {
    let mut set = Set::new();
    for (code, said) in [
        ("|req| 5", "not a number"),
        ("|req| \"text\"", "not a string"),
        ("|req| ()", "not `()`"),
        ("|req| #{ staus: 418 }", "it has `staus`; did you mean `status`?"),
        (
            "|req| if req.path == \"/\" { #{ status: 200 } } else { #{ statuss: 418 } }",
            "did you mean `status`?",
        ),
        (
            "|req| { if req.path == \"/\" { return #{ bodi: req.path } } #{} }",
            "did you mean `body`?",
        ),
        ("|req| #{ status: 99 }", "from 200 to 599, not 99"),
        (
            "|req| #{ status: 1000, body: req.path }",
            "from 200 to 599, not 1000",
        ),
        ("|req| #{ status: \"418\" }", "not a string"),
        (
            "|req| #{ status: 200, headers: #{ \"content-length\": \"3\" } }",
            "follows from the body",
        ),
        (
            "|req| #{ headers: #{ \"a b\": req.path } }",
            "not a header's name",
        ),
        ("|req| #{ status: 204, body: \"x\" }", "has no body"),
        ("|req| Err(\"no\")", "a route's patch answers a map"),
    ] {
        set.refused(&format!("patch(\"{HEALTH}\", {code})"), &[said, "line 1"]);
    }
}

/// Recursion of the script's own functions, to the depth that it may try.
#[test]
fn a_recursing_patch_does_not_overflow_the_stack() {
    let mut set = Set::new();
    let code = format!("fn down(n) {{ [n].map(|x| down(x + 1)) }} patch(\"{HEALTH}\", |req| down(0))");
    set.client.eval(&code).ok();
    assert_eq!(set.service.health().status, 200);
    assert!(set.service.is_alive());
}

#[test]
fn five_failures_in_a_row_end_the_lease() {
    let mut set = Set::new();
    set.patch(r#"|req| { throw "no" }"#, "#{}");
    for _ in 0..5 {
        assert_eq!(set.service.health().status, 200);
    }
    wait::until_true("the breaker has ended the lease", || {
        set.client.eval("leases().len()").display() == "0"
    });
    set.service.wait_for_log("breaker");
}

/// Invariant 13.
#[test]
fn what_a_patch_captured_does_not_change_afterwards() {
    let mut set = Set::new();
    set.client.eval(&format!("let status = 418; let body = #{{ a: [1] }}; patch(\"{HEALTH}\", |req| #{{ status: status, body: body }})")).ok();
    set.client.eval("status = 500; body.a = [2];").ok();
    let answer = set.service.health();
    assert_eq!((answer.status, answer.body.as_str()), (418, r#"{"a":[1]}"#));
}

/// Invariant 13: a function of the session, redefined.
#[test]
fn a_function_that_a_patch_calls_does_not_change_afterwards() {
    let mut set = Set::new();
    set.client
        .eval(&format!(
            "fn code() {{ 418 }} patch(\"{HEALTH}\", |req| #{{ status: code() }})"
        ))
        .ok();
    set.client.eval("fn code() { 500 }").ok();
    assert_eq!(set.service.health().status, 418);
}

#[test]
fn a_second_patch_needs_over_and_ends_on_its_own() {
    let mut set = Set::new();
    let first = set.patch("|req| #{ status: 418 }", "#{}");
    let (code, message) = set
        .client
        .eval(&format!("patch(\"{HEALTH}\", |req| #{{ status: 419 }})"))
        .failed();
    assert_eq!(code, "state");
    assert!(message.contains(&format!("lease {first} of alice")), "{message}");
    let second = set.patch("|req| #{ status: 419 }", &format!("#{{ over: {first} }}"));
    assert_eq!(set.service.health().status, 419);
    set.client.eval(&format!("revert({second})")).ok();
    assert_eq!(set.service.health().status, 418);
    set.client.eval(&format!("revert({first})")).ok();
    assert_eq!(set.service.health().status, 200);
    let (_, message) = set.client.eval(&format!("revert({first})")).failed();
    assert!(message.contains("has already ended"), "{message}");
}

/// A function point, on the service's own threads, called by a request with Slack's signature.
#[test]
fn a_function_is_patched_and_reverted_by_hand() {
    let mut set = Set::new();
    let before = who(&set.service);
    let reply = set
        .client
        .eval(r#"patch("dienstplan::rota::next_on_duty", |rota, now| "mallory", #{ ttl: "5m" })"#);
    let id = reply.ok()["leases"][0]["id"].as_u64().unwrap();
    assert!(who(&set.service).contains("mallory"));
    let ctl = Ctl::run(
        &set.certificates,
        "alice",
        &["revert", &set.service.agent().to_string(), &id.to_string()],
    );
    assert_eq!(ctl.code, 0, "{}", ctl.err);
    assert_eq!(who(&set.service), before);
}

/// Asks the bot who is on duty.
fn who(service: &Service) -> String {
    let body = json!({ "type": "event_callback", "event": { "type": "app_mention", "user": "U1", "channel": "C1", "text": "<@BOT> who" } }).to_string();
    let answer = slack(service, &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

fn slack(service: &Service, body: &str) -> http::Answer {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        .to_string();
    let sig = debug_tests::slack_signature(debug_tests::process::SLACK_SIGN, &now, body);
    let headers = [
        ("content-type", "application/json"),
        ("x-slack-request-timestamp", now.as_str()),
        ("x-slack-signature", sig.as_str()),
    ];
    http::request(service.http, "POST", "/api/events", &headers, body).unwrap()
}

/// The body is read only if the patch mentions it; the original then still gets the body that was sent.
#[test]
fn a_failing_patch_leaves_the_body_to_the_original() {
    let mut set = Set::new();
    let challenge = json!({ "type": "url_verification", "challenge": "abc" }).to_string();
    let before = slack(&set.service, &challenge);
    assert_eq!(before.status, 200);
    set.client
        .eval(r#"patch("POST /api/events", |req| { let x = req.body; throw "no" })"#)
        .ok();
    assert_eq!(slack(&set.service, &challenge).body, before.body);
}

#[test]
fn the_request_is_what_was_sent_and_its_credentials_are_opaque() {
    let mut set = Set::new();
    set.patch("|req| #{ body: #{ method: req.method, path: req.path, query: req.query, auth: `${req.headers.contains(\"authorization\")}` } }", "#{}");
    let answer = http::request(
        set.service.http,
        "GET",
        "/api/healthcheck?a=1",
        &[("authorization", "Basic bm9ib2R5")],
        "",
    )
    .unwrap();
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(
        body,
        json!({ "method": "GET", "path": "/api/healthcheck", "query": { "a": "1" }, "auth": "true" })
    );
    set.client.eval("revert_all()").ok();
    set.patch("|req| #{ body: req.headers.authorization }", "#{}");
    let answer = http::request(
        set.service.http,
        "GET",
        "/api/healthcheck",
        &[("authorization", "Basic bm9ib2R5")],
        "",
    )
    .unwrap();
    assert!(!answer.body.contains("bm9ib2R5"), "{}", answer.body);
}

/// The demo verifies Slack's signature in a layer outside the agent's.
#[test]
fn a_patched_route_still_asks_for_what_lies_outside_the_agents_layer() {
    let mut set = Set::new();
    assert_eq!(
        slack(&set.service, r#"{"type":"url_verification","challenge":"a"}"#).status,
        200
    );
    let planned = set
        .client
        .eval("plan(|| patch(\"POST /api/events\", |req| #{ status: 418 }))")
        .display()
        .to_owned();
    assert!(
        planned.contains("answers before the handler") && planned.contains("behind `slack`"),
        "{planned}"
    );
    let reply = set
        .client
        .eval(r#"patch("POST /api/events", |req| #{ status: 418 })"#);
    assert!(
        reply
            .display()
            .ends_with("; it answers before the handler, behind `slack`"),
        "{}",
        reply.display()
    );
    assert_eq!(slack(&set.service, "{}").status, 418);
    let unsigned = http::request(set.service.http, "POST", "/api/events", &[], "{}").unwrap();
    assert_eq!(unsigned.status, 401, "{}", unsigned.body);
    let described = set.client.eval(r#"describe("POST /api/events")"#).ok()["value"].clone();
    assert_eq!(described["behind"], json!(["slack"]));
    assert!(
        described["leaves_out"].as_str().unwrap().contains("the handler"),
        "{described}"
    );
}

#[test]
fn a_patch_reads_a_literal_path() {
    let mut set = Set::new();
    set.patch(r#"|req| #{ body: get("config.db.host") }"#, "#{}");
    assert_eq!(set.service.health().body, "localhost");
}

/// T46.
#[test]
fn what_a_script_logs_is_one_line_and_says_whose_it_is() {
    let mut set = Set::new();
    set.client
        .eval("log_info(\"first\\nINFO dienstplan: forged\\u001b[2J\")")
        .ok();
    let line = set.service.wait_for_log("forged");
    assert!(
        line.contains("debug_agent::script") && !line.contains('\u{1b}'),
        "{line}"
    );
}
