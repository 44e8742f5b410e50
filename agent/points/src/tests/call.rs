use std::sync::Arc;
use std::time::Duration;

use super::{Heard, fake, in_a_minute, patch};
use crate::probe::{EncodeValue as _, IsPlain as _, MakesValue as _};
use crate::{Argument, Arguments, Facts, Layer, PatchFailure, Probe, Slot, call};
use debug_base::{BootTime, Tree};

fn slot() -> Slot {
    Slot::new("twice", file!(), line!(), || Facts::new(&[("n", true)], None))
}

/// A point as the macro generates it: doubles its argument.
fn twice(slot: &Slot, n: i64) -> i64 {
    let asked = || {
        let arguments = |arguments: &mut Arguments| arguments.push((&&Argument(&n)).encode());
        let shape = Probe::<i64>::NEW.shape();
        call(slot, arguments, shape.decoder((&&shape).ok(), ()))
    };
    slot.is_armed().then(asked).flatten().unwrap_or(n * 2)
}

fn answering(value: i64) -> Arc<dyn crate::PatchCode> {
    fake(move |_| Ok(Tree::I64(value)))
}

#[test]
fn an_unpatched_point_runs_its_original() {
    let slot = slot();
    assert!(!slot.is_armed());
    assert_eq!(twice(&slot, 4), 8);
}

#[test]
fn a_patch_answers_with_the_arguments_it_got() {
    let slot = slot();
    let heard = patch(&slot, 1, fake(|arguments| Ok(arguments[0].clone())));
    assert_eq!(twice(&slot, 4), 4);
    assert_eq!(heard.lines(), ["1 ran"]);
}

#[test]
fn an_ended_patch_never_runs_again_and_the_flag_is_cleared() {
    let slot = slot();
    patch(&slot, 1, answering(5));
    assert!(slot.end(1));
    assert!(!slot.is_armed());
    assert_eq!(twice(&slot, 4), 8);
    assert!(!slot.end(1), "it is already gone");
}

#[track_caller]
fn check_failure(answer: Result<Tree, PatchFailure>, expected: &str) {
    let slot = slot();
    let heard = patch(&slot, 1, fake(move |_| answer.clone()));
    assert_eq!(twice(&slot, 4), 8, "the original answers");
    assert_eq!(heard.lines(), [format!("1 failed: {expected}")]);
}

#[test]
fn a_patch_that_throws_leaves_the_call_to_the_original() {
    check_failure(
        Err(PatchFailure::Threw("teapot".into())),
        "the patch threw `teapot`",
    );
}

#[test]
fn a_patch_that_meets_a_limit_leaves_the_call_to_the_original() {
    check_failure(Err(PatchFailure::Limit("10 ms")), "the patch met a limit: 10 ms");
}

#[test]
fn an_answer_of_the_wrong_shape_leaves_the_call_to_the_original() {
    check_failure(Ok(Tree::Str("x".into())), "invalid type: string, expected i64");
}

#[test]
fn a_secret_cannot_become_a_result() {
    check_failure(
        Ok(Tree::Secret(Box::new(Tree::I64(3)))),
        "a secret cannot become a result",
    );
}

#[test]
fn a_patch_that_panics_leaves_the_call_to_the_original() {
    let slot = slot();
    let heard = patch(&slot, 1, fake(|_| panic!("on purpose")));
    assert_eq!(twice(&slot, 4), 8);
    assert_eq!(heard.lines(), ["1 failed: a panic was caught around the patch"]);
}

#[test]
fn a_panic_whose_payload_panics_when_dropped_leaves_the_call_to_the_original() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on purpose, in drop");
        }
    }
    let slot = slot();
    patch(&slot, 1, fake(|_| std::panic::panic_any(Bomb)));
    assert_eq!(twice(&slot, 4), 8);
}

#[test]
fn after_a_panic_points_on_that_thread_are_patched_again() {
    let slot = slot();
    patch(&slot, 1, fake(|_| panic!("on purpose")));
    twice(&slot, 4);
    patch(&slot, 2, answering(5));
    assert_eq!(twice(&slot, 4), 5);
}

#[test]
fn an_expired_patch_never_runs() {
    let slot = slot();
    let heard = Arc::new(Heard::default());
    let past = BootTime(BootTime::now().0 - 1);
    slot.push(Arc::new(Layer::new(1, past, answering(5), heard.clone())))
        .unwrap();
    assert_eq!(twice(&slot, 4), 8);
    assert!(heard.lines().is_empty(), "that is no failure of the patch");
    assert!(slot.is_armed(), "callers leave the flag to the owner");
}

#[test]
fn a_deadline_can_be_moved_both_ways() {
    let slot = slot();
    patch(&slot, 1, answering(5));
    assert!(slot.set_deadline(1, BootTime(0)));
    assert_eq!(twice(&slot, 4), 8);
    assert!(slot.set_deadline(1, in_a_minute()));
    assert_eq!(twice(&slot, 4), 5);
    assert!(!slot.set_deadline(2, in_a_minute()), "no such lease");
}

#[test]
fn the_moment_of_the_deadline_is_too_late() {
    let layer = Layer::new(1, BootTime(1000), answering(5), Arc::new(Heard::default()));
    assert!(layer.is_in_force(BootTime(999)));
    assert!(!layer.is_in_force(BootTime(1000)));
}

#[test]
fn a_patch_made_before_a_fork_does_not_run_in_the_child() {
    let slot = slot();
    let layer = Layer::new(1, in_a_minute(), answering(5), Arc::new(Heard::default()));
    slot.push(Arc::new(layer.in_process_for_test(std::process::id() + 1)))
        .unwrap();
    assert_eq!(twice(&slot, 4), 8);
}

#[test]
fn the_newest_layer_in_force_answers() {
    let slot = slot();
    patch(&slot, 1, answering(5));
    patch(&slot, 2, answering(6));
    assert_eq!(twice(&slot, 4), 6);
    slot.set_deadline(2, BootTime(0));
    assert_eq!(twice(&slot, 4), 5, "the newest is expired");
    slot.end(2);
    assert_eq!(twice(&slot, 4), 5);
    slot.end(1);
    assert_eq!(twice(&slot, 4), 8);
}

#[test]
fn ending_a_lower_layer_changes_nothing_live() {
    let slot = slot();
    patch(&slot, 1, answering(5));
    patch(&slot, 2, answering(6));
    slot.end(1);
    assert_eq!(twice(&slot, 4), 6);
    assert_eq!(
        slot.layers()
            .iter()
            .map(|layer| layer.lease())
            .collect::<Vec<_>>(),
        [2]
    );
}

#[test]
fn points_called_inside_a_patch_run_their_originals() {
    let (outer, inner) = (slot(), Arc::new(slot()));
    patch(&inner, 1, answering(5));
    let called = inner.clone();
    patch(&outer, 2, fake(move |_| Ok(Tree::I64(twice(&called, 100)))));
    assert_eq!(twice(&outer, 4), 200, "the inner original doubled");
    assert_eq!(twice(&inner, 4), 5, "outside it is patched");
}

#[test]
fn the_fifth_failure_in_a_row_ends_the_layer_and_is_told_once() {
    let slot = slot();
    let heard = patch(&slot, 1, fake(|_| Err(PatchFailure::Limit("operations"))));
    for _ in 0..7 {
        assert_eq!(twice(&slot, 4), 8);
    }
    let failed = "1 failed: the patch met a limit: operations";
    assert_eq!(
        heard.lines(),
        [
            failed,
            failed,
            failed,
            failed,
            failed,
            "1 tripped: the patch failed 5 times in a row"
        ]
    );
    let layers = slot.layers();
    assert!(layers[0].has_ended());
    assert_eq!((layers[0].calls(), layers[0].failures()), (5, 5));
}

#[test]
fn a_layer_that_the_breaker_ended_uncovers_the_one_below() {
    let slot = slot();
    patch(&slot, 1, answering(5));
    patch(&slot, 2, fake(|_| Err(PatchFailure::Stack)));
    for _ in 0..5 {
        twice(&slot, 4);
    }
    assert_eq!(twice(&slot, 4), 5);
}

#[test]
fn an_observer_that_panics_does_not_reach_the_caller() {
    struct Broken;
    impl crate::Observer for Broken {
        fn called(&self, _: BootTime) {}
        fn ran(&self, _: u64, _: Duration) {
            panic!("on purpose");
        }
        fn failed(&self, _: u64, _call: u64, _: &PatchFailure) {}
        fn tripped(&self, _: u64, _: crate::Tripped) {}
    }
    let slot = slot();
    slot.push(Arc::new(Layer::new(
        1,
        in_a_minute(),
        answering(5),
        Arc::new(Broken),
    )))
    .unwrap();
    assert_eq!(twice(&slot, 4), 5);
}

/// Also without a layer in force: then the revert thread has missed something.
#[test]
fn the_observer_hears_of_every_call_of_a_point_that_has_layers() {
    #[derive(Default)]
    struct Counting(std::sync::atomic::AtomicU64);
    impl crate::Observer for Counting {
        fn called(&self, _: BootTime) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        fn ran(&self, _: u64, _: Duration) {}
        fn failed(&self, _: u64, _call: u64, _: &PatchFailure) {}
        fn tripped(&self, _: u64, _: crate::Tripped) {}
    }
    let slot = slot();
    let (expired, lasting) = (Arc::new(Counting::default()), Arc::new(Counting::default()));
    slot.push(Arc::new(Layer::new(
        1,
        BootTime(1),
        answering(5),
        expired.clone(),
    )))
    .unwrap();
    assert_eq!(
        (
            twice(&slot, 4),
            expired.0.load(std::sync::atomic::Ordering::Relaxed)
        ),
        (8, 1)
    );
    slot.push(Arc::new(Layer::new(
        2,
        in_a_minute(),
        answering(5),
        lasting.clone(),
    )))
    .unwrap();
    assert_eq!(
        (
            twice(&slot, 4),
            lasting.0.load(std::sync::atomic::Ordering::Relaxed)
        ),
        (5, 1)
    );
    slot.end(1);
    slot.end(2);
    twice(&slot, 4);
    assert_eq!(
        lasting.0.load(std::sync::atomic::Ordering::Relaxed),
        1,
        "a point without layers tells nobody"
    );
}

#[test]
fn with_little_stack_left_the_original_runs() {
    let thread = std::thread::Builder::new().stack_size(200 * 1024).spawn(|| {
        let slot = slot();
        let heard = patch(&slot, 1, answering(5));
        (twice(&slot, 4), heard.lines())
    });
    let (answer, heard) = thread.unwrap().join().unwrap();
    assert_eq!(answer, 8);
    assert_eq!(
        heard,
        ["1 failed: too little of the thread's stack is left to run the patch"]
    );
}

#[test]
fn a_point_that_cannot_be_patched_refuses_the_layer() {
    let slot = Slot::new("borrowed", file!(), line!(), || {
        Facts::new(&[], Some("its result is borrowed"))
    });
    let layer = Layer::new(1, in_a_minute(), answering(5), Arc::new(Heard::default()));
    let refusal = slot.push(Arc::new(layer)).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "`borrowed` cannot be patched: its result is borrowed"
    );
    assert!(!slot.is_armed());
}

#[test]
fn callers_never_see_anything_but_one_of_the_answers_while_layers_come_and_go() {
    let slot = Arc::new(slot());
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let callers = [(); 2].map(|()| {
        let (slot, stop) = (slot.clone(), stop.clone());
        std::thread::spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                assert!([8, 5, 6].contains(&twice(&slot, 4)));
            }
        })
    });
    let owners = [(1, 5), (2, 6)].map(|(lease, value)| {
        let slot = slot.clone();
        std::thread::spawn(move || {
            for _ in 0..2_000 {
                patch(&slot, lease, answering(value));
                assert!(slot.is_armed(), "its own layer is in");
                assert!(slot.end(lease));
            }
        })
    });
    owners.into_iter().for_each(|owner| owner.join().unwrap());
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    assert!(!slot.is_armed());
    assert!(slot.layers().is_empty());
}

/// The time for a note, on a slow disk, does not count for the patch: it neither trips the breaker nor appears in the
/// statistics.
#[test]
fn a_slow_note_is_no_time_of_the_patch() {
    struct Slow;
    impl crate::Observer for Slow {
        fn called(&self, _: BootTime) {}
        fn begins(&self, _: u64) -> Option<crate::crash_notes::CallNote> {
            // More than the breaker allows in its whole window.
            std::thread::sleep(Duration::from_millis(600));
            None
        }
        fn ran(&self, _: u64, _: Duration) {}
        fn failed(&self, _: u64, _call: u64, _: &PatchFailure) {}
        fn tripped(&self, _: u64, why: crate::Tripped) {
            panic!("{why}");
        }
    }
    let slot = slot();
    slot.push(Arc::new(Layer::new(
        1,
        in_a_minute(),
        answering(5),
        Arc::new(Slow),
    )))
    .unwrap();
    assert_eq!(twice(&slot, 4), 5);
    assert!(!slot.layers()[0].has_ended());
    assert!(slot.stats(1).unwrap().p99 < Duration::from_millis(600));
}
