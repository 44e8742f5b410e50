//! The guards in force, and what they read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::effect::GuardCode;
use debug_base::{Tree, fenced};
use debug_points::{Point, Stats, Watch};

/// A number of the service that guards can read.
pub(crate) type Gauge = Box<dyn Fn() -> f64 + Send + Sync>;

/// The counts for a guard, kept until this is dropped.
pub(crate) struct Counts(Vec<(Point, Arc<Watch>)>);

impl Counts {
    /// Starts counting the calls of these points.
    pub(crate) fn of(points: &[Point]) -> Self {
        Self(
            points
                .iter()
                .map(|point| (point.clone(), point.watch()))
                .collect(),
        )
    }

    pub(crate) fn stats(&self) -> impl Iterator<Item = (&str, Stats)> {
        self.0.iter().map(|(point, watch)| (point.name(), watch.stats()))
    }
}

impl Drop for Counts {
    fn drop(&mut self) {
        for (point, watch) in &self.0 {
            point.unwatch(watch);
        }
    }
}

/// A guard in force.
pub(crate) struct Guard {
    pub(crate) code: Arc<dyn GuardCode>,
    pub(crate) counts: Arc<Counts>,
    /// Evaluations without an answer, in a row.
    pub(crate) silent: u32,
}

/// The guards in force, by lease, and the gauges that they read.
pub(crate) struct Guards {
    guards: Mutex<BTreeMap<u64, Guard>>,
    gauges: Arc<BTreeMap<String, Gauge>>,
    /// Whether a thread is reading the service's gauges.
    asking: Arc<AtomicBool>,
}

/// How long the service may take to report its gauges. If it takes longer, all read as `()`, and no second thread is
/// started until the first one is done.
const GAUGES: Duration = Duration::from_millis(20);

/// The answer of a guard.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum GuardAnswer {
    /// The condition holds.
    Holds,
    /// It does not hold; what the guard saw.
    Broken(String),
    /// It has no answer, and why.
    Silent(String),
}

impl Guards {
    /// No guards yet.
    pub(crate) fn new(gauges: BTreeMap<String, Gauge>) -> Self {
        Self {
            guards: Mutex::default(),
            gauges: Arc::new(gauges),
            asking: Arc::default(),
        }
    }

    /// Whether the service has gauges.
    pub(crate) fn has_gauges(&self) -> bool {
        !self.gauges.is_empty()
    }

    /// The values of the gauges; null for one without a number, and for all if they take too long.
    pub(crate) fn gauges(&self) -> Vec<(String, Tree)> {
        let silent = || {
            self.gauges
                .keys()
                .map(|name| (name.clone(), Tree::Null))
                .collect()
        };
        if self.gauges.is_empty() || self.asking.swap(true, Ordering::AcqRel) {
            return silent();
        }
        let (gauges, asking) = (self.gauges.clone(), self.asking.clone());
        let (told, hear) = sync_channel(1);
        let ask = move || {
            let number = |gauge: &Gauge| {
                // The service's own code: a panic counts as no number.
                let value = fenced(gauge).unwrap_or(f64::NAN);
                if value.is_finite() {
                    Tree::F64(value)
                } else {
                    Tree::Null
                }
            };
            let numbers = gauges
                .iter()
                .map(|(name, gauge)| (name.clone(), number(gauge)))
                .collect();
            asking.store(false, Ordering::Release);
            // The receiver may have timed out.
            drop(told.try_send(numbers));
        };
        match std::thread::Builder::new()
            .name("debug-gauge".to_owned())
            .spawn(ask)
        {
            Ok(_) => hear.recv_timeout(GAUGES).unwrap_or_else(|_| silent()),
            Err(_) => {
                self.asking.store(false, Ordering::Release);
                silent()
            }
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Guard>> {
        self.guards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a guard to a lease; false if it has one.
    pub(crate) fn add(&self, lease: u64, code: Arc<dyn GuardCode>, counts: Counts) -> bool {
        let mut guards = self.lock();
        let free = !guards.contains_key(&lease);
        if free {
            guards.insert(
                lease,
                Guard {
                    code,
                    counts: Arc::new(counts),
                    silent: 0,
                },
            );
        }
        free
    }

    /// Whether a lease has a guard.
    pub(crate) fn has(&self, lease: u64) -> bool {
        self.lock().contains_key(&lease)
    }

    /// The last answer of a lease's guard, in words; `None` without a guard.
    pub(crate) fn told(&self, lease: u64) -> Option<String> {
        self.lock().get(&lease).map(|guard| match guard.silent {
            0 => "holds".to_owned(),
            _ => "could not tell".to_owned(),
        })
    }

    /// Removes the guard of a lease.
    pub(crate) fn remove(&self, lease: u64) {
        self.lock().remove(&lease);
    }

    /// Whether no lease has a guard.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}
