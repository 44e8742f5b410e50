use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::breaker::{Breaker, Tripped};
use super::world::{ArcSwapOption, AtomicBool, AtomicU64};
use crate::crash_notes::CallNote;
use debug_base::{BootTime, Tree};

/// Frozen code in force at a point.
pub trait PatchCode: Send + Sync {
    /// Runs the code with the point's arguments, in order, in a call that began at `began`. Bounded by 100,000 operations and
    /// 10 ms of processor time; never panics.
    fn call(&self, lease: u64, began: BootTime, arguments: Vec<Tree>) -> Result<Tree, PatchFailure>;

    /// Whether the code mentions the request's body (routes).
    fn mentions_body(&self) -> bool;
}

/// Why a patch gave no answer, so that the original ran.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PatchFailure {
    /// The code threw; the text is the script's.
    #[error("the patch threw `{0}`")]
    Threw(String),
    /// The code read a name that a map lacks, and was made to fail there. Only guards are.
    #[error("the patch reads `{0}`, which is not there")]
    Missing(String),
    /// A bound was reached.
    #[error("the patch met a limit: {0}")]
    Limit(&'static str),
    /// Too little of the thread's stack is left to run a script safely.
    #[error("too little of the thread's stack is left to run the patch")]
    Stack,
    /// An argument or the answer does not have the required form.
    #[error("{0}")]
    Shape(String),
    /// A panic was caught; it may come from the service's own serde code.
    #[error("a panic was caught around the patch")]
    Panicked,
    /// The code answered `Err(..)` with this value. A failure unless the function returns a `Result`.
    #[error("the patch answered an `Err`, and only functions that return a `Result` have one")]
    Fault(Tree),
}

/// The last call in which a patch failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failed {
    /// Number of the call among the calls of the patch, from 1.
    pub call: u64,
    /// The failure, in words.
    pub why: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in call {}: {}", self.call, self.why)
    }
}

/// Receives events of patches, on service threads. Every method must return at once and must not block.
pub trait Observer: Send + Sync {
    /// A point is called at `now` and this layer is its newest. Lets the observer look for overdue layers, independent of
    /// which code answers.
    fn called(&self, now: BootTime);
    /// A call of the patch begins. The observer may leave a note in case the process ends during the call.
    fn begins(&self, _lease: u64) -> Option<CallNote> {
        None
    }
    /// The call has ended, with any outcome.
    fn ends(&self, _place: CallNote) {}
    /// The layer is gone: no call of it runs or will begin.
    fn gone(&self, _lease: u64) {}
    /// A call was answered by the patch.
    fn ran(&self, lease: u64, took: Duration);
    /// The original answered because the patch failed. `call`: number of the call, from 1.
    fn failed(&self, lease: u64, call: u64, failure: &PatchFailure);
    /// The breaker ended the layer, so its lease must be closed. Called once per layer.
    fn tripped(&self, lease: u64, why: Tripped);
}

/// One patch in the stack of a point.
pub struct Layer {
    lease: u64,
    /// Process that made the layer. A forked child has no agent thread to end it, so the layer does not run there.
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

impl Drop for Layer {
    fn drop(&mut self) {
        self.observer.gone(self.lease);
    }
}

/// Statistics of a layer since it was made, or of a point since a watch began.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// Calls passed to the patch, failures included.
    pub calls: u64,
    /// Error answers: responses with status 500 or higher or a `grpc-status` other than 0, `Err`, and panics.
    pub errors: u64,
    /// Calls in which the patch failed and the original answered.
    pub failures: u64,
    /// Mean duration of a call.
    pub mean: Duration,
    /// 99th percentile of the durations, rounded up to a power of two of nanoseconds.
    pub p99: Duration,
}

/// Histogram of durations in powers of two of nanoseconds; the last bucket is 2^39 ns, 9 minutes.
pub(crate) struct Timing {
    spent: AtomicU64,
    buckets: [AtomicU64; 40],
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            spent: AtomicU64::new(0),
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Timing {
    pub(crate) fn book(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.spent.fetch_add(nanos, Ordering::Relaxed);
        let exponent = nanos.max(1).next_power_of_two().trailing_zeros() as usize;
        if let Some(bucket) = self.buckets.get(exponent).or(self.buckets.last()) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The mean, and the upper end of the bucket of the 99th percentile.
    pub(crate) fn summary(&self) -> (Duration, Duration) {
        let counts = self
            .buckets
            .each_ref()
            .map(|bucket| bucket.load(Ordering::Relaxed));
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
    /// Creates a layer of this process, in force until `deadline` once pushed.
    pub fn new(
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

    /// The same layer, as if made by another process.
    #[cfg(test)]
    pub fn in_process_for_test(mut self, process: u32) -> Self {
        self.process = process;
        self
    }

    /// The lease that the layer belongs to.
    pub fn lease(&self) -> u64 {
        self.lease
    }

    /// The code in force.
    pub fn code(&self) -> &dyn PatchCode {
        &*self.code
    }

    /// The moment at which it expires.
    pub fn deadline(&self) -> BootTime {
        BootTime(self.deadline.load(Ordering::Relaxed))
    }

    /// Sets the deadline; calls that begin later see it.
    pub fn set_deadline(&self, deadline: BootTime) {
        self.deadline.store(deadline.0, Ordering::Relaxed);
    }

    /// Calls passed to the patch, failures included.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Calls in which the patch failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// The last failure.
    pub fn last_failure(&self) -> Option<Arc<Failed>> {
        self.last_failure.load().as_ref().cloned()
    }

    /// Statistics since the layer was made.
    pub fn stats(&self) -> Stats {
        let (mean, p99) = self.timing.summary();
        let errors = self.errors.load(Ordering::Relaxed);
        Stats {
            calls: self.calls(),
            errors,
            failures: self.failures(),
            mean,
            p99,
        }
    }

    /// Counts an answer of the patch that is an error for the service's caller.
    pub fn count_error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether its owner or its breaker ended it. An ended layer never runs again.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Whether it may run at `now` in this process.
    pub fn is_in_force(&self, now: BootTime) -> bool {
        !self.has_ended() && now < self.deadline() && self.process == std::process::id()
    }

    /// Tells the observer about a call of the point.
    pub(crate) fn tell_of_call(&self, now: BootTime) {
        self.observer.called(now);
    }

    /// Ends the layer irrevocably. Returns whether this call did.
    pub(crate) fn end(&self) -> bool {
        !self.ended.swap(true, Ordering::Relaxed)
    }

    /// Tells the observer that a call begins.
    pub(crate) fn begins(&self) -> Option<CallNote> {
        self.observer.begins(self.lease)
    }

    /// Tells the observer that the call has ended.
    pub(crate) fn ends(&self, place: CallNote) {
        self.observer.ends(place);
    }

    /// Records one call, tells the observer, and ends the layer if the breaker trips.
    pub(crate) fn book(&self, now: BootTime, took: Duration, failure: Option<&PatchFailure>) {
        let call = self.calls.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        self.timing.book(took);
        if let Some(failure) = failure {
            self.failures.fetch_add(1, Ordering::Relaxed);
            self.last_failure.store(Some(Arc::new(Failed {
                call,
                why: failure.to_string(),
            })));
        }
        let tripped = self.breaker.book(now.0 / 1_000_000_000, took, failure.is_some());
        // Ended before the observer is told: a panicking observer cannot keep the layer alive.
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
