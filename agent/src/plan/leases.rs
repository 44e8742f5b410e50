//! The leases as a plan would have left them. Those that it would make have the ids that they would get if nobody else made a
//! change meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use debug_policy::Resource;

use crate::lease::{Conflict, EndError, Lease, Leases};

/// What differs from the leases in force.
#[derive(Default)]
pub(crate) struct PlannedLeases {
    /// Made, renewed or adopted, as they would be.
    changed: BTreeMap<u64, Lease>,
    made: BTreeSet<u64>,
    /// How those ended that would have.
    ended: BTreeMap<u64, &'static str>,
    guarded: BTreeSet<u64>,
    conflicts: BTreeMap<u64, (Lease, Conflict)>,
    settled: BTreeSet<u64>,
}

impl PlannedLeases {
    /// Those in force, oldest first.
    pub(crate) fn over(&self, real: Vec<Lease>) -> Vec<Lease> {
        let stays =
            |lease: &Lease| !self.ended.contains_key(&lease.id) && !self.changed.contains_key(&lease.id);
        let mut leases: Vec<Lease> =
            real.into_iter().filter(stays).chain(self.changed.values().cloned()).collect();
        leases.sort_by_key(|lease| lease.id);
        leases
    }

    /// What the plan has made of a lease; nothing if it has not touched it.
    pub(crate) fn find(&self, id: u64) -> Option<Result<Lease, EndError>> {
        match (self.changed.get(&id), self.ended.get(&id)) {
            (Some(lease), _) => Some(Ok(lease.clone())),
            (None, Some(how)) => Some(Err(EndError::Ended { id, how })),
            (None, None) => None,
        }
    }

    /// Whether it has ended it.
    pub(crate) fn has_ended(&self, id: u64) -> bool {
        self.ended.contains_key(&id)
    }

    /// Whether it has changed exactly this.
    pub(crate) fn made_at(&self, target: &Resource) -> bool {
        self.made.iter().filter_map(|id| self.changed.get(id)).any(|lease| lease.target() == target)
    }

    /// The id of the next one.
    pub(super) fn next(&self, real: &Leases) -> u64 {
        self.made.last().map_or_else(|| real.next_id(), |last| last + 1)
    }

    /// Makes one.
    pub(super) fn make(&mut self, lease: Lease) {
        self.made.insert(lease.id);
        self.changed.insert(lease.id, lease);
    }

    /// Makes another of one: another deadline, phase or owner.
    pub(super) fn change(&mut self, lease: Lease) {
        self.changed.insert(lease.id, lease);
    }

    /// Ends one.
    pub(super) fn end(&mut self, lease: &Lease, how: &'static str, conflict: Option<Conflict>) {
        self.changed.remove(&lease.id);
        self.ended.insert(lease.id, if conflict.is_some() { "conflict" } else { how });
        self.conflicts.extend(conflict.map(|conflict| (lease.id, (lease.clone(), conflict))));
    }

    /// Puts a guard on one; false if the plan has done so before.
    pub(super) fn guard(&mut self, id: u64) -> bool {
        self.guarded.insert(id)
    }

    /// Whether it has put a guard on one.
    pub(crate) fn has_guard(&self, id: u64) -> bool {
        self.guarded.contains(&id)
    }

    /// A conflict that waits to be settled.
    pub(crate) fn conflict(&self, id: u64) -> Option<(Lease, Conflict)> {
        self.conflicts.get(&id).cloned()
    }

    /// Those that wait, with those that waited before.
    pub(crate) fn conflicts_over(&self, real: Vec<(Lease, Conflict)>) -> Vec<(Lease, Conflict)> {
        let all = real.into_iter().chain(self.conflicts.values().cloned());
        all.filter(|(lease, _)| !self.settled.contains(&lease.id)).collect()
    }

    /// Settles one; false if that was done before.
    pub(super) fn settle(&mut self, id: u64) -> bool {
        self.conflicts.remove(&id);
        self.settled.insert(id)
    }

    /// Whether it was settled.
    pub(crate) fn is_settled(&self, id: u64) -> bool {
        self.settled.contains(&id)
    }
}
