//! A request that policy could not allow.

use debug_policy::{Action, Resource};
use debug_wire::table::Function;

use super::ChangeOptions;

/// A request that policy denies for every possible value. The service's state was not read.
pub(crate) struct Barred {
    /// The function called.
    pub(crate) function: &'static Function,
    /// The action.
    pub(crate) action: Action,
    /// The resource.
    pub(crate) resource: Resource,
    /// Whether the operator named the resource; if not, the denial does not name it either.
    pub(crate) named: bool,
    /// The options given.
    pub(crate) options: ChangeOptions,
}
