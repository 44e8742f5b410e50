//! The leases in force at the target of a change, and whether its author agreed to cover them.

use std::collections::BTreeMap;

use debug_policy::{Action, Decision, Resource};
use debug_wire::table::HostFunction;

use super::Door;
use super::may_know;
use crate::effect::{ChangeOptions, Proposal, Refusal};
use crate::session::context::EvalContext;
use debug_base::{BootTime, Path, roughly};
use debug_lease::{Lease, overlaps};

/// Checks that no lease at the point or state is failing to revert (invariant 12).
///
/// # Errors
/// Such a lease exists; it is named if the operator may list leases.
pub(crate) fn not_failing(door: Door<'_>, run: &EvalContext, target: &Resource) -> Result<(), Refusal> {
    match door.changes.leases.failing_at(target) {
        None => Ok(()),
        Some(lease) if run.has_ended(lease.id) => Ok(()),
        Some(lease) => {
            let seen = SeenLease::of(door, run, &lease, target);
            Err(Refusal::state(
                format!(
                    "{} at `{}` could not be undone yet; nothing may be changed there until it is",
                    seen.lease, seen.place
                ),
                "see `leases()`; the agent keeps trying",
            ))
        }
    }
}

/// Checks that the change covers only leases that its author named in `over`. Changes of the same eval need not be
/// named: one submission is one transaction. Returns all leases that it covers.
pub(super) fn check_stack(
    door: Door<'_>,
    run: &EvalContext,
    proposal: &Proposal,
    now: BootTime,
) -> Result<Vec<u64>, Refusal> {
    let target = proposal.change.target();
    not_failing(door, run, target)?;
    let ChangeOptions { over, below, .. } = &proposal.options;
    let standing = match standing(door, run, target) {
        Ok(standing) => standing,
        // It is unknown where the changes are now: refuse, and name the newest that was made here.
        Err(unknown) => {
            let leases = run.leases(door.changes).into_iter();
            let before = leases.filter(|lease| overlaps(lease.target(), target) && !run.is_own(lease));
            let newest = before
                .max_by_key(|lease| lease.id)
                .filter(|lease| !over.contains(&lease.id));
            return Err(newest.map_or(unknown, |lease| {
                already_changed(door, run, &lease, proposal, below, now)
            }));
        }
    };
    let top = unagreed(run, &standing);
    if let Some(lease) = top
        && !over.contains(&lease.id)
    {
        return Err(already_changed(door, run, lease, proposal, below, now));
    }
    match over
        .iter()
        .find(|id| !standing.iter().any(|standing| standing.lease.id == **id))
    {
        None => {
            // The service may move a change of the same eval to this place before the change is made.
            let own = run
                .leases(door.changes)
                .into_iter()
                .filter(|lease| run.is_own(lease))
                .map(|lease| lease.id);
            Ok(standing
                .iter()
                .map(|standing| standing.lease.id)
                .chain(own)
                .collect())
        }
        Some(id) => Err(Refusal::state(
            format!("`over: {id}` names no change in force at `{target}`"),
            match standing.is_empty() {
                true => "leave `over` out: nothing stands there",
                false => "leave it out; `leases()` shows what stands where",
            },
        )),
    }
}

/// Of the leases that overlap one place, the newest that is neither the eval's own nor below one of its own: the eval's own change
/// was checked against those below it.
pub(crate) fn unagreed<'l>(run: &EvalContext, standing: &'l [Standing]) -> Option<&'l Lease> {
    let agreed = |one: &Standing| {
        let on_top = |own: &&Standing| one.lease.id < own.lease.id && overlaps(&own.at, &one.at);
        standing
            .iter()
            .filter(|own| run.is_own(&own.lease))
            .any(|own| on_top(&own))
    };
    let others = standing
        .iter()
        .filter(|one| !run.is_own(&one.lease) && !agreed(one));
    others.map(|one| &one.lease).max_by_key(|lease| lease.id)
}

/// A lease in force, and where its change stands now: the service may have moved the element that it changes.
pub(crate) struct Standing {
    pub(crate) lease: Lease,
    pub(crate) at: Resource,
}

/// The leases that overlap a target. One whose element is lost may be at any element of its list.
///
/// # Errors
/// It is unknown at this moment where the changes of the state are; refusing keeps any from being covered unseen.
pub(crate) fn standing(
    door: Door<'_>,
    run: &EvalContext,
    target: &Resource,
) -> Result<Vec<Standing>, Refusal> {
    Ok(standing_at(door, run, std::slice::from_ref(target))?
        .pop()
        .unwrap_or_default())
}

/// The leases that overlap each target. Each state is looked at once.
///
/// # Errors
/// As for [`standing`].
pub(crate) fn standing_at(
    door: Door<'_>,
    run: &EvalContext,
    targets: &[Resource],
) -> Result<Vec<Vec<Standing>>, Refusal> {
    let mut known: BTreeMap<&str, BTreeMap<u64, Path>> = BTreeMap::new();
    let leases = run.leases(door.changes);
    let mut standing = Vec::new();
    for target in targets {
        let places = match target {
            Resource::State(path) => {
                let name = path.first().map(String::as_str).unwrap_or_default();
                if !known.contains_key(name) {
                    known.insert(name, places(door, run, target, path)?);
                }
                known.get(name)
            }
            _ => None,
        };
        let at = |lease: &Lease| {
            let path = places.and_then(|places| places.get(&lease.id));
            path.map_or_else(|| lease.target().clone(), |path| Resource::State(path.0.clone()))
        };
        let here = leases.iter().map(|lease| Standing {
            at: at(lease),
            lease: lease.clone(),
        });
        standing.push(here.filter(|one| overlaps(&one.at, target)).collect());
    }
    Ok(standing)
}

fn places(
    door: Door<'_>,
    run: &EvalContext,
    target: &Resource,
    path: &[String],
) -> Result<BTreeMap<u64, Path>, Refusal> {
    run.places(door.changes, door.exposed, &Path(path.to_vec()))
        .map_err(|error| {
            Refusal::state(
                format!("where the changes in force at `{target}` are is not known at this moment: {error}"),
                "try again",
            )
        })
}

/// How another eval that changes the target at this moment is called: its number and operator only for those who may list.
pub(super) fn called(door: Door<'_>, run: &EvalContext, other: String) -> String {
    match door
        .rules
        .policy
        .decide(&run.request(Action::List, Resource::Agent))
    {
        Decision::Allow(_) => other,
        Decision::Deny(_) => "another eval".to_owned(),
    }
}

fn already_changed(
    door: Door<'_>,
    run: &EvalContext,
    lease: &Lease,
    proposal: &Proposal,
    below: &[u64],
    now: BootTime,
) -> Refusal {
    let target = proposal.change.target();
    let seen = SeenLease::of(door, run, lease, target);
    let left = roughly(lease.due().0.remaining(now));
    let help = match below {
        _ if !seen.listed => {
            "it may be put on top with `over` and the lease's id, which those can tell who may list leases"
                .to_owned()
        }
        [_, _, ..] => format!(
            "`{}` puts yours on top of all that is changed there, `revert(id)` ends one of them",
            on_top(proposal.function.id, target, &format!("{below:?}"))
        ),
        _ => format!(
            "`{}` puts yours on top, `revert({})` ends it",
            on_top(proposal.function.id, target, &lease.id.to_string()),
            lease.id
        ),
    };
    Refusal::state(
        format!(
            "`{}` is already changed by {}, {left} left",
            seen.place, seen.whose
        ),
        help,
    )
}

/// The call that puts a change on top of others. An assignment and a method take no options, so it is spelled as `set`;
/// `value`, `code` and `name` stand for what the operator gave.
pub(crate) fn on_top(function: HostFunction, target: &Resource, over: &str) -> String {
    let options = format!("#{{ over: {over} }}");
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    match (function, target) {
        (HostFunction::Restore, _) => format!("restore(name, {options})"),
        (_, Resource::State(path)) => {
            format!(
                "set({}, value, {options})",
                quoted(&Path(path.clone()).to_string())
            )
        }
        (_, Resource::Point(name)) => format!("patch({}, code, {options})", quoted(name)),
        (_, Resource::Target(name)) => format!("log_level({}, level, {options})", quoted(name)),
        _ => options,
    }
}

/// What an operator may learn about a lease that is in the way.
struct SeenLease {
    /// Its place, or `a part of <target>` if the operator may not know it.
    place: String,
    lease: String,
    whose: String,
    /// Whether the operator may learn its id and owner.
    listed: bool,
}

impl SeenLease {
    fn of(door: Door<'_>, run: &EvalContext, lease: &Lease, target: &Resource) -> Self {
        let list = run.request(Action::List, Resource::Agent);
        let listed = lease.owner == run.session.operator.name
            || matches!(door.rules.policy.decide(&list), Decision::Allow(_));
        let named = match (lease.target(), target) {
            (Resource::State(stands), Resource::State(asked)) => {
                asked.starts_with(stands) || may_know(door, run, &Path(stands.clone()), None).is_ok()
            }
            _ => true,
        };
        let place = if named {
            lease.target().to_string()
        } else {
            format!("a part of {target}")
        };
        let (lease, whose) = match listed {
            true => (
                format!("lease {}", lease.id),
                format!("lease {} of {}", lease.id, lease.owner),
            ),
            false => ("a lease".to_owned(), "another lease".to_owned()),
        };
        Self {
            place,
            lease,
            whose,
            listed,
        }
    }
}
