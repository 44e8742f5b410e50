use ::http::header::CONTENT_TYPE;
use ::http::request::Parts;
use ::http::{HeaderMap, HeaderValue};
use axum::extract::RawPathParams;
use percent_encoding::percent_decode_str;

use debug_base::Tree;
use debug_points::encode;

/// The request as a patch sees it: `{method, path, params, query, headers, body}`.
///
/// `path` is as it came, without the query. `params`, `query` and `headers` map names to strings; header names are in
/// lower case. A name that occurs more than once in `query` or `headers` maps to a list of strings in order. A header's
/// value is secret if `is_opaque` is true for its name or the service marked the value as sensitive.
///
/// `body` is `()` if the patch does not mention it or it is empty; a value if the content type is JSON and it parses;
/// else a string if it is UTF-8; else a list of bytes.
pub(crate) fn tree(
    parts: &Parts,
    params: Option<&RawPathParams>,
    body: Option<&[u8]>,
    is_opaque: impl Fn(&str) -> bool,
) -> Tree {
    let params = params
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.to_owned(), Tree::Str(value.to_owned())));
    let entry = |key: &str, value| (key.to_owned(), value);
    Tree::Map(vec![
        entry("method", Tree::Str(parts.method.as_str().to_owned())),
        entry("path", Tree::Str(parts.uri.path().to_owned())),
        entry("params", Tree::Map(params.collect())),
        entry("query", query(parts.uri.query().unwrap_or_default())),
        entry("headers", headers(&parts.headers, is_opaque)),
        entry(
            "body",
            body.map_or(Tree::Null, |bytes| body_tree(&parts.headers, bytes)),
        ),
    ])
}

/// Parses a query in form encoding: pairs separated by `&`, `+` for a space, percent-encoded UTF-8.
fn query(query: &str) -> Tree {
    let decode = |text: &str| {
        percent_decode_str(&text.replace('+', " "))
            .decode_utf8_lossy()
            .into_owned()
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    collect(pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), Tree::Str(decode(value)))
    }))
}

fn headers(headers: &HeaderMap, is_opaque: impl Fn(&str) -> bool) -> Tree {
    collect(headers.iter().map(|(name, value)| {
        let text = Tree::Str(String::from_utf8_lossy(value.as_bytes()).into_owned());
        let secret = value.is_sensitive() || is_opaque(name.as_str());
        (
            name.as_str().to_owned(),
            if secret {
                Tree::Secret(Box::new(text))
            } else {
                text
            },
        )
    }))
}

/// Makes a map in the order of first occurrence; repeated names become lists.
fn collect(pairs: impl Iterator<Item = (String, Tree)>) -> Tree {
    let mut order = Vec::new();
    let mut values = std::collections::HashMap::<String, Vec<Tree>>::new();
    for (name, value) in pairs {
        let known = values.entry(name.clone()).or_default();
        if known.is_empty() {
            order.push(name);
        }
        known.push(value);
    }
    let entries = order.into_iter().map(|name| {
        let mut found = values.remove(&name).unwrap_or_default();
        let value = if found.len() == 1 {
            found.swap_remove(0)
        } else {
            Tree::Seq(found)
        };
        (name, value)
    });
    Tree::Map(entries.collect())
}

fn body_tree(headers: &HeaderMap, bytes: &[u8]) -> Tree {
    if bytes.is_empty() {
        return Tree::Null;
    }
    let json = headers
        .get(CONTENT_TYPE)
        .is_some_and(is_json)
        .then(|| serde_json::from_slice::<serde_json::Value>(bytes));
    if let Some(tree) = json.and_then(Result::ok).and_then(|value| encode(&value).ok()) {
        return tree;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Tree::Str(text.to_owned()),
        Err(_) => Tree::Seq(bytes.iter().map(|byte| Tree::I64(i64::from(*byte))).collect()),
    }
}

/// Whether it is `application/json` or a type that ends in `+json` (RFC 6839, section 3.1).
fn is_json(content_type: &HeaderValue) -> bool {
    let Ok(text) = content_type.to_str() else {
        return false;
    };
    let essence = text
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}
