//! What bounds a run of Rhai: operations, time, cancellation, refusals.
//!
//! Rhai's own operation limit does not hold (natives call closures with a copy of the counter) and what ends a
//! closure under `map` or `filter` can be caught by `try`. So the operations are counted here, and an end is
//! sticky: once a run has ended, its next operation ends too, wherever it is.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock::BootTime;

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
    /// Time by a clock that does not jump.
    pub(crate) time: Duration,
    /// Whether a thread that the system took the processor from gets the time back, [`PATIENCE`] times as much at most:
    /// on a busy host a patch would fail for what it did not do.
    pub(crate) patient: bool,
}

/// How many times as long a patient run may take from begin to end.
const PATIENCE: u32 = 10;

/// The count of the run on this thread. Cells of plain numbers: each operation of a script comes by here.
struct Count {
    used: Cell<u64>,
    /// From here on there is something to look at: time and cancellation, the limit, or that the run has ended.
    look_at: Cell<u64>,
    limit: Cell<u64>,
    deadline: Cell<BootTime>,
    patience: Cell<Option<Patience>>,
    ended: Cell<Option<End>>,
}

/// What a patient run has left once half of its time is over by the clock: half of its time on the processor.
#[derive(Clone, Copy)]
struct Patience {
    half: Duration,
    /// The end, whoever had the processor.
    last: BootTime,
    /// The processor time of the thread when the first half was over.
    mark: Option<Duration>,
}

/// A count that is put aside while a run nests in another.
struct Saved {
    used: u64,
    look_at: u64,
    limit: u64,
    deadline: BootTime,
    patience: Option<Patience>,
    ended: Option<End>,
    cancelled: Option<Arc<AtomicBool>>,
}

thread_local! {
    /// Outside of a run there is nothing to look at. Runs nest: the agent serializes a state on an eval thread, and the
    /// service's own code there calls a patched point.
    static COUNT: Count = const {
        Count {
            used: Cell::new(0),
            look_at: Cell::new(u64::MAX),
            limit: Cell::new(u64::MAX),
            deadline: Cell::new(BootTime(u64::MAX)),
            patience: Cell::new(None),
            ended: Cell::new(None),
        }
    };
    /// Apart, because what needs dropping makes every access look whether the thread is ending.
    static CANCELLED: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

impl Count {
    fn exchange(&self, new: Saved) -> Saved {
        Saved {
            used: self.used.replace(new.used),
            look_at: self.look_at.replace(new.look_at),
            limit: self.limit.replace(new.limit),
            deadline: self.deadline.replace(new.deadline),
            patience: self.patience.replace(new.patience),
            ended: self.ended.replace(new.ended),
            cancelled: CANCELLED.with(|cancelled| cancelled.replace(new.cancelled)),
        }
    }

    /// Looks whether the run must end; rarely, as it reads the clock.
    #[cold]
    fn look(&self) -> Option<End> {
        let used = self.used.get();
        if self.ended.get().is_some() {
        } else if used > self.limit.get() {
            self.end(End::Operations);
        } else if CANCELLED.with(|c| c.borrow().as_ref().is_some_and(|c| c.load(Ordering::Relaxed))) {
            self.end(End::Cancelled);
        } else if self.is_late(BootTime::now()) {
            self.end(End::Time);
        } else {
            self.look_at.set(next_look(used, self.limit.get()));
        }
        self.ended.get()
    }

    /// Whether the time is over. Of a patient run only what the thread had of the processor counts.
    fn is_late(&self, now: BootTime) -> bool {
        if now < self.deadline.get() {
            return false;
        }
        let Some(mut patience) = self.patience.get().filter(|patience| now < patience.last) else {
            return true;
        };
        let mark = *patience.mark.get_or_insert_with(processor_time);
        let used = processor_time().saturating_sub(mark);
        self.patience.set(Some(patience));
        self.deadline.set(now.after(patience.half.saturating_sub(used)));
        patience.half <= used
    }

    fn end(&self, why: End) {
        self.ended.set(Some(why));
        self.look_at.set(0);
    }
}

/// How long this thread has had a processor.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// The count at which to look again: soon for the clock, and right behind the limit.
fn next_look(used: u64, limit: u64) -> u64 {
    used.saturating_add(LOOK_EVERY).min(limit.saturating_add(1))
}

/// Runs `code`, begun at `now`, under bounds of its own. Returns what it returned, with why it was ended, if it was,
/// and how many operations it used.
pub(crate) fn metered<T>(
    bounds: Bounds,
    now: BootTime,
    cancelled: Option<Arc<AtomicBool>>,
    code: impl FnOnce() -> T,
) -> (T, Option<End>, u64) {
    /// Puts the outer run back, also when the code panics.
    struct Restore(Option<Saved>);
    impl Restore {
        fn inner(&mut self) -> Option<Saved> {
            self.0.take().map(|outer| COUNT.with(|count| count.exchange(outer)))
        }
    }
    impl Drop for Restore {
        fn drop(&mut self) {
            self.inner();
        }
    }
    let run = Saved {
        used: 0,
        look_at: next_look(0, bounds.operations),
        limit: bounds.operations,
        deadline: now.after(if bounds.patient { bounds.time / 2 } else { bounds.time }),
        patience: bounds.patient.then(|| Patience {
            half: bounds.time / 2,
            last: now.after(bounds.time * PATIENCE),
            mark: None,
        }),
        ended: None,
        cancelled,
    };
    let mut restore = Restore(Some(COUNT.with(|count| count.exchange(run))));
    let result = code();
    let (ended, used) = restore.inner().map_or((None, 0), |run| (run.ended, run.used));
    (result, ended, used)
}

/// Counts `cost` operations of the run on this thread. Outside of a run there is nothing to count.
#[inline]
pub(crate) fn charge(cost: u64) -> Option<End> {
    COUNT.with(|count| {
        let used = count.used.get().saturating_add(cost);
        count.used.set(used);
        if used < count.look_at.get() { None } else { count.look() }
    })
}

/// Ends the run on this thread; the first end stands.
pub(crate) fn end(why: End) {
    COUNT.with(|count| {
        if count.ended.get().is_none() && count.limit.get() != u64::MAX {
            count.end(why);
        }
    });
}

/// Why the run on this thread has ended, if it has.
pub(crate) fn ended() -> Option<End> {
    COUNT.with(|count| count.ended.get())
}
