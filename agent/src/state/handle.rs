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
use super::held;
use super::keys::Keys;
use super::known;
use super::lossy;
use super::path::{Path, nearest};
use super::redact::Redactor;
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

    /// Whether writing `value` at `path` would succeed now, what stands there, and what will.
    ///
    /// A place that is empty can be filled, if the type takes it; nothing in place of what stands there empties it, if the type
    /// can do without.
    ///
    /// # Errors
    /// The type knows no such place, or it is a position in what has none; the live value does not survive being written back;
    /// the type does not take the new value or would store another one.
    fn check_write(&self, path: &[String], value: &Tree, wait: Wait) -> Result<Checked, StateError>;

    /// Reads the whole value, asks `change` what it is to be, and puts that in its place if it is still the one that was read;
    /// else begins anew. Returns the whole value as it is then. All or nothing: any error leaves the value as it was.
    ///
    /// `path`: what is written, as it was asked for.
    fn update(
        &self,
        path: &[String],
        change: &Change<'_>,
        later: &Later<'_>,
        wait: Wait,
    ) -> Result<Tree, StateError>;

    /// Whether writing `value` at `path` would succeed if the whole value were `whole`: what stands there, what would, and what
    /// the whole value would be then. The live value is not looked at.
    ///
    /// # Errors
    /// As [`check_write`](Self::check_write).
    fn check_write_into(
        &self,
        whole: &Tree,
        path: &[String],
        value: &Tree,
        wait: Wait,
    ) -> Result<(Checked, Tree), StateError>;

    /// What [`update`](Self::update) would make of the whole value if it were `whole`. The live value is not looked at.
    ///
    /// # Errors
    /// As those of `update`.
    fn update_into(
        &self,
        whole: &Tree,
        path: &[String],
        change: &Change<'_>,
        wait: Wait,
    ) -> Result<Tree, StateError>;

    /// Writes `value` at `path` if `expect` stands there. All or nothing: any error leaves the value as it was.
    #[cfg(test)]
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
            let here = crate::lease::Here { whole: tree, path, orders };
            if !crate::lease::alike(Some(live), Some(expect), here) {
                return Err(StateError::Conflict(self.root().join(path)));
            }
            Ok(Some(tree.clone().replaced(path, value.clone()).map_err(|error| error.below(self.root()))?))
        };
        self.update(path, &change, later, wait).map(drop)
    }

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

    /// Whether the type would take something at `path`, where nothing stands now.
    fn could_hold(&self, _path: &[String], _wait: Wait) -> bool {
        false
    }

    /// Shows the elements of the list at `path` by the text that each has in `field`. False if nothing of the kind can be there.
    fn add_key(&mut self, path: &[String], field: &str) -> bool;

    /// The lists that are to be shown by a key and could not be when they were last read, and why.
    fn unkeyed(&self) -> Vec<(Path, String)>;

    /// Takes in a check of the service that every new value must pass, a [`Check`] of the state's own type. False if it is
    /// of another type, or nothing can be written.
    fn add_check(&mut self, _check: &dyn Any) -> bool {
        false
    }
}

/// Given the whole state as it is in force, what it will be from each deadline on.
pub(crate) type Later<'a> = dyn Fn(&Tree, &dyn Orders) -> Vec<(BootTime, Tree)> + 'a;

/// Given the whole state as it was read, what it is to be; nothing if it is to stay.
pub(crate) type Change<'a> = dyn Fn(&Tree, &dyn Orders) -> Result<Option<Tree>, StateError> + 'a;

/// What a write would replace, and what would stand there then; nothing where the place is empty.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Checked {
    pub(crate) before: Option<Tree>,
    pub(crate) after: Option<Tree>,
}

/// What only a state's type knows of its values.
pub(crate) trait Orders {
    /// Whether the list at `path` of `whole` has no positions: what its type makes of `items` does not keep their order.
    fn is_set(&self, whole: &Tree, path: &[String], items: &[&Tree]) -> bool;

    /// Whether changes end where the state is read, whoever undoes them.
    fn is_timed(&self) -> bool {
        false
    }
}

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

/// Gives each state the keys of its lists. Those that name no state are told, with the nearest name, and those that are secret:
/// a key stands openly in every path. With each sentence the paths that it is about.
pub(crate) fn add_keys(
    states: &mut [Arc<dyn State>],
    keys: &[(String, String)],
    redactor: &Redactor,
) -> Vec<(Vec<Path>, String)> {
    let mut notes = Vec::new();
    let names: Vec<String> = states.iter().map(|state| state.root().to_string()).collect();
    for (text, field) in keys {
        let Ok(path) = text.parse::<Path>() else {
            let state = text.split(['.', '[']).next().unwrap_or_default();
            let what = format!("`key` of `{text}` has no effect: that is no path, such as `pool.backends`");
            notes.push((vec![Path(vec![state.to_owned()])], what));
            continue;
        };
        let of_one = path.child("*").child(field);
        if redactor.mark(&of_one, Tree::Str("plain".to_owned())).holds_secret() {
            let what = format!("`key` of `{text}` has no effect: what stands there is a secret by its name");
            notes.push((vec![path], what));
            continue;
        }
        let of = states.iter_mut().find(|state| path.is_within(state.root()));
        // Nobody else has it before the agent starts.
        let added = of.and_then(Arc::get_mut).is_some_and(|state| {
            let below = path.0.get(state.root().0.len()..).unwrap_or_default().to_vec();
            state.add_key(&below, field)
        });
        if !added {
            let first = path.0.first().map(String::as_str).unwrap_or_default();
            let near = nearest(first, names.iter().map(String::as_str));
            let about = near.map(|near| Path(vec![near.to_owned()])).into_iter().collect();
            let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            notes
                .push((about, format!("`key` of `{text}` has no effect: no state is named `{first}`{near}")));
        }
    }
    notes
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

    fn update_into(&self, _: &Tree, _: &[String], _: &Change<'_>, _: Wait) -> Result<Tree, StateError> {
        Err(StateError::ReadOnly(self.0.root.to_string()))
    }

    fn update(&self, _: &[String], _: &Change<'_>, _: &Later<'_>, _: Wait) -> Result<Tree, StateError> {
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
            // Undoing the write will have to pass, too.
            self.checked(edit.copy.get(), &self.value.root).map_err(|error| self.stands_unchecked(error))?;
            let (verdict, edit) = self.value.ask(wait, None, move |cell, wait| {
                let verdict = cell.look(wait, |live| edit.compare(live))?;
                Ok((verdict, edit))
            })?;
            match verdict? {
                Verdict::AsRead => return Ok(Checked { before, after }),
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
    ) -> Result<(Checked, Tree), StateError> {
        let read = self.given(whole)?;
        let before = read.tree.at(path).cloned();
        let (edit, stored) = self.tried(&read, path, value)?;
        self.checked(edit.copy.get(), &self.value.root).map_err(|error| self.stands_unchecked(error))?;
        match edit.compare(edit.copy.get())? {
            Verdict::Lossy => Err(self.lossy(&edit)),
            Verdict::AsRead | Verdict::Changed => {
                Ok((Checked { before, after: stored.at(path).cloned() }, stored))
            }
        }
    }

    fn update_into(
        &self,
        whole: &Tree,
        path: &[String],
        change: &Change<'_>,
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
        change: &Change<'_>,
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
                (Verdict::AsRead, _) => return Ok(stored),
                (Verdict::Lossy, edit) => return Err(self.lossy(&edit)),
                (Verdict::Changed, _) => {}
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

    fn may_come(&self, path: &[String], wait: Wait) -> bool {
        let Ok(Read { tree, .. }) = self.value.read(wait) else { return true };
        let Err(missing) = tree.known_at(path) else { return true };
        let Some((name, above)) = missing.path.0.split_last() else { return true };
        let Some(Tree::Map(entries)) = tree.at(above) else { return true };
        let mut with = entries.clone();
        with.push((name.clone(), known::sought()));
        let Ok(tree) = tree.clone().with(above, Some(Tree::Map(with)), &[]) else { return true };
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
        // Nothing is changed but what it will be.
        self.update(&[], &|_, _| Ok(None), later, wait).map(drop)
    }

    fn could_hold(&self, path: &[String], wait: Wait) -> bool {
        let Ok(read) = self.value.read(wait) else { return false };
        probes().into_iter().any(|value| match self.tried(&read, path, &value) {
            Ok((_, stored)) => stored.at(path).is_some(),
            // The type has looked at it: it knows the place, and wants another kind of value.
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

/// A value of the service, and where it lies.
struct Kept<C: Cell> {
    root: Path,
    place: Place<C>,
    aside: Aside,
    keys: Keys,
}

/// A value as it was read.
struct Read {
    /// As its type writes it.
    raw: Tree,
    /// With the elements of lists by their keys, where the author named one.
    tree: Tree,
}

impl<C: Cell> Kept<C> {
    fn new(root: Path, place: Place<C>) -> Self {
        Self { root, place, aside: Aside::default(), keys: Keys::default() }
    }

    fn path(&self, below: &[String]) -> Path {
        self.root.join(below)
    }

    /// Asks the cell, on another thread if it cannot be asked within bounds.
    fn ask<R: Send + 'static>(
        &self,
        wait: Wait,
        ticket: Option<&Ticket>,
        ask: impl FnOnce(&C, Wait) -> Result<R, Held> + Send + 'static,
    ) -> Result<R, StateError> {
        let answer = held::counted(|| {
            if C::WAITS {
                let place = self.place.clone();
                self.aside.ask(wait, ticket, move || ask(&place, Wait::Until))
            } else {
                ask(&self.place, wait)
            }
        });
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
    fn read(&self, wait: Wait) -> Result<Read, StateError> {
        let limits = self.limits();
        let look = move |value: &C::Value| fenced(|| to_tree(value, &limits));
        let tree = self.ask(wait, None, move |cell, wait| cell.look(wait, look))?;
        let raw = tree_of(&self.root, tree)?;
        let tree = self.keys.live(&raw);
        Ok(Read { raw, tree })
    }

    fn read_along(&self, path: &[String], wait: Wait) -> Result<Option<Found>, StateError> {
        // Where a key is part of a path only the whole value tells which element has it.
        if self.keys.are_named() {
            return Ok(None);
        }
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
        let tree = match self.keys.as_lists(tree) {
            Ok(tree) => tree,
            Err(error) => return Ok(Err(error)),
        };
        let value = fenced(|| from_tree(tree)).map_err(|Panicked| self.panicked("reading a value"))?;
        Ok(value.map(Outside::new))
    }
}

impl<C: Cell> Writable<C>
where
    C::Value: Serialize + DeserializeOwned + PartialEq,
{
    /// Tries a write without making it: the value as it is, or, if the type refuses nothing at the place, the place left empty.
    /// With it what the whole value will be.
    fn tried(
        &self,
        read: &Read,
        path: &[String],
        value: &Tree,
    ) -> Result<(Edit<C::Value>, Tree), StateError> {
        let (held, root) = (&self.value, &self.value.root);
        let with = |value: Option<&Tree>| {
            let edited =
                read.tree.clone().with(path, value.cloned(), &[]).map_err(|error| error.below(root))?;
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
            // It was read, and is not written: the type drops it, or leaves it out because it counts as empty.
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

    /// A whole value as if it had been read.
    fn given(&self, whole: &Tree) -> Result<Read, StateError> {
        let raw = self.value.keys.as_lists(whole.clone()).map_err(|error| self.not_read(&error, whole))?;
        Ok(Read { raw, tree: whole.clone() })
    }

    /// Whether the type makes of `value` at `path` what it makes of nothing there.
    fn means_empty(&self, read: &Read, path: &[String], value: &Tree) -> Result<bool, StateError> {
        let stored = |value: Option<Tree>| -> Result<Option<Tree>, StateError> {
            let Ok(edited) = read.tree.clone().with(path, value, &[]) else { return Ok(None) };
            let Ok(made) = self.value.value_of(aligned(&edited, &read.tree))? else { return Ok(None) };
            let stored = tree_of(&self.value.root, fenced(|| to_tree(made.get(), &Limits::COPY)))?;
            Ok(Some(self.value.keys.by_key(&stored)))
        };
        let (with, without) = (stored(Some(value.clone()))?, stored(None)?);
        Ok(matches!((with, without), (Some(with), Some(without)) if with.same_unordered(&without)))
    }

    /// That each list on the way has positions.
    fn has_positions(&self, tree: &Tree, edited: &Tree, path: &[String]) -> Result<(), StateError> {
        for depth in 0..path.len() {
            let above = &path[..depth];
            let (Some(Tree::Seq(items)), Some(Tree::Seq(others))) = (tree.at(above), edited.at(above)) else {
                continue;
            };
            let all: Vec<&Tree> = items.iter().chain(others).collect();
            if self.is_set(tree, above, &all) {
                let why = "it keeps no order, so its elements have no positions; write it whole";
                return Err(StateError::Refused(TreeError::ours(why).below(&self.value.path(above))));
            }
        }
        Ok(())
    }

    /// Makes the copy to compare with and the value to store, and its tree. Holds no lock.
    fn prepare(
        &self,
        read: &Read,
        path: &[String],
        edited: Tree,
    ) -> Result<(Edit<C::Value>, Tree), StateError> {
        let (held, root) = (&self.value, &self.value.root);
        let copy = held.value_of(read.tree.clone())?.map_err(|error| self.not_read(&error, &read.tree))?;
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

    /// An edit that keeps the value.
    fn kept(&self, read: &Read) -> Result<Edit<C::Value>, StateError> {
        let root = &self.value.root;
        let copy = self.value.value_of(read.tree.clone())?;
        let copy = copy.map_err(|error| self.not_read(&error, &read.tree))?;
        let mut edit = Edit::new(root.clone(), read.raw.clone(), copy, Outside::empty(), read.raw.clone());
        edit.keeps_value = true;
        Ok(edit)
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
        later(stored, self).into_iter().map(value).collect()
    }

    /// Why the stored tree is not the edited one: the new value's fault if the difference lies at the path, else the
    /// type loses something elsewhere.
    fn not_stored(&self, tree: &Tree, path: &[String], place: Vec<String>) -> StateError {
        let full = self.value.path(&place);
        let filled = path.split_last().is_none_or(|(_, above)| tree.at(above).is_some());
        if full.overlaps(&self.value.path(path)) && filled {
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

/// Each of them once.
fn distinct<'t>(items: impl Iterator<Item = &'t Tree>) -> Vec<Tree> {
    let mut distinct: Vec<Tree> = Vec::new();
    for item in items {
        if !distinct.iter().any(|known| known.same_unordered(item)) {
            distinct.push(item.clone());
        }
    }
    distinct
}

/// Values of each kind, to see whether a type knows a place.
fn probes() -> [Tree; 7] {
    let text = Tree::Str("0".to_owned());
    let list = Tree::Seq(vec![text.clone()]);
    [text, Tree::I64(1), Tree::Bool(true), Tree::F64(1.5), list, Tree::Map(Vec::new()), Tree::Seq(Vec::new())]
}

impl<C: Cell> Orders for Writable<C>
where
    C::Value: Serialize + DeserializeOwned + PartialEq,
{
    /// Two values that differ in nothing but the order of the elements are equal, and the order that they were given in is not
    /// the one in which they are written. (A type's own `PartialEq` may leave out what serde writes.)
    fn is_set(&self, whole: &Tree, path: &[String], items: &[&Tree]) -> bool {
        /// A hash set of two elements keeps the order that it was given by chance half of the time.
        const TRIALS: usize = 20;
        let made = |items: &[Tree]| {
            let tree = whole.clone().with(path, Some(Tree::Seq(items.to_vec())), &[]).ok()?;
            self.value.value_of(tree).ok()?.ok()
        };
        let written = |made: &C::Value| match fenced(|| to_tree(made, &Limits::COPY)) {
            Ok(Ok(raw)) => self.value.keys.by_key(&raw).at(path).cloned(),
            _ => None,
        };
        let items = distinct(items.iter().copied());
        if items.len() < 2 {
            return false;
        }
        // As the type writes them: two that it reads as one and the same are no two elements.
        let stored = made(&items).and_then(|made| written(made.get()));
        let Some(Tree::Seq(stored)) = stored else { return false };
        let distinct = distinct(stored.iter());
        if distinct.len() < 2 {
            return false;
        }
        let backwards: Vec<Tree> = distinct.iter().rev().cloned().collect();
        let (Some(one), Some(other)) = (made(&distinct), made(&backwards)) else { return false };
        if !fenced(|| one.get() == other.get()).unwrap_or(false) {
            return false;
        }
        let keeps = |items: &[Tree]| {
            let written = made(items).and_then(|made| written(made.get()));
            written.is_none_or(|written| written.same(&Tree::Seq(items.to_vec())))
        };
        (0..TRIALS).any(|trial| !keeps(if trial % 2 == 0 { &distinct } else { &backwards }))
    }

    fn is_timed(&self) -> bool {
        C::TIMED
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
