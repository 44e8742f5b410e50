//! A value of the service and its cell: reading it whole or along a path, and making a value from a tree.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cell::{AccessError, Cell, SharedCell};
use crate::edit::{WriteTicket, tree_of};
use crate::error::StateError;
use crate::held;
use crate::keys::Keys;
use crate::worker::Worker;
use debug_base::{
    Found, Limits, Panicked, Path, ServiceValue, Tree, TreeError, Wait, fenced, found_along, from_tree,
    to_tree,
};

/// A value of the service, and its cell.
pub(crate) struct Kept<C: Cell> {
    pub(crate) root: Path,
    place: SharedCell<C>,
    worker: Worker,
    pub(crate) keys: Keys,
}

/// A value as read.
pub(crate) struct Read {
    /// As its type serializes it.
    pub(crate) raw: Tree,
    /// With keyed lists as maps.
    pub(crate) tree: Tree,
}

impl<C: Cell> Kept<C> {
    pub(crate) fn new(root: Path, place: SharedCell<C>) -> Self {
        Self {
            root,
            place,
            worker: Worker::default(),
            keys: Keys::default(),
        }
    }

    pub(crate) fn path(&self, below: &[String]) -> Path {
        self.root.join(below)
    }

    /// Runs `ask` on the cell, on another thread if the cell cannot be read within a bound.
    pub(crate) fn ask<R: Send + 'static>(
        &self,
        wait: Wait,
        ticket: Option<&WriteTicket>,
        ask: impl FnOnce(&C, Wait) -> Result<R, AccessError> + Send + 'static,
    ) -> Result<R, StateError> {
        let answer = held::counted(|| {
            if C::WAITS {
                let place = self.place.clone();
                self.worker.ask(wait, ticket, move || ask(&place, Wait::Until))
            } else {
                ask(&self.place, wait)
            }
        });
        answer.map_err(|held| match held {
            AccessError::Busy => StateError::Busy(self.root.to_string()),
            AccessError::Poisoned => StateError::Poisoned(self.root.to_string()),
            AccessError::Panicked(doing) => self.panicked(doing),
            AccessError::Refused(words) => StateError::Refused(TreeError::checked(words).below(&self.root)),
            AccessError::NotStored => StateError::NotStored(self.root.clone()),
        })
    }

    pub(crate) fn panicked(&self, doing: &'static str) -> StateError {
        StateError::Panicked {
            state: self.root.to_string(),
            doing,
        }
    }
}

impl<C: Cell> Kept<C>
where
    C::Value: Serialize,
{
    pub(crate) fn read(&self, wait: Wait) -> Result<Read, StateError> {
        let limits = self.limits();
        let look = move |value: &C::Value| fenced(|| to_tree(value, &limits));
        let tree = self.ask(wait, None, move |cell, wait| cell.look(wait, look))?;
        let raw = tree_of(&self.root, tree)?;
        let tree = self.keys.live(&raw);
        Ok(Read { raw, tree })
    }

    pub(crate) fn read_along(&self, path: &[String], wait: Wait) -> Result<Option<Found>, StateError> {
        // If a path may contain a key, only a full read shows which element has it.
        if self.keys.are_named() {
            return Ok(None);
        }
        let (path, limits) = (path.to_vec(), self.limits());
        let look = move |value: &C::Value| fenced(|| found_along(value, &path, &limits));
        match self.ask(wait, None, move |cell, wait| cell.look(wait, look))? {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) if error.is_bound() => Err(StateError::Unreadable(error.below(&self.root))),
            // If the walk fails, a full read shows what can be shown.
            Ok(Err(_)) | Err(Panicked) => Ok(None),
        }
    }

    /// The depth limit allows for the state's own name in the longest path.
    fn limits(&self) -> Limits {
        let depth = debug_policy::MAX_SEGMENTS.saturating_sub(self.root.0.len());
        Limits {
            depth,
            ..Limits::STATE
        }
    }
}

impl<C: Cell> Kept<C>
where
    C::Value: DeserializeOwned,
{
    pub(crate) fn value_of(
        &self,
        tree: Tree,
    ) -> Result<Result<ServiceValue<C::Value>, TreeError>, StateError> {
        let tree = match self.keys.as_lists(tree) {
            Ok(tree) => tree,
            Err(error) => return Ok(Err(error)),
        };
        let value = fenced(|| from_tree(tree)).map_err(|Panicked| self.panicked("reading a value"))?;
        Ok(value.map(ServiceValue::new))
    }
}
