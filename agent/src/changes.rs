//! What is in force: patches of points, writes of states, levels of the log; guards and snapshots.

mod errors;
pub(crate) mod exposed;
pub(crate) mod guards;
mod layers;
#[cfg_attr(
    not(feature = "tracing"),
    allow(dead_code, reason = "without the filter there is no caller")
)]
pub(crate) mod levels;
#[cfg(test)]
mod model;
pub(crate) mod observer;
mod patch;
mod rehearsal;
pub(crate) mod snapshot;
#[cfg(test)]
mod tests;
pub(crate) mod waits;
pub(crate) mod workers;
mod write;

use std::sync::{Arc, OnceLock};

use debug_base::{BootTime, Wait};
use debug_lease::{Cause, EndError, Leases};
use debug_wire::messages::InForce;

use self::guards::Guards;
use self::levels::Levels;
use self::observer::PatchObserver;
use self::snapshot::Snapshots;
use self::waits::Waits;
use self::workers::RevertWorkers;
use crate::recorder::events::Emitter;

pub(crate) use errors::{failed, only_because_of};
pub(crate) use patch::PatchChange;
pub(crate) use rehearsal::Rehearsal;
pub(crate) use write::{WriteChange, Writes};

/// The changes in force.
pub(crate) struct Changes {
    /// The leases.
    pub(crate) leases: Arc<Leases>,
    /// The leases that write to states.
    pub(crate) writes: Arc<Writes>,
    /// The conditions under which leases stay in force.
    pub(crate) guards: Guards,
    /// Snapshots of states.
    pub(crate) snapshots: Snapshots,
    /// The threads that revert writes which must wait for a lock of the service.
    pub(crate) helpers: RevertWorkers,
    /// The reverts that wait now.
    pub(crate) waits: Waits,
    /// The log levels set for targets of the service's log.
    pub(crate) levels: Arc<Levels>,
    /// Observes failing patches; set once, right after the core is made.
    pub(crate) observing: OnceLock<Arc<PatchObserver>>,
}

impl Changes {
    /// Publishes the number of leases in force and their first deadline. Call it after every change of either. It does
    /// not block: the event goes through a queue, and another thread writes `active.json`.
    pub(crate) fn mark(&self, emitter: &Emitter) {
        let Some(observing) = self.observing.get() else {
            return;
        };
        let tell = |now: InForce| emitter.in_force(now);
        observing
            .marks()
            .tell(|| self.leases.in_force(BootTime::now()), tell);
        observing.mark();
    }
}

/// Ends leases, each with its one terminal record.
pub(crate) trait EndLeases: Send + Sync {
    /// Ends a lease; returns what is said of it.
    ///
    /// # Errors
    /// What happened to the lease instead, or why it could not be reverted; then an alarm is recorded and the revert is tried
    /// again.
    fn end(&self, id: u64, cause: &Cause, by: &str, wait: Wait) -> Result<String, EndError>;
}
