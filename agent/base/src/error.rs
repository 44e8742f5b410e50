use std::fmt;

use serde::de::Unexpected;

use crate::marks::EXPECTED_SECRET;
use crate::path::Path;
use crate::tree::Unreadable;

/// Why a value could not become a tree, or a tree a value. Names the path and what was expected, never a value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TreeError {
    /// Relative to the value at which the walk began.
    pub path: Path,
    problem: TreeProblem,
    /// Whether the error is about the last name of the path rather than the value there.
    of_key: bool,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum TreeProblem {
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
    /// An error in the agent's words, which contain no value.
    pub fn ours(message: impl Into<String>) -> Self {
        Self {
            path: Path(Vec::new()),
            of_key: false,
            problem: TreeProblem::Ours(message.into()),
        }
    }

    /// A limit of the whole value was reached.
    pub fn bound(what: impl Into<String>, is_time: bool) -> Self {
        let bound = Bound {
            what: what.into(),
            is_time,
            entries: None,
            inside: false,
        };
        Self {
            path: Path(Vec::new()),
            of_key: false,
            problem: TreeProblem::Bound(bound),
        }
    }

    /// An unreadable leaf would be lost.
    pub fn lost(reason: &str) -> Self {
        Self {
            path: Path(Vec::new()),
            of_key: false,
            problem: TreeProblem::Lost(reason.to_owned()),
        }
    }

    /// The same error, seen from the container of a part. For a limit, the path names the largest container instead of the
    /// part at which the limit happened to be reached.
    pub fn of_part(self, segment: &str, entries: Option<usize>) -> Self {
        match self.problem {
            TreeProblem::Bound(bound) if bound.entries.unwrap_or(0) < entries.unwrap_or(1) => {
                let bound = Bound {
                    entries,
                    inside: true,
                    ..bound
                };
                Self {
                    path: Path(Vec::new()),
                    of_key: false,
                    problem: TreeProblem::Bound(bound),
                }
            }
            problem => Self {
                path: self.path,
                of_key: false,
                problem,
            }
            .under(segment),
        }
    }

    /// Whether an unreadable leaf would be lost.
    pub fn is_lost(&self) -> bool {
        matches!(self.problem, TreeProblem::Lost(_))
    }

    /// The message without the path.
    pub fn pathless(self) -> String {
        Self {
            path: Path(Vec::new()),
            ..self
        }
        .to_string()
    }

    /// The field that the type misses, if that is the error.
    pub fn missing_field_name(&self) -> Option<&str> {
        let TreeProblem::Ours(message) = &self.problem else {
            return None;
        };
        message.strip_prefix("missing field `")?.strip_suffix('`')
    }

    /// Only a secret can be stored there.
    pub fn no_secret() -> Self {
        Self {
            path: Path(Vec::new()),
            of_key: false,
            problem: TreeProblem::NoSecret,
        }
    }

    /// Whether another value than a secret was given for a secret.
    pub fn wants_secret(&self) -> bool {
        self.problem == TreeProblem::NoSecret
    }

    /// Whether a limit of the whole value was reached.
    pub fn is_bound(&self) -> bool {
        matches!(self.problem, TreeProblem::Bound(_))
    }

    /// Whether a limit was reached inside a container, so that its parts may still be read one by one.
    pub fn is_large_container(&self) -> bool {
        matches!(&self.problem, TreeProblem::Bound(bound) if bound.inside)
    }

    /// Whether the time limit was reached.
    pub fn is_late(&self) -> bool {
        matches!(&self.problem, TreeProblem::Bound(bound) if bound.is_time)
    }

    /// A leaf in place of the unreadable value, with a reason in the agent's words.
    pub fn unreadable(&self) -> Unreadable {
        match &self.problem {
            TreeProblem::Service(_) | TreeProblem::Checked(_) => {
                Unreadable::because("its type refuses to write it out")
            }
            TreeProblem::Hidden => Unreadable::because("a secret that its type cannot write out"),
            TreeProblem::Ours(_) | TreeProblem::Bound(_) | TreeProblem::Lost(_) | TreeProblem::NoSecret => {
                Unreadable::because(self.to_string())
            }
        }
    }

    /// An error in the words of a service's check.
    pub fn checked(words: String) -> Self {
        Self {
            path: Path(Vec::new()),
            of_key: false,
            problem: TreeProblem::Checked(Some(words)),
        }
    }

    /// The same error, seen from one segment further up.
    pub fn under(mut self, segment: &str) -> Self {
        self.path.0.insert(0, segment.to_owned());
        self
    }

    /// The same error, with `prefix` in front of its path.
    pub fn below(self, prefix: &Path) -> Self {
        Self {
            path: prefix.join(&self.path.0),
            ..self
        }
    }

    /// The same error, marked as about a name that the type refuses.
    pub fn of_key(self) -> Self {
        Self { of_key: true, ..self }
    }

    /// Whether it is about a name that the type refuses, independent of the value there.
    pub fn is_of_key(&self) -> bool {
        self.of_key
    }

    /// Whether a check that the service registered refused it.
    pub fn is_of_check(&self) -> bool {
        matches!(self.problem, TreeProblem::Checked(_))
    }

    /// The error shown for a fault inside a secret: only that there was one. Lengths and inner names reveal the value too.
    pub fn hidden(self) -> Self {
        Self {
            path: Path(Vec::new()),
            of_key: false,
            problem: TreeProblem::Hidden,
        }
    }

    /// The error shown when serializing a secret fails. A limit of the whole value reveals nothing about it and is kept.
    pub fn in_secret(self) -> Self {
        match self.problem {
            TreeProblem::Bound(bound) => Self {
                path: Path(Vec::new()),
                of_key: false,
                problem: TreeProblem::Bound(Bound {
                    entries: None,
                    inside: false,
                    ..bound
                }),
            },
            _ => self.hidden(),
        }
    }

    /// The same error without the words of the service's code.
    pub fn without_service_words(self) -> Self {
        match self.problem {
            TreeProblem::Service(_) => Self {
                problem: TreeProblem::Hidden,
                ..self
            },
            TreeProblem::Checked(_) => Self {
                problem: TreeProblem::Checked(None),
                ..self
            },
            _ => self,
        }
    }

    /// The words of the service's code in the message, if any.
    pub fn service_words(&self) -> Option<&str> {
        match &self.problem {
            TreeProblem::Service(words) | TreeProblem::Checked(Some(words)) => Some(words),
            TreeProblem::Ours(_)
            | TreeProblem::Bound(_)
            | TreeProblem::Lost(_)
            | TreeProblem::NoSecret
            | TreeProblem::Checked(None)
            | TreeProblem::Hidden => None,
        }
    }
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.0.is_empty() {
            write!(f, "`{}`: ", self.path)?;
        }
        match &self.problem {
            TreeProblem::Ours(message) => f.write_str(message),
            TreeProblem::Bound(Bound {
                what,
                entries: Some(entries),
                ..
            }) => {
                write!(f, "{what}; it has {entries} entries")
            }
            TreeProblem::Bound(Bound { what, .. }) => f.write_str(what),
            TreeProblem::Lost(reason) => write!(f, "it cannot be read ({reason}), so it would be lost"),
            TreeProblem::Service(message) => write!(f, "refused by the service's type: {message}"),
            TreeProblem::Checked(Some(words)) => write!(f, "refused by the service's check: {words}"),
            TreeProblem::Checked(None) => f.write_str("refused by the service's check"),
            TreeProblem::NoSecret => f.write_str("only a secret can be stored here"),
            TreeProblem::Hidden => f.write_str("refused by the service's type"),
        }
    }
}

impl std::error::Error for TreeError {}

impl serde::ser::Error for TreeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            path: Path(Vec::new()),
            of_key: false,
            problem: TreeProblem::Service(message.to_string()),
        }
    }
}

// serde's own texts contain the value seen (`invalid type: string "hunter2"`), so all of them are replaced.
impl serde::de::Error for TreeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            path: Path(Vec::new()),
            of_key: false,
            problem: TreeProblem::Service(message.to_string()),
        }
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
        let range = range_of(&expected)
            .map(|range| format!(" ({range})"))
            .unwrap_or_default();
        Self::ours(format!(
            "invalid value: {}, expected {expected}{range}",
            kind(seen)
        ))
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
        names => names
            .iter()
            .map(|name| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", "),
    }
}
