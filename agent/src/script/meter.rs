//! What bounds a run of Rhai: operations, time, cancellation, refusals.
//!
//! Rhai's own operation limit does not hold (natives call closures with a copy of the counter) and what ends a
//! closure under `map` or `filter` can be caught by `try`. So the operations are counted here, and an end is
//! sticky: once a run has ended, its next operation ends too, wherever it is.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Time and cancellation are looked at once in so many operations: a clock read each would cost a third of the run.
const LOOK_EVERY: u64 = 256;

/// Why a run of Rhai was ended from outside the code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// More operations than allowed.
    Operations,
    /// Longer than allowed.
    Time,
    /// The operator cancelled it, or vanished.
    Cancelled,
    /// The gate refused an effect, or the log could not be written; the refusal itself is kept by the eval.
    Refused,
    /// Values grew past their bound.
    Size,
}

/// The bounds of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Operations.
    pub(crate) operations: u64,
    /// Wall time by a clock that does not jump.
    pub(crate) time: Duration,
}

/// The count of one run.
#[derive(Debug)]
pub(crate) struct Meter {
    bounds: Bounds,
    used: Cell<u64>,
    look_at: Cell<u64>,
    deadline: Instant,
    ended: Cell<Option<End>>,
    cancelled: Option<Arc<AtomicBool>>,
}

impl Meter {
    fn new(bounds: Bounds, cancelled: Option<Arc<AtomicBool>>) -> Self {
        Self {
            bounds,
            used: Cell::new(0),
            look_at: Cell::new(LOOK_EVERY),
            deadline: Instant::now() + bounds.time,
            ended: Cell::new(None),
            cancelled,
        }
    }

    /// Counts `cost` operations and tells whether the run must end now.
    fn charge(&self, cost: u64) -> Option<End> {
        if let Some(end) = self.ended.get() {
            return Some(end);
        }
        let used = self.used.get().saturating_add(cost);
        self.used.set(used);
        if used > self.bounds.operations {
            self.ended.set(Some(End::Operations));
        } else if used >= self.look_at.get() {
            self.look_at.set(used + LOOK_EVERY);
            self.look();
        }
        self.ended.get()
    }

    fn look(&self) {
        if self.cancelled.as_ref().is_some_and(|c| c.load(Ordering::Relaxed)) {
            self.ended.set(Some(End::Cancelled));
        } else if Instant::now() >= self.deadline {
            self.ended.set(Some(End::Time));
        }
    }
}

thread_local! {
    /// The run on this thread; a patch called while the agent serializes a state on an eval thread nests.
    static CURRENT: RefCell<Option<Rc<Meter>>> = const { RefCell::new(None) };
}

/// Runs `code` under bounds of its own and returns what it returned, with why it was ended, if it was.
pub(crate) fn metered<T>(
    bounds: Bounds,
    cancelled: Option<Arc<AtomicBool>>,
    code: impl FnOnce() -> T,
) -> (T, Option<End>, u64) {
    /// Puts the outer run back, also when the code panics.
    struct Restore(Option<Rc<Meter>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.with(|current| *current.borrow_mut() = self.0.take());
        }
    }
    let meter = Rc::new(Meter::new(bounds, cancelled));
    let outer = CURRENT.with(|current| current.borrow_mut().replace(meter.clone()));
    let restore = Restore(outer);
    let result = code();
    drop(restore);
    (result, meter.ended.get(), meter.used.get())
}

/// Counts `cost` operations of the run on this thread. Outside of a run there is nothing to count.
pub(crate) fn charge(cost: u64) -> Option<End> {
    CURRENT.with(|current| current.borrow().as_ref().and_then(|meter| meter.charge(cost)))
}

/// Ends the run on this thread; the first end stands.
pub(crate) fn end(why: End) {
    CURRENT.with(|current| {
        if let Some(meter) = current.borrow().as_ref()
            && meter.ended.get().is_none()
        {
            meter.ended.set(Some(why));
        }
    });
}

/// Why the run on this thread has ended, if it has.
pub(crate) fn ended() -> Option<End> {
    CURRENT.with(|current| current.borrow().as_ref().and_then(|meter| meter.ended.get()))
}
