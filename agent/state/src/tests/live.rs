//! A `Live` checks deadlines on each read: these tests run without a thread of the agent.

use std::time::Duration;

use super::*;
use debug_base::BootTime;

const WAIT: Wait = Wait::AGENT;

fn past() -> BootTime {
    BootTime(1)
}

fn future() -> BootTime {
    BootTime::now().after(Duration::from_secs(3600))
}

/// Writes `to` over `from`, with `then` as its schedule.
fn write(state: &Arc<dyn State>, from: i64, to: i64, then: &[(BootTime, i64)]) -> Result<(), StateError> {
    let later = |live: &Tree, _: &dyn Orders| {
        assert_eq!(live, &Tree::I64(to), "asked about the state as it will be");
        then.iter()
            .map(|(deadline, value)| (*deadline, Tree::I64(*value)))
            .collect()
    };
    state.compare_and_set(&[], &Tree::I64(from), &Tree::I64(to), &later, WAIT)
}

#[test]
fn a_value_is_answered_until_its_deadline_and_not_after() {
    let live = Live::new(1_u8);
    let state = writable("s", live.clone());
    write(&state, 1, 2, &[(future(), 1)]).unwrap();
    assert_eq!(*live.load(), 2);
    write(&state, 2, 3, &[(past(), 1)]).unwrap();
    assert_eq!(*live.load(), 1, "an expired value was answered");
    assert_eq!(
        state.read(WAIT).unwrap(),
        Tree::I64(1),
        "the agent sees what the service sees"
    );
}

#[test]
fn of_several_deadlines_that_are_past_the_newest_counts() {
    let live = Live::new(1_u8);
    let state = writable("s", live.clone());
    write(&state, 1, 4, &[(BootTime(1), 3), (BootTime(2), 2), (future(), 1)]).unwrap();
    assert_eq!(*live.load(), 2);
    // A change ends exactly at its deadline.
    let now = BootTime::now();
    write(&state, 2, 4, &[(now, 1)]).unwrap();
    assert_eq!(*live.load(), 1);
}

#[test]
fn what_the_service_stores_wins_and_needs_no_clock() {
    let live = Live::new(1_u8);
    let state = writable("s", live.clone());
    write(&state, 1, 2, &[(past(), 1)]).unwrap();
    assert!(live.has_schedule_for_test());
    live.store(9);
    assert_eq!(*live.load(), 9);
    assert!(!live.has_schedule_for_test());
    assert_eq!(
        write(&state, 2, 1, &[]).unwrap_err(),
        StateError::Conflict(path("s"))
    );
}

#[test]
fn undoing_leaves_no_clock_behind() {
    let live = Live::new(1_u8);
    let state = writable("s", live.clone());
    assert!(!live.has_schedule_for_test());
    write(&state, 1, 2, &[(future(), 1)]).unwrap();
    write(&state, 2, 1, &[]).unwrap();
    assert_eq!(*live.load(), 1);
    assert!(!live.has_schedule_for_test());
}

#[test]
fn a_child_of_fork_sees_the_value_without_any_change() {
    let live = Live::new(1_u8);
    let state = writable("s", live.clone());
    write(&state, 1, 3, &[(future(), 2), (future(), 1)]).unwrap();
    assert_eq!(*live.load(), 3);
    live.in_process_for_test(std::process::id() + 1);
    assert_eq!(*live.load(), 1);
}

#[test]
fn another_deadline_keeps_what_is_in_force() {
    let live = Live::new(1_u8);
    let state = writable("s", live.clone());
    write(&state, 1, 2, &[(future(), 1)]).unwrap();
    let before = live.load();
    let rearm = |deadline: BootTime| {
        state.rearm(
            &|live: &Tree, _: &dyn Orders| {
                vec![(
                    deadline,
                    if live == &Tree::I64(2) {
                        Tree::I64(1)
                    } else {
                        live.clone()
                    },
                )]
            },
            WAIT,
        )
    };
    rearm(future()).unwrap();
    assert!(
        Arc::ptr_eq(&before, &live.load()),
        "the value itself was replaced"
    );
    rearm(past()).unwrap();
    assert_eq!(*live.load(), 1);
    // An expired change stays expired under any later deadline.
    rearm(future()).unwrap();
    assert_eq!(*live.load(), 1);
}

#[test]
fn a_later_value_that_the_type_does_not_take_is_refused_with_the_write() {
    let live = Live::new(1_u8);
    let state = writable("s", live.clone());
    let error = write(&state, 1, 2, &[(future(), 300)]).unwrap_err();
    assert!(matches!(error, StateError::Lossy { .. }), "{error}");
    assert_eq!(*live.load(), 1);
}

#[test]
fn no_reader_sees_a_value_whose_deadline_is_not_there_yet() {
    let live = Live::new(1_u64);
    let state = writable("s", live.clone());
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let reader = std::thread::spawn({
        let live = live.clone();
        move || {
            while is_done.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
                assert_eq!(*live.load(), 1, "an expired value was answered");
            }
        }
    });
    for _ in 0..500 {
        write(&state, 1, 2, &[(past(), 1)]).unwrap();
        write(&state, 1, 1, &[]).unwrap();
    }
    drop(done);
    reader.join().unwrap();
}

#[test]
fn a_live_shows_what_is_in_force_and_is_made_of_values() {
    let live = Live::from(1_u8);
    let state = writable("s", live.clone());
    write(&state, 1, 2, &[(past(), 1)]).unwrap();
    assert_eq!(format!("{live:?}"), "Live(1)");
    assert_eq!(*Live::<u8>::default().load(), 0);
}

/// Panics on drop.
#[derive(Deserialize, PartialEq, Serialize)]
struct Exploding(u8);

impl Drop for Exploding {
    fn drop(&mut self) {
        panic!("drop");
    }
}

#[test]
fn values_that_panic_when_they_drop_harm_nobody_however_many_there_are() {
    let live = Live::new(Exploding(1));
    let state = writable("s", live.clone());
    write(&state, 1, 4, &[(future(), 3), (future(), 2), (future(), 1)]).unwrap();
    write(&state, 4, 5, &[(future(), 1)]).unwrap();
    live.store(Exploding(6));
    assert_eq!(live.load().0, 6);
}
