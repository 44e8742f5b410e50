//! Leaves that cannot be shown: each costs itself, and everything around it reads.

use std::fmt;

use super::tree::Tree;

/// A value of the service that has no place in a tree, or whose type does not write it out.
///
/// It is shown as what it is and refuses every other use. The reason holds only words of ours: what could not be looked at
/// cannot be looked through for secrets, and the service's own words may hold anything.
#[derive(Clone, PartialEq)]
pub(crate) struct Unreadable {
    reason: String,
    kept: Option<Wide>,
    hidden: Option<Box<Tree>>,
}

/// An integer of more than 64 bits, kept so that what stands beside it can be written.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Wide {
    /// Below zero, or in a type with a sign.
    Signed(i128),
    /// In a type without one.
    Unsigned(u128),
}

impl Unreadable {
    /// For a reason in words of ours.
    pub(crate) fn because(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), kept: None, hidden: None }
    }

    /// For a secret of which a part cannot be read. The parts that can be are shown to no operator, and what leaves the process
    /// is searched for them.
    pub(super) fn hiding(self, secret: Tree) -> Self {
        Self { hidden: Some(Box::new(secret)), ..self }
    }

    /// The secret of which a part cannot be read.
    pub(super) fn hidden(&self) -> Option<&Tree> {
        self.hidden.as_deref()
    }

    /// An integer that no script can hold.
    pub(super) fn wide(value: Wide) -> Self {
        Self { reason: "an integer of more than 64 bits".to_owned(), kept: Some(value), hidden: None }
    }

    /// Why it cannot be shown.
    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }

    /// What survives being written back, if the value does.
    pub(crate) fn kept(&self) -> Option<Wide> {
        self.kept
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "‹unreadable: {}›", self.reason)
    }
}

impl fmt::Debug for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Wide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signed(value) => value.fmt(f),
            Self::Unsigned(value) => value.fmt(f),
        }
    }
}
