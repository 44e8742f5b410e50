//! Executes effects in a plan: the same checks in the same order as [`crate::execute`], on the overlay in place of the
//! service.

use debug_policy::Resource;

use crate::changes::snapshot::{Snapshot, SnapshotError};
use crate::core::Core;
use crate::effect::Refusal;
use crate::effect::{Effect, Guarding, Proposal};
use crate::execute::{broken, ended, holds};
use crate::gate::{self};
use crate::session::context::EvalContext;
use crate::session::planning::Planning;
use debug_base::{BootTime, Path};
use debug_lease::{ChangeError, EndError, Lease, Phase};

/// Rehearses an effect that policy allows.
///
/// # Errors
/// As executing it would fail.
pub(super) fn effect(core: &Core, run: &EvalContext, effect: &Effect, now: BootTime) -> Result<(), Refusal> {
    match effect {
        Effect::Change(proposal) => make(core, run, proposal, now),
        Effect::Revert { lease } => revert(core, run, lease),
        Effect::Renew {
            confirm,
            lease,
            ttl,
            asked,
        } => {
            let mut renewed = run.lease(&core.changes, lease.id).map_err(|e| ended(&e))?;
            renewed.alive(&lease.owner, now).map_err(|e| ended(&e))?;
            if *confirm && renewed.phase == Phase::Confirmed {
                return Err(ended(&EndError::Confirmed(lease.id)));
            }
            renewed.deadline = asked.after(*ttl);
            if *confirm {
                renewed.phase = Phase::Confirmed;
            }
            run.planning(|planning| planning.leases.change(renewed));
            Ok(())
        }
        Effect::Adopt { lease } => {
            let mut adopted = run.lease(&core.changes, lease.id).map_err(|e| ended(&e))?;
            adopted.alive(&lease.owner, now).map_err(|e| ended(&e))?;
            adopted.owner.clone_from(&run.session.operator.name);
            (adopted.session, adopted.grace) = (run.session.id, None);
            run.planning(|planning| planning.leases.change(adopted));
            Ok(())
        }
        Effect::Guard { lease, guard } => {
            let found = run.lease(&core.changes, lease.id).map_err(|e| ended(&e))?;
            if found.owner != lease.owner {
                return Err(ended(&EndError::Owner(lease.id)));
            }
            holds_now(core, lease.id, guard)?;
            let free = with(run, |planning| planning.leases.guard(lease.id)) == Some(true);
            if !free || core.changes.guards.has(lease.id) {
                return Err(crate::execute::guarded_already(lease.id));
            }
            Ok(())
        }
        Effect::Settle { lease, force, .. } => settle(core, run, lease, *force),
        Effect::Snapshot { name, parts } => {
            let taken = snapshot_of(core, run, name.clone(), parts.iter().cloned().collect(), now);
            let kept =
                with(run, |planning| planning.snapshots(&core.changes).keep(taken)).unwrap_or(Ok(Vec::new()));
            kept.map(drop)
                .map_err(|error: SnapshotError| crate::execute::not_kept(&error))
        }
        Effect::Impossible { why, .. } => Err(why.clone()),
        Effect::See(..)
        | Effect::Read { .. }
        | Effect::Reveal { .. }
        | Effect::Barred(_)
        | Effect::Diff { .. }
        | Effect::EnterChange { .. }
        | Effect::Observe
        | Effect::Log { .. } => Ok(()),
    }
}

/// Calls `what` with the current plan.
fn with<R>(run: &EvalContext, what: impl FnOnce(&mut Planning) -> R) -> Option<R> {
    let mut result = None;
    run.planning(|planning| result = Some(what(planning)));
    result
}

/// The checks of `execute`'s `make`, in its order: the guard, the snapshot before, the change.
fn make(core: &Core, run: &EvalContext, proposal: &Proposal, now: BootTime) -> Result<(), Refusal> {
    let id = with(run, |planning| planning.leases.next(&core.changes.leases)).unwrap_or_default();
    if let Some(guard) = &proposal.guard {
        holds_now(core, id, guard)?;
    }
    proposal
        .change
        .could_be_made()
        .map_err(|error| not_made(&error))?;
    put(core, run, proposal, id, now)?;
    if proposal.guard.is_some() {
        run.planning(|planning| {
            planning.leases.guard(id);
        });
    }
    Ok(())
}

/// Adds a refused change to the overlay, so that the plan goes on as if it had been made.
pub(super) fn go_on(core: &Core, run: &EvalContext, proposal: &Proposal, now: BootTime) {
    let id = with(run, |planning| planning.leases.next(&core.changes.leases)).unwrap_or_default();
    // If the change could not be made anyway, the verdict says why.
    drop(put(core, run, proposal, id, now));
}

fn put(core: &Core, run: &EvalContext, proposal: &Proposal, id: u64, now: BootTime) -> Result<(), Refusal> {
    let lease = gate::lease_of(run, proposal, id, now)?;
    let others: Vec<u64> = run.leases(&core.changes).iter().map(|lease| lease.id).collect();
    let made = with(run, |planning| {
        if let (Resource::State(path), Some((Some(before), _))) = (proposal.change.target(), &proposal.shown)
        {
            let path = Path(path.clone());
            let (eval, by) = (run.record_number(), &run.session.operator.name);
            planning
                .snapshots(&core.changes)
                .before_change(eval, by, &others, &path, before.clone());
        }
        if let Some((path, values)) = proposal.change.write() {
            planning
                .overlay
                .write(&core.changes, &core.exposed, id, &path, &values, lease.deadline)?;
        }
        planning.leases.make(lease);
        Ok::<_, ChangeError>(())
    });
    match made {
        None | Some(Ok(())) => Ok(()),
        Some(Err(error)) => Err(not_made(&error)),
    }
}

fn not_made(error: &ChangeError) -> Refusal {
    Refusal::state(error.to_string(), "nothing was changed")
}

fn holds_now(core: &Core, lease: u64, guard: &Guarding) -> Result<(), Refusal> {
    holds(core, lease, guard).map(drop).map_err(|why| broken(&why))
}

fn revert(core: &Core, run: &EvalContext, lease: &Lease) -> Result<(), Refusal> {
    let found = run.lease(&core.changes, lease.id).map_err(|e| ended(&e))?;
    if found.owner != lease.owner {
        return Err(ended(&EndError::Owner(lease.id)));
    }
    let conflict = match found.change.write() {
        Some((path, _)) => with(run, |planning| {
            planning
                .overlay
                .end(&core.changes, &core.exposed, lease.id, &path)
        }),
        None => None,
    };
    let conflict = conflict.unwrap_or(Ok(None)).map_err(|error| {
        Refusal::state(
            format!("lease {} could not be undone: {error}", lease.id),
            "nothing was changed",
        )
    })?;
    run.planning(|planning| planning.leases.end(&found, "reverted", conflict));
    Ok(())
}

fn settle(core: &Core, run: &EvalContext, lease: &Lease, force: bool) -> Result<(), Refusal> {
    crate::execute::not_own_above(core, run, lease.id, force)?;
    if force && let Some((path, _)) = lease.change.write() {
        let left = lease.change.left();
        let forced = with(run, |planning| {
            planning
                .overlay
                .force(&core.changes, &core.exposed, lease.id, &path, left)
        });
        if let Some(Err(error)) = forced {
            return Err(crate::execute::not_forced(lease.id, &error));
        }
    }
    match with(run, |planning| planning.leases.settle(lease.id)) {
        Some(false) => Err(crate::execute::settled_before(lease.id)),
        _ => Ok(()),
    }
}

fn snapshot_of(
    core: &Core,
    run: &EvalContext,
    name: String,
    parts: Vec<(Path, debug_base::Tree)>,
    now: BootTime,
) -> Snapshot {
    let leases = run.leases(&core.changes).iter().map(|lease| lease.id).collect();
    let by = run.session.operator.name.clone();
    Snapshot {
        name,
        by,
        automatic: false,
        taken: now,
        leases,
        parts,
    }
}
