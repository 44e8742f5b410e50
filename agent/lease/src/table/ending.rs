//! The end of a lease.

use super::due::again;
use super::steps::{Fault, LeaseState};
use super::{EndError, Ended, Leases, Table, overlaps};
use crate::{Cause, ChangeError, Failing, Lease, Undone};
use debug_base::{BootTime, Panicked, Wait, fenced};

impl Leases {
    /// Ends a lease and undoes its change. The caller that gets `Ok` writes the one terminal record.
    ///
    /// # Errors
    /// The lease is not in force or is being ended, or the undo failed; after a failed undo the lease stays and the undo is
    /// retried.
    #[cfg(any(test, feature = "test-util"))]
    pub fn end(&self, id: u64, cause: &Cause, wait: Wait) -> Result<Ended, EndError> {
        self.end_of(id, None, cause, wait)
    }

    /// Ends a lease and undoes its change, if `owner` is unset or still owns it. The caller that gets `Ok` writes the one
    /// terminal record.
    ///
    /// # Errors
    /// As for `end`; `Owner` if the lease was adopted by another operator after the policy decision.
    pub fn end_of(&self, id: u64, owner: Option<&str>, cause: &Cause, wait: Wait) -> Result<Ended, EndError> {
        let lease = self.begin_end(id, owner, cause)?;
        // Service code runs here (serialization, comparison, drop), so no agent lock is held. The fence keeps a panic from
        // leaving the lease in `ending` for ever.
        let undone = fenced(|| lease.change.undo(id, wait));
        let undone =
            undone.unwrap_or_else(|Panicked| Err(ChangeError::Refused("undoing it panicked".to_owned())));
        match undone {
            Ok(undone) => self.finish_end(lease, undone),
            Err(error) => Err(self.goes_on(lease, &error.to_string(), cause)),
        }
    }

    /// Takes a lease for its end: no other thread ends it now.
    fn begin_end(&self, id: u64, owner: Option<&str>, cause: &Cause) -> Result<Lease, EndError> {
        let mut inner = self.lock();
        let found = inner.find(id)?;
        if owner.is_some_and(|owner| owner != found.owner) {
            return Err(EndError::Owner(id));
        }
        if let Some(why) = inner.in_the_way(id) {
            inner.try_later(id, why, cause);
            drop(inner);
            self.changed.notify_all();
            return Err(EndError::Ending(id));
        }
        let taken = inner.step("ended", id, &[LeaseState::Open], &[LeaseState::Ending], |inner| {
            let lease = inner.open.remove(&id)?;
            inner.ending.insert(id, lease.clone());
            Some(lease)
        });
        match taken {
            Ok(Some(lease)) => Ok(lease),
            Ok(None) | Err(Fault) => Err(EndError::Fault(id)),
        }
    }

    /// The change is undone.
    fn finish_end(&self, lease: Lease, undone: Undone) -> Result<Ended, EndError> {
        let id = lease.id;
        let conflict = undone.conflict.clone();
        let to = if conflict.is_some() {
            LeaseState::Conflict
        } else {
            LeaseState::Ended
        };
        let done = self
            .lock()
            .step("undone", id, &[LeaseState::Ending], &[to], |inner| {
                inner.ending.remove(&id);
                inner.remember(id, "ended");
                if let Some(conflict) = conflict {
                    inner.conflicts.insert(id, (lease.clone(), conflict));
                }
            });
        done.map_err(|Fault| EndError::Fault(id))?;
        Ok(Ended { lease, undone })
    }

    /// The change could not be undone: the lease stays, and the revert thread tries again.
    fn goes_on(&self, lease: Lease, why: &str, cause: &Cause) -> EndError {
        let (id, now) = (lease.id, BootTime::now());
        let since = lease.failing.as_ref().map_or(now, |failing| failing.since);
        let first = !lease.failing.as_ref().is_some_and(|before| before.tried);
        let failing = Failing {
            why: why.to_owned(),
            since,
            again: again(since, now),
            cause: cause.clone(),
            tried: true,
        };
        let kept = self
            .lock()
            .step("kept", id, &[LeaseState::Ending], &[LeaseState::Open], |inner| {
                inner.ending.remove(&id);
                let failing = Some(failing);
                inner.open.insert(id, Lease { failing, ..lease });
            });
        self.changed.notify_all();
        match kept {
            Ok(()) => EndError::Failing {
                id,
                why: why.to_owned(),
                first,
            },
            Err(Fault) => EndError::Fault(id),
        }
    }
}

impl Table {
    /// What keeps an open lease from being ended now.
    fn in_the_way(&self, id: u64) -> Option<String> {
        if self.making.contains(&id) {
            return Some("its change is just being made".to_owned());
        }
        let target = self.open.get(&id)?.target();
        // If two overlapping layers ended at once, each would treat the other as still in force. This one waits.
        let mut ending = self.ending.values();
        let other = ending.find(|other| overlaps(other.target(), target))?;
        Some(format!("lease {} of the same target is being ended", other.id))
    }

    /// Has the revert thread end the lease a little later.
    fn try_later(&mut self, id: u64, why: String, cause: &Cause) {
        let since = BootTime::now();
        let again = again(since, since);
        if let Some(lease) = self.open.get_mut(&id) {
            let first = Failing {
                why,
                since,
                again,
                cause: cause.clone(),
                tried: false,
            };
            let failing = lease.failing.get_or_insert(first);
            // Without this delay the revert thread would find the lease due again at once and spin.
            failing.again = failing.again.max(again);
        }
    }
}
