use std::fmt;

use serde::de::Unexpected;

use super::EXPECTED_SECRET;
use super::path::{Path, PathError, known_clause};
use super::unreadable::Unreadable;

/// Why a value could not become a tree, or a tree a value. Names the path and what was expected, never a value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct TreeError {
    /// Relative to the value at which the walk began.
    pub(crate) path: Path,
    problem: Problem,
    /// Whether the error is about the last name of the path rather than the value there.
    of_key: bool,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Problem {
    /// Words of the agent, which contain no value.
    Ours(String),
    /// Words of the service's type, which may contain any value.
    Service(String),
    /// Words of a check that the service registered, which may contain any value; `None` once removed.
    Checked(Option<String>),
    /// A limit of the whole value was reached; the place itself is not at fault.
    Bound(Bound),
    /// A leaf could not be read and would be lost, for this reason.
    Lost(String),
    /// Another value than a secret was given for a secret.
    NoSecret,
    /// An error inside a secret: not even the agent's words are shown.
    Hidden,
}

/// The limit that was reached.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Bound {
    what: String,
    /// Whether the limit was time; leaving out a part does not win time back.
    is_time: bool,
    /// Length of the container at the path, if it announced one.
    entries: Option<usize>,
    /// Whether the limit was reached inside a container.
    inside: bool,
}

impl TreeError {
    pub(super) fn ours(message: impl Into<String>) -> Self {
        Self { path: Path(Vec::new()), of_key: false, problem: Problem::Ours(message.into()) }
    }

    /// A limit of the whole value was reached.
    pub(super) fn bound(what: impl Into<String>, is_time: bool) -> Self {
        let bound = Bound { what: what.into(), is_time, entries: None, inside: false };
        Self { path: Path(Vec::new()), of_key: false, problem: Problem::Bound(bound) }
    }

    /// An unreadable leaf would be lost.
    pub(super) fn lost(reason: &str) -> Self {
        Self { path: Path(Vec::new()), of_key: false, problem: Problem::Lost(reason.to_owned()) }
    }

    /// The same error, seen from the container of a part. For a limit, the path names the largest container instead of the
    /// part at which the limit happened to be reached.
    pub(super) fn of_part(self, segment: &str, entries: Option<usize>) -> Self {
        match self.problem {
            Problem::Bound(bound) if bound.entries.unwrap_or(0) < entries.unwrap_or(1) => {
                let bound = Bound { entries, inside: true, ..bound };
                Self { path: Path(Vec::new()), of_key: false, problem: Problem::Bound(bound) }
            }
            problem => Self { path: self.path, of_key: false, problem }.under(segment),
        }
    }

    /// Whether an unreadable leaf would be lost.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self.problem, Problem::Lost(_))
    }

    /// The message without the path.
    pub(super) fn pathless(self) -> String {
        Self { path: Path(Vec::new()), ..self }.to_string()
    }

    /// The field that the type misses, if that is the error.
    pub(super) fn missing_field_name(&self) -> Option<&str> {
        let Problem::Ours(message) = &self.problem else { return None };
        message.strip_prefix("missing field `")?.strip_suffix('`')
    }

    /// Only a secret can be stored there.
    pub(super) fn no_secret() -> Self {
        Self { path: Path(Vec::new()), of_key: false, problem: Problem::NoSecret }
    }

    /// Whether another value than a secret was given for a secret.
    pub(crate) fn wants_secret(&self) -> bool {
        self.problem == Problem::NoSecret
    }

    /// Whether a limit of the whole value was reached.
    pub(crate) fn is_bound(&self) -> bool {
        matches!(self.problem, Problem::Bound(_))
    }

    /// Whether a limit was reached inside a container, so that its parts may still be read one by one.
    pub(crate) fn is_large_container(&self) -> bool {
        matches!(&self.problem, Problem::Bound(bound) if bound.inside)
    }

    /// Whether the time limit was reached.
    pub(super) fn is_late(&self) -> bool {
        matches!(&self.problem, Problem::Bound(bound) if bound.is_time)
    }

    /// A leaf in place of the unreadable value, with a reason in the agent's words.
    pub(super) fn unreadable(&self) -> Unreadable {
        match &self.problem {
            Problem::Service(_) | Problem::Checked(_) => {
                Unreadable::because("its type refuses to write it out")
            }
            Problem::Hidden => Unreadable::because("a secret that its type cannot write out"),
            Problem::Ours(_) | Problem::Bound(_) | Problem::Lost(_) | Problem::NoSecret => {
                Unreadable::because(self.to_string())
            }
        }
    }

    /// An error in the words of a service's check.
    pub(super) fn checked(words: String) -> Self {
        Self { path: Path(Vec::new()), of_key: false, problem: Problem::Checked(Some(words)) }
    }

    /// The same error, seen from one segment further up.
    pub(super) fn under(mut self, segment: &str) -> Self {
        self.path.0.insert(0, segment.to_owned());
        self
    }

    /// The same error, with `prefix` in front of its path.
    pub(super) fn below(self, prefix: &Path) -> Self {
        Self { path: prefix.join(&self.path.0), ..self }
    }

    /// The same error, marked as about a name that the type refuses.
    pub(super) fn of_key(self) -> Self {
        Self { of_key: true, ..self }
    }

    /// Whether it is about a name that the type refuses, independent of the value there.
    pub(super) fn is_of_key(&self) -> bool {
        self.of_key
    }

    fn is_of_check(&self) -> bool {
        matches!(self.problem, Problem::Checked(_))
    }

    /// The error shown for a fault inside a secret: only that there was one. Lengths and inner names reveal the value too.
    pub(super) fn hidden(self) -> Self {
        Self { path: Path(Vec::new()), of_key: false, problem: Problem::Hidden }
    }

    /// The error shown when serializing a secret fails. A limit of the whole value reveals nothing about it and is kept.
    pub(super) fn in_secret(self) -> Self {
        match self.problem {
            Problem::Bound(bound) => Self {
                path: Path(Vec::new()),
                of_key: false,
                problem: Problem::Bound(Bound { entries: None, inside: false, ..bound }),
            },
            _ => self.hidden(),
        }
    }

    /// The same error without the words of the service's code.
    pub(super) fn without_service_words(self) -> Self {
        match self.problem {
            Problem::Service(_) => Self { problem: Problem::Hidden, ..self },
            Problem::Checked(_) => Self { problem: Problem::Checked(None), ..self },
            _ => self,
        }
    }

    /// The words of the service's code in the message, if any.
    pub(super) fn service_words(&self) -> Option<&str> {
        match &self.problem {
            Problem::Service(words) | Problem::Checked(Some(words)) => Some(words),
            Problem::Ours(_)
            | Problem::Bound(_)
            | Problem::Lost(_)
            | Problem::NoSecret
            | Problem::Checked(None)
            | Problem::Hidden => None,
        }
    }
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.0.is_empty() {
            write!(f, "`{}`: ", self.path)?;
        }
        match &self.problem {
            Problem::Ours(message) => f.write_str(message),
            Problem::Bound(Bound { what, entries: Some(entries), .. }) => {
                write!(f, "{what}; it has {entries} entries")
            }
            Problem::Bound(Bound { what, .. }) => f.write_str(what),
            Problem::Lost(reason) => write!(f, "it cannot be read ({reason}), so it would be lost"),
            Problem::Service(message) => write!(f, "refused by the service's type: {message}"),
            Problem::Checked(Some(words)) => write!(f, "refused by the service's check: {words}"),
            Problem::Checked(None) => f.write_str("refused by the service's check"),
            Problem::NoSecret => f.write_str("only a secret can be stored here"),
            Problem::Hidden => f.write_str("refused by the service's type"),
        }
    }
}

impl std::error::Error for TreeError {}

impl serde::ser::Error for TreeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { path: Path(Vec::new()), of_key: false, problem: Problem::Service(message.to_string()) }
    }
}

// serde's own texts contain the value seen (`invalid type: string "hunter2"`), so all of them are replaced.
impl serde::de::Error for TreeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { path: Path(Vec::new()), of_key: false, problem: Problem::Service(message.to_string()) }
    }

    fn invalid_type(seen: Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        // A secret inside serde's buffers, which ask for any type.
        if expected.to_string() == EXPECTED_SECRET {
            return Self::no_secret();
        }
        Self::ours(format!("invalid type: {}, expected {expected}", kind(seen)))
    }

    fn invalid_value(seen: Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        let expected = expected.to_string();
        let range = range_of(&expected).map(|range| format!(" ({range})")).unwrap_or_default();
        Self::ours(format!("invalid value: {}, expected {expected}{range}", kind(seen)))
    }

    fn invalid_length(length: usize, expected: &dyn serde::de::Expected) -> Self {
        Self::ours(format!("invalid length {length}, expected {expected}"))
    }

    fn unknown_variant(_seen: &str, expected: &'static [&'static str]) -> Self {
        Self::ours(format!("unknown variant, expected {}", one_of(expected)))
    }

    fn unknown_field(seen: &str, expected: &'static [&'static str]) -> Self {
        // A field's name is a segment of a path, and paths are public.
        Self::ours(format!("unknown field `{seen}`, expected {}", one_of(expected)))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::ours(format!("missing field `{field}`"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::ours(format!("duplicate field `{field}`"))
    }
}

fn kind(seen: Unexpected<'_>) -> &'static str {
    match seen {
        Unexpected::Bool(_) => "boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "integer",
        Unexpected::Float(_) => "floating-point number",
        Unexpected::Char(_) => "character",
        Unexpected::Str(_) => "string",
        Unexpected::Bytes(_) => "bytes",
        Unexpected::Unit | Unexpected::Option => "nothing",
        Unexpected::NewtypeStruct => "secret",
        Unexpected::Seq => "list",
        Unexpected::Map => "map",
        Unexpected::Enum
        | Unexpected::UnitVariant
        | Unexpected::NewtypeVariant
        | Unexpected::TupleVariant
        | Unexpected::StructVariant => "variant",
        Unexpected::Other(_) => "value",
    }
}

/// The values of an integer type, by the name that its visitor gives it.
fn range_of(kind: &str) -> Option<String> {
    macro_rules! range {
        ($($integer:ident)*) => {
            match kind {
                $(stringify!($integer) => Some(format!("{} to {}", $integer::MIN, $integer::MAX)),)*
                _ => None,
            }
        };
    }
    range!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize)
}

fn one_of(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}

/// Why a state could not be read or written. Contains names and paths, never values.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum StateError {
    /// No state has this name.
    #[error("no state is named `{name}`{known}")]
    NoSuchState { name: String, known: String },
    /// Two states have the same name.
    #[error("two states are named `{0}`; names must differ")]
    DuplicateName(String),
    /// One of two fields is inside the other.
    #[error("field `{0}` and field `{1}` overlap")]
    Overlapping(Path, Path),
    /// The first name of a field is the name of a state.
    #[error("state `{0}` is a whole; a field inside it needs another first name")]
    InsideState(Path),
    /// The path does not exist.
    #[error(transparent)]
    NoSuchPath(#[from] PathError),
    /// The state was registered for reading only.
    #[error("state `{0}` was registered for reading only")]
    ReadOnly(String),
    /// The service's author closed the path to writes.
    #[error("`{path}` cannot be written: the service closes `{closed}` to writes")]
    NeverWrite { path: Path, closed: Path },
    /// The lock was not free in time, or the value changed during every attempt.
    #[error("state `{0}` is busy; try again")]
    Busy(String),
    /// A service thread panicked while it held the lock for writing.
    #[error(
        "state `{0}` may be half-written: the service panicked while it held the lock; restart the service"
    )]
    Poisoned(String),
    /// Code of the service's type panicked; this did not poison the lock.
    #[error("the service's type of state `{state}` panicked while {doing}; nothing was changed")]
    Panicked { state: String, doing: &'static str },
    /// The value does not become a tree within the limits.
    #[error("cannot read {0}")]
    Unreadable(TreeError),
    /// Writing the live value back would change it.
    #[error("`{path}` cannot be written: {reason}")]
    Lossy { path: Path, reason: String },
    /// The service's type refuses the new value. The old one stays.
    #[error("cannot write {0}")]
    Refused(TreeError),
    /// The type accepted the value but would store another one.
    #[error("cannot write `{0}`: the service's type would store another value than the one given")]
    NotStored(Path),
    /// The value at the path is not the one that the writer expects.
    #[error("`{0}` has changed meanwhile; read it again")]
    Conflict(Path),
}

impl StateError {
    /// The states that a naming error is about; two for an overlap.
    pub(crate) fn state(&self) -> Vec<Path> {
        match self {
            Self::DuplicateName(name) => vec![Path(vec![name.clone()])],
            Self::Overlapping(one, other) => vec![one.clone(), other.clone()],
            Self::InsideState(path) => vec![path.clone()],
            _ => Vec::new(),
        }
    }

    /// Whether the value is a container that is only too large to be read whole.
    pub(crate) fn is_large_container(&self) -> bool {
        matches!(self, Self::Unreadable(error) if error.is_large_container())
    }

    /// Whether the state is unreadable for every caller and at any time. Such a state is reported alone; states read together
    /// with it are not affected.
    pub(crate) fn is_of_the_state(&self) -> bool {
        matches!(
            self,
            Self::Unreadable(_)
                | Self::Panicked { .. }
                | Self::Poisoned(_)
                | Self::DuplicateName(_)
                | Self::Overlapping(..)
                | Self::InsideState(_)
        )
    }

    /// The same error, listing only the given names: the caller may not be allowed to see all of them.
    pub(crate) fn knowing(&self, names: &[String]) -> Self {
        match self {
            Self::NoSuchPath(error) => Self::NoSuchPath(error.knowing(names)),
            Self::NoSuchState { name, .. } => {
                Self::NoSuchState { name: name.clone(), known: known_clause(name, names) }
            }
            other => other.clone(),
        }
    }

    /// Whether the service's type refuses a value, rather than its check or setter.
    pub(crate) fn is_of_type(&self) -> bool {
        match self {
            Self::Refused(error) => !error.is_of_check(),
            Self::NotStored(_) | Self::Lossy { .. } => true,
            _ => false,
        }
    }

    /// The same error without the words of the service's code.
    pub(super) fn without_service_words(self) -> Self {
        match self {
            Self::Refused(error) => Self::Refused(error.without_service_words()),
            Self::Unreadable(error) => Self::Unreadable(error.without_service_words()),
            other => other,
        }
    }
}
