//! One state as a plan would change it: its value and its stack of writes, neither of them live.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::errors::failed;
use super::layers;
use debug_base::{BootTime, Orders, Path, Tree, Wait};
use debug_lease::stack::{self, WriteLayer};
use debug_lease::{ChangeError, Conflict, Otherwise};
use debug_state::{Edited, Later, StateError, States};

/// A state in a plan.
#[derive(Clone)]
pub(crate) struct Rehearsal {
    tree: Tree,
    layers: Vec<WriteLayer>,
    /// Layers of the conflicts that the plan would cause, by lease.
    left: BTreeMap<u64, WriteLayer>,
}

impl Rehearsal {
    /// From the whole value as its type writes it, and the writes in force.
    pub(super) fn new(tree: Tree, layers: Vec<WriteLayer>) -> Self {
        Self {
            tree,
            layers,
            left: BTreeMap::new(),
        }
    }

    /// The whole value.
    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The current path of each write, by lease: the service may have moved the elements. A write that is not found keeps its
    /// last path.
    ///
    /// # Errors
    /// The state's type refuses its own value.
    pub(crate) fn places(&self, states: &States, path: &Path) -> Result<BTreeMap<u64, Path>, StateError> {
        let layers = RefCell::new(self.layers.clone());
        let look = |live: &Tree, orders: &dyn Orders| {
            stack::look(&mut layers.borrow_mut(), live, orders);
            Ok(None)
        };
        self.update(states, path, &[], &look)?;
        let root = root(path);
        let place = |layer: WriteLayer| (layer.lease, root.join(layer.known_path()));
        Ok(layers.into_inner().into_iter().map(place).collect())
    }

    /// The write that alone keeps `path` in existence: its lease, and its path below the state.
    pub(crate) fn outlived(&self, path: &[String]) -> Option<(u64, Vec<String>)> {
        layers::outlived(&self.layers, path)
    }

    /// Makes a write in the plan.
    ///
    /// # Errors
    /// As for the real write.
    pub(crate) fn write(
        &mut self,
        states: &States,
        lease: u64,
        path: &Path,
        values: &(Option<Tree>, Option<Tree>),
        deadline: BootTime,
    ) -> Result<(), ChangeError> {
        let written: Vec<&Tree> = values.0.iter().chain(&values.1).collect();
        let update = |change: &Edited<'_>, _: &Later<'_>| self.update(states, path, &written, change);
        let write = layers::Write {
            lease,
            at: path,
            values,
            deadline,
        };
        (self.layers, self.tree) = layers::make(&self.layers, &write, None, &update)?;
        Ok(())
    }

    /// Ends a write in the plan; returns the conflict, if any.
    ///
    /// # Errors
    /// As for the real undo.
    pub(crate) fn end(
        &mut self,
        states: &States,
        lease: u64,
        path: &Path,
    ) -> Result<Option<Conflict>, ChangeError> {
        let written = self.written(lease);
        let update = |change: &Edited<'_>, _: &Later<'_>| self.update(states, path, &written, change);
        let Some((layers, ending, tree)) =
            layers::end(&self.layers, lease, Otherwise::Keep, &update).map_err(failed)?
        else {
            return Ok(None);
        };
        (self.layers, self.tree) = (layers, tree);
        let conflict = layers::conflict(&ending.left, &root(path));
        if conflict.is_some() {
            self.left.insert(lease, ending.layer);
        }
        Ok(conflict)
    }

    /// Undoes the rest of a conflict in the plan.
    ///
    /// # Errors
    /// As for the real undo by force.
    pub(crate) fn force(
        &mut self,
        states: &States,
        lease: u64,
        path: &Path,
        left: Option<WriteLayer>,
    ) -> Result<(), ChangeError> {
        let Some(left) = left.or_else(|| self.left.get(&lease).cloned()) else {
            return Ok(());
        };
        let written: Vec<&Tree> = left.values().collect();
        let update = |change: &Edited<'_>, _: &Later<'_>| self.update(states, path, &written, change);
        if let Some((layers, _, tree)) = layers::force(&self.layers, &left, &root(path), &update)? {
            (self.layers, self.tree) = (layers, tree);
        }
        self.left.remove(&lease);
        Ok(())
    }

    /// The values of a write; error texts must not reveal them if they are secret.
    fn written(&self, lease: u64) -> Vec<&Tree> {
        self.layers
            .iter()
            .filter(|layer| layer.lease == lease)
            .flat_map(WriteLayer::values)
            .collect()
    }

    fn update(
        &self,
        states: &States,
        path: &Path,
        written: &[&Tree],
        change: &Edited<'_>,
    ) -> Result<Tree, StateError> {
        states.update_into(&self.tree, path, written, change, Wait::AGENT)
    }
}

fn root(path: &Path) -> Path {
    Path(path.0.get(..1).unwrap_or_default().to_vec())
}
