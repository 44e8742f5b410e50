//! Names of Rhai's types, in words.

use std::any::type_name;

use crate::convert::{BigInteger, OpaqueSecret, UnreadableLeaf};
use crate::handle::PathHandle;
use crate::values::Message;

/// A Rhai type in words, by its name in Rust or in Rhai.
pub fn in_words(kind: &str) -> &str {
    match kind {
        "i64" | "integer" => "an integer",
        "f64" => "a number",
        "bool" => "a truth value",
        "char" => "a character",
        "string" | "text" | "&str | ImmutableString | String" => "text",
        "array" => "a list",
        "map" => "a map",
        "()" => "nothing",
        "Fn" => "a function",
        "state" => "a list or map of a state",
        "secret" => "a secret",
        "unreadable" => "a value that cannot be shown",
        "range" | "range=" => "a range",
        kind if kind == type_name::<PathHandle>() => "a list or map of a state",
        kind if kind == type_name::<OpaqueSecret>() => "a secret",
        kind if kind == type_name::<UnreadableLeaf>() => "a value that cannot be shown",
        kind if kind == type_name::<BigInteger>() => "an integer",
        kind if kind == type_name::<Message>() => "text",
        kind if kind.contains("Range") => "a range",
        kind if kind.contains("ImmutableString") || kind.ends_with("::String") => "text",
        other => other,
    }
}

/// The name and the argument types, in words, of a signature such as `foo (i64)` or `* (&str | ImmutableString | String, i64)`.
pub fn signature(text: &str) -> (&str, Vec<String>) {
    let (name, types) = text.split_once(' ').unwrap_or((text, ""));
    let types = types.replace("&str | ImmutableString | String", "string");
    let types = types
        .strip_prefix('(')
        .and_then(|types| types.strip_suffix(')'))
        .unwrap_or_default();
    let words = types
        .split(", ")
        .filter(|kind| !kind.is_empty())
        .map(|kind| in_words(kind).to_owned());
    (name, words.collect())
}

/// Name of `type_of` in parsed code. Rhai's own `type_of` cannot be overridden and does not know handles.
pub const TYPE_OF: &str = "type_of=";

/// The name of a function as typed in code.
pub fn typed(name: &str) -> &str {
    if name == TYPE_OF { "type_of" } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_told_in_words() {
        assert_eq!(
            signature("+ (i64, ())"),
            ("+", vec!["an integer".to_owned(), "nothing".to_owned()])
        );
        assert_eq!(signature("f ()"), ("f", Vec::new()));
        let kinds = format!(
            "f ({}, {})",
            type_name::<PathHandle>(),
            type_name::<OpaqueSecret>()
        );
        let words = ["a list or map of a state", "a secret"]
            .map(str::to_owned)
            .to_vec();
        assert_eq!(signature(&kinds), ("f", words));
        assert_eq!(
            signature("* (&str | ImmutableString | String, i64)").1,
            ["text", "an integer"]
        );
    }
}
