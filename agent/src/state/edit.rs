//! One write to a value of the service: ready but for the swap, so that under the service's lock nothing happens but
//! serializing, comparing and swapping.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use serde::Serialize;

use super::error::{StateError, TreeError};
use super::fence::{Outside, Panicked, fenced};
use super::path::Path;
use super::ser::{self, Kinds};
use super::tree::Tree;
use super::{Limits, to_tree};
use crate::clock::BootTime;

/// A write that is ready but for the swap.
pub struct Edit<T> {
    /// The state's own path.
    pub(super) root: Path,
    /// The whole value as it was read.
    pub(super) tree: Tree,
    /// The type's own reading of it: equal to the live value if nothing is lost.
    pub(super) copy: Outside<T>,
    /// The value to store; the value that was there, once swapped.
    pub(super) new: Outside<T>,
    /// The new value as its type writes it.
    pub(super) stored: Tree,
    /// What the value will be from each deadline on; for cells that look at the clock.
    pub(super) later: Schedule<T>,
    /// Only what it will be later is new: the value that is in force stays.
    pub(super) keeps_value: bool,
    /// Who decides whether it is still wanted.
    pub(super) ticket: Ticket,
    /// What serde is told of the live value, if it does not survive the round trip.
    pub(super) kinds: OnceLock<Kinds>,
    verdict: Option<Result<Verdict, StateError>>,
    compare: fn(&Edit<T>, &T) -> Result<Verdict, StateError>,
}

/// What a value will be from each deadline on, in their order.
pub(super) type Schedule<T> = Vec<(BootTime, Outside<T>)>;

/// How the live value and the edit's reading of it compare.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// The live value is the one that was read, and survives the round trip.
    AsRead,
    /// It is another one by now.
    Changed,
    /// It is the one that was read, but reading it back gives another value.
    Lossy,
}

impl<T: Serialize + PartialEq> Edit<T> {
    /// From the whole value as it was read, the type's own copy of it, and the new value with its tree.
    pub(super) fn new(root: Path, tree: Tree, copy: Outside<T>, new: Outside<T>, stored: Tree) -> Self {
        Self {
            root,
            tree,
            copy,
            new,
            stored,
            later: Vec::new(),
            keeps_value: false,
            ticket: Ticket::default(),
            kinds: OnceLock::new(),
            verdict: None,
            compare: Self::compared,
        }
    }

    /// Compares with nothing but the type's own code and ours, fenced.
    fn compared(&self, live: &T) -> Result<Verdict, StateError> {
        let equal = fenced(|| live == self.copy.get())
            .map_err(|Panicked| StateError::Panicked { state: self.root.to_string(), doing: "comparing" })?;
        // Asked in any case: `PartialEq` may leave out what serde writes.
        let now = tree_of(&self.root, fenced(|| to_tree(live, &Limits::STATE)))?;
        Ok(match (now.same(&self.tree), equal) {
            (false, _) => Verdict::Changed,
            (true, true) => Verdict::AsRead,
            (true, false) => {
                // The live value alone can tell what it lost.
                let kinds = fenced(|| ser::kinds(live, &Limits::STATE));
                drop(kinds.map(|kinds| self.kinds.set(kinds)));
                Verdict::Lossy
            }
        })
    }
}

impl<T> Edit<T> {
    /// How the live value and what was read compare.
    pub(super) fn compare(&self, live: &T) -> Result<Verdict, StateError> {
        (self.compare)(self, live)
    }

    /// Takes note of how they compare. Whether the value may be replaced and nobody will take that back.
    fn may_go_in(&mut self, live: &T, begin: fn(&Ticket) -> bool) -> bool {
        let verdict = self.compare(live);
        let fits = matches!(verdict, Ok(Verdict::AsRead));
        self.verdict = Some(verdict);
        if fits && !begin(&self.ticket) {
            self.exchanged(false);
            return false;
        }
        fits
    }

    /// Whether the live value is the one that was read.
    pub(super) fn fits(&mut self, live: &T) -> bool {
        self.may_go_in(live, Ticket::finish)
    }

    /// Exchanges the new value with the live one if that is the one that was read. Whether it did.
    pub(super) fn put_into(&mut self, live: &mut T) -> bool {
        let fits = self.fits(live);
        if fits {
            self.new.swap(live);
        }
        fits
    }

    /// The new value, if the live one is the one that was read.
    pub(super) fn take_if_fits(&mut self, live: &T) -> Option<T> {
        self.fits(live).then(|| self.new.take()).flatten()
    }

    /// As [`Self::take_if_fits`], for what takes its time to be put in place: the ticket is to be finished afterwards.
    pub(super) fn begin_if_fits(&mut self, live: &T) -> Option<T> {
        self.may_go_in(live, Ticket::begin).then(|| self.new.take()).flatten()
    }

    /// Takes note of whether the new value came in place; somebody else may have been faster.
    pub(super) fn exchanged(&mut self, done: bool) {
        if !done {
            self.verdict = Some(Ok(Verdict::Changed));
        }
    }

    /// How it went: `AsRead` if the new value is in place.
    pub(super) fn outcome(&mut self) -> Result<Verdict, StateError> {
        self.verdict.take().unwrap_or(Ok(Verdict::Changed))
    }
}

/// What came of serializing, with the state's path in its errors.
pub(super) fn tree_of(
    root: &Path,
    tree: Result<Result<Tree, TreeError>, Panicked>,
) -> Result<Tree, StateError> {
    tree.map_err(|Panicked| StateError::Panicked { state: root.to_string(), doing: "writing itself out" })?
        .map_err(|error| StateError::Unreadable(error.below(root)))
}

/// Whether what was asked for on another thread is still wanted: decided once, by whoever comes first.
#[derive(Clone, Debug, Default)]
pub(super) struct Ticket(Arc<AtomicU8>);

const WANTED: u8 = 0;
const BEGUN: u8 = 1;
const FINISHED: u8 = 2;
const GIVEN_UP: u8 = 3;

impl Ticket {
    fn step(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Begins to put the value in place. False if nobody wants that any more.
    pub(super) fn begin(&self) -> bool {
        self.step(WANTED, BEGUN)
    }

    /// The value is in place, or will be at once. False if nobody wants that any more: then it is to be taken back.
    pub(super) fn finish(&self) -> bool {
        self.step(WANTED, FINISHED) || self.step(BEGUN, FINISHED)
    }

    /// Gives up what has not begun. Whether that was so.
    pub(super) fn give_up(&self) -> bool {
        self.step(WANTED, GIVEN_UP)
    }

    /// Gives up even what has begun, which is then taken back by whoever does it. False if it is finished.
    pub(super) fn give_up_begun(&self) -> bool {
        self.step(BEGUN, GIVEN_UP)
    }
}
