//! Undoing the effects of a failed eval.

use debug_wire::records::{LEASE_EXTENDED, LeaseRenewed};

use crate::core::Core;
use crate::recorder::records;
use crate::session::context::{EvalContext, Step};
use debug_base::{BootTime, Wait};
use debug_lease::{Cause, Lease};

/// Records a renewal. `undone`: why the lease has its former terms again.
pub(super) fn record_renewal(
    core: &Core,
    run: &EvalContext,
    lease: &Lease,
    kind: &'static str,
    undone: Option<&str>,
) {
    let by = if undone.is_some() {
        "agent"
    } else {
        &run.session.operator.name
    };
    let body = LeaseRenewed {
        lease: lease.id,
        target: lease.target().to_string(),
        owner: lease.owner.clone(),
        by: by.to_owned(),
        eval: Some(run.record_number()),
        deadline_boot_ns: lease.deadline.0,
        undone: undone.map(str::to_owned),
    };
    core.recorder.append(vec![records::entry(kind, &body)]);
    core.mark();
}

/// Undoes the effects of a failed eval, newest first; returns the leases that were undone.
pub(crate) fn undo(core: &Core, run: &EvalContext) -> Vec<u64> {
    let mut undone = Vec::new();
    for step in run.take_steps() {
        match step {
            Step::Made(id) => {
                // A failure is recorded as an alarm and tried again by the revert thread.
                core.see_to_end(id, &Cause::Undone, Wait::AGENT);
                undone.push(id);
            }
            Step::Renewed { before, after } => {
                let lost = core
                    .sessions()
                    .get(&before.session)
                    .is_none_or(|session| session.is_gone());
                if let Some(restored) = core
                    .changes
                    .leases
                    .restore(&before, &after, lost, BootTime::now())
                {
                    record_renewal(core, run, &restored, LEASE_EXTENDED, Some("its eval failed"));
                    undone.push(before.id);
                }
            }
            Step::Guarded(id) => core.changes.guards.remove(id),
            Step::Mode(mode, reason) => run.session.set_mode(mode, reason),
            Step::Reverted(_) => {}
        }
    }
    undone
}
