//! Bounds on a run of Rhai: operations, time, stack, cancellation, refusals.
//!
//! Rhai's own operation limit does not hold: native functions call closures with a copy of the counter, and `try` can catch
//! the end of a closure under `map` or `filter`. So operations are counted here, and an end is sticky: once a run has ended,
//! each further operation ends too, in any function.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use debug_base::BootTime;
use rhai::{Dynamic, EvalAltResult, Position};

/// The longest string that a function of this library creates, in bytes.
pub const MAX_STRING: usize = 64 << 10;
/// Maximum number of items in an array or map.
pub const MAX_ITEMS: usize = 10_000;

/// Operations between two checks of time and cancellation: a clock read per operation would cost a third of the run.
const LOOK_EVERY: u64 = 256;

/// Why a run was ended from outside the code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// More operations than allowed.
    Operations,
    /// Longer than allowed.
    Time,
    /// The operator cancelled it or disconnected.
    Cancelled,
    /// The gate refused an effect, or the log could not be written; the eval keeps the refusal itself.
    Refused,
    /// Values exceeded their bound.
    Size,
    /// Too little of the thread's stack is left to go on.
    Stack,
}

/// The bounds of one run.
#[derive(Clone, Copy, Debug)]
pub struct RunBounds {
    /// Maximum number of operations.
    pub operations: u64,
    /// Maximum time on a clock that does not jump.
    pub time: Duration,
    /// Whether time during which the thread had no processor is not counted, up to ten times the bound. Otherwise
    /// patches would fail on a busy host through no fault of their own.
    pub patient: bool,
}

/// Stack that a run leaves free. How much a frame of Rhai takes depends on how the service is built, so the depths of calls and
/// expressions alone do not bound it. The rest must hold what runs between two operations: a few of Rhai's frames, one function
/// of the library, and the drop of the deepest value.
pub(crate) const SPARE_STACK: usize = if cfg!(debug_assertions) {
    512 * 1024
} else {
    96 * 1024
};

/// Limit on the elapsed time of a patient run, as a multiple of its bound.
const PATIENCE: u32 = 10;

/// Counters of the run on this thread. Cells of plain numbers, because every operation of a script updates them.
struct Count {
    used: Cell<u64>,
    /// Count from which `look` must run: for time and cancellation, the limit, or an end.
    look_at: Cell<u64>,
    limit: Cell<u64>,
    /// Lowest address of a frame at which the run goes on; stacks grow downwards on each platform that the agent supports.
    stack_end: Cell<usize>,
    deadline: Cell<BootTime>,
    patience: Cell<Option<Patience>>,
    ended: Cell<Option<End>>,
}

/// State of a patient run. The first half of its time is measured by the clock, the second half by processor time.
#[derive(Clone, Copy)]
struct Patience {
    half: Duration,
    /// Time at which the run ends regardless of processor time.
    last: BootTime,
    /// Processor time of the thread at the end of the first half.
    mark: Option<Duration>,
}

/// Counters of an outer run, saved while another run nests in it.
struct Saved {
    used: u64,
    look_at: u64,
    limit: u64,
    stack_end: usize,
    deadline: BootTime,
    patience: Option<Patience>,
    ended: Option<End>,
    cancelled: Option<Arc<AtomicBool>>,
}

thread_local! {
    /// Outside of a run, `look` never runs. Runs nest: the agent serializes a state on an eval thread, and service code
    /// called there calls a patched point.
    static COUNT: Count = const {
        Count {
            used: Cell::new(0),
            look_at: Cell::new(u64::MAX),
            limit: Cell::new(u64::MAX),
            stack_end: Cell::new(0),
            deadline: Cell::new(BootTime(u64::MAX)),
            patience: Cell::new(None),
            ended: Cell::new(None),
        }
    };
    /// Separate, because a thread local with a destructor checks on each access whether the thread is ending.
    static CANCELLED: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

impl Count {
    fn exchange(&self, new: Saved) -> Saved {
        Saved {
            used: self.used.replace(new.used),
            look_at: self.look_at.replace(new.look_at),
            limit: self.limit.replace(new.limit),
            stack_end: self.stack_end.replace(new.stack_end),
            deadline: self.deadline.replace(new.deadline),
            patience: self.patience.replace(new.patience),
            ended: self.ended.replace(new.ended),
            cancelled: CANCELLED.with(|cancelled| cancelled.replace(new.cancelled)),
        }
    }

    /// Checks whether the run must end; called rarely, because it reads the clock.
    #[cold]
    fn look(&self) -> Option<End> {
        let used = self.used.get();
        if self.ended.get().is_some() {
        } else if used > self.limit.get() {
            self.end(End::Operations);
        } else if address_of_frame() < self.stack_end.get() {
            self.end(End::Stack);
        } else if CANCELLED.with(|c| c.borrow().as_ref().is_some_and(|c| c.load(Ordering::Relaxed))) {
            self.end(End::Cancelled);
        } else if self.is_late(BootTime::now()) {
            self.end(End::Time);
        } else {
            self.look_at.set(next_look(used, self.limit.get()));
        }
        self.ended.get()
    }

    /// Whether the time is used up. For a patient run, only processor time of the thread counts.
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

/// An address in the caller's frame.
#[inline(always)]
fn address_of_frame() -> usize {
    let local = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&local)).addr()
}

/// Lowest address of a frame at which a run that begins here goes on. 0 where the size of the stack is unknown: points run no
/// patch there, and the threads of evals have a known one.
fn stack_end() -> usize {
    let end = |left| {
        address_of_frame()
            .saturating_sub(left)
            .saturating_add(SPARE_STACK)
    };
    stacker::remaining_stack().map_or(0, end)
}

/// Processor time of this thread.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Next count at which to check: soon for the clock, and just above the limit.
fn next_look(used: u64, limit: u64) -> u64 {
    used.saturating_add(LOOK_EVERY).min(limit.saturating_add(1))
}

/// Runs `code`, begun at `now`, under its own bounds. Returns its result, the reason if the run was ended, and the number of
/// operations.
pub fn metered<T>(
    bounds: RunBounds,
    now: BootTime,
    cancelled: Option<Arc<AtomicBool>>,
    code: impl FnOnce() -> T,
) -> (T, Option<End>, u64) {
    /// Restores the outer run, even if the code panics.
    struct RestoreCount(Option<Saved>);
    impl RestoreCount {
        fn inner(&mut self) -> Option<Saved> {
            self.0
                .take()
                .map(|outer| COUNT.with(|count| count.exchange(outer)))
        }
    }
    impl Drop for RestoreCount {
        fn drop(&mut self) {
            self.inner();
        }
    }
    let run = Saved {
        used: 0,
        look_at: next_look(0, bounds.operations),
        limit: bounds.operations,
        stack_end: stack_end(),
        deadline: now.after(if bounds.patient {
            bounds.time / 2
        } else {
            bounds.time
        }),
        patience: bounds.patient.then(|| Patience {
            half: bounds.time / 2,
            last: now.after(bounds.time * PATIENCE),
            mark: None,
        }),
        ended: None,
        cancelled,
    };
    let mut restore = RestoreCount(Some(COUNT.with(|count| count.exchange(run))));
    let result = code();
    let (ended, used) = restore.inner().map_or((None, 0), |run| (run.ended, run.used));
    (result, ended, used)
}

/// Counts `cost` operations of the run on this thread. Has no effect outside of a run.
#[inline]
pub fn charge(cost: u64) -> Option<End> {
    COUNT.with(|count| {
        let used = count.used.get().saturating_add(cost);
        count.used.set(used);
        if used < count.look_at.get() && count.stack_end.get() <= address_of_frame() {
            None
        } else {
            count.look()
        }
    })
}

/// Ends the run on this thread. The first reason is kept.
pub fn end(why: End) {
    COUNT.with(|count| {
        if count.ended.get().is_none() && count.limit.get() != u64::MAX {
            count.end(why);
        }
    });
}

/// Why the run on this thread was ended, if it was.
pub fn ended() -> Option<End> {
    COUNT.with(|count| count.ended.get())
}

/// The error that ends a run in Rhai; the meter has the actual reason.
pub fn terminated() -> Box<EvalAltResult> {
    EvalAltResult::ErrorTerminated(Dynamic::UNIT, Position::NONE).into()
}
