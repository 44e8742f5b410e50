//! What stands in the states with a plan's own writes.

use std::collections::BTreeMap;

use crate::clock::BootTime;
use crate::core::Core;
use crate::lease::{ChangeError, Conflict, Layer, Rehearsal};
use crate::state::{Checked, Path, StateError, Tree, Wait};

/// The states that a plan has changed, by name.
#[derive(Clone, Default)]
pub(crate) struct Overlay {
    states: BTreeMap<String, Rehearsal>,
}

impl Overlay {
    fn of(&self, path: &Path) -> Option<&Rehearsal> {
        self.states.get(path.0.first()?)
    }

    /// The state of a path, taken over from what is in force when the plan first changes it.
    fn begin(&mut self, core: &Core, path: &Path) -> Result<&mut Rehearsal, ChangeError> {
        use std::collections::btree_map::Entry;
        match self.states.entry(path.0.first().cloned().unwrap_or_default()) {
            Entry::Occupied(state) => Ok(state.into_mut()),
            Entry::Vacant(free) => Ok(free.insert(core.writes.rehearse(path, Wait::AGENT)?)),
        }
    }

    /// What stands at a path, as a read shows it; nothing if the plan has not changed the state.
    pub(crate) fn look(&self, core: &Core, path: &Path) -> Option<Result<Tree, StateError>> {
        let whole = self.of(path)?.tree();
        let root = Path(path.0.get(..1).unwrap_or_default().to_vec());
        let marked = core.scrubber.mark(core.redactor.mark(&root, whole.clone()));
        Some(marked.known_at(path.below()).cloned().map_err(|error| error.below(&root).into()))
    }

    /// Whether a write would succeed, what stands there, and what would; nothing if the plan has not changed the state.
    pub(crate) fn check_write(
        &self,
        core: &Core,
        path: &Path,
        value: &Tree,
    ) -> Option<Result<Checked, StateError>> {
        let whole = self.of(path)?.tree();
        Some(core.states.check_write_into(whole, path, value, Wait::AGENT))
    }

    /// The write without which nothing would stand at `path`; nothing if the plan has not changed the state.
    pub(crate) fn outlived(&self, path: &Path) -> Option<Option<(u64, Vec<String>)>> {
        Some(self.of(path)?.outlived(path.below()))
    }

    /// Where each write in the state is now, by lease; nothing if the plan has not changed the state.
    pub(crate) fn places(
        &self,
        core: &Core,
        path: &Path,
    ) -> Option<Result<BTreeMap<u64, Path>, ChangeError>> {
        Some(self.of(path)?.places(&core.states, path).map_err(ChangeError::from))
    }

    /// Makes a write.
    ///
    /// # Errors
    /// It would fail as well if it were made.
    pub(super) fn write(
        &mut self,
        core: &Core,
        lease: u64,
        path: &Path,
        values: &(Option<Tree>, Option<Tree>),
        deadline: BootTime,
    ) -> Result<(), ChangeError> {
        self.begin(core, path)?.write(&core.states, lease, path, values, deadline)
    }

    /// Ends a write; what that would leave.
    pub(super) fn end(
        &mut self,
        core: &Core,
        lease: u64,
        path: &Path,
    ) -> Result<Option<Conflict>, ChangeError> {
        self.begin(core, path)?.end(&core.states, lease, path)
    }

    /// Undoes what a conflict left.
    pub(super) fn force(
        &mut self,
        core: &Core,
        lease: u64,
        path: &Path,
        left: Option<Layer>,
    ) -> Result<(), ChangeError> {
        self.begin(core, path)?.force(&core.states, lease, path, left)
    }
}
