//! The gate that every effect passes: policy decides, the log records the intent, the lease with its undo is opened.
//! Only then is there a permit, and executing the effect consumes it.

mod asked;
mod intent;
mod permit;
mod preview;
mod requests;
mod stack;
#[cfg(test)]
pub(crate) mod tests;
mod visibility;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use debug_audit::Until;
use debug_policy::{Action, Decision, Denial, Policy, Resource};
use debug_wire::messages::After;
use debug_wire::table::Method;

use crate::changes::exposed::Exposed;
use crate::changes::{Changes, EndLeases};
use crate::effect::{Effect, Proposal, Refusal};
use crate::recorder::{Recorder, records};
use crate::session::Session;
use crate::session::context::EvalContext;
use asked::Decided;
use debug_base::BootTime;
use debug_lease::{Claim, DEFAULT_TTL, Lease, Phase};
use intent::{intent, written};
use requests::{requests, resource};
use stack::{called, check_stack};
use visibility::nameless;

pub(crate) use intent::settled_as;
pub(crate) use permit::{MethodPermit, Opened, Permit};
pub(crate) use preview::{could_read, may_see_note};
pub(crate) use stack::{Standing, not_failing, on_top, standing, standing_at, unagreed};
pub(crate) use visibility::{known_below, may_know, may_patch, may_read, might_read, must_see};

/// The policy and its surroundings.
pub(crate) struct Rules {
    /// Decides what operators may do.
    pub(crate) policy: Policy,
    /// SHA-256 of the policy's text, hex.
    pub(crate) policy_digest: String,
    /// The environment, such as `production`.
    pub(crate) environment: String,
    /// The number of permits for effects that the gate has issued.
    pub(crate) permits: AtomicU64,
}

/// All that the gate may touch, besides the context of the eval that asks.
#[derive(Clone, Copy)]
pub(crate) struct Door<'a> {
    pub(crate) rules: &'a Rules,
    pub(crate) recorder: &'a Recorder,
    pub(crate) changes: &'a Changes,
    pub(crate) exposed: &'a Exposed,
    pub(crate) ends: &'a dyn EndLeases,
}

/// Decides, records the intent, opens the lease; only then returns the permit.
///
/// # Errors
/// In this order: the record would hold a secret, policy denies, the target is in another state or the eval does not say what
/// becomes of its changes, the log cannot be written (a denial is recorded, too), the agent is stopping.
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
    if let Err(error) = run.record(door.recorder, entries, recorded(&effect))
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

/// Where the record of an effect must be before the effect: on disk, if it changes or reveals something.
fn recorded(effect: &Effect) -> Until {
    match effect {
        Effect::Reveal { .. }
        | Effect::Change(_)
        | Effect::Renew { .. }
        | Effect::Adopt { .. }
        | Effect::Settle { .. }
        | Effect::Guard { .. }
        | Effect::EnterChange { .. } => Until::Durable,
        // A revert must not wait for a disk that may be full; its outcome is on disk before the reply.
        Effect::Revert { .. }
        | Effect::See(..)
        | Effect::Read { .. }
        | Effect::Snapshot { .. }
        | Effect::Diff { .. }
        | Effect::Impossible { .. }
        | Effect::Barred(_)
        | Effect::Observe
        | Effect::Log { .. } => Until::Written,
    }
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
    let mut rules: Vec<&str> = Vec::new();
    for (_, decision) in decided.answers() {
        if let Decision::Allow(allowed) = decision
            && !rules.contains(&allowed.rule.as_str())
        {
            rules.push(&allowed.rule);
        }
    }
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
            entries.push(records::record(&records::EffectRecord {
                session: Some(session.id),
                method: Some(method.name.to_owned()),
                gate: Some(gate),
                ..records::EffectRecord::default()
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
        // Code that stays may do more than its author named: the denial says which of it.
        _ if matches!(effect, Effect::Change(_) | Effect::Guard { .. }) => Some(match denied.action {
            Action::Log => because(
                denied,
                "the code calls `log_info` or `log_warn`, which writes to the service's log",
            ),
            Action::List => because(
                denied,
                "the guard is given counts of points or the service's gauges, which is a listing",
            ),
            _ => denied,
        }),
        _ => Some(denied),
    }
}

/// The denial with what it is about before its help.
fn because(denied: Denial, what: &str) -> Denial {
    Denial {
        help: format!("{what}: {}", denied.help),
        ..denied
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

/// The policy's digest in hex, as the log has it.
pub(crate) fn digest_of(policy: &Policy) -> String {
    debug_base::hex(&policy.digest())
}
