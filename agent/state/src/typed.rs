use std::any::Any;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cell::{AccessError, Cell, SharedCell};
use crate::edit::{Edit, EditVerdict, Schedule, Ticket, tree_of};
use crate::error::StateError;
use crate::held;
use crate::keys::Keys;
use crate::lossy;
use crate::redact::Redactor;
use crate::spelling;
use crate::worker::Worker;
use debug_base as known;
use debug_base::{
    BootTime, Found, Limits, Orders, Outside, Panicked, Path, Tree, TreeError, Wait, fenced, found_along,
    from_tree, nearest, to_tree,
};

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
        change: &Change<'_>,
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
        change: &Change<'_>,
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
pub type Change<'a> = dyn Fn(&Tree, &dyn Orders) -> Result<Option<Tree>, StateError> + 'a;

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

/// A check that could not be attached to its state.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnusedCheck {
    /// The state's name as the author wrote it.
    pub name: String,
    /// Reason, in words.
    pub why: String,
    /// Whether the state exists.
    pub is_known: bool,
    /// Whether the state can be written, so that the check would be skipped.
    pub is_writable: bool,
}

/// Attaches the registered checks to their states. Returns those that could not be attached: no such state, a read-only
/// state, or another type.
pub fn add_checks(
    states: &mut [Arc<dyn State>],
    checks: &[(String, Box<dyn Any + Send>)],
) -> Vec<UnusedCheck> {
    let mut unused = Vec::new();
    for (name, check) in checks {
        let mut add = |why: String, is_known, is_writable| {
            unused.push(UnusedCheck {
                name: name.clone(),
                why,
                is_known,
                is_writable,
            });
        };
        let named = states.iter_mut().find(|state| state.root().to_string() == *name);
        // Before the agent starts, this is the only reference.
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

/// Attaches the registered keys to their states. Returns a note, with the paths it concerns, for each key without effect: an
/// invalid path, no such state (with the nearest name), or a secret key, which would appear in every path.
pub fn add_keys(
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
        if redactor
            .mark(&of_one, Tree::Str("plain".to_owned()))
            .holds_secret()
        {
            let what = format!("`key` of `{text}` has no effect: what stands there is a secret by its name");
            notes.push((vec![path], what));
            continue;
        }
        let of = states.iter_mut().find(|state| path.is_within(state.root()));
        // Before the agent starts, this is the only reference.
        let added = of.and_then(Arc::get_mut).is_some_and(|state| {
            let below = path.0.get(state.root().0.len()..).unwrap_or_default().to_vec();
            state.add_key(&below, field)
        });
        if !added {
            let first = path.0.first().map(String::as_str).unwrap_or_default();
            let near = nearest(first, names.iter().map(String::as_str));
            let about = near.map(|near| Path(vec![near.to_owned()])).into_iter().collect();
            let near = near
                .map(|near| format!("; did you mean `{near}`?"))
                .unwrap_or_default();
            notes.push((
                about,
                format!("`key` of `{text}` has no effect: no state is named `{first}`{near}"),
            ));
        }
    }
    notes
}

/// Creates a state that can be read.
pub fn read_only<C: Cell>(root: Path, place: SharedCell<C>) -> Arc<dyn State>
where
    C::Value: Serialize,
{
    Arc::new(ReadOnly(Kept::new(root, place)))
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
        with.push((name.clone(), known::sought()));
        let tree = tree.clone().with(above, Some(Tree::Map(with)), &[]).ok()?;
        // Only the field's name matters: the type lists its fields before it validates the rest.
        let (_, look) = known::looking(Some(name), || self.value.value_of(tree));
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

/// A value of the service, and its cell.
struct Kept<C: Cell> {
    root: Path,
    place: SharedCell<C>,
    aside: Worker,
    keys: Keys,
}

/// A value as read.
struct Read {
    /// As its type serializes it.
    raw: Tree,
    /// With keyed lists as maps.
    tree: Tree,
}

impl<C: Cell> Kept<C> {
    fn new(root: Path, place: SharedCell<C>) -> Self {
        Self {
            root,
            place,
            aside: Worker::default(),
            keys: Keys::default(),
        }
    }

    fn path(&self, below: &[String]) -> Path {
        self.root.join(below)
    }

    /// Runs `ask` on the cell, on another thread if the cell cannot be read within a bound.
    fn ask<R: Send + 'static>(
        &self,
        wait: Wait,
        ticket: Option<&Ticket>,
        ask: impl FnOnce(&C, Wait) -> Result<R, AccessError> + Send + 'static,
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
            AccessError::Busy => StateError::Busy(self.root.to_string()),
            AccessError::Poisoned => StateError::Poisoned(self.root.to_string()),
            AccessError::Panicked(doing) => self.panicked(doing),
            AccessError::Refused(words) => StateError::Refused(TreeError::checked(words).below(&self.root)),
            AccessError::NotStored => StateError::NotStored(self.root.clone()),
        })
    }

    fn panicked(&self, doing: &'static str) -> StateError {
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
    fn read(&self, wait: Wait) -> Result<Read, StateError> {
        let limits = self.limits();
        let look = move |value: &C::Value| fenced(|| to_tree(value, &limits));
        let tree = self.ask(wait, None, move |cell, wait| cell.look(wait, look))?;
        let raw = tree_of(&self.root, tree)?;
        let tree = self.keys.live(&raw);
        Ok(Read { raw, tree })
    }

    fn read_along(&self, path: &[String], wait: Wait) -> Result<Option<Found>, StateError> {
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
    /// Prepares a write without making it. If the type stores nothing at the place, or refuses `null` there, prepares a
    /// removal instead. Returns the edit and the whole value after it.
    fn tried(
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
    fn given(&self, whole: &Tree) -> Result<Read, StateError> {
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
    fn prepare(
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
    fn kept(&self, read: &Read) -> Result<Edit<C::Value>, StateError> {
        let root = &self.value.root;
        let copy = self.value.value_of(read.tree.clone())?;
        let copy = copy.map_err(|error| self.not_read(&error, &read.tree))?;
        let mut edit = Edit::new(
            root.clone(),
            read.raw.clone(),
            copy,
            Outside::empty(),
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
    fn lossy(&self, edit: &Edit<C::Value>) -> StateError {
        let (_, look) = known::looking(None, || self.value.value_of(edit.tree.clone()));
        lossy::lossy(edit, &look)
    }

    /// Runs the service's checks on a value to be written at `path`.
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

    /// Values from each deadline on, given the value after the write.
    fn scheduled(&self, stored: &Tree, later: &Later<'_>) -> Result<Schedule<C::Value>, StateError> {
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
    fn swap(
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

/// The items without duplicates.
fn distinct<'t>(items: impl Iterator<Item = &'t Tree>) -> Vec<Tree> {
    let mut distinct: Vec<Tree> = Vec::new();
    for item in items {
        if !distinct.iter().any(|known| known.same_unordered(item)) {
            distinct.push(item.clone());
        }
    }
    distinct
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

impl<C: Cell> Orders for Writable<C>
where
    C::Value: Serialize + DeserializeOwned + PartialEq,
{
    /// A list is a set if two values that differ only in its order are equal and the type does not keep the given order.
    /// (`PartialEq` may ignore what serde writes.)
    fn is_set(&self, whole: &Tree, path: &[String], items: &[&Tree]) -> bool {
        /// A hash set of two elements keeps the given order by chance half of the time.
        const TRIALS: usize = 20;
        let made = |items: &[Tree]| {
            let tree = whole
                .clone()
                .with(path, Some(Tree::Seq(items.to_vec())), &[])
                .ok()?;
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
        // As the type writes them: two elements that it reads as equal count as one.
        let stored = made(&items).and_then(|made| written(made.get()));
        let Some(Tree::Seq(stored)) = stored else {
            return false;
        };
        let distinct = distinct(stored.iter());
        if distinct.len() < 2 {
            return false;
        }
        let backwards: Vec<Tree> = distinct.iter().rev().cloned().collect();
        let (Some(one), Some(other)) = (made(&distinct), made(&backwards)) else {
            return false;
        };
        if !fenced(|| one.get() == other.get()).unwrap_or(false) {
            return false;
        }
        let keeps = |items: &[Tree]| {
            let written = made(items).and_then(|made| written(made.get()));
            written.is_none_or(|written| written.same(&Tree::Seq(items.to_vec())))
        };
        (0..TRIALS).any(|trial| !keeps(if trial % 2 == 0 { &distinct } else { &backwards }))
    }

    fn is_by_key(&self, path: &[String]) -> bool {
        self.value.keys.is_list(path)
    }

    fn in_order(&self, edited: Tree, live: &Tree) -> Tree {
        self.value.keys.in_order(edited, live)
    }

    fn is_timed(&self) -> bool {
        C::TIMED
    }
}

/// `value` with marks exactly where the type has a `Secret<T>`.
///
/// A field that is secret only by its name is a plain `String` to its type, so its mark is removed. Unmarked values stay
/// unmarked: text typed by an operator is no secret.
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
