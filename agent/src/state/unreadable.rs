//! Leaves that cannot be shown. Each affects only itself; everything around it stays readable.

use std::fmt;

use super::tree::Tree;

/// A value that has no form in a tree, or that its type does not serialize.
///
/// It can be shown, with the reason, and refuses every other use. The reason contains only the agent's words: the service's
/// words may contain anything, and an unreadable value cannot be searched for secrets.
#[derive(Clone, PartialEq)]
pub(crate) struct Unreadable {
    reason: String,
    kept: Option<Wide>,
    hidden: Option<Box<Tree>>,
}

/// An integer of more than 64 bits, kept so that its surroundings can be written.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Wide {
    /// Negative, or of a signed type.
    Signed(i128),
    /// Of an unsigned type.
    Unsigned(u128),
}

impl Unreadable {
    /// Creates a leaf with a reason in the agent's words.
    pub(crate) fn because(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), kept: None, hidden: None }
    }

    /// For a secret with an unreadable part. Its readable parts are shown to no operator, but outgoing text is searched for
    /// them.
    pub(super) fn hiding(self, secret: Tree) -> Self {
        Self { hidden: Some(Box::new(secret)), ..self }
    }

    /// The secret with an unreadable part.
    pub(super) fn hidden(&self) -> Option<&Tree> {
        self.hidden.as_deref()
    }

    /// An integer too wide for a script.
    pub(super) fn wide(value: Wide) -> Self {
        Self { reason: "an integer of more than 64 bits".to_owned(), kept: Some(value), hidden: None }
    }

    /// Why it cannot be shown.
    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }

    /// The integer, if the value is one and survives being written back.
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
