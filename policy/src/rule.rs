use std::time::Duration;

use crate::pattern::{Glob, Pattern, Target};
use crate::{Request, RuleRef, format_duration, is_hidden};

/// Something that a request lacks of what a rule asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Lack {
    /// Its time is longer than this sentence allows.
    Time(String),
    /// A reason, and which: `a reason`, or ``a reason like `INC-*` ``.
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
    pub(crate) effect: Effect,
    /// The actions it speaks of, as bits.
    pub(crate) actions: u32,
    pub(crate) audience: Audience,
    /// The kinds of resource that `on` speaks of, as bits: most rules are passed over by this and `actions` alone.
    pub(crate) kinds: u8,
    /// Empty: everything but leases.
    pub(crate) on: Vec<Pattern>,
    pub(crate) except: Vec<Pattern>,
}

/// Whom a rule is for, and where. Of each list one name must fit; an empty one fits all.
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
pub(crate) enum Effect {
    Deny,
    Allow(Conditions),
}

/// What an allow rule asks for beyond its match.
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
    /// Whether the rule is about this action and resource; whom it is for, the policy knows.
    pub(crate) fn speaks_of(&self, request: &Request, target: &Target<'_>) -> bool {
        self.is_of(request, target)
            && (self.on.is_empty() || self.on.iter().any(|pattern| self.names(pattern, target, true)))
            && !self.except.iter().any(|pattern| self.names(pattern, target, false))
    }

    /// Whether the rule might be about something at or below a state path. It errs on the side of yes.
    pub(crate) fn might_speak_below(&self, request: &Request, target: &Target<'_>) -> bool {
        self.is_of(request, target)
            && (self.on.is_empty() || self.on.iter().any(|pattern| pattern.reaches(target)))
            && !self.except.iter().any(|pattern| pattern.covers_below(target))
    }

    /// Whether the rule is about all that is at or below a state path, whatever that is. It errs on the side of no.
    pub(crate) fn speaks_of_all_below(&self, request: &Request, target: &Target<'_>) -> bool {
        self.is_of(request, target)
            && (self.on.is_empty() || self.on.iter().any(|pattern| pattern.covers_below(target)))
            && !self.except.iter().any(|pattern| pattern.reaches(target))
    }

    fn is_of(&self, request: &Request, target: &Target<'_>) -> bool {
        self.actions & request.action.bit() != 0 && self.kinds & target.kind() != 0
    }

    /// Whether a pattern names a resource. What takes leave away does so for a part of what is changed, too; what gives
    /// it must name the whole.
    fn names(&self, pattern: &Pattern, target: &Target<'_>, on: bool) -> bool {
        let takes_away = matches!(self.effect, Effect::Deny) == on;
        if takes_away { pattern.touches(target) } else { pattern.covers(target) }
    }
}

impl Conditions {
    /// What the request lacks; empty if the rule holds in full.
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

/// Whether a time is beyond what a rule allows. An effect that sets a deadline and does not say which is beyond any.
/// Compared in whole milliseconds, as requests are recorded: otherwise the record could decide differently.
fn exceeds(request: &Request, time: Option<Duration>, max: Duration) -> bool {
    time.map_or(request.action.sets_deadline(), |time| time.as_millis() > max.as_millis())
}

/// Whether anybody can see anything of a reason.
fn says_something(reason: &str) -> bool {
    reason.chars().any(|c| !is_hidden(c) && !c.is_whitespace())
}
