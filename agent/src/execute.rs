//! Executes the effects of evals. Nothing else does, and each effect needs its permit.

mod alike;
pub(crate) mod guard;
pub(crate) mod listing;
pub(crate) mod missing;
pub(crate) mod plan;
mod refusals;
mod rollback;
mod rows;
mod script_log;
mod settle;
mod snapshots;
mod words;

use debug_policy::{Mode, Resource};
use debug_wire::messages::NotEnded;
use debug_wire::records::{LEASE_ADOPTED, LEASE_CONFIRMED, LEASE_EXTENDED};

use self::refusals::not_all;
pub(crate) use self::refusals::{broken, ended, guarded_already, not_forced, not_kept, settled_before};
use self::rollback::record_renewal;
pub(crate) use self::rollback::undo;
use self::rows::difference_rows;
pub(crate) use self::script_log::script_log;
pub(crate) use self::settle::not_own_above;
use crate::changes::guards::{self, Counts};
use crate::core::Core;
use crate::effect::{Effect, Guarding, Proposal, Refusal, Reply};
use crate::gate::{self, Opened, Permit};
use crate::session::context::{EvalContext, Step};
use debug_base::{BootTime, Path, Tree, Wait};
use debug_lease::{Cause, EndError, Lease};
use debug_state::Origin;

/// Executes the effect of `permit` and uses the permit up.
///
/// # Errors
/// Why the effect did not happen.
pub(crate) fn execute(core: &Core, run: &EvalContext, permit: Permit<'_>) -> Result<Reply, Refusal> {
    let now = BootTime::now();
    let (effect, lease) = permit.spend();
    if effect.acts() {
        run.act();
    }
    match effect {
        Effect::See(listing, about) => listing::list(core, run, listing, about.as_deref(), now),
        Effect::Read { path, value, .. } => {
            let alike = alike::alike(core, run, &path, &value);
            Ok(Reply::Value {
                tree: value,
                path,
                alike,
            })
        }
        Effect::Reveal { value, .. } => {
            run.reveal(&value);
            Ok(Reply::Revealed(value))
        }
        Effect::Impossible { why, .. } => Err(why),
        Effect::Change(proposal) => match lease {
            Some(opened) => make(core, run, &proposal, opened),
            // INVARIANT: the gate opened a lease for every change; without one there is nothing to make it under.
            None => Err(Refusal::state(
                "the change has no lease",
                "this is a fault of the agent",
            )),
        },
        // Unreachable: the gate denies every barred effect.
        Effect::Barred(_) => Err(Refusal::state("policy says no", "this is a fault of the agent")),
        Effect::Revert { lease } => revert(core, run, &lease),
        Effect::Renew {
            confirm,
            lease,
            ttl,
            asked,
        } => {
            let id = lease.id;
            let before = core.changes.leases.find(id).map_err(|e| ended(&e))?;
            let lease = core
                .changes
                .leases
                .renew(id, &lease.owner, asked.after(ttl), confirm, now)
                .map_err(|e| ended(&e))?;
            let sooner = lease.deadline < before.deadline;
            run.step(Step::Renewed {
                before: Box::new(before),
                after: Box::new(lease.clone()),
            });
            record_renewal(
                core,
                run,
                &lease,
                if confirm { LEASE_CONFIRMED } else { LEASE_EXTENDED },
                None,
            );
            Ok(Reply::message(words::renewed(&lease, confirm, asked, sooner)))
        }
        Effect::Snapshot { name, parts } => snapshots::take(core, run, name, parts, now),
        Effect::Diff { rows, .. } => Ok(difference_rows(&rows)),
        Effect::Adopt { lease } => {
            let before = core.changes.leases.find(lease.id).map_err(|e| ended(&e))?;
            let (owner, session) = (&run.session.operator.name, run.session.id);
            let lease = core
                .changes
                .leases
                .adopt(lease.id, &lease.owner, owner, session, now)
                .map_err(|e| ended(&e))?;
            let was = match before.owner == *owner {
                true => "it was yours before, and is this session's now".to_owned(),
                false => format!("it was {}'s", before.owner),
            };
            let said = format!("lease {} is yours now, {was}: {}", lease.id, lease.target());
            run.step(Step::Renewed {
                before: Box::new(before),
                after: Box::new(lease.clone()),
            });
            record_renewal(core, run, &lease, LEASE_ADOPTED, None);
            Ok(Reply::message(said))
        }
        Effect::Guard { lease, guard } => {
            let id = lease.id;
            // The policy decision was about the owner at that time.
            let found = core.changes.leases.find(id).map_err(|e| ended(&e))?;
            if found.owner != lease.owner {
                return Err(ended(&EndError::Owner(id)));
            }
            let counts = holds(core, id, &guard).map_err(|why| broken(&why))?;
            if !put_guard(core, id, &guard, counts) {
                return Err(guarded_already(id));
            }
            run.step(Step::Guarded(id));
            Ok(Reply::message(format!(
                "lease {id}: ends when its guard is false, or cannot tell twice in a row"
            )))
        }
        Effect::Settle { lease, force, .. } => settle::settle(core, run, lease.id, force),
        Effect::EnterChange { reason } => {
            let (mode, before) = run.session.mode();
            run.step(Step::Mode(mode, before));
            run.session.set_mode(Mode::Change, Some(reason));
            Ok(Reply::message(
                "mode change: changes are possible, each with a deadline; `observe()` leaves it",
            ))
        }
        Effect::Observe => {
            let (mode, before) = run.session.mode();
            run.step(Step::Mode(mode, before));
            run.session.set_mode(Mode::Observe, None);
            Ok(Reply::message("mode observe: nothing can be changed"))
        }
        Effect::Log { warn, text } => {
            let line = run.clean(&core.exposed, &text);
            let operator = &run.session.operator.name;
            // Runs the service's subscriber on this thread.
            let write = || script_log(operator, None, Some(run.record_number()), warn, &line);
            core.guarded("the service's subscriber", write)
                .map(|()| Reply::Nothing)
                .ok_or_else(|| {
                    Refusal::state(
                        "the service's subscriber panicked when it took the line",
                        "tell the service's author",
                    )
                })
        }
    }
}

/// Applies a change under its lease; cancels the lease if anything fails.
fn make(
    core: &Core,
    run: &EvalContext,
    proposal: &Proposal,
    mut opened: Opened<'_>,
) -> Result<Reply, Refusal> {
    let lease = opened.lease().clone();
    let id = lease.id;
    let counts = proposal
        .guard
        .as_ref()
        .map(|guard| holds(core, id, guard))
        .transpose();
    let counts = match counts {
        Ok(counts) => counts,
        Err(why) => {
            opened.never_made(&why);
            return Err(broken(&why));
        }
    };
    let stands = stands(core, lease.target());
    if let Some(stands) = &stands {
        snapshots::before_change(core, run, &lease, stands);
    }
    let made = undoable(core, lease.target()).and_then(|()| {
        let begun = opened.begin()?;
        proposal
            .change
            .make(begun, lease.deadline, opened.covers())
            .map_err(|error| error.to_string())
    });
    if let Err(error) = made {
        opened.never_made(&error);
        return Err(Refusal::state(error, "nothing was changed"));
    }
    // The old value will come back, so it stays secret while the change is in force.
    if let Some(before) = stands {
        core.exposed.scrubber.learn(Origin::replaced(id), &before);
        drop(self::stands(core, lease.target()));
    }
    run.step(Step::Made(id));
    opened.kept();
    if let (Some(guard), Some(counts)) = (&proposal.guard, counts) {
        put_guard(core, id, guard, counts);
    }
    Ok(Reply::message(words::made(core, proposal, &lease)))
}

/// Checks that a guard holds now; one that does not must not be attached. Its counts start here.
pub(crate) fn holds(core: &Core, lease: u64, guard: &Guarding) -> Result<Counts, String> {
    let counts = Counts::of(&guard.points);
    match guard::first(core, lease, guard.code.as_ref(), &counts) {
        guards::GuardAnswer::Holds => Ok(counts),
        guards::GuardAnswer::Broken(seen) => Err(format!("the guard does not hold now: {seen}")),
        guards::GuardAnswer::Silent(why) => Err(format!("the guard cannot tell: {why}")),
    }
}

/// Attaches a guard; false if the lease has one already.
fn put_guard(core: &Core, lease: u64, guard: &Guarding, counts: Counts) -> bool {
    let free = core.changes.guards.add(lease, guard.code.clone(), counts);
    if let Some(observing) = core.observer() {
        observing.guarded();
    }
    free
}

/// Starts the thread that reverts writes to this state, so that a write can be reverted even if the service keeps
/// taking its lock.
fn undoable(core: &Core, target: &Resource) -> Result<(), String> {
    let Resource::State(path) = target else {
        return Ok(());
    };
    let state = path.first().map(String::as_str).unwrap_or_default();
    core.changes
        .helpers
        .ready(state)
        .map_err(|error| format!("no thread to undo a change of `{state}` on: {error}"))
}

/// Reads a state path; the scrubber learns its secrets.
fn stands(core: &Core, target: &Resource) -> Option<Tree> {
    let Resource::State(path) = target else {
        return None;
    };
    core.exposed.read(&Path(path.clone()), Wait::AGENT).ok()
}

fn revert(core: &Core, run: &EvalContext, lease: &Lease) -> Result<Reply, Refusal> {
    let (id, by) = (lease.id, &run.session.operator.name);
    let done = core
        .end_lease_of(id, Some(&lease.owner), &Cause::Reverted, by, Wait::AGENT)
        .map_err(|e| ended(&e))?;
    run.step(Step::Reverted(id));
    Ok(Reply::message(done))
}

/// Ends each of these leases separately, each behind the gate; returns what happened to each.
///
/// # Errors
/// The leases that could not be ended, and those that were. The former are tried again until they end.
pub(crate) fn end_each(core: &Core, run: &EvalContext, leases: Vec<Lease>) -> Result<Vec<String>, Refusal> {
    let (mut done, mut standing) = (Vec::new(), Vec::new());
    for lease in leases {
        let (id, target) = (lease.id, lease.target().to_string());
        let end = || -> Result<Reply, Refusal> {
            execute(
                core,
                run,
                gate::pass(
                    core.door(),
                    run,
                    Effect::Revert {
                        lease: Box::new(lease),
                    },
                )?,
            )
        };
        // A panic while one lease is ended must not stop the others.
        let ended = core.guarded("ending a lease", end);
        let ended = ended.unwrap_or_else(|| Err(Refusal::state("ending it panicked inside the agent", "")));
        let why = match (ended, core.changes.leases.find(id)) {
            (Ok(Reply::Message(said)), _) => {
                done.push(said);
                continue;
            }
            (Ok(_), _) => continue,
            // The lease ended in another way first.
            (Err(_), Err(error @ EndError::Ended { .. })) => {
                done.push(error.to_string());
                continue;
            }
            (
                Err(_),
                Ok(Lease {
                    failing: Some(failing),
                    ..
                }),
            ) => failing.why,
            (Err(_), Err(EndError::Failing { why, .. })) => why,
            (Err(refusal), _) => refusal.message(),
        };
        standing.push(NotEnded { id, target, why });
    }
    if standing.is_empty() {
        return Ok(done);
    }
    let refusal = not_all(&done, &standing);
    run.stand(standing);
    Err(refusal)
}
