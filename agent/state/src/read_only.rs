//! A state that is only read.

use std::sync::Arc;

use serde::Serialize;

use crate::cell::{Cell, SharedCell};
use crate::error::StateError;
use crate::kept::Kept;
use crate::typed::{Checked, EditFn, Later, State};
use debug_base::{Found, Path, Tree, Wait};

/// Creates a state that can be read.
pub fn read_only<C: Cell>(root: Path, place: SharedCell<C>) -> Arc<dyn State>
where
    C::Value: Serialize,
{
    Arc::new(ReadOnly(Kept::new(root, place)))
}

struct ReadOnly<C: Cell>(Kept<C>);

impl<C: Cell> State for ReadOnly<C>
where
    C::Value: Serialize,
{
    fn root(&self) -> &Path {
        &self.0.root
    }

    fn writable(&self) -> bool {
        false
    }

    fn read(&self, wait: Wait) -> Result<Tree, StateError> {
        self.0.read(wait).map(|read| read.tree)
    }

    fn read_along(&self, path: &[String], wait: Wait) -> Result<Option<Found>, StateError> {
        self.0.read_along(path, wait)
    }

    fn check_write(&self, _path: &[String], _value: &Tree, _wait: Wait) -> Result<Checked, StateError> {
        Err(StateError::ReadOnly(self.0.root.to_string()))
    }

    fn check_write_into(
        &self,
        _: &Tree,
        _: &[String],
        _: &Tree,
        _: Wait,
    ) -> Result<(Checked, Tree), StateError> {
        Err(StateError::ReadOnly(self.0.root.to_string()))
    }

    fn update_into(&self, _: &Tree, _: &[String], _: &EditFn<'_>, _: Wait) -> Result<Tree, StateError> {
        Err(StateError::ReadOnly(self.0.root.to_string()))
    }

    fn update(&self, _: &[String], _: &EditFn<'_>, _: &Later<'_>, _: Wait) -> Result<Tree, StateError> {
        Err(StateError::ReadOnly(self.0.root.to_string()))
    }

    fn add_key(&mut self, path: &[String], field: &str) -> bool {
        self.0.keys.add(path, field);
        true
    }

    fn unkeyed(&self) -> Vec<(Path, String)> {
        self.0.keys.unkeyed(&self.0.root)
    }
}
