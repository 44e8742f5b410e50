//! The requests to policy, and its answers. An empty list of requests cannot be expressed: it would be allowed.

use debug_base::NonEmpty;
use debug_policy::{Decision, Denial, Request};

/// What must be decided before an effect.
pub(super) enum Asked {
    /// An operator's own change is ended, by its lease's id. That needs no permission: it makes the service what it
    /// was.
    Own(u64),
    /// Policy must allow all of these.
    Policy(NonEmpty<Request>),
}

/// The decisions.
pub(super) enum Decided {
    /// No policy decision was needed.
    Own(u64),
    /// Each request with its decision, up to the first denial.
    Policy(Box<NonEmpty<(Request, Decision)>>),
}

impl Decided {
    /// Decides the requests up to the first denial.
    pub(super) fn of(asked: Asked, decide: impl Fn(&Request) -> Decision) -> Self {
        let requests = match asked {
            Asked::Own(lease) => return Self::Own(lease),
            Asked::Policy(requests) => requests,
        };
        let (first, rest) = requests.split();
        let decision = decide(&first);
        let mut denied = matches!(decision, Decision::Deny(_));
        let mut answers = NonEmpty::one((first, decision));
        for request in rest {
            if denied {
                break;
            }
            let decision = decide(&request);
            denied = matches!(decision, Decision::Deny(_));
            answers = answers.and([(request, decision)]);
        }
        Self::Policy(Box::new(answers))
    }

    /// Each request with its decision; none for the end of an operator's own change.
    pub(super) fn answers(&self) -> impl Iterator<Item = &(Request, Decision)> {
        let answers = match self {
            Self::Own(_) => None,
            Self::Policy(answers) => Some(answers.iter()),
        };
        answers.into_iter().flatten()
    }

    /// The denial, if there is one.
    pub(super) fn denial(&self) -> Option<&Denial> {
        self.answers().find_map(|(_, decision)| match decision {
            Decision::Deny(denial) => Some(denial),
            Decision::Allow(_) => None,
        })
    }
}
