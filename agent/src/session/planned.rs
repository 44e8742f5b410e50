//! The leases as a plan would leave them. The ids of its new leases are those that they would get if no other operator
//! made a change first.

use std::collections::{BTreeMap, BTreeSet};

use debug_policy::Resource;

use debug_lease::{Conflict, EndError, Lease, Leases};

/// The differences from the leases in force.
#[derive(Default)]
pub(crate) struct PlannedLeases {
    /// The leases that the plan would make, renew or adopt, in their new form.
    changed: BTreeMap<u64, Lease>,
    made: BTreeSet<u64>,
    /// The leases that the plan would end, and how.
    ended: BTreeMap<u64, &'static str>,
    guarded: BTreeSet<u64>,
    conflicts: BTreeMap<u64, (Lease, Conflict)>,
    settled: BTreeSet<u64>,
}

impl PlannedLeases {
    /// The leases that would be in force, oldest first.
    pub(crate) fn over(&self, real: Vec<Lease>) -> Vec<Lease> {
        let stays =
            |lease: &Lease| !self.ended.contains_key(&lease.id) && !self.changed.contains_key(&lease.id);
        let mut leases: Vec<Lease> = real
            .into_iter()
            .filter(stays)
            .chain(self.changed.values().cloned())
            .collect();
        leases.sort_by_key(|lease| lease.id);
        leases
    }

    /// The plan's version of a lease; `None` if the plan has not touched it.
    pub(crate) fn find(&self, id: u64) -> Option<Result<Lease, EndError>> {
        match (self.changed.get(&id), self.ended.get(&id)) {
            (Some(lease), _) => Some(Ok(lease.clone())),
            (None, Some(how)) => Some(Err(EndError::Ended { id, how })),
            (None, None) => None,
        }
    }

    /// Whether the plan would end it.
    pub(crate) fn has_ended(&self, id: u64) -> bool {
        self.ended.contains_key(&id)
    }

    /// Whether the plan would make a change at exactly this target.
    pub(crate) fn made_at(&self, target: &Resource) -> bool {
        self.made
            .iter()
            .filter_map(|id| self.changed.get(id))
            .any(|lease| lease.target() == target)
    }

    /// The id of the next new lease.
    pub(crate) fn next(&self, real: &Leases) -> u64 {
        self.made.last().map_or_else(|| real.next_id(), |last| last + 1)
    }

    /// Adds a new lease.
    pub(crate) fn make(&mut self, lease: Lease) {
        self.made.insert(lease.id);
        self.changed.insert(lease.id, lease);
    }

    /// Replaces a lease by a version with another deadline, phase or owner.
    pub(crate) fn change(&mut self, lease: Lease) {
        self.changed.insert(lease.id, lease);
    }

    /// Ends a lease.
    pub(crate) fn end(&mut self, lease: &Lease, how: &'static str, conflict: Option<Conflict>) {
        self.changed.remove(&lease.id);
        self.ended
            .insert(lease.id, if conflict.is_some() { "conflict" } else { how });
        self.conflicts
            .extend(conflict.map(|conflict| (lease.id, (lease.clone(), conflict))));
    }

    /// Puts a guard on a lease; false if the plan has done so before.
    pub(crate) fn guard(&mut self, id: u64) -> bool {
        self.guarded.insert(id)
    }

    /// Whether the plan would put a guard on a lease.
    pub(crate) fn has_guard(&self, id: u64) -> bool {
        self.guarded.contains(&id)
    }

    /// A conflict that the plan would leave unsettled.
    pub(crate) fn conflict(&self, id: u64) -> Option<(Lease, Conflict)> {
        self.conflicts.get(&id).cloned()
    }

    /// The unsettled conflicts, those before the plan included.
    pub(crate) fn conflicts_over(&self, real: Vec<(Lease, Conflict)>) -> Vec<(Lease, Conflict)> {
        let all = real.into_iter().chain(self.conflicts.values().cloned());
        all.filter(|(lease, _)| !self.settled.contains(&lease.id))
            .collect()
    }

    /// Settles a conflict; false if the plan has done so before.
    pub(crate) fn settle(&mut self, id: u64) -> bool {
        self.conflicts.remove(&id);
        self.settled.insert(id)
    }

    /// Whether the plan would settle it.
    pub(crate) fn is_settled(&self, id: u64) -> bool {
        self.settled.contains(&id)
    }
}
