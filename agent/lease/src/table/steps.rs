//! The life of a lease as steps between states. Each step checks the state before and after, in release builds too.
//!
//! A wrong state is a fault of the agent. The step is refused, or its result is kept and reported: a panic would reach
//! the service, and silence would leave a change in force that no thread ends.

use super::Table;

/// The state of a lease, by the sets of the table that hold its id.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LeaseState {
    /// The table does not know it, or only as a claim.
    None,
    /// Listed; its change is being applied, so it cannot be ended.
    Making,
    /// In force.
    Open,
    /// A thread is undoing it.
    Ending,
    /// Ended, with a conflict to be settled.
    Conflict,
    /// Ended.
    Ended,
    /// In sets that exclude each other.
    Torn,
}

/// The most faults that are kept until they are reported.
const MAX_FAULTS: usize = 100;

/// A step was refused.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Fault;

impl Table {
    pub(super) fn state(&self, id: u64) -> LeaseState {
        let open = self.open.contains_key(&id);
        let making = self.making.contains(&id);
        let ending = self.ending.contains_key(&id);
        let conflict = self.conflicts.contains_key(&id);
        let ended = self.ended.contains_key(&id);
        match (open, making, ending, conflict) {
            (true, true, false, false) if !ended => LeaseState::Making,
            (true, false, false, false) if !ended => LeaseState::Open,
            (false, false, true, false) if !ended => LeaseState::Ending,
            // Old conflicts outlast the memory of how leases ended.
            (false, false, false, true) => LeaseState::Conflict,
            (false, false, false, false) if ended => LeaseState::Ended,
            (false, false, false, false) => LeaseState::None,
            _ => LeaseState::Torn,
        }
    }

    /// Takes a lease from one of the states `from` to one of the states `to`.
    ///
    /// # Errors
    /// The lease is in no state of `from`; `step` was not run.
    pub(super) fn step<R>(
        &mut self,
        name: &str,
        id: u64,
        from: &[LeaseState],
        to: &[LeaseState],
        step: impl FnOnce(&mut Self) -> R,
    ) -> Result<R, Fault> {
        let before = self.state(id);
        if !from.contains(&before) {
            self.fault(format!("lease {id} was to be {name}, and is {before:?}: refused"));
            return Err(Fault);
        }
        let result = step(self);
        let after = self.state(id);
        if !to.contains(&after) {
            self.fault(format!(
                "lease {id}, which was {before:?}, was {name} and is {after:?} now"
            ));
        }
        Ok(result)
    }

    fn fault(&mut self, what: String) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(what);
        }
    }
}

#[cfg(test)]
mod tests {
    use debug_wire::messages::After;

    use super::super::Leases;
    use super::*;

    #[test]
    fn a_step_from_a_wrong_state_is_refused_and_reported() {
        let leases = Leases::after(0);
        let step = |from: &[LeaseState], to: &[LeaseState], ended: bool| {
            let mut inner = leases.lock();
            inner.step("ended", 7, from, to, |inner| {
                if ended {
                    inner.ended.insert(7, "reverted");
                }
            })
        };
        assert_eq!(step(&[LeaseState::Open], &[LeaseState::Ended], true), Err(Fault));
        assert_eq!(leases.lock().state(7), LeaseState::None, "the step was not run");
        assert_eq!(leases.faults(), ["lease 7 was to be ended, and is None: refused"]);
        assert_eq!(step(&[LeaseState::None], &[LeaseState::Ended], false), Ok(()));
        assert_eq!(
            leases.faults(),
            ["lease 7, which was None, was ended and is None now"]
        );
        assert_eq!(step(&[LeaseState::None], &[LeaseState::Ended], true), Ok(()));
        assert_eq!(leases.faults(), [] as [String; 0]);
    }

    #[test]
    fn a_lease_in_sets_that_exclude_each_other_is_torn() {
        let leases = Leases::after(0);
        let mut inner = leases.lock();
        inner.making.insert(7);
        assert_eq!(inner.state(7), LeaseState::Torn);
        inner.making.clear();
        inner.ended.insert(7, "reverted");
        assert_eq!(inner.state(7), LeaseState::Ended);
        // What has ended is not in force, and is not being ended.
        let lease = || crate::tests::lease(7, crate::tests::Fake::at("state:config"), 1, After::Revert);
        inner.open.insert(7, lease());
        assert_eq!(inner.state(7), LeaseState::Torn);
        inner.making.insert(7);
        assert_eq!(inner.state(7), LeaseState::Torn);
        (inner.open, inner.making) = Default::default();
        inner.ending.insert(7, lease());
        assert_eq!(inner.state(7), LeaseState::Torn);
    }
}
