//! A state that is read and written.

use std::any::Any;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cell::{Cell, SharedCell};
use crate::edit::EditVerdict;
use crate::error::StateError;
use crate::kept::{Kept, Read};
use crate::spelling;
use crate::typed::{Check, Checked, EditFn, Later, State};
use crate::writable::{Writable, aligned};
use debug_base::{Found, Limits, Path, Tree, Wait, fenced, looking, sought, to_tree};

/// How often a write starts again because the service changed the value between the agent's read and its write.
const ATTEMPTS: u32 = 4;

/// The same for a revert, which must succeed even if the service keeps writing other parts of the value.
const ATTEMPTS_OF_A_REVERT: u32 = 64;

fn attempts(wait: Wait) -> std::ops::Range<u32> {
    0..if matches!(wait, Wait::Until) {
        ATTEMPTS_OF_A_REVERT
    } else {
        ATTEMPTS
    }
}

/// Creates a state that can be read and written.
pub fn writable<C: Cell>(root: Path, place: SharedCell<C>) -> Arc<dyn State>
where
    C::Value: Serialize + DeserializeOwned + PartialEq,
{
    Arc::new(Writable {
        value: Kept::new(root, place),
        checks: Vec::new(),
    })
}

impl<C: Cell> State for Writable<C>
where
    C::Value: Serialize + DeserializeOwned + PartialEq,
{
    fn root(&self) -> &Path {
        &self.value.root
    }

    fn writable(&self) -> bool {
        true
    }

    fn read(&self, wait: Wait) -> Result<Tree, StateError> {
        self.value.read(wait).map(|read| read.tree)
    }

    fn read_along(&self, path: &[String], wait: Wait) -> Result<Option<Found>, StateError> {
        self.value.read_along(path, wait)
    }

    fn check_write(&self, path: &[String], value: &Tree, wait: Wait) -> Result<Checked, StateError> {
        for _ in attempts(wait) {
            let read = self.value.read(wait)?;
            let before = read.tree.at(path).cloned();
            let (edit, stored) = self.tried(&read, path, value)?;
            let after = stored.at(path).cloned();
            // The undo will have to pass the check too.
            self.checked(edit.copy.get(), &self.value.root)
                .map_err(|error| self.stands_unchecked(error))?;
            let (verdict, edit) = self.value.ask(wait, None, move |cell, wait| {
                let verdict = cell.look(wait, |live| edit.compare(live))?;
                Ok((verdict, edit))
            })?;
            match verdict? {
                EditVerdict::AsRead => return Ok(Checked { before, after }),
                EditVerdict::Lossy => return Err(self.lossy(&edit)),
                EditVerdict::Changed => {}
            }
        }
        Err(StateError::Busy(self.value.root.to_string()))
    }

    fn check_write_into(
        &self,
        whole: &Tree,
        path: &[String],
        value: &Tree,
        _: Wait,
    ) -> Result<(Checked, Tree), StateError> {
        let read = self.given(whole)?;
        let before = read.tree.at(path).cloned();
        let (edit, stored) = self.tried(&read, path, value)?;
        self.checked(edit.copy.get(), &self.value.root)
            .map_err(|error| self.stands_unchecked(error))?;
        match edit.compare(edit.copy.get())? {
            EditVerdict::Lossy => Err(self.lossy(&edit)),
            EditVerdict::AsRead | EditVerdict::Changed => Ok((
                Checked {
                    before,
                    after: stored.at(path).cloned(),
                },
                stored,
            )),
        }
    }

    fn update_into(
        &self,
        whole: &Tree,
        path: &[String],
        change: &EditFn<'_>,
        _: Wait,
    ) -> Result<Tree, StateError> {
        let read = self.given(whole)?;
        match change(&read.tree, self)? {
            Some(edited) => self.prepare(&read, path, edited).map(|(_, stored)| stored),
            None => Ok(read.tree),
        }
    }

    fn update(
        &self,
        path: &[String],
        change: &EditFn<'_>,
        later: &Later<'_>,
        wait: Wait,
    ) -> Result<Tree, StateError> {
        for _ in attempts(wait) {
            let read = self.value.read(wait)?;
            let (mut edit, stored) = match change(&read.tree, self)? {
                Some(edited) => self.prepare(&read, path, edited)?,
                None if C::TIMED => (self.kept(&read)?, read.tree.clone()),
                None => return Ok(read.tree),
            };
            if C::TIMED {
                edit.later = self.scheduled(&stored, later)?;
            }
            match self.swap(edit, wait)? {
                (EditVerdict::AsRead, _) => return Ok(stored),
                (EditVerdict::Lossy, edit) => return Err(self.lossy(&edit)),
                (EditVerdict::Changed, _) => {}
            }
        }
        Err(StateError::Busy(self.value.root.to_string()))
    }

    fn spelled(&self, path: &[String], value: &Tree, wait: Wait) -> Option<(Tree, bool)> {
        let tree = self.value.read(wait).ok()?.tree;
        let edited = aligned(&tree.clone().with(path, Some(value.clone()), &[]).ok()?, &tree);
        let made = |tree: &Tree| self.value.value_of(tree.clone()).ok()?.ok();
        let written = |value: &C::Value| fenced(|| to_tree(value, &Limits::COPY)).ok()?.ok();
        let new = made(&edited)?;
        let stored = self.value.keys.by_key(&written(new.get())?);
        let becomes = stored.at(path)?.clone();
        let is_same = || {
            let again = made(&stored)?;
            let equal = fenced(|| new.get() == again.get()).ok()?;
            Some(equal && self.value.keys.by_key(&written(again.get())?).same(&stored))
        };
        let same = spelling::may_be_respelled(&edited, &stored) && is_same() == Some(true);
        Some((becomes, same))
    }

    fn has_field(&self, path: &[String], wait: Wait) -> Option<bool> {
        let Read { tree, .. } = self.value.read(wait).ok()?;
        let missing = tree.known_at(path).err()?;
        let (name, above) = missing.path.0.split_last()?;
        let Some(Tree::Map(entries)) = tree.at(above) else {
            return None;
        };
        let mut with = entries.clone();
        with.push((name.clone(), sought()));
        let tree = tree.clone().with(above, Some(Tree::Map(with)), &[]).ok()?;
        // Only the field's name matters: the type lists its fields before it validates the rest.
        let (_, look) = looking(Some(name), || self.value.value_of(tree));
        look.is_known
    }

    fn is_timed(&self) -> bool {
        C::TIMED
    }

    fn waits(&self) -> bool {
        C::WAITS
    }

    fn rearm(&self, later: &Later<'_>, wait: Wait) -> Result<(), StateError> {
        if !C::TIMED {
            return Ok(());
        }
        // The value stays; only the schedule is new.
        self.update(&[], &|_, _| Ok(None), later, wait).map(drop)
    }

    fn could_hold(&self, path: &[String], wait: Wait) -> bool {
        let Ok(read) = self.value.read(wait) else {
            return false;
        };
        probes()
            .into_iter()
            .any(|value| match self.tried(&read, path, &value) {
                Ok((_, stored)) => stored.at(path).is_some(),
                // The type has examined the value: it knows the place and wants another kind of value.
                Err(StateError::Refused(error)) => error.path == self.value.path(path) && !error.is_of_key(),
                Err(_) => false,
            })
    }

    fn add_key(&mut self, path: &[String], field: &str) -> bool {
        self.value.keys.add(path, field);
        true
    }

    fn unkeyed(&self) -> Vec<(Path, String)> {
        self.value.keys.unkeyed(&self.value.root)
    }

    fn add_check(&mut self, check: &dyn Any) -> bool {
        let check = check.downcast_ref::<Check<C::Value>>();
        self.checks.extend(check.cloned());
        check.is_some()
    }
}

/// One value of each kind, to probe whether a type knows a place.
fn probes() -> [Tree; 7] {
    let text = Tree::Str("0".to_owned());
    let list = Tree::Seq(vec![text.clone()]);
    [
        text,
        Tree::I64(1),
        Tree::Bool(true),
        Tree::F64(1.5),
        list,
        Tree::Map(Vec::new()),
        Tree::Seq(Vec::new()),
    ]
}
