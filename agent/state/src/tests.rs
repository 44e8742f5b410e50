mod along;
mod cells;
mod digests;
mod fields;
mod handles;
mod live;
mod lossy;
mod marks;
mod unreadable;

use std::sync::{Arc, RwLock};

use serde::{Deserialize, Serialize};

use debug_base::for_test::*;
use debug_base::{Limits, Orders, PLACEHOLDER, Path, Secret, Tree, Wait, from_tree, to_tree};

use super::*;

pub(super) fn path(text: &str) -> Path {
    text.parse().unwrap()
}

pub(super) fn shared<T>(value: T) -> Arc<RwLock<T>> {
    Arc::new(RwLock::new(value))
}

/// A read-only state.
pub(super) fn read_only<H: StateHandle>(name: &str, handle: H) -> Arc<dyn State>
where
    H::Value: Serialize,
{
    crate::read_only(Path(vec![name.to_owned()]), handle.place())
}

/// A writable state.
pub(super) fn writable<H: StateHandle>(name: &str, handle: H) -> Arc<dyn State>
where
    H::Value: Serialize + serde::de::DeserializeOwned + PartialEq,
{
    crate::writable(Path(vec![name.to_owned()]), handle.place())
}

pub(super) trait Set {
    /// Writes without a schedule, for states that are not timed.
    fn set(&self, path: &[String], expect: &Tree, value: &Tree, wait: Wait) -> Result<(), StateError>;
}

impl Set for dyn State {
    fn set(&self, path: &[String], expect: &Tree, value: &Tree, wait: Wait) -> Result<(), StateError> {
        self.compare_and_set(path, expect, value, &|_, _| Vec::new(), wait)
    }
}
