//! Compiles the source files of the call path a second time with a model checker's atomics and locks. The checker runs every
//! interleaving of threads and every weak-memory result: a patch is put in force, stacked, called, expires and is reverted,
//! all concurrently.
//!
//! Source: <https://docs.rs/loom>. Up to [`PREEMPTIONS`] preemptions per run at places where a thread need not wait; two find
//! nearly all faults of this kind (Musuvathi and Qadeer, "Iterative context bounding", PLDI 2007).

#![allow(
    clippy::duplicate_mod,
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "the same files with other users and surroundings are the point of this"
)]

#[path = "breaker.rs"]
mod breaker;
#[path = "call.rs"]
mod call;
#[path = "layer.rs"]
mod layer;
#[path = "probe.rs"]
mod probe;
#[path = "slot.rs"]
mod slot;
#[path = "values.rs"]
mod values;
#[path = "watch.rs"]
mod watch;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize as Count, Ordering as Order};
use std::time::Duration;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

use self::breaker::Tripped;
use self::call::call;
use self::layer::{Layer, Observer, PatchCode, PatchFailure};
use self::probe::{IsPlain as _, MakesValue as _, Probe};
use self::slot::{Facts, Slot};
use self::world::{now, set_clock};
use debug_base::{BootTime, Tree};

const PREEMPTIONS: usize = 2;
/// Deadline of every patch here, unless a check sets another.
const DEADLINE: BootTime = BootTime(1_000);

/// Runs all interleavings and returns their number.
fn all_orders(play: impl Fn() + Send + Sync + 'static) -> usize {
    let mut checker = loom::model::Builder::new();
    checker.preemption_bound = Some(PREEMPTIONS);
    let played = Arc::new(Count::new(0));
    let count = played.clone();
    checker.check(move || {
        count.fetch_add(1, Order::Relaxed);
        play();
    });
    played.load(Order::Relaxed)
}

/// Answers with the id of its lease, or fails.
struct LoomCode {
    fails: bool,
}

impl PatchCode for LoomCode {
    fn call(&self, lease: u64, _: BootTime, _: Vec<Tree>) -> Result<Tree, PatchFailure> {
        match self.fails {
            true => Err(PatchFailure::Threw("no".to_owned())),
            false => Ok(Tree::I64(i64::try_from(lease).unwrap())),
        }
    }

    fn mentions_body(&self) -> bool {
        false
    }
}

/// Counts the events it receives.
#[derive(Default)]
struct LoomHeard {
    ran: AtomicUsize,
    failed: AtomicUsize,
    tripped: AtomicUsize,
}

impl Observer for LoomHeard {
    fn called(&self, _: BootTime) {}

    fn ran(&self, _: u64, _: Duration) {
        self.ran.fetch_add(1, Ordering::Relaxed);
    }

    fn failed(&self, _: u64, _call: u64, _: &PatchFailure) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    fn tripped(&self, _: u64, _: Tripped) {
        self.tripped.fetch_add(1, Ordering::Relaxed);
    }
}

/// A point and the history of its layers. Each flag is set after the event it records.
struct LoomPoint {
    slot: Slot,
    heard: Arc<LoomHeard>,
    /// By lease id.
    made: [AtomicBool; 3],
    ended: [AtomicBool; 3],
    /// Set before the event.
    ending: [AtomicBool; 3],
}

impl LoomPoint {
    fn new() -> Arc<Self> {
        let flags = || std::array::from_fn(|_| AtomicBool::new(false));
        let slot = Slot::new("twice", file!(), line!(), || Facts::new(&[], None));
        // Initializes lazy values now, as is the case outside of this check.
        assert!(!slot.is_armed() && !slot.end(0) && now() < DEADLINE);
        Arc::new(Self {
            slot,
            heard: Arc::default(),
            made: flags(),
            ended: flags(),
            ending: flags(),
        })
    }

    fn push(&self, lease: u64, fails: bool) {
        let layer = Layer::new(lease, DEADLINE, Arc::new(LoomCode { fails }), self.heard.clone());
        assert!(!layer.has_ended(), "likewise");
        self.slot.push(Arc::new(layer)).unwrap();
        flag(&self.made, lease).store(true, Ordering::Release);
    }

    fn end(&self, lease: u64) {
        flag(&self.ending, lease).swap(true, Ordering::Relaxed);
        assert!(self.slot.end(lease), "it was there");
        flag(&self.ended, lease).store(true, Ordering::Release);
    }

    /// As the macro does it. `None` means that the original answers.
    fn ask(&self) -> Option<u64> {
        let asked = || {
            let shape = Probe::<u64>::NEW.shape();
            call(&self.slot, |_| {}, shape.decoder((&&shape).ok(), ()))
        };
        self.slot.is_armed().then(asked).flatten()
    }

    /// Makes one call of the point and checks it against everything that the caller can know.
    fn check_call(&self) {
        let known = |flags: &[AtomicBool; 3]| flags.each_ref().map(|flag| flag.load(Ordering::Acquire));
        // The order matters: an ended layer was made before.
        let (ended, made) = (known(&self.ended), known(&self.made));
        let before = now();
        let answer = self.ask();
        // These reads see the newest values: the exchanges of one flag are totally ordered.
        let ending = self
            .ending
            .each_ref()
            .map(|flag| flag.fetch_or(false, Ordering::AcqRel));
        let after = now();
        if let Some(lease) = answer {
            assert!(!ended[at(lease)], "a reverted patch ran");
            assert!(before < DEADLINE, "an expired patch ran");
        }
        for lease in [1, 2] {
            let stands = made[at(lease)] && !ending[at(lease)] && after < DEADLINE;
            assert!(
                !stands || answer >= Some(lease),
                "lease {lease} stands and {answer:?} answered"
            );
        }
    }

    /// Checks the state after all threads have finished: the flag matches the layers, and the newest layer in force answers.
    fn check_at_rest(&self) {
        let layers = self.slot.layers();
        assert_eq!(self.slot.is_armed(), !layers.is_empty());
        let newest = layers
            .last()
            .filter(|layer| layer.is_in_force(now()))
            .map(|layer| layer.lease());
        assert_eq!(self.ask(), newest);
        // A failed assertion of a patch is caught and counted as its failure.
        assert_eq!(self.heard.failed.load(Ordering::Relaxed), 0, "a patch failed");
    }
}

fn at(lease: u64) -> usize {
    usize::try_from(lease).unwrap()
}

fn flag(flags: &[AtomicBool; 3], lease: u64) -> &AtomicBool {
    &flags[at(lease)]
}

fn beside(point: &Arc<LoomPoint>, work: impl FnOnce(&LoomPoint) + 'static) -> thread::JoinHandle<()> {
    let point = point.clone();
    thread::spawn(move || work(&point))
}

#[test]
fn a_patch_that_is_made_called_and_expires() {
    let orders = all_orders(|| {
        let point = LoomPoint::new();
        let making = beside(&point, |point| point.push(1, false));
        let clock = beside(&point, |_| set_clock(DEADLINE));
        point.check_call();
        point.check_call();
        making.join().unwrap();
        clock.join().unwrap();
        point.check_at_rest();
        assert_eq!(point.ask(), None, "its time is over");
    });
    assert!(orders > 10, "{orders}");
}

#[test]
fn one_patch_is_made_while_another_ends() {
    let orders = all_orders(|| {
        let point = LoomPoint::new();
        point.push(1, false);
        let stacking = beside(&point, |point| point.push(2, false));
        let reverting = beside(&point, |point| point.end(1));
        point.check_call();
        stacking.join().unwrap();
        reverting.join().unwrap();
        point.check_call();
        point.check_at_rest();
        assert_eq!(point.ask(), Some(2));
    });
    assert!(orders > 10, "{orders}");
}

#[test]
fn the_last_patch_ends_while_a_new_one_is_made() {
    let orders = all_orders(|| {
        let point = LoomPoint::new();
        point.push(1, false);
        let reverting = beside(&point, |point| point.end(1));
        let making = beside(&point, |point| {
            point.push(2, false);
            point.check_call();
        });
        reverting.join().unwrap();
        making.join().unwrap();
        point.check_at_rest();
        assert_eq!(point.ask(), Some(2));
    });
    assert!(orders > 10, "{orders}");
}

#[test]
fn everything_at_once() {
    let orders = all_orders(|| {
        let point = LoomPoint::new();
        point.push(1, false);
        let stacking = beside(&point, |point| {
            point.push(2, false);
            point.end(2);
        });
        let reverting = beside(&point, |point| point.end(1));
        let clock = beside(&point, |_| set_clock(DEADLINE));
        point.check_call();
        stacking.join().unwrap();
        reverting.join().unwrap();
        clock.join().unwrap();
        point.check_at_rest();
        assert_eq!(point.ask(), None);
    });
    assert!(orders > 100, "{orders}");
}

/// A watch begins and ends while a patch is added and removed. Neither clears the other's flag, and each call that began
/// during the watch is counted.
#[test]
fn counting_and_patching_meet() {
    let orders = all_orders(|| {
        let point = LoomPoint::new();
        let watch = point.slot.watch();
        let making = beside(&point, |point| {
            point.push(1, false);
            point.end(1);
        });
        let other = beside(&point, |point| {
            let other = point.slot.watch();
            point.slot.unwatch(&other);
        });
        drop(point.slot.count().unwrap());
        making.join().unwrap();
        other.join().unwrap();
        assert!(point.slot.is_armed());
        drop(point.slot.count().unwrap());
        assert_eq!(watch.stats().calls, 2);
        point.slot.unwatch(&watch);
        assert!(!point.slot.is_armed() && point.slot.count().is_none());
    });
    assert!(orders > 10, "{orders}");
}

/// The fifth failure in a row ends the layer, and a concurrent sixth ends nothing more. It is reported once, and a caller
/// that knows of the end never reaches the patch.
#[test]
fn two_callers_trip_the_breaker_once() {
    let orders = all_orders(|| {
        let point = LoomPoint::new();
        point.push(1, true);
        for _ in 0..4 {
            assert_eq!(point.ask(), None);
        }
        let other = beside(&point, |point| assert_eq!(point.ask(), None));
        assert_eq!(point.ask(), None);
        other.join().unwrap();
        let failed = point.heard.failed.load(Ordering::Relaxed);
        assert!((5..=6).contains(&failed), "{failed}");
        assert_eq!(point.heard.tripped.load(Ordering::Relaxed), 1);
        assert_eq!(point.ask(), None);
        assert_eq!(
            point.heard.failed.load(Ordering::Relaxed),
            failed,
            "it ran after it was ended"
        );
        assert!(point.slot.layers()[0].has_ended());
    });
    assert!(orders > 10, "{orders}");
}
