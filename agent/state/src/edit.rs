//! One prepared write to a value of the service. Under the service's lock only serializing, comparing and swapping remain to
//! be done.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use serde::Serialize;

use crate::error::StateError;
use debug_base::{
    BootTime, Kinds, Limits, Panicked, Path, ServiceValue, Tree, TreeError, fenced, kinds, to_tree,
};

/// A prepared write, complete except for the swap.
pub struct Edit<T> {
    /// The state's own path.
    pub(crate) root: Path,
    /// The whole value as read.
    pub(crate) tree: Tree,
    /// The type's own copy of the value as read; equal to the live value if nothing is lost.
    pub(crate) copy: ServiceValue<T>,
    /// The value to store; after the swap, the replaced value.
    pub(crate) new: ServiceValue<T>,
    /// The new value as its type writes it.
    pub(crate) stored: Tree,
    /// For timed cells: the value from each deadline on.
    pub(crate) later: Schedule<T>,
    /// Only the schedule is new; the value in force stays.
    pub(crate) keeps_value: bool,
    /// Decides whether the write is still wanted.
    pub(crate) ticket: WriteTicket,
    /// The kinds that serde saw in the live value, if the value does not survive the round trip.
    pub(crate) kinds: OnceLock<Kinds>,
    verdict: Option<Result<EditVerdict, StateError>>,
    compare: fn(&Edit<T>, &T) -> Result<EditVerdict, StateError>,
}

/// Values from each deadline on, in the order of their deadlines.
pub(crate) type Schedule<T> = Vec<(BootTime, ServiceValue<T>)>;

/// Result of comparing the live value with the edit's copy of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum EditVerdict {
    /// The live value is the one that was read, and survives the round trip.
    AsRead,
    /// The live value has changed since.
    Changed,
    /// The live value is the one that was read, but its deserialized copy is not equal to it.
    Lossy,
}

impl<T: Serialize + PartialEq> Edit<T> {
    /// From the value as read, the type's copy of it, and the new value with its tree.
    pub(crate) fn new(
        root: Path,
        tree: Tree,
        copy: ServiceValue<T>,
        new: ServiceValue<T>,
        stored: Tree,
    ) -> Self {
        Self {
            root,
            tree,
            copy,
            new,
            stored,
            later: Vec::new(),
            keeps_value: false,
            ticket: WriteTicket::default(),
            kinds: OnceLock::new(),
            verdict: None,
            compare: Self::compared,
        }
    }

    /// Compares with the type's code and ours only, behind fences.
    fn compared(&self, live: &T) -> Result<EditVerdict, StateError> {
        let equal = fenced(|| live == self.copy.get()).map_err(|Panicked| StateError::Panicked {
            state: self.root.to_string(),
            doing: "comparing",
        })?;
        // Serialized in any case: `PartialEq` may ignore what serde writes.
        let now = tree_of(&self.root, fenced(|| to_tree(live, &Limits::STATE)))?;
        Ok(match (now.same(&self.tree), equal) {
            (false, _) => EditVerdict::Changed,
            (true, true) => EditVerdict::AsRead,
            (true, false) => {
                // Only the live value can show what its copy lost.
                let kinds = fenced(|| kinds(live, &Limits::STATE));
                drop(kinds.map(|kinds| self.kinds.set(kinds)));
                EditVerdict::Lossy
            }
        })
    }
}

impl<T> Edit<T> {
    /// Compares the live value with the value as read.
    pub(crate) fn compare(&self, live: &T) -> Result<EditVerdict, StateError> {
        (self.compare)(self, live)
    }

    /// Records the verdict. Returns whether the value may be replaced and the ticket was not given up.
    fn may_go_in(&mut self, live: &T, begin: fn(&WriteTicket) -> bool) -> bool {
        let verdict = self.compare(live);
        let fits = matches!(verdict, Ok(EditVerdict::AsRead));
        self.verdict = Some(verdict);
        if fits && !begin(&self.ticket) {
            self.exchanged(false);
            return false;
        }
        fits
    }

    /// Records the verdict and commits the ticket. Returns whether the new value may be stored: the live value is the one
    /// that was read, and the ticket was not given up.
    pub(crate) fn fits(&mut self, live: &T) -> bool {
        self.may_go_in(live, WriteTicket::finish)
    }

    /// Swaps the new value in if it [`fits`](Self::fits); returns whether it did.
    pub(crate) fn put_into(&mut self, live: &mut T) -> bool {
        let fits = self.fits(live);
        if fits {
            self.new.swap(live);
        }
        fits
    }

    /// Takes the new value if it [`fits`](Self::fits).
    pub(crate) fn take_if_fits(&mut self, live: &T) -> Option<T> {
        self.fits(live).then(|| self.new.take()).flatten()
    }

    /// As [`Self::take_if_fits`], for a slow write: the caller finishes the ticket afterwards.
    pub(crate) fn begin_if_fits(&mut self, live: &T) -> Option<T> {
        self.may_go_in(live, WriteTicket::begin)
            .then(|| self.new.take())
            .flatten()
    }

    /// Records whether the new value is in place; another writer may have won the race.
    pub(crate) fn exchanged(&mut self, done: bool) {
        if !done {
            self.verdict = Some(Ok(EditVerdict::Changed));
        }
    }

    /// Result of the write: `AsRead` if the new value is in place.
    pub(crate) fn outcome(&mut self) -> Result<EditVerdict, StateError> {
        self.verdict.take().unwrap_or(Ok(EditVerdict::Changed))
    }
}

/// Result of serializing; errors get the state's path.
pub(crate) fn tree_of(
    root: &Path,
    tree: Result<Result<Tree, TreeError>, Panicked>,
) -> Result<Tree, StateError> {
    tree.map_err(|Panicked| StateError::Panicked {
        state: root.to_string(),
        doing: "writing itself out",
    })?
    .map_err(|error| StateError::Unreadable(error.below(root)))
}

/// Whether a write handed to another thread is still wanted. The first transition wins.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteTicket(Arc<AtomicU8>);

const WANTED: u8 = 0;
const BEGUN: u8 = 1;
const FINISHED: u8 = 2;
const GIVEN_UP: u8 = 3;

impl WriteTicket {
    fn step(&self, from: u8, to: u8) -> bool {
        self.0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Starts the write. Returns false if the caller has given it up.
    pub(crate) fn begin(&self) -> bool {
        self.step(WANTED, BEGUN)
    }

    /// Commits the write. Returns false if the caller has given it up: then the write must be rolled back.
    pub(crate) fn finish(&self) -> bool {
        self.step(WANTED, FINISHED) || self.step(BEGUN, FINISHED)
    }

    /// Gives up a write that has not started; returns whether it did.
    pub(crate) fn give_up(&self) -> bool {
        self.step(WANTED, GIVEN_UP)
    }

    /// Gives up a started write, which its thread then rolls back. Returns false if the write is finished.
    pub(crate) fn give_up_begun(&self) -> bool {
        self.step(BEGUN, GIVEN_UP)
    }
}
