//! Why a change of a state is not made.

use debug_base::Path;
use debug_lease::ChangeError;
use debug_state::StateError;

/// A state's error as the error of a change.
pub(crate) fn failed(error: StateError) -> ChangeError {
    match error {
        StateError::Busy(_) => ChangeError::Busy(error.to_string()),
        other => ChangeError::Refused(other.to_string()),
    }
}

/// Error text for a write to a place that exists only because of a lease.
pub(crate) fn only_because_of(path: &Path, lease: u64) -> String {
    format!("`{path}` is only there because of lease {lease}, and would vanish with it")
}

/// Error text for a write to a place where there is a lease that its author did not agree to cover.
pub(crate) fn came_in_between(path: &Path) -> String {
    format!(
        "since this was allowed, the service moved an element to `{path}` that another lease has changed; look at `leases()` \
         and decide anew"
    )
}

/// Error text for `force` when another lease changes the same place.
pub(crate) fn stands_above(lease: u64) -> String {
    format!("lease {lease} changes the same place; end it first")
}
