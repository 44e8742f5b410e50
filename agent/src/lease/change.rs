use std::sync::{Arc, Mutex, PoisonError};

use debug_policy::Resource;

use crate::clock::BootTime;
use crate::points::{Layer, Observer, PatchCode, Point};
use crate::state::{Path, StateError, States, Tree, Wait};

/// A change that can be made and undone; what a lease holds.
pub(crate) trait Change: Send + Sync {
    /// What it changes.
    fn target(&self) -> &Resource;

    /// Puts it in force. Called once, with a permit.
    ///
    /// # Errors
    /// It is not in force then.
    fn make(&self, lease: u64, deadline: BootTime) -> Result<(), ChangeError>;

    /// Tells it about another deadline, for changes that check it where they are used.
    fn set_deadline(&self, lease: u64, deadline: BootTime);

    /// Takes it out of force. May be called again after an error.
    ///
    /// # Errors
    /// It is still in force then, or for a point no longer; it must be tried again.
    fn undo(&self, lease: u64, wait: Wait) -> Result<Undone, ChangeError>;

    /// Told when a change below it in the stack of the same target ends first, so that undoing this one restores
    /// what stood below both. True if it took over.
    fn rebase(&self, below: &dyn Change) -> bool;

    /// What stood there before, for [`Change::rebase`]; nothing for points.
    fn base(&self) -> Option<Tree>;
}

/// How undoing went.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Undone {
    /// What stood there before stands there again.
    Restored,
    /// The service itself changed it meanwhile; nothing was overwritten.
    Conflict(String),
}

/// Why a change could not be made or undone.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// In words.
    #[error("{0}")]
    Refused(String),
    /// The lock was held all the time.
    #[error("{0}")]
    Busy(String),
}

impl From<StateError> for ChangeError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Busy(_) => Self::Busy(error.to_string()),
            other => Self::Refused(other.to_string()),
        }
    }
}

/// A patch at a point.
pub(crate) struct PatchChange {
    target: Resource,
    point: Point,
    code: Arc<dyn PatchCode>,
    observer: Arc<dyn Observer>,
}

impl PatchChange {
    /// A patch with `code` at `point`, whose failures `observer` hears of.
    pub(crate) fn new(point: Point, code: Arc<dyn PatchCode>, observer: Arc<dyn Observer>) -> Self {
        Self { target: Resource::Point(point.name().to_owned()), point, code, observer }
    }
}

impl Change for PatchChange {
    fn target(&self) -> &Resource {
        &self.target
    }

    fn make(&self, lease: u64, deadline: BootTime) -> Result<(), ChangeError> {
        let layer = Layer::new(lease, deadline, self.code.clone(), self.observer.clone());
        self.point.push(Arc::new(layer)).map_err(|e| ChangeError::Refused(e.to_string()))
    }

    fn set_deadline(&self, lease: u64, deadline: BootTime) {
        self.point.set_deadline(lease, deadline);
    }

    fn undo(&self, lease: u64, _wait: Wait) -> Result<Undone, ChangeError> {
        self.point.end(lease);
        Ok(Undone::Restored)
    }

    fn rebase(&self, _below: &dyn Change) -> bool {
        // Layers of a point are independent: the one above never knew the one below.
        true
    }

    fn base(&self) -> Option<Tree> {
        None
    }
}

/// A value at a state path.
pub(crate) struct WriteChange {
    target: Resource,
    states: Arc<States>,
    path: Path,
    after: Tree,
    before: Mutex<Base>,
}

/// What undoing restores.
struct Base {
    value: Tree,
    /// A layer above took this one's base over: undoing changes nothing live.
    covered: bool,
}

impl WriteChange {
    /// `after` in place of `before` at `path`.
    pub(crate) fn new(states: Arc<States>, path: Path, before: Tree, after: Tree) -> Self {
        let target = Resource::State(path.0.clone());
        Self { target, states, path, after, before: Mutex::new(Base { value: before, covered: false }) }
    }
}

impl Change for WriteChange {
    fn target(&self) -> &Resource {
        &self.target
    }

    fn make(&self, _lease: u64, _deadline: BootTime) -> Result<(), ChangeError> {
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner).value.clone();
        Ok(self.states.compare_and_set(&self.path, &before, &self.after, Wait::AGENT)?)
    }

    fn set_deadline(&self, _lease: u64, _deadline: BootTime) {
        // Nobody checks a deadline where a plain state is read; the revert thread ends it.
    }

    fn undo(&self, _lease: u64, wait: Wait) -> Result<Undone, ChangeError> {
        let base = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        if base.covered {
            return Ok(Undone::Restored);
        }
        match self.states.compare_and_set(&self.path, &self.after, &base.value, wait) {
            Ok(()) => Ok(Undone::Restored),
            Err(error @ StateError::Conflict(_)) => Ok(Undone::Conflict(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    fn rebase(&self, below: &dyn Change) -> bool {
        let Some(value) = below.base() else { return false };
        self.before.lock().unwrap_or_else(PoisonError::into_inner).value = value;
        true
    }

    fn base(&self) -> Option<Tree> {
        let mut base = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        base.covered = true;
        Some(base.value.clone())
    }
}
