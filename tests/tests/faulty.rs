//! What one fault costs. A leaf that cannot be shown, a name used twice, a state that panics and a name that matches nothing cost
//! only that leaf, state or name, and are reported; the rest works. Through real processes and sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use debug_tests::{Set, http};

fn set() -> Set {
    Set::changing(env!("CARGO_BIN_EXE_faulty"))
}

#[track_caller]
fn shows(set: &mut Set, code: &str, parts: &[&str]) {
    let shown = set.client.eval(code).display().to_owned();
    for part in parts {
        assert!(shown.contains(part), "{code}: expected `{part}` in: {shown}");
    }
}

/// The eval fails, with all of these words in its message or its help.
#[track_caller]
fn fails(set: &mut Set, code: &str, words: &[&str]) {
    let reply = set.client.eval(code);
    let whole = reply.0.to_string();
    assert!(whole.contains("\"error\""), "{code}: {whole}");
    for word in words {
        assert!(whole.contains(word), "{code}: expected `{word}` in: {whole}");
    }
}

/// The service sees the change, and the old value after the revert.
#[track_caller]
fn written(set: &mut Set, code: &str, seen: &str) -> String {
    let states = || http::get(set.service.http, "/states").unwrap().body;
    let before = states();
    assert!(!before.contains(seen), "{before}");
    let said = set.client.eval(code).display().to_owned();
    let after = states();
    assert!(after.contains(seen), "{code}: {after}");
    set.client.eval("revert_all()").ok();
    assert_eq!(
        http::get(set.service.http, "/states").unwrap().body,
        before,
        "{code}"
    );
    said
}

#[test]
fn a_leaf_that_cannot_be_shown_costs_itself() {
    let mut set = set();
    shows(&mut set, "wide.limit", &["1"]);
    shows(
        &mut set,
        r#"get("wide")"#,
        &["limit: 1", "‹unreadable: an integer of more than 64 bits›"],
    );
    shows(&mut set, "wide.id", &["‹unreadable"]);
    shows(&mut set, "wide.keys()", &["limit", "id"]);
    shows(&mut set, "broken.limit", &["1"]);
    shows(
        &mut set,
        r#"get("broken")"#,
        &[
            "limit: 1",
            "‹unreadable: its type refuses to write it out›",
            "‹unreadable: its type panics where it writes itself out›",
            "‹unreadable: a key that is neither text",
        ],
    );
    for code in [
        "wide.id + 1",
        "wide.id == wide.id",
        "[wide.id] == [wide.id]",
        "wide.limit = wide.id",
    ] {
        fails(&mut set, code, &["wide.id", "more than 64 bits"]);
    }
    // In a text the leaf is shown as what it is, and such a text is not stored.
    shows(
        &mut set,
        "`id ${wide.id}`",
        &["\"id ‹unreadable: an integer of more than 64 bits›\""],
    );
    for code in [
        "opt.name = `id ${wide.id}`",
        "opt.name = wide.id.to_string()",
        r#"set("opt.on", #{ a: `${wide.id}` })"#,
    ] {
        fails(
            &mut set,
            code,
            &[
                "was not changed",
                "the text by which what cannot be read is shown",
            ],
        );
    }
    shows(&mut set, r#"describe("wide.id").kind"#, &["unreadable"]);
    shows(&mut set, "ls().len() > 10", &["true"]);
    set.client.eval(r#"snapshot("all")"#).ok();
    shows(&mut set, r#"diff("all")"#, &["broken.panics"]);
}

#[test]
fn what_stands_beside_such_a_leaf_is_written_where_nothing_is_lost_by_it() {
    let mut set = set();
    written(&mut set, "opt.rate = 5", "rate: 5");
    written(
        &mut set,
        "wide.limit = 2",
        &format!("limit: 2, id: {}", u128::MAX),
    );
    written(
        &mut set,
        r#"let all = get("wide"); all.limit = 3; set("wide", all)"#,
        "limit: 3, id: 3402",
    );
    fails(
        &mut set,
        "broken.limit = 2",
        &["broken.refuses", "cannot be read", ".field"],
    );
}

#[test]
fn one_entry_of_a_large_map_is_read() {
    let mut set = set();
    shows(&mut set, r#"get("jobs.5")"#, &["job 5"]);
    shows(&mut set, r#"get("jobs.19999.name")"#, &["job 19999"]);
    shows(&mut set, r#"jobs["77"].weight"#, &["1"]);
    fails(&mut set, r#"get("jobs.20000")"#, &["jobs"]);
    fails(&mut set, r#"get("jobs")"#, &["`jobs`", "20000 entries", ".field"]);
    fails(
        &mut set,
        r#"set("jobs.5.weight", 2)"#,
        &["`jobs`", "20000 entries", ".field"],
    );
}

#[test]
fn a_closed_state_says_which_field_closes_it_and_what_to_do() {
    let mut set = set();
    fails(
        &mut set,
        "flat.limit = 2",
        &["`flat.by_id`", "numbers", "flatten", ".field"],
    );
    fails(
        &mut set,
        "wants.limit = 2",
        &["`wants.hits`", "skip_serializing", ".field"],
    );
    fails(
        &mut set,
        "defaults.limit = 2",
        &["`defaults`", "`hits` of struct `Defaults`", ".field"],
    );
    fails(
        &mut set,
        "guesses.limit = 2",
        &["`guesses.one`", "untagged enum", ".field"],
    );
    fails(
        &mut set,
        "renamed.limit = 2",
        &["`renamed.read`", "another name for reading", ".field"],
    );
    fails(
        &mut set,
        "dd.limit = 2",
        &["`dd.dd`", "`Some` of nothing", ".field"],
    );
    // A check of the wrong type would never be called.
    fails(
        &mut set,
        r#"set("checked", 2)"#,
        &["the service closes `checked` to writes"],
    );
}

#[test]
fn a_value_that_is_spelled_otherwise_is_taken_where_it_means_the_same() {
    let mut set = set();
    let said = written(&mut set, r#"set("opt.span", "PT90S")"#, "Span(90)");
    assert!(said.contains("PT1M30S"), "{said}");
    shows(&mut set, r#"plan(|| opt.span = "PT90S")"#, &["PT1M30S"]);
    fails(&mut set, r#"opt.span = "soon""#, &["opt.span"]);
}

#[test]
fn a_name_that_is_used_twice_costs_those_that_have_it() {
    let mut set = set();
    fails(
        &mut set,
        "double",
        &["two states are named `double`", "name of its own"],
    );
    fails(&mut set, r#"set("double", 3)"#, &["double"]);
    fails(&mut set, r#"get("limits.rate")"#, &["overlap"]);
    shows(&mut set, r#"get("mail.sent")"#, &["7"]);
    shows(
        &mut set,
        r#"get("mail")"#,
        &["sent: 7", "‹unreadable", "panicked"],
    );
    shows(&mut set, r#"describe("mail.sent").writable"#, &["false"]);
    fails(
        &mut set,
        r#"set("mail.sent", 1)"#,
        &["was registered for reading only", ".field"],
    );
}

/// The notes, in order.
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
    let mut set = set();
    let notes = set.client.eval("info().notes").display().to_owned();
    let log = set.service.log();
    for told in TOLD {
        let line = set.service.wait_for_log(&format!("debug-agent: {told}"));
        assert!(!line.is_empty());
        assert!(notes.replace("\\\"", "\"").contains(told), "`{told}` in {notes}");
    }
    // A route may still come; until then only `info()` mentions it.
    assert!(
        notes.contains("`.never_patch`: `POST /api/login` matches no point yet"),
        "{notes}"
    );
    assert!(!log.contains("POST /api/login"), "{log}");
    assert!(
        notes.contains("nothing stands at `opt.proxy` now; it is closed whenever something does"),
        "{notes}"
    );
}

/// A protection that names nothing protects nothing; one of a place that is empty now holds.
#[test]
fn a_protection_with_a_typing_mistake_closes_nothing() {
    let mut set = set();
    written(&mut set, r#"opt.name = "y""#, "name: \"y\"");
    fails(
        &mut set,
        r#"set("opt", get("opt"))"#,
        &["the service closes `opt.proxy` to writes"],
    );
}

#[test]
fn names_in_the_policy_that_match_nothing_are_told_with_the_nearest() {
    let actions = r#""attach", "list", "read", "change", "write", "revert""#;
    let mut set = Set::with(
        env!("CARGO_BIN_EXE_faulty"),
        Some(&format!(
            "version = 1\n\
         [[rule]]\nid = \"all\"\nwhy = \"Tests\"\nallow = [{actions}]\nroles = [\"oncall\"]\nmax_ttl = \"30m\"\nmax_life = \"30m\"\n\
         [[rule]]\nid = \"some\"\nwhy = \"Mistakes\"\ndeny = [\"read\"]\nroles = [\"oncall\"]\n\
         on = [\"state:logn.**\", \"state:login.pasword\", \"state:login.host.**\", \"point:faulty::other\", \"point:GET /api/helthcheck\"]\n"
        )),
        &[],
    );
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
    let mut set = set();
    shows(
        &mut set,
        "login.host",
        &["‹secret", "its text is that of the secret `login.password`"],
    );
    fails(
        &mut set,
        "login.host + 1",
        &["its text is that of the secret `login.password`"],
    );
    let shown = set.client.eval("login.password").display().to_owned();
    assert!(
        shown.contains("‹secret") && !shown.contains("its text"),
        "{shown}"
    );
}

/// The note tells no operator whether a text that came after the start equals a secret.
#[test]
fn of_a_text_that_came_later_it_is_not_told_which_secret_it_equals() {
    let mut set = set();
    let opaque = |set: &mut Set, code: &str| {
        let shown = set.client.eval(code).display().to_owned();
        assert!(shown.contains("‹secret"), "{code}: {shown}");
        shown
    };
    assert_eq!(set.client.eval("opt.name").display(), "\"x\"");
    set.says("/bring");
    assert!(!opaque(&mut set, "opt.name").contains("text"));
    set.client.eval(r#"patch("faulty::brought", |name| name)"#).ok();
    set.says("/bring");
    set.client.eval("revert_all()").ok();
    assert!(!opaque(&mut set, "opt.name").contains("text"));
    // An equality found at start is reported as such.
    assert!(opaque(&mut set, "login.host").contains("of the secret `login.password`, as found at start"));
}

/// Notes do not mention states that their reader may not read.
#[test]
fn notes_tell_of_states_and_rules_only_to_those_who_may_know_of_them() {
    let set = Set::with(
        env!("CARGO_BIN_EXE_faulty"),
        Some(
            r#"version = 1
[[rule]]
id = "all"
why = "Tests"
allow = ["attach", "list", "read", "change"]
roles = ["oncall"]
[[rule]]
id = "wide"
why = "Tests"
allow = ["attach", "list"]
roles = ["viewer", "lead"]
[[rule]]
id = "wide-only"
why = "Tests"
allow = ["read"]
roles = ["viewer"]
on = ["state:wide.**", "state:wyde.**"]
[[rule]]
id = "mistaken"
why = "Tests"
deny = ["read"]
roles = ["lead"]
on = ["state:wide.idd", "point:faulty::other"]
"#,
        ),
        &[],
    );
    let notes = |operator: &str| set.attach(operator).eval("info().notes").display().to_owned();
    let all = notes("bob");
    let ours = ["`wide.id` cannot be shown", "faulty::nosuch", "`queue`"];
    let others = [
        "`jobs`",
        "opt.naem",
        "`double`",
        "`limits",
        "`mail.",
        "`checked`",
        "`broken.",
        "`login.",
        "opt2",
    ];
    for told in ours.iter().chain(&others) {
        assert!(all.contains(told), "{told}: {all}");
    }
    assert!(
        !all.contains("rule `"),
        "of rules for others nothing is told: {all}"
    );
    let few = notes("vera");
    for told in ours
        .iter()
        .chain(&["policy, rule `wide-only`, `on`: `state:wyde.**` matches no state"])
    {
        assert!(few.contains(told), "{told}: {few}");
    }
    for hidden in others.iter().chain(&["mistaken"]) {
        assert!(!few.contains(hidden), "{hidden}: {few}");
    }
    assert!(notes("lea").contains("policy, rule `mistaken`, `on`: `point:faulty::other` matches no point"));
    assert!(!notes("lea").contains("wide"), "lea may read nothing");
}
