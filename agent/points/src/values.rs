//! Converts arguments to trees and trees to results.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use debug_base::{Limits, Tree, from_tree, to_tree};

/// An argument to be encoded for a patch.
pub struct Argument<'a, T>(pub &'a T);

/// An encoded argument, or the error of its own serde code.
pub struct Encoded(pub(crate) Result<Tree, String>);

/// The answer of a patch.
pub struct Answer(pub(crate) Tree);

/// Encodes a value as a tree. The content of a `Secret<T>` is marked, and opaque to the patch.
///
/// # Errors
/// The value's `Serialize` failed, or it is larger than 256 KiB.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Tree, String> {
    to_tree(value, &Limits::ARGUMENTS).map_err(|error| error.to_string())
}

/// Decodes a value from a tree.
///
/// # Errors
/// The value's `Deserialize` failed, or the tree contains a secret: a patch must not pass one on.
pub(crate) fn decode<T: DeserializeOwned>(tree: Tree) -> Result<T, String> {
    if tree.holds_secret() {
        return Err("a secret cannot become a result".to_owned());
    }
    from_tree(tree).map_err(|error| error.to_string())
}

/// Limits on texts kept for the life of the process: their number, and the length of each in bytes.
const MAX_STATIC: usize = 256;
const MAX_STATIC_LEN: usize = 1024;

/// The text from which an error is made.
///
/// # Errors
/// The tree is not text.
pub(crate) fn text(tree: Tree) -> Result<String, String> {
    match tree {
        Tree::Str(text) => Ok(text),
        other => Err(format!(
            "the `Err` of this function is made of a text, not of {}",
            other.kind()
        )),
    }
}

/// The text, kept for the life of the process. Equal texts are kept once; their number is limited.
///
/// # Errors
/// The tree is not text, the text is too long, or the limit is reached.
pub(crate) fn static_text(tree: Tree) -> Result<&'static str, String> {
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
