//! Leases: every change has an owner, a reason, undo data and a deadline, and ends exactly once.

mod change;
mod disputed;
mod merge;
#[cfg(test)]
mod model;
pub(crate) mod planted;
mod rehearsal;
mod stack;
mod table;
#[cfg(test)]
mod tests;
mod undo;

use std::sync::Arc;
use std::time::Duration;

use debug_policy::Resource;
use debug_wire::messages::After;

use crate::clock::BootTime;

pub(crate) use change::{
    Change, ChangeError, Conflict, PatchChange, Rearmed, Stands, Undone, WriteChange, Writes, only_because_of,
};
#[cfg(test)]
pub(crate) use merge::{Here, alike};
pub(crate) use rehearsal::Rehearsal;
pub(crate) use table::{Claim, EndError, Leases, Making, Overdue, Stuck, lock_soon, overlaps};
pub(crate) use undo::Layer;

/// How long a change lives when its author names no time: 10 minutes, long enough to watch a graph settle, short
/// enough that a forgotten patch is gone before the next deploy.
pub(crate) const DEFAULT_TTL: Duration = Duration::from_secs(10 * 60);
/// How long leases outlive a lost session, so that its operator can attach again and take them over.
pub(crate) const GRACE: Duration = Duration::from_secs(60);

/// Whether a lease has been confirmed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// Reverts at its first deadline.
    Provisional,
    /// Was kept past it, until a later one.
    Confirmed,
}

impl Phase {
    /// The word for it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Provisional => "provisional",
            Self::Confirmed => "confirmed",
        }
    }
}

/// Why a lease ended; the kind of its terminal record is `lease.` and the word.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Cause {
    /// By `revert`.
    Reverted,
    /// At its deadline.
    Expired,
    /// Its eval failed.
    Undone,
    /// Its session was lost and nobody took it over.
    SessionLost,
    /// Its guard said so, or failed; what was seen.
    GuardFailed(String),
    /// The patch failed or cost too much.
    Breaker(String),
    /// Its operator may be here no longer.
    Revoked(String),
    /// The agent stopped.
    Shutdown,
}

impl Cause {
    /// The kind of the terminal record.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Reverted => "lease.reverted",
            Self::Expired => "lease.expired",
            Self::Undone => "lease.undone",
            Self::SessionLost => "lease.session-lost",
            Self::GuardFailed(_) => "lease.guard-failed",
            Self::Breaker(_) => "lease.breaker",
            Self::Revoked(_) => "lease.revoked",
            Self::Shutdown => "lease.shutdown",
        }
    }

    /// The word for it.
    pub(crate) fn word(&self) -> &'static str {
        self.kind().trim_start_matches("lease.")
    }

    /// What was seen, where the cause alone does not say it.
    pub(crate) fn detail(&self) -> Option<&str> {
        match self {
            Self::GuardFailed(seen) | Self::Breaker(seen) | Self::Revoked(seen) => Some(seen),
            Self::Reverted | Self::Expired | Self::Undone | Self::SessionLost | Self::Shutdown => None,
        }
    }
}

/// An undo that did not succeed yet.
#[derive(Clone, Debug)]
pub(crate) struct Failing {
    /// In words.
    pub(crate) why: String,
    /// Since when it should have been undone.
    pub(crate) since: BootTime,
    /// When to try again.
    pub(crate) again: BootTime,
    /// Why the lease is to end.
    pub(crate) cause: Cause,
    /// Whether undoing failed, rather than had to wait for its turn.
    pub(crate) tried: bool,
}

/// A change in force.
#[derive(Clone)]
pub(crate) struct Lease {
    /// Rises over the life of the log.
    pub(crate) id: u64,
    /// How it is made and undone.
    pub(crate) change: Arc<dyn Change>,
    /// The operator's name.
    pub(crate) owner: String,
    /// The session that holds it now.
    pub(crate) session: u64,
    /// The number of the eval's record.
    pub(crate) eval: u64,
    /// Why.
    pub(crate) reason: String,
    /// When it was made.
    pub(crate) made: BootTime,
    /// When it reverts.
    pub(crate) deadline: BootTime,
    /// Whether it was confirmed.
    pub(crate) phase: Phase,
    /// What becomes of it when the session ends.
    pub(crate) after: After,
    /// Until when its operator may come back, once the session is lost.
    pub(crate) grace: Option<BootTime>,
    /// The last failed attempt to undo it.
    pub(crate) failing: Option<Failing>,
}

impl Lease {
    /// What it changed.
    pub(crate) fn target(&self) -> &Resource {
        self.change.target()
    }

    /// That it is in force, not past its deadline, and still the owner's for whom policy has decided.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn alive(&self, owner: &str, now: BootTime) -> Result<(), EndError> {
        let id = self.id;
        match &self.failing {
            _ if self.owner != owner => Err(EndError::Owner(id)),
            Some(failing) => Err(EndError::Failing { id, why: failing.why.clone(), first: false }),
            None if self.until() <= now && !planted::planted(planted::Fault::LateConfirm) => {
                Err(EndError::Ended { id, how: self.due().1.word() })
            }
            None => Ok(()),
        }
    }

    /// Tells its change how long it lasts now: until its deadline, or the end of the grace of its lost session.
    fn tell(&mut self) -> Self {
        self.change.set_deadline(self.id, self.until());
        self.clone()
    }

    /// Until when it is in force, unless somebody ends it.
    pub(crate) fn until(&self) -> BootTime {
        self.revertible_grace().map_or(self.deadline, |grace| grace.min(self.deadline))
    }

    /// The moment from which it should be undone.
    pub(crate) fn over(&self) -> BootTime {
        self.failing.as_ref().map_or_else(|| self.until(), |failing| failing.since)
    }

    /// The end of the grace of its lost session, unless it was confirmed: then it no longer depends on a session.
    pub(crate) fn revertible_grace(&self) -> Option<BootTime> {
        self.grace.filter(|_| self.phase == Phase::Provisional)
    }

    /// When somebody must do something about it, and why.
    pub(crate) fn due(&self) -> (BootTime, Cause) {
        if let Some(failing) = &self.failing {
            return (failing.again, failing.cause.clone());
        }
        match self.revertible_grace() {
            Some(grace) if grace < self.deadline => (grace, Cause::SessionLost),
            _ => (self.deadline, Cause::Expired),
        }
    }
}
