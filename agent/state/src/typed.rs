//! What every state can do, whatever its type: the trait that the registry, the undo and the plan use.

use std::any::Any;
use std::sync::Arc;

use crate::error::StateError;
use debug_base::{BootTime, Found, Orders, Path, Tree, Wait};

/// A registered value of the service. Paths are relative to the value and do not include the state's name; errors do.
pub trait State: Send + Sync {
    /// The path under which the service registered it: one name, or several for a field.
    fn root(&self) -> &Path;

    /// Whether it was registered for writing.
    fn writable(&self) -> bool;

    /// Whether the place at a path was registered for writing.
    fn writable_at(&self, _path: &[String]) -> bool {
        self.writable()
    }

    /// The whole value, with secrets marked.
    fn read(&self, wait: Wait) -> Result<Tree, StateError>;

    /// The value at `path`, read without its surroundings; `None` if only a full read can tell.
    fn read_along(&self, _path: &[String], _wait: Wait) -> Result<Option<Found>, StateError> {
        Ok(None)
    }

    /// The value that the type would store for `value` at `path`, if it differs, and whether it is only another spelling of
    /// the same value.
    fn spelled(&self, _path: &[String], _value: &Tree, _wait: Wait) -> Option<(Tree, bool)> {
        None
    }

    /// Whether the struct around the first missing segment of `path` has a field of that name. `None` if unknown, and if
    /// what is around it is no struct.
    fn has_field(&self, _path: &[String], _wait: Wait) -> Option<bool> {
        None
    }

    /// Checks whether writing `value` at `path` would succeed now; returns the current value and the one that would be
    /// stored.
    ///
    /// An empty place can be filled if the type accepts it. `null` in place of a value removes it if the type can do without.
    ///
    /// # Errors
    /// - The type has no such place, or the place is a position in a list without positions.
    /// - The live value does not survive the round trip through serde.
    /// - The type refuses the new value or would store another one.
    fn check_write(&self, path: &[String], value: &Tree, wait: Wait) -> Result<Checked, StateError>;

    /// Reads the whole value, asks `change` for the new one, and stores it if the live value is still the one that was read;
    /// otherwise starts again. Returns the value after that. All or nothing: after any error the value is unchanged.
    ///
    /// `path`: the written path, as requested.
    fn update(
        &self,
        path: &[String],
        change: &EditFn<'_>,
        later: &Later<'_>,
        wait: Wait,
    ) -> Result<Tree, StateError>;

    /// As [`check_write`](Self::check_write), with `whole` in place of the live value. Also returns the whole value after the
    /// write. Does not read the live value.
    ///
    /// # Errors
    /// As for [`check_write`](Self::check_write).
    fn check_write_into(
        &self,
        whole: &Tree,
        path: &[String],
        value: &Tree,
        wait: Wait,
    ) -> Result<(Checked, Tree), StateError>;

    /// The result of [`update`](Self::update) if the whole value were `whole`. Does not read the live value.
    ///
    /// # Errors
    /// As for `update`.
    fn update_into(
        &self,
        whole: &Tree,
        path: &[String],
        change: &EditFn<'_>,
        wait: Wait,
    ) -> Result<Tree, StateError>;

    /// Writes `value` at `path` if the value there is `expect`. All or nothing: after any error the value is unchanged.
    #[cfg(any(test, feature = "test-util"))]
    fn compare_and_set(
        &self,
        path: &[String],
        expect: &Tree,
        value: &Tree,
        later: &Later<'_>,
        wait: Wait,
    ) -> Result<(), StateError> {
        let change = |tree: &Tree, orders: &dyn Orders| {
            let live = tree.known_at(path).map_err(|error| error.below(self.root()))?;
            let here = debug_base::Here {
                whole: tree,
                path,
                orders,
            };
            if !debug_base::alike(Some(live), Some(expect), here) {
                return Err(StateError::Conflict(self.root().join(path)));
            }
            Ok(Some(
                tree.clone()
                    .replaced(path, value.clone())
                    .map_err(|error| error.below(self.root()))?,
            ))
        };
        self.update(path, &change, later, wait).map(drop)
    }

    /// Whether the service's reads check the clock, so that a change ends at its deadline without an undo.
    fn is_timed(&self) -> bool {
        false
    }

    /// Whether it cannot be read within a bound, because it has no lock with a `try`.
    fn waits(&self) -> bool {
        false
    }

    /// Stores the schedule of values from each deadline on. Does nothing for states that are not timed.
    fn rearm(&self, _later: &Later<'_>, _wait: Wait) -> Result<(), StateError> {
        Ok(())
    }

    /// Whether the type would accept some value at `path`, where there is none now.
    fn could_hold(&self, _path: &[String], _wait: Wait) -> bool {
        false
    }

    /// Shows the elements of the list at `path` by their `field`. Returns false if there can be no such list.
    fn add_key(&mut self, path: &[String], field: &str) -> bool;

    /// Lists that have a key but could not be shown by it at the last read, and why.
    fn unkeyed(&self) -> Vec<(Path, String)>;

    /// Adds a service check, a [`Check`] of the state's own type, that every new value must pass. Returns false if the check
    /// is for another type or the state is read-only.
    fn add_check(&mut self, _check: &dyn Any) -> bool {
        false
    }
}

/// Given the whole value in force, its values from each deadline on.
pub type Later<'a> = dyn Fn(&Tree, &dyn Orders) -> Vec<(BootTime, Tree)> + 'a;

/// Given the whole value as read, the new one; `None` to keep it.
pub type EditFn<'a> = dyn Fn(&Tree, &dyn Orders) -> Result<Option<Tree>, StateError> + 'a;

/// The value that a write would replace, and the value after it; `None` for an empty place.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The value before the write.
    pub before: Option<Tree>,
    /// The value that the type would store.
    pub after: Option<Tree>,
}

/// A service's condition for new values; the error is in the service's words.
pub type Check<T> = Arc<dyn Fn(&T) -> Result<(), String> + Send + Sync>;
