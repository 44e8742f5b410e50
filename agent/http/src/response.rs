use ::http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::body::Body;
use axum::response::Response;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use debug_base::{LiteralValue, Tree};

/// The text that replaces a secret.
const SECRET: &str = "‹secret›";

/// These have no body: clients take what follows for the next response (RFC 9110, sections 6.4.1 and 15.3.6).
const BODILESS: [StatusCode; 3] = [
    StatusCode::NO_CONTENT,
    StatusCode::RESET_CONTENT,
    StatusCode::NOT_MODIFIED,
];

const MEMBERS: [&str; 3] = ["status", "headers", "body"];

const STATUS: &str = "`status` is a number from 200 to 599";

const EXPECTED: &str = "a route's patch answers a map with `status`, `headers` and `body`";

/// Builds the response that a patch's answer describes.
///
/// The answer is `{status, headers, body}`; each may be missing. `status` is 200 to 599, by default 200. `headers` maps
/// names to strings or lists of strings; a patch cannot set the length or the transfer encoding. A `body` that is a
/// string is sent as `text/plain; charset=utf-8`, a map or list as `application/json`, unless `headers` has a
/// `content-type`; `()` is empty, as it must be for 204, 205 and 304. Secrets are written as `‹secret›`.
///
/// # Errors
/// What was found and what was expected.
pub(crate) fn from_tree(answer: Tree) -> Result<Response, String> {
    let Tree::Map(entries) = answer else {
        return Err(format!("{EXPECTED}, not {}", kind(&answer)));
    };
    let (mut status, mut headers, mut body) = (StatusCode::OK, HeaderMap::new(), (None, Body::empty()));
    for (key, value) in entries {
        match key.as_str() {
            "status" => status = status_code(&value)?,
            "headers" => headers = header_map(value)?,
            "body" => body = typed_body(value)?,
            other => return Err(unknown(other)),
        }
    }
    let (content_type, body) = body;
    if content_type.is_some() && BODILESS.contains(&status) {
        return Err(format!("a response with status {} has no body", status.as_u16()));
    }
    if let Some(content_type) = content_type {
        headers
            .entry(CONTENT_TYPE)
            .or_insert(HeaderValue::from_static(content_type));
    }
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

fn unknown(key: &str) -> String {
    let near = MEMBERS
        .into_iter()
        .find(|known| debug_base::distance(known, key) <= 2);
    let near = near
        .map(|near| format!("; did you mean `{near}`?"))
        .unwrap_or_default();
    format!("{EXPECTED}, and nothing else: it has `{key}`{near}")
}

/// Checks the parts of an answer that are known before the patch runs.
///
/// # Errors
/// What is wrong with the answer that the code gives.
pub fn check(answer: &LiteralValue) -> Result<(), String> {
    if let Some(tree) = answer.tree() {
        return from_tree(tree).map(drop);
    }
    let LiteralValue::Map(entries) = answer else {
        return Ok(());
    };
    for (key, value) in entries {
        match (key.as_str(), value, value.tree()) {
            ("status" | "headers" | "body", _, Some(tree)) => {
                from_tree(Tree::Map(vec![(key.clone(), tree)])).map(drop)?;
            }
            ("headers", LiteralValue::Map(headers), None) => {
                for (name, value) in headers {
                    // The name can be wrong even if the value is not known.
                    let value = value.tree().unwrap_or(Tree::Str(String::new()));
                    header_map(Tree::Map(vec![(name.clone(), value)]))?;
                }
            }
            ("status", LiteralValue::Map(_), None) => return Err(format!("{STATUS}, not a map")),
            ("status" | "headers" | "body", ..) => {}
            (other, ..) => return Err(unknown(other)),
        }
    }
    Ok(())
}

fn status_code(value: &Tree) -> Result<StatusCode, String> {
    let Tree::I64(number) = value else {
        return Err(format!("{STATUS}, not {}", kind(value)));
    };
    // 1xx announce another response, which would never come.
    let code = u16::try_from(*number)
        .ok()
        .filter(|code| (200..=599).contains(code));
    code.and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| format!("{STATUS}, not {number}"))
}

/// Headers about a single connection (RFC 9110, section 7.6.1), which the server manages.
const OF_THE_CONNECTION: [&str; 6] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
];

fn header_map(value: Tree) -> Result<HeaderMap, String> {
    let Tree::Map(entries) = value else {
        return Err(format!(
            "`headers` is a map from names to strings, not {}",
            kind(&value)
        ));
    };
    let mut headers = HeaderMap::new();
    for (key, value) in entries {
        let name =
            HeaderName::try_from(key.as_str()).map_err(|_| format!("`{key}` is not a header's name"))?;
        if name == CONTENT_LENGTH || name == TRANSFER_ENCODING {
            return Err(format!("header `{name}` follows from the body and cannot be set"));
        }
        if OF_THE_CONNECTION.contains(&name.as_str()) {
            return Err(format!(
                "header `{name}` is about the connection and cannot be set"
            ));
        }
        let values = if let Tree::Seq(values) = value {
            values
        } else {
            vec![value]
        };
        for value in values {
            let value = header_value(&name, &value)?;
            headers
                .try_append(name.clone(), value)
                .map_err(|_| "too many headers".to_owned())?;
        }
    }
    Ok(headers)
}

fn header_value(name: &HeaderName, value: &Tree) -> Result<HeaderValue, String> {
    let text = match value {
        Tree::Str(text) => text,
        Tree::Secret(_) => SECRET,
        other => {
            return Err(format!(
                "header `{name}` is a string or a list of strings, not {}",
                kind(other)
            ));
        }
    };
    HeaderValue::from_bytes(text.as_bytes()).map_err(|_| format!("header `{name}` holds a control character"))
}

/// The body, and its default content type.
fn typed_body(value: Tree) -> Result<(Option<&'static str>, Body), String> {
    const TEXT: &str = "text/plain; charset=utf-8";
    Ok(match value {
        Tree::Null => (None, Body::empty()),
        Tree::Str(text) => (Some(TEXT), Body::from(text)),
        Tree::Secret(_) => (Some(TEXT), Body::from(SECRET)),
        Tree::Map(_) | Tree::Seq(_) => {
            let json = serde_json::to_vec(&ShownTree(&value))
                .map_err(|error| format!("`body` is not JSON: {error}"))?;
            (Some("application/json"), Body::from(json))
        }
        other => {
            return Err(format!(
                "`body` is a string, a map, a list or `()`, not {}",
                kind(&other)
            ));
        }
    })
}

fn kind(tree: &Tree) -> &'static str {
    match tree {
        Tree::Null => "`()`",
        Tree::Bool(_) => "a truth value",
        Tree::I64(_) | Tree::U64(_) | Tree::F64(_) => "a number",
        Tree::Str(_) => "a string",
        Tree::Seq(_) => "a list",
        Tree::Map(_) => "a map",
        Tree::Secret(_) => "a secret",
        Tree::Unreadable(_) => "something unreadable",
    }
}

/// Serializes a tree with its secrets replaced.
struct ShownTree<'a>(&'a Tree);

impl Serialize for ShownTree<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Tree::Null => serializer.serialize_unit(),
            Tree::Bool(value) => serializer.serialize_bool(*value),
            Tree::I64(value) => serializer.serialize_i64(*value),
            Tree::U64(value) => serializer.serialize_u64(*value),
            Tree::F64(value) => serializer.serialize_f64(*value),
            Tree::Str(text) => serializer.serialize_str(text),
            Tree::Secret(_) => serializer.serialize_str(SECRET),
            Tree::Unreadable(leaf) => serializer.collect_str(leaf),
            Tree::Seq(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                items
                    .iter()
                    .try_for_each(|item| list.serialize_element(&ShownTree(item)))?;
                list.end()
            }
            Tree::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                entries
                    .iter()
                    .try_for_each(|(key, value)| map.serialize_entry(key, &ShownTree(value)))?;
                map.end()
            }
        }
    }
}
