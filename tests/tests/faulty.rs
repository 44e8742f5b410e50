//! What one fault takes away: one leaf that cannot be shown, one name that is used twice, one state that panics, one name that
//! matches nothing cost that leaf, that state, that name, and are told; the rest works. Through real processes and sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use std::process::Command;

use debug_tests::{Certificates, Client, Service, http};

struct Set {
    _certificates: Certificates,
    service: Service,
    client: Client,
}

impl Set {
    /// Runs the service `faulty`, with `alice` attached in the mode `change`.
    fn new() -> Self {
        Self::with_policy("")
    }

    /// The same under another policy than the shipped one.
    fn with_policy(policy: &str) -> Self {
        let certificates = Certificates::for_service("faulty");
        if !policy.is_empty() {
            certificates.write_policy(policy);
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_faulty"));
        command.env_clear().env("DEBUG_AGENT", "1").env("DEBUG_AGENT_CONFIG", certificates.agent_config());
        let service = Service::spawn(command);
        let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
        client.eval(r#"change("a test")"#).ok();
        Self { _certificates: certificates, service, client }
    }

    #[track_caller]
    fn shows(&mut self, code: &str, parts: &[&str]) {
        let shown = self.client.eval(code).display().to_owned();
        for part in parts {
            assert!(shown.contains(part), "{code}: expected `{part}` in: {shown}");
        }
    }

    /// It fails with all of these words, in its message or its help.
    #[track_caller]
    fn fails(&mut self, code: &str, words: &[&str]) {
        let reply = self.client.eval(code);
        let whole = reply.0.to_string();
        assert!(whole.contains("\"error\""), "{code}: {whole}");
        for word in words {
            assert!(whole.contains(word), "{code}: expected `{word}` in: {whole}");
        }
    }

    /// The service sees the change, and what was there when it is reverted.
    #[track_caller]
    fn written(&mut self, code: &str, seen: &str) -> String {
        let states = || http::get(self.service.http, "/states").unwrap().body;
        let before = states();
        assert!(!before.contains(seen), "{before}");
        let said = self.client.eval(code).display().to_owned();
        let after = states();
        assert!(after.contains(seen), "{code}: {after}");
        self.client.eval("revert_all()").ok();
        assert_eq!(http::get(self.service.http, "/states").unwrap().body, before, "{code}");
        said
    }
}

#[test]
fn a_leaf_that_cannot_be_shown_costs_itself() {
    let mut set = Set::new();
    set.shows("wide.limit", &["1"]);
    set.shows(r#"get("wide")"#, &["limit: 1", "‹unreadable: an integer of more than 64 bits›"]);
    set.shows("wide.id", &["‹unreadable"]);
    set.shows("wide.keys()", &["limit", "id"]);
    set.shows("broken.limit", &["1"]);
    set.shows(
        r#"get("broken")"#,
        &[
            "limit: 1",
            "‹unreadable: its type refuses to write it out›",
            "‹unreadable: its type panics where it writes itself out›",
            "‹unreadable: a key that is neither text",
        ],
    );
    for code in ["wide.id + 1", "wide.id == wide.id", "[wide.id] == [wide.id]", "wide.limit = wide.id"] {
        set.fails(code, &["wide.id", "more than 64 bits"]);
    }
    set.shows(r#"describe("wide.id").kind"#, &["unreadable"]);
    set.shows("ls().len() > 10", &["true"]);
    set.client.eval(r#"snapshot("all")"#).ok();
    set.shows(r#"diff("all")"#, &["broken.panics"]);
}

#[test]
fn what_stands_beside_such_a_leaf_is_written_where_nothing_is_lost_by_it() {
    let mut set = Set::new();
    set.written("opt.rate = 5", "rate: 5");
    set.written("wide.limit = 2", &format!("limit: 2, id: {}", u128::MAX));
    set.written(r#"let all = get("wide"); all.limit = 3; set("wide", all)"#, "limit: 3, id: 3402");
    set.fails("broken.limit = 2", &["broken.refuses", "cannot be read", ".field"]);
}

#[test]
fn one_entry_of_a_large_map_is_read() {
    let mut set = Set::new();
    set.shows(r#"get("jobs.5")"#, &["job 5"]);
    set.shows(r#"get("jobs.19999.name")"#, &["job 19999"]);
    set.shows(r#"jobs["77"].weight"#, &["1"]);
    set.fails(r#"get("jobs.20000")"#, &["jobs"]);
    set.fails(r#"get("jobs")"#, &["`jobs`", "20000 entries", ".field"]);
    set.fails(r#"set("jobs.5.weight", 2)"#, &["`jobs`", "20000 entries", ".field"]);
}

#[test]
fn a_closed_state_says_which_field_closes_it_and_what_to_do() {
    let mut set = Set::new();
    set.fails("flat.limit = 2", &["`flat.by_id`", "numbers", "flatten", ".field"]);
    set.fails("wants.limit = 2", &["`wants.hits`", "skip_serializing", ".field"]);
    set.fails("defaults.limit = 2", &["`defaults`", "`hits` of struct `Defaults`", ".field"]);
    set.fails("guesses.limit = 2", &["`guesses.one`", "untagged enum", ".field"]);
    set.fails("renamed.limit = 2", &["`renamed.read`", "another name for reading", ".field"]);
    set.fails("dd.limit = 2", &["`dd.dd`", "`Some` of nothing", ".field"]);
    // A check that does not fit would not be asked.
    set.fails(r#"set("checked", 2)"#, &["the service closes `checked` to writes"]);
}

#[test]
fn a_value_that_is_spelled_otherwise_is_taken_where_it_means_the_same() {
    let mut set = Set::new();
    let said = set.written(r#"set("opt.span", "PT90S")"#, "Span(90)");
    assert!(said.contains("PT1M30S"), "{said}");
    set.shows(r#"plan(|| opt.span = "PT90S")"#, &["PT1M30S"]);
    set.fails(r#"opt.span = "soon""#, &["opt.span"]);
}

#[test]
fn a_name_that_is_used_twice_costs_those_that_have_it() {
    let mut set = Set::new();
    set.fails("double", &["two states are named `double`", "name of its own"]);
    set.fails(r#"set("double", 3)"#, &["double"]);
    set.fails(r#"get("limits.rate")"#, &["overlap"]);
    set.shows(r#"get("mail.sent")"#, &["7"]);
    set.shows(r#"get("mail")"#, &["sent: 7", "‹unreadable", "panicked"]);
    set.shows(r#"describe("mail.sent").writable"#, &["false"]);
    set.fails(r#"set("mail.sent", 1)"#, &["was registered for reading only", ".field"]);
}

/// In the order in which they are told.
const TOLD: [&str; 13] = [
    "two gauges are named `queue`",
    "`.field`: `limits..mail` is no state path",
    "`.never_write`: `login..id` is no state path",
    "`.validate`: no state is named `opt2`; did you mean `opt`?",
    "`.validate`: state `checked` is of another type",
    "two states are named `double`",
    "field `limits.rate.burst` and field `limits.rate` overlap",
    "`.routes`: `healthcheck`",
    "`broken.panics` cannot be shown",
    "`wide.id` cannot be shown: an integer of more than 64 bits",
    "`.never_write`: `opt.naem`: nothing stands at `opt.naem` now; did you mean `name`?; it closes nothing",
    "`.never_write`: `nosuch.path`: no state is named `nosuch`",
    "`.never_patch`: no function that is a point is called `faulty::nosuch`",
];

#[test]
fn what_is_wrong_is_told_at_start_in_the_log_and_in_info() {
    let mut set = Set::new();
    let notes = set.client.eval("info().notes").display().to_owned();
    let log = set.service.log();
    for told in TOLD {
        let line = set.service.wait_for_log(&format!("debug-agent: {told}"));
        assert!(!line.is_empty());
        assert!(notes.replace("\\\"", "\"").contains(told), "`{told}` in {notes}");
    }
    // A route may come; until then only `info()` says so.
    assert!(notes.contains("`.never_patch`: `POST /api/login` matches no point yet"), "{notes}");
    assert!(!log.contains("POST /api/login"), "{log}");
    assert!(
        notes.contains("nothing stands at `opt.proxy` now; it is closed whenever something does"),
        "{notes}"
    );
}

/// A protection that names nothing closes nothing; one of a place that is empty now holds.
#[test]
fn a_protection_with_a_typing_mistake_closes_nothing() {
    let mut set = Set::new();
    set.written(r#"opt.name = "y""#, "name: \"y\"");
    set.fails(r#"set("opt", get("opt"))"#, &["the service closes `opt.proxy` to writes"]);
}

#[test]
fn names_in_the_policy_that_match_nothing_are_told_with_the_nearest() {
    let actions = r#""attach", "list", "read", "change", "write", "revert""#;
    let mut set = Set::with_policy(&format!(
        "version = 1\n\
         [[rule]]\nid = \"all\"\nwhy = \"Tests\"\nallow = [{actions}]\nroles = [\"oncall\"]\nmax_ttl = \"30m\"\nmax_life = \"30m\"\n\
         [[rule]]\nid = \"some\"\nwhy = \"Mistakes\"\ndeny = [\"read\"]\nroles = [\"oncall\"]\n\
         on = [\"state:logn.**\", \"state:login.pasword\", \"state:login.host.**\", \"point:faulty::other\", \"point:GET /api/helthcheck\"]\n"
    ));
    let notes = set.client.eval("info().notes").display().to_owned();
    for told in [
        "policy, rule `some`, `on`: `state:logn.**` matches no state; did you mean `login`?",
        "policy, rule `some`, `on`: `state:login.pasword` matches nothing: nothing stands at `login.pasword` now; did you mean `password`?",
        "policy, rule `some`, `on`: `point:faulty::other` matches no point",
        "policy, rule `some`, `on`: `point:GET /api/helthcheck` matches no point yet; did you mean `GET /api/healthcheck`?",
    ] {
        assert!(notes.contains(told), "`{told}` in {notes}");
        set.service.wait_for_log(&format!("debug_agent: {told}"));
    }
    assert!(!notes.contains("login.host"), "{notes}");
}

#[test]
fn a_text_that_equals_a_secret_is_told_so() {
    let mut set = Set::new();
    set.shows("login.host", &["‹secret", "its text is that of the secret `login.password`"]);
    set.fails("login.host + 1", &["its text is that of the secret `login.password`"]);
    let shown = set.client.eval("login.password").display().to_owned();
    assert!(shown.contains("‹secret") && !shown.contains("its text"), "{shown}");
}
