//! Patches that fail in all ways: the original runs exactly once for each call. Through a real process, real certificates and the
//! real gate.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use std::process::Command;

use debug_tests::{Certificates, Client, Dice, Service, http, wait};
use serde_json::{Value, json};

/// A generator of patches of a function from a `u32` to a `u32` that all fail.
struct Failing(Dice);

impl Failing {
    /// Code that never returns a `u32`, for any `n`.
    fn end(&mut self) -> String {
        let number = self.0.below(1_000);
        match self.0.below(22) {
            0 => format!("throw \"no {number}\""),
            1 => "throw n".to_owned(),
            2 => "loop {}".to_owned(),
            3 => "let x = 0; while true { x += 1; }".to_owned(),
            4 => "for i in 0..1000000 { let x = i; } throw 1".to_owned(),
            5 => "again(n)".to_owned(),
            6 => "let all = []; loop { all.push(n); }".to_owned(),
            7 => "let text = \"long\"; loop { text += text; }".to_owned(),
            8 => "let all = #{}; let i = 0; loop { all[`${i}`] = i; i += 1; }".to_owned(),
            9 => format!("\"{number}\""),
            10 => format!("#{{ n: {number} }}"),
            11 => format!("[{number}]"),
            12 => "()".to_owned(),
            13 => "-1".to_owned(),
            14 => "4294967296".to_owned(),
            15 => format!("{number}.5"),
            16 => "n / (n - n)".to_owned(),
            17 => "9223372036854775807 + n".to_owned(),
            18 => format!("[n][{}]", number + 1),
            19 => "#{ a: n }.b + 1".to_owned(),
            20 => "parse_int(\"four\")".to_owned(),
            _ => "|| n".to_owned(),
        }
    }

    /// Such code after other code, or inside of it.
    fn body(&mut self, depth: u64) -> String {
        if depth == 0 {
            return self.end();
        }
        let inner = self.body(depth - 1);
        match self.0.below(8) {
            0 => format!("if n < 100 {{ {inner} }} else {{ {} }}", self.body(depth - 1)),
            1 => format!(
                "switch n {{ 1 => {{ {} }}, _ => {{ {inner} }} }}",
                self.body(depth - 1)
            ),
            2 => format!("let y = n * 2; {inner}"),
            3 => format!("try {{ throw 1; }} catch {{ {inner} }}"),
            4 => format!("try {{ {inner} }} catch (why) {{ throw why; }}"),
            5 => format!("[1].map(|x| {{ {inner} }})[0]"),
            6 => format!("let f = |m| {{ let n = m; {inner} }}; f.call(n)"),
            _ => inner,
        }
    }

    fn patch(&mut self) -> String {
        let depth = self.0.below(3);
        format!(
            "fn again(n) {{ again(n + 1) }} patch(\"patchables::counted\", |n| {{ {} }})",
            self.body(depth)
        )
    }
}

/// 500, or the number in `DEBUG_TESTS_HISTORIES`: 10,000 in the long run.
fn patches() -> usize {
    std::env::var("DEBUG_TESTS_HISTORIES")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(500)
}

fn start(certificates: &Certificates) -> (Service, Client) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchables"));
    command
        .env_clear()
        .env("DEBUG_AGENT", "1")
        .env("DEBUG_AGENT_CONFIG", certificates.agent_config());
    let service = Service::spawn(command);
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    client.eval(r#"change("a test")"#).ok();
    (service, client)
}

#[test]
fn the_original_runs_once_for_each_call_of_a_patch_that_fails() {
    let certificates = Certificates::for_service("patchables");
    let (service, mut client) = start(&certificates);
    let mut failing = Failing(Dice(7));
    let (mut calls, mut ended) = (0, 0);
    for round in 1..=patches() {
        // A session keeps its definitions, within a limit.
        if round % 500 == 0 {
            client = Client::attach(service.agent(), &certificates.operator("alice"));
            client.eval(r#"change("a test")"#).ok();
        }
        let code = loop {
            let code = failing.patch();
            let reply = client.eval(&code);
            if reply.0.get("result").is_some() {
                break code;
            }
            // Any other refusal would leave a kind of failure out.
            let (_, why) = reply.failed();
            assert!(
                why.contains("complexity") || why.contains("nests"),
                "{code}: {why}"
            );
        };
        // Five failures in a row would end the patch.
        let asked = failing.0.below(4) + 1;
        for _ in 0..asked {
            let answer = http::get(service.http, "/call/counted").unwrap().body;
            calls += 1;
            assert_eq!(answer, format!("5 in run {calls}"), "patch {round}: {code}");
        }
        let layer = client.eval(r#"describe("patchables::counted")"#).ok()["value"].clone();
        assert_eq!(
            layer["patched_calls"], layer["failures"],
            "patch {round} answered: {code}"
        );
        // On a loaded host an endless patch can cost enough that the agent ends it.
        match layer["failures"].as_u64() {
            Some(failed) => assert_eq!(failed, asked, "patch {round}: {code}"),
            None => ended += 1,
        }
        client.eval("revert_all()").ok();
    }
    assert_eq!(
        certificates
            .records()
            .matches("\"kind\":\"lease.breaker\"")
            .count(),
        ended
    );
}

/// Only the next process can report it.
#[test]
fn a_process_that_died_inside_a_patched_call_is_told_of_by_the_next() {
    let certificates = Certificates::for_service("patchables");
    let (service, mut client) = start(&certificates);
    let reply = client.eval(r#"patch("patchables::counted", |n| 9)"#);
    let harmless = reply.ok()["leases"][0]["id"].clone();
    let reply = client.eval(r#"patch("patchables::aborts_when_shown", |value| 9)"#);
    let fatal = reply.ok()["leases"][0]["id"].clone();
    assert_eq!(
        http::get(service.http, "/call/counted").unwrap().body,
        "9 in run 0"
    );
    let notes = certificates.folder().join("agent/active/calls");
    wait::until_true("the note of the harmless call is cleared", || {
        std::fs::read(&notes).unwrap().iter().all(|byte| *byte == 0)
    });
    http::get(service.http, "/call/aborts_when_shown").unwrap_err();
    drop(service);

    let (service, mut client) = start(&certificates);
    assert_eq!(
        http::get(service.http, "/call/aborts_when_shown").unwrap().body,
        "1"
    );
    let records: Vec<Value> = certificates
        .records()
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let boots: Vec<_> = records
        .iter()
        .filter(|r| r["kind"] == "boot")
        .map(|r| &r["ended_inside"])
        .collect();
    assert_eq!(boots, [&Value::Null, &json!([fatal])]);
    let detail = |lease: &Value| {
        let mut ends = records
            .iter()
            .filter(|r| r["kind"] == "lease.restart" && r["lease"] == *lease);
        ends.next().unwrap()["detail"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        detail(&fatal),
        "the process that held it ended inside a call of this patch, or less than a second after it"
    );
    assert_eq!(detail(&harmless), "the process that held it ended");
    let told = format!(
        "the process before this one ended inside a patched call, or less than a second after it, of lease {fatal}"
    );
    service.wait_for_log(&told);
    assert!(
        client.eval("info()").ok()["value"]["notes"]
            .to_string()
            .contains(&told)
    );
}
