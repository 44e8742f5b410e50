//! Prepares writes of a value: what the type would store, and why it would not. Nothing is stored here.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cell::Cell;
use crate::edit::{Edit, EditVerdict, Schedule, tree_of};
use crate::error::StateError;
use crate::kept::{Kept, Read};
use crate::lossy;
use crate::typed::{Check, Later};
use debug_base::{
    BootTime, Limits, Orders, Panicked, Path, ServiceValue, Tree, TreeError, Wait, fenced, looking, to_tree,
};

pub(crate) struct Writable<C: Cell> {
    pub(crate) value: Kept<C>,
    pub(crate) checks: Vec<Check<C::Value>>,
}

impl<C: Cell> Writable<C>
where
    C::Value: Serialize + DeserializeOwned + PartialEq,
{
    /// Prepares a write without making it. If the type stores nothing at the place, or refuses `null` there, prepares a
    /// removal instead. Returns the edit and the whole value after it.
    pub(crate) fn tried(
        &self,
        read: &Read,
        path: &[String],
        value: &Tree,
    ) -> Result<(Edit<C::Value>, Tree), StateError> {
        let (held, root) = (&self.value, &self.value.root);
        let with = |value: Option<&Tree>| {
            let edited = read
                .tree
                .clone()
                .with(path, value.cloned(), &[])
                .map_err(|error| error.below(root))?;
            Ok::<_, StateError>(held.keys.in_order(held.keys.by_key(&edited), &read.tree))
        };
        let edited = with(Some(value))?;
        self.has_positions(&read.tree, &edited, path)?;
        let empty = read.tree.at(path).is_none();
        let missing = || match read.tree.known_at(path) {
            Err(error) => StateError::NoSuchPath(error.below(root)),
            Ok(_) => StateError::NotStored(held.path(path)),
        };
        match self.prepare(read, path, edited) {
            Err(StateError::Refused(error)) if empty && error.is_of_key() => Err(missing()),
            // The type read the value but does not write it: it drops the field, or skips it as empty.
            Err(StateError::NotStored(place)) => match self.means_empty(read, path, value)? {
                true if empty => Err(missing()),
                true => self.prepare(read, path, with(None)?),
                false => Err(StateError::NotStored(place)),
            },
            Err(StateError::Refused(error)) if !empty && *value == Tree::Null => {
                let emptied = with(None).and_then(|without| self.prepare(read, path, without));
                emptied.map_err(|_| StateError::Refused(error))
            }
            other => other,
        }
    }

    /// Treats `whole` as if it had been read.
    pub(crate) fn given(&self, whole: &Tree) -> Result<Read, StateError> {
        let raw = self
            .value
            .keys
            .as_lists(whole.clone())
            .map_err(|error| self.not_read(&error, whole))?;
        Ok(Read {
            raw,
            tree: whole.clone(),
        })
    }

    /// Whether the type stores for `value` at `path` the same as for an empty place.
    fn means_empty(&self, read: &Read, path: &[String], value: &Tree) -> Result<bool, StateError> {
        let stored = |value: Option<Tree>| -> Result<Option<Tree>, StateError> {
            let Ok(edited) = read.tree.clone().with(path, value, &[]) else {
                return Ok(None);
            };
            let Ok(made) = self.value.value_of(aligned(&edited, &read.tree))? else {
                return Ok(None);
            };
            let stored = tree_of(&self.value.root, fenced(|| to_tree(made.get(), &Limits::COPY)))?;
            Ok(Some(self.value.keys.by_key(&stored)))
        };
        let (with, without) = (stored(Some(value.clone()))?, stored(None)?);
        Ok(matches!((with, without), (Some(with), Some(without)) if with.same_unordered(&without)))
    }

    /// Checks that every list on the path has positions.
    fn has_positions(&self, tree: &Tree, edited: &Tree, path: &[String]) -> Result<(), StateError> {
        for depth in 0..path.len() {
            let above = &path[..depth];
            let (Some(Tree::Seq(items)), Some(Tree::Seq(others))) = (tree.at(above), edited.at(above)) else {
                continue;
            };
            let all: Vec<&Tree> = items.iter().chain(others).collect();
            if self.is_set(tree, above, &all) {
                let why = "it keeps no order, so its elements have no positions; write it whole";
                return Err(StateError::Refused(
                    TreeError::ours(why).below(&self.value.path(above)),
                ));
            }
        }
        Ok(())
    }

    /// Creates the copy to compare with and the value to store; returns the edit and the tree after it. Takes no lock.
    pub(crate) fn prepare(
        &self,
        read: &Read,
        path: &[String],
        edited: Tree,
    ) -> Result<(Edit<C::Value>, Tree), StateError> {
        let (held, root) = (&self.value, &self.value.root);
        let copy = held
            .value_of(read.tree.clone())?
            .map_err(|error| self.not_read(&error, &read.tree))?;
        let edited = held.keys.by_key(&aligned(&edited, &read.tree));
        let refused = |error: TreeError| StateError::Refused(error.below(root));
        let new = held.value_of(edited.clone())?.map_err(refused)?;
        let raw = tree_of(root, fenced(|| to_tree(new.get(), &Limits::COPY)))?;
        let stored = held.keys.by_key(&raw);
        if !stored.same_unordered(&edited) {
            let place = stored.first_difference_unordered(&edited).unwrap_or_default();
            if let Some(Tree::Unreadable(leaf)) = stored.at(&place) {
                let what = format!("it could not be read afterwards: {}", leaf.reason());
                return Err(refused(TreeError::ours(what).below(&Path(place))));
            }
            return Err(self.not_stored(&read.tree, path, place));
        }
        self.checked(new.get(), &held.path(path))?;
        Ok((Edit::new(root.clone(), read.raw.clone(), copy, new, raw), stored))
    }

    /// An edit that keeps the value and changes only the schedule.
    pub(crate) fn kept(&self, read: &Read) -> Result<Edit<C::Value>, StateError> {
        let root = &self.value.root;
        let copy = self.value.value_of(read.tree.clone())?;
        let copy = copy.map_err(|error| self.not_read(&error, &read.tree))?;
        let mut edit = Edit::new(
            root.clone(),
            read.raw.clone(),
            copy,
            ServiceValue::empty(),
            read.raw.clone(),
        );
        edit.keeps_value = true;
        Ok(edit)
    }

    /// Explains why the type does not deserialize what it serialized.
    fn not_read(&self, error: &TreeError, tree: &Tree) -> StateError {
        let takes = |tree| self.value.value_of(tree).is_ok_and(|value| value.is_ok());
        lossy::unreadable(&self.value.root, error, tree, &takes)
    }

    /// Explains why the deserialized copy differs from the live value.
    pub(crate) fn lossy(&self, edit: &Edit<C::Value>) -> StateError {
        let (_, look) = looking(None, || self.value.value_of(edit.tree.clone()));
        lossy::lossy(edit, &look)
    }

    /// Runs the service's checks on a value to be written at `path`.
    pub(crate) fn checked(&self, value: &C::Value, path: &Path) -> Result<(), StateError> {
        for check in &self.checks {
            let said = fenced(|| check(value)).map_err(|Panicked| self.value.panicked("checking a value"))?;
            said.map_err(|words| StateError::Refused(TreeError::checked(words).below(path)))?;
        }
        Ok(())
    }

    pub(crate) fn stands_unchecked(&self, error: StateError) -> StateError {
        match error {
            StateError::Refused(_) => StateError::Lossy {
                path: self.value.root.clone(),
                reason:
                    "what stands there does not pass the service's own check, so it could not be put back"
                        .to_owned(),
            },
            other => other,
        }
    }

    /// Values from each deadline on, given the value after the write.
    pub(crate) fn scheduled(
        &self,
        stored: &Tree,
        later: &Later<'_>,
    ) -> Result<Schedule<C::Value>, StateError> {
        let value = |(deadline, tree): (BootTime, Tree)| {
            let value = self.value.value_of(aligned(&tree, stored))?;
            Ok((deadline, value.map_err(|error| self.not_read(&error, &tree))?))
        };
        later(stored, self).into_iter().map(value).collect()
    }

    /// Explains a stored tree that differs from the edited one: the new value is at fault if they differ at the path,
    /// otherwise the type loses data elsewhere.
    fn not_stored(&self, tree: &Tree, path: &[String], place: Vec<String>) -> StateError {
        let full = self.value.path(&place);
        let filled = path
            .split_last()
            .is_none_or(|(_, above)| tree.at(above).is_some());
        if full.overlaps(&self.value.path(path)) && filled {
            return StateError::NotStored(full);
        }
        StateError::Lossy {
            path: full,
            reason: "it does not survive being written back".to_owned(),
        }
    }

    /// Swaps the new value in if the live one is still the one that was read. The old one drops outside the lock.
    pub(crate) fn swap(
        &self,
        mut edit: Edit<C::Value>,
        wait: Wait,
    ) -> Result<(EditVerdict, Edit<C::Value>), StateError> {
        let ticket = edit.ticket.clone();
        let mut edit = self.value.ask(wait, Some(&ticket), move |cell, wait| {
            cell.swap(wait, &mut edit)?;
            Ok(edit)
        })?;
        Ok((edit.outcome()?, edit))
    }
}

/// `value` with marks exactly where the type has a `Secret<T>`.
///
/// A field that is secret only by its name is a plain `String` to its type, so its mark is removed. Unmarked values stay
/// unmarked: text typed by an operator is no secret.
pub(crate) fn aligned(value: &Tree, live: &Tree) -> Tree {
    match (value, live) {
        (Tree::Secret(_), Tree::Secret(_)) => value.clone(),
        (Tree::Secret(inner), live) => aligned(inner, live),
        (Tree::Seq(items), Tree::Seq(beside)) => {
            let pairs = items.iter().enumerate();
            Tree::Seq(
                pairs
                    .map(|(index, item)| beside.get(index).map_or(item.clone(), |b| aligned(item, b)))
                    .collect(),
            )
        }
        (Tree::Map(entries), Tree::Map(_)) => {
            let aligned = |(key, value): &(String, Tree)| match live.at(std::slice::from_ref(key)) {
                Some(beside) => (key.clone(), aligned(value, beside)),
                None => (key.clone(), value.clone()),
            };
            Tree::Map(entries.iter().map(aligned).collect())
        }
        (value, _) => value.clone(),
    }
}
