//! Counts the calls of a watched point, answered by a patch or by the original.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::layer::{Stats, Timing};
use super::world::{self, AtomicU64};
use debug_base::BootTime;

/// Counters since a watch began.
#[derive(Default)]
pub struct Watch {
    calls: AtomicU64,
    errors: AtomicU64,
    timing: Timing,
}

impl Watch {
    /// Statistics of the calls that have ended.
    pub fn stats(&self) -> Stats {
        let (mean, p99) = self.timing.summary();
        let (calls, errors) = (
            self.calls.load(Ordering::Relaxed),
            self.errors.load(Ordering::Relaxed),
        );
        Stats {
            calls,
            errors,
            failures: 0,
            mean,
            p99,
        }
    }

    fn book(&self, took: Duration, error: bool) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.errors.fetch_add(error.into(), Ordering::Relaxed);
        self.timing.book(took);
    }
}

/// A call in progress that is being counted; recorded when this is dropped, at the latest.
pub struct Counted {
    watches: Arc<Vec<Arc<Watch>>>,
    began: BootTime,
    error: bool,
    /// Whether the thread was already panicking when the call began, so that a destructor made the call.
    panicking: bool,
}

impl Counted {
    /// Starts counting a call of a point with these watches.
    pub(crate) fn begin(watches: Arc<Vec<Arc<Watch>>>) -> Self {
        Self {
            watches,
            began: world::now(),
            error: false,
            panicking: std::thread::panicking(),
        }
    }

    /// Ends the call. `error`: whether its answer is an error of the service.
    pub fn over(mut self, error: bool) {
        self.error = error;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let took = world::now().since(self.began);
        let error = self.error || std::thread::panicking() && !self.panicking;
        self.watches.iter().for_each(|watch| watch.book(took, error));
    }
}
