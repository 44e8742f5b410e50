//! What is recorded of an effect before it happens.

use std::time::Duration;

use debug_wire::records::{LeaseMade, Terms};
use serde_json::{Map, Value, json};

use super::Door;
use super::asked::Decided;
use crate::effect::{ChangeOptions, Effect};
use crate::recorder::records;
use crate::session::context::EvalContext;
use debug_lease::Lease;

/// The records of an effect: parts of long members first, then the effect or the lease with its undo.
pub(super) fn intent(
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
        None => records::record(&records::EffectRecord {
            eval,
            session,
            operator: Some(operator),
            function: Some(function),
            gate: Some(gate),
            detail: members,
            ..records::EffectRecord::default()
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

/// Texts of an effect that are recorded verbatim.
pub(super) fn written(effect: &Effect) -> Vec<String> {
    let reason = |options: &ChangeOptions| options.reason.clone();
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
