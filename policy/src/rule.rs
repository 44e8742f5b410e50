use std::time::Duration;

use crate::pattern::{Glob, Pattern, Target};
use crate::{Request, RuleRef, format_duration, is_hidden};

/// A rule, checked and compiled.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) name: RuleRef,
    pub(crate) effect: Effect,
    /// The actions it speaks of, as bits.
    pub(crate) actions: u16,
    /// Empty: every role.
    pub(crate) roles: Vec<String>,
    /// Empty: every operator.
    pub(crate) operators: Vec<String>,
    /// Empty: every environment.
    pub(crate) environments: Vec<String>,
    /// Empty: everything but leases.
    pub(crate) on: Vec<Pattern>,
    pub(crate) except: Vec<Pattern>,
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
    /// Whether the rule is about this operator, action, resource and environment.
    pub(crate) fn speaks_of(&self, request: &Request, target: &Target<'_>) -> bool {
        self.actions & request.action.bit() != 0
            && (self.environments.is_empty() || self.environments.contains(&request.environment))
            && (self.operators.is_empty() || self.operators.contains(&request.operator))
            && (self.roles.is_empty() || request.roles.iter().any(|role| self.roles.contains(role)))
            && self.is_on(target)
            && !self.except.iter().any(|pattern| pattern.covers(target))
    }

    fn is_on(&self, target: &Target<'_>) -> bool {
        if self.on.is_empty() {
            !target.is_lease()
        } else {
            self.on.iter().any(|pattern| pattern.covers(target))
        }
    }
}

impl Conditions {
    /// What the request lacks, in words; empty if the rule holds in full.
    pub(crate) fn lacking(&self, request: &Request) -> Vec<String> {
        let mut lacking = Vec::new();
        if let Some(max) = self.max_ttl
            && exceeds(request, request.ttl, max)
        {
            lacking.push(format!("allowed up to {}", format_duration(max)));
        }
        if let Some(max) = self.max_life
            && exceeds(request, request.life, max)
        {
            lacking.push(format!("may live {} in total", format_duration(max)));
        }
        if let Some(pattern) = &self.reason {
            match request.reason.as_deref().map(str::trim) {
                Some(reason) if says_something(reason) && pattern.glob.covers(reason) => {}
                _ if pattern.text == "*" => lacking.push("needs a reason".to_owned()),
                _ => lacking.push(format!("needs a reason like `{}`", pattern.text)),
            }
        }
        lacking
    }
}

/// Whether a time is beyond what a rule allows. An effect that sets a deadline and does not say which is beyond any.
fn exceeds(request: &Request, time: Option<Duration>, max: Duration) -> bool {
    time.map_or(request.action.sets_deadline(), |time| time > max)
}

/// Whether anybody can see anything of a reason.
fn says_something(reason: &str) -> bool {
    reason.chars().any(|c| !is_hidden(c) && !c.is_whitespace())
}
