//! The gate that every effect passes: policy decides, the log records the intent, the lease with its undo is opened.
//! Only then is there a permit, and executing the effect consumes it.

mod asked;
mod permit;
mod preview;
mod requests;
mod stack;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use debug_audit::Until;
use debug_policy::{Action, Decision, Denial, Policy, Request, Resource};
use debug_wire::messages::After;
use debug_wire::records::{LeaseMade, Terms};
use debug_wire::table::Method;
use serde_json::{Map, Value, json};

use crate::changes::exposed::Exposed;
use crate::changes::{Changes, Ends};
use crate::effect::{Effect, Options, Proposal, Refusal};
use crate::recorder::{Recorder, records};
use crate::session::Session;
use crate::session::context::EvalContext;
use asked::Decided;
use debug_base::{BootTime, Path, Tree};
use debug_lease::{Claim, DEFAULT_TTL, Lease, Phase};
use requests::{requests, resource};
use stack::{called, check_stack};

pub(crate) use permit::{MethodPermit, Opened, Permit};
pub(crate) use preview::{could_read, may_see_note};
pub(crate) use stack::{Standing, not_failing, on_top, standing, standing_at, unagreed};

/// The policy and its surroundings.
pub(crate) struct Rules {
    /// Decides what operators may do.
    pub(crate) policy: Policy,
    /// SHA-256 of the policy's text, hex.
    pub(crate) policy_digest: String,
    /// The environment, such as `production`.
    pub(crate) environment: String,
    /// The number of permits that the gate has issued.
    pub(crate) permits: AtomicU64,
}

/// All that the gate may touch, besides the context of the eval that asks.
#[derive(Clone, Copy)]
pub(crate) struct Door<'a> {
    pub(crate) rules: &'a Rules,
    pub(crate) recorder: &'a Recorder,
    pub(crate) changes: &'a Changes,
    pub(crate) exposed: &'a Exposed,
    pub(crate) ends: &'a dyn Ends,
}

/// Decides, records the intent, opens the lease; only then returns the permit.
///
/// # Errors
/// In this order: the record would hold a secret, policy denies, the target is in another state, the log cannot be
/// written, the agent is stopping.
pub(crate) fn pass<'a>(door: Door<'a>, run: &EvalContext, effect: Effect) -> Result<Permit<'a>, Refusal> {
    let now = BootTime::now();
    refuse_secrets(door, run, &effect)?;
    let decided = decide(door, run, &effect, now);
    if let Some(denial) = denial(&effect, &decided) {
        let denied = intent(door, run, &effect, &decided, None);
        run.record(door.recorder, denied, Until::Written)
            .map_err(Refusal::Log)?;
        return Err(Refusal::Denied(Box::new(denial)));
    }
    // Held until the lease is in the table, so that no other eval changes the same target in between.
    let claim = match &effect {
        Effect::Change(proposal) => Some(claim(door, run, proposal, now)?),
        _ => None,
    };
    let lease = match (&effect, &claim) {
        (Effect::Change(proposal), Some((claim, _))) => Some(lease_of(run, proposal, claim.id, now)?),
        _ => None,
    };
    let entries = intent(door, run, &effect, &decided, lease.as_ref());
    let until = if effect.waits_for_disk() {
        Until::Durable
    } else {
        Until::Written
    };
    if let Err(error) = run.record(door.recorder, entries, until)
        && !run.emergency()
    {
        return Err(Refusal::Log(error));
    }
    let covers = claim
        .as_ref()
        .map(|(_, covers)| covers.clone())
        .unwrap_or_default();
    let lease = lease.map(|lease| Opened::open(door, lease, covers)).transpose()?;
    door.rules.permits.fetch_add(1, Ordering::Relaxed);
    if lease.is_some() {
        door.changes.mark(&door.recorder.emitter);
    }
    Ok(Permit { effect, lease })
}

/// An effect of a plan, and the decision about it.
pub(crate) struct Considered {
    /// The effect.
    pub(crate) effect: Effect,
    /// The rules that allow it, or why it is refused.
    pub(crate) verdict: Result<String, Refusal>,
    /// If a reason is all that is missing: the pattern that it must match.
    pub(crate) wants: Option<String>,
}

/// Decides about an effect of a plan and records the decision. Nothing happens: no lease, no permit.
///
/// # Errors
/// The log cannot be written, or the record would hold a secret.
pub(crate) fn consider(door: Door<'_>, run: &EvalContext, effect: Effect) -> Result<Considered, Refusal> {
    let now = BootTime::now();
    refuse_secrets(door, run, &effect)?;
    let decided = decide(door, run, &effect, now);
    let mut entries = intent(door, run, &effect, &decided, None);
    if let Some(last) = entries.pop() {
        entries.push(records::planned(last));
    }
    run.record(door.recorder, entries, Until::Written)
        .map_err(Refusal::Log)?;
    let wants = decided.answers().find_map(|(request, decision)| match decision {
        Decision::Deny(denial) if request.reason.is_none() => denial.wanted_reason.clone(),
        _ => None,
    });
    let verdict = match (denial(&effect, &decided), &effect) {
        (Some(denial), _) => Err(Refusal::Denied(Box::new(denial))),
        (None, Effect::Change(proposal)) => {
            check_stack(door, run, proposal, now).map(|_| allowed_by(&decided))
        }
        (None, _) => Ok(allowed_by(&decided)),
    };
    Ok(Considered {
        effect,
        verdict,
        wants,
    })
}

/// The ids of the rules that allow it.
fn allowed_by(decided: &Decided) -> String {
    let mut rules: Vec<String> = decided
        .answers()
        .filter_map(|(_, decision)| match decision {
            Decision::Allow(allowed) => Some(allowed.rule.clone()),
            Decision::Deny(_) => None,
        })
        .collect();
    rules.dedup();
    match rules.is_empty() {
        true => "allowed".to_owned(),
        false => format!("allowed by {}", rules.join(", ")),
    }
}

/// Refuses an effect if a text that would be recorded verbatim holds a secret.
fn refuse_secrets(door: Door<'_>, run: &EvalContext, effect: &Effect) -> Result<(), Refusal> {
    if written(effect)
        .iter()
        .any(|text| run.holds_secret(door.exposed, text))
    {
        return Err(Refusal::state(
            "a reason, a name or a value of this holds a secret, which would stand in the log",
            "leave the secret out; a secret is written only to a path that is secret itself",
        ));
    }
    Ok(())
}

/// Checks that the operator may read at least one leaf at a path. Otherwise the denial names only that path: what an
/// operator may not read looks the same whether it exists or not.
pub(crate) fn may_know(
    door: Door<'_>,
    run: &EvalContext,
    path: &Path,
    tree: Option<&Tree>,
) -> Result<(), Refusal> {
    let mut refusal = None;
    let whole = vec![path.clone()];
    let leaves = tree.map_or(whole, |tree| {
        tree.leaves().map(|(below, _)| path.join(&below.0)).collect()
    });
    for leaf in leaves.iter().chain(leaves.is_empty().then_some(path)) {
        match door
            .rules
            .policy
            .decide(&run.request(Action::Read, resource(leaf)))
        {
            Decision::Allow(_) => return Ok(()),
            Decision::Deny(denial) => {
                refusal = Some(Denial {
                    resource: resource(path),
                    ..denial
                })
            }
        }
    }
    refusal.map_or(Ok(()), |denial| Err(Refusal::Denied(Box::new(denial))))
}

/// Checks that this operator may read all leaves at a path.
///
/// # Errors
/// A denial that names no path.
pub(crate) fn must_see(door: Door<'_>, run: &EvalContext, path: &Path, tree: &Tree) -> Result<(), Refusal> {
    for leaf in debug_base::leaves(path, tree).iter() {
        if let Decision::Deny(denial) = door
            .rules
            .policy
            .decide(&run.request(Action::Read, resource(leaf)))
        {
            return Err(Refusal::Denied(Box::new(nameless(denial))));
        }
    }
    Ok(())
}

/// The names below a value that this operator may know of; empty for a leaf.
pub(crate) fn known_below(door: Door<'_>, run: &EvalContext, path: &Path, tree: &Tree) -> Vec<String> {
    let below: Vec<(String, &Tree)> = match tree {
        Tree::Map(entries) => entries.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Tree::Seq(items) => items
            .iter()
            .enumerate()
            .map(|(at, item)| (at.to_string(), item))
            .collect(),
        _ => Vec::new(),
    };
    let known = |(name, value): &(String, &Tree)| may_know(door, run, &path.child(name), Some(value)).is_ok();
    below.into_iter().filter(known).map(|(name, _)| name).collect()
}

/// The denial without its path, which the operator need not know.
fn nameless(denial: Denial) -> Denial {
    let help = format!("all or a part of what it reads: {}", denial.help);
    Denial {
        resource: Resource::Agent,
        help,
        ..denial
    }
}

/// Whether policy lets the author of a patch read a leaf now; leaves may appear after the patch was made. It makes no permit: the
/// permit for the patch includes its reads.
pub(crate) fn may_read(door: Door<'_>, author: &Request, leaf: &Path) -> bool {
    let request = Request {
        resource: resource(leaf),
        ..author.clone()
    };
    matches!(door.rules.policy.decide(&request), Decision::Allow(_))
}

/// Whether policy might let the author of a patch read something at a path. Checked before the service's state is read.
pub(crate) fn might_read(door: Door<'_>, author: &Request, path: &Path) -> bool {
    door.rules
        .policy
        .could_allow(&Request {
            resource: resource(path),
            ..author.clone()
        })
        .is_ok()
}

/// Whether policy would let this operator patch a point with these options. It issues no permit.
pub(crate) fn may_patch(door: Door<'_>, run: &EvalContext, point: &str, options: &Options) -> bool {
    let request = run.request(Action::Patch, Resource::Point(point.to_owned()));
    matches!(
        door.rules
            .policy
            .decide(&requests::with_options(run, options, request)),
        Decision::Allow(_)
    )
}

/// Texts of an effect that are recorded verbatim.
fn written(effect: &Effect) -> Vec<String> {
    let reason = |options: &Options| options.reason.clone();
    match effect {
        Effect::EnterChange { reason } => vec![reason.clone()],
        Effect::Change(proposal) => {
            let target = proposal.change.target().to_string();
            let guard = proposal.guard.as_ref().map(|guard| guard.record.to_string());
            let options = reason(&proposal.options).into_iter().chain(guard);
            options.chain([proposal.after.to_string(), target]).collect()
        }
        Effect::Impossible { target, options, .. } => {
            reason(options).into_iter().chain([target.to_string()]).collect()
        }
        Effect::Read { path, .. } | Effect::Reveal { path, .. } => vec![path.to_string()],
        Effect::Snapshot { name, .. } | Effect::Diff { name, .. } => vec![name.clone()],
        Effect::Barred(barred) => reason(&barred.options)
            .into_iter()
            .chain([barred.resource.to_string()])
            .collect(),
        // The texts of these are scrubbed, or they have none.
        Effect::See(..)
        | Effect::Log { .. }
        | Effect::Revert { .. }
        | Effect::Renew { .. }
        | Effect::Adopt { .. }
        | Effect::Settle { .. }
        | Effect::Observe => Vec::new(),
        Effect::Guard { guard, .. } => vec![guard.record.to_string()],
    }
}

/// Decides about a method. A denial is recorded; an allowed method is not.
///
/// # Errors
/// The denial.
pub(crate) fn pass_method(
    door: Door<'_>,
    session: &Session,
    method: &Method,
) -> Result<MethodPermit, Refusal> {
    let request = session.request(method.action, Resource::Agent);
    match door.rules.policy.decide(&request) {
        Decision::Allow(_) => Ok(MethodPermit(())),
        Decision::Deny(denial) => {
            let asked = [(request, Decision::Deny(denial.clone()))];
            let (mut entries, gate) = records::decisions(&asked, &door.rules.policy_digest);
            entries.push(records::record(&records::Effect {
                session: Some(session.id),
                method: Some(method.name.to_owned()),
                gate: Some(gate),
                ..records::Effect::default()
            }));
            door.recorder.append(entries);
            Err(Refusal::Denied(Box::new(denial)))
        }
    }
}

fn decide(door: Door<'_>, run: &EvalContext, effect: &Effect, now: BootTime) -> Decided {
    Decided::of(requests(run, effect, now), |request| {
        door.rules.policy.decide(request)
    })
}

/// The denial of an effect. If one leaf of several is denied, the denial does not name the leaf, and is the same
/// whether the leaf exists or not: which leaves exist may itself be hidden from the operator.
fn denial(effect: &Effect, decided: &Decided) -> Option<Denial> {
    let denied = decided.denial()?.clone();
    let whole = match effect {
        Effect::Read { path, .. } | Effect::Reveal { path, .. } => Some(resource(path)),
        Effect::Change(proposal) => Some(proposal.change.target().clone()),
        Effect::Impossible { target, .. } => Some(target.clone()),
        Effect::Settle { lease, .. } => Some(lease.target().clone()),
        Effect::Barred(barred) if barred.named => Some(barred.resource.clone()),
        Effect::Barred(_) => return Some(nameless(denied)),
        Effect::See(..)
        | Effect::Revert { .. }
        | Effect::Renew { .. }
        | Effect::Snapshot { .. }
        | Effect::Diff { .. }
        | Effect::Adopt { .. }
        | Effect::Guard { .. }
        | Effect::EnterChange { .. }
        | Effect::Observe
        | Effect::Log { .. } => None,
    };
    match whole {
        Some(whole @ Resource::State(_)) if matches!(denied.resource, Resource::State(_)) => Some(Denial {
            resource: whole,
            help: format!("all or a part of it: {}", denied.help),
            ..denied
        }),
        // A snapshot, a guard or a patch reads leaves that the operator did not name.
        _ if denied.action == Action::Read && matches!(denied.resource, Resource::State(_)) => {
            Some(nameless(denied))
        }
        _ => Some(denied),
    }
}

/// Claims the target and checks the stack on it; returns the leases that the change covers, too. While the claim is held, no other
/// eval changes that stack.
fn claim<'a>(
    door: Door<'a>,
    run: &EvalContext,
    proposal: &Proposal,
    now: BootTime,
) -> Result<(Claim<'a>, Vec<u64>), Refusal> {
    let target = proposal.change.target();
    let by = format!("eval {} of {}", run.record_number(), run.session.operator.name);
    // The id of the future lease is not told: the change may fail.
    let claim = door.changes.leases.claim(target, by).map_err(|other| {
        Refusal::state(
            format!(
                "`{target}` is being changed by {} at this moment",
                called(door, run, other)
            ),
            "look at `leases()` and decide anew",
        )
    })?;
    let covers = check_stack(door, run, proposal, now)?;
    Ok((claim, covers))
}

/// Makes the lease of a change without applying the change.
pub(crate) fn lease_of(
    run: &EvalContext,
    proposal: &Proposal,
    id: u64,
    now: BootTime,
) -> Result<Lease, Refusal> {
    let Some(after) = run.after() else {
        return Err(Refusal::state(
            "this eval does not say what becomes of its changes when the session ends",
            "use `debugctl attach`, or `debugctl eval --change` with `--persist` or `--hold`",
        ));
    };
    let ttl = proposal.options.ttl.unwrap_or(DEFAULT_TTL);
    Ok(Lease {
        id,
        change: Arc::clone(&proposal.change),
        owner: run.session.operator.name.clone(),
        session: run.session.id,
        eval: run.record_number(),
        reason: proposal
            .options
            .reason
            .clone()
            .or_else(|| run.reason())
            .unwrap_or_default(),
        made: now,
        deadline: now.after(ttl),
        phase: Phase::Provisional,
        after: if proposal.options.persist {
            After::Persist
        } else {
            after
        },
        grace: None,
        failing: None,
    })
}

/// The records of an effect: parts of long members first, then the effect or the lease with its undo.
fn intent(
    door: Door<'_>,
    run: &EvalContext,
    effect: &Effect,
    decided: &Decided,
    lease: Option<&Lease>,
) -> Vec<debug_audit::Entry> {
    let (mut entries, gate) = match decided {
        Decided::Own(lease) => (Vec::new(), records::own(*lease, &door.rules.policy_digest)),
        Decided::Policy(_) => {
            let answers: Vec<_> = decided.answers().cloned().collect();
            records::decisions(&answers, &door.rules.policy_digest)
        }
    };
    let mut members = Map::new();
    for (name, value) in detail(door, run, effect) {
        let value = match records::parted(name, &value.to_string()) {
            Some(parts) => {
                let (parts, member) = records::effect_parts(parts);
                entries.extend(parts);
                member
            }
            None => value,
        };
        members.insert(name.to_owned(), value);
    }
    let (eval, session) = (Some(run.record_number()), Some(run.session.id));
    let (operator, function) = (
        run.session.operator.to_string(),
        effect.function().name().to_owned(),
    );
    entries.push(match lease {
        None => records::record(&records::Effect {
            eval,
            session,
            operator: Some(operator),
            function: Some(function),
            gate: Some(gate),
            detail: members,
            ..records::Effect::default()
        }),
        Some(lease) => records::record(&LeaseMade {
            eval,
            session,
            operator,
            function,
            gate,
            lease: terms(lease),
            before: members.remove("before"),
            after: members.remove("after"),
            detail: members,
        }),
    });
    if run.emergency() || matches!(effect, Effect::Revert { .. }) {
        for entry in &mut entries {
            entry.keep = true;
        }
    }
    entries
}

fn terms(lease: &Lease) -> Terms {
    Terms {
        id: lease.id,
        target: lease.target().to_string(),
        reason: lease.reason.clone(),
        after: lease.after.into(),
        ttl_ms: millis(lease.deadline.remaining(lease.made)),
        deadline_boot_ns: lease.deadline.0,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The members of an effect's record; never a secret in the clear.
fn detail(door: Door<'_>, run: &EvalContext, effect: &Effect) -> Vec<(&'static str, Value)> {
    match effect {
        Effect::Observe => Vec::new(),
        Effect::See(_, about) => about
            .iter()
            .map(|a| ("about", run.clean(door.exposed, a).into()))
            .collect(),
        Effect::Read { path, value, .. } => {
            vec![
                ("path", path.to_string().into()),
                ("value", door.recorder.digest(value)),
            ]
        }
        Effect::Reveal { path, value } => {
            vec![
                ("path", path.to_string().into()),
                ("value", door.recorder.digest(value)),
            ]
        }
        Effect::Snapshot { name, parts } => {
            let digests = parts
                .iter()
                .map(|(path, tree)| json!({ "path": path.to_string(), "value": door.recorder.digest(tree) }));
            vec![
                ("snapshot", name.as_str().into()),
                ("parts_kept", digests.collect()),
            ]
        }
        Effect::Diff { name, rows, .. } => {
            let paths = rows.iter().map(|(path, ..)| path.to_string());
            vec![("snapshot", name.as_str().into()), ("differing", paths.collect())]
        }
        Effect::Impossible { target, .. } => vec![("target", target.to_string().into())],
        Effect::Barred(barred) => vec![("target", barred.resource.to_string().into())],
        Effect::Change(proposal) => {
            let target = proposal.change.target().to_string().into();
            let guard = proposal
                .guard
                .as_ref()
                .map(|guard| ("guard", guard.record.clone()));
            [
                ("target", target),
                ("before", proposal.before.clone()),
                ("after", proposal.after_digest.clone()),
                ("value", proposal.after.clone()),
            ]
            .into_iter()
            .chain(guard)
            .collect()
        }
        Effect::Revert { lease } => vec![("revert", lease.id.into())],
        Effect::Renew { lease, ttl, .. } => {
            vec![("renew", lease.id.into()), ("ttl_ms", millis(*ttl).into())]
        }
        Effect::Adopt { lease } => vec![("adopt", lease.id.into())],
        Effect::Guard { lease, guard } => {
            vec![("guarded", lease.id.into()), ("guard", guard.record.clone())]
        }
        Effect::Settle { lease, force, .. } => {
            vec![("settle", lease.id.into()), ("how", settled_as(*force).into())]
        }
        Effect::EnterChange { reason } => vec![("reason", reason.as_str().into())],
        Effect::Log { text, .. } => vec![("text", run.clean(door.exposed, text).into())],
    }
}

/// The word for how a conflict is settled.
pub(crate) fn settled_as(force: bool) -> &'static str {
    if force { "force" } else { "keep" }
}

/// The policy's digest in hex, as the log has it.
pub(crate) fn digest_of(policy: &Policy) -> String {
    debug_base::hex(&policy.digest())
}
