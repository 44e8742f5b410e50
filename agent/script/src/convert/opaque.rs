use std::fmt;
use std::sync::Arc;

use rhai::{Dynamic, EvalAltResult, FuncRegistration, ImmutableString, Module, Position};

use super::UnreadableLeaf;
use crate::ScriptResult;
use debug_base::{Path, Tree};
use debug_state::{Origin, same_in_constant_time};

/// An integer above `i64::MAX`. A script can show it, compare it with another one, and write it. Rhai has no integer of that
/// size, and a float would change the number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BigInteger(pub u64);

impl fmt::Display for BigInteger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A secret in a script. It can be shown as a fingerprint, compared with another secret, and written back to its own path.
/// Every other use is an error that names it.
#[derive(Clone)]
pub struct OpaqueSecret {
    /// Where the value came from.
    pub origin: Origin,
    /// 8 hex digits, under a key that is new on each start.
    pub fingerprint: String,
    /// The value, without its mark.
    pub value: Arc<Tree>,
    /// For a value that is opaque only because it contains a known secret: the explanation.
    pub like: Option<String>,
}

/// A value that can be shown, and refuses every other use that is not registered.
pub trait Opaque: fmt::Display + Clone + Send + Sync + 'static {
    /// The error for every other use.
    fn refuse(&self) -> Box<EvalAltResult>;
}

impl Opaque for OpaqueSecret {
    fn refuse(&self) -> Box<EvalAltResult> {
        let message = match (reveal(&self.origin), &self.like) {
            (None, _) => {
                "a secret argument can only be shown, compared with another secret, and passed on as it is"
                    .to_owned()
            }
            (Some(reveal), Some(like)) => format!(
                "{} can only be shown, compared with a secret, and written back to its own path: {like}; \
                 {reveal} needs action reveal",
                self.origin
            ),
            (Some(reveal), None) => format!(
                "the secret of {} can only be shown, compared with another secret, and written back to its own path; \
                 {reveal} needs action reveal",
                self.origin
            ),
        };
        Box::new(EvalAltResult::ErrorRuntime(message.into(), Position::NONE))
    }
}

impl PartialEq for OpaqueSecret {
    fn eq(&self, other: &Self) -> bool {
        same_in_constant_time(&self.value, &other.value)
    }
}

impl fmt::Display for OpaqueSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = &self.fingerprint;
        match (reveal(&self.origin), &self.like) {
            (None, _) => write!(f, "‹secret {mark}…, an argument›"),
            (Some(reveal), Some(like)) => write!(f, "‹secret {mark}…: {like}; {reveal} needs action reveal›"),
            (Some(reveal), None) => write!(f, "‹secret {mark}…, {reveal} needs action reveal›"),
        }
    }
}

impl fmt::Debug for OpaqueSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Adds to each secret in a value why it is opaque, if it is not a secret in its own right.
pub fn tell_alike(value: &mut Dynamic, why: &dyn Fn(&Path) -> Option<String>) {
    if let Some(mut secret) = value.write_lock::<OpaqueSecret>() {
        secret.like = secret.origin.path().and_then(why);
        return;
    }
    if let Some(mut items) = value.write_lock::<rhai::Array>() {
        return items.iter_mut().for_each(|item| tell_alike(item, why));
    }
    if let Some(mut entries) = value.write_lock::<rhai::Map>() {
        entries.values_mut().for_each(|value| tell_alike(value, why));
    }
}

/// The call that reveals a value in a state; `None` for other origins.
fn reveal(origin: &Origin) -> Option<String> {
    origin
        .path()
        .map(|path| format!("reveal({})", serde_json::Value::from(path.to_string())))
}

/// Operators that Rhai would evaluate for values of different types (`secret == "a"` would be `false`), or refuse without
/// naming the secret.
const OPERATORS: [&str; 28] = [
    "+", "-", "*", "/", "%", "**", "<<", ">>", "&", "|", "^", "<", "<=", ">", ">=", "..", "..=", "+=", "-=",
    "*=", "/=", "%=", "**=", "<<=", ">>=", "&=", "|=", "^=",
];

/// Functions of text and numbers that operators are likely to try on a secret.
const OF_ONE: [&str; 16] = [
    "len",
    "is_empty",
    "bytes",
    "chars",
    "to_chars",
    "to_blob",
    "to_upper",
    "to_lower",
    "make_upper",
    "make_lower",
    "trim",
    "split",
    "parse_int",
    "parse_float",
    "to_json",
    "!",
];
const OF_TWO: [&str; 11] = [
    "contains",
    "starts_with",
    "ends_with",
    "index_of",
    "sub_string",
    "split",
    "split_rev",
    "crop",
    "chars",
    "get",
    "remove",
];
const OF_THREE: [&str; 5] = ["sub_string", "replace", "split", "crop", "index_of"];

/// Registers the behaviour of opaque secrets and big integers. Without this, an engine shows no secret either, but evaluates
/// some comparisons instead of refusing them.
pub fn register_types(module: &mut Module) {
    module.set_custom_type::<OpaqueSecret>("secret");
    module.set_custom_type::<BigInteger>("integer");
    register_equality(module);
    register_refusals::<OpaqueSecret>(module);
    register_unreadable(module);
    for name in ["to_string", "to_debug", "print", "debug"] {
        shown::<OpaqueSecret>(module, name);
        shown::<UnreadableLeaf>(module, name);
        shown::<BigInteger>(module, name);
    }
}

fn register_equality(module: &mut Module) {
    module.set_native_fn("==", |a: OpaqueSecret, b: OpaqueSecret| compare(&a, &b));
    module.set_native_fn("!=", |a: OpaqueSecret, b: OpaqueSecret| {
        compare(&a, &b).map(|same| !same)
    });
    for name in ["==", "!="] {
        module.set_native_fn(name, |a: OpaqueSecret, _: Dynamic| -> ScriptResult<bool> {
            Err(a.refuse())
        });
        module.set_native_fn(name, |_: Dynamic, b: OpaqueSecret| -> ScriptResult<bool> {
            Err(b.refuse())
        });
    }
    module.set_native_fn("==", |a: BigInteger, b: BigInteger| ScriptResult::Ok(a == b));
    module.set_native_fn("!=", |a: BigInteger, b: BigInteger| ScriptResult::Ok(a != b));
}

/// Compares two secrets of the service, or two arguments. Comparing an argument with a secret of the service is refused: it
/// would be a guess, and the log contains only a commitment to the argument.
pub fn compare(a: &OpaqueSecret, b: &OpaqueSecret) -> ScriptResult<bool> {
    match a.origin.is_given() == b.origin.is_given() {
        true => Ok(a == b),
        false => {
            Err("a secret of the service is not compared with an argument: that would be guessing".into())
        }
    }
}

/// Registers refusals: an unreadable value is neither equal nor unequal to any value.
fn register_unreadable(module: &mut Module) {
    module.set_custom_type::<UnreadableLeaf>("unreadable");
    register_refusals::<UnreadableLeaf>(module);
    for name in ["==", "!="] {
        module.set_native_fn(
            name,
            |a: UnreadableLeaf, _: UnreadableLeaf| -> ScriptResult<bool> { Err(a.refuse()) },
        );
        module.set_native_fn(name, |a: UnreadableLeaf, _: Dynamic| -> ScriptResult<bool> {
            Err(a.refuse())
        });
        module.set_native_fn(name, |_: Dynamic, b: UnreadableLeaf| -> ScriptResult<bool> {
            Err(b.refuse())
        });
    }
}

fn register_refusals<T: Opaque>(module: &mut Module) {
    for name in OPERATORS {
        refuse_operator::<T>(module, name);
    }
    for name in OF_ONE {
        module.set_native_fn(name, |a: T| -> ScriptResult<Dynamic> { Err(a.refuse()) });
    }
    for name in OF_TWO {
        module.set_native_fn(name, |a: T, _: Dynamic| -> ScriptResult<Dynamic> {
            Err(a.refuse())
        });
    }
    for name in OF_THREE {
        let refuse = |a: T, _: Dynamic, _: Dynamic| -> ScriptResult<Dynamic> { Err(a.refuse()) };
        module.set_native_fn(name, refuse);
    }
}

fn refuse_operator<T: Opaque>(module: &mut Module, name: &str) {
    module.set_native_fn(name, |a: T, _: T| -> ScriptResult<Dynamic> { Err(a.refuse()) });
    module.set_native_fn(name, |a: T, _: Dynamic| -> ScriptResult<Dynamic> {
        Err(a.refuse())
    });
    module.set_native_fn(name, |_: Dynamic, b: T| -> ScriptResult<Dynamic> {
        Err(b.refuse())
    });
    // Text concatenation would otherwise use the placeholder as if it were the value.
    module.set_native_fn(name, |_: ImmutableString, b: T| -> ScriptResult<Dynamic> {
        Err(b.refuse())
    });
    module.set_native_fn(name, |a: T, _: ImmutableString| -> ScriptResult<Dynamic> {
        Err(a.refuse())
    });
}

fn shown<T: fmt::Display + Clone + Send + Sync + 'static>(module: &mut Module, name: &str) {
    let show = |value: &mut T| -> ImmutableString { value.to_string().into() };
    FuncRegistration::new(name)
        .with_purity(true)
        .set_into_module(module, show);
}
