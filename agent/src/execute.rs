//! Executes effects. Nothing else does, and each effect needs its permit.

pub(crate) mod guard;
pub(crate) mod listing;
pub(crate) mod missing;
pub(crate) mod plan;
mod refusals;
mod rollback;
mod rows;
mod script_log;

use debug_policy::{Mode, Resource, format_duration};
use debug_wire::messages::Standing;
use debug_wire::records::{LEASE_ADOPTED, LEASE_CONFIRMED, LEASE_EXTENDED};
use debug_wire::table::HostFunction;
use serde_json::Value;

use self::refusals::not_all;
pub(crate) use self::refusals::{broken, ended, guarded_already, not_forced, not_kept, settled_before};
use self::rollback::record_renewal;
pub(crate) use self::rollback::undo;
use self::rows::difference_rows;
pub(crate) use self::script_log::script_log;
use crate::changes::guards::{self, Counts};
use crate::changes::snapshot::Snapshot;
use crate::core::Core;
use crate::effect::{Effect, Guarding, Proposal, Refusal, Reply};
use crate::gate::{self, Opened, Permit};
use crate::recorder::records;
use crate::session::context::{EvalContext, Step};
use debug_base::NonEmpty;
use debug_base::{BootTime, Path, Tree, Wait, roughly};
use debug_lease::{Cause, EndError, Lease, overlaps};
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
            let told = |at: Path| alike(core, run, &at).map(|why| (at, why));
            let alike = secrets(&path, &value).into_iter().filter_map(told).collect();
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
            Ok(Reply::message(renewed(&lease, confirm, asked, sooner)))
        }
        Effect::Snapshot { name, parts } => snapshot(core, run, name, parts, now),
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
        Effect::Settle { lease, force, .. } => settle(core, run, lease.id, force),
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

/// The paths of the secrets in a value.
fn secrets(path: &Path, value: &Tree) -> Vec<Path> {
    match value {
        Tree::Secret(_) => vec![path.clone()],
        Tree::Seq(items) => {
            let each = items.iter().enumerate();
            each.flat_map(|(at, item)| secrets(&path.child(&at.to_string()), item))
                .collect()
        }
        Tree::Map(entries) => {
            let each = entries.iter();
            each.flat_map(|(name, entry)| secrets(&path.child(name), entry))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// Why a text of the service is opaque although its path is no secret: it contains a secret. The secret's path is named
/// to operators who may know of it.
///
/// Only what was found at start is told, even if the text has changed since, and nothing while a lease is in force
/// there. Otherwise an operator could plant a text, by a patch or as a client of the service, and learn whether it was
/// a correct guess of a secret.
fn alike(core: &Core, run: &EvalContext, path: &Path) -> Option<String> {
    let is_there =
        |lease: &Lease| matches!(lease.target(), Resource::State(at) if Path(at.clone()).overlaps(path));
    if run.leases(&core.changes).iter().any(is_there) {
        return None;
    }
    let alike = core.exposed.alike(path);
    let known = alike.iter().find(|(origin, _)| {
        origin
            .path()
            .is_some_and(|at| gate::may_know(core.door(), run, at, None).is_ok())
    });
    let (of, is_whole) = match known.or(alike.first())? {
        (at, is_whole) if known.is_some() => (format!("the secret {at}"), is_whole),
        (_, is_whole) => ("a secret".to_owned(), is_whole),
    };
    let what = if *is_whole {
        "its text is that of"
    } else {
        "it holds the text of"
    };
    Some(format!("{what} {of}, as found at start"))
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
    if let (Resource::State(path), Some(stands)) = (lease.target(), &stands) {
        let leases: Vec<u64> = core
            .changes
            .leases
            .list()
            .iter()
            .map(|l| l.id)
            .filter(|other| *other != id)
            .collect();
        let (eval, by, path) = (
            run.record_number(),
            &run.session.operator.name,
            Path(path.clone()),
        );
        for gone in core
            .changes
            .snapshots
            .before_change(eval, by, &leases, &path, stands.clone())
        {
            core.note(format!("the snapshot {gone} went to make room for another"));
        }
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
    let verb = match proposal.function.id == HostFunction::Restore {
        true => "put back".to_owned(),
        false => proposal.change.done(),
    };
    let left = format_duration(lease.deadline.remaining(lease.made));
    let unseen = if core.exposed.points.is_unseen(lease.target()) {
        "; it has matched 0 requests so far"
    } else {
        ""
    };
    let warning = proposal
        .change
        .warning()
        .map(|warning| format!("; {warning}"))
        .unwrap_or_default();
    let behind = core
        .exposed
        .points
        .behind(lease.target())
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>();
    let behind = match behind.is_empty() {
        true => String::new(),
        false => format!("; it answers before the handler, behind {}", behind.join(", ")),
    };
    Ok(Reply::message(format!(
        "lease {id}: {} {verb}, reverts in {left} unless confirmed{unseen}{behind}{warning}",
        plain(&lease)
    )))
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

/// Checks that a guard holds now; one that does not must not be attached. Its counts start here.
pub(crate) fn holds(core: &Core, lease: u64, guard: &Guarding) -> Result<Counts, String> {
    let counts = Counts::of(&guard.points);
    match guard::first(core, lease, guard.code.as_ref(), &counts) {
        guards::Answer::Holds => Ok(counts),
        guards::Answer::Broken(seen) => Err(format!("the guard does not hold now: {seen}")),
        guards::Answer::Silent(why) => Err(format!("the guard cannot tell: {why}")),
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

/// The target without its kind, as operators write it.
fn plain(lease: &Lease) -> String {
    let text = lease.target().to_string();
    text.split_once(':')
        .map_or(text.clone(), |(_, rest)| rest.to_owned())
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
        standing.push(Standing { id, target, why });
    }
    if standing.is_empty() {
        return Ok(done);
    }
    let refusal = not_all(&done, &standing);
    run.stand(standing);
    Err(refusal)
}

fn snapshot(
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

/// Settles a conflict. A failed eval does not undo this: it keeps the current value or restores the old one.
fn settle(core: &Core, run: &EvalContext, id: u64, force: bool) -> Result<Reply, Refusal> {
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
    let stands = stands(core, &at).map_or(Value::Null, |value| core.recorder.digest(&value));
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
        false => format!("lease {}: {at} stays as the service made it", lease.id),
    }))
}

/// The place of a write as its end found it, from the path below its state.
fn found_at(lease: &Lease, below: &[String]) -> Resource {
    match lease.target() {
        Resource::State(target) => Resource::State([target.get(..1).unwrap_or_default(), below].concat()),
        other => other.clone(),
    }
}

fn renewed(lease: &Lease, confirm: bool, now: BootTime, sooner: bool) -> String {
    let word = if confirm { "confirmed" } else { "extended" };
    let left = roughly(lease.due().0.remaining(now));
    let lost = if lease.revertible_grace().is_some() {
        ", unless its operator attaches again: its session is lost"
    } else {
        ""
    };
    let sooner = if sooner { ", sooner than before" } else { "" };
    format!(
        "lease {} {word}: {} reverts in {left}{sooner}{lost}",
        lease.id,
        lease.target()
    )
}
