//! Attacks of an operator with a valid certificate.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use debug_tests::{Certificates, Client, Service};

struct Set {
    certificates: Certificates,
    service: Service,
}

impl Set {
    fn new() -> Self {
        let certificates = Certificates::new();
        let service = Service::start(&certificates);
        Self {
            certificates,
            service,
        }
    }

    fn attach(&self, operator: &str) -> Client {
        Client::attach(self.service.agent(), &self.certificates.operator(operator))
    }

    fn changing(&self, operator: &str) -> Client {
        let mut client = self.attach(operator);
        client.eval(r#"change("a test")"#).ok();
        client
    }

    /// The peak memory of the service, in MiB.
    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.service.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
    }
}

/// Lists of lists in transit between functions are in no variable, and only variables are measured.
#[test]
fn what_an_eval_holds_beside_its_variables_is_bounded() {
    const LISTS: &str = r#"let s = ""; s.pad(9998, ','); let b = s.split(",").map(|x| []); let s = ""; s.pad(9999, ',');
        let o = s.split(","); "#;
    let many = |item: &str| vec![item; 3_000].join(",");
    let texts = r#"let s = ""; s.pad(65000, 'x'); "#;
    for code in [
        format!("{LISTS} o.map(|x| b).len()"),
        format!("{LISTS} o.reduce(|a, x| {{ a.push(b); a }}, [])"),
        format!("{LISTS} fn f() {{ 1 }} f({})", many("b")),
        format!("{LISTS} fn f() {{ 1 }} f({})", many("o + []")),
        format!("{texts} fn f() {{ 1 }} f({})", many("s + \"y\"")),
        format!("{texts} fn f() {{ 1 }} f({})", many("`${s}z`")),
        r#"let s = ""; s.pad(9999, ','); s.split(",").map(|x| { let t = ""; t.pad(16384, '😀'); t }).len()"#
            .to_owned(),
    ] {
        let set = Set::new();
        let before = set.peak();
        let (code_of, message) = set.attach("vera").eval(&code).failed();
        let said: String = code.chars().skip(code.len().saturating_sub(60)).collect();
        assert_eq!(code_of, "limit", "{message}: …{said}");
        let grown = set.peak() - before;
        assert!(grown < 128, "{grown} MiB: …{said}");
        assert_eq!(set.service.health().status, 200);
    }
}

/// Each character separately, past the search for known secrets.
const TAKEN_APART: &str = "let o = []; for c in text { o.push(c); } o";

fn log_of(certificates: &Certificates) -> String {
    let files = std::fs::read_dir(certificates.audit()).unwrap();
    files
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap_or_default())
        .collect()
}

/// Tokens that serve as keys of a lookup are names, not values.
#[test]
fn a_map_whose_names_are_secrets_is_secret_as_a_whole() {
    let certificates = Certificates::for_service("oddball");
    let service = Service::start_program("oddball", &certificates, &[("DEBUG_AGENT", "1")]);
    service.wait_for_log("the debug agent listens on");
    let mut client = Client::attach(service.agent(), &certificates.operator("vera"));
    for map in ["tenants.api_keys", "tenants.by_token"] {
        assert!(client.eval(map).display().starts_with("‹secret "), "{map}");
        for code in [format!("{map}.keys()"), format!("for x in {map} {{ print(x); }}")] {
            let (_, message) = client.eval(&code).failed();
            assert!(
                !message.contains("not-a-real") && !message.contains("not_a_real"),
                "{code}: {message}"
            );
        }
        for code in [format!("ls(\"{map}\")"), format!("describe(\"{map}\")")] {
            let shown = client.eval(&code).0.to_string();
            assert!(
                !shown.contains("not-a-real") && !shown.contains("not_a_real"),
                "{code}: {shown}"
            );
        }
    }
    assert!(!client.eval("tenants").display().contains("not"));
    assert!(client.eval("tenants.users").display().contains("bob@example.org"));
    let log = log_of(&certificates);
    assert!(
        !log.contains("not_a_real_key") && !log.contains("not-a-real-secret"),
        "the log holds a secret"
    );
    let (_, message) = client.eval(r#"set("tenants.by_token.other", 1)"#).failed();
    assert!(message.contains("denied"), "{message}");
}

/// T39: what exists and may not be seen looks like what does not exist.
#[test]
fn an_error_names_nothing_that_its_reader_may_not_see() {
    let certificates = Certificates::new();
    certificates.write_policy(
        r#"
            version = 1
            [[rule]]
            id = "attach"
            why = "to try"
            allow = ["attach", "list"]
            roles = ["viewer"]
            on = ["agent"]
            [[rule]]
            id = "little"
            why = "to try"
            allow = ["read"]
            roles = ["viewer"]
            on = ["state:config.db.x*", "state:config.db.host"]
        "#,
    );
    let service = Service::start(&certificates);
    let mut client = Client::attach(service.agent(), &certificates.operator("vera"));
    for code in ["config.db.xhost", r#"get("config.db.xhost")"#] {
        let (_, message) = client.eval(code).failed();
        assert!(message.contains("no such path `config.db.xhost`"), "{message}");
        assert!(message.contains("host") && !message.contains("port"), "{message}");
    }
    for code in [
        r#"get("config.db.prot")"#,
        r#"get("rota.x")"#,
        r#"describe("config.db.prot")"#,
    ] {
        let reply = client.eval(code);
        let (kind, _) = reply.failed();
        assert_eq!(kind, "denied", "{code}");
        assert!(!reply.0.to_string().contains("port"), "{code}");
    }
    let (_, message) = client.eval(r#"get("rotas")"#).failed();
    assert!(!message.contains("rota`"), "{message}");
}

/// A secret argument is secret only for its operator's eval, and hides nothing from other operators.
#[test]
fn secret_arguments_of_one_operator_do_not_touch_another() {
    // Ends at its time limit, which is the same on every machine.
    const SLOW: &str = r#"let s = ""; s.pad(9999, ','); let b = s.split(","); loop { let c = b; }"#;
    let set = Set::new();
    set.service.health();
    let mut alice = set.changing("alice");
    let patch =
        r#"patch("GET /api/healthcheck", |req| #{ status: 200, body: "host " + get("config.db.host") })"#;
    alice.eval(patch).ok();
    let mut vera = set.attach("vera");
    for value in ["localhost", "patch(\"GET"] {
        let payload = vera.secret_payload(SLOW, "x", value);
        let running = vera.start("eval", payload);
        for _ in 0..7 {
            assert!(set.service.health().body.contains("host localhost"));
        }
        assert_eq!(alice.eval("config.db.host").display(), "\"localhost\"");
        alice.eval(r#"revert_all(); patch("GET /api/healthcheck", |req| #{ status: 200, body: "host localhost" })"#).ok();
        vera.reply(running).unwrap().failed();
    }
}

#[test]
fn what_an_eval_writes_into_logs_is_bounded() {
    let set = Set::new();
    let mut vera = set.attach("vera");
    let (log, service) = (log_of(&set.certificates).len(), set.service.log().len());
    let (code, _) = vera
        .eval(r#"let s = ""; s.pad(65536, 'x'); loop { log_info(s); }"#)
        .failed();
    assert_eq!(code, "limit");
    let mib = |bytes: usize| bytes >> 20;
    assert!(mib(log_of(&set.certificates).len() - log) < 4);
    assert!(mib(set.service.log().len() - service) < 4);
}

#[test]
fn a_revealed_secret_does_not_become_the_name_of_a_point() {
    let set = Set::new();
    let mut lea = set.changing("lea");
    let code = r#"let t = reveal("config.slack.token"); patch("GET /x/" + t, |req| #{}, #{ unseen: true })"#;
    let (_, message) = lea.eval(code).failed();
    assert!(
        message.contains("holds a secret, which would stand in the log"),
        "{message}"
    );
    let names = format!("let text = points().map(|p| p.name).join(\" \"); {TAKEN_APART}");
    let shown = set
        .attach("vera")
        .eval(&names)
        .display()
        .replace(['\'', ',', ' ', '\n'], "");
    assert!(
        shown.contains("dienstplan::rota::next_on_duty") && !shown.contains("slack-token"),
        "{shown}"
    );
    assert!(!log_of(&set.certificates).contains("real-slack-token"));
}

/// Both are hidden: the new one before it was ever read, and the old one, which comes back.
#[test]
fn a_rotated_secret_is_known_at_once_and_the_old_one_still() {
    let set = Set::new();
    let mut alice = set.changing("alice");
    let payload = alice.secret_payload(
        r#"set("config.slack.token", text)"#,
        "text",
        "not-a-real-rotated-token",
    );
    alice.call("eval", payload).ok();
    let mut vera = set.attach("vera");
    for secret in ["not-a-real-rotated-token", "not-a-real-slack-token"] {
        let (first, rest) = secret.split_at(12);
        let shown = vera.eval(&format!("\"{first}\" + \"{rest}\""));
        assert_eq!(shown.display(), "\"‹secret›\"", "{secret}");
        assert_eq!(vera.eval(&format!("\"{secret}\"")).failed().0, "denied");
    }
    alice.eval("revert_all()").ok();
    assert_eq!(vera.eval("\"not-a-real-slack-token\"").failed().0, "denied");
}
