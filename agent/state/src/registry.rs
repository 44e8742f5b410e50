use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::error::StateError;
use crate::field::{ClosedState, Fields};
use crate::redact::Redactor;
use crate::typed::{Checked, EditFn, Later, State};
use debug_base::{Found, Path, Tree, Wait, known_names};

/// The registered states, by name. Every path begins with the state's name.
pub struct States {
    states: BTreeMap<String, Arc<dyn State>>,
    never_write: RwLock<Vec<Path>>,
    redactor: Arc<Redactor>,
}

impl States {
    /// All states of a service, the paths its author closed to writes, and the redaction rules.
    ///
    /// # Errors
    /// Two states have one name, or a field lies inside another state.
    #[cfg(any(test, feature = "test-util"))]
    pub fn new(
        states: Vec<Arc<dyn State>>,
        never_write: Vec<Path>,
        redactor: Arc<Redactor>,
    ) -> Result<Self, StateError> {
        let (states, faults) = Self::of(states, never_write, redactor);
        faults.into_iter().next().map_or(Ok(states), Err)
    }

    /// All states of a service, the paths its author closed to writes, and the redaction rules. States that share a name are
    /// closed, the others are not affected; returns each such fault.
    pub fn of(
        states: Vec<Arc<dyn State>>,
        never_write: Vec<Path>,
        redactor: Arc<Redactor>,
    ) -> (Self, Vec<StateError>) {
        let mut by_name: BTreeMap<String, Arc<dyn State>> = BTreeMap::new();
        let mut fields: BTreeMap<String, Fields> = BTreeMap::new();
        let mut faults = Vec::new();
        for state in states {
            let name = split(state.root()).0.to_owned();
            match (state.root().below(), fields.get_mut(&name)) {
                ([], _) => {
                    let root = state.root().clone();
                    if by_name.insert(name.clone(), state).is_some() {
                        let why = StateError::DuplicateName(name.clone());
                        by_name.insert(name, Arc::new(ClosedState::new(root, why.clone())));
                        faults.push(why);
                    }
                }
                (_, Some(others)) => faults.extend(others.add(state).err()),
                (_, None) => drop(fields.insert(name, Fields::of(state))),
            }
        }
        for (name, fields) in fields {
            let root = fields.root().clone();
            if by_name.insert(name.clone(), Arc::new(fields)).is_some() {
                let why = StateError::InsideState(root.clone());
                by_name.insert(name, Arc::new(ClosedState::new(root, why.clone())));
                faults.push(why);
            }
        }
        (
            Self {
                states: by_name,
                never_write: RwLock::new(never_write),
                redactor,
            },
            faults,
        )
    }

    /// The value that the type would store for `value`; see [`State::spelled`].
    pub fn spelled(&self, path: &Path, value: &Tree, wait: Wait) -> Option<(Tree, bool)> {
        self.writable(path).ok()?.spelled(split(path).1, value, wait)
    }

    /// Whether a value could appear at a path where there is none now. True if unknown.
    pub fn may_come(&self, path: &Path) -> bool {
        let (name, below) = split(path);
        self.states
            .get(name)
            .is_none_or(|state| state.has_field(below, Wait::AGENT) != Some(false))
    }

    /// Whether a struct has a field at a path where nothing stands now: a place that is empty, and no mistyped name.
    pub fn has_field(&self, path: &Path, wait: Wait) -> bool {
        let (name, below) = split(path);
        self.states
            .get(name)
            .is_some_and(|state| state.has_field(below, wait) == Some(true))
    }

    /// Removes a path from those closed to writes, because it names nothing.
    pub fn open(&self, path: &Path) {
        let mut never_write = self.never_write.write().unwrap_or_else(PoisonError::into_inner);
        never_write.retain(|closed| closed != path);
    }

    /// Whether the place at a path can be written as a whole, according to its registration and the author's rules.
    pub fn is_writable(&self, path: &Path) -> bool {
        self.writable(path)
            .is_ok_and(|state| state.writable_at(split(path).1))
    }

    /// The names, sorted, and whether each is writable.
    pub fn list(&self) -> impl Iterator<Item = (&str, bool)> {
        self.states
            .iter()
            .map(|(name, state)| (name.as_str(), state.writable()))
    }

    /// The state with this name, or an error with the nearest name.
    pub fn named(&self, name: &str) -> Result<&Arc<dyn State>, StateError> {
        self.states.get(name).ok_or_else(|| {
            let known = known_names(name, self.states.keys().map(String::as_str));
            StateError::NoSuchState {
                name: name.to_owned(),
                known: format!("; {known}"),
            }
        })
    }

    /// The value at `path` with each secret leaf marked: secret by type, by a name on its path, or by shape.
    pub fn read(&self, path: &Path, wait: Wait) -> Result<Tree, StateError> {
        let (name, below) = split(path);
        let state = self.named(name)?;
        if !below.is_empty() {
            // Along the path only: its surroundings may be large, slow or unreadable.
            let found = along(state.as_ref(), below, wait).map_err(|error| self.told(error, &[]))?;
            if let Some(tree) = found.and_then(|found| self.redactor.mark_found(path, found)) {
                return Ok(tree);
            }
        }
        let tree = state.read(wait).map_err(|error| self.told(error, &[]))?;
        let marked = self.redactor.mark(&Path(vec![name.to_owned()]), tree);
        let found = marked
            .known_at(below)
            .map_err(|error| error.below(&Path(vec![name.to_owned()])));
        Ok(found
            .map_err(|error| without_key(state.as_ref(), error.into()))?
            .clone())
    }

    /// Whether the type of the state would accept some value at `path`, where there is none now.
    pub fn could_hold(&self, path: &Path, wait: Wait) -> bool {
        self.writable(path)
            .is_ok_and(|state| state.could_hold(split(path).1, wait))
    }

    /// Keys named by the author without a list at their path, in words; paths that cannot be read now are skipped.
    pub fn keys_of_nothing(&self, keys: &[(String, String)]) -> Vec<(Path, String)> {
        let mut notes = Vec::new();
        for (text, field) in keys {
            let Ok(path) = text.parse::<Path>() else { continue };
            if path.0.iter().any(|segment| segment == "*") || !self.states.contains_key(split(&path).0) {
                continue;
            }
            let why = match self.read(&path, Wait::AGENT) {
                Err(StateError::NoSuchPath(error)) => error.to_string(),
                Ok(Tree::Map(entries)) if entries.iter().all(|(_, value)| matches!(value, Tree::Map(_))) => {
                    continue;
                }
                // Empty, or its elements have no key now, which `unkeyed` reports.
                Ok(Tree::Seq(items)) if items.iter().all(|item| matches!(item, Tree::Map(_))) => continue,
                Ok(_) => format!("what stands there is no list of things that have a `{field}`"),
                Err(_) => continue,
            };
            notes.push((path, format!("`key` of `{text}` has no effect: {why}")));
        }
        notes
    }

    /// Lists that have a key but could not be shown by it at the last read, in words.
    pub fn unkeyed(&self) -> Vec<(Path, String)> {
        let lists = self.states.values().flat_map(|state| state.unkeyed());
        let told = |(path, why): (Path, String)| {
            let what = format!("`{path}` is shown as a list, not by its key: {why}");
            (path, what)
        };
        lists.map(told).collect()
    }

    /// Checks whether writing `value` at `path` would succeed now; returns the current value, marked as by `read`, and the
    /// one that would be stored.
    pub fn check_write(&self, path: &Path, value: &Tree, wait: Wait) -> Result<Checked, StateError> {
        let (name, below) = split(path);
        let state = self.writable(path)?;
        let checked = state
            .check_write(below, value, wait)
            .map_err(|error| self.told(error, &[(path, value)]));
        let Checked { before, after } = checked.map_err(|error| without_key(state.as_ref(), error))?;
        // Marks by shape depend on the leaf, marks by name on its path: both can be set here.
        let root = Path(vec![name.to_owned()]).join(below);
        Ok(Checked {
            before: before.map(|before| self.redactor.mark(&root, before)),
            after,
        })
    }

    /// Updates the state of `path` with `change`; see [`State::update`]. `written`: the written values; if one is a secret,
    /// an error omits the words of the service's type.
    pub fn update(
        &self,
        path: &Path,
        written: &[&Tree],
        change: &EditFn<'_>,
        later: &Later<'_>,
        wait: Wait,
    ) -> Result<Tree, StateError> {
        let state = self.writable(path)?;
        let written: Vec<(&Path, &Tree)> = written.iter().map(|tree| (path, *tree)).collect();
        state
            .update(split(path).1, change, later, wait)
            .map_err(|error| self.told(error, &written))
    }

    /// The whole state of `path` as its type serializes it, with only the marks of its type.
    pub fn whole(&self, path: &Path, wait: Wait) -> Result<Tree, StateError> {
        self.named(split(path).0)?
            .read(wait)
            .map_err(|error| self.told(error, &[]))
    }

    /// As [`check_write`](Self::check_write), with `whole` in place of the live state.
    pub fn check_write_into(
        &self,
        whole: &Tree,
        path: &Path,
        value: &Tree,
        wait: Wait,
    ) -> Result<Checked, StateError> {
        let (name, below) = split(path);
        let state = self.writable(path)?;
        let checked = state.check_write_into(whole, below, value, wait);
        let checked = checked.map_err(|error| self.told(error, &[(path, value)]));
        let (Checked { before, after }, _) = checked.map_err(|error| without_key(state.as_ref(), error))?;
        let root = Path(vec![name.to_owned()]).join(below);
        Ok(Checked {
            before: before.map(|before| self.redactor.mark(&root, before)),
            after,
        })
    }

    /// The result of [`update`](Self::update) if the state of `path` were `whole`.
    pub fn update_into(
        &self,
        whole: &Tree,
        path: &Path,
        written: &[&Tree],
        change: &EditFn<'_>,
        wait: Wait,
    ) -> Result<Tree, StateError> {
        let state = self.writable(path)?;
        let written: Vec<(&Path, &Tree)> = written.iter().map(|tree| (path, *tree)).collect();
        state
            .update_into(whole, split(path).1, change, wait)
            .map_err(|error| self.told(error, &written))
    }

    /// Writes `value` at `path` if the value there is `expect`.
    #[cfg(any(test, feature = "test-util"))]
    pub fn compare_and_set(
        &self,
        path: &Path,
        expect: &Tree,
        value: &Tree,
        later: &Later<'_>,
        wait: Wait,
    ) -> Result<(), StateError> {
        let (_, below) = split(path);
        let state = self.writable(path)?;
        let result = state.compare_and_set(below, expect, value, later, wait);
        result.map_err(|error| self.told(error, &[(path, value), (path, expect)]))
    }

    /// Whether reads of the state of `path` check the clock.
    pub fn is_timed(&self, path: &Path) -> bool {
        self.named(split(path).0).is_ok_and(|state| state.is_timed())
    }

    /// Whether reading the state of `path` runs service code that may block without a bound.
    pub fn waits(&self, path: &Path) -> bool {
        self.named(split(path).0).is_ok_and(|state| state.waits())
    }

    /// Stores the schedule of a timed state.
    pub fn rearm(&self, path: &Path, later: &Later<'_>, wait: Wait) -> Result<(), StateError> {
        self.named(split(path).0)?.rearm(later, wait)
    }

    /// The state of `path`, if neither its registration nor its author closes it.
    fn writable(&self, path: &Path) -> Result<&Arc<dyn State>, StateError> {
        let state = self.named(split(path).0)?;
        if !state.writable() {
            return Err(StateError::ReadOnly(state.root().to_string()));
        }
        // A container of a closed path is closed too: writing it would write the path.
        let never_write = self.never_write.read().unwrap_or_else(PoisonError::into_inner);
        match never_write.iter().find(|closed| closed.overlaps(path)) {
            Some(closed) => Err(StateError::NeverWrite {
                path: path.clone(),
                closed: closed.clone(),
            }),
            None => Ok(state),
        }
    }

    /// Removes the words of the service's type from an error unless no secret is involved.
    fn told(&self, error: StateError, written: &[(&Path, &Tree)]) -> StateError {
        let (place, words) = match &error {
            StateError::Refused(inner) => match inner.service_words() {
                Some(words) => (&inner.path, words),
                None => return error,
            },
            // An unreadable value cannot be searched for secrets.
            StateError::Unreadable(_) => return error.without_service_words(),
            _ => return error,
        };
        let holds_secret = |path: &Path, tree: &Tree| self.redactor.mark(path, tree.clone()).holds_secret();
        let written_is_secret = written.iter().any(|(path, tree)| holds_secret(path, tree));
        let hidden = written_is_secret || self.may_tell_a_secret(place, words);
        if hidden {
            error.without_service_words()
        } else {
            error
        }
    }

    /// Whether a secret is at `path` or below it, or `words` contain a secret of the same state. Does not wait; true if the
    /// state cannot be read.
    fn may_tell_a_secret(&self, path: &Path, words: &str) -> bool {
        let (name, below) = split(path);
        let Some(Ok(tree)) = self.states.get(name).map(|state| state.read(Wait::Try)) else {
            return true;
        };
        let marked = self.redactor.mark(&Path(vec![name.to_owned()]), tree);
        // A check sees the whole value, even if only a part is written.
        let may = |tree: &Tree| tree.holds_secret() || tree.holds_unreadable();
        marked.at(below).is_none_or(may) || marked.secrets().any(|secret| says(words, secret))
    }
}

/// Reads along a path. A walk that was late because another thread had the processor is repeated, except in a patch.
fn along(state: &dyn State, below: &[String], wait: Wait) -> Result<Option<Found>, StateError> {
    const AGAIN: usize = 3;
    let tries = if matches!(wait, Wait::Try) { 0 } else { AGAIN };
    for _ in 0..tries {
        match state.read_along(below, wait) {
            Err(StateError::Unreadable(error)) if error.is_late() => {}
            found => return found,
        }
    }
    state.read_along(below, wait)
}

/// Adds to a missing-path error why a keyed list is not shown by its key.
fn without_key(state: &dyn State, error: StateError) -> StateError {
    let StateError::NoSuchPath(missing) = &error else {
        return error;
    };
    let above = missing
        .path
        .0
        .split_last()
        .map(|(_, above)| above)
        .unwrap_or_default();
    match state.unkeyed().into_iter().find(|(path, _)| path.0 == above) {
        Some((_, why)) => StateError::NoSuchPath(
            missing
                .clone()
                .and(&format!("its elements have no key now: {why}")),
        ),
        None => error,
    }
}

/// Whether `words` contain the secret or a part of it.
fn says(words: &str, secret: &Tree) -> bool {
    let holds = |text: &str| !text.is_empty() && words.contains(text);
    secret.leaves().any(|(_, leaf)| match leaf {
        Tree::Secret(inner) => says(words, inner),
        Tree::I64(number) => holds(&number.to_string()),
        Tree::U64(number) => holds(&number.to_string()),
        Tree::F64(number) => holds(&number.to_string()),
        Tree::Str(text) => holds(text),
        Tree::Unreadable(leaf) => leaf.kept().is_some_and(|kept| holds(&kept.to_string())),
        Tree::Null | Tree::Bool(_) | Tree::Seq(_) | Tree::Map(_) => false,
    })
}

fn split(path: &Path) -> (&str, &[String]) {
    match path.0.split_first() {
        Some((name, below)) => (name, below),
        None => ("", &[]),
    }
}
