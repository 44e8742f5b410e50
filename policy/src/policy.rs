use std::collections::{BTreeSet, HashMap};

use sha2::{Digest, Sha256};

use crate::pattern::Target;
use crate::rule::{AllowOrDeny, Audience, Lack, Rule};
use crate::{Allowed, Decision, Denial, ENTER_CHANGE, Mode, PolicyError, Request, Resource, RuleRef, parse};

/// The limit on rules and alternatives that a denial names; more would bury the helpful ones.
const MAX_NAMED: usize = 8;

/// A policy: rules, parsed, checked and compiled.
#[derive(Clone, Debug)]
pub struct Policy {
    denying: Vec<Placed>,
    /// In file order.
    allowing: Vec<Placed>,
    /// Each distinct audience once: most rules share a few, so that a request is compared with few names.
    audiences: Vec<Audience>,
    digest: [u8; 32],
}

/// A rule, and the index of its audience.
#[derive(Clone, Debug)]
struct Placed {
    rule: Rule,
    audience: usize,
}

impl Policy {
    /// Parses a policy.
    ///
    /// # Errors
    /// The first fault by the crate's documentation, with its place. Nothing is skipped: a policy is understood completely or
    /// refused.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let mut audiences: Vec<Audience> = Vec::new();
        let mut places: HashMap<Audience, usize> = HashMap::new();
        let placed = parse::rules(text)?.into_iter().map(|rule| {
            let audience = *places.entry(rule.audience.clone()).or_insert_with(|| {
                audiences.push(rule.audience.clone());
                audiences.len() - 1
            });
            Placed { rule, audience }
        });
        let (denying, allowing) = placed.partition(|placed| matches!(placed.rule.effect, AllowOrDeny::Deny));
        Ok(Self {
            denying,
            allowing,
            audiences,
            digest: Sha256::digest(text.as_bytes()).into(),
        })
    }

    /// The SHA-256 of its text, byte for byte.
    pub const fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The rules that deny, then those that allow.
    pub(crate) fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.denying
            .iter()
            .chain(&self.allowing)
            .map(|placed| &placed.rule)
    }

    /// The roles that the rules name. An operator without any of them gets only what rules without `roles` allow.
    pub fn roles(&self) -> BTreeSet<&str> {
        self.audiences
            .iter()
            .flat_map(|audience| &audience.roles)
            .map(String::as_str)
            .collect()
    }

    /// Decides a request, in the order that the crate's documentation gives.
    pub fn decide(&self, request: &Request) -> Decision {
        if let Err(error) = request.resource.check() {
            return deny(request, Vec::new(), error.to_string());
        }
        if request.action.needs_change() && request.mode == Mode::Observe {
            return deny(request, Vec::new(), format!("needs mode change: {ENTER_CHANGE}"));
        }
        let target = Target::new(&request.resource);
        let included: Vec<bool> = self
            .audiences
            .iter()
            .map(|audience| audience.includes(request))
            .collect();
        let is_for = |placed: &&Placed| included.get(placed.audience).is_some_and(|included| *included);
        let speaks = |placed: &&Placed| is_for(placed) && placed.rule.speaks_of(request, &target);
        let named = |placed: &Placed| placed.rule.name.clone();
        let denied: Vec<RuleRef> = self
            .denying
            .iter()
            .filter(speaks)
            .map(named)
            .take(MAX_NAMED)
            .collect();
        if !denied.is_empty() {
            let help = "a rule forbids it, whatever others allow; ask for a change of the policy";
            return deny(request, denied, help.to_owned());
        }
        first_that_holds(
            request,
            self.allowing.iter().filter(speaks).map(|placed| &placed.rule),
        )
    }

    /// Checks whether the action might be allowed, in this mode, on the resource of the request or on something below it. Asked
    /// before the service's value is read, so that an action denied in any case costs the service nothing.
    ///
    /// Only a state path has something below it. The answer errs on the side of yes and allows nothing: times and reasons are
    /// ignored, and each leaf is decided once it is known.
    ///
    /// # Errors
    /// Nothing there can be allowed: the denial of the resource itself, as [`decide`](Self::decide) returns it.
    pub fn could_allow(&self, request: &Request) -> Result<(), Denial> {
        if self.might_allow(request) {
            return Ok(());
        }
        match self.decide(request) {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(denial) => Err(denial),
        }
    }

    fn might_allow(&self, request: &Request) -> bool {
        if request.resource.check().is_err() || request.action.needs_change() && request.mode == Mode::Observe
        {
            return false;
        }
        let target = Target::new(&request.resource);
        let is_for = |placed: &&Placed| {
            self.audiences
                .get(placed.audience)
                .is_some_and(|audience| audience.includes(request))
        };
        let has_below = matches!(request.resource, Resource::State(_));
        let denied = |Placed { rule, .. }: &Placed| match has_below {
            true => rule.speaks_of_all_below(request, &target),
            false => rule.speaks_of(request, &target),
        };
        let allowed = |Placed { rule, .. }: &Placed| match has_below {
            true => rule.might_speak_below(request, &target),
            false => rule.speaks_of(request, &target),
        };
        self.allowing.iter().filter(is_for).any(allowed) && !self.denying.iter().filter(is_for).any(denied)
    }
}

/// Allows by the first matching rule that holds in full; if none does, denies with what each lacks.
fn first_that_holds<'a>(request: &Request, matching: impl Iterator<Item = &'a Rule>) -> Decision {
    let mut rules = Vec::new();
    let mut help: Vec<String> = Vec::new();
    let mut wanted_reason = None;
    for rule in matching {
        let AllowOrDeny::Allow(conditions) = &rule.effect else {
            continue;
        };
        let lacking = conditions.lacking(request);
        if lacking.is_empty() {
            return Decision::Allow(Allowed {
                rule: rule.name.id.clone(),
                max_life: conditions.max_life,
            });
        }
        if rules.len() < MAX_NAMED {
            rules.push(rule.name.clone());
            if let ([Lack::Reason(wanted)], None) = (lacking.as_slice(), &wanted_reason) {
                wanted_reason = Some(wanted.clone());
            }
            let alternative = lacking
                .iter()
                .map(Lack::to_string)
                .collect::<Vec<_>>()
                .join(" and ");
            if !help.contains(&alternative) {
                help.push(alternative);
            }
        }
    }
    if rules.is_empty() {
        // The roles are named, since a role misspelt in the certificate shows nowhere else.
        let roles = match request.roles.as_slice() {
            [] => "you have no role".to_owned(),
            roles => format!("your roles: {}", roles.join(", ")),
        };
        let help = format!("no rule allows it ({roles}); ask for a role that may, or a change of the policy");
        return deny(request, rules, help);
    }
    Decision::Deny(Denial {
        wanted_reason,
        ..denial(request, rules, help.join("; or "))
    })
}

fn deny(request: &Request, rules: Vec<RuleRef>, help: String) -> Decision {
    Decision::Deny(denial(request, rules, help))
}

fn denial(request: &Request, rules: Vec<RuleRef>, help: String) -> Denial {
    let (action, resource) = (request.action, request.resource.clone());
    Denial {
        action,
        resource,
        rules,
        help,
        wanted_reason: None,
    }
}

#[cfg(test)]
mod tests;
