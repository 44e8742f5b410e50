use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an operator does to a service or reads from it; the words that policy rules and records use.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Open a session, and what a session does about itself: ping, cancel, checkpoints, back to `observe`.
    Attach,
    /// See the value at a state path.
    Read,
    /// See the names of states and points, leases, sessions and what the agent is.
    List,
    /// See a secret in the clear.
    Reveal,
    /// Change the value at a state path.
    Write,
    /// Override a point.
    Patch,
    /// Let more or less of a target into the service's log.
    SetLevel,
    /// End a lease of another operator (one's own always may be ended).
    Revert,
    /// Keep a change past its first deadline.
    Confirm,
    /// Set another deadline.
    Extend,
    /// Make a lease one's own.
    Adopt,
    /// Give a lease a condition under which it ends.
    Guard,
    /// Say what becomes of what a lease could not undo because the service had changed it.
    Settle,
    /// Enter the mode `change`.
    Change,
    /// Write a line into the service's log.
    Log,
}

impl Action {
    /// Every action, in the order of the documentation.
    pub const ALL: &'static [Self] = &[
        Self::Attach,
        Self::Read,
        Self::List,
        Self::Reveal,
        Self::Write,
        Self::Patch,
        Self::SetLevel,
        Self::Revert,
        Self::Confirm,
        Self::Extend,
        Self::Adopt,
        Self::Guard,
        Self::Settle,
        Self::Change,
        Self::Log,
    ];

    /// The word for it in policies and records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attach => "attach",
            Self::Read => "read",
            Self::List => "list",
            Self::Reveal => "reveal",
            Self::Write => "write",
            Self::Patch => "patch",
            Self::SetLevel => "set_level",
            Self::Revert => "revert",
            Self::Confirm => "confirm",
            Self::Extend => "extend",
            Self::Adopt => "adopt",
            Self::Guard => "guard",
            Self::Settle => "settle",
            Self::Change => "change",
            Self::Log => "log",
        }
    }

    /// Whether it is possible only in the mode `change` (invariant 10). Reverting is possible in every mode.
    pub const fn needs_change(self) -> bool {
        match self {
            Self::Write
            | Self::Patch
            | Self::SetLevel
            | Self::Confirm
            | Self::Extend
            | Self::Adopt
            | Self::Guard
            | Self::Settle => true,
            Self::Attach
            | Self::Read
            | Self::List
            | Self::Reveal
            | Self::Revert
            | Self::Change
            | Self::Log => false,
        }
    }

    /// Whether it gives a lease its deadline, so that a request without one is not within any bound.
    pub const fn sets_deadline(self) -> bool {
        match self {
            Self::Write | Self::Patch | Self::SetLevel | Self::Confirm | Self::Extend => true,
            Self::Attach
            | Self::Read
            | Self::List
            | Self::Reveal
            | Self::Revert
            | Self::Adopt
            | Self::Guard
            | Self::Settle
            | Self::Change
            | Self::Log => false,
        }
    }

    /// A set of actions in which it is the only one.
    pub(crate) const fn bit(self) -> u32 {
        1 << self as u32
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|a| a.name() == text).ok_or_else(|| UnknownAction(text.to_owned()))
    }
}

/// A word that names no action of this version.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("unknown action `{0}`")]
pub struct UnknownAction(pub String);
