//! What an agent tells while nothing is asked: the changes in force, the leases that ended, the patches that fail.

use std::time::{Duration, Instant};

use debug_wire::messages::{EndedLease, FailingPatch, InForce};

/// The changes in force in a process at some moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InForceSince {
    told: InForce,
    at: Instant,
}

impl InForceSince {
    /// The changes in force, as reported at a moment.
    pub(crate) fn told(told: InForce, at: Instant) -> Self {
        Self { told, at }
    }

    /// Whether it was reported after another.
    pub(crate) fn is_newer(&self, other: &Self) -> bool {
        other.at < self.at
    }

    /// The number of changes, and the time until the first reverts, at a later moment. The time is `None` once it has passed:
    /// from then on the number is not known.
    pub(crate) fn at(&self, moment: Instant) -> (u64, Option<Duration>) {
        let left = self.told.shortest_ms.map(Duration::from_millis);
        let passed = moment.saturating_duration_since(self.at);
        (
            self.told.count,
            left.and_then(|left| left.checked_sub(passed))
                .filter(|left| !left.is_zero()),
        )
    }
}

/// What answers to pings have reported since the last lookup.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// The changes in force in the process.
    pub(crate) in_force: Option<InForceSince>,
    /// The leases that ended.
    pub(crate) ended: Vec<EndedLease>,
    /// The patches that fail.
    pub(crate) failing: Vec<FailingPatch>,
}

impl News {
    /// Whether nothing is to be reported.
    pub(crate) fn is_empty(&self) -> bool {
        self.ended.is_empty() && self.failing.is_empty()
    }
}
