//! What policy says before anything of the service is touched: on action, path and mode alone.
//!
//! It allows nothing. What could be allowed is formed, which reads the service, and decided leaf by leaf by
//! [`super::pass`]; what could not is an effect of its own, which is decided, recorded and denied as any.

use debug_policy::{Action, Request, Resource};
use debug_wire::table::Function;

use super::requests::{resource, with_options};
use crate::core::Core;
use crate::effect::{Effect, Options};
use crate::run::Run;
use crate::state::Path;

/// What policy allows no part of, whatever stands there. The service was not asked.
pub(crate) struct Barred {
    /// The function called.
    pub(crate) function: &'static Function,
    /// What it would do.
    pub(crate) action: Action,
    /// To what.
    pub(crate) resource: Resource,
    /// Whether the operator has named it; otherwise its name is not told.
    pub(crate) named: bool,
    /// The options given.
    pub(crate) options: Options,
}

impl Barred {
    /// What the function does to what the operator has named.
    pub(crate) fn named(function: &'static Function, resource: Resource, options: Options) -> Self {
        Self { function, action: function.action, resource, named: true, options }
    }

    /// A read of what the function reads without being told where.
    pub(crate) fn read(function: &'static Function, path: &Path) -> Self {
        let (resource, options) = (resource(path), Options::default());
        Self { function, action: Action::Read, resource, named: false, options }
    }

    /// The effect that it is, if policy could not allow it; nothing if it could, and it is to be formed.
    pub(crate) fn unless_allowed(self, core: &Core, run: &Run) -> Option<Effect> {
        let denied = core.policy.could_allow(&self.request(core, run)).is_err();
        denied.then_some(Effect::Barred(self))
    }

    /// What policy is asked.
    pub(super) fn request(&self, core: &Core, run: &Run) -> Request {
        with_options(run, &self.options, run.request(core, self.action, self.resource.clone()))
    }
}

/// Whether a rule of the policy is about this operator: it would be named where it denies.
pub(crate) fn speaks_of(core: &Core, run: &Run, rule: &str) -> bool {
    core.policy.speaks_of(rule, &run.request(core, Action::List, Resource::Agent))
}

/// Whether this operator might be allowed to read something at a path or below.
pub(crate) fn could_read(core: &Core, run: &Run, path: &Path) -> bool {
    core.policy.could_allow(&run.request(core, Action::Read, resource(path))).is_ok()
}
