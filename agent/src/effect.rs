//! The effects of evals on the service, and their reads from it. An effect is only a proposal until the gate has passed
//! it.

mod barred;
mod refusal;
mod reply;

use std::sync::Arc;
use std::time::Duration;

use debug_policy::{Action, Resource};
use debug_wire::table::{Function, HostFunction};

pub(crate) use barred::Barred;
use debug_base::NonEmpty;
use debug_base::{BootTime, Path, Tree};
use debug_lease::{Change, Lease};
use debug_points::{PatchCode, Point};
pub(crate) use refusal::Refusal;
pub(crate) use reply::{Reply, Row};

/// An effect requested through a host function.
pub(crate) enum Effect {
    /// A listing or explanation, and its subject.
    See(Listing, Option<String>),
    /// The value at a path, and the paths of its leaves (the path itself, for a leaf).
    Read {
        /// The path, as requested.
        path: Path,
        /// The leaves that policy decides about.
        leaves: NonEmpty<Path>,
        /// The value there.
        value: Tree,
    },
    /// A secret in the clear.
    Reveal {
        /// The path, as requested.
        path: Path,
        /// The value there.
        value: Tree,
    },
    /// A request that cannot be done, and why. The reason goes only to operators who would be allowed to do it.
    Impossible {
        /// The function called.
        function: &'static Function,
        /// The target of the call.
        target: Resource,
        /// The options given.
        options: ChangeOptions,
        /// The reason.
        why: Refusal,
    },
    /// A request that policy denies in whole, known before the service's states were read.
    Barred(Barred),
    /// A change under a lease.
    Change(Box<Proposal>),
    /// The end of a lease.
    Revert {
        /// The lease at the time of the policy decision. A lease that did not exist then is not reverted.
        lease: Box<Lease>,
    },
    /// A new deadline.
    Renew {
        /// Whether the lease is confirmed.
        confirm: bool,
        /// The lease at the time of the policy decision.
        lease: Box<Lease>,
        /// The time to live, from `asked`.
        ttl: Duration,
        /// When it was requested. The deadline stays within the bounds of policy at that moment, however long the disk
        /// takes.
        asked: BootTime,
    },
    /// A snapshot of some paths, under a name.
    Snapshot {
        /// As given.
        name: String,
        /// The paths and their values.
        parts: NonEmpty<(Path, Tree)>,
    },
    /// The differences between a snapshot and now.
    Diff {
        /// The snapshot's name.
        name: String,
        /// The leaves that policy decides about: of the snapshot and of the current values.
        leaves: NonEmpty<Path>,
        /// Path, value then, value now.
        rows: Vec<(Path, Option<Tree>, Option<Tree>)>,
    },
    /// Adoption: the caller becomes the lease's owner.
    Adopt {
        /// The lease at the time of the policy decision.
        lease: Box<Lease>,
    },
    /// The settlement of a conflict.
    Settle {
        /// The lease that ended as a conflict.
        lease: Box<Lease>,
        /// True to revert in spite of the conflict, false to keep what stands.
        force: bool,
        /// What the revert writes: the leaves of the current values in the places that the service changed, and of the
        /// restored values. Empty if it is kept.
        leaves: Vec<Path>,
    },
    /// A condition under which a lease ends.
    Guard {
        /// The lease at the time of the policy decision.
        lease: Box<Lease>,
        /// The condition.
        guard: Guarding,
    },
    /// Entering the mode `change`.
    EnterChange {
        /// The reason.
        reason: String,
    },
    /// Leaving the mode `change`.
    Observe,
    /// A line in the service's log.
    Log {
        /// At WARN instead of INFO.
        warn: bool,
        /// The text, unescaped.
        text: String,
    },
}

/// The kinds of listings and explanations.
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
    /// The host function that requests it.
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

/// A requested change.
pub(crate) struct Proposal {
    /// `set`, `restore`, `patch` or `log_level`.
    pub(crate) function: &'static Function,
    /// How it is applied and reverted.
    pub(crate) change: Arc<dyn Change>,
    /// What policy decides about: the point or target, or each leaf that changes.
    pub(crate) targets: NonEmpty<Resource>,
    /// The literal state paths that the patch reads; each must be readable to its author.
    pub(crate) reads: Vec<Path>,
    /// Whether the patch can write to the service's log, which its author must be allowed to do.
    pub(crate) logs: bool,
    /// The options given.
    pub(crate) options: ChangeOptions,
    /// The condition for staying in force.
    pub(crate) guard: Option<Guarding>,
    /// For the record: the new value or code, never a secret.
    pub(crate) after: serde_json::Value,
    /// For a plan: the old and the new value, marked. `None` for patches.
    pub(crate) shown: Option<(Option<Tree>, Option<Tree>)>,
    /// For the record: keyed digest and length of the old value.
    pub(crate) before: serde_json::Value,
    /// The same of the new value; null for patches.
    pub(crate) after_digest: serde_json::Value,
}

/// A condition for a lease.
pub(crate) struct Guarding {
    /// The frozen closure.
    pub(crate) code: Arc<dyn GuardCode>,
    /// The leaves that it reads; each must be readable to its author.
    pub(crate) reads: Vec<Path>,
    /// Whether it can write to the service's log, which its author must be allowed to do.
    pub(crate) logs: bool,
    /// Whether it is given the service's gauges, which its author must be allowed to list.
    pub(crate) gauges: bool,
    /// The points that it names; their calls are counted for it.
    pub(crate) points: Vec<Point>,
    /// For the record: the functions and captures that were frozen.
    pub(crate) record: serde_json::Value,
}

/// The code of a guard.
pub(crate) trait GuardCode: PatchCode {
    /// What it reads of the service now, as `path = value`, without what its author may not read.
    fn reads_now(&self) -> Vec<String>;
}

/// The options of a change: `#{ ttl: "5m", reason: "INC-42", over: 3, persist: true, unseen: true }`.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChangeOptions {
    /// The time to live.
    pub(crate) ttl: Option<Duration>,
    /// The reason; the default is the reason given on entering the mode.
    pub(crate) reason: Option<String>,
    /// The leases that the change may cover; several only where one call makes several changes.
    pub(crate) over: Vec<u64>,
    /// The leases that all changes of the call cover, if there are several: `over` must name them.
    pub(crate) below: Vec<u64>,
    /// Whether the lease keeps its deadline when its session is lost.
    pub(crate) persist: bool,
    /// Whether a route without any request so far may be patched.
    pub(crate) unseen: bool,
}

impl Effect {
    /// The host function that requested it.
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

    /// The action that policy decides about, from the one table.
    pub(crate) fn action(&self) -> Action {
        self.function().row().action
    }

    /// Whether it does more than read.
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
}
