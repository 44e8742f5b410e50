use std::any::Any;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::along::{Found, found_along};
use super::aside::Aside;
use super::cell::{Cell, Held, Place, Wait};
use super::edit::{Edit, Schedule, Ticket, Verdict, tree_of};
use super::error::{StateError, TreeError};
use super::fence::{Outside, Panicked, fenced};
use super::known;
use super::lossy;
use super::path::Path;
use super::spelling;
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

    /// Whether what stands at a path was registered for writing.
    fn writable_at(&self, _path: &[String]) -> bool {
        self.writable()
    }

    /// The whole value, with secrets marked.
    fn read(&self, wait: Wait) -> Result<Tree, StateError>;

    /// What stands at `path`, read without what stands beside it; nothing where only the whole value can tell.
    fn read_along(&self, _path: &[String], _wait: Wait) -> Result<Option<Found>, StateError> {
        Ok(None)
    }

    /// What the type makes of `value` at `path`, where it would store another one than the one given: what would stand there,
    /// and whether that is the same to the type in another spelling.
    fn spelled(&self, _path: &[String], _value: &Tree, _wait: Wait) -> Option<(Tree, bool)> {
        None
    }

    /// Whether something may come to stand at `path`, where nothing stands now. What cannot be told may.
    fn may_come(&self, _path: &[String], _wait: Wait) -> bool {
        true
    }

    /// Whether writing `value` at `path` would succeed now, and what stands there.
    ///
    /// # Errors
    /// Nothing stands there; the live value does not survive being written back; the type does not take the new value
    /// or would store another one.
    fn check_write(&self, path: &[String], value: &Tree, wait: Wait) -> Result<Tree, StateError>;

    /// Whether writing `value` at `path` would succeed if the whole value were `whole`: what stands there, and what the whole
    /// value would be then. The live value is not looked at.
    ///
    /// # Errors
    /// As [`check_write`](Self::check_write).
    fn check_write_into(
        &self,
        whole: &Tree,
        path: &[String],
        value: &Tree,
        wait: Wait,
    ) -> Result<(Tree, Tree), StateError>;

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

/// A check that could not be given to its state.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct UnusedCheck {
    /// As the author wrote it.
    pub(crate) name: String,
    /// Why, in words.
    pub(crate) why: String,
    /// Whether there is such a state.
    pub(crate) is_known: bool,
    /// Whether it could be written without the check being asked.
    pub(crate) is_writable: bool,
}

/// Gives each state the checks that the service registered for it. Returns those that no state could take: there is none, it
/// is only read, or it is of another type.
pub(crate) fn add_checks(
    states: &mut [Arc<dyn State>],
    checks: &[(String, Box<dyn Any + Send>)],
) -> Vec<UnusedCheck> {
    let mut unused = Vec::new();
    for (name, check) in checks {
        let mut add = |why: String, is_known, is_writable| {
            unused.push(UnusedCheck { name: name.clone(), why, is_known, is_writable });
        };
        let named = states.iter_mut().find(|state| state.root().to_string() == *name);
        // Before the agent starts there is no other owner.
        let Some(state) = named.and_then(Arc::get_mut) else {
            add(format!("no state is named `{name}`"), false, false);
            continue;
        };
        if !state.add_check(&**check) {
            match state.writable() {
                true => add(format!("state `{name}` is of another type"), true, true),
                false => add(format!("state `{name}` is only read"), true, false),
            }
        }
    }
    unused
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

    fn read_along(&self, path: &[String], wait: Wait) -> Result<Option<Found>, StateError> {
        self.0.read_along(path, wait)
    }

    fn check_write(&self, _path: &[String], _value: &Tree, _wait: Wait) -> Result<Tree, StateError> {
        Err(StateError::ReadOnly(self.0.root.to_string()))
    }

    fn check_write_into(
        &self,
        _: &Tree,
        _: &[String],
        _: &Tree,
        _: Wait,
    ) -> Result<(Tree, Tree), StateError> {
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

    fn read_along(&self, path: &[String], wait: Wait) -> Result<Option<Found>, StateError> {
        self.value.read_along(path, wait)
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
                Verdict::Lossy => return Err(self.lossy(&edit)),
                Verdict::Changed => {}
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
    ) -> Result<(Tree, Tree), StateError> {
        let before = self.value.at(whole, path)?.clone();
        let edit = self.prepare(whole, path, &before, value)?;
        self.checked(edit.copy.get(), &self.value.root).map_err(|error| self.stands_unchecked(error))?;
        match edit.compare(edit.copy.get())? {
            Verdict::Lossy => Err(self.lossy(&edit)),
            Verdict::AsRead | Verdict::Changed => Ok((before, edit.stored)),
        }
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
                    return Err(if reordered { conflict } else { self.lossy(&edit) });
                }
                (Verdict::Changed, _) => {}
            }
        }
        Err(StateError::Busy(self.value.root.to_string()))
    }

    fn spelled(&self, path: &[String], value: &Tree, wait: Wait) -> Option<(Tree, bool)> {
        let tree = self.value.read(wait).ok()?;
        let edited = tree.clone().replaced(path, aligned(value, tree.at(path)?)).ok()?;
        let made = |tree: &Tree| self.value.value_of(tree.clone()).ok()?.ok();
        let written = |value: &C::Value| fenced(|| to_tree(value, &Limits::COPY)).ok()?.ok();
        let new = made(&edited)?;
        let stored = written(new.get())?;
        let becomes = stored.at(path)?.clone();
        let is_same = || {
            let again = made(&stored)?;
            let equal = fenced(|| new.get() == again.get()).ok()?;
            Some(equal && written(again.get())?.same(&stored))
        };
        let same = spelling::may_be_respelled(&edited, &stored) && is_same() == Some(true);
        Some((becomes, same))
    }

    fn may_come(&self, path: &[String], wait: Wait) -> bool {
        let Ok(tree) = self.value.read(wait) else { return true };
        let Err(missing) = tree.known_at(path) else { return true };
        let Some((name, above)) = missing.path.0.split_last() else { return true };
        let Some(Tree::Map(entries)) = tree.at(above) else { return true };
        let mut with = entries.clone();
        with.push((name.clone(), known::sought()));
        let Ok(tree) = tree.clone().replaced(above, Tree::Map(with)) else { return true };
        // Whether the type takes the rest is another matter: it names its fields before it looks at them.
        let (_, look) = known::looking(Some(name), || self.value.value_of(tree));
        look.is_known != Some(false)
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
            let copy = self.value.value_of(tree.clone())?.map_err(|error| self.not_read(&error, &tree))?;
            let new = Outside::empty();
            let mut edit = Edit::new(self.value.root.clone(), tree.clone(), copy, new, tree);
            edit.keeps_value = true;
            edit.later = self.scheduled(&edit.stored, later)?;
            match self.swap(edit, wait)? {
                (Verdict::AsRead, _) => return Ok(()),
                (Verdict::Lossy, edit) => return Err(self.lossy(&edit)),
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
        let limits = self.limits();
        let look = move |value: &C::Value| fenced(|| to_tree(value, &limits));
        let tree = self.ask(wait, None, move |cell, wait| cell.look(wait, look))?;
        tree_of(&self.root, tree)
    }

    fn read_along(&self, path: &[String], wait: Wait) -> Result<Option<Found>, StateError> {
        let (path, limits) = (path.to_vec(), self.limits());
        let look = move |value: &C::Value| fenced(|| found_along(value, &path, &limits));
        match self.ask(wait, None, move |cell, wait| cell.look(wait, look))? {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) if error.is_bound() => Err(StateError::Unreadable(error.below(&self.root))),
            // Where the walk itself fails the whole value tells what can be shown.
            Ok(Err(_)) | Err(Panicked) => Ok(None),
        }
    }

    /// As deep as paths may be long that begin with the state's own.
    fn limits(&self) -> Limits {
        let depth = debug_policy::MAX_SEGMENTS.saturating_sub(self.root.0.len());
        Limits { depth, ..Limits::STATE }
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
        let copy = held.value_of(replaced(expect)?)?.map_err(|error| self.not_read(&error, tree))?;
        let edited = replaced(value)?;
        let refused = |error: TreeError| StateError::Refused(error.below(root));
        let new = held.value_of(edited.clone())?.map_err(refused)?;
        let stored = tree_of(root, fenced(|| to_tree(new.get(), &Limits::COPY)))?;
        if !stored.same_unordered(&edited) {
            let place = stored.first_difference(&edited).unwrap_or_default();
            if let Some(Tree::Unreadable(leaf)) = stored.at(&place) {
                let what = format!("it could not be read afterwards: {}", leaf.reason());
                return Err(refused(TreeError::ours(what).below(&Path(place))));
            }
            return Err(self.not_stored(tree, path, place));
        }
        self.checked(new.get(), &held.path(path))?;
        Ok(Edit::new(root.clone(), tree.clone(), copy, new, stored))
    }

    /// Why the type does not read back what it wrote.
    fn not_read(&self, error: &TreeError, tree: &Tree) -> StateError {
        let takes = |tree| self.value.value_of(tree).is_ok_and(|value| value.is_ok());
        lossy::unreadable(&self.value.root, error, tree, &takes)
    }

    /// Why the type's reading of the live value is another one.
    fn lossy(&self, edit: &Edit<C::Value>) -> StateError {
        let (_, look) = known::looking(None, || self.value.value_of(edit.tree.clone()));
        lossy::lossy(edit, &look)
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
            Ok((deadline, value.map_err(|error| self.not_read(&error, &tree))?))
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
