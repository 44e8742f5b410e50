//! Leases: every change has an owner, a reason, undo data and a deadline, and ends exactly once.

mod change;
mod disputed;
#[cfg(any(test, feature = "test-util"))]
pub mod for_test;
mod merge;
pub mod stack;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use debug_base::BootTime;
use debug_policy::Resource;
use debug_wire::messages::After;

pub use change::{BeforeAfter, Begun, Change, ChangeError, Conflict, Rearmed, Stands, Undone};
pub use merge::{KeptBecause, KeptPlace, Otherwise};
pub use table::{Claim, EndError, Ended, Leases, Making, NotOpened, Overdue, Stuck, lock_soon, overlaps};

/// Lifetime of a change without an explicit one: 10 minutes. Long enough to watch a graph settle, short enough that a
/// forgotten patch ends before the next deploy.
pub const DEFAULT_TTL: Duration = Duration::from_secs(10 * 60);
/// Grace period of leases after their session was lost, in which the operator can attach again and take them over.
pub const GRACE: Duration = Duration::from_secs(60);

/// Whether a lease has been confirmed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Reverts at its first deadline unless confirmed.
    Provisional,
    /// Confirmed: kept past the first deadline, until a later one.
    Confirmed,
}

impl Phase {
    /// Name of the phase, as shown to clients.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Provisional => "provisional",
            Self::Confirmed => "confirmed",
        }
    }
}

/// Why a lease ended. The kind of its terminal record is `lease.` and the name of the cause.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cause {
    /// An operator or a script reverted it.
    Reverted,
    /// Its deadline passed.
    Expired,
    /// The eval that made it failed.
    Undone,
    /// Its session was lost and the grace period ended without a takeover.
    SessionLost,
    /// Its guard returned false or failed; the text says what the guard saw.
    GuardFailed(String),
    /// The patch failed or exceeded its cost limit.
    Breaker(String),
    /// Its operator lost access.
    Revoked(String),
    /// The agent shut down.
    Shutdown,
}

impl Cause {
    /// The kind of the terminal record.
    pub const fn kind(&self) -> &'static str {
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

    /// Name of the cause: the record kind without `lease.`.
    pub fn word(&self) -> &'static str {
        self.kind().trim_start_matches("lease.")
    }

    /// The text that came with the cause, if any.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::GuardFailed(seen) | Self::Breaker(seen) | Self::Revoked(seen) => Some(seen),
            Self::Reverted | Self::Expired | Self::Undone | Self::SessionLost | Self::Shutdown => None,
        }
    }
}

/// An undo that has not succeeded yet.
#[derive(Clone, Debug)]
pub struct Failing {
    /// Error text of the last attempt.
    pub why: String,
    /// When its undo became due.
    pub since: BootTime,
    /// Time of the next attempt.
    pub again: BootTime,
    /// Cause with which the lease is to end.
    pub cause: Cause,
    /// True if an undo was attempted and failed; false if it is waiting its turn.
    pub tried: bool,
}

/// A change in force.
#[derive(Clone)]
pub struct Lease {
    /// Unique and increasing over the life of the log.
    pub id: u64,
    /// The change, with the code to apply and undo it.
    pub change: Arc<dyn Change>,
    /// The operator's name.
    pub owner: String,
    /// The session that holds it now.
    pub session: u64,
    /// Number of the record of the eval that made it.
    pub eval: u64,
    /// Reason given by the operator.
    pub reason: String,
    /// When it was made.
    pub made: BootTime,
    /// When it reverts.
    pub deadline: BootTime,
    /// Whether it was confirmed.
    pub phase: Phase,
    /// What happens to it when its session ends.
    pub after: After,
    /// End of the grace period after its session was lost.
    pub grace: Option<BootTime>,
    /// The undo that is due but has not succeeded yet.
    pub failing: Option<Failing>,
}

impl Lease {
    /// Target of the change.
    pub fn target(&self) -> &Resource {
        self.change.target()
    }

    /// Checks that the lease is in force, not past its deadline, and still owned by `owner`, for whom policy decided.
    ///
    /// # Errors
    /// The reason why it is not.
    pub fn alive(&self, owner: &str, now: BootTime) -> Result<(), EndError> {
        let id = self.id;
        match &self.failing {
            _ if self.owner != owner => Err(EndError::Owner(id)),
            Some(failing) => Err(EndError::Failing {
                id,
                why: failing.why.clone(),
                first: false,
            }),
            None if self.until() <= now => Err(EndError::Ended {
                id,
                how: self.due().1.word(),
            }),
            None => Ok(()),
        }
    }

    /// What operators agree on when they renew or adopt it.
    fn terms(&self) -> (BootTime, Phase, &str) {
        (self.deadline, self.phase, &self.owner)
    }

    /// End of the lease: its deadline, or the end of its grace period if that comes first.
    pub fn until(&self) -> BootTime {
        self.revertible_grace()
            .map_or(self.deadline, |grace| grace.min(self.deadline))
    }

    /// Moment from which the undo is due.
    pub fn over(&self) -> BootTime {
        self.failing
            .as_ref()
            .map_or_else(|| self.until(), |failing| failing.since)
    }

    /// End of the grace period. `None` once the lease is confirmed: then it no longer depends on a session.
    pub fn revertible_grace(&self) -> Option<BootTime> {
        self.grace.filter(|_| self.phase == Phase::Provisional)
    }

    /// When the revert thread must act on the lease next, and for which cause.
    pub fn due(&self) -> (BootTime, Cause) {
        if let Some(failing) = &self.failing {
            return (failing.again, failing.cause.clone());
        }
        match self.revertible_grace() {
            Some(grace) if grace < self.deadline => (grace, Cause::SessionLost),
            _ => (self.deadline, Cause::Expired),
        }
    }
}
