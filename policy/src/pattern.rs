//! Patterns of resources, compiled when a policy is parsed.
//!
//! A pattern names its kind, so that it covers only kinds that its author saw: `agent`, `state:…`, `point:…`, `target:…`,
//! `lease:…`.
//!
//! | pattern | segments split at | covers |
//! | --- | --- | --- |
//! | `agent` | | the agent itself |
//! | `state:config.**` | `.` | `config` and everything in it |
//! | `state:*.db.pass*` | `.` | one level below any state |
//! | `state:hosts["a b"].port` | `.` | exactly that; inside `["…"]` a `*` is a `*` |
//! | `point:GET /api/*` | `/`, after the method | routes; the method is exact or `*` |
//! | `point:billing::**` | `::` | functions, and points with a name of their own |
//! | `point:**` | | every point, routes and functions |
//! | `target:hyper::**` | `::` | targets of log events |
//! | `lease:*` | (one segment) | the leases of all operators |
//!
//! `*` stands for any run of characters inside one segment, none included; `**` is a complete segment and stands for any number
//! of segments, none included. All other characters are compared byte for byte. Matching takes at most the product of the two
//! lengths, since only the last `*` and the last `**` are ever backtracked.
//!
//! A level set for a target holds for every target below it. So a pattern that allows must cover the target itself, while a
//! pattern that takes away (`deny`, `except`) already counts if it covers anything below.

use crate::resource::{self, InvalidResource, Resource};
use crate::text::shown;

/// How much of a refused pattern an error shows, in characters.
const SHOWN: usize = 80;

/// A pattern of resources.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Pattern {
    Agent,
    State(Vec<Segment>),
    EveryPoint,
    /// A method, or `None` for every method, and the segments of the path.
    Route(Option<String>, Vec<Segment>),
    Function(Vec<Segment>),
    Target(Vec<Segment>),
    Lease(Glob),
}

/// One segment of a pattern.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Segment {
    /// `**`: any number of segments.
    Any,
    One(Glob),
}

/// A text in which each `*` stands for any run of characters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Glob {
    Exact(String),
    /// The text before the first `*`, between each two, and after the last.
    Parts {
        first: String,
        middle: Vec<String>,
        last: String,
    },
}

/// A resource, split into segments once for all rules.
#[derive(Debug)]
pub(crate) enum Target<'a> {
    Agent,
    State(&'a [String]),
    Route(&'a str, Vec<&'a str>),
    Function(Vec<&'a str>),
    Events(Vec<&'a str>),
    Lease(&'a str),
}

impl<'a> Target<'a> {
    pub(crate) fn new(resource: &'a Resource) -> Self {
        match resource {
            Resource::Agent => Self::Agent,
            Resource::State(path) => Self::State(path),
            Resource::Point(name) => match route(name) {
                Some((method, path)) => Self::Route(method, path.split('/').collect()),
                None => Self::Function(name.split("::").collect()),
            },
            Resource::Target(name) => Self::Events(name.split("::").collect()),
            Resource::Lease(operator) => Self::Lease(operator),
        }
    }

    /// The pattern's kind, as one bit.
    pub(crate) const fn kind(&self) -> u8 {
        match self {
            Self::Agent => AGENT,
            Self::State(_) => STATE,
            Self::Route(..) | Self::Function(_) => POINT,
            Self::Events(_) => TARGET,
            Self::Lease(_) => LEASE,
        }
    }
}

const AGENT: u8 = 1;
const STATE: u8 = 2;
const POINT: u8 = 4;
const LEASE: u8 = 8;
const TARGET: u8 = 16;

/// The kinds covered by a rule with these patterns, as bits. Leases may belong to other operators and must be named.
pub(crate) fn kinds(on: &[Pattern]) -> u8 {
    if on.is_empty() {
        AGENT | STATE | POINT | TARGET
    } else {
        on.iter().fold(0, |set, pattern| set | pattern.kind())
    }
}

/// The method and the path without its leading `/`, if the point is a route.
fn route(name: &str) -> Option<(&str, &str)> {
    let (method, path) = name.split_once(' ')?;
    Some((method, path.strip_prefix('/')?))
}

impl Pattern {
    /// Parses a pattern.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidPattern> {
        match text.split_once(':') {
            None if text == "agent" => Ok(Self::Agent),
            Some(("state", path)) => resource::segments(path)?
                .into_iter()
                .map(Segment::of_path)
                .collect::<Result<_, _>>()
                .map(Self::State),
            Some(("point", name)) => Self::point(name),
            Some(("target", name)) => {
                resource::check_target(name)?;
                if name == "*" {
                    return Err(InvalidPattern::TargetStar);
                }
                Segment::list(name.split("::")).map(Self::Target)
            }
            Some(("lease", operator)) if operator.contains("**") => Err(InvalidPattern::LeaseDepth),
            Some(("lease", operator)) => {
                // Checked with each `*` replaced by a letter: the rest must be able to be part of a name.
                resource::check_operator(&operator.replace('*', "a"))?;
                Ok(Self::Lease(Glob::new(operator)))
            }
            _ => Err(InvalidPattern::Kind(shown(text, SHOWN))),
        }
    }

    fn point(name: &str) -> Result<Self, InvalidPattern> {
        resource::check_point(name)?;
        if name == "*" {
            return Err(InvalidPattern::PointStar);
        }
        if name == "**" {
            return Ok(Self::EveryPoint);
        }
        let Some((method, path)) = route(name) else {
            // A method without a path, or a path without a method, would never match.
            if name.contains(' ') || name.starts_with('/') {
                return Err(InvalidPattern::Route(shown(name, SHOWN)));
            }
            return Segment::list(name.split("::")).map(Self::Function);
        };
        let method = match method {
            "*" => None,
            word if word.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') => Some(word.to_owned()),
            other => return Err(InvalidPattern::Method(shown(other, SHOWN))),
        };
        Ok(Self::Route(method, Segment::list(path.split('/'))?))
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Agent => AGENT,
            Self::State(_) => STATE,
            Self::EveryPoint | Self::Route(..) | Self::Function(_) => POINT,
            Self::Target(_) => TARGET,
            Self::Lease(_) => LEASE,
        }
    }

    pub(crate) fn covers(&self, target: &Target<'_>) -> bool {
        match (self, target) {
            (Self::Agent, Target::Agent) | (Self::EveryPoint, Target::Route(..) | Target::Function(_)) => {
                true
            }
            (Self::State(pattern), Target::State(path)) => covers(pattern, path),
            (Self::Route(method, pattern), Target::Route(seen, path)) => {
                method.as_deref().is_none_or(|m| m == *seen) && covers(pattern, path)
            }
            (Self::Function(pattern), Target::Function(path))
            | (Self::Target(pattern), Target::Events(path)) => covers(pattern, path),
            (Self::Lease(glob), Target::Lease(operator)) => glob.covers(operator),
            (
                Self::Agent
                | Self::State(_)
                | Self::EveryPoint
                | Self::Route(..)
                | Self::Function(_)
                | Self::Target(_)
                | Self::Lease(_),
                Target::Agent
                | Target::State(_)
                | Target::Route(..)
                | Target::Function(_)
                | Target::Events(_)
                | Target::Lease(_),
            ) => false,
        }
    }

    /// Whether the pattern covers the resource or something that changes with it: a level set for a target changes all below it.
    pub(crate) fn touches(&self, target: &Target<'_>) -> bool {
        match (self, target) {
            (Self::Target(pattern), Target::Events(path)) => begins(pattern, path),
            _ => self.covers(target),
        }
    }

    /// Whether the pattern covers a state path or some path below it.
    pub(crate) fn reaches(&self, target: &Target<'_>) -> bool {
        match (self, target) {
            (Self::State(pattern), Target::State(path)) => begins(pattern, path),
            _ => self.touches(target),
        }
    }

    /// Whether the pattern covers a state path and every path below it.
    pub(crate) fn covers_below(&self, target: &Target<'_>) -> bool {
        match self {
            // The `**` at the end takes the segments after the path.
            Self::State(pattern) => pattern.last() == Some(&Segment::Any) && self.covers(target),
            _ => self.covers(target),
        }
    }
}

impl Segment {
    fn of_path(segment: resource::PathSegment) -> Result<Self, InvalidPattern> {
        if segment.quoted {
            Ok(Self::One(Glob::Exact(segment.text)))
        } else {
            Self::new(&segment.text)
        }
    }

    fn list<'a>(segments: impl Iterator<Item = &'a str>) -> Result<Vec<Self>, InvalidPattern> {
        segments.map(Self::new).collect()
    }

    fn new(text: &str) -> Result<Self, InvalidPattern> {
        match text {
            "**" => Ok(Self::Any),
            _ if text.contains("**") => Err(InvalidPattern::Stars(shown(text, SHOWN))),
            _ => Ok(Self::One(Glob::new(text))),
        }
    }
}

/// Whether the segments of a pattern cover those of a name. After a mismatch only the newest `**` takes one segment more: an
/// older one could match nothing that the newest cannot.
fn covers<S: AsRef<str>>(pattern: &[Segment], path: &[S]) -> bool {
    let rest = |rest: &[Segment]| rest.iter().all(|rest| *rest == Segment::Any);
    consumed(pattern, path).is_some_and(|p| rest(pattern.get(p..).unwrap_or_default()))
}

/// Whether the segments of a pattern cover those of a name, or of any longer name that begins with them.
pub(crate) fn begins<S: AsRef<str>>(pattern: &[Segment], path: &[S]) -> bool {
    // Some longer name matches the rest of the pattern: each segment with a `*` covers some text.
    consumed(pattern, path).is_some()
}

/// The number of the pattern's segments that the complete name used up; `None` if the pattern does not match it so far.
fn consumed<S: AsRef<str>>(pattern: &[Segment], path: &[S]) -> Option<usize> {
    let (mut p, mut s) = (0, 0);
    let mut newest_any: Option<(usize, usize)> = None;
    while let Some(segment) = path.get(s) {
        match pattern.get(p) {
            Some(Segment::Any) => {
                newest_any = Some((p, s));
                p += 1;
            }
            Some(Segment::One(glob)) if glob.covers(segment.as_ref()) => {
                p += 1;
                s += 1;
            }
            _ => {
                let (any, taken) = newest_any?;
                newest_any = Some((any, taken + 1));
                p = any + 1;
                s = taken + 1;
            }
        }
    }
    Some(p)
}

impl Glob {
    pub(crate) fn new(text: &str) -> Self {
        let mut parts = text.split('*').map(str::to_owned);
        let first = parts.next().unwrap_or_default();
        let mut middle: Vec<String> = parts.collect();
        match middle.pop() {
            None => Self::Exact(first),
            Some(last) => {
                middle.retain(|part| !part.is_empty());
                Self::Parts { first, middle, last }
            }
        }
    }

    pub(crate) fn covers(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == text,
            Self::Parts { first, middle, last } => {
                let inside = text
                    .strip_prefix(first.as_str())
                    .and_then(|rest| rest.strip_suffix(last.as_str()));
                // The earliest place of each part leaves the most room for the later parts.
                let place = |rest: &'_ str, part: &String| rest.find(part.as_str()).map(|at| at + part.len());
                inside.is_some_and(|mut rest| {
                    middle
                        .iter()
                        .all(|part| match place(rest, part).and_then(|end| rest.get(end..)) {
                            Some(after) => {
                                rest = after;
                                true
                            }
                            None => false,
                        })
                })
            }
        }
    }
}

/// A text that is no pattern.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum InvalidPattern {
    #[error(
        "`{0}` names no kind: expected `agent`, `state:…`, `point:…`, `target:…` or `lease:…`, such as `state:config.**`"
    )]
    Kind(String),
    #[error("`{0}`: `**` stands for whole segments; expected it alone between two separators")]
    Stars(String),
    #[error(
        "`point:*` would cover only names without `::`: write `point:**` for every point, `point:* /**` for every route"
    )]
    PointStar,
    #[error("`target:*` would cover only targets without `::`: write `target:**` for every target")]
    TargetStar,
    #[error(
        "`**` in `lease:`: an operator's name is one segment; write `lease:*` for the leases of all operators"
    )]
    LeaseDepth,
    #[error("`{0}` is no method: expected `*` or one in upper case, such as `GET`")]
    Method(String),
    #[error("`{0}` is no route: expected a method, a space and a path, such as `GET /api/x` or `* /**`")]
    Route(String),
    #[error(transparent)]
    Resource(#[from] InvalidResource),
}

#[cfg(test)]
mod tests;
