//! While any thread of the agent is halted, changes still end at their deadline.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use debug_tests::{Halted, Set, wait};

/// The threads of the agent while changes are in force, by the beginning of their names.
const THREADS: [&str; 8] = [
    "debug-net",
    "debug-eval-1",
    "debug-eval-2",
    "debug-eval-r",
    "debug-audit",
    "debug-revert",
    "debug-guard",
    "debug-emit",
];
/// The thread of a state that was written.
const HELPER: &str = "debug-undo";

fn set() -> Set {
    Set::changing(env!("CARGO_BIN_EXE_handles"))
}

/// Changes a point, a value that checks its deadline on use and one that does not, for long enough to halt threads.
fn change(set: &mut Set) {
    let options = r#"#{ ttl: "6s", persist: true }"#;
    for code in [
        format!(r#"set("rwlock.most", 2, {options})"#),
        format!(r#"set("live.most", 2, {options})"#),
        format!(r#"patch("handles::doubled", |n| 0, {options})"#),
    ] {
        set.client.eval(&code).ok();
    }
    assert!(is_changed(set));
}

fn plain(set: &Set) -> bool {
    set.says("/states").contains("rwlock=2;")
}

fn timed(set: &Set) -> bool {
    set.says("/states").contains("live=2;") || set.says("/doubled") == "0"
}

fn is_changed(set: &Set) -> bool {
    let states = set.says("/states");
    states.contains("rwlock=2;") && states.contains("live=2;") && set.says("/doubled") == "0"
}

/// Waits until each lease has its terminal record, and checks that it has only one.
fn ended_once(set: &Set, leases: usize) {
    let terminal = || {
        set.certificates
            .records()
            .matches("\"kind\":\"lease.expired\"")
            .count()
    };
    wait::until_true("every lease has its terminal record", || leases <= terminal());
    assert_eq!(terminal(), leases);
    wait::until_true("the status is as it was", || set.says("/status") == "running");
}

fn halted_until_it_is_over(thread: &str) {
    let mut set = set();
    change(&mut set);
    let halted = Halted::threads(set.service.pid(), &[thread]);
    assert!(is_changed(&set), "{thread}: it is too late to see anything");
    wait::until_true(&format!("with {thread} halted all is as it was"), || {
        !plain(&set) && !timed(&set)
    });
    drop(halted);
    ended_once(&set, 3);
}

#[test]
fn with_any_thread_halted_every_change_ends() {
    std::thread::scope(|scope| {
        for thread in THREADS {
            scope.spawn(move || halted_until_it_is_over(thread));
        }
    });
}

/// A child of `fork` has none of the agent's threads: in it, points and live values are unchanged. Dropping the agent in it takes
/// nothing from the parent, which keeps its changes and its log.
#[test]
fn a_forked_child_sees_no_change_and_ends_none() {
    let mut set = set();
    change(&mut set);
    let seen = set.says("/fork");
    assert!(
        seen.starts_with("doubled=8 live=1 then Some(\"stopped\")"),
        "{seen}"
    );
    assert!(seen.ends_with("exit 0"), "{seen}");
    assert!(is_changed(&set), "the parent's changes stay");
    assert!(!set.certificates.records().contains("\"kind\":\"shutdown\""));
    wait::until_true("they end at their deadlines", || !plain(&set) && !timed(&set));
    ended_once(&set, 3);
}

/// A revert that found the lock held was handed to the thread of its state.
#[test]
fn with_the_thread_of_its_state_halted_a_change_ends_when_the_lock_is_free() {
    let mut set = set();
    set.client
        .eval(r#"set("mutex.most", 2, #{ ttl: "2s", persist: true })"#)
        .ok();
    let halted = Halted::threads(set.service.pid(), &[HELPER]);
    set.says("/hold");
    wait::until_true("the status tells that it is late", || {
        set.says("/status").contains("state:mutex.most is still changed")
    });
    set.says("/release");
    wait::until_true("it is as it was", || set.says("/states").contains("mutex=1;"));
    drop(halted);
    ended_once(&set, 1);
}

/// No thread is left to undo changes. Values that check their deadline on use are unchanged nevertheless, and the status lists
/// the others.
#[test]
fn with_every_thread_halted_points_and_live_values_are_as_they_were() {
    let mut set = set();
    change(&mut set);
    let halted = Halted::threads(set.service.pid(), &["debug-"]);
    assert!(is_changed(&set), "it is too late to see anything");
    assert_eq!(set.says("/status"), "running, with 3 changes in force");
    wait::until_true("points and live values are as they were", || !timed(&set));
    let status = wait::until("the status tells that it is late", || {
        Some(set.says("/status")).filter(|status| status.starts_with("running, but lease"))
    });
    assert!(
        status.contains("state:rwlock.most is still changed: no thread of the agent has got to it"),
        "{status}"
    );
    assert!(plain(&set), "nobody could undo it");
    drop(halted);
    wait::until_true("it is undone as soon as anybody can", || !plain(&set));
    ended_once(&set, 3);
}
