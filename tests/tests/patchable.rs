//! `#[patchable]` on functions of all forms: what a patch receives, what happens to its answer, and that a failing patch leaves
//! the call as it was. Through a real process, real certificates and the real gate.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use std::process::Command;

use debug_tests::{Certificates, Client, Service, http, wait};
use serde_json::{Value, json};

struct Set {
    certificates: Certificates,
    service: Service,
    client: Client,
}

/// The point of the function that `GET /call/NAME` calls.
fn point(name: &str) -> String {
    match name {
        "quote" => "prices.quote".to_owned(),
        _ => format!("patchables::{name}"),
    }
}

impl Set {
    /// Runs the service `patchables`, with `alice` attached in the mode `change`.
    fn new() -> Self {
        let certificates = Certificates::for_service("patchables");
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchables"));
        command
            .env_clear()
            .env("DEBUG_AGENT", "1")
            .env("DEBUG_AGENT_CONFIG", certificates.agent_config());
        let service = Service::spawn(command);
        let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
        client.eval(r#"change("a test")"#).ok();
        Self {
            certificates,
            service,
            client,
        }
    }

    /// The service's answer to a call.
    #[track_caller]
    fn says(&self, name: &str) -> String {
        http::get(self.service.http, &format!("/call/{name}"))
            .unwrap()
            .body
    }

    /// The agent's description of the point.
    #[track_caller]
    fn described(&mut self, name: &str) -> Value {
        self.client.eval(&format!("describe(\"{}\")", point(name))).ok()["value"].clone()
    }

    /// Patches the point; returns the lease.
    #[track_caller]
    fn patch(&mut self, name: &str, code: &str) -> u64 {
        let reply = self.client.eval(&format!("patch(\"{}\", {code})", point(name)));
        reply.ok()["leases"][0]["id"].as_u64().unwrap()
    }

    /// The number of calls of the newest patch, and the number of failed ones.
    #[track_caller]
    fn counts(&mut self, name: &str) -> (u64, u64) {
        let described = self.described(name);
        (
            described["patched_calls"].as_u64().unwrap(),
            described["failures"].as_u64().unwrap(),
        )
    }

    /// The patch answers the call; without it, the original does, as before.
    #[track_caller]
    fn answered(&mut self, name: &str, code: &str, expected: &str) {
        let before = self.says(name);
        assert_ne!(before, expected, "{name}");
        self.patch(name, code);
        let says = self.says(name);
        assert_eq!(says, expected, "{name}: {code}\n{}", self.service.log());
        assert_eq!(self.counts(name), (1, 0), "{name}: {code}");
        self.client.eval("revert_all()").ok();
        assert_eq!(self.says(name), before, "{name}");
    }

    /// The patch is called and fails for this reason; the original answers the call.
    #[track_caller]
    fn left_to_the_original(&mut self, name: &str, code: &str, why: &str) {
        let before = self.says(name);
        let lease = self.patch(name, code);
        assert_eq!(self.says(name), before, "{name}: {code}");
        assert_eq!(self.counts(name), (1, 1), "{name}: {code}");
        let line = self
            .service
            .wait_for_log(&format!("the patch of lease {lease} failed"));
        assert!(line.contains(why), "{name}: expected `{why}` in: {line}");
        self.client.eval("revert_all()").ok();
    }

    /// The point is listed and refuses patches for this reason; calls are not affected.
    #[track_caller]
    fn refused(&mut self, name: &str, why: &str) {
        let before = self.says(name);
        assert_eq!(
            self.described(name)["note"],
            format!("cannot be patched: {why}"),
            "{name}"
        );
        let code = match self.described(name)["arguments"].as_array().unwrap().len() {
            0 => "|| ()",
            1 => "|a| ()",
            _ => "|a, b| ()",
        };
        let reply = self.client.eval(&format!("patch(\"{}\", {code})", point(name)));
        let message = format!("`{}` cannot be patched: {why}", point(name));
        assert_eq!(reply.failed(), ("state".to_owned(), message));
        assert_eq!(self.client.eval("leases().len()").display(), "0");
        assert_eq!(self.says(name), before, "{name}");
    }
}

/// The line of the attribute of a function of the service, counted from 1.
fn line_of(function: &str) -> usize {
    let source = include_str!("../src/bin/patchables.rs");
    let before = source.split_once(function).unwrap().0;
    before.lines().count()
        - before
            .lines()
            .rev()
            .position(|line| line.starts_with("#[patchable"))
            .unwrap()
}

#[test]
fn every_function_is_a_point_under_its_name() {
    let mut set = Set::new();
    let points = set.client.eval("points()").ok()["value"].clone();
    let names: Vec<_> = points
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    let expected = [
        "aborts_when_shown",
        "async_patterns",
        "borrowed",
        "borrowed_within",
        "checked",
        "closed",
        "connected",
        "counted",
        "fill",
        "hidden",
        "lifetimes",
        "line_of_the_caller",
        "never",
        "not_decodable",
        "not_decodable_within",
        "on_duty",
        "only_watched",
        "panics_when_made",
        "panics_when_shown",
        "parsed",
        "parsed_later",
        "patterns",
        "rate",
        "rate",
        "recursive",
        "refuses_to_be_shown",
        "ring",
        "secret",
        "type",
        "unknown_types",
        "quote",
    ];
    assert_eq!(names, expected.map(point));
    assert!(
        points
            .as_array()
            .unwrap()
            .iter()
            .all(|row| row["kind"] == "function")
    );
}

#[test]
fn a_point_is_described_with_its_place_and_arguments() {
    let mut set = Set::new();
    let mut expected = json!({
        "name": "patchables::on_duty",
        "kind": "function",
        "where": format!("tests/src/bin/patchables.rs:{}", line_of("fn on_duty(")),
        "arguments": ["rota", "week"],
        "patched": [],
        "owner": "",
        "patched_calls": null,
        "failures": null,
        "note": "",
        "answers": "the value",
        "leaves_out": "the function's body, and what it would have done",
    });
    assert_eq!(set.described("on_duty"), expected);
    let lease = set.patch("on_duty", "|rota, week| ()");
    set.says("on_duty");
    expected["patched"] = json!([lease]);
    expected["owner"] = "alice".into();
    expected["patched_calls"] = 1.into();
    expected["failures"] = 0.into();
    assert_eq!(set.described("on_duty"), expected);
    for member in ["answers", "leaves_out"] {
        expected.as_object_mut().unwrap().remove(member);
    }
    let rows = set.client.eval("points()").ok()["value"].clone();
    assert!(rows.as_array().unwrap().contains(&expected), "{rows}");
}

#[test]
fn arguments_and_results_go_through_serde() {
    let mut set = Set::new();
    assert_eq!(set.says("on_duty"), r#"Some("bob")"#);
    set.answered(
        "on_duty",
        "|rota, week| `${rota.names[0]} ${week}`",
        r#"Some("ada 1")"#,
    );
    set.answered("on_duty", "|rota, week| ()", "None");
    set.left_to_the_original("on_duty", "|rota, week| 5", "expected a string");
}

/// Faults can be tried out: the function's error is made from the patch's answer.
#[test]
fn a_function_that_can_fail_is_made_to_fail() {
    let mut set = Set::new();
    set.answered(
        "checked",
        r#"|text| Err(text + " and down")"#,
        r#"Err("seven and down")"#,
    );
    set.answered("checked", "|text| Ok(5)", "Ok(5)");
    set.answered(
        "checked",
        r#"|text| if text == "seven" { return Err("no") } else { 5 }"#,
        r#"Err("no")"#,
    );
    set.answered("parsed_later", r#"|text| Err("down")"#, r#"Err("down")"#);
    let error = r#"Err(Custom { kind: Other, error: "no route to host" })"#;
    set.answered("connected", r#"|host| Err("no route to host")"#, error);
    set.answered("not_decodable_within", r#"|n| Err("down")"#, r#"Err("down")"#);
    set.left_to_the_original("checked", "|text| Err([1])", "expected a string");
    set.left_to_the_original(
        "checked",
        r#"|text| #{ err: "no" }"#,
        "`Err(..)` in the patch makes the function fail",
    );
    assert_eq!(
        set.described("checked")["answers"],
        "the value, or `Err(..)` to make it fail"
    );
    assert_eq!(
        set.described("connected")["answers"],
        "`Err(..)`, to make it fail"
    );
    // A guard of the patch sees it.
    let guard = r#"#{ guard: |s| s.errors < 1 }"#;
    let lease = set.patch("checked", &format!("|text| Err(\"down\"), {guard}"));
    set.says("checked");
    wait::until_true("the guard has ended it", || {
        set.certificates
            .records()
            .contains(&format!("\"kind\":\"lease.guard-failed\",\"lease\":{lease}"))
            || set.client.eval("leases().len()").display() == "0"
    });
}

#[test]
fn a_patch_that_could_only_fail_is_refused_when_it_is_made() {
    let mut set = Set::new();
    for (name, code, why) in [
        ("parsed", r#"|text| Err("no")"#, "no `Err` can be made here"),
        ("on_duty", r#"|rota, week| Err("no")"#, "returns no `Result`"),
        ("on_duty", r#"|rota, week| Ok("no")"#, "returns no `Result`"),
        ("connected", "|host| 5", "only an `Err` can be made"),
    ] {
        let (_, message) = set
            .client
            .eval(&format!("patch(\"{}\", {code})", point(name)))
            .failed();
        assert!(
            message.contains(why) && message.contains(&point(name)),
            "{message}"
        );
    }
    assert_eq!(set.client.eval("leases().len()").display(), "0");
    // A `throw` is a failure of the patch itself.
    let reply = set
        .client
        .eval(r#"patch("patchables::checked", |text| throw "no")"#);
    assert!(
        reply.display().contains(r#"`Err("..")` makes the function fail"#),
        "{}",
        reply.display()
    );
}

/// No other function is affected.
#[test]
fn two_functions_with_one_name_are_listed_closed_and_told_and_all_else_works() {
    let mut set = Set::new();
    assert_eq!(set.says("rate"), "10 20");
    let both = set.described("rate");
    let both = both.as_array().unwrap();
    assert_eq!(both.len(), 2);
    let places: Vec<&str> = both.iter().map(|row| row["where"].as_str().unwrap()).collect();
    assert_ne!(places[0], places[1]);
    for row in both {
        let note = row["note"].as_str().unwrap();
        assert!(
            note.starts_with("cannot be patched: 2 functions are points called `patchables::rate`"),
            "{note}"
        );
        assert!(places.iter().all(|place| note.contains(place)), "{note}");
    }
    let (_, message) = set
        .client
        .eval(r#"patch("patchables::rate", |cents| 1)"#)
        .failed();
    assert!(message.contains("2 functions are points called"), "{message}");
    let guard = r#"|s| s.points["patchables::rate"].calls < 2"#;
    let code = format!("patch(\"patchables::on_duty\", |rota, week| (), #{{ guard: {guard} }})");
    assert!(
        set.client
            .eval(&code)
            .failed()
            .1
            .contains("several functions have this name")
    );
    let notes = set.client.eval("info()").ok()["value"]["notes"].to_string();
    assert!(
        notes.contains("2 functions are points called `patchables::rate`"),
        "{notes}"
    );
    assert!(notes.contains("`.routes`: `no route`"), "{notes}");
    set.service
        .wait_for_log("2 functions are points called `patchables::rate`");
    assert_eq!(set.says("rate"), "10 20");
    set.answered("on_duty", "|rota, week| ()", "None");
}

/// The failed call and the reason are reported wherever its operator looks.
#[test]
fn a_patch_that_fails_is_told_to_its_operator_with_the_line_and_the_call() {
    let mut set = Set::new();
    let code = "patch(\"patchables::counted\", |n| {\n if n < 9 {\n throw \"not \" + n;\n }\n n })";
    let lease = set.client.eval(code).ok()["leases"][0]["id"].as_u64().unwrap();
    set.says("counted");
    let told = set.client.failing(lease);
    assert_eq!(
        (&told["target"], &told["call"]),
        (&json!("point:patchables::counted"), &json!(1))
    );
    let why = told["why"].as_str().unwrap();
    assert!(why.contains("not 4") && why.contains("line 3"), "{why}");
    set.says("counted");
    let note = set.client.eval("leases()").ok()["value"][0]["note"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        note.starts_with("failed in 2 of 2 calls, the last time in call 2: ") && note.contains("line 3"),
        "{note}"
    );
    let note = set.described("counted")["note"].as_str().unwrap().to_owned();
    assert!(
        note.starts_with("failed in call 2: ") && note.contains("not 4"),
        "{note}"
    );
    // The values passed through the point are not for every operator.
    let mut vera = Client::attach(set.service.agent(), &set.certificates.operator("vera"));
    let seen = vera.eval("leases()").ok()["value"][0]["note"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        seen.contains("failed in 2 of 2 calls") && !seen.contains("not 4"),
        "{seen}"
    );
    for _ in 0..3 {
        set.says("counted");
    }
    let records = wait::until("the breaker has ended it", || {
        let records = set.certificates.records();
        records.contains("lease.breaker").then_some(records)
    });
    let end = records
        .lines()
        .find(|line| line.contains("lease.breaker"))
        .unwrap();
    assert!(
        end.contains("the patch failed 5 times in a row; the last time in call 5: "),
        "{end}"
    );
    let first = records
        .lines()
        .find(|line| line.contains("patch_failed"))
        .unwrap();
    assert!(
        first.contains("\"call\":1") && first.contains("line 3"),
        "{first}"
    );
}

/// Patches answer with the value in `Ok`; the error type needs no conversion.
#[test]
fn a_function_that_can_fail_is_answered_by_its_ok_value() {
    let mut set = Set::new();
    assert_eq!(set.says("parsed"), "Err(NotSerde(2))");
    set.answered("parsed", "|text| text.len()", "Ok(5)");
    set.left_to_the_original("parsed", "|text| #{ Ok: 5 }", "expected u8");
    set.left_to_the_original("parsed", r#"|text| throw "no""#, "no");
    set.answered("checked", "|text| text.len()", "Ok(5)");
    set.left_to_the_original("checked", "|text| #{ Ok: 5 }", "expected u8");
}

#[test]
fn an_async_function_is_answered_before_it_begins() {
    let mut set = Set::new();
    assert_eq!(set.says("quote"), "Err(NotSerde(1))");
    set.answered("quote", "|pool, article| article + 9.5", "Ok(9.5)");
    set.left_to_the_original("quote", r#"|pool, article| throw "no""#, "no");
}

#[test]
fn a_skipped_argument_is_unit_for_the_patch() {
    let mut set = Set::new();
    assert_eq!(
        set.described("quote")["arguments"],
        json!(["pool (not given to patches)", "article"])
    );
    set.answered(
        "quote",
        "|pool, article| if pool == () { 9.5 } else { pool.rate }",
        "Ok(9.5)",
    );
}

#[test]
fn what_serde_does_not_know_is_unit_for_the_patch_and_untouched_for_the_original() {
    let mut set = Set::new();
    assert_eq!(
        set.described("unknown_types")["arguments"],
        json!([
            "owned (not given to patches)",
            "lent (not given to patches)",
            "out (not given to patches)",
            "number"
        ])
    );
    assert_eq!(set.says("unknown_types"), r#"6 "written""#);
    let units = "owned == () && lent == () && out == ()";
    set.answered(
        "unknown_types",
        &format!("|owned, lent, out, number| if {units} {{ number * 100 }}"),
        r#"300 """#,
    );
    set.left_to_the_original(
        "unknown_types",
        &format!("|owned, lent, out, number| if {units} {{ throw \"a teapot\" }}"),
        "a teapot",
    );
}

#[test]
fn patterns_and_mutable_bindings_reach_the_patch_and_the_original() {
    let mut set = Set::new();
    assert_eq!(
        set.described("patterns")["arguments"],
        json!(["arg0", "total", "arg2", "arg3"])
    );
    assert_eq!(set.says("patterns"), "10");
    set.answered(
        "patterns",
        "|a, b, c, d| `${a[0]}${a[1]}${b}${c}${d[0]}${d[1]}`.parse_int()",
        "123645",
    );
    set.left_to_the_original("patterns", r#"|a, b, c, d| { b += 1; throw "no" }"#, "no");
    assert_eq!(
        set.described("async_patterns")["arguments"],
        json!(["arg0", "total"])
    );
    assert_eq!(set.says("async_patterns"), "6");
    set.answered("async_patterns", "|a, b| `${a[0]}${a[1]}${b}`.parse_int()", "123");
    set.left_to_the_original("async_patterns", r#"|a, b| { b += 1; throw "no" }"#, "no");
}

#[test]
fn lifetimes_with_names_hinder_nothing() {
    let mut set = Set::new();
    assert_eq!(set.says("lifetimes"), r#"3 ["eve", "ada", "bob"]"#);
    set.answered(
        "lifetimes",
        "|left, right| left.len() * 10 + right.len()",
        r#"21 ["eve"]"#,
    );
    set.left_to_the_original("lifetimes", r#"|left, right| throw "no""#, "no");
}

#[test]
fn a_mutable_argument_is_a_copy_for_the_patch() {
    let mut set = Set::new();
    assert_eq!(set.says("fill"), "2 [7, 1]");
    set.answered("fill", "|list| { list.push(9); list[0] + list[1] }", "16 [7]");
    set.left_to_the_original("fill", r#"|list| { list.clear(); throw "no" }"#, "no");
}

#[test]
fn a_secret_argument_stays_opaque_and_cannot_become_the_result() {
    let mut set = Set::new();
    assert_eq!(set.says("secret"), "ada has 13 characters");
    set.answered("secret", "|password, user| user + 1", "ada1");
    set.left_to_the_original(
        "secret",
        "|password, user| password",
        "a secret argument cannot be part of a value or an answer",
    );
    set.left_to_the_original("secret", "|password, user| user + password", "secret");
    set.left_to_the_original("secret", "|password, user| password.len()", "secret");
    // Its display text is not its value.
    set.patch("secret", "|password, user| `${password}`");
    let says = set.says("secret");
    assert!(
        says.starts_with("‹secret") && !says.contains("correct horse"),
        "{says}"
    );
    let log = set.service.log();
    assert!(!log.contains("correct horse"), "{log}");
}

#[test]
fn a_function_whose_result_cannot_be_made_refuses_patches() {
    let mut set = Set::new();
    let not_decodable = "its result lacks `Deserialize`, so nothing can be made into it";
    let borrowed = "its result is borrowed, and a patch has nothing that lives long enough to lend";
    set.refused("not_decodable", not_decodable);
    set.refused("borrowed", borrowed);
    set.refused("borrowed_within", borrowed);
    set.refused(
        "hidden",
        "its result is hidden behind `impl`, so nothing can be made into it",
    );
    set.refused("never", "it never returns");
}

#[test]
fn a_point_that_its_author_closed_refuses_patches() {
    let mut set = Set::new();
    set.refused("only_watched", "its author marked it `watch_only`");
    set.refused("closed", "the service's author closed it with `never_patch`");
}

#[test]
fn a_function_without_a_result_is_answered_by_unit() {
    let mut set = Set::new();
    assert_eq!(set.says("ring"), "rung 1 times");
    set.answered("ring", "|| ()", "rung 0 times");
    set.left_to_the_original("ring", "|| 5", "expected unit");
}

#[test]
fn raw_identifiers_are_named_without_their_mark() {
    let mut set = Set::new();
    assert_eq!(set.described("type")["arguments"], json!(["match"]));
    set.answered("type", "|number| number + 1", "4");
}

#[test]
fn an_original_that_calls_itself_asks_the_patch_each_time() {
    let mut set = Set::new();
    assert_eq!(set.says("recursive"), "4");
    set.patch(
        "recursive",
        r#"|number| if number == 2 { 100 } else { throw "not mine" }"#,
    );
    assert_eq!(set.says("recursive"), "102");
    assert_eq!(set.counts("recursive"), (3, 2));
}

#[test]
fn serde_code_of_the_service_that_fails_leaves_the_call_to_the_original() {
    let mut set = Set::new();
    set.left_to_the_original(
        "refuses_to_be_shown",
        "|value| 100",
        "an argument cannot be shown to the patch: refused by the service's type: not today",
    );
    set.left_to_the_original(
        "panics_when_shown",
        "|value| 100",
        "a panic was caught around the patch",
    );
    set.answered("panics_when_made", "|| 12", "level 12");
    set.left_to_the_original("panics_when_made", "|| 13", "a panic was caught around the patch");
}

/// Calls are counted whether a patch or the original answers, also with a failing patch in between: their number, their `Err`s,
/// and their duration.
#[test]
fn a_guard_counts_the_calls_of_functions_that_it_names() {
    let mut set = Set::new();
    for (name, seen) in [
        ("checked", r#""patchables::checked":{"calls":2,"errors":2"#),
        ("patterns", r#""patchables::patterns":{"calls":2,"errors":0"#),
        (
            "async_patterns",
            r#""patchables::async_patterns":{"calls":2,"errors":0"#,
        ),
        (
            "parsed_later",
            r#""patchables::parsed_later":{"calls":2,"errors":2"#,
        ),
        ("never", r#""patchables::never":{"calls":2,"errors":2"#),
    ] {
        let before = set.says(name);
        let point = point(name);
        let guard = format!("|s| {{ let c = s.points[\"{point}\"]; c.calls < 2 || c.p99_us < c.mean_us }}");
        let code = format!("patch(\"patchables::on_duty\", |rota, day| \"eve\", #{{ guard: {guard} }})");
        let reply = set.client.eval(&code);
        if name == "never" {
            // Its answer is of a type by which calls cannot be counted.
            assert!(reply.failed().1.contains("cannot be counted"), "{:?}", reply.0);
            continue;
        }
        reply.ok();
        for _ in 0..2 {
            assert_eq!(set.says(name), before, "counting changes nothing");
        }
        let ended = wait::until("the guard ended it", || {
            let records = set.certificates.records();
            let ended = records
                .lines()
                .filter(|line| line.contains("\"kind\":\"lease.guard-failed\""));
            ended
                .map(|line| serde_json::from_str::<Value>(line).unwrap())
                .find(|record| {
                    record["detail"]
                        .as_str()
                        .unwrap()
                        .contains(&format!("\"{point}\""))
                })
        });
        assert!(ended["detail"].as_str().unwrap().contains(seen), "{ended}");
        assert_eq!(set.says(name), before);
    }
    for name in ["only_watched", "borrowed"] {
        let guard = format!("|s| s.points[\"{}\"].calls < 2", point(name));
        let code = format!("patch(\"patchables::on_duty\", |rota, day| \"eve\", #{{ guard: {guard} }})");
        let (_, message) = set.client.eval(&code).failed();
        assert!(message.contains("cannot be counted"), "{message}");
    }
}

#[test]
fn track_caller_still_sees_the_caller() {
    let mut set = Set::new();
    assert_eq!(set.says("line_of_the_caller"), "here");
    set.answered("line_of_the_caller", "|| 7", "line 7");
    set.left_to_the_original("line_of_the_caller", r#"|| throw "no""#, "no");
}
