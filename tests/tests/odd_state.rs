//! States with types that serde does not preserve, and functions in unfriendly places: an operation that cannot be done properly
//! is refused and changes nothing, and the service is unharmed. Through real processes and sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use debug_tests::Set;

fn set() -> Set {
    Set::changing(env!("CARGO_BIN_EXE_oddball"))
}

/// The write is refused with all of these words, and neither the service nor the agent has a change.
#[track_caller]
fn refused(set: &mut Set, code: &str, words: &[&str]) {
    let before = set.says("/states");
    let (kind, message) = set.client.eval(code).failed();
    assert_eq!(kind, "state", "{code}: {message}");
    for word in words {
        assert!(message.contains(word), "{code}: expected `{word}` in: {message}");
    }
    assert_eq!(set.says("/states"), before, "{code}");
    assert_eq!(set.client.eval("leases().len()").display(), "0", "{code}");
}

/// The write is applied, the service sees it, and reverting restores the old value.
#[track_caller]
fn written(set: &mut Set, code: &str, seen: &str) {
    let before = set.says("/states");
    assert!(!before.contains(seen), "{before}");
    set.client.eval(code).ok();
    let states = set.says("/states");
    assert!(states.contains(seen), "{code}: {states}");
    set.client.eval("revert_all()").ok();
    assert_eq!(set.says("/states"), before, "{code}");
}

#[test]
fn a_field_that_serde_skips_closes_its_state_to_writes() {
    let mut set = set();
    refused(
        &mut set,
        "skips.limit = 2",
        &["`skips`", "does not survive", "left out by serde"],
    );
    refused(&mut set, r#"set("skips", #{ limit: 2 })"#, &["`skips`"]);
    assert_eq!(set.client.eval("skips.limit").display(), "1");
}

#[test]
fn a_field_that_is_not_read_back_is_named() {
    let mut set = set();
    refused(
        &mut set,
        "forgets.limit = 2",
        &["`forgets.hits`", "does not survive"],
    );
}

#[test]
fn a_number_that_is_not_equal_to_itself_is_named() {
    let mut set = set();
    refused(&mut set, "unequal.limit = 2", &["`unequal.ratio`"]);
}

#[test]
fn a_type_that_panics_poisons_no_lock_and_changes_nothing() {
    let mut set = set();
    refused(&mut set, "fragile.level = 13", &["`fragile`", "panicked"]);
    refused(
        &mut set,
        r#"set("fragile", #{ level: 13 })"#,
        &["`fragile`", "panicked"],
    );
    written(&mut set, "fragile.level = 12", "Level(12)");
}

/// Reading takes the service's lock: only for as long as the service may be blocked, and never a part of a value in place of the
/// whole.
#[test]
fn what_is_too_slow_or_too_large_is_neither_read_nor_written() {
    let mut set = set();
    for code in [r#"get("slow")"#, r#"ls("slow")"#] {
        let (kind, message) = set.client.eval(code).failed();
        assert_eq!(kind, "state", "{code}: {message}");
        assert!(
            message.contains("slow") && message.contains("takes longer"),
            "{code}: {message}"
        );
    }
    let (kind, message) = set.client.eval(r#"get("huge")"#).failed();
    assert_eq!(kind, "state");
    assert!(
        message.contains("huge") && message.contains("larger than 1048576 bytes"),
        "{message}"
    );
    refused(&mut set, "slow[0] = 2", &["slow", "takes longer"]);
    refused(&mut set, r#"set("huge", "small")"#, &["huge", "larger than"]);
    // A part of it can be read, and other states can be read nevertheless.
    assert_eq!(set.client.eval("slow[0]").display(), "1");
    assert_eq!(set.client.eval("numbers.small").display(), "1");
}

#[test]
fn closed_doors_stay_closed() {
    let mut set = set();
    refused(&mut set, r#"set("fixed", 2)"#, &["`fixed`", "reading only"]);
    refused(&mut set, "numbers.sealed = 2", &["`numbers.sealed`", "closes"]);
    // Not through its parent, either.
    refused(
        &mut set,
        r#"let all = get("numbers"); all.sealed = 2; set("numbers", all)"#,
        &["`numbers`", "closes `numbers.sealed`"],
    );
    assert_eq!(set.client.eval("fixed").display(), "1");
    assert_eq!(set.client.eval("numbers.sealed").display(), "1");
}

/// Rhai's integers are signed, with 64 bits.
#[test]
fn a_number_beyond_the_scripts_stays_exact_when_its_neighbour_is_written() {
    let mut set = set();
    assert_eq!(set.client.eval("numbers.big").display(), u64::MAX.to_string());
    set.client.eval("numbers.small = 2").ok();
    let states = set.says("/states");
    assert!(states.contains("big=18446744073709551615 small=2"), "{states}");
    set.client.eval("revert_all()").ok();
    let states = set.says("/states");
    assert!(states.contains("big=18446744073709551615 small=1"), "{states}");
    written(&mut set, "numbers.big = 5", "big=5 ");
    written(
        &mut set,
        "let big = numbers.big; numbers.big = 5; set(\"numbers.small\", 3); big",
        "big=5 small=3",
    );
    refused(&mut set, "numbers.big = -1", &["`numbers.big`"]);
    refused(&mut set, "numbers.small = numbers.big", &["`numbers.small`"]);
}

#[test]
fn a_short_float_takes_what_it_can_hold_exactly() {
    let mut set = set();
    assert_eq!(set.client.eval("numbers.ratio").display(), "0.1");
    written(&mut set, "numbers.ratio = 0.25", "ratio=0.25 ");
    written(&mut set, "numbers.ratio = 0.3", "ratio=0.3 ");
    written(&mut set, "numbers.ratio = 2", "ratio=2 ");
    refused(
        &mut set,
        "numbers.ratio = 0.1234567890123",
        &["`numbers.ratio`", "would store another value"],
    );
    refused(&mut set, "numbers.ratio = 1e300", &["`numbers.ratio`"]);
    refused(&mut set, r#"numbers.ratio = "0.5""#, &["`numbers.ratio`"]);
}

#[test]
fn an_enum_takes_its_variants_and_nothing_else() {
    let mut set = set();
    written(&mut set, "numbers.mode = #{ Level: 3 }", "mode=Level(3)");
    written(
        &mut set,
        r#"numbers.mode = #{ Named: #{ name: "low" } }"#,
        r#"mode=Named { name: "low" }"#,
    );
    refused(
        &mut set,
        r#"numbers.mode = "Loud""#,
        &["`numbers.mode`", "`Off`, `Level`, `Named`"],
    );
    refused(&mut set, "numbers.mode = #{ Level: 300 }", &["`numbers.mode"]);
    refused(
        &mut set,
        "numbers.mode = #{ Level: 3, Off: () }",
        &["`numbers.mode`"],
    );
}

#[test]
fn a_map_with_numbers_as_keys_is_written_by_them() {
    let mut set = set();
    assert_eq!(
        set.client.eval(r#"get("numbers.by_id.7")"#).display(),
        "\"seven\""
    );
    written(
        &mut set,
        r#"set("numbers.by_id.7", "sieben")"#,
        r#"by_id={7: "sieben", 8: "eight"}"#,
    );
    written(
        &mut set,
        r#"numbers.by_id["8"] = "acht""#,
        r#"by_id={7: "seven", 8: "acht"}"#,
    );
    written(
        &mut set,
        r#"numbers.by_id = #{ "9": "nine" }"#,
        r#"by_id={9: "nine"}"#,
    );
    refused(
        &mut set,
        r#"numbers.by_id = #{ "x": "nine" }"#,
        &["`numbers.by_id"],
    );
    refused(&mut set, r#"set("numbers.by_id.7", 7)"#, &["`numbers.by_id.7`"]);
}

#[test]
fn an_async_function_is_patched_and_reverted() {
    let mut set = set();
    assert_eq!(set.says("/greeting/anna"), "hello anna");
    set.client
        .eval(r#"patch("oddball::greeting", |name| `bye ${name}`)"#)
        .ok();
    assert_eq!(set.says("/greeting/anna"), "bye anna");
    set.client.eval("revert_all()").ok();
    assert_eq!(set.says("/greeting/anna"), "hello anna");
    // If the result has the wrong type or the patch fails, the original answers.
    for code in ["|name| 5", r#"|name| throw "no""#, "|name| { loop {} }"] {
        set.client
            .eval(&format!("patch(\"oddball::greeting\", {code})"))
            .ok();
        assert_eq!(set.says("/greeting/anna"), "hello anna", "{code}");
        set.client.eval("revert_all()").ok();
    }
}

/// The KiB of a stack of 2 MiB that are used when the point is called: from nothing to nearly everything.
const USED: [u32; 9] = [0, 512, 960, 992, 1_000, 1_008, 1_100, 1_500, 1_900];

/// Where the stack is too small for the patch, the original answers; the process never dies.
#[test]
fn a_patch_runs_only_where_the_stack_suffices() {
    let mut set = set();
    for used in USED {
        assert_eq!(set.says(&format!("/deep/{used}")), "42");
        set.client
            .eval(r#"patch("oddball::doubled", |number| number + 1)"#)
            .ok();
        let answer = set.says(&format!("/deep/{used}"));
        match used {
            0 => assert_eq!(answer, "22"),
            1_900 => assert_eq!(answer, "42"),
            _ => assert!(answer == "22" || answer == "42", "{used}: {answer}"),
        }
        set.client.eval("revert_all()").ok();
    }
    assert_eq!(set.says("/doubled/4"), "8");
}

/// Each fails within its limits, at every stack depth at which the service may call.
#[test]
fn after_a_patch_that_never_ends_the_original_answers_on_a_small_stack_too() {
    let mut set = set();
    let hostile = [
        ("fn f(n) { f(n + 1) }", "|n| f(n)"),
        ("fn f(n) { [n].map(|x| f(x + 1))[0] }", "|n| f(n)"),
        ("fn f(n) { [n].filter(|x| f(x)).len() }", "|n| f(n)"),
        ("fn f(n) { [n, n].reduce(|sum, x| sum + f(x), 0) }", "|n| f(n)"),
        (
            "fn f(n) { switch n { 0 => 0, _ => { try { f(n + 1) } catch { f(n + 1) } } } }",
            "|n| f(n)",
        ),
        ("", "|n| { let f = |g| g.call(g); f.call(f) }"),
        ("", "|n| { let a = [n]; loop { a = [a]; } }"),
    ];
    for (functions, patch) in hostile {
        for used in USED {
            set.client
                .eval(&format!("{functions} patch(\"oddball::doubled\", {patch})"))
                .ok();
            assert_eq!(
                set.says(&format!("/deep/{used}")),
                "42",
                "{functions} {patch} at {used}"
            );
            set.client.eval("revert_all()").ok();
        }
    }
    assert!(set.service.is_alive());
    assert_eq!(set.says("/doubled/4"), "8");
}

/// What the author closes to writes beside the changed places does not stand in the way of going back.
#[test]
fn a_snapshot_is_restored_beside_what_is_closed() {
    let mut set = set();
    let look = "[numbers.small, numbers.ratio, numbers.sealed]";
    let before = set.client.eval(look).display().to_owned();
    set.client.eval(r#"snapshot("before")"#).ok();
    set.client.eval("numbers.small = 77; numbers.ratio = 4.5").ok();
    assert_ne!(set.client.eval(look).display(), before);
    let said = set.client.eval(r#"restore("before", #{ over: [1, 2] })"#);
    assert!(said.is_ok(), "{said:?}");
    assert_eq!(set.client.eval(look).display(), before);
    set.client.eval("revert_all()").ok();
    assert_eq!(set.client.eval(look).display(), before);
}

/// Endless recursion through the deepest expressions that are accepted, with just enough stack left for a patch to run.
#[test]
fn the_deepest_patch_that_is_taken_harms_no_small_stack() {
    let mut set = set();
    let nestings = [
        ("(1 + ", ")"),
        ("[", "][0]"),
        ("#{ a: ", " }.a"),
        ("[n].map(|x| ", ")[0]"),
        ("if true { ", " } else { 0 }"),
        ("switch n { _ => ", " }"),
        ("{ try { ", " } catch { 0 } }"),
        ("abs(", ")"),
        ("`${", "}`"),
    ];
    for (open, close) in nestings {
        let patch = |depth: usize| {
            let inner = format!("{}f(n + 1){}", open.repeat(depth), close.repeat(depth));
            format!("fn f(n) {{ {inner} }} patch(\"oddball::doubled\", |n| f(n))")
        };
        let taken = (1..64)
            .rev()
            .find(|depth| set.client.eval(&patch(*depth)).0.get("result").is_some());
        let depth = taken.unwrap();
        set.client.eval("revert_all()").ok();
        for used in USED {
            set.client.eval(&patch(depth)).ok();
            assert_eq!(
                set.says(&format!("/deep/{used}")),
                "42",
                "{open}…{close} at {used}"
            );
            set.client.eval("revert_all()").ok();
        }
    }
    assert_eq!(set.says("/doubled/4"), "8");
}

/// The permission to read is decided per leaf; a leaf that appears later was not among them.
#[test]
fn a_patch_does_not_read_what_came_later_and_its_author_may_not() {
    let actions = "\"attach\", \"list\", \"read\", \"change\", \"patch\", \"write\", \"revert\"";
    let mut set = Set::with(
        env!("CARGO_BIN_EXE_oddball"),
        Some(&format!(
            "version = 1\n\
         [[rule]]\nid = \"all\"\nwhy = \"Tests\"\nallow = [{actions}]\nroles = [\"oncall\"]\nmax_ttl = \"30m\"\nmax_life = \"30m\"\n\
         [[rule]]\nid = \"nine\"\nwhy = \"Not this one\"\ndeny = [\"read\"]\nroles = [\"oncall\"]\non = [\"state:numbers.by_id.9\"]\n"
        )),
        &[],
    );
    let code = r#"patch("oddball::doubled", |n| { let all = get("numbers.by_id"); all.len() * 1000 })"#;
    set.client.eval(code).ok();
    assert_eq!(set.says("/doubled/21"), "2000");
    let more =
        |key: u32| format!(r##"set("numbers.by_id", #{{ "7": "seven", "8": "eight", "{key}": "more" }})"##);
    set.client.eval(&more(3)).ok();
    assert_eq!(
        set.says("/doubled/21"),
        "3000",
        "policy lets the author read this one"
    );
    set.client.eval("revert(leases()[1].id)").ok();
    set.client.eval(&more(9)).ok();
    assert_eq!(set.says("/doubled/21"), "42", "the original answers");
    let why = set.service.wait_for_log("does not let the patch's author read");
    assert!(why.contains("numbers.by_id") && !why.contains("more"), "{why}");
}

/// The lookups of one eval hold a lock of the service for one second at most in total: an eval that does nothing else has time
/// left.
#[test]
fn looks_that_hold_the_service_up_cost_operations() {
    let mut set = set();
    let (kind, message) = set
        .client
        .eval("for i in 0..2_000 { let looked = slow; }")
        .failed();
    assert_eq!(
        (kind.as_str(), message.as_str()),
        ("limit", "the eval used more than 1000000 operations")
    );
}
