//! The table of all leases.

mod conflicts;
mod due;
mod ending;
mod steps;
mod terms;

pub use self::due::{Overdue, Stuck, lock_soon};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use debug_policy::Resource;
use debug_wire::messages::InForce;

use self::steps::{Fault, LeaseState};
use crate::{Begun, Conflict, Lease, Undone};
use debug_base::BootTime;

/// All leases of the process.
pub struct Leases {
    inner: Mutex<Table>,
    changed: Condvar,
}

struct Table {
    next: u64,
    /// In force, by id. Includes leases with a failed undo.
    open: BTreeMap<u64, Lease>,
    /// Being ended right now. Keeps two threads from ending one lease.
    ending: BTreeMap<u64, Lease>,
    /// How the last leases ended, for precise error messages.
    ended: BTreeMap<u64, &'static str>,
    /// Ended leases with a conflict: another writer had changed part of the target. Kept until settled.
    conflicts: BTreeMap<u64, (Lease, Conflict)>,
    /// Targets reserved by a claim, with the claimant's name, by the id of the future lease.
    claimed: BTreeMap<u64, (Resource, String)>,
    /// Listed, and the change is being applied: it cannot be undone yet.
    making: BTreeSet<u64>,
    /// Set at shutdown: `open` refuses new leases.
    closed: bool,
    stopped: bool,
    /// Faults of the agent that were not reported yet.
    faults: Vec<String>,
}

/// Limit on ended leases remembered by id, and on unsettled conflicts.
pub(crate) const REMEMBERED: usize = 1_000;

/// Why a lease could not be added.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotOpened {
    /// The table is closed.
    #[error("the agent is stopping")]
    Closed,
    /// The table has a lease of this id, or had one.
    #[error("lease {0} is not at this step; this is a fault of the agent")]
    Fault(u64),
}

/// Why a lease could not be ended or renewed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EndError {
    /// No lease has this id.
    #[error("there is no lease {0}")]
    Unknown(u64),
    /// It has already ended.
    #[error("lease {id} has already ended: {how}")]
    Ended {
        /// The lease.
        id: u64,
        /// The word of its terminal record.
        how: &'static str,
    },
    /// Another thread is ending it right now.
    #[error("lease {0} is being ended right now")]
    Ending(u64),
    /// The undo failed; the revert thread retries it.
    #[error("lease {id} could not be undone: {why}; it is tried again until it succeeds")]
    Failing {
        /// The lease.
        id: u64,
        /// Error text of the attempt.
        why: String,
        /// True on the first failed attempt.
        first: bool,
    },
    /// It was adopted by another operator after the policy decision.
    #[error("lease {0} is another operator's by now")]
    Owner(u64),
    /// It is still in force, so there is no conflict to settle.
    #[error("lease {0} is in force")]
    InForce(u64),
    /// Its change could not be rearmed with the new deadline now.
    #[error("lease {0} stays as it was: its state is in use; try again")]
    Busy(u64),
    /// It is already confirmed.
    #[error("lease {0} was confirmed before")]
    Confirmed(u64),
    /// The agent lost track of it.
    #[error("lease {0} is in no state from which this is possible; this is a fault of the agent")]
    Fault(u64),
}

/// Reserves a target for the next lease. Dropping it releases the target.
#[must_use = "dropped, it releases the target"]
pub struct Claim<'a> {
    leases: &'a Leases,
    /// Id of the future lease.
    pub id: u64,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.leases.lock().claimed.remove(&self.id);
    }
}

/// A lease in the table whose change is being applied. The lease cannot be ended until this is dropped.
#[must_use = "while it lives, the lease cannot be ended"]
pub struct Making<'a> {
    leases: &'a Leases,
    id: u64,
    begun: bool,
}

impl Making<'_> {
    /// Begins to apply the change. `None` after the first call.
    pub fn begin(&mut self) -> Option<Begun> {
        let first = !std::mem::replace(&mut self.begun, true);
        first.then(|| Begun::of(self.id))
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        let mut inner = self.leases.lock();
        // A change that failed was withdrawn before.
        if inner.state(self.id) != LeaseState::Ended {
            drop(inner.step(
                "made",
                self.id,
                &[LeaseState::Making],
                &[LeaseState::Open],
                |inner| inner.making.remove(&self.id),
            ));
        }
        drop(inner);
        self.leases.changed.notify_all();
    }
}

/// A lease that has ended.
pub struct Ended {
    /// The lease as it was in force.
    pub lease: Lease,
    /// Result of the undo.
    pub undone: Undone,
}

impl Leases {
    /// Creates an empty table; the first id is `highest + 1`.
    pub fn after(highest: u64) -> Self {
        let inner = Table {
            next: highest + 1,
            open: BTreeMap::new(),
            ending: BTreeMap::new(),
            ended: BTreeMap::new(),
            conflicts: BTreeMap::new(),
            claimed: BTreeMap::new(),
            making: BTreeSet::new(),
            closed: false,
            stopped: false,
            faults: Vec::new(),
        };
        Self {
            inner: Mutex::new(inner),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // INVARIANT: no service code runs under this lock, so a panic cannot leave the table half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves `target` and the next lease id. The caller then reads the target, waits for the log to reach the disk and
    /// opens the lease; until the claim is dropped, no other claim on an overlapping target succeeds.
    ///
    /// # Errors
    /// The name of the claimant with an overlapping target.
    pub fn claim(&self, target: &Resource, by: impl Into<String>) -> Result<Claim<'_>, String> {
        let mut inner = self.lock();
        if let Some((_, by)) = inner
            .claimed
            .values()
            .find(|(claimed, _)| overlaps(claimed, target))
        {
            return Err(by.clone());
        }
        let id = inner.next;
        inner.next += 1;
        inner.claimed.insert(id, (target.clone(), by.into()));
        Ok(Claim { leases: self, id })
    }

    /// Adds a lease before its change is applied. The lease cannot be ended while the returned [`Making`] lives.
    ///
    /// # Errors
    /// See [`NotOpened`].
    pub fn open(&self, lease: Lease) -> Result<Making<'_>, NotOpened> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(NotOpened::Closed);
        }
        let id = lease.id;
        let opened = inner.step(
            "opened",
            id,
            &[LeaseState::None],
            &[LeaseState::Making],
            |inner| {
                inner.making.insert(id);
                inner.open.insert(id, lease);
            },
        );
        drop(inner);
        self.changed.notify_all();
        match opened {
            Ok(()) => Ok(Making {
                leases: self,
                id,
                begun: false,
            }),
            Err(Fault) => Err(NotOpened::Fault(id)),
        }
    }

    /// Id that the next claim will get.
    pub fn next_id(&self) -> u64 {
        self.lock().next
    }

    /// Closes the table: no lease can be added afterwards.
    pub fn close(&self) {
        self.lock().closed = true;
    }

    /// Removes a lease whose change never was in force: it failed to apply, or was never begun.
    pub fn withdraw(&self, id: u64) {
        let mut inner = self.lock();
        // `None`: the table is closed, so the lease was never in it.
        let from = [LeaseState::Making, LeaseState::None];
        drop(inner.step("withdrawn", id, &from, &[LeaseState::Ended], |inner| {
            inner.making.remove(&id);
            inner.open.remove(&id);
            inner.remember(id, "never made");
        }));
    }

    /// Leases in force, oldest first, including those being ended.
    pub fn list(&self) -> Vec<Lease> {
        let inner = self.lock();
        inner
            .open
            .values()
            .chain(inner.ending.values())
            .cloned()
            .collect()
    }

    /// Number of leases in force and time until the first of them ends, in ms (0 if an undo is overdue).
    pub fn in_force(&self, now: BootTime) -> InForce {
        let inner = self.lock();
        let (mut count, mut shortest) = (0, None);
        for lease in inner.open.values().chain(inner.ending.values()) {
            count += 1;
            shortest = Some(lease.until()).into_iter().chain(shortest).min();
        }
        let left = |until: BootTime| u64::try_from(until.remaining(now).as_millis()).unwrap_or(u64::MAX);
        InForce {
            count,
            shortest_ms: shortest.map(left),
        }
    }

    /// Looks up a lease in force.
    ///
    /// # Errors
    /// `Unknown`, `Ended`, `Ending` or `Failing`.
    pub fn find(&self, id: u64) -> Result<Lease, EndError> {
        self.lock().find(id).cloned()
    }

    /// The newest lease in force with a target that overlaps `target`.
    #[cfg(any(test, feature = "test-util"))]
    pub fn standing(&self, target: &Resource) -> Option<Lease> {
        let inner = self.lock();
        inner
            .open
            .values()
            .chain(inner.ending.values())
            .filter(|l| overlaps(l.target(), target))
            .max_by_key(|l| l.id)
            .cloned()
    }

    /// Returns a lease that blocks a change of `target` because its undo has not succeeded. It overlaps `target`, or an
    /// attempt to undo it failed in the same state: a fault in one part of a state may affect all of it.
    pub fn failing_at(&self, target: &Resource) -> Option<Lease> {
        let inner = self.lock();
        let near = |lease: &&Lease| {
            let Some(failing) = &lease.failing else {
                return false;
            };
            overlaps(lease.target(), target) || failing.tried && same_state(lease.target(), target)
        };
        inner
            .open
            .values()
            .chain(inner.ending.values())
            .rfind(near)
            .cloned()
    }

    /// Records how a lease ended, for later error messages.
    pub fn ended(&self, id: u64, how: &'static str) {
        self.lock().remember(id, how);
    }

    /// Leases held by a session.
    pub fn held_by(&self, session: u64) -> Vec<Lease> {
        self.lock()
            .open
            .values()
            .filter(|l| l.session == session)
            .cloned()
            .collect()
    }

    /// Takes the faults of the agent that the table has noticed.
    pub fn faults(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().faults)
    }
}

impl Table {
    fn find(&self, id: u64) -> Result<&Lease, EndError> {
        if let Some(lease) = self.open.get(&id) {
            return Ok(lease);
        }
        if let Some(lease) = self.ending.get(&id) {
            // The caller needs the earlier error more than the fact that an attempt is running.
            let before = lease.failing.as_ref().filter(|failing| failing.tried);
            return Err(before.map_or(EndError::Ending(id), |failing| EndError::Failing {
                id,
                why: failing.why.clone(),
                first: false,
            }));
        }
        match self.ended.get(&id) {
            Some(how) => Err(EndError::Ended { id, how }),
            None => Err(EndError::Unknown(id)),
        }
    }

    fn remember(&mut self, id: u64, how: &'static str) {
        self.ended.insert(id, how);
        // Never the one that ended just now, however old it is.
        while self.ended.len() > REMEMBERED {
            let oldest = self.ended.keys().find(|other| **other != id).copied();
            oldest.and_then(|oldest| self.ended.remove(&oldest));
        }
    }
}

/// Whether two targets overlap: the same point or log target, or state paths of which one is a prefix of the other.
pub fn overlaps(a: &Resource, b: &Resource) -> bool {
    match (a, b) {
        (Resource::State(a), Resource::State(b)) => a.iter().zip(b).all(|(x, y)| x == y),
        _ => a == b,
    }
}

fn same_state(a: &Resource, b: &Resource) -> bool {
    matches!((a, b), (Resource::State(a), Resource::State(b)) if a.first() == b.first())
}
