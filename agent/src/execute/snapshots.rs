//! Snapshots are taken: on request, and before an eval's first change of a state.

use debug_policy::Resource;

use super::refusals::not_kept;
use crate::changes::snapshot::Snapshot;
use crate::core::Core;
use crate::effect::{Refusal, Reply};
use crate::session::context::EvalContext;
use debug_base::{BootTime, NonEmpty, Path, Tree};
use debug_lease::Lease;

/// Keeps what stands at some paths under a name.
pub(super) fn take(
    core: &Core,
    run: &EvalContext,
    name: String,
    parts: NonEmpty<(Path, Tree)>,
    now: BootTime,
) -> Result<Reply, Refusal> {
    let parts = parts.into_vec();
    let leases = core.changes.leases.list().iter().map(|lease| lease.id).collect();
    let by = run.session.operator.name.clone();
    let taken = Snapshot {
        name: name.clone(),
        by,
        automatic: false,
        taken: now,
        leases,
        parts,
    };
    let bytes = taken.bytes();
    let gone = core
        .changes
        .snapshots
        .keep(taken)
        .map_err(|error| not_kept(&error))?;
    for gone in &gone {
        core.note(format!("the snapshot {gone} went to make room for {name}"));
    }
    let gone = if gone.is_empty() {
        String::new()
    } else {
        format!("; to make room, {} went", gone.join(", "))
    };
    Ok(Reply::message(format!("snapshot {name}: {bytes} bytes{gone}")))
}

/// Keeps what stands at the place of a state's change, before the change is applied.
pub(super) fn before_change(core: &Core, run: &EvalContext, lease: &Lease, stands: &Tree) {
    let Resource::State(path) = lease.target() else {
        return;
    };
    let others = core.changes.leases.list().into_iter().map(|other| other.id);
    let others: Vec<u64> = others.filter(|other| *other != lease.id).collect();
    let (eval, by) = (run.record_number(), &run.session.operator.name);
    let snapshots = &core.changes.snapshots;
    for gone in snapshots.before_change(eval, by, &others, &Path(path.clone()), stands.clone()) {
        core.note(format!("the snapshot {gone} went to make room for another"));
    }
}
