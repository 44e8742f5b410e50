//! What a lease holds: the trait of changes, and what is told of their end.

use debug_base::{Basis, BootTime, Path, Tree, Wait};
use debug_policy::Resource;

use crate::stack::WriteLayer;

/// A change held by a lease, which can be applied and undone. Every kind of change implements this trait.
pub trait Change: Send + Sync {
    /// Target of the change.
    fn target(&self) -> &Resource;

    /// Applies the change for the lease that was opened for it. `covers` are the leases that its author agreed to cover; the service
    /// may have moved another one to its place since then.
    ///
    /// # Errors
    /// The change is not in force.
    fn make(&self, begun: Begun, deadline: BootTime, covers: &[u64]) -> Result<(), ChangeError>;

    /// Checks, for a plan, whether the change could be applied; applies nothing.
    ///
    /// # Errors
    /// The error that applying it would return.
    fn could_be_made(&self) -> Result<(), ChangeError> {
        Ok(())
    }

    /// Has the change stop at another moment, if it stops without an undo. Called without locks; may wait for a state for
    /// milliseconds. The caller reports the new deadline only after `InForce`.
    fn rearm(&self, _lease: u64, _until: BootTime) -> Rearmed {
        Rearmed::InForce
    }

    /// Whether the effect stops at the deadline without an undo, because the clock is checked on each use.
    fn ends_by_itself(&self) -> bool {
        false
    }

    /// Undoes the change. May be called again after an error.
    ///
    /// # Errors
    /// The change is still in force; the caller must retry.
    fn undo(&self, lease: u64, wait: Wait) -> Result<Undone, ChangeError>;

    /// Undoes the rest of a conflict, overwriting what the service wrote. Called after `undo` reported a conflict, at most
    /// once with success. Returns whether the earlier value was seen in place again.
    ///
    /// # Errors
    /// Nothing was undone.
    fn force(&self, wait: Wait) -> Result<bool, ChangeError>;

    /// What [`force`](Self::force) would undo, if the change writes a value.
    fn left(&self) -> Option<WriteLayer> {
        None
    }

    /// Path, value before and value after, if the change writes a value.
    fn write(&self) -> Option<(Path, BeforeAfter)> {
        None
    }

    /// Participle for the report on an applied change: `set`, `patched`, `at DEBUG`.
    fn done(&self) -> String {
        "set".to_owned()
    }

    /// Warning to show while the change is in force.
    fn warning(&self) -> Option<String> {
        None
    }
}

/// That a lease is in the table and its change is to be applied now. Only an opened lease makes one, and only once: without a lease
/// no change can be applied.
#[derive(Debug)]
#[must_use = "it stands for one change"]
pub struct Begun(u64);

impl Begun {
    pub(crate) fn of(lease: u64) -> Self {
        Self(lease)
    }

    /// The lease.
    pub fn lease(&self) -> u64 {
        self.0
    }
}

/// The value before a change and the value it writes; `None` for an empty place.
pub type BeforeAfter = (Option<Tree>, Option<Tree>);

/// Result of rearming a change with another deadline.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rearmed {
    /// The new deadline holds.
    InForce,
    /// The previous deadline passed first: the effect has stopped and only the undo remains.
    Over,
    /// The new deadline could not be set now; the previous one holds.
    NotYet,
}

/// Result of an undo.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Undone {
    /// The service changed part of the target since; that part was not overwritten.
    pub conflict: Option<Conflict>,
    /// Lease above that covers the place; the live value did not change then.
    pub covered_by: Option<u64>,
    /// Value or layers now at the target.
    pub stands: Option<Stands>,
    /// Value that will be there when the covering lease ends, if known.
    pub base: Option<Stands>,
    /// The service wrote there since and its value was kept, so `stands` may differ from the earlier value.
    pub foreign: bool,
    /// Path at which the changed element was found, if it has moved.
    pub found: Option<Path>,
    /// Evidence by which the place was identified; `None` if it was not found or is not in a state.
    pub basis: Option<Basis>,
}

impl Undone {
    /// Whether the earlier value was seen in place again.
    pub fn is_as_before(&self) -> bool {
        self.conflict.is_none() && self.covered_by.is_none() && !self.foreign && self.stands.is_some()
    }
}

/// The part of a change that was not undone, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conflict {
    /// Reason, in words.
    pub why: String,
    /// Paths that were left as they are.
    pub places: Vec<Path>,
}

/// What is now at a target.
#[derive(Clone, Debug, PartialEq)]
pub enum Stands {
    /// A value at a state path.
    Value(Tree),
    /// A state path without a value.
    Nothing,
    /// Number of layers at a point or target.
    Layers(usize),
}

/// Why a change could not be applied or undone.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChangeError {
    /// Refused, with the reason.
    #[error("{0}")]
    Refused(String),
    /// The state's lock was not free in time.
    #[error("{0}")]
    Busy(String),
}
