//! What the revert thread does with a lease that is due: which thread undoes its change.

use std::sync::Arc;

use debug_policy::Resource;

use crate::changes::workers::Submitted;
use crate::core::Core;
use debug_base::{Panicked, Path, Wait, fenced};
use debug_lease::Cause;

/// Ends a lease that is due. If that panics, the lease is tried again later, and the thread goes on with the other due
/// leases.
pub(super) fn end_due(core: &Arc<Core>, id: u64, cause: &Cause) {
    if let Err(Panicked) = fenced(|| revert(core, id, cause.clone())) {
        core.changes.leases.postpone(id, cause);
        core.panicked(super::REVERT);
    }
}

/// Ends a lease that is due. An error is recorded as an alarm where it happens, and the lease is tried again.
fn revert(core: &Arc<Core>, id: u64, cause: Cause) {
    let Ok(lease) = core.changes.leases.find(id) else {
        return;
    };
    let aside = |path: &[String]| lease.failing.is_some() || core.exposed.states.waits(&Path(path.to_vec()));
    let Resource::State(path) = lease.target().clone() else {
        drop(core.end_lease(id, &cause, "agent", Wait::AGENT));
        return;
    };
    if !aside(&path) {
        drop(core.end_lease(id, &cause, "agent", Wait::AGENT));
        return;
    }
    // The service keeps taking the state's lock, or its setter is slow. Queue for the lock as an ordinary writer, on
    // the state's own thread, so that it does not delay reverts of other states.
    core.changes.leases.postpone(id, &cause);
    let state = path.first().map(String::as_str).unwrap_or_default();
    let waiting = core.clone();
    let for_the_helper = cause.clone();
    // The first attempt has a time limit: if it hangs, that must be reported.
    let wait = if lease.failing.as_ref().is_some_and(|failing| failing.tried) {
        Wait::Until
    } else {
        Wait::AGENT
    };
    let undo = move || drop(waiting.end_lease(id, &for_the_helper, "agent", wait));
    match core.changes.helpers.undo(state, id, undo) {
        Ok(Submitted::Taken) => {}
        // The state's thread may be blocked by another job, or dead. Try here, too, without blocking, because other
        // leases are due.
        Ok(Submitted::Already) => drop(core.end_lease(id, &cause, "agent", Wait::Try)),
        Err(error) => core
            .recorder
            .emitter
            .alarm(&format!("no thread to undo lease {id} on: {error}")),
    }
}
