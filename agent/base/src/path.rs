use std::fmt;
use std::str::FromStr;

use debug_policy::{InvalidResource, format_path, parse_path};

use crate::nearest::nearest;
use crate::spelling::is_property;

/// Longest text of a path in bytes: well above any configuration path, well below a log line.
pub(crate) const MAX_PATH_LEN: usize = 1024;

/// Number of names that an error lists.
const MAX_NAMES_SHOWN: usize = 12;

/// A path into a state, beginning with the state's name. It has exactly one spelling, that of [`format_path`]: with two
/// spellings, a rule could match one and the effect reach the other.
///
/// Elements of lists are segments of digits: `config.hosts.0`, `config["a b"].x`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Path(pub Vec<String>);

/// A text that is not a path in its one spelling.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidPath {
    /// Not in the spelling that policy uses.
    #[error(transparent)]
    Spelling(#[from] InvalidResource),
    /// Longer than `MAX_PATH_LEN`.
    #[error("a path of {0} bytes; at most {MAX_PATH_LEN} are allowed")]
    TooLong(usize),
}

impl Path {
    /// Appends one segment.
    pub fn child(&self, segment: &str) -> Self {
        Self(self.0.iter().cloned().chain([segment.to_owned()]).collect())
    }

    /// The same path with another last segment.
    pub fn beside(&self, segment: &str) -> Self {
        let above = self
            .0
            .split_last()
            .map(|(_, above)| above.to_vec())
            .unwrap_or_default();
        Self(above).child(segment)
    }

    /// The last segment as a script writes it after what stands before it.
    pub fn last_step(&self) -> String {
        self.0.last().map(|name| step(name)).unwrap_or_default()
    }

    /// The value at the path as a script reads it, also where the state's name is no identifier.
    pub fn to_read(&self) -> String {
        self.as_code()
            .unwrap_or_else(|| format!("get({})", serde_json::Value::from(self.to_string())))
    }

    /// Appends the segments of `below`.
    pub fn join(&self, below: &[String]) -> Self {
        Self(self.0.iter().chain(below).cloned().collect())
    }

    /// The path below the state's root, without the state's name.
    pub fn below(&self) -> &[String] {
        self.0.get(1..).unwrap_or_default()
    }

    /// Whether this is `other`, contains it or lies inside it.
    pub fn overlaps(&self, other: &Path) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a == b)
    }

    /// The path as a script writes it: `config.hosts[0]` for `config.hosts.0`. `None` if the state's name is not an
    /// identifier of the language; scripts then use `get("…")`.
    pub fn as_code(&self) -> Option<String> {
        let (state, steps) = self.0.split_first()?;
        let is_name = is_property(state) && state.parse::<f64>().is_err();
        let step = |step: &String| match index_of(step) {
            Some(index) => format!("[{index}]"),
            None if is_property(step) => format!(".{step}"),
            None => format!("[{}]", serde_json::Value::from(step.as_str())),
        };
        is_name.then(|| {
            steps
                .iter()
                .map(step)
                .fold(state.clone(), |code, step| format!("{code}{step}"))
        })
    }

    /// Whether this path is `prefix` or lies inside it.
    pub fn is_within(&self, prefix: &Path) -> bool {
        self.0.starts_with(&prefix.0)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_path(&self.0))
    }
}

impl FromStr for Path {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        if MAX_PATH_LEN < text.len() {
            return Err(InvalidPath::TooLong(text.len()));
        }
        Ok(Self(parse_path(text)?))
    }
}

/// The index in a segment of digits. No sign and no leading zero, so that an element has one spelling.
pub fn index_of(segment: &str) -> Option<usize> {
    let digits = !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_digit());
    let canonical = digits && (segment == "0" || !segment.starts_with('0'));
    canonical.then(|| segment.parse().ok()).flatten()
}

/// A path that does not exist.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no such path `{path}`{known}")]
pub struct PathError {
    /// The path up to the first segment that does not exist.
    pub path: Path,
    known: String,
    /// Names beside the missing one, if they are told.
    beside: Beside,
}

/// Two of the names in the map in which one is missing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Beside {
    near: Option<String>,
    first: Option<String>,
}

impl Beside {
    fn of<'a>(wanted: &str, names: impl Iterator<Item = &'a str> + Clone) -> Self {
        let near = nearest(wanted, names.clone()).map(str::to_owned);
        Self {
            near,
            first: names.take(1).map(str::to_owned).next(),
        }
    }
}

impl PathError {
    /// No value at `path`; `known` says what is there instead, `names` are the names beside the missing one.
    pub fn new<'a>(path: &[String], known: &str, names: impl Iterator<Item = &'a str> + Clone) -> Self {
        let wanted = path.last().map(String::as_str).unwrap_or_default();
        Self {
            path: Path(path.to_vec()),
            known: format!("; {known}"),
            beside: Beside::of(wanted, names),
        }
    }

    /// The same error, listing `names` instead of all existing names.
    pub fn knowing(&self, names: &[String]) -> Self {
        let wanted = self.path.0.last().map(String::as_str).unwrap_or_default();
        let beside = Beside::of(wanted, names.iter().map(String::as_str));
        Self {
            path: self.path.clone(),
            known: known_clause(wanted, names),
            beside,
        }
    }

    /// The same error with a further explanation.
    pub fn and(self, why: &str) -> Self {
        Self {
            known: format!("{}; {why}", self.known),
            ..self
        }
    }

    /// The same error, seen from the state's name.
    pub fn below(self, prefix: &Path) -> Self {
        Self {
            path: prefix.join(&self.path.0),
            ..self
        }
    }

    /// The path that was probably meant: the nearest name beside the missing one.
    pub fn near(&self) -> Option<Path> {
        self.beside.near.as_ref().map(|name| self.path.beside(name))
    }

    /// For a position where there are names: the path of the first of them.
    pub fn named_instead(&self) -> Option<Path> {
        index_of(self.path.0.last()?)?;
        self.beside
            .first
            .as_ref()
            .filter(|name| index_of(name).is_none())
            .map(|name| self.path.beside(name))
    }
}

/// `; known: a, b, c`, or empty text without names.
pub fn known_clause(wanted: &str, names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    format!("; {}", known_names(wanted, names.iter().map(String::as_str)))
}

/// `known: a, b, c`, after the nearest name if one is near.
pub fn known_names<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() {
        return "nothing is there".to_owned();
    }
    let listed = names
        .iter()
        .take(MAX_NAMES_SHOWN)
        .map(|name| step(name))
        .collect::<Vec<_>>()
        .join(", ");
    let more = names.len().saturating_sub(MAX_NAMES_SHOWN);
    let more = if more == 0 {
        String::new()
    } else {
        format!(" and {more} more")
    };
    match nearest(wanted, names) {
        Some(name) => format!("did you mean `{}`? known: {listed}{more}", step(name)),
        None => format!("known: {listed}{more}"),
    }
}

/// A name as written after a dot, or in brackets if it needs them.
fn step(name: &str) -> String {
    if is_property(name) {
        name.to_owned()
    } else {
        format!("[{}]", serde_json::Value::from(name))
    }
}
