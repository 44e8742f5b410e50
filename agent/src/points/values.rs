//! Arguments to trees and trees to results.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

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

/// The most texts that are kept for the life of the process, and the longest of them, in bytes.
const MAX_STATIC: usize = 256;
const MAX_STATIC_LEN: usize = 1024;

/// The text that an error is made of.
///
/// # Errors
/// It is something else.
pub(super) fn text(tree: Tree) -> Result<String, String> {
    match tree {
        Tree::Str(text) => Ok(text),
        other => Err(format!("the `Err` of this function is made of a text, not of {}", other.kind())),
    }
}

/// The same for a text that must live as long as the process: each is kept once, and not more than a few.
///
/// # Errors
/// Likewise; and if it is too long, or one too many.
pub(super) fn static_text(tree: Tree) -> Result<&'static str, String> {
    static KEPT: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let text = text(tree)?;
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = kept.get(text.as_str()) {
        return Ok(known);
    }
    if MAX_STATIC <= kept.len() || MAX_STATIC_LEN < text.len() {
        return Err(format!(
            "the `Err` of this function is a text that lives as long as the process: at most {MAX_STATIC} of \
             {MAX_STATIC_LEN} bytes are made"
        ));
    }
    let text: &'static str = Box::leak(text.into_boxed_str());
    kept.insert(text);
    Ok(text)
}
