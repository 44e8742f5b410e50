//! Evals are bounded, hide secrets, and are undone as a whole when they fail.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use debug_tests::{Certificates, Client, Service, wait};
use serde_json::json;

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
}

#[test]
fn a_leaf_is_read_by_its_path() {
    let set = Set::new();
    let mut client = set.attach("vera");
    assert_eq!(client.eval("config.db.host").display(), "\"localhost\"");
    assert_eq!(client.eval(r#"get("config.db.host")"#).display(), "\"localhost\"");
    assert_eq!(
        client.eval("fn host() { config.db.host } host()").display(),
        "\"localhost\""
    );
    assert_eq!(client.eval("let config = 5; config").display(), "5");
}

#[test]
fn a_list_of_a_state_is_looped_over_with_one_read() {
    let set = Set::new();
    let mut client = set.attach("vera");
    let reply =
        client.eval("let n = []; for person in rota.people { n.push(person); } n == get(\"rota.people\")");
    assert_eq!(reply.display(), "true");
    let (code, message) = client.eval("for x in config.db { print(x); }").failed();
    assert_eq!(code, "eval");
    assert!(message.contains("`config.db.keys()`"), "{message}");
}

#[test]
fn a_path_that_does_not_exist_is_named_with_what_is_there() {
    let set = Set::new();
    let (code, message) = set.attach("alice").eval("config.db.hots").failed();
    assert_eq!(code, "state");
    assert!(
        message.contains("config.db.hots") && message.contains("host"),
        "{message}"
    );
}

#[test]
fn a_mistake_is_told_with_what_was_probably_meant() {
    let set = Set::new();
    let mut client = set.attach("alice");
    for (code, message, help) in [
        (
            "cofnig.db",
            "there is no variable or state `cofnig` (line 1, position 1)",
            "did you mean `config`?",
        ),
        (
            "nothing",
            "there is no variable or state `nothing`",
            "`ls()` lists the states",
        ),
        (
            "lease()",
            "there is no function `lease` for ()",
            "did you mean `leases`?",
        ),
        (
            "foo(1)",
            "there is no function `foo` for (an integer) (line 1, position 1)",
            "`help()` lists",
        ),
        (
            "\"a\" * 2",
            "`*` is not there for (text, an integer)",
            "nothing was changed",
        ),
        (
            "fn f(x) { x - 1 }\nf(\"a\")",
            "`-` is not there for (text, an integer) (line 1, position 13)",
            "nothing was changed",
        ),
        (
            "leases(1, 2)",
            "`leases` does not take (an integer, an integer)",
            "`help(\"leases\")`",
        ),
        (
            "throw \"teapot\"",
            "teapot (line 1, position 1)",
            "nothing was changed",
        ),
    ] {
        let reply = client.eval(code);
        let (kind, said) = reply.failed();
        assert_eq!(kind, "eval", "{code}");
        assert!(said.starts_with(message), "{code}: {said}");
        assert!(reply.help().contains(help), "{code}: {}", reply.help());
    }
}

/// A function of a later version does not count as misspelt.
#[test]
fn a_function_of_a_later_version_is_said_to_be_one() {
    let set = Set::new();
    let mut client = set.attach("alice");
    for name in debug_wire::table::LATER {
        let told = format!("`{name}` is not part of this version");
        for code in [
            format!("{name}()"),
            format!("{name}(\"a\")"),
            format!("{name}(\"a\", [1])"),
        ] {
            let (kind, message) = client.eval(&code).failed();
            assert_eq!(kind, "eval", "{code}: {message}");
            assert!(message.starts_with(&told), "{code}: {message}");
        }
        let help = client.eval(&format!("help(\"{name}\")"));
        match *name {
            // The language has a function with this name, too.
            "call" => assert!(help.display().ends_with(&told), "{}", help.display()),
            _ => assert_eq!(help.failed().1, told),
        }
    }
    assert_eq!(
        client.eval("fn watch(x) { x + 1 } watch(1)").display(),
        "2",
        "one's own is one's own"
    );
}

/// A secret argument is searched for only while its eval runs; it does not block other operators.
#[test]
fn a_secret_argument_locks_nobody_out() {
    let set = Set::new();
    let mut client = set.attach("vera");
    for value in ["\"code\":", "config.db.host"] {
        let payload = client.secret_payload("1", "x", value);
        let id = client.start("eval", payload);
        client.reply(id).unwrap().ok();
        assert_eq!(client.eval("config.db.host").display(), "\"localhost\"");
        set.attach("lea").eval("revert_all()").ok();
    }
}

#[test]
fn a_secret_does_not_get_into_the_log_as_a_reason_or_value() {
    let set = Set::new();
    let mut lea = set.changing("lea");
    for code in [
        r#"change(reveal("config.slack.token"))"#,
        r#"let t = reveal("config.slack.token"); patch("GET /api/healthcheck", |req| t)"#,
        r#"set("config.db.host", reveal("config.slack.token"))"#,
        r#"set("config.db.host", "a", #{ reason: reveal("config.slack.token") })"#,
        r#"get(reveal("config.slack.token"))"#,
    ] {
        assert_eq!(set.service.health().status, 200);
        let (kind, message) = lea.eval(code).failed();
        assert_eq!(kind, "state", "{code}: {message}");
    }
    assert!(!set.certificates.records().contains("real-slack-token"));
}

/// Dropping an endlessly nested value would overflow the stack of the dropping thread and end the service.
#[test]
fn values_do_not_nest_without_end() {
    let set = Set::new();
    let mut client = set.attach("alice");
    for code in [
        "let f = || 1; loop { let g = f; f = || g.call(); }",
        "fn wrap(g) { || g.call() } let f = || 1; loop { f = wrap(f); }",
        "let a = [1]; loop { let b = a; let f = || b.len(); a = [f]; }",
        "let a = []; loop { a = [a]; }",
        "let a = []; for i in 0..9000 { a = [a]; }",
        "let a = []; for i in 0..65 { a = #{ a: a }; }",
    ] {
        assert_eq!(client.eval(code).failed().0, "limit", "{code}");
    }
    let (code, message) = client.eval("let f = |x| x; f = f.curry(f);").failed();
    assert_eq!(code, "eval");
    assert!(
        message.contains("`curry` is not part of this language (line 1, position"),
        "{message}"
    );
    let (code, message) = client
        .eval("let m = #{ f: || 1 }; fn step() { let g = this.f; this.f = || g.call(); } m.step();")
        .failed();
    assert_eq!(code, "eval");
    assert!(
        message.contains("reserved keyword 'this' is disabled"),
        "{message}"
    );
    client.eval("let a = []; for i in 0..63 { a = [a]; }").ok();
    client.vanish();
    let mut other = set.attach("alice");
    wait::until_true("the first session is gone", || {
        other.eval("sessions().len()").display() == "1"
    });
    assert_eq!(set.service.health().status, 200);
}

/// T47.
#[test]
fn a_secret_is_opaque_however_it_is_asked_for() {
    let set = Set::new();
    let mut client = set.attach("alice");
    let ways = [
        "config.slack.token",
        r#"get("config.slack.token")"#,
        "config.slack",
        "config",
        "print(config.slack.token); 1",
        "[config.slack.token]",
        "#{ a: config.slack.token }",
        "let t = config.slack.token; t",
        "`${config.slack.token}`",
        r#"config.slack.token + """#,
        "config.slack.token.len()",
        "config.slack.token.to_string()",
        "config.slack.token[0]",
        r#"throw config.slack.token"#,
        "config.slack.token == \"not-a\"",
        r#"parse_int(config.slack.token)"#,
        r#"log_info(config.slack.token)"#,
        r#"help(config.slack.token)"#,
        r#"config.slack.token.split("-")"#,
    ];
    for way in ways {
        let reply = client.eval(way);
        let all = format!("{} {:?}", reply.0, client.notifications);
        assert!(!all.contains("real-slack-token"), "{way}: {all}");
    }
    assert!(
        client
            .eval("config.slack.token")
            .display()
            .starts_with("‹secret ")
    );
    let log = set.service.log();
    assert!(!log.contains("real-slack-token"), "{log}");
    let audit = set.certificates.records();
    assert!(!audit.contains("real-slack-token"), "the log holds the secret");
}

/// A text that contains a secret, such as an address, could otherwise be taken apart past the search for known secrets.
#[test]
fn a_text_that_holds_a_known_secret_is_opaque_as_a_whole() {
    let certificates = Certificates::new();
    let variables = [
        ("DEBUG_AGENT", "1"),
        ("DB__PASSWORD", "open-sesame-1"),
        ("DB__DATABASE_NAME", "duty?key=open-sesame-1"),
    ];
    let service = Service::start_with(&certificates, &variables);
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    assert!(client.eval("config.db.dbname").display().starts_with("‹secret "));
    for way in [
        "config.db.dbname.split(\"=\")[1].split(\"-\")",
        "config.db.dbname[9]",
        "get(\"config.db\").dbname.len()",
    ] {
        assert_eq!(client.eval(way).failed().0, "eval", "{way}");
    }
    assert_eq!(client.eval("config.db.host").display(), "\"localhost\"");
}

#[test]
fn a_secret_that_is_guessed_is_told_in_the_log() {
    let certificates = Certificates::new();
    let service = Service::start_with(
        &certificates,
        &[("DEBUG_AGENT", "1"), ("DB__PASSWORD", "open-sesame-1")],
    );
    let mut client = Client::attach(service.agent(), &certificates.operator("vera"));
    for (guesses, code) in [
        "for n in 0..5 { print(`open-${\"sesame\"}-${n}`); }",
        "[0, 1, 2].map(|n| `open-${\"sesame\"}-${n}`)",
        "throw \"open-\" + \"sesame-1\"",
    ]
    .into_iter()
    .enumerate()
    {
        let reply = client.eval(code);
        let all = format!("{} {:?}", reply.0, client.notifications);
        assert!(!all.contains("open-sesame-1"), "{code}: {all}");
        let told = || certificates.records().matches("\"secret_in\":\"output\"").count();
        wait::until_true("it is told", || told() == guesses + 1);
    }
    service.wait_for_log("put out a secret that it had not revealed");
    client.eval("config.db").ok(); // What shows no secret is no alarm.
    assert_eq!(certificates.records().matches("secret_in").count(), 3);
}

#[test]
fn a_lead_reveals_and_it_is_recorded_before() {
    let set = Set::new();
    let mut client = set.attach("lea");
    let reply = client.eval(r#"reveal("config.slack.token")"#);
    assert_eq!(reply.ok()["value"], debug_tests::process::SLACK_TOKEN);
    let audit = set.certificates.records();
    assert!(audit.contains("\"function\":\"reveal\""));
    assert!(!audit.contains("real-slack-token"), "the log holds the secret");
}

#[test]
fn who_is_on_call_does_not_reveal() {
    let set = Set::new();
    let reply = set.attach("alice").eval(r#"reveal("config.slack.token")"#);
    assert_eq!(reply.failed().0, "denied");
    assert!(!reply.help().is_empty());
}

#[test]
fn code_that_holds_a_secret_is_neither_run_nor_recorded() {
    let set = Set::new();
    let mut client = set.attach("lea");
    client.eval("config.slack.token").ok();
    let reply = client.eval(&format!("\"{}\"", debug_tests::process::SLACK_TOKEN));
    assert_eq!(reply.failed().0, "denied");
    assert!(reply.help().contains("--arg-secret"), "{}", reply.help());
    assert!(!set.certificates.records().contains("real-slack-token"));
}

/// T33: endless loops, allocations, recursion and nesting, each also inside `try` and closures.
#[test]
fn hostile_code_ends_and_the_service_serves_on() {
    let set = Set::new();
    let mut client = set.attach("alice");
    let nested = format!("{}1{}", "(".repeat(5_000), ")".repeat(5_000));
    let hostile = [
        "loop {}",
        "loop { try { loop {} } catch {} }",
        "loop { try { [1].map(|x| { loop {} }) } catch {} }",
        "for i in 0..100000 { [1].map(|x| { let j = 0; while j < 1500 { j += 1; } }); }",
        "fn f(x) { f(x + 1) } f(0)",
        "fn f(x) { [x].map(|y| f(y)) } f(0)",
        "let f = |g| g.call(g); f.call(f)",
        r#"let s = "a"; loop { s += s; }"#,
        r#"let s = "a"; s.pad(1000000, 'b'); s"#,
        r#"let s = "a"; s.pad(60000, 'b'); s.replace("b", s); s"#,
        r#"let s = "a"; s.pad(60000, 'b'); let a = s.split("b"); loop { a.sort(); }"#,
        "let a = [0]; loop { a += a; }",
        "let a = []; loop { a.push(a); }",
        "let m = #{}; loop { m.a = m; }",
        "let a = [1]; loop { a = [a, a]; }",
        "let x = []; for i in 0..1000000 { x.push(`${i}${i}${i}`); }",
        "loop { config.db.host }",
        r#"loop { print("0123456789012345678901234567890123456789") }"#,
        r#"eval("1")"#,
        r#"import "x" as y;"#,
        "sleep(100)",
        nested.as_str(),
    ];
    for code in hostile {
        let started = std::time::Instant::now();
        let reply = client.eval(code);
        let (kind, message) = reply.failed();
        assert!(
            ["limit", "eval", "state"].contains(&kind.as_str()),
            "{}: {kind}: {message}",
            &code[..code.len().min(60)]
        );
        assert!(
            started.elapsed().as_secs() < 20,
            "{code} took {:?}",
            started.elapsed()
        );
        assert_eq!(set.service.health().status, 200);
    }
    assert_eq!(client.eval("1 + 1").display(), "2");
}

/// A refusal cannot be caught: no later code runs.
#[test]
fn a_refusal_ends_the_eval_also_inside_try() {
    let set = Set::new();
    let mut client = set.changing("alice");
    let ways = [
        r#"try { reveal("config.slack.token") } catch { } set("config.server.loglevel", "DEBUG")"#,
        r#"try { [1].map(|x| reveal("config.slack.token")) } catch { } set("config.server.loglevel", "DEBUG")"#,
        r#"let f = Fn("reveal"); try { f.call("config.slack.token") } catch { } set("config.server.loglevel", "DEBUG")"#,
    ];
    for code in ways {
        assert_eq!(client.eval(code).failed().0, "denied", "{code}");
        assert_eq!(client.eval("config.server.loglevel").display(), "\"INFO\"");
        assert_eq!(client.eval("leases().len()").display(), "0");
    }
}

/// T30: the decision is made at the dispatch, for every spelling.
#[test]
fn every_spelling_of_a_call_meets_the_same_refusal() {
    let set = Set::new();
    let mut client = set.attach("vera");
    let spellings = [
        r#"change("x")"#,
        r#"Fn("change").call("x")"#,
        r#"Fn("cha" + "nge").call("x")"#,
        r#"let why = "x"; let f = || change(why); f.call()"#,
        r#"["x"].map(Fn("change"))"#,
        r#""x".change()"#,
        r#"fn enter() { change("x") } enter()"#,
        r#"let g = || change("x"); g.call()"#,
    ];
    for code in spellings {
        let (kind, message) = client.eval(code).failed();
        assert_eq!(kind, "denied", "{code}: {message}");
    }
}

#[test]
fn a_script_may_not_define_a_host_function() {
    let set = Set::new();
    let (code, message) = set.attach("alice").eval("fn set(a, b) { 99 } set(1, 2)").failed();
    assert_eq!(code, "eval");
    assert!(message.contains("`set`"), "{message}");
}

/// Invariant 9.
#[test]
fn a_failed_eval_undoes_what_it_changed() {
    let set = Set::new();
    let mut client = set.changing("alice");
    let code = r#"
        let kept = 1;
        set("config.server.loglevel", "DEBUG");
        patch("GET /api/healthcheck", |req| #{ status: 418 }, #{ unseen: true });
        throw "stop";
    "#;
    assert_eq!(client.eval(code).failed().0, "eval");
    assert_eq!(client.eval("config.server.loglevel").display(), "\"INFO\"");
    assert_eq!(set.service.health().status, 200);
    assert_eq!(client.eval("leases().len()").display(), "0");
    assert_eq!(client.eval("kept").failed().0, "eval");
}

#[test]
fn variables_and_functions_stay_in_the_session_and_in_no_other() {
    let set = Set::new();
    let mut alice = set.attach("alice");
    alice.eval("let x = 41; fn next(n) { n + 1 }").ok();
    assert_eq!(alice.eval("next(x)").display(), "42");
    let mut bob = set.attach("bob");
    assert_eq!(bob.eval("x").failed().0, "eval");
    assert_eq!(bob.eval("next(1)").failed().0, "eval");
}

#[test]
fn arguments_are_bound_and_gone_afterwards() {
    let set = Set::new();
    let mut client = set.attach("alice");
    assert_eq!(client.eval_with("n + 1", json!({ "n": 41 })).display(), "42");
    assert_eq!(client.eval("n").failed().0, "eval");
}

#[test]
fn a_client_that_vanishes_cancels_its_eval_and_the_log_tells() {
    let set = Set::new();
    let mut client = set.attach("alice");
    // Each read takes long for the operations that it costs: these would run for seconds, until the limit.
    client.start_payload(&json!({ "code": "loop { get(\"config\"); }" }));
    wait::until_true("the eval runs", || {
        set.certificates.records().contains("\"function\":\"get\"")
    });
    client.vanish();
    let outcome = wait::until("the outcome of the eval is recorded", || {
        let records = set.certificates.records();
        records
            .lines()
            .find(|line| line.contains("\"kind\":\"outcome\""))
            .map(str::to_owned)
    });
    assert!(outcome.contains("\"code\":\"cancelled\""), "{outcome}");
    wait::until_true("the session is closed", || {
        set.certificates.records().contains("session.close")
    });
    assert_eq!(set.attach("alice").eval("1").display(), "1");
}

#[test]
fn output_is_streamed() {
    let set = Set::new();
    let mut client = set.attach("alice");
    assert_eq!(client.eval(r#"print("one"); print(2); 3"#).display(), "3");
    let output: String = client
        .notifications
        .iter()
        .filter(|n| n["method"] == "output")
        .map(|n| n["params"]["text"].as_str().unwrap())
        .collect();
    assert_eq!(output, "one\n2\n");
}

#[test]
fn every_function_of_the_table_can_be_called() {
    let set = Set::new();
    let mut client = set.attach("lea");
    client.eval(r#"change("try them all")"#).ok();
    set.service.health();
    let examples: Vec<&str> = debug_wire::table::FUNCTIONS.iter().map(|f| f.example).collect();
    for example in examples {
        let reply = client.eval(example);
        if let Some(error) = reply.0.get("error") {
            // The only reason for an example to fail is a lease that does not exist.
            assert_eq!(error["data"]["code"], "state", "{example}: {error}");
            assert!(
                error["message"].as_str().unwrap().contains("lease"),
                "{example}: {error}"
            );
        }
        client.eval("revert_all()").ok();
    }
}

/// A reply is only sent once its records are on disk: the log then holds what the reply names.
#[test]
fn the_records_that_a_reply_names_are_on_disk() {
    let set = Set::new();
    let mut client = set.attach("alice");
    // The records of failed evals as well, also of ones that failed before any code ran.
    for code in ["config.db.host", "throw 1", "let = 1", "curry(1)", "fn get() {}"] {
        let reply = client.eval(code);
        let range = match reply.0.get("result") {
            Some(result) => &result["audit"],
            None => &reply.0["error"]["data"]["audit"],
        };
        let audit = set.certificates.records();
        let last = range["last"]
            .as_u64()
            .unwrap_or_else(|| panic!("{code}: {}", reply.0));
        let line = audit
            .lines()
            .find(|line| line.contains(&format!("\"seq\":{last},")))
            .unwrap();
        assert!(line.contains("\"kind\":\"outcome\""), "{line}");
        let eval = range["eval"].as_u64().unwrap();
        let line = audit
            .lines()
            .find(|line| line.contains(&format!("\"seq\":{eval},")))
            .unwrap();
        assert!(line.contains(code), "{line}");
    }
}

#[test]
fn what_a_closure_captured_is_put_back_too_if_the_eval_fails() {
    let set = Set::new();
    let mut client = set.attach("vera");
    client.eval("let n = 1; let f = || { n += 1; n };").ok();
    assert_eq!(client.eval("f.call()").display(), "2");
    assert_eq!(
        client.eval("n").display(),
        "2",
        "the variable and the closure share it in later evals"
    );
    assert_eq!(client.eval("f.call(); n = 50; throw \"no\"").failed().0, "eval");
    assert_eq!(client.eval("[n, f.call(), n]").display(), "[2, 3, 3]");
}

/// Closures that hold themselves are never freed by reference counting.
#[test]
fn memory_does_not_leak_through_closures_that_hold_themselves() {
    let set = Set::new();
    let mut client = set.attach("vera");
    let code =
        "let s = \"\"; s.pad(65000, 'x'); for i in 0..150 { let a = [0]; let g = || a; a[0] = [s + i, g]; }";
    // Each eval leaks about 10 MB unless the agent frees it: of evals that succeed, and of evals that fail.
    for _ in 0..20 {
        client.eval(code).ok();
        assert_eq!(client.eval(&format!("{code} throw 1")).failed().0, "eval");
    }
    let kilobytes = kilobytes(&set, "VmRSS:");
    assert!(kilobytes < 200_000, "{kilobytes} kB are resident");
}

/// Many calls in progress, each with many variables of the largest allowed size.
#[test]
fn the_variables_of_an_eval_do_not_fill_the_memory() {
    let set = Set::new();
    let mut client = set.attach("vera");
    let copies: String = (0..100).map(|n| format!("let a{n} = a;")).collect();
    let list = "let a = [0]; while a.len() < 5000 { a += a; }";
    for code in [
        format!("fn f(n, a) {{ {copies} if n < 30 {{ f(n + 1, a) }} }} {list} f(0, a)"),
        format!(
            "{list} let g = |h, n, a| {{ {copies} if n < 30 {{ h.call(h, n + 1, a) }} }}; g.call(g, 0, a)"
        ),
    ] {
        let (kind, message) = client.eval(&code).failed();
        assert_eq!(kind, "limit", "{message}");
        let peak = kilobytes(&set, "VmHWM:");
        assert!(peak < 200_000, "{peak} kB were resident: {code}");
    }
}

/// A value of `/proc/PID/status`.
fn kilobytes(set: &Set, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", set.service.pid())).unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    value.trim().trim_end_matches(" kB").parse().unwrap()
}
