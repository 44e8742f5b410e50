//! What an eval does to the service or reads from it. An effect is only a wish until the gate has passed it.

use std::sync::Arc;
use std::time::Duration;

use debug_policy::{Action, Resource};
use debug_wire::table::{Function, HostFunction};
use rhai::FnPtr;

use crate::clock::BootTime;
use crate::gate::{Barred, NonEmpty, Refusal};
use crate::lease::{Change, Lease};
use crate::points::Point;
use crate::script::frozen::Frozen;
use crate::state::{Path, Tree};

/// Something asked for through a host function.
pub(crate) enum Effect {
    /// What is listed or explained, and what about.
    See(Listing, Option<String>),
    /// The value at a path, with the paths of its leaves (itself, for a leaf).
    Read {
        /// As asked for.
        path: Path,
        /// What policy is asked about.
        leaves: NonEmpty<Path>,
        /// What stands there.
        value: Tree,
    },
    /// A secret in the clear.
    Reveal {
        /// As asked for.
        path: Path,
        /// What stands there.
        value: Tree,
    },
    /// What cannot be done, and why not: told only to those who would be allowed to do it.
    Impossible {
        /// The function called.
        function: &'static Function,
        /// What it was called on.
        target: Resource,
        /// The options given.
        options: Options,
        /// What stands in the way.
        why: Refusal,
    },
    /// What policy allows no part of, known before anything of the service was touched.
    Barred(Barred),
    /// A change under a lease.
    Change(Box<Proposal>),
    /// The end of a lease.
    Revert {
        /// The lease as it was when policy was asked; one that did not exist then has no effect.
        lease: Box<Lease>,
    },
    /// Another deadline.
    Renew {
        /// Whether it is a confirmation.
        confirm: bool,
        /// The lease as it was when policy was asked.
        lease: Box<Lease>,
        /// How long from the moment in which it was asked for.
        ttl: Duration,
        /// That moment. What is decided later is within the bounds of policy then, however long the disk takes.
        asked: BootTime,
    },
    /// Keeping what stands at some paths, by name.
    Snapshot {
        /// As given.
        name: String,
        /// What stands where.
        parts: NonEmpty<(Path, Tree)>,
    },
    /// What differs now from a snapshot.
    Diff {
        /// The snapshot's name.
        name: String,
        /// What policy is asked about: all that the snapshot holds, and what stands there now.
        leaves: NonEmpty<Path>,
        /// Path, then, now.
        rows: Vec<(Path, Option<Tree>, Option<Tree>)>,
    },
    /// Another owner: whoever asks.
    Adopt {
        /// The lease as it was when policy was asked.
        lease: Box<Lease>,
    },
    /// What becomes of what a lease could not undo.
    Settle {
        /// The lease that ended as a conflict.
        lease: Box<Lease>,
        /// Whether it is undone all the same.
        force: bool,
        /// What undoing it writes: the leaves of what stands in the places that the service itself had changed, and of what
        /// is put there. None if it is left.
        leaves: Vec<Path>,
    },
    /// A condition under which a lease ends.
    Guard {
        /// The lease as it was when policy was asked.
        lease: Box<Lease>,
        /// The condition.
        guard: Guarding,
    },
    /// Entering the mode `change`.
    EnterChange {
        /// Why.
        reason: String,
    },
    /// Leaving it.
    Observe,
    /// A line in the service's log.
    Log {
        /// At WARN instead of INFO.
        warn: bool,
        /// The text, unescaped.
        text: String,
    },
}

/// What is listed or explained.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Listing {
    Help,
    Info,
    Ls,
    Points,
    Describe,
    Leases,
    Sessions,
    Snapshots,
}

impl Listing {
    /// The host function that shows it.
    pub(crate) fn function(self) -> HostFunction {
        match self {
            Self::Help => HostFunction::Help,
            Self::Info => HostFunction::Info,
            Self::Ls => HostFunction::Ls,
            Self::Points => HostFunction::Points,
            Self::Describe => HostFunction::Describe,
            Self::Leases => HostFunction::Leases,
            Self::Sessions => HostFunction::Sessions,
            Self::Snapshots => HostFunction::Snapshots,
        }
    }
}

/// A change as it was asked for.
pub(crate) struct Proposal {
    /// `set`, `patch` or `log_level`.
    pub(crate) function: &'static Function,
    /// How it is made and undone.
    pub(crate) change: Arc<dyn Change>,
    /// What policy is asked about: the point or target, or each leaf that changes.
    pub(crate) targets: NonEmpty<Resource>,
    /// Literal state paths that the patch will read; each must be readable to its author.
    pub(crate) reads: Vec<Path>,
    /// The options given.
    pub(crate) options: Options,
    /// What must stay true while it is in force.
    pub(crate) guard: Option<Guarding>,
    /// For the record: what is put in force, never a secret.
    pub(crate) after: serde_json::Value,
    /// What stands there and what is to, for a plan; marked. Nothing for patches.
    pub(crate) shown: Option<(Option<Tree>, Option<Tree>)>,
    /// For the record: keyed digest and length of what stood there.
    pub(crate) before: serde_json::Value,
    /// The same of what is put there; null for what is no value.
    pub(crate) after_digest: serde_json::Value,
}

/// A condition for a lease.
pub(crate) struct Guarding {
    /// Frozen.
    pub(crate) code: Arc<Frozen>,
    /// The leaves that it reads; each must be readable to its author.
    pub(crate) reads: Vec<Path>,
    /// The points that it names, whose calls are counted for it.
    pub(crate) points: Vec<Point>,
    /// For the record: the functions and captures that were frozen.
    pub(crate) record: serde_json::Value,
}

/// The options of a change: `#{ ttl: "5m", reason: "INC-42", over: 3, persist: true, unseen: true }`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// From now until it reverts.
    pub(crate) ttl: Option<Duration>,
    /// Why; otherwise the reason with which the mode was entered.
    pub(crate) reason: Option<String>,
    /// The leases that may stand below; more than one only where one call makes several changes.
    pub(crate) over: Vec<u64>,
    /// What stands below all changes of the call, if there are several: what `over` should have named.
    pub(crate) below: Vec<u64>,
    /// Whether it keeps its deadline when its session is lost.
    pub(crate) persist: bool,
    /// What must stay true.
    pub(crate) guard: Option<FnPtr>,
    /// Whether a route that was never called may be patched.
    pub(crate) unseen: bool,
}

impl Effect {
    /// The host function it came through.
    pub(crate) fn function(&self) -> HostFunction {
        match self {
            Self::See(listing, _) => listing.function(),
            Self::Impossible { function, .. } => function.id,
            Self::Barred(barred) => barred.function.id,
            Self::Read { .. } => HostFunction::Get,
            Self::Reveal { .. } => HostFunction::Reveal,
            Self::Change(proposal) => proposal.function.id,
            Self::Revert { .. } => HostFunction::Revert,
            Self::Renew { confirm: true, .. } => HostFunction::Confirm,
            Self::Renew { confirm: false, .. } => HostFunction::Extend,
            Self::Snapshot { .. } => HostFunction::Snapshot,
            Self::Diff { .. } => HostFunction::Diff,
            Self::Adopt { .. } => HostFunction::Adopt,
            Self::Settle { .. } => HostFunction::Settle,
            Self::Guard { .. } => HostFunction::Guard,
            Self::EnterChange { .. } => HostFunction::Change,
            Self::Observe => HostFunction::Observe,
            Self::Log { warn: true, .. } => HostFunction::LogWarn,
            Self::Log { warn: false, .. } => HostFunction::LogInfo,
        }
    }

    /// What policy decides about, from the one table.
    pub(crate) fn action(&self) -> Action {
        self.function().row().action
    }

    /// Whether it does more than look.
    pub(crate) fn acts(&self) -> bool {
        match self {
            Self::Reveal { .. }
            | Self::Change(_)
            | Self::Revert { .. }
            | Self::Renew { .. }
            | Self::Adopt { .. }
            | Self::Settle { .. }
            | Self::Guard { .. }
            | Self::EnterChange { .. }
            | Self::Observe
            | Self::Log { .. } => true,
            Self::See(..)
            | Self::Read { .. }
            | Self::Snapshot { .. }
            | Self::Diff { .. }
            | Self::Impossible { .. }
            | Self::Barred(_) => false,
        }
    }

    /// Whether its record must be on disk before it happens: it changes or reveals something.
    pub(crate) fn waits_for_disk(&self) -> bool {
        match self {
            Self::Reveal { .. }
            | Self::Change(_)
            | Self::Renew { .. }
            | Self::Adopt { .. }
            | Self::Settle { .. }
            | Self::Guard { .. }
            | Self::EnterChange { .. } => true,
            // Reverting must not wait for a disk that may be full; its outcome is on disk before the reply.
            Self::Revert { .. }
            | Self::See(..)
            | Self::Read { .. }
            | Self::Snapshot { .. }
            | Self::Diff { .. }
            | Self::Impossible { .. }
            | Self::Barred(_)
            | Self::Observe
            | Self::Log { .. } => false,
        }
    }
}
