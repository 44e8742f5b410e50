use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::breaker::{Breaker, Tripped};
use super::world::{ArcSwapOption, AtomicBool, AtomicU64};
use crate::clock::BootTime;
use crate::inside::Place;
use crate::state::Tree;

/// Frozen code in force at a point.
pub(crate) trait PatchCode: Send + Sync {
    /// Runs it with the point's arguments, in order, in a call that began at `began`. At most 100,000 operations and 10 ms; never panics.
    fn call(&self, lease: u64, began: BootTime, arguments: Vec<Tree>) -> Result<Tree, PatchFailure>;

    /// Whether the code mentions the request's body (routes).
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only requests have bodies"))]
    fn mentions_body(&self) -> bool;
}

/// Why a patch gave no answer, so that the original ran.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum PatchFailure {
    /// The code threw; the text is the script's.
    #[error("the patch threw `{0}`")]
    Threw(String),
    /// A bound was met.
    #[error("the patch met a limit: {0}")]
    Limit(&'static str),
    /// Too little of the thread's stack is left to run a script safely.
    #[error("too little of the thread's stack is left to run the patch")]
    Stack,
    /// An argument or the answer does not have the form that the point needs.
    #[error("{0}")]
    Shape(String),
    /// Something panicked, if only the service's own serde code.
    #[error("a panic was caught around the patch")]
    Panicked,
    /// The code answered `Err(..)` with this in it, which only functions that return a `Result` can give on.
    #[error("the patch answered an `Err`, and only functions that return a `Result` have one")]
    Fault(Tree),
}

/// The last call in which a patch failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Failed {
    /// Which one it was of its calls, from 1 on.
    pub(crate) call: u64,
    /// In words.
    pub(crate) why: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in call {}: {}", self.call, self.why)
    }
}

/// Hears what patches do, on the service's own threads: it must return at once and may not wait for anything.
pub(crate) trait Observer: Send + Sync {
    /// A point that has this layer is called at `now`, whatever answers: what should be over by then can be looked for.
    fn called(&self, now: BootTime);
    /// A call of the patch begins: should the process end inside of it, somebody wants to know.
    fn begins(&self, _lease: u64) -> Option<Place> {
        None
    }
    /// It is over, whatever came of it.
    fn ends(&self, _place: Place) {}
    /// A call was answered by the patch.
    fn ran(&self, lease: u64, took: Duration);
    /// A call was answered by the original because the patch failed. `call` is which one it was, from 1 on.
    fn failed(&self, lease: u64, call: u64, failure: &PatchFailure);
    /// The layer has ended itself: its lease is to be closed. Told once for each layer.
    fn tripped(&self, lease: u64, why: Tripped);
}

/// One patch in the stack of a point.
pub(crate) struct Layer {
    lease: u64,
    /// Of the process that made it: after a fork the child has nobody who could end it.
    process: u32,
    /// Nanoseconds on the boot-time clock.
    deadline: AtomicU64,
    ended: AtomicBool,
    code: Arc<dyn PatchCode>,
    observer: Arc<dyn Observer>,
    breaker: Breaker,
    calls: AtomicU64,
    failures: AtomicU64,
    errors: AtomicU64,
    last_failure: ArcSwapOption<Failed>,
    timing: Timing,
}

/// What happened at a layer since it was made, or at a point since somebody began to watch it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Stats {
    /// Calls that the patch was asked in, failures included.
    pub(crate) calls: u64,
    /// Answers that are errors: responses from status 500 on or with another `grpc-status` than 0, `Err`, and a panic.
    pub(crate) errors: u64,
    /// Calls in which the patch failed and the original answered.
    pub(crate) failures: u64,
    /// How long the patch took on the average.
    pub(crate) mean: Duration,
    /// The time within which 99 of 100 calls of it were done, to the next power of two of nanoseconds.
    pub(crate) p99: Duration,
}

/// How long calls took, in powers of two of nanoseconds: the last is 2^39 ns, 9 minutes.
pub(super) struct Timing {
    spent: AtomicU64,
    buckets: [AtomicU64; 40],
}

impl Default for Timing {
    fn default() -> Self {
        Self { spent: AtomicU64::new(0), buckets: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Timing {
    pub(super) fn book(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.spent.fetch_add(nanos, Ordering::Relaxed);
        let exponent = nanos.max(1).next_power_of_two().trailing_zeros() as usize;
        if let Some(bucket) = self.buckets.get(exponent).or(self.buckets.last()) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The mean, and the upper end of the bucket that the 99th of 100 calls lies in.
    pub(super) fn summary(&self) -> (Duration, Duration) {
        let counts = self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed));
        let calls: u64 = counts.iter().sum();
        let mean = self.spent.load(Ordering::Relaxed).checked_div(calls).unwrap_or(0);
        let mut left = calls - calls / 100;
        let p99 = counts.iter().position(|count| {
            left = left.saturating_sub(*count);
            left == 0
        });
        let p99 = p99.filter(|_| calls > 0).map_or(0, |exponent| 1u64 << exponent);
        (Duration::from_nanos(mean), Duration::from_nanos(p99))
    }
}

impl Layer {
    /// A layer of this process, in force before `deadline` once pushed.
    pub(crate) fn new(
        lease: u64,
        deadline: BootTime,
        code: Arc<dyn PatchCode>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self {
            lease,
            process: std::process::id(),
            deadline: AtomicU64::new(deadline.0),
            ended: AtomicBool::new(false),
            code,
            observer,
            breaker: Breaker::default(),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            last_failure: ArcSwapOption::const_empty(),
            timing: Timing::default(),
        }
    }

    /// The same layer as another process would have made it.
    #[cfg(test)]
    pub(crate) fn in_process_for_test(self, process: u32) -> Self {
        Self { process, ..self }
    }

    /// The lease that it belongs to.
    pub(crate) fn lease(&self) -> u64 {
        self.lease
    }

    /// The code in force.
    pub(crate) fn code(&self) -> &dyn PatchCode {
        &*self.code
    }

    /// The moment from which it is expired.
    pub(crate) fn deadline(&self) -> BootTime {
        BootTime(self.deadline.load(Ordering::Relaxed))
    }

    /// Sets the deadline; calls that begin later see it.
    pub(crate) fn set_deadline(&self, deadline: BootTime) {
        self.deadline.store(deadline.0, Ordering::Relaxed);
    }

    /// Calls that the patch was asked in, failures included.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Calls in which it failed.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// The last of them.
    pub(crate) fn last_failure(&self) -> Option<Arc<Failed>> {
        self.last_failure.load().as_ref().cloned()
    }

    /// What happened since it was made.
    pub(crate) fn stats(&self) -> Stats {
        let (mean, p99) = self.timing.summary();
        let errors = self.errors.load(Ordering::Relaxed);
        Stats { calls: self.calls(), errors, failures: self.failures(), mean, p99 }
    }

    /// Counts an answer of the patch that is an error of the service.
    pub(crate) fn count_error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether it was ended, by its owner or its breaker. It then never runs again.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Whether it may run now in this process.
    pub(crate) fn is_in_force(&self, now: BootTime) -> bool {
        !self.has_ended() && now < self.deadline() && self.process == std::process::id()
    }

    /// Tells the observer of a call of the point.
    pub(super) fn tell_of_call(&self, now: BootTime) {
        self.observer.called(now);
    }

    /// Ends it for good. Whether this call did.
    pub(super) fn end(&self) -> bool {
        !self.ended.swap(true, Ordering::Relaxed)
    }

    /// Tells the observer that a call begins.
    pub(super) fn begins(&self) -> Option<Place> {
        self.observer.begins(self.lease)
    }

    /// Tells it that the call is over.
    pub(super) fn ends(&self, place: Place) {
        self.observer.ends(place);
    }

    /// Counts one call, tells the observer, and ends the layer if the breaker says so.
    pub(super) fn book(&self, now: BootTime, took: Duration, failure: Option<&PatchFailure>) {
        let call = self.calls.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        self.timing.book(took);
        if let Some(failure) = failure {
            self.failures.fetch_add(1, Ordering::Relaxed);
            self.last_failure.store(Some(Arc::new(Failed { call, why: failure.to_string() })));
        }
        let tripped = self.breaker.book(now.0 / 1_000_000_000, took, failure.is_some());
        // Ended before anybody is told: a panicking observer cannot keep it alive.
        let tripped = tripped.filter(|_| self.end());
        match failure {
            None => self.observer.ran(self.lease, took),
            Some(failure) => self.observer.failed(self.lease, call, failure),
        }
        if let Some(why) = tripped {
            self.observer.tripped(self.lease, why);
        }
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut layer = f.debug_struct("Layer");
        layer
            .field("lease", &self.lease)
            .field("deadline", &self.deadline())
            .field("ended", &self.has_ended());
        layer.finish_non_exhaustive()
    }
}
