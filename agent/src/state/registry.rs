use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::StateError;
use super::handle::{Later, State, Wait};
use super::path::{Path, known_names};
use super::redact::Redactor;
use super::tree::Tree;

/// The states that the service registered, by name. Every path begins with the state's name.
pub(crate) struct States {
    states: BTreeMap<String, Arc<dyn State>>,
    never_write: Vec<Path>,
    redactor: Arc<Redactor>,
}

impl States {
    /// All states of a service, the paths its author closed to writes, and what makes a value secret.
    ///
    /// # Errors
    /// Two states with one name.
    pub(crate) fn new(
        states: Vec<Arc<dyn State>>,
        never_write: Vec<Path>,
        redactor: Arc<Redactor>,
    ) -> Result<Self, StateError> {
        let mut by_name = BTreeMap::new();
        for state in states {
            let name = state.name().to_owned();
            if by_name.insert(name.clone(), state).is_some() {
                return Err(StateError::DuplicateName(name));
            }
        }
        Ok(Self { states: by_name, never_write, redactor })
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
        let tree = self.named(name)?.read(wait).map_err(|error| self.told(error, &[]))?;
        let marked = self.redactor.mark(&Path(vec![name.to_owned()]), tree);
        let found = marked.known_at(below).map_err(|error| error.below(&Path(vec![name.to_owned()])))?;
        Ok(found.clone())
    }

    /// Whether writing `value` at `path` would succeed now; what stands there, marked as `read` marks it.
    pub(crate) fn check_write(&self, path: &Path, value: &Tree, wait: Wait) -> Result<Tree, StateError> {
        let (name, below) = split(path);
        let state = self.writable(path)?;
        let before =
            state.check_write(below, value, wait).map_err(|error| self.told(error, &[(path, value)]))?;
        // Marks by shape look at the leaf, marks by name at its path, so both can be made here.
        let root = Path(vec![name.to_owned()]).join(below);
        Ok(self.redactor.mark(&root, before))
    }

    /// Writes `value` at `path` if `expect` stands there.
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

    /// Tells a state that looks at the clock where it is read what it will be later.
    pub(crate) fn rearm(&self, path: &Path, later: &Later<'_>, wait: Wait) -> Result<(), StateError> {
        self.named(split(path).0)?.rearm(later, wait)
    }

    /// The state of `path`, if neither its registration nor its author closes it.
    fn writable(&self, path: &Path) -> Result<&Arc<dyn State>, StateError> {
        let state = self.named(split(path).0)?;
        if !state.writable() {
            return Err(StateError::ReadOnly(state.name().to_owned()));
        }
        // A container that holds a closed path is closed too: writing it would write the path.
        match self.never_write.iter().find(|closed| closed.overlaps(path)) {
            Some(closed) => Err(StateError::NeverWrite { path: path.clone(), closed: closed.clone() }),
            None => Ok(state),
        }
    }

    /// What may be told of an error: the words of the service's own type only where nothing is secret.
    fn told(&self, error: StateError, written: &[(&Path, &Tree)]) -> StateError {
        let place = match &error {
            StateError::Refused(inner) if inner.has_service_words() => inner.path.clone(),
            // What cannot be read cannot be looked through for secrets.
            StateError::Unreadable(_) => return error.without_service_words(),
            _ => return error,
        };
        let holds_secret = |path: &Path, tree: &Tree| self.redactor.mark(path, tree.clone()).holds_secret();
        let written_is_secret = written.iter().any(|(path, tree)| holds_secret(path, tree));
        if written_is_secret || self.may_hold_secret(&place) { error.without_service_words() } else { error }
    }

    /// Whether a secret stands at `path` or below, as far as can be seen without waiting; if nothing can be, yes.
    fn may_hold_secret(&self, path: &Path) -> bool {
        let (name, below) = split(path);
        let Some(Ok(tree)) = self.states.get(name).map(|state| state.read(Wait::Try)) else { return true };
        let marked = self.redactor.mark(&Path(vec![name.to_owned()]), tree);
        marked.at(below).is_none_or(Tree::holds_secret)
    }
}

fn split(path: &Path) -> (&str, &[String]) {
    match path.0.split_first() {
        Some((name, below)) => (name, below),
        None => ("", &[]),
    }
}
