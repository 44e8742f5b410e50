//! What is known of a value before it exists.

use crate::tree::Tree;

/// A value that code may make, as far as its source shows it; or a part of one.
#[derive(Debug, PartialEq)]
pub enum LiteralValue {
    /// Known only at run time.
    Unknown,
    /// A literal.
    Value(Tree),
    /// A map with these keys.
    Map(Vec<(String, LiteralValue)>),
}

impl LiteralValue {
    /// The whole value, if all of it is literal.
    pub fn tree(&self) -> Option<Tree> {
        match self {
            Self::Unknown => None,
            Self::Value(tree) => Some(tree.clone()),
            Self::Map(entries) => {
                let tree = |(key, known): &(String, Self)| Some((key.clone(), known.tree()?));
                entries
                    .iter()
                    .map(tree)
                    .collect::<Option<Vec<_>>>()
                    .map(Tree::Map)
            }
        }
    }
}
