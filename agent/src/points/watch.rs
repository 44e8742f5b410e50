//! Counting the calls of a point for somebody who watches it, whoever answers them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::layer::{Stats, Timing};
use super::slot::Slot;
use super::world::{self, AtomicU64};
use crate::clock::BootTime;

/// What was counted since somebody began to watch.
#[derive(Default)]
pub(crate) struct Watch {
    calls: AtomicU64,
    errors: AtomicU64,
    timing: Timing,
}

impl Watch {
    /// Calls that are over by now.
    pub(crate) fn stats(&self) -> Stats {
        let (mean, p99) = self.timing.summary();
        let (calls, errors) = (self.calls.load(Ordering::Relaxed), self.errors.load(Ordering::Relaxed));
        Stats { calls, errors, failures: 0, mean, p99 }
    }

    fn book(&self, took: Duration, error: bool) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.errors.fetch_add(error.into(), Ordering::Relaxed);
        self.timing.book(took);
    }
}

/// A call that is counted when it is over, which is when this is dropped at the latest.
pub struct Counted {
    watches: Arc<Vec<Arc<Watch>>>,
    began: BootTime,
    error: bool,
    /// Whether the thread was panicking already when the call began: it is made by what is dropped then.
    panicking: bool,
}

impl Counted {
    /// A call begins now. Nothing if nobody watches the point.
    pub(super) fn begin(slot: &Slot) -> Option<Self> {
        let watches = slot.watches()?;
        Some(Self { watches, began: world::now(), error: false, panicking: std::thread::panicking() })
    }

    /// It is over; whether its answer is an error of the service's.
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
