use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an operator does to a service or reads from it; policy rules and records use its name.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Open a session, and manage it: ping, cancel, checkpoints, back to `observe`.
    Attach,
    /// See the value at a state path.
    Read,
    /// See the names of states and points, and leases, sessions and facts about the agent.
    List,
    /// See a secret in the clear.
    Reveal,
    /// Change the value at a state path.
    Write,
    /// Override a point.
    Patch,
    /// Change the level of a target in the service's log.
    SetLevel,
    /// End a lease of another operator (one's own may always be ended).
    Revert,
    /// Keep a change past its first deadline.
    Confirm,
    /// Set another deadline.
    Extend,
    /// Take over a lease.
    Adopt,
    /// Give a lease a condition that ends it.
    Guard,
    /// Decide about a change that a lease could not undo because the service had changed the same place.
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

    /// Its name in policies and records.
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

    /// Whether it needs the mode `change` (invariant 10). Reverting is possible in every mode.
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

    /// Whether it gives a lease its deadline, so that a request without one exceeds every bound.
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

    /// The set that contains only this action.
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
        Self::ALL
            .iter()
            .copied()
            .find(|a| a.name() == text)
            .ok_or_else(|| UnknownAction(text.to_owned()))
    }
}

/// A word that names no action of this version.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("unknown action `{0}`")]
pub struct UnknownAction(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    /// What only looks, and what ends a change, is possible in every mode.
    #[test]
    fn the_mode_is_asked_of_what_changes_something() {
        let free: Vec<&str> = Action::ALL
            .iter()
            .filter(|action| !action.needs_change())
            .map(|action| action.name())
            .collect();
        assert_eq!(
            free,
            ["attach", "read", "list", "reveal", "revert", "change", "log"]
        );
    }
}
