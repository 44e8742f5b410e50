//! Policy decisions on action, path and mode alone, before the service's state is read.
//!
//! They allow nothing. If an effect could be allowed, it is formed, which reads the service, and [`super::pass`]
//! decides about each leaf. If it could not, it becomes [`Effect::Barred`], which is decided, recorded and denied like
//! any effect.

use debug_policy::{Action, Request, Resource};
use debug_wire::table::Function;

use super::Door;
use super::requests::{resource, with_options};
use crate::effect::{Barred, ChangeOptions, Effect};
use crate::recorder::notes::Note;
use crate::session::context::EvalContext;
use debug_base::Path;

impl Barred {
    /// The action of the function on a resource that the operator named.
    pub(crate) fn named(function: &'static Function, resource: Resource, options: ChangeOptions) -> Self {
        Self {
            function,
            action: function.action,
            resource,
            named: true,
            options,
        }
    }

    /// A read at a path that the operator did not name.
    pub(crate) fn read(function: &'static Function, path: &Path) -> Self {
        let (resource, options) = (resource(path), ChangeOptions::default());
        Self {
            function,
            action: Action::Read,
            resource,
            named: false,
            options,
        }
    }

    /// `Effect::Barred`, if policy could not allow it; `None` if it could, and the effect must be formed.
    pub(crate) fn unless_allowed(self, door: Door<'_>, run: &EvalContext) -> Option<Effect> {
        let denied = door.rules.policy.could_allow(&self.request(run)).is_err();
        denied.then_some(Effect::Barred(self))
    }

    /// The request to policy.
    pub(super) fn request(&self, run: &EvalContext) -> Request {
        with_options(
            run,
            &self.options,
            run.request(self.action, self.resource.clone()),
        )
    }
}

/// Whether a rule of the policy applies to this operator, so that a denial may name it to them.
pub(crate) fn speaks_of(door: Door<'_>, run: &EvalContext, rule: &str) -> bool {
    door.rules
        .policy
        .speaks_of(rule, &run.request(Action::List, Resource::Agent))
}

/// Whether policy might let this operator read something at a path or below.
pub(crate) fn could_read(door: Door<'_>, run: &EvalContext, path: &Path) -> bool {
    door.rules
        .policy
        .could_allow(&run.request(Action::Read, resource(path)))
        .is_ok()
}

/// Whether this operator may see a note.
pub(crate) fn may_see_note(door: Door<'_>, run: &EvalContext, note: &Note) -> bool {
    note.paths.iter().all(|path| could_read(door, run, path))
        && note.rule.as_ref().is_none_or(|id| speaks_of(door, run, id))
}
