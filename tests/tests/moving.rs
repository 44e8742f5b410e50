//! A change is undone at the current place of its element, or not at all: elements that move, places that are empty, lists with
//! keys. Through real processes and sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use debug_tests::{Ctl, Set, http, wait};
use serde_json::Value;

fn set() -> Set {
    Set::changing(env!("CARGO_BIN_EXE_moving"))
}

/// The states as the service itself sees them, after the action that `path` names.
fn state(set: &Set, path: &str) -> Value {
    serde_json::from_str(&http::get(set.service.http, path).unwrap().body).unwrap()
}

fn weights(set: &Set, path: &str) -> String {
    let state = state(set, path);
    let weights = state["pool"]["backends"].as_array().unwrap().iter();
    weights
        .map(|b| format!("{}{} ", b["name"].as_str().unwrap(), b["weight"]))
        .collect()
}

/// The lease that a change made.
#[track_caller]
fn made(set: &mut Set, code: &str) -> u64 {
    set.client.eval(code).ok()["leases"][0]["id"].as_u64().unwrap()
}

#[track_caller]
fn shown(set: &mut Set, code: &str) -> String {
    set.client.eval(code).display().to_owned()
}

#[test]
fn a_change_inside_a_list_is_undone_at_its_deadline_at_the_element_that_was_changed() {
    let mut set = set();
    made(&mut set, r#"set("pool.backends.1.weight", 0, #{ ttl: "1s" })"#);
    assert_eq!(weights(&set, "/state"), "a1 b0 c0 ");
    assert_eq!(weights(&set, "/pop"), "b0 c0 ");
    wait::until_true("the lease ends", || {
        set.certificates.records_of("lease.expired").len() == 1
    });
    assert_eq!(weights(&set, "/state"), "b1 c0 ");
    let ended = set.certificates.records_of("lease.expired").remove(0);
    assert_eq!(
        (ended["found"].as_str(), ended["foreign"].as_bool()),
        (Some("pool.backends.0.weight"), Some(false))
    );
    assert_eq!(ended["compared"], serde_json::json!(["value", "identity"]));
    let made = set.certificates.records_of("lease.made").remove(0);
    assert_eq!(ended["restored"], made["before"]);
    let folder = set.certificates.audit().display().to_string();
    let verified = Ctl::run(&set.certificates, "alice", &["audit", "verify", &folder]);
    assert!(
        verified
            .out
            .contains("1 put it back at an element that had moved"),
        "{verified:?}"
    );
    assert!(
        verified.out.contains("0 put back what stood there before"),
        "{verified:?}"
    );
}

/// A changed element stays changed wherever the service moves it, and the element now in its old place does not count as changed.
#[test]
fn a_change_on_top_of_another_is_told_so_where_that_one_is_now() {
    let mut set = set();
    let id = made(&mut set, "pool.backends[1].weight = 0");
    assert_eq!(weights(&set, "/pop"), "b0 c0 ");
    let plan = shown(&mut set, "plan(|| { pool.backends[0].weight = 5; })");
    let answer = set.client.eval("pool.backends[0].weight = 5");
    let help = answer.help().to_owned();
    let (_, message) = answer.failed();
    let told = format!("already changed by lease {id}");
    assert!(message.contains(&told), "{message}");
    assert!(plan.contains(&told), "{plan}");
    assert!(help.contains("over"), "{help}");
    // The element now at the old position was not changed.
    let (_, message) = set
        .client
        .eval(&format!("set(\"pool.backends.1.weight\", 5, #{{ over: {id} }})"))
        .failed();
    assert!(message.contains("names no change in force"), "{message}");
    made(&mut set, "pool.backends[1].weight = 6");
    made(
        &mut set,
        &format!("set(\"pool.backends.0.weight\", 5, #{{ over: {id} }})"),
    );
    assert_eq!(weights(&set, "/state"), "b5 c6 ");
    set.client.eval("revert_all()").ok();
    assert_eq!(weights(&set, "/state"), "b1 c0 ");
}

/// A snapshot is restored as a whole where positions do not identify elements.
#[test]
fn a_snapshot_is_put_back_over_elements_that_moved() {
    let mut set = set();
    set.client.eval(r#"snapshot("then", ["pool.backends"])"#).ok();
    assert_eq!(weights(&set, "/pop"), "b1 c0 ");
    assert!(shown(&mut set, r#"diff("then")"#).contains("pool.backends"));
    let id = made(&mut set, r#"restore("then")"#);
    assert_eq!(weights(&set, "/state"), "a1 b1 c0 ");
    let said = shown(&mut set, &format!("revert({id})"));
    assert!(said.contains("is as it was before"), "{said}");
    assert_eq!(weights(&set, "/state"), "b1 c0 ");
}

#[test]
fn an_element_that_went_leaves_a_conflict_in_words_and_is_not_forced() {
    let mut set = set();
    let id = made(&mut set, "pool.backends[1].weight = 0");
    assert_eq!(weights(&set, "/replace"), "a1 new0 c0 ");
    let said = shown(&mut set, &format!("revert({id})"));
    assert!(
        said.contains("`pool.backends` had 3 elements, now 3") && said.contains("not among them"),
        "{said}"
    );
    let (_, message) = set.client.eval(&format!("settle({id}, \"force\")")).failed();
    assert!(message.contains("not among them"), "{message}");
    assert_eq!(weights(&set, "/state"), "a1 new0 c0 ");
    set.client.eval(&format!("settle({id}, \"keep\")")).ok();
    let again = set.client.eval(&format!("revert({id})"));
    assert!(!again.help().contains("as it was before"), "{}", again.help());
}

#[test]
fn elements_have_their_keys_as_paths_wherever_they_stand() {
    let mut set = set();
    let before = state(&set, "/state")["pool"]["ring"].clone();
    let id = made(&mut set, "pool.ring.b.weight = 7");
    assert_eq!(shown(&mut set, "pool.ring.b.weight"), "7");
    assert_eq!(shown(&mut set, "pool.ring.keys()"), r#"["a", "b", "c"]"#);
    let record = set.certificates.records_of("lease.made").remove(0);
    assert_eq!(record["lease"]["target"], "state:pool.ring.b.weight");
    state(&set, "/swap");
    let said = shown(&mut set, &format!("revert({id})"));
    assert!(said.contains("is as it was before"), "{said}");
    assert_eq!(state(&set, "/swap")["pool"]["ring"], before);
    // A removed element returns to its place.
    let id = made(&mut set, "pool.ring.b = ()");
    assert_eq!(state(&set, "/state")["pool"]["ring"].as_array().unwrap().len(), 2);
    set.client.eval(&format!("revert({id})")).ok();
    assert_eq!(state(&set, "/state")["pool"]["ring"], before);
    let (_, message) = set.client.eval(r#"pool.ring.b.name = "z""#).failed();
    assert!(message.contains("key of an element is not changed"), "{message}");
    assert!(shown(&mut set, "info().notes").contains("`pol.ring`"));
    state(&set, "/twin");
    let (_, message) = set.client.eval("pool.ring.b.weight").failed();
    assert!(message.contains("two elements have the same `name`"), "{message}");
    assert!(shown(&mut set, "info().notes").contains("`pool.ring` is shown as a list"));
}

/// The order of a list that is shown by key is the service's: no write changes it, and no undo.
#[test]
fn a_list_with_keys_keeps_the_order_that_the_service_gave_it() {
    let names = |set: &Set, path: &str| -> String {
        let state = state(set, path);
        let ring = state["pool"]["ring"].as_array().unwrap().iter();
        ring.map(|peer| peer["name"].as_str().unwrap()).collect()
    };
    let mut set = set();
    assert_eq!(names(&set, "/swap"), "cba");
    for (code, then) in [
        (r#"set("pool.ring", pool.ring)"#, "cba"),
        (r#"pool.ring.remove("b")"#, "ca"),
        (r#"let r = get("pool.ring"); r.remove("c"); pool.ring = r"#, "ba"),
        (r#"pool.ring.b = ()"#, "ca"),
        (
            r#"let r = get("pool.ring"); r.aa = #{ name: "aa", weight: 1 }; pool.ring = r"#,
            "cbaaa",
        ),
    ] {
        let before = state(&set, "/state");
        let id = made(&mut set, code);
        assert_eq!(names(&set, "/state"), then, "{code}");
        let said = shown(&mut set, &format!("revert({id})"));
        assert!(said.contains("is as it was before"), "{code}: {said}");
        assert_eq!(state(&set, "/state"), before, "{code}");
    }
    // The service moves the elements while the change stands: they stay there, and that is said.
    for code in [
        r#"pool.ring.remove("b")"#,
        r#"set("pool.ring", pool.ring)"#,
        r#"let r = get("pool.ring"); r.d = #{ name: "d", weight: 1 }; pool.ring = r"#,
    ] {
        let id = made(&mut set, code);
        let moved = names(&set, "/swap");
        let said = shown(&mut set, &format!("revert({id})"));
        assert!(
            said.contains("what the service itself wrote there meanwhile stays"),
            "{code}: {said}"
        );
        let now = names(&set, "/state");
        let both = |text: &str, other: &str| text.chars().filter(|c| other.contains(*c)).collect::<String>();
        assert_eq!(both(&now, &moved), both(&moved, &now), "{code}");
        assert_eq!(both(&now, "abc").len(), 3, "{code}: {now}");
    }
    let folder = set.certificates.audit().display().to_string();
    let verified = Ctl::run(&set.certificates, "alice", &["audit", "verify", &folder]);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
}

#[test]
fn what_is_empty_is_filled_and_empty_again() {
    let mut set = set();
    let before = state(&set, "/state");
    for (code, at, filled) in [
        (r#"opt.proxy = "p:1""#, "/opt/proxy", serde_json::json!("p:1")),
        ("opt.on.beta = true", "/opt/on/beta", serde_json::json!(true)),
    ] {
        let id = made(&mut set, code);
        assert_eq!(state(&set, "/state").pointer(at), Some(&filled), "{code}");
        let said = shown(&mut set, &format!("revert({id})"));
        assert!(said.contains("as it was before"), "{said}");
        assert_eq!(state(&set, "/state"), before, "{code}");
    }
    // And the other way round.
    for (code, at) in [
        ("opt.on.alpha = ()", "/opt/on/alpha"),
        ("opt.hosts = []", "/opt/hosts"),
    ] {
        let id = made(&mut set, code);
        assert_eq!(state(&set, "/state").pointer(at), None, "{code}");
        set.client.eval(&format!("revert({id})")).ok();
        assert_eq!(state(&set, "/state"), before, "{code}");
    }
    let (_, message) = set.client.eval(r#"opt.prxy = "p:1""#).failed();
    assert!(message.contains("no such path `opt.prxy`"), "{message}");
    let (_, message) = set.client.eval("opt.proxy = 5").failed();
    assert!(message.contains("expected"), "{message}");
    let (_, message) = set.client.eval("opt.proxi.host = 5").failed();
    assert!(message.contains("`opt.proxi`"), "{message}");
}

#[test]
fn what_has_no_positions_is_written_whole_and_undone_by_what_is_in_it() {
    let mut set = set();
    let (_, message) = set.client.eval(r#"pool.tags[0] = "x""#).failed();
    assert!(message.contains("keeps no order"), "{message}");
    let before = state(&set, "/state");
    let id = made(&mut set, r#"pool.tags = ["zeta", "new"]"#);
    set.client.eval(&format!("revert({id})")).ok();
    assert_eq!(state(&set, "/state"), before);
}

#[test]
fn a_new_entry_of_a_map_is_told_with_the_nearest_name() {
    let mut set = set();
    let said = shown(&mut set, "set(\"opt.on.alpah\", false)");
    assert!(
        said.contains("; nothing stood there before; did you mean `alpha`?"),
        "{said}"
    );
    // An assignment has no value in which it could be told.
    let mut warnings = |code: &str| set.client.eval(code).ok()["warnings"].to_string();
    let guessed = warnings("opt.on.alhpa = false");
    assert!(
        guessed.contains("nothing stood there before; did you mean `alpha`?"),
        "{guessed}"
    );
    for new in ["opt.on.zeta = false", "opt.proxy = \"p:1\""] {
        let told = warnings(new);
        assert!(told.contains("nothing stood there before\""), "{told}");
    }
    assert_eq!(warnings("opt.rate = 2"), "null");
    let verdict = shown(&mut set, "plan(|| opt.on.bta = true)[0].verdict");
    assert!(
        verdict.contains("allowed by") && verdict.contains("nothing stood there before"),
        "{verdict}"
    );
}

#[test]
fn only_a_place_that_is_known_and_empty_is_said_to_be_filled() {
    let mut set = set();
    let mut help = |code: &str| {
        let reply = set.client.eval(code);
        reply.failed();
        reply.help().to_owned()
    };
    assert_eq!(help("if opt.on.alpah { 1 }"), "did you mean `opt.on.alpha`?");
    assert!(help("opt.proxy").contains("`opt.proxy = value` fills it"));
    let named = help("pool.ring[0].weight");
    assert!(
        named.contains("names and no positions, as in `pool.ring.a`"),
        "{named}"
    );
    assert!(!named.contains("= value"), "{named}");
}

/// A secret that the service moved to another element stays unknown to who read only a part of the state since.
#[test]
fn a_part_that_is_read_brings_no_secret_of_the_rest_into_the_clear() {
    let set = set();
    let mut vera = set.attach("vera");
    state(&set, "/turn");
    let mut opaque = |code: &str| {
        let shown = vera.eval(code).display().to_owned();
        assert!(shown.contains("‹secret"), "{code}: {shown}");
    };
    opaque(r#"get("peers.0.token")"#);
    assert_eq!(state(&set, "/tell")["opt"]["proxy"], "not-a-real-token-1");
    opaque("opt.proxy");
    opaque("`it is ${opt.proxy}`");
}

/// What the end of a lease brought back to an element that had moved is a secret there, too.
#[test]
fn the_end_of_a_change_of_a_secret_brings_nothing_into_the_clear() {
    let mut set = set();
    let mut vera = set.attach("vera");
    let id = made(&mut set, "peers[0].token = ()");
    // Since the whole was read, the token is known only as the value that the lease replaced.
    assert!(vera.eval(r#"get("peers")"#).display().contains("‹secret"));
    state(&set, "/turn");
    let said = shown(&mut set, &format!("revert({id})"));
    assert!(said.contains("as it was before"), "{said}");
    assert_eq!(state(&set, "/tell")["opt"]["proxy"], "not-a-real-token-1");
    let shown = vera.eval("opt.proxy").display().to_owned();
    assert!(shown.contains("‹secret"), "{shown}");
}
