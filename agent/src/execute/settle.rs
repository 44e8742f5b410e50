//! A conflict is settled: what the service made of the place stays, or the undo is forced.

use debug_policy::Resource;
use serde_json::Value;

use super::refusals::{not_forced, settled_before};
use crate::core::Core;
use crate::effect::{Refusal, Reply};
use crate::gate;
use crate::recorder::records;
use crate::session::context::EvalContext;
use debug_base::Wait;
use debug_lease::{Lease, overlaps};

/// Settles a conflict: keeps the current value, or restores the old one. A failed eval does not undo this.
pub(super) fn settle(core: &Core, run: &EvalContext, id: u64, force: bool) -> Result<Reply, Refusal> {
    not_own_above(core, run, id, force)?;
    // Take the conflict out first: if two operators settle it, one wins.
    let Some((lease, conflict)) = core.changes.leases.take_conflict(id) else {
        return Err(settled_before(id));
    };
    let mut as_before = false;
    let at = lease
        .change
        .left()
        .map_or_else(|| lease.target().clone(), |left| found_at(&lease, &left.path));
    if force {
        match lease.change.force(Wait::AGENT) {
            Ok(seen) => as_before = seen,
            Err(error) => {
                core.changes.leases.put_conflict_back(lease, conflict);
                return Err(not_forced(id, &error));
            }
        }
    }
    core.changes.leases.ended(id, "conflict, settled");
    let stands = super::stands(core, &at).map_or(Value::Null, |value| core.recorder.digest(&value));
    let (by, how) = (&run.session.operator.name, gate::settled_as(force));
    core.recorder.append(vec![records::lease_settled(
        &lease,
        by,
        how,
        &stands,
        Value::Null,
    )]);
    Ok(Reply::message(match force {
        true if as_before => format!("lease {}: {at} is as it was before", lease.id),
        true => format!("lease {}: what it changed at {at} is undone", lease.id),
        false => format!("lease {}: {at} stays as it is now", lease.id),
    }))
}

/// The place of a write as its end found it, from the path below its state.
fn found_at(lease: &Lease, below: &[String]) -> Resource {
    match lease.target() {
        Resource::State(target) => Resource::State([target.get(..1).unwrap_or_default(), below].concat()),
        other => other.clone(),
    }
}

/// Refuses to force a conflict at a place that the same eval has changed: its own change is undone if the eval fails,
/// so the operator is not told to end that lease first.
pub(crate) fn not_own_above(core: &Core, run: &EvalContext, id: u64, force: bool) -> Result<(), Refusal> {
    let conflict = run.conflict(&core.changes, id).ok().filter(|_| force);
    let Some((lease, _)) = conflict else { return Ok(()) };
    let own = run
        .leases(&core.changes)
        .into_iter()
        .find(|own| run.is_own(own) && overlaps(own.target(), lease.target()));
    match own {
        None => Ok(()),
        Some(_) => Err(Refusal::state(
            format!("this eval has itself changed the place of lease {id} before"),
            "settle the lease first, or in an eval of its own",
        )),
    }
}
