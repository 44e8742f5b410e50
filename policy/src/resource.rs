use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::{is_hidden, shown};

/// The limit on segments of a state path; values nest less deeply.
pub const MAX_SEGMENTS: usize = 32;
/// The limit on a segment of a state path, in bytes.
pub const MAX_SEGMENT: usize = 256;
/// The limit on the name of a point, in bytes: room for a method and a long route template.
pub const MAX_POINT: usize = 512;
/// The limit on a target of log events, in bytes: by default a target is a module path.
pub const MAX_TARGET: usize = 512;
/// The limit on the name of an operator, in bytes.
pub const MAX_OPERATOR: usize = 128;

/// How much of a refused text an error shows, in characters.
const SHOWN: usize = 80;

/// The resource of an action, in its only spelling: `agent`, `state:<path>`, `point:<name>`, `target:<name>` or
/// `lease:<operator>`.
///
/// - `agent`: the agent itself (attach, list, change, log).
/// - `state:config.db.host`: a state path, spelled as [`format_path`] spells it.
/// - `point:GET /api/healthcheck` (method and template) or `point:dienstplan::rota::next_on_duty` (function): 1 to [`MAX_POINT`]
///   bytes, no whitespace except single spaces inside, no hidden characters ([`crate::is_hidden`]).
/// - `target:hyper::client`: a target of the service's log events, with everything below it. 1 to [`MAX_TARGET`] bytes, within
///   the alphabet of points, without empty segments between `::`.
/// - `lease:alice`: a lease of the operator `alice`; requested in addition to the lease's own target. 1 to [`MAX_OPERATOR`] bytes
///   of `A-Z`, `a-z`, `0-9`, `.`, `_` or `-`.
///
/// The text is compared byte for byte, without folding or normalizing, so that one text is one resource.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Resource {
    /// The agent itself.
    Agent,
    /// A state path, beginning with the state's name; never empty.
    State(Vec<String>),
    /// The name of a point.
    Point(String),
    /// A target of the service's log events, such as `hyper::client`.
    Target(String),
    /// The leases of an operator.
    Lease(String),
}

impl Resource {
    /// Checks the bounds and alphabets above; a parsed resource always passes.
    ///
    /// # Errors
    /// The check that failed. [`crate::Policy::decide`] denies such a resource.
    pub fn check(&self) -> Result<(), InvalidResource> {
        match self {
            Self::Agent => Ok(()),
            Self::State(path) => check_path(path),
            Self::Point(name) => check_point(name),
            Self::Target(name) => check_target(name),
            Self::Lease(operator) => check_operator(operator),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent => f.write_str("agent"),
            Self::State(path) => write!(f, "state:{}", format_path(path)),
            // Only a variant built by hand can hold hidden characters; a log line must stay one line.
            Self::Point(name) => write!(f, "point:{}", shown(name, MAX_POINT)),
            Self::Target(name) => write!(f, "target:{}", shown(name, MAX_TARGET)),
            Self::Lease(operator) => write!(f, "lease:{}", shown(operator, MAX_OPERATOR)),
        }
    }
}

impl FromStr for Resource {
    type Err = InvalidResource;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let resource = match text.split_once(':') {
            None if text == "agent" => Self::Agent,
            Some(("state", path)) => Self::State(parse_path(path)?),
            Some(("point", name)) => Self::Point(name.to_owned()),
            Some(("target", name)) => Self::Target(name.to_owned()),
            Some(("lease", operator)) => Self::Lease(operator.to_owned()),
            _ => return Err(InvalidResource::Kind(shown(text, SHOWN))),
        };
        resource.check()?;
        Ok(resource)
    }
}

impl TryFrom<String> for Resource {
    type Error = InvalidResource;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Resource> for String {
    fn from(resource: Resource) -> Self {
        resource.to_string()
    }
}

/// Parses a state path: segments with `.` between them. A segment that is no plain word is written as `["…"]` around a JSON
/// string, without a `.` before it.
///
/// A plain word is one or more of `A-Z`, `a-z`, `0-9`, `_` and `-`. `config.db.host`, `config["a b"].x`, `["odd name"].x`.
///
/// # Errors
/// The path is empty, too long ([`MAX_SEGMENTS`], [`MAX_SEGMENT`]) or not spelled as [`format_path`] spells it: a second spelling
/// could slip past a rule.
pub fn parse_path(text: &str) -> Result<Vec<String>, InvalidResource> {
    let read = segments(text)?;
    if read
        .iter()
        .any(|segment| !segment.quoted && segment.text.contains('*'))
    {
        return Err(InvalidResource::Path(shown(text, SHOWN)));
    }
    let path = read.into_iter().map(|segment| segment.text).collect::<Vec<_>>();
    check_path(&path)?;
    Ok(path)
}

/// Formats a state path in its only spelling; [`parse_path`] parses it back if it is within the bounds.
///
/// Inside `["…"]` only `"`, `\` and hidden characters are escaped: as `\"`, `\\`, `
/// `, `\r`, `\t`, others as `\uXXXX` in lower case.
pub fn format_path(path: &[String]) -> String {
    let mut out = String::new();
    for segment in path {
        push_segment(&mut out, segment);
    }
    out
}

/// A parsed segment, and whether it was in brackets (where `*` is literal).
#[derive(Debug)]
pub(crate) struct PathSegment {
    pub(crate) text: String,
    pub(crate) quoted: bool,
}

/// Splits the text of a path or a path pattern. Words may contain `*` here; the caller checks them.
pub(crate) fn segments(text: &str) -> Result<Vec<PathSegment>, InvalidResource> {
    let malformed = || InvalidResource::Path(shown(text, SHOWN));
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        if found.len() == MAX_SEGMENTS {
            return Err(InvalidResource::TooDeep);
        }
        if let Some(inside) = rest.strip_prefix('[') {
            let quoted = string_end(inside)
                .and_then(|end| inside.split_at_checked(end))
                .ok_or_else(malformed)?;
            let name: String = serde_json::from_str(quoted.0).map_err(|_| malformed())?;
            let mut one_spelling = String::new();
            push_segment(&mut one_spelling, &name);
            rest = quoted.1.strip_prefix(']').ok_or_else(malformed)?;
            if one_spelling != format!("[{}]", quoted.0) {
                return Err(InvalidResource::Spelling {
                    seen: shown(quoted.0, SHOWN),
                    expected: one_spelling,
                });
            }
            found.push(PathSegment {
                text: name,
                quoted: true,
            });
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            if word.is_empty() || !word.bytes().all(|b| plain(b) || b == b'*') {
                return Err(malformed());
            }
            found.push(PathSegment {
                text: word.to_owned(),
                quoted: false,
            });
            rest = after;
        }
        match rest.strip_prefix('.') {
            _ if rest.is_empty() => return Ok(found),
            Some(after) if !after.starts_with('[') => rest = after,
            None if rest.starts_with('[') => {}
            _ => return Err(malformed()),
        }
    }
}

/// The end of the JSON string at the beginning of the text, after its closing quote.
fn string_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    let inside = text.strip_prefix('"')?;
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 2),
            _ => {}
        }
    }
    None
}

pub(crate) fn push_segment(out: &mut String, segment: &str) {
    if !segment.is_empty() && segment.bytes().all(plain) {
        if !out.is_empty() {
            out.push('.');
        }
        out.push_str(segment);
        return;
    }
    out.push_str("[\"");
    for c in segment.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            hidden if is_hidden(hidden) => {
                let mut units = [0; 2];
                out.extend(
                    hidden
                        .encode_utf16(&mut units)
                        .iter()
                        .map(|unit| format!("\\u{unit:04x}")),
                );
            }
            visible => out.push(visible),
        }
    }
    out.push_str("\"]");
}

fn check_path(path: &[String]) -> Result<(), InvalidResource> {
    if path.is_empty() {
        return Err(InvalidResource::Path(String::new()));
    }
    if path.len() > MAX_SEGMENTS {
        return Err(InvalidResource::TooDeep);
    }
    if path.iter().any(|segment| segment.len() > MAX_SEGMENT) {
        return Err(InvalidResource::LongSegment);
    }
    Ok(())
}

pub(crate) fn check_point(name: &str) -> Result<(), InvalidResource> {
    // Checked first: the checks below then read a bounded text.
    if name.len() > MAX_POINT {
        return Err(InvalidResource::LongPoint);
    }
    if name.is_empty() || is_odd(name) {
        return Err(InvalidResource::Point(shown(name, SHOWN)));
    }
    Ok(())
}

/// Whether a name has hidden characters, or whitespace other than single spaces inside.
fn is_odd(name: &str) -> bool {
    let odd = |c: char| is_hidden(c) || (c.is_whitespace() && c != ' ');
    name.starts_with(' ') || name.ends_with(' ') || name.contains("  ") || name.chars().any(odd)
}

pub(crate) fn check_target(name: &str) -> Result<(), InvalidResource> {
    if name.len() > MAX_TARGET {
        return Err(InvalidResource::LongTarget);
    }
    // With an empty segment, a root such as `hyper::` would pass for a target inside of a crate.
    if is_odd(name) || name.split("::").any(str::is_empty) {
        return Err(InvalidResource::Target(shown(name, SHOWN)));
    }
    Ok(())
}

pub(crate) fn check_operator(name: &str) -> Result<(), InvalidResource> {
    if name.is_empty() || name.len() > MAX_OPERATOR || !name.bytes().all(|b| plain(b) || b == b'.') {
        return Err(InvalidResource::Operator(shown(name, SHOWN)));
    }
    Ok(())
}

/// Whether a plain word may contain the byte.
pub(crate) const fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// A text that names no resource.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidResource {
    /// It does not begin with a kind.
    #[error("`{0}` names no resource: expected `agent`, `state:…`, `point:…`, `target:…` or `lease:…`")]
    Kind(String),
    /// It is no path.
    #[error(
        "`{0}` is no state path: expected words with `.` between them, others as `[\"…\"]`, such as `config.db[\"a b\"]`"
    )]
    Path(String),
    /// It is a path in another spelling than its only one.
    #[error(
        "`{seen}` is another spelling of a segment: write `{expected}`, or a plain word without brackets"
    )]
    Spelling {
        /// The segment as written.
        seen: String,
        /// The segment as it must be written.
        expected: String,
    },
    /// It has too many segments.
    #[error("the state path has more than {MAX_SEGMENTS} segments")]
    TooDeep,
    /// A segment is too long.
    #[error("a segment of the state path is longer than {MAX_SEGMENT} bytes")]
    LongSegment,
    /// The name of a point is too long.
    #[error("the name of the point is longer than {MAX_POINT} bytes")]
    LongPoint,
    /// The name of a point is empty or has hidden characters.
    #[error(
        "`{0}` names no point: expected such as `GET /api/x` or `module::function`, without control, invisible or doubled space characters"
    )]
    Point(String),
    /// A target is too long.
    #[error("the target is longer than {MAX_TARGET} bytes")]
    LongTarget,
    /// A target is empty, or has an empty segment or hidden characters.
    #[error(
        "`{0}` is no target: expected such as `hyper::client`, without empty parts and without control, invisible or doubled space characters"
    )]
    Target(String),
    /// The name of an operator is empty, too long or has other characters.
    #[error("`{0}` names no operator: expected 1 to {MAX_OPERATOR} of the characters `A-Z a-z 0-9 . _ -`")]
    Operator(String),
}

#[cfg(test)]
mod tests;
