use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::along::Found;
use super::cell::Wait;
use super::error::StateError;
use super::field::{Closed, Fields};
use super::handle::{Change, Checked, Later, State};
use super::path::{Path, known_names};
use super::redact::Redactor;
use super::tree::Tree;

/// The states that the service registered, by name. Every path begins with the state's name.
pub(crate) struct States {
    states: BTreeMap<String, Arc<dyn State>>,
    never_write: RwLock<Vec<Path>>,
    redactor: Arc<Redactor>,
}

impl States {
    /// All states of a service, the paths its author closed to writes, and what makes a value secret.
    ///
    /// # Errors
    /// Two states with one name, or a field inside another state.
    #[cfg(test)]
    pub(crate) fn new(
        states: Vec<Arc<dyn State>>,
        never_write: Vec<Path>,
        redactor: Arc<Redactor>,
    ) -> Result<Self, StateError> {
        let (states, faults) = Self::of(states, never_write, redactor);
        faults.into_iter().next().map_or(Ok(states), Err)
    }

    /// All states of a service, the paths its author closed to writes, and what makes a value secret. A name that is used
    /// twice closes those that have it, and no others; each such fault is told.
    pub(crate) fn of(
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
                        by_name.insert(name, Arc::new(Closed::new(root, why.clone())));
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
                by_name.insert(name, Arc::new(Closed::new(root, why.clone())));
                faults.push(why);
            }
        }
        (Self { states: by_name, never_write: RwLock::new(never_write), redactor }, faults)
    }

    /// What the type makes of a value that it would not store as it was given; see [`State::spelled`].
    pub(crate) fn spelled(&self, path: &Path, value: &Tree, wait: Wait) -> Option<(Tree, bool)> {
        self.writable(path).ok()?.spelled(split(path).1, value, wait)
    }

    /// Whether something may come to stand at a path at which nothing stands now. What cannot be told may.
    pub(crate) fn may_come(&self, path: &Path) -> bool {
        let (name, below) = split(path);
        self.states.get(name).is_none_or(|state| state.may_come(below, Wait::AGENT))
    }

    /// Takes back that a path is closed to writes, which names nothing.
    pub(crate) fn open(&self, path: &Path) {
        let mut never_write = self.never_write.write().unwrap_or_else(PoisonError::into_inner);
        never_write.retain(|closed| closed != path);
    }

    /// Whether what stands at a path can be written as a whole, as far as its registration and its author say.
    pub(crate) fn is_writable(&self, path: &Path) -> bool {
        self.writable(path).is_ok_and(|state| state.writable_at(split(path).1))
    }

    /// The names, sorted, and whether each is writable.
    pub(crate) fn list(&self) -> impl Iterator<Item = (&str, bool)> {
        self.states.iter().map(|(name, state)| (name.as_str(), state.writable()))
    }

    /// The state named, or an error with the nearest name.
    pub(crate) fn named(&self, name: &str) -> Result<&Arc<dyn State>, StateError> {
        self.states.get(name).ok_or_else(|| {
            let known = known_names(name, self.states.keys().map(String::as_str));
            StateError::NoSuchState { name: name.to_owned(), known: format!("; {known}") }
        })
    }

    /// What stands at `path`, each secret leaf marked: by its type, by a name on its path, or by its shape.
    pub(crate) fn read(&self, path: &Path, wait: Wait) -> Result<Tree, StateError> {
        let (name, below) = split(path);
        let state = self.named(name)?;
        if !below.is_empty() {
            // Only along the path: what stands beside it may be large, slow, or nothing that can be shown.
            let found = along(state.as_ref(), below, wait).map_err(|error| self.told(error, &[]))?;
            if let Some(tree) = found.and_then(|found| self.redactor.mark_found(path, found)) {
                return Ok(tree);
            }
        }
        let tree = state.read(wait).map_err(|error| self.told(error, &[]))?;
        let marked = self.redactor.mark(&Path(vec![name.to_owned()]), tree);
        let found = marked.known_at(below).map_err(|error| error.below(&Path(vec![name.to_owned()])));
        Ok(found.map_err(|error| without_key(state.as_ref(), error.into()))?.clone())
    }

    /// Whether the type of the state would take something at `path`, where nothing stands now.
    pub(crate) fn could_hold(&self, path: &Path, wait: Wait) -> bool {
        self.writable(path).is_ok_and(|state| state.could_hold(split(path).1, wait))
    }

    /// Which of the keys that the author named have no list at their path, in words; what cannot be read now is not told.
    pub(crate) fn keys_of_nothing(&self, keys: &[(String, String)]) -> Vec<(Path, String)> {
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
                // Empty, or its elements have no key now, which is told elsewhere.
                Ok(Tree::Seq(items)) if items.iter().all(|item| matches!(item, Tree::Map(_))) => continue,
                Ok(_) => format!("what stands there is no list of things that have a `{field}`"),
                Err(_) => continue,
            };
            notes.push((path, format!("`key` of `{text}` has no effect: {why}")));
        }
        notes
    }

    /// The lists that are to be shown by a key and could not be when they were last read, in words.
    pub(crate) fn unkeyed(&self) -> Vec<(Path, String)> {
        let lists = self.states.values().flat_map(|state| state.unkeyed());
        let told = |(path, why): (Path, String)| {
            let what = format!("`{path}` is shown as a list, not by its key: {why}");
            (path, what)
        };
        lists.map(told).collect()
    }

    /// Whether writing `value` at `path` would succeed now; what stands there, marked as `read` marks it, and what will.
    pub(crate) fn check_write(&self, path: &Path, value: &Tree, wait: Wait) -> Result<Checked, StateError> {
        let (name, below) = split(path);
        let state = self.writable(path)?;
        let checked =
            state.check_write(below, value, wait).map_err(|error| self.told(error, &[(path, value)]));
        let Checked { before, after } = checked.map_err(|error| without_key(state.as_ref(), error))?;
        // Marks by shape look at the leaf, marks by name at its path, so both can be made here.
        let root = Path(vec![name.to_owned()]).join(below);
        Ok(Checked { before: before.map(|before| self.redactor.mark(&root, before)), after })
    }

    /// Puts in place of the state of `path` what `change` makes of it; see [`State::update`]. `written`: what of it may be told
    /// in the words of the service's type only if it is no secret.
    pub(crate) fn update(
        &self,
        path: &Path,
        written: &[&Tree],
        change: &Change<'_>,
        later: &Later<'_>,
        wait: Wait,
    ) -> Result<Tree, StateError> {
        let state = self.writable(path)?;
        let written: Vec<(&Path, &Tree)> = written.iter().map(|tree| (path, *tree)).collect();
        state.update(split(path).1, change, later, wait).map_err(|error| self.told(error, &written))
    }

    /// The whole state that `path` is in, as its type writes it: marked by its type alone.
    pub(crate) fn whole(&self, path: &Path, wait: Wait) -> Result<Tree, StateError> {
        self.named(split(path).0)?.read(wait).map_err(|error| self.told(error, &[]))
    }

    /// Whether writing `value` at `path` would succeed if the whole state were `whole`. What stands there, marked as `read`
    /// marks it, and what would.
    pub(crate) fn check_write_into(
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
        Ok(Checked { before: before.map(|before| self.redactor.mark(&root, before)), after })
    }

    /// What [`update`](Self::update) would make of the state of `path` if it were `whole`.
    pub(crate) fn update_into(
        &self,
        whole: &Tree,
        path: &Path,
        written: &[&Tree],
        change: &Change<'_>,
        wait: Wait,
    ) -> Result<Tree, StateError> {
        let state = self.writable(path)?;
        let written: Vec<(&Path, &Tree)> = written.iter().map(|tree| (path, *tree)).collect();
        state.update_into(whole, split(path).1, change, wait).map_err(|error| self.told(error, &written))
    }

    /// Writes `value` at `path` if `expect` stands there.
    #[cfg(test)]
    pub(crate) fn compare_and_set(
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

    /// Whether the state of `path` looks at the clock where it is read.
    pub(crate) fn is_timed(&self, path: &Path) -> bool {
        self.named(split(path).0).is_ok_and(|state| state.is_timed())
    }

    /// Whether code of the service's that may take its time is run to ask the state of `path`.
    pub(crate) fn waits(&self, path: &Path) -> bool {
        self.named(split(path).0).is_ok_and(|state| state.waits())
    }

    /// Tells a state that looks at the clock where it is read what it will be later.
    pub(crate) fn rearm(&self, path: &Path, later: &Later<'_>, wait: Wait) -> Result<(), StateError> {
        self.named(split(path).0)?.rearm(later, wait)
    }

    /// The state of `path`, if neither its registration nor its author closes it.
    fn writable(&self, path: &Path) -> Result<&Arc<dyn State>, StateError> {
        let state = self.named(split(path).0)?;
        if !state.writable() {
            return Err(StateError::ReadOnly(state.root().to_string()));
        }
        // A container that holds a closed path is closed too: writing it would write the path.
        let never_write = self.never_write.read().unwrap_or_else(PoisonError::into_inner);
        match never_write.iter().find(|closed| closed.overlaps(path)) {
            Some(closed) => Err(StateError::NeverWrite { path: path.clone(), closed: closed.clone() }),
            None => Ok(state),
        }
    }

    /// What may be told of an error: the words of the service's own type only where nothing is secret.
    fn told(&self, error: StateError, written: &[(&Path, &Tree)]) -> StateError {
        let (place, words) = match &error {
            StateError::Refused(inner) => match inner.service_words() {
                Some(words) => (&inner.path, words),
                None => return error,
            },
            // What cannot be read cannot be looked through for secrets.
            StateError::Unreadable(_) => return error.without_service_words(),
            _ => return error,
        };
        let holds_secret = |path: &Path, tree: &Tree| self.redactor.mark(path, tree.clone()).holds_secret();
        let written_is_secret = written.iter().any(|(path, tree)| holds_secret(path, tree));
        let hidden = written_is_secret || self.may_tell_a_secret(place, words);
        if hidden { error.without_service_words() } else { error }
    }

    /// Whether a secret stands at `path` or below, or one of the same state is in `words`, as far as can be seen without
    /// waiting; if nothing can be, yes.
    fn may_tell_a_secret(&self, path: &Path, words: &str) -> bool {
        let (name, below) = split(path);
        let Some(Ok(tree)) = self.states.get(name).map(|state| state.read(Wait::Try)) else { return true };
        let marked = self.redactor.mark(&Path(vec![name.to_owned()]), tree);
        // A check sees the whole value, whatever part of it is written.
        let may = |tree: &Tree| tree.holds_secret() || tree.holds_unreadable();
        marked.at(below).is_none_or(may) || marked.secrets().any(|secret| says(words, secret))
    }
}

/// Walks along a path. A walk that is late because another thread had the processor is begun anew, but for in a patch.
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

/// An error about a path through a list that has a key and is not shown by it says why.
fn without_key(state: &dyn State, error: StateError) -> StateError {
    let StateError::NoSuchPath(missing) = &error else { return error };
    let above = missing.path.0.split_last().map(|(_, above)| above).unwrap_or_default();
    match state.unkeyed().into_iter().find(|(path, _)| path.0 == above) {
        Some((_, why)) => {
            StateError::NoSuchPath(missing.clone().and(&format!("its elements have no key now: {why}")))
        }
        None => error,
    }
}

/// Whether `words` hold the secret or a part of it.
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
