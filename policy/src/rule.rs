use std::time::Duration;

use crate::pattern::{Glob, Pattern, Target};
use crate::{Request, RuleRef, format_duration, is_hidden};

/// A condition of a rule that a request does not meet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Lack {
    /// The request's time is longer than this text allows.
    Time(String),
    /// The reason that is missing: `a reason`, or ``a reason like `INC-*` ``.
    Reason(String),
}

impl std::fmt::Display for Lack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Time(sentence) => f.write_str(sentence),
            Self::Reason(wanted) => write!(f, "needs {wanted}"),
        }
    }
}

/// A rule, checked and compiled.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) name: RuleRef,
    pub(crate) effect: AllowOrDeny,
    /// The actions that it covers, as bits.
    pub(crate) actions: u32,
    pub(crate) audience: Audience,
    /// The kinds of resource that `on` covers, as bits: with `actions` they rule most rules out.
    pub(crate) kinds: u8,
    /// Empty: everything except leases.
    pub(crate) on: Vec<Pattern>,
    pub(crate) except: Vec<Pattern>,
}

/// The roles, operators and environments that a rule applies to. Of each list one name must match; an empty list matches all.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Audience {
    pub(crate) roles: Vec<String>,
    pub(crate) operators: Vec<String>,
    pub(crate) environments: Vec<String>,
}

impl Audience {
    pub(crate) fn includes(&self, request: &Request) -> bool {
        (self.environments.is_empty() || self.environments.contains(&request.environment))
            && (self.operators.is_empty() || self.operators.contains(&request.operator))
            && (self.roles.is_empty() || request.roles.iter().any(|role| self.roles.contains(role)))
    }
}

/// What a matching rule does.
#[derive(Clone, Debug)]
pub(crate) enum AllowOrDeny {
    Deny,
    Allow(Conditions),
}

/// The conditions of an allow rule beyond its match.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conditions {
    pub(crate) max_ttl: Option<Duration>,
    pub(crate) max_life: Option<Duration>,
    pub(crate) reason: Option<Reason>,
}

/// The pattern of a reason, with its text for the help.
#[derive(Clone, Debug)]
pub(crate) struct Reason {
    pub(crate) text: String,
    pub(crate) glob: Glob,
}

impl Rule {
    /// Whether the rule covers this action and resource; the policy has checked the audience.
    pub(crate) fn speaks_of(&self, request: &Request, target: &Target<'_>) -> bool {
        self.is_of(request, target)
            && (self.on.is_empty() || self.on.iter().any(|pattern| self.names(pattern, target, true)))
            && !self
                .except
                .iter()
                .any(|pattern| self.names(pattern, target, false))
    }

    /// Whether the rule might cover something at or below a state path. Errs on the side of yes.
    pub(crate) fn might_speak_below(&self, request: &Request, target: &Target<'_>) -> bool {
        self.is_of(request, target)
            && (self.on.is_empty() || self.on.iter().any(|pattern| pattern.reaches(target)))
            && !self.except.iter().any(|pattern| pattern.covers_below(target))
    }

    /// Whether the rule covers everything at or below a state path, for any value there. Errs on the side of no.
    pub(crate) fn speaks_of_all_below(&self, request: &Request, target: &Target<'_>) -> bool {
        self.is_of(request, target)
            && (self.on.is_empty() || self.on.iter().any(|pattern| pattern.covers_below(target)))
            && !self.except.iter().any(|pattern| pattern.reaches(target))
    }

    fn is_of(&self, request: &Request, target: &Target<'_>) -> bool {
        self.actions & request.action.bit() != 0 && self.kinds & target.kind() != 0
    }

    /// Whether a pattern names a resource. A pattern that takes permission away already counts if it names a part of what
    /// changes; one that gives permission must name all of it.
    fn names(&self, pattern: &Pattern, target: &Target<'_>, on: bool) -> bool {
        let takes_away = matches!(self.effect, AllowOrDeny::Deny) == on;
        if takes_away {
            pattern.touches(target)
        } else {
            pattern.covers(target)
        }
    }
}

impl Conditions {
    /// The conditions that the request does not meet; empty if the rule holds in full.
    pub(crate) fn lacking(&self, request: &Request) -> Vec<Lack> {
        let mut lacking = Vec::new();
        if let Some(max) = self.max_ttl
            && exceeds(request, request.ttl, max)
        {
            lacking.push(Lack::Time(format!("allowed up to {}", format_duration(max))));
        }
        if let Some(max) = self.max_life
            && exceeds(request, request.life, max)
        {
            lacking.push(Lack::Time(format!("may live {} in total", format_duration(max))));
        }
        if let Some(pattern) = &self.reason {
            match request.reason.as_deref().map(str::trim) {
                Some(reason) if says_something(reason) && pattern.glob.covers(reason) => {}
                _ if pattern.text == "*" => lacking.push(Lack::Reason("a reason".to_owned())),
                _ => lacking.push(Lack::Reason(format!("a reason like `{}`", pattern.text))),
            }
        }
        lacking
    }
}

/// Whether a time exceeds a rule's limit. An effect that sets a deadline without giving one exceeds every limit. Compared in
/// whole milliseconds, as requests are recorded: otherwise a replay could decide differently.
fn exceeds(request: &Request, time: Option<Duration>, max: Duration) -> bool {
    time.map_or(request.action.sets_deadline(), |time| {
        time.as_millis() > max.as_millis()
    })
}

/// Whether a reason has a visible character.
fn says_something(reason: &str) -> bool {
    reason.chars().any(|c| !is_hidden(c) && !c.is_whitespace())
}
