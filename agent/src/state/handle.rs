use std::any::Any;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::aside::Aside;
use super::cell::{Cell, Held, Place, Wait};
use super::edit::{Edit, Schedule, Ticket, Verdict, tree_of};
use super::error::{StateError, TreeError};
use super::fence::{Outside, Panicked, fenced};
use super::path::Path;
use super::tree::Tree;
use super::{Limits, from_tree, to_tree};
use crate::clock::BootTime;

/// How often a write begins anew because the service changed the value between our reading and our writing.
const ATTEMPTS: u32 = 4;

/// The same for a revert, which must come through even where the service writes some other part of the value all the time.
const ATTEMPTS_OF_A_REVERT: u32 = 64;

fn attempts(wait: Wait) -> std::ops::Range<u32> {
    0..if matches!(wait, Wait::Until) { ATTEMPTS_OF_A_REVERT } else { ATTEMPTS }
}

/// A value of the service under its name. Paths are counted from the value: the state's name is not in them; in
/// errors it is.
pub(crate) trait State: Send + Sync {
    /// The path under which the service registered it: one name, or more for a field.
    fn root(&self) -> &Path;

    /// Whether it was registered for writing.
    fn writable(&self) -> bool;

    /// The whole value, with secrets marked.
    fn read(&self, wait: Wait) -> Result<Tree, StateError>;

    /// Whether writing `value` at `path` would succeed now, and what stands there.
    ///
    /// # Errors
    /// Nothing stands there; the live value does not survive being written back; the type does not take the new value
    /// or would store another one.
    fn check_write(&self, path: &[String], value: &Tree, wait: Wait) -> Result<Tree, StateError>;

    /// Writes `value` at `path` if `expect` stands there. All or nothing: any error leaves the value as it was.
    fn compare_and_set(
        &self,
        path: &[String],
        expect: &Tree,
        value: &Tree,
        later: &Later<'_>,
        wait: Wait,
    ) -> Result<(), StateError>;

    /// Whether it looks at the clock where it is read, so that a change is over at its deadline whoever undoes it.
    fn is_timed(&self) -> bool {
        false
    }

    /// Whether it cannot be asked within bounds, as it has no lock that could be tried.
    fn waits(&self) -> bool {
        false
    }

    /// Takes note of what the state will be from each deadline on. Only states that look at the clock where they are
    /// read have something to do.
    fn rearm(&self, _later: &Later<'_>, _wait: Wait) -> Result<(), StateError> {
        Ok(())
    }

    /// Takes in a check of the service that every new value must pass, a [`Check`] of the state's own type. False if it is
    /// of another type, or nothing can be written.
    fn add_check(&mut self, _check: &dyn Any) -> bool {
        false
    }
}

/// Given the whole state as it is in force, what it will be from each deadline on.
pub(crate) type Later<'a> = dyn Fn(&Tree) -> Vec<(BootTime, Tree)> + 'a;

/// What the service itself demands of a new value of the type, or why not, in its words.
pub(crate) type Check<T> = Arc<dyn Fn(&T) -> Result<(), String> + Send + Sync>;

/// Gives each state the checks that the service registered for it.
///
/// # Errors
/// There is no such state, or it is of another type.
pub(crate) fn add_checks(
    states: &mut [Arc<dyn State>],
    checks: &[(String, Box<dyn Any + Send>)],
) -> Result<(), String> {
    for (name, check) in checks {
        let named = states.iter_mut().find(|state| state.root().to_string() == *name);
        // Nobody else has it before the agent starts.
        let Some(state) = named.and_then(Arc::get_mut) else {
            return Err(format!("`validate`: no state is named `{name}`"));
        };
        if !state.add_check(&**check) {
            let why = if state.writable() { "is of another type" } else { "is only read" };
            return Err(format!("`validate`: state `{name}` {why}"));
        }
    }
    Ok(())
}

/// A state that can be read.
pub(crate) fn read_only<C: Cell>(root: Path, place: Place<C>) -> Arc<dyn State>
where
    C::Value: Serialize,
{
    Arc::new(ReadOnly(Kept::new(root, place)))
}

/// A state that can be read and written.
pub(crate) fn writable<C: Cell>(root: Path, place: Place<C>) -> Arc<dyn State>
where
    C::Value: Serialize + DeserializeOwned + PartialEq,
{
    Arc::new(Writable { value: Kept::new(root, place), checks: Vec::new() })
}

struct ReadOnly<C: Cell>(Kept<C>);

struct Writable<C: Cell> {
    value: Kept<C>,
    checks: Vec<Check<C::Value>>,
}

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
        self.0.read(wait)
    }

    fn check_write(&self, _path: &[String], _value: &Tree, _wait: Wait) -> Result<Tree, StateError> {
        Err(StateError::ReadOnly(self.0.root.to_string()))
    }

    fn compare_and_set(
        &self,
        _: &[String],
        _: &Tree,
        _: &Tree,
        _: &Later<'_>,
        _: Wait,
    ) -> Result<(), StateError> {
        Err(StateError::ReadOnly(self.0.root.to_string()))
    }
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
        self.value.read(wait)
    }

    fn check_write(&self, path: &[String], value: &Tree, wait: Wait) -> Result<Tree, StateError> {
        for _ in attempts(wait) {
            let tree = self.value.read(wait)?;
            let before = self.value.at(&tree, path)?.clone();
            let edit = self.prepare(&tree, path, &before, value)?;
            // Undoing the write will have to pass, too.
            self.checked(edit.copy.get(), &self.value.root).map_err(|error| self.stands_unchecked(error))?;
            let (verdict, edit) = self.value.ask(wait, None, move |cell, wait| {
                let verdict = cell.look(wait, |live| edit.compare(live))?;
                Ok((verdict, edit))
            })?;
            match verdict? {
                Verdict::AsRead => return Ok(before),
                Verdict::Lossy => return Err(lossy(&edit)),
                Verdict::Changed => {}
            }
        }
        Err(StateError::Busy(self.value.root.to_string()))
    }

    fn compare_and_set(
        &self,
        path: &[String],
        expect: &Tree,
        value: &Tree,
        later: &Later<'_>,
        wait: Wait,
    ) -> Result<(), StateError> {
        for _ in attempts(wait) {
            let tree = self.value.read(wait)?;
            if !self.value.at(&tree, path)?.same_unordered(expect) {
                return Err(StateError::Conflict(self.value.path(path)));
            }
            let mut edit = self.prepare(&tree, path, expect, value)?;
            if C::TIMED {
                edit.later = self.scheduled(&edit.stored, later)?;
            }
            match self.swap(edit, wait)? {
                (Verdict::AsRead, _) => return Ok(()),
                (Verdict::Lossy, edit) => {
                    let reordered = !tree.at(path).is_some_and(|live| live.same(expect));
                    // A list in another order: for a set the copy would have been equal, so this is no set.
                    let conflict = StateError::Conflict(self.value.path(path));
                    return Err(if reordered { conflict } else { lossy(&edit) });
                }
                (Verdict::Changed, _) => {}
            }
        }
        Err(StateError::Busy(self.value.root.to_string()))
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
        for _ in attempts(wait) {
            let tree = self.value.read(wait)?;
            let copy =
                self.value.value_of(tree.clone())?.map_err(|error| unreadable(&self.value.root, &error))?;
            let new = Outside::empty();
            let mut edit = Edit::new(self.value.root.clone(), tree.clone(), copy, new, tree);
            edit.keeps_value = true;
            edit.later = self.scheduled(&edit.stored, later)?;
            match self.swap(edit, wait)? {
                (Verdict::AsRead, _) => return Ok(()),
                (Verdict::Lossy, edit) => return Err(lossy(&edit)),
                (Verdict::Changed, _) => {}
            }
        }
        Err(StateError::Busy(self.value.root.to_string()))
    }

    fn add_check(&mut self, check: &dyn Any) -> bool {
        let check = check.downcast_ref::<Check<C::Value>>();
        self.checks.extend(check.cloned());
        check.is_some()
    }
}

/// A value of the service, and where it lies.
struct Kept<C: Cell> {
    root: Path,
    place: Place<C>,
    aside: Aside,
}

impl<C: Cell> Kept<C> {
    fn new(root: Path, place: Place<C>) -> Self {
        Self { root, place, aside: Aside::default() }
    }

    fn path(&self, below: &[String]) -> Path {
        self.root.join(below)
    }

    fn at<'t>(&self, tree: &'t Tree, path: &[String]) -> Result<&'t Tree, StateError> {
        Ok(tree.known_at(path).map_err(|error| error.below(&self.root))?)
    }

    /// Asks the cell, on another thread if it cannot be asked within bounds.
    fn ask<R: Send + 'static>(
        &self,
        wait: Wait,
        ticket: Option<&Ticket>,
        ask: impl FnOnce(&C, Wait) -> Result<R, Held> + Send + 'static,
    ) -> Result<R, StateError> {
        let answer = if C::WAITS {
            let place = self.place.clone();
            self.aside.ask(wait, ticket, move || ask(&place, Wait::Until))
        } else {
            ask(&self.place, wait)
        };
        answer.map_err(|held| match held {
            Held::Busy => StateError::Busy(self.root.to_string()),
            Held::Poisoned => StateError::Poisoned(self.root.to_string()),
            Held::Panicked(doing) => self.panicked(doing),
            Held::Refused(words) => StateError::Refused(TreeError::checked(words).below(&self.root)),
            Held::NotStored => StateError::NotStored(self.root.clone()),
        })
    }

    fn panicked(&self, doing: &'static str) -> StateError {
        StateError::Panicked { state: self.root.to_string(), doing }
    }
}

impl<C: Cell> Kept<C>
where
    C::Value: Serialize,
{
    fn read(&self, wait: Wait) -> Result<Tree, StateError> {
        let look = |value: &C::Value| fenced(|| to_tree(value, &Limits::STATE));
        let tree = self.ask(wait, None, move |cell, wait| cell.look(wait, look))?;
        tree_of(&self.root, tree)
    }
}

impl<C: Cell> Kept<C>
where
    C::Value: DeserializeOwned,
{
    fn value_of(&self, tree: Tree) -> Result<Result<Outside<C::Value>, TreeError>, StateError> {
        let value = fenced(|| from_tree(tree)).map_err(|Panicked| self.panicked("reading a value"))?;
        Ok(value.map(Outside::new))
    }
}

impl<C: Cell> Writable<C>
where
    C::Value: Serialize + DeserializeOwned + PartialEq,
{
    /// Makes the copy to compare with and the value to store. Holds no lock.
    fn prepare(
        &self,
        tree: &Tree,
        path: &[String],
        expect: &Tree,
        value: &Tree,
    ) -> Result<Edit<C::Value>, StateError> {
        let (held, root) = (&self.value, &self.value.root);
        let live = held.at(tree, path)?;
        let replaced = |value: &Tree| {
            let value = aligned(value, live);
            tree.clone().replaced(path, value).map_err(|error| error.below(root))
        };
        let copy = held.value_of(replaced(expect)?)?.map_err(|error| unreadable(root, &error))?;
        let edited = replaced(value)?;
        let refused = |error: TreeError| StateError::Refused(error.below(root));
        let new = held.value_of(edited.clone())?.map_err(refused)?;
        let stored = tree_of(root, fenced(|| to_tree(new.get(), &Limits::COPY)))?;
        if !stored.same_unordered(&edited) {
            let place = stored.first_difference(&edited).unwrap_or_default();
            return Err(self.not_stored(tree, path, place));
        }
        self.checked(new.get(), &held.path(path))?;
        Ok(Edit::new(root.clone(), tree.clone(), copy, new, stored))
    }

    /// Asks the service itself about a value that is to be written at `path`.
    fn checked(&self, value: &C::Value, path: &Path) -> Result<(), StateError> {
        for check in &self.checks {
            let said = fenced(|| check(value)).map_err(|Panicked| self.value.panicked("checking a value"))?;
            said.map_err(|words| StateError::Refused(TreeError::checked(words).below(path)))?;
        }
        Ok(())
    }

    fn stands_unchecked(&self, error: StateError) -> StateError {
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

    /// What the whole value will be from each deadline on, given what it will be when it was written.
    fn scheduled(&self, stored: &Tree, later: &Later<'_>) -> Result<Schedule<C::Value>, StateError> {
        let value = |(deadline, tree): (BootTime, Tree)| {
            let value = self.value.value_of(aligned(&tree, stored))?;
            Ok((deadline, value.map_err(|error| unreadable(&self.value.root, &error))?))
        };
        later(stored).into_iter().map(value).collect()
    }

    /// Why the stored tree is not the edited one: the new value's fault if the difference lies at the path, else the
    /// type loses something elsewhere.
    fn not_stored(&self, tree: &Tree, path: &[String], place: Vec<String>) -> StateError {
        let full = self.value.path(&place);
        if full.overlaps(&self.value.path(path)) && tree.at(path).is_some() {
            return StateError::NotStored(full);
        }
        StateError::Lossy { path: full, reason: "it does not survive being written back".to_owned() }
    }

    /// Swaps the new value in if the live one is still the one that was read. The old one drops outside the lock.
    fn swap(&self, mut edit: Edit<C::Value>, wait: Wait) -> Result<(Verdict, Edit<C::Value>), StateError> {
        let ticket = edit.ticket.clone();
        let mut edit = self.value.ask(wait, Some(&ticket), move |cell, wait| {
            cell.swap(wait, &mut edit)?;
            Ok(edit)
        })?;
        Ok((edit.outcome()?, edit))
    }
}

fn unreadable(root: &Path, error: &TreeError) -> StateError {
    StateError::Lossy {
        path: root.join(&error.path.0),
        reason: "the live value cannot be read back by the service's type".to_owned(),
    }
}

/// The first path at which the live value and the type's reading of it differ, if any can be seen.
fn lossy<T: Serialize>(edit: &Edit<T>) -> StateError {
    let copied = fenced(|| to_tree(edit.copy.get(), &Limits::COPY));
    let place = match copied {
        Ok(Ok(copied)) => copied.first_difference(&edit.tree).or_else(|| not_a_number(&edit.tree)),
        _ => None,
    };
    match place {
        Some(place) => StateError::Lossy {
            path: edit.root.join(&place),
            reason: "it does not survive being written back".to_owned(),
        },
        None => StateError::Lossy {
            path: edit.root.clone(),
            reason:
                "the value as a whole does not survive being written back; a field may be left out by serde"
                    .to_owned(),
        },
    }
}

fn not_a_number(tree: &Tree) -> Option<Vec<String>> {
    tree.leaves()
        .find(|(_, leaf)| matches!(leaf.without_mark(), Tree::F64(value) if value.is_nan()))
        .map(|(p, _)| p.0)
}

/// `value` with marks exactly where the type has a `Secret<T>`.
///
/// A field that is secret only by its name is a plain `String` to its type. Nothing that is not marked becomes marked:
/// text typed by an operator is no secret.
fn aligned(value: &Tree, live: &Tree) -> Tree {
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
