//! Arguments to trees and trees to results.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::state::{Limits, Tree, from_tree, to_tree};

/// The value as a tree; what a `Secret<T>` holds is marked, and opaque to the patch.
///
/// # Errors
/// What the value's own `Serialize` refused, or that it is larger than 256 KiB.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Tree, String> {
    to_tree(value, &Limits::ARGUMENTS).map_err(|error| error.to_string())
}

/// The value that a tree describes.
///
/// # Errors
/// What the value's own `Deserialize` refused, and any secret: a patch cannot hand one on.
pub(super) fn decode<T: DeserializeOwned>(tree: Tree) -> Result<T, String> {
    if tree.holds_secret() {
        return Err("a secret cannot become a result".to_owned());
    }
    from_tree(tree).map_err(|error| error.to_string())
}
