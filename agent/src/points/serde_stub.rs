//! Arguments to trees and trees to results.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Number, Value};

use crate::state::Tree;

/// The value as a tree.
///
/// # Errors
/// What the value's own `Serialize` refused.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Tree, String> {
    serde_json::to_value(value).map(tree).map_err(|error| error.to_string())
}

/// The value that a tree describes.
///
/// # Errors
/// What the value's own `Deserialize` refused, and any secret: its placeholder must not become a value.
pub(super) fn decode<T: DeserializeOwned>(tree: Tree) -> Result<T, String> {
    serde_json::from_value(value(tree)?).map_err(|error| error.to_string())
}

fn tree(value: Value) -> Tree {
    match value {
        Value::Null => Tree::Null,
        Value::Bool(value) => Tree::Bool(value),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(value), _, _) => Tree::I64(value),
            (None, Some(value), _) => Tree::U64(value),
            (None, None, value) => value.map_or(Tree::Null, Tree::F64),
        },
        Value::String(text) => Tree::Str(text),
        Value::Array(items) => Tree::Seq(items.into_iter().map(tree).collect()),
        Value::Object(map) => Tree::Map(map.into_iter().map(|(key, value)| (key, tree(value))).collect()),
    }
}

fn value(tree: Tree) -> Result<Value, String> {
    Ok(match tree {
        Tree::Null => Value::Null,
        Tree::Bool(value) => Value::Bool(value),
        Tree::I64(value) => Value::from(value),
        Tree::U64(value) => Value::from(value),
        Tree::F64(value) => Number::from_f64(value).map_or(Value::Null, Value::Number),
        Tree::Str(text) => Value::String(text),
        Tree::Seq(items) => Value::Array(items.into_iter().map(value).collect::<Result<_, _>>()?),
        Tree::Map(entries) => Value::Object(
            entries.into_iter().map(|(key, tree)| Ok((key, value(tree)?))).collect::<Result<_, String>>()?,
        ),
        Tree::Secret(_) => return Err("a secret cannot become a result".to_owned()),
    })
}
