//! The states with a plan's own writes.

use std::collections::BTreeMap;

use crate::changes::Changes;
use crate::changes::Rehearsal;
use crate::changes::exposed::Exposed;
use crate::changes::failed;
use debug_base::{BootTime, Path, Tree, Wait};
use debug_lease::stack::WriteLayer;
use debug_lease::{ChangeError, Conflict};
use debug_state::{Checked, StateError};

/// The states that a plan has changed, by name.
#[derive(Clone, Default)]
pub(crate) struct Overlay {
    states: BTreeMap<String, Rehearsal>,
}

impl Overlay {
    fn of(&self, path: &Path) -> Option<&Rehearsal> {
        self.states.get(path.0.first()?)
    }

    /// The rehearsal of a path's state; taken from the leases in force when the plan first changes the state.
    fn begin(&mut self, changes: &Changes, path: &Path) -> Result<&mut Rehearsal, ChangeError> {
        use std::collections::btree_map::Entry;
        match self.states.entry(path.0.first().cloned().unwrap_or_default()) {
            Entry::Occupied(state) => Ok(state.into_mut()),
            Entry::Vacant(free) => Ok(free.insert(changes.writes.rehearse(path, Wait::AGENT)?)),
        }
    }

    /// The value at a path, as a read shows it; `None` if the plan has not changed the state.
    pub(crate) fn look(&self, exposed: &Exposed, path: &Path) -> Option<Result<Tree, StateError>> {
        let whole = self.of(path)?.tree();
        let root = Path(path.0.get(..1).unwrap_or_default().to_vec());
        let marked = exposed.scrubber.mark(exposed.redactor.mark(&root, whole.clone()));
        Some(
            marked
                .known_at(path.below())
                .cloned()
                .map_err(|error| error.below(&root).into()),
        )
    }

    /// Checks a write: the value before and after it. `None` if the plan has not changed the state.
    pub(crate) fn check_write(
        &self,
        exposed: &Exposed,
        path: &Path,
        value: &Tree,
    ) -> Option<Result<Checked, StateError>> {
        let whole = self.of(path)?.tree();
        Some(exposed.states.check_write_into(whole, path, value, Wait::AGENT))
    }

    /// The write without which `path` would not exist; `None` if the plan has not changed the state.
    pub(crate) fn outlived(&self, path: &Path) -> Option<Option<(u64, Vec<String>)>> {
        Some(self.of(path)?.outlived(path.below()))
    }

    /// The current place of each write in the state, by lease; `None` if the plan has not changed the state.
    pub(crate) fn places(
        &self,
        exposed: &Exposed,
        path: &Path,
    ) -> Option<Result<BTreeMap<u64, Path>, ChangeError>> {
        Some(self.of(path)?.places(&exposed.states, path).map_err(failed))
    }

    /// Applies a write to the overlay.
    ///
    /// # Errors
    /// As the real write would fail.
    pub(crate) fn write(
        &mut self,
        changes: &Changes,
        exposed: &Exposed,
        lease: u64,
        path: &Path,
        values: &(Option<Tree>, Option<Tree>),
        deadline: BootTime,
    ) -> Result<(), ChangeError> {
        self.begin(changes, path)?
            .write(&exposed.states, lease, path, values, deadline)
    }

    /// Ends a write; returns the conflict that this would leave.
    pub(crate) fn end(
        &mut self,
        changes: &Changes,
        exposed: &Exposed,
        lease: u64,
        path: &Path,
    ) -> Result<Option<Conflict>, ChangeError> {
        self.begin(changes, path)?.end(&exposed.states, lease, path)
    }

    /// Reverts a conflict by force.
    pub(crate) fn force(
        &mut self,
        changes: &Changes,
        exposed: &Exposed,
        lease: u64,
        path: &Path,
        left: Option<WriteLayer>,
    ) -> Result<(), ChangeError> {
        self.begin(changes, path)?
            .force(&exposed.states, lease, path, left)
    }
}
