//! Converts between trees and the values of scripts.
//!
//! This is a walk of our own: Rhai's silently turns large integers into floats and functions into text.

mod opaque;
mod show;
#[cfg(test)]
mod tests;
mod unreadable;

use std::sync::Arc;

use rhai::{Dynamic, Map};

pub use opaque::{BigInteger, Opaque, OpaqueSecret, compare, register_types, tell_alike};
pub use show::{display, to_json};
pub use unreadable::UnreadableLeaf;

use debug_base::{Path, Tree};
use debug_state::Keyed;

/// Maximum nesting depth of a value given by a script.
const MAX_DEPTH: usize = 64;

/// Maximum number of values in a value given by a script; as many as in a state.
const MAX_ENTRIES: usize = 10_000;

/// Maximum size of text in a value given by a script: 1 MiB, as in a state.
const MAX_BYTES: usize = 1024 * 1024;

/// The script's copy of `tree`, which is at `path` of a state. Secrets become opaque values that know their path.
pub fn to_dynamic(tree: &Tree, path: &Path, keyed: &Keyed) -> Dynamic {
    match tree {
        Tree::Null => Dynamic::UNIT,
        Tree::Bool(value) => (*value).into(),
        Tree::I64(value) => (*value).into(),
        Tree::U64(value) => Dynamic::from(BigInteger(*value)),
        Tree::F64(value) => (*value).into(),
        Tree::Str(text) => text.as_str().into(),
        Tree::Seq(items) => {
            let items = items.iter().enumerate();
            let items = items.map(|(index, item)| to_dynamic(item, &path.child(&index.to_string()), keyed));
            Dynamic::from_array(items.collect())
        }
        Tree::Map(entries) => {
            let entries = entries.iter();
            let entry = |(key, value): &(String, Tree)| {
                (key.as_str().into(), to_dynamic(value, &path.child(key), keyed))
            };
            Dynamic::from_map(entries.map(entry).collect::<Map>())
        }
        Tree::Secret(inner) => Dynamic::from(OpaqueSecret {
            origin: path.into(),
            fingerprint: keyed.fingerprint(inner),
            value: Arc::new(inner.as_ref().clone()),
            like: None,
        }),
        Tree::Unreadable(leaf) => Dynamic::from(UnreadableLeaf {
            origin: path.into(),
            leaf: leaf.clone(),
        }),
    }
}

/// Why a script's value cannot be stored or returned.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConvertError {
    /// A function, a time, a range or an object of the agent.
    #[error("{place}{what} cannot be stored; only data can: text, numbers, truth values, lists and maps")]
    NoData {
        /// Where it is in the value.
        place: ArgumentPlace,
        /// What it is.
        what: String,
    },
    /// NaN or an infinity.
    #[error("{0}a number that is not finite cannot be stored")]
    NotFinite(ArgumentPlace),
    /// A limit was reached.
    #[error("the value is {0}; store it in parts")]
    TooLarge(String),
    /// A captured variable that is in use by the current operation.
    #[error("{0}the variable is in use by another part of the script")]
    InUse(ArgumentPlace),
    /// A secret argument would become part of a value.
    #[error("a secret argument cannot be part of a value or an answer")]
    SecretArgument,
    /// A secret would be written to another path.
    #[error(
        "the secret of `{0}` can only be written back to its own path; `reveal(\"{0}\")` needs action reveal"
    )]
    SecretMoved(Path),
    /// An unreadable value cannot be written elsewhere.
    #[error("{0}")]
    Unreadable(String),
}

/// Position within a script's value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ArgumentPlace(Path);

impl std::fmt::Display for ArgumentPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.0.is_empty() {
            Ok(())
        } else {
            write!(f, "at `{}`: ", self.0)
        }
    }
}

/// The tree of a script's value, to be written at `target` or to leave the script otherwise (`None`).
///
/// Shared variables are copied. An opaque secret is accepted only at its own path.
///
/// # Errors
/// The value contains a function, a time, a range or an object of the agent, or a number that is not finite. It exceeds 64
/// levels, 10,000 values or 1 MiB of text. It contains a secret or an unreadable value outside of its own path.
pub fn from_dynamic(value: Dynamic, target: Option<&Path>) -> Result<Tree, ConvertError> {
    let place = target.cloned().unwrap_or(Path(Vec::new()));
    Walk {
        is_target: target.is_some(),
        place,
        entries: 0,
        bytes: 0,
    }
    .tree(&value)
}

struct Walk {
    is_target: bool,
    place: Path,
    entries: usize,
    bytes: usize,
}

impl Walk {
    fn tree(&mut self, value: &Dynamic) -> Result<Tree, ConvertError> {
        self.count(0)?;
        if value.is_shared() {
            // Waiting for another part of the same script would be a deadlock.
            if value.is_locked() {
                return Err(ConvertError::InUse(self.place()));
            }
            return self.tree(&value.flatten_clone());
        }
        if let Some(leaf) = self.leaf(value)? {
            return Ok(leaf);
        }
        if let Ok(bytes) = value.as_blob_ref() {
            self.entries = self.entries.saturating_add(bytes.len());
            self.count(0)?;
            return Ok(Tree::Seq(
                bytes.iter().map(|byte| Tree::I64((*byte).into())).collect(),
            ));
        }
        if let Ok(items) = value.as_array_ref() {
            let items = items.iter().enumerate();
            return items
                .map(|(index, item)| self.below(index.to_string(), item))
                .collect::<Result<_, _>>()
                .map(Tree::Seq);
        }
        if let Ok(entries) = value.as_map_ref() {
            let mut tree = Vec::new();
            for (key, value) in entries.iter() {
                self.count(key.len())?;
                tree.push((key.to_string(), self.below(key.to_string(), value)?));
            }
            return Ok(Tree::Map(tree));
        }
        Err(ConvertError::NoData {
            place: self.place(),
            what: named(value),
        })
    }

    fn leaf(&mut self, value: &Dynamic) -> Result<Option<Tree>, ConvertError> {
        // Most common kind first.
        if value.is_int() {
            return Ok(value.as_int().ok().map(Tree::I64));
        }
        if let Some(secret) = value.read_lock::<OpaqueSecret>() {
            let home = self.is_target && secret.origin.path() == Some(&self.place);
            return if home {
                Ok(Some(Tree::Secret(Box::new(secret.value.as_ref().clone()))))
            } else {
                Err(match secret.origin.path() {
                    None => ConvertError::SecretArgument,
                    Some(path) => ConvertError::SecretMoved(path.clone()),
                })
            };
        }
        if let Some(big) = value.read_lock::<BigInteger>() {
            return Ok(Some(Tree::U64(big.0)));
        }
        if let Some(unreadable) = value.read_lock::<UnreadableLeaf>() {
            let home = self.is_target && unreadable.origin.path() == Some(&self.place);
            return if home {
                Ok(Some(Tree::Unreadable(unreadable.leaf.clone())))
            } else {
                Err(ConvertError::Unreadable(unreadable.why()))
            };
        }
        if let Ok(text) = value.as_immutable_string_ref() {
            self.count(text.len())?;
            return Ok(Some(Tree::Str(text.as_str().to_owned())));
        }
        if let Ok(float) = value.as_float() {
            let finite = float.is_finite().then_some(Tree::F64(float));
            return finite
                .map(Some)
                .ok_or_else(|| ConvertError::NotFinite(self.place()));
        }
        let unit = value.as_unit().map(|()| Tree::Null);
        let plain = unit.or_else(|_| value.as_bool().map(Tree::Bool));
        Ok(plain
            .or_else(|_| value.as_char().map(|char| Tree::Str(char.to_string())))
            .ok())
    }

    fn below(&mut self, segment: String, value: &Dynamic) -> Result<Tree, ConvertError> {
        self.place.0.push(segment);
        if MAX_DEPTH < self.place.0.len() {
            return Err(ConvertError::TooLarge(format!(
                "nested deeper than {MAX_DEPTH} levels"
            )));
        }
        let tree = self.tree(value)?;
        self.place.0.pop();
        Ok(tree)
    }

    fn count(&mut self, bytes: usize) -> Result<(), ConvertError> {
        // A text counts as one value more than it should; the exact number does not matter.
        self.entries += usize::from(bytes == 0);
        self.bytes = self.bytes.saturating_add(bytes);
        if MAX_ENTRIES < self.entries {
            return Err(ConvertError::TooLarge(format!("more than {MAX_ENTRIES} values")));
        }
        if MAX_BYTES < self.bytes {
            return Err(ConvertError::TooLarge(format!(
                "more than {MAX_BYTES} bytes of text"
            )));
        }
        Ok(())
    }

    fn place(&self) -> ArgumentPlace {
        ArgumentPlace(self.place.clone())
    }
}

/// Whether two values are identical, including their types. Secrets are identical only if they share origin and value.
pub fn identical(a: &Dynamic, b: &Dynamic) -> bool {
    if let (Some(a), Some(b)) = (a.read_lock::<OpaqueSecret>(), b.read_lock::<OpaqueSecret>()) {
        return a.origin == b.origin && Arc::ptr_eq(&a.value, &b.value);
    }
    let (a, b) = (a.flatten_clone(), b.flatten_clone());
    match (from_dynamic(a, None), from_dynamic(b, None)) {
        (Ok(Tree::F64(a)), Ok(Tree::F64(b))) => a.to_bits() == b.to_bits(),
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

/// The kind of a script's value, in words for an error.
pub fn kind(value: &Dynamic) -> String {
    if value.is_string() {
        "text".to_owned()
    } else if value.is_int() || value.is::<BigInteger>() {
        "an integer".to_owned()
    } else if value.is_float() {
        "a number".to_owned()
    } else if value.is_bool() {
        "a truth value".to_owned()
    } else if value.is_char() {
        "a character".to_owned()
    } else if value.is_array() {
        "a list".to_owned()
    } else if value.is_map() {
        "a map".to_owned()
    } else if value.is_unit() {
        "nothing".to_owned()
    } else if value.is::<OpaqueSecret>() {
        "a secret".to_owned()
    } else {
        named(value)
    }
}

/// The kind of a value that is not data.
fn named(value: &Dynamic) -> String {
    if let Some(path) = crate::handle::path_of(value) {
        format!("the live `{path}` (`get(\"{path}\")` is a copy)")
    } else if value.is_fnptr() {
        "a function".to_owned()
    } else if value.is_timestamp() {
        "a moment in time".to_owned()
    } else if is_range(value) {
        "a range".to_owned()
    } else {
        "an object of the agent".to_owned()
    }
}

fn is_range(value: &Dynamic) -> bool {
    value.is::<std::ops::Range<rhai::INT>>() || value.is::<std::ops::RangeInclusive<rhai::INT>>()
}
