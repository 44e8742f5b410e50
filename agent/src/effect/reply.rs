//! What an executed effect gives back. The host makes a value of the script language of it.

use debug_base::{Path, Tree};

/// The result of an effect.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    /// Nothing.
    Nothing,
    /// A sentence of the agent to the operator.
    Message(String),
    /// Text.
    Text(String),
    /// A count.
    Count(u64),
    /// A truth value.
    Truth(bool),
    /// Several results, as one list.
    List(Vec<Reply>),
    /// A row of a table: its columns in order.
    Row(Vec<(&'static str, Reply)>),
    /// What stands at a path of a state; its secrets stay opaque.
    Value {
        /// The value.
        tree: Tree,
        /// Where it stands.
        path: Path,
        /// Texts that are opaque only because they hold a secret: where, and why.
        alike: Vec<(Path, String)>,
    },
    /// A secret in the clear.
    Revealed(Tree),
    /// The help about a function, or about all.
    Help(Option<String>),
}

/// The columns of a row of a table.
pub(crate) type Row = Vec<(&'static str, Reply)>;

impl Reply {
    /// A sentence.
    pub(crate) fn message(text: impl Into<String>) -> Self {
        Self::Message(text.into())
    }

    /// A table.
    pub(crate) fn table(rows: impl IntoIterator<Item = Row>) -> Self {
        Self::List(rows.into_iter().map(Self::Row).collect())
    }

    /// The value at a path.
    pub(crate) fn value(tree: Tree, path: Path) -> Self {
        Self::Value {
            tree,
            path,
            alike: Vec::new(),
        }
    }
}

impl From<String> for Reply {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Reply {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl<T: Into<Self>> FromIterator<T> for Reply {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

impl From<bool> for Reply {
    fn from(value: bool) -> Self {
        Self::Truth(value)
    }
}
