//! Conflicts: leases that ended although another writer had changed part of the target, until an operator settles them.

use super::steps::LeaseState;
use super::{EndError, Leases, REMEMBERED};
use crate::{Conflict, Lease};

impl Leases {
    /// Unsettled conflicts with their ended leases, oldest first.
    pub fn conflicts(&self) -> Vec<(Lease, Conflict)> {
        self.lock().conflicts.values().cloned().collect()
    }

    /// Looks up one unsettled conflict.
    ///
    /// # Errors
    /// `InForce` if the lease has not ended, otherwise how it ended.
    pub fn conflict(&self, id: u64) -> Result<(Lease, Conflict), EndError> {
        let inner = self.lock();
        match inner.conflicts.get(&id) {
            Some(found) => Ok(found.clone()),
            None => Err(match inner.find(id) {
                Ok(_) => EndError::InForce(id),
                Err(error) => error,
            }),
        }
    }

    /// Removes a conflict in order to settle it; `None` if another thread has removed it.
    pub fn take_conflict(&self, id: u64) -> Option<(Lease, Conflict)> {
        let mut inner = self.lock();
        if !inner.conflicts.contains_key(&id) {
            return None;
        }
        // `None`: how it ended was forgotten.
        let to = [LeaseState::Ended, LeaseState::None];
        let taken = inner.step("settled", id, &[LeaseState::Conflict], &to, |inner| {
            inner.conflicts.remove(&id)
        });
        taken.ok().flatten()
    }

    /// Puts back a conflict that could not be settled.
    pub fn put_conflict_back(&self, lease: Lease, conflict: Conflict) {
        let id = lease.id;
        let from = [LeaseState::Ended, LeaseState::None];
        drop(
            self.lock()
                .step("put back", id, &from, &[LeaseState::Conflict], |inner| {
                    inner.conflicts.insert(id, (lease, conflict));
                }),
        );
    }

    /// The oldest conflict, if there are more than `REMEMBERED`.
    pub fn surplus_conflict(&self) -> Option<Lease> {
        let inner = self.lock();
        let oldest = inner.conflicts.values().next().map(|(lease, _)| lease.clone());
        oldest.filter(|_| REMEMBERED < inner.conflicts.len())
    }
}
