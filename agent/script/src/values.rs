//! Script values other than those of states: arguments, bound secrets, texts, sizes.

use std::sync::Arc;

use rhai::{Dynamic, Map};

use crate::ScriptResult;
use crate::convert::{self, BigInteger, Opaque as _, OpaqueSecret, UnreadableLeaf, display};
use crate::meter::MAX_ITEMS;
use debug_base::Tree;
use debug_state::{Keyed, Origin};

/// An argument of an eval or of a patched point. Its secrets become opaque and belong to no state.
pub fn argument(tree: Tree) -> Dynamic {
    match tree {
        Tree::Null => Dynamic::UNIT,
        Tree::Bool(value) => value.into(),
        Tree::I64(value) => value.into(),
        Tree::U64(value) => Dynamic::from(BigInteger(value)),
        Tree::F64(value) => value.into(),
        Tree::Str(text) => text.into(),
        Tree::Seq(items) => Dynamic::from_array(items.into_iter().map(argument).collect()),
        Tree::Map(entries) => Dynamic::from_map(
            entries
                .into_iter()
                .map(|(k, v)| (k.into(), argument(v)))
                .collect::<Map>(),
        ),
        Tree::Secret(inner) => Dynamic::from(OpaqueSecret {
            origin: Origin::Call,
            fingerprint: "of the caller".to_owned(),
            value: Arc::new(*inner),
            like: None,
        }),
        Tree::Unreadable(leaf) => Dynamic::from(UnreadableLeaf {
            origin: Origin::Call,
            leaf,
        }),
    }
}

/// A value that the operator bound as secret: opaque, but it may be written to a path of the operator's choice.
pub fn bound_secret(name: &str, value: &str, keyed: &Keyed) -> Dynamic {
    let tree = Tree::Str(value.to_owned());
    Dynamic::from(OpaqueSecret {
        origin: Origin::Argument(name.to_owned()),
        // Its fingerprint differs from that of an equal secret of a state: the argument could be a guess.
        fingerprint: keyed.fingerprint(&Tree::Seq(vec![Tree::Str("argument".to_owned()), tree.clone()])),
        value: Arc::new(tree),
        like: None,
    })
}

/// The marked value behind [`bound_secret`]; `None` for any other value.
pub fn bound(value: &Dynamic) -> Option<Tree> {
    let secret = value.read_lock::<OpaqueSecret>()?;
    let is_bound = matches!(secret.origin, Origin::Argument(_));
    is_bound.then(|| Tree::Secret(Box::new(secret.value.as_ref().clone())))
}

/// A sentence from a host function to the operator: shown verbatim, while text of the service is shown in quotes.
#[derive(Clone, Debug)]
pub struct Message(String);

impl std::fmt::Display for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A sentence as a script value.
pub fn message(text: impl Into<String>) -> Dynamic {
    Dynamic::from(Message(text.into()))
}

/// The sentence in a value; `None` for other values.
pub fn message_text(value: &Dynamic) -> Option<String> {
    value.read_lock::<Message>().map(|sentence| sentence.0.clone())
}

/// Registers how sentences are shown.
pub fn register(module: &mut rhai::Module) {
    module.set_custom_type::<Message>("text");
    for name in ["to_string", "to_debug"] {
        rhai::FuncRegistration::new(name)
            .set_into_module(module, |sentence: &mut Message| sentence.0.clone());
    }
}

/// A secret in the clear, for the effect that may show it.
pub fn revealed(tree: &Tree) -> Dynamic {
    argument(tree.without_mark().clone())
}

/// The text of a value inserted into a string.
///
/// # Errors
/// The value is a secret or unreadable.
pub fn text(value: &Dynamic) -> Result<String, String> {
    if let Some(secret) = value.read_lock::<OpaqueSecret>() {
        return Err(format!("{} cannot be put into a text", *secret));
    }
    if let Some(leaf) = value.read_lock::<UnreadableLeaf>() {
        return Err(format!("{} cannot be put into a text", *leaf));
    }
    if value.is_string() {
        return value
            .clone()
            .into_string()
            .map_err(|kind| format!("a {kind} is no text"));
    }
    if let Some(sentence) = message_text(value) {
        return Ok(sentence);
    }
    if let Ok(character) = value.as_char() {
        return Ok(character.to_string());
    }
    Ok(display(value))
}

/// Checks that a value can be compared. An unreadable value is neither equal nor unequal to any value.
///
/// # Errors
/// The value is unreadable.
pub fn comparable(value: &Dynamic) -> Result<(), Box<rhai::EvalAltResult>> {
    value
        .read_lock::<UnreadableLeaf>()
        .map_or(Ok(()), |leaf| Err(leaf.refuse()))
}

/// Whether two values other than lists and maps are equal. Values of different kinds are unequal, except numbers, and a
/// character and a text of one character.
///
/// # Errors
/// Only one is a secret, or they are secrets of different kinds: the answer would confirm or refute a guess.
pub fn same_scalar(a: &Dynamic, b: &Dynamic) -> ScriptResult<bool> {
    match (a.read_lock::<OpaqueSecret>(), b.read_lock::<OpaqueSecret>()) {
        (Some(a), Some(b)) => return convert::compare(&a, &b),
        (Some(secret), None) | (None, Some(secret)) => return Err(secret.refuse()),
        (None, None) => {}
    }
    Ok(same_plain(a, b))
}

fn same_plain(a: &Dynamic, b: &Dynamic) -> bool {
    if let (Some(a), Some(b)) = (a.read_lock::<BigInteger>(), b.read_lock::<BigInteger>()) {
        return *a == *b;
    }
    let number = |v: &Dynamic| v.as_float().ok().or_else(|| v.as_int().ok().map(float));
    if let (Ok(a), Ok(b)) = (a.as_int(), b.as_int()) {
        return a == b;
    }
    if let (Some(a), Some(b)) = (number(a), number(b)) {
        return a.total_cmp(&b).is_eq();
    }
    let text = |v: &Dynamic| {
        v.clone()
            .into_string()
            .ok()
            .or_else(|| v.as_char().ok().map(String::from))
    };
    match (text(a), text(b)) {
        (Some(a), Some(b)) => return a == b,
        (None, None) => {}
        _ => return false,
    }
    a.is_unit() && b.is_unit() || matches!((a.as_bool(), b.as_bool()), (Ok(a), Ok(b)) if a == b)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "comparing an integer with a float is Rhai's own rule"
)]
fn float(value: i64) -> f64 {
    value as f64
}

/// Approximate size of a value in bytes.
pub fn size(value: &Dynamic) -> usize {
    const EACH: usize = 32;
    if value.is_locked() {
        return EACH;
    }
    if let Some(items) = value.read_lock::<rhai::Array>() {
        return EACH + items.iter().map(size).sum::<usize>();
    }
    if let Some(entries) = value.read_lock::<Map>() {
        return EACH + entries.iter().map(|(k, v)| k.len() + size(v)).sum::<usize>();
    }
    if let Some(secret) = value.read_lock::<OpaqueSecret>() {
        return EACH + secret.fingerprint.len();
    }
    EACH + value.as_immutable_string_ref().map_or(0, |text| text.len())
}

/// Upper bound on the bytes created with a value: computed for a small value, for any other that of the largest.
pub fn size_at_most(value: &Dynamic) -> usize {
    const SMALL: usize = 64;
    const EACH: usize = 64;
    if let Ok(text) = value.as_immutable_string_ref() {
        return EACH + text.len();
    }
    fn count(value: &Dynamic, left: &mut usize) {
        *left = left.saturating_sub(1);
        if *left == 0 || value.is_locked() {
        } else if let Some(items) = value.read_lock::<rhai::Array>() {
            items.iter().take(SMALL).for_each(|item| count(item, left));
        } else if let Some(entries) = value.read_lock::<Map>() {
            entries.values().take(SMALL).for_each(|value| count(value, left));
        }
    }
    let mut left = SMALL;
    count(value, &mut left);
    if left == 0 {
        MAX_ITEMS * EACH
    } else {
        (SMALL - left) * EACH
    }
}
