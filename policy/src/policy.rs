use sha2::{Digest, Sha256};

use crate::pattern::Target;
use crate::rule::{Effect, Rule};
use crate::{Allowed, Decision, Denial, Mode, PolicyError, Request, RuleRef, parse};

/// How many rules and alternatives a denial names; more would bury what helps.
const MAX_NAMED: usize = 8;

/// A policy: rules that were read, checked and compiled.
#[derive(Clone, Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    digest: [u8; 32],
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// The first thing in the text that is not as the crate's documentation says, with its place. Nothing is skipped:
    /// a policy is either understood whole or refused.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let rules = parse::rules(text)?;
        Ok(Self { rules, digest: Sha256::digest(text.as_bytes()).into() })
    }

    /// SHA-256 of the text that it was read from, byte for byte.
    pub const fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Decides, in the order that the crate's documentation gives.
    pub fn decide(&self, request: &Request) -> Decision {
        if let Err(error) = request.resource.check() {
            return deny(request, Vec::new(), error.to_string());
        }
        if request.action.needs_change() && request.mode == Mode::Observe {
            return deny(request, Vec::new(), "needs mode change: `:change REASON`".to_owned());
        }
        let target = Target::new(&request.resource);
        let denying = self.rules.iter().filter(|rule| matches!(rule.effect, Effect::Deny));
        let denied: Vec<RuleRef> = denying
            .filter(|rule| rule.speaks_of(request, &target))
            .map(|rule| rule.name.clone())
            .take(MAX_NAMED)
            .collect();
        if !denied.is_empty() {
            return deny(
                request,
                denied,
                "a rule forbids it, whatever others allow; ask for a change of the policy".to_owned(),
            );
        }
        self.first_that_holds(request, &target)
    }

    fn first_that_holds(&self, request: &Request, target: &Target<'_>) -> Decision {
        let mut rules = Vec::new();
        let mut help: Vec<String> = Vec::new();
        for rule in &self.rules {
            let Effect::Allow(conditions) = &rule.effect else { continue };
            if !rule.speaks_of(request, target) {
                continue;
            }
            let lacking = conditions.lacking(request);
            if lacking.is_empty() {
                return Decision::Allow(Allowed {
                    rule: rule.name.id.clone(),
                    max_life: conditions.max_life,
                });
            }
            if rules.len() < MAX_NAMED {
                rules.push(rule.name.clone());
                let alternative = lacking.join(" and ");
                if !help.contains(&alternative) {
                    help.push(alternative);
                }
            }
        }
        if rules.is_empty() {
            return deny(
                request,
                rules,
                "no rule allows it; ask for a role that may, or a change of the policy".to_owned(),
            );
        }
        deny(request, rules, help.join("; or "))
    }
}

fn deny(request: &Request, rules: Vec<RuleRef>, help: String) -> Decision {
    Decision::Deny(Denial { action: request.action, resource: request.resource.clone(), rules, help })
}

#[cfg(test)]
mod tests;
