//! The one door that every effect passes: policy decides, the log keeps it, the undo is set down. Only then is there
//! a permit, and executing an effect consumes it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use debug_audit::{AppendError, Until};
use debug_policy::{Action, Decision, Denial, Policy, Request, Resource};
use debug_wire::messages::After;
use debug_wire::table::Method;
use serde_json::{Map, Value, json};

use crate::clock::{BootTime, roughly};
use crate::core::Core;
use crate::effect::{Effect, Guarding, Options, Proposal};
use crate::lease::{Cause, Claim, DEFAULT_TTL, Lease, Phase};
use crate::records;
use crate::run::Run;
use crate::session::Session;
use crate::state::{Path, Tree, Wait};

/// Leave to execute one effect once. Neither `Clone` nor `Default`; only [`pass`] makes one.
pub(crate) struct Permit {
    effect: Effect,
    lease: Option<u64>,
}

impl Permit {
    /// The effect, with the lease that was opened for it. Consumes the permit.
    pub(crate) fn spend(self) -> (Effect, Option<u64>) {
        (self.effect, self.lease)
    }
}

/// Leave to answer one call of a method that is no eval.
pub(crate) struct MethodPermit(());

/// Why the gate let nothing through.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    /// Policy says no.
    Denied(Box<Denial>),
    /// The log cannot be written.
    Log(AppendError),
    /// What is asked for is not there or is in another state.
    State {
        /// What was seen.
        message: String,
        /// What to do.
        help: String,
    },
}

impl Refusal {
    /// About the state of things.
    pub(crate) fn state(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::State { message: message.into(), help: help.into() }
    }

    /// What stood in the way, in one line.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Denied(denial) => format!("denied: {} {}", denial.action, denial.resource),
            Self::Log(error) => error.to_string(),
            Self::State { message, .. } => message.clone(),
        }
    }
}

/// Decides, records the intent, opens the lease; only then hands out the permit.
///
/// # Errors
/// The first that holds, in this order: policy denies, the target is in another state, the log cannot be written.
pub(crate) fn pass(core: &Core, run: &Run, effect: Effect) -> Result<Permit, Refusal> {
    let now = BootTime::now();
    refuse_secrets(core, run, &effect)?;
    let asked = decide(core, run, &effect, now);
    if let Some(denial) = denial(&effect, &asked) {
        let denied = intent(core, run, &effect, &asked, None);
        run.record(core, denied, Until::Written).map_err(Refusal::Log)?;
        return Err(Refusal::Denied(Box::new(denial)));
    }
    // Held until the lease is in the table: another eval must not put a change on the same target meanwhile.
    let claim = match &effect {
        Effect::Change(proposal) => Some(claim(core, proposal, now)?),
        _ => None,
    };
    let lease = match (&effect, &claim) {
        (Effect::Change(proposal), Some(claim)) => Some(open_lease(run, proposal, claim.id, now)?),
        _ => None,
    };
    let entries = intent(core, run, &effect, &asked, lease.as_ref());
    let until = if effect.waits_for_disk() { Until::Durable } else { Until::Written };
    if let Err(error) = run.record(core, entries, until)
        && !run.emergency()
    {
        return Err(Refusal::Log(error));
    }
    let id = lease.as_ref().map(|lease| lease.id);
    if let Some(Err(lease)) = lease.map(|lease| core.leases.open(lease)) {
        let never_made = json!({ "never_made": "the agent is stopping" });
        let kind = Cause::Shutdown.kind();
        core.append(vec![records::lease_ended(kind, &lease, "agent", &records::Told::default(), never_made)]);
        return Err(Refusal::state("the agent is stopping", "nothing was changed"));
    }
    core.permits.fetch_add(1, Ordering::Relaxed);
    if id.is_some() {
        core.mark();
    }
    Ok(Permit { effect, lease: id })
}

/// An effect that a plan would have, and what would become of it.
pub(crate) struct Considered {
    /// The effect.
    pub(crate) effect: Effect,
    /// Why it would be let through, or why not.
    pub(crate) verdict: Result<String, Refusal>,
    /// The reason that is all it lacks: there is none before the mode `change` is entered with one.
    pub(crate) wants: Option<String>,
}

/// Decides about an effect of a plan and records that, without letting anything happen: no lease, no permit.
///
/// # Errors
/// The log cannot be written, or what would stand in it holds a secret.
pub(crate) fn consider(core: &Core, run: &Run, effect: Effect) -> Result<Considered, Refusal> {
    let now = BootTime::now();
    refuse_secrets(core, run, &effect)?;
    let asked = decide(core, run, &effect, now);
    let mut entries = intent(core, run, &effect, &asked, None);
    if let Some(last) = entries.pop() {
        entries.push(records::planned(last));
    }
    run.record(core, entries, Until::Written).map_err(Refusal::Log)?;
    let wants = asked.iter().find_map(|(request, decision)| match decision {
        Decision::Deny(denial) if request.reason.is_none() => denial.wanted_reason.clone(),
        _ => None,
    });
    let verdict = match (denial(&effect, &asked), &effect) {
        (Some(denial), _) => Err(Refusal::Denied(Box::new(denial))),
        (None, Effect::Change(proposal)) => {
            check_stack(core, proposal, proposal.change.target(), now).map(|()| allowed_by(&asked))
        }
        (None, _) => Ok(allowed_by(&asked)),
    };
    Ok(Considered { effect, verdict, wants })
}

/// The rules that let it through, by id.
fn allowed_by(asked: &[(Request, Decision)]) -> String {
    let mut rules: Vec<String> = asked
        .iter()
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

/// What would stand in the log as it was written must hold no secret.
fn refuse_secrets(core: &Core, run: &Run, effect: &Effect) -> Result<(), Refusal> {
    if written(effect).iter().any(|text| run.holds_secret(core, text)) {
        return Err(Refusal::state(
            "a reason, a name or a value of this holds a secret, which would stand in the log",
            "leave the secret out; a secret is written only to a path that is secret itself",
        ));
    }
    Ok(())
}

/// Whether this operator may read anything of what stands at a path. Names of what nobody showed them are not listed, and
/// what they may not read looks the same whether it is there or not.
pub(crate) fn may_know(core: &Core, run: &Run, path: &Path, tree: Option<&Tree>) -> Result<(), Refusal> {
    let mut refusal = None;
    let whole = vec![path.clone()];
    let leaves = tree.map_or(whole, |tree| tree.leaves().map(|(below, _)| path.join(&below.0)).collect());
    for leaf in leaves.iter().chain(leaves.is_empty().then_some(path)) {
        match core.policy.decide(&run.request(core, Action::Read, resource(leaf))) {
            Decision::Allow(_) => return Ok(()),
            Decision::Deny(denial) => refusal = Some(Denial { resource: resource(path), ..denial }),
        }
    }
    refusal.map_or(Ok(()), |denial| Err(Refusal::Denied(Box::new(denial))))
}

/// Whether this operator may read all of what stands at a path.
///
/// # Errors
/// A denial that names nothing that the operator did not name.
pub(crate) fn must_see(core: &Core, run: &Run, path: &Path, tree: &Tree) -> Result<(), Refusal> {
    for leaf in crate::host::leaves(path, tree) {
        if let Decision::Deny(denial) = core.policy.decide(&run.request(core, Action::Read, resource(&leaf)))
        {
            return Err(Refusal::Denied(Box::new(nameless(denial))));
        }
    }
    Ok(())
}

/// The denial without the path that it is about, of which the operator may know nothing.
fn nameless(denial: Denial) -> Denial {
    let help = format!("all or a part of what it reads: {}", denial.help);
    Denial { resource: Resource::Agent, help, ..denial }
}

/// Whether policy lets the author of a patch read a leaf that came after the patch was made. No permit: what it reads is
/// part of the permit to make it.
pub(crate) fn may_read(core: &Core, author: &Request, leaf: &Path) -> bool {
    let request = Request { resource: resource(leaf), ..author.clone() };
    matches!(core.policy.decide(&request), Decision::Allow(_))
}

/// Whether policy would let this operator patch a point, with these options. No permit.
pub(crate) fn may_patch(core: &Core, run: &Run, point: &str, options: &Options) -> bool {
    let request = run.request(core, Action::Patch, Resource::Point(point.to_owned()));
    matches!(core.policy.decide(&with_options(run, options, request)), Decision::Allow(_))
}

/// What of an effect goes into the log as it was written.
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
        // What these say is scrubbed, or holds nothing that was written.
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

/// Decides about a method that is no eval. A denial is recorded; that a client is alive is not.
///
/// # Errors
/// The denial.
pub(crate) fn pass_method(core: &Core, session: &Session, method: &Method) -> Result<MethodPermit, Refusal> {
    let request = core.request(session, method.action, Resource::Agent);
    match core.policy.decide(&request) {
        Decision::Allow(_) => Ok(MethodPermit(())),
        Decision::Deny(denial) => {
            let asked = [(request, Decision::Deny(denial.clone()))];
            let (mut entries, gate) = records::decisions(&asked, &core.policy_digest);
            let body = json!({ "session": session.id, "method": method.name, "gate": gate });
            entries.push(records::record("effect", body));
            core.append(entries);
            Err(Refusal::Denied(Box::new(denial)))
        }
    }
}

/// Every request that an effect comes down to, each with its answer, up to the first that is denied.
fn decide(core: &Core, run: &Run, effect: &Effect, now: BootTime) -> Vec<(Request, Decision)> {
    let mut asked = Vec::new();
    for request in requests(core, run, effect, now) {
        let decision = core.policy.decide(&request);
        let denied = matches!(decision, Decision::Deny(_));
        asked.push((request, decision));
        if denied {
            break;
        }
    }
    asked
}

fn requests(core: &Core, run: &Run, effect: &Effect, now: BootTime) -> Vec<Request> {
    let action = effect.action();
    let ask = |resource: Resource| run.request(core, action, resource);
    match effect {
        Effect::See(..) | Effect::EnterChange { .. } | Effect::Observe | Effect::Log { .. } => {
            let reason = match effect {
                Effect::EnterChange { reason } => Some(reason.clone()),
                _ => None,
            };
            vec![Request { reason: reason.or_else(|| run.reason()), ..ask(Resource::Agent) }]
        }
        Effect::Snapshot { parts, .. } => {
            let leaves = parts.iter().flat_map(|(path, tree)| crate::host::leaves(path, tree));
            leaves.map(|leaf| ask(resource(&leaf))).collect()
        }
        Effect::Diff { leaves, .. } | Effect::Read { leaves, .. } => {
            leaves.iter().map(|leaf| ask(resource(leaf))).collect()
        }
        // Its own path and what is in it: a map may be a secret as a whole.
        Effect::Reveal { path, value } => {
            let below = value.without_mark().leaves().map(|(below, _)| path.join(&below.0));
            let inside: Vec<Path> = below.filter(|leaf| leaf != path).collect();
            [path].into_iter().chain(&inside).map(|path| ask(resource(path))).collect()
        }
        Effect::Change(proposal) => change_requests(core, run, proposal, action),
        Effect::Impossible { target, options, .. } => vec![with_options(run, options, ask(target.clone()))],
        // One's own change may always be ended; nobody needs leave to make the service what it was.
        Effect::Revert { lease } if lease.owner == run.session.operator.name => Vec::new(),
        Effect::Revert { lease } => {
            vec![ask(lease.target().clone()), ask(Resource::Lease(lease.owner.clone()))]
        }
        Effect::Settle { lease, force: true, places } => {
            let owner = Resource::Lease(lease.owner.clone());
            let others = (lease.owner != run.session.operator.name).then(|| ask(owner));
            // It writes at each of these, with all that is below.
            let below = places.iter().flat_map(|place| match core.read(place, Wait::AGENT) {
                Ok(tree) => crate::host::leaves(place, &tree),
                Err(_) => vec![place.clone()],
            });
            let asked =
                [ask(lease.target().clone())].into_iter().chain(below.map(|leaf| ask(resource(&leaf))));
            asked.chain(others).map(|request| with_reason(lease, request)).collect()
        }
        Effect::Adopt { lease } | Effect::Settle { lease, .. } => {
            let owner = Resource::Lease(lease.owner.clone());
            let others = (lease.owner != run.session.operator.name).then(|| ask(owner));
            [ask(lease.target().clone())]
                .into_iter()
                .chain(others)
                .map(|request| with_reason(lease, request))
                .collect()
        }
        Effect::Guard { lease, guard } => {
            let owner = Resource::Lease(lease.owner.clone());
            let others = (lease.owner != run.session.operator.name).then(|| ask(owner));
            let asked = [ask(lease.target().clone())].into_iter().chain(others);
            let reads = guard_requests(core, run, guard);
            asked.map(|request| with_reason(lease, request)).chain(reads).collect()
        }
        Effect::Renew { lease, ttl, .. } => renew_requests(lease, *ttl, now, &run.session.operator.name, ask),
    }
}

fn resource(path: &Path) -> Resource {
    Resource::State(path.0.clone())
}

fn change_requests(core: &Core, run: &Run, proposal: &Proposal, action: Action) -> Vec<Request> {
    let asked =
        |target: &Resource| with_options(run, &proposal.options, run.request(core, action, target.clone()));
    let changes = proposal.targets.iter().map(asked);
    let guard = proposal.guard.iter().flat_map(|guard| guard_requests(core, run, guard));
    let reads = proposal.reads.iter().map(|path| run.request(core, Action::Read, resource(path)));
    changes.chain(reads).chain(guard).collect()
}

/// What a guard may see its author must be allowed to see: states, and what `points()` tells of points.
fn guard_requests(core: &Core, run: &Run, guard: &Guarding) -> Vec<Request> {
    let reads = guard.reads.iter().map(|path| run.request(core, Action::Read, resource(path)));
    let counts = (!guard.points.is_empty()).then(|| run.request(core, Action::List, Resource::Agent));
    reads.chain(counts).collect()
}

/// A request with the times and the reason of a change.
fn with_options(run: &Run, options: &Options, request: Request) -> Request {
    let ttl = request.action.sets_deadline().then(|| options.ttl.unwrap_or(DEFAULT_TTL));
    let reason = options.reason.clone().or_else(|| run.reason());
    Request { ttl, life: ttl, reason, ..request }
}

fn renew_requests(
    lease: &Lease,
    ttl: Duration,
    now: BootTime,
    operator: &str,
    ask: impl Fn(Resource) -> Request,
) -> Vec<Request> {
    let lived = now.since(lease.made);
    let with_times = |request: Request| Request {
        ttl: Some(ttl),
        life: Some(lived.saturating_add(ttl)),
        ..with_reason(lease, request)
    };
    let mut requests = vec![with_times(ask(lease.target().clone()))];
    if lease.owner != operator {
        requests.push(with_times(ask(Resource::Lease(lease.owner.clone()))));
    }
    requests
}

/// With the reason of the lease, unless its operator has given another one.
fn with_reason(lease: &Lease, request: Request) -> Request {
    Request { reason: request.reason.clone().or_else(|| Some(lease.reason.clone())), ..request }
}

/// The denial. For one leaf of several it names no leaf, and says the same of what is there and what is not: which there
/// are may be what cannot be seen.
fn denial(effect: &Effect, asked: &[(Request, Decision)]) -> Option<Denial> {
    let denied = asked.iter().find_map(|(_, decision)| match decision {
        Decision::Deny(denial) => Some(denial.clone()),
        Decision::Allow(_) => None,
    })?;
    let whole = match effect {
        Effect::Read { path, .. } | Effect::Reveal { path, .. } => Some(resource(path)),
        Effect::Change(proposal) => Some(proposal.change.target().clone()),
        Effect::Impossible { target, .. } => Some(target.clone()),
        _ => None,
    };
    match whole {
        Some(whole @ Resource::State(_)) if matches!(denied.resource, Resource::State(_)) => {
            Some(Denial { resource: whole, help: format!("all or a part of it: {}", denied.help), ..denied })
        }
        // What a snapshot, a guard or a patch reads has leaves that its operator did not name.
        _ if denied.action == Action::Read && matches!(denied.resource, Resource::State(_)) => {
            Some(nameless(denied))
        }
        _ => Some(denied),
    }
}

/// Checks the stack, and keeps others from changing it before this change stands on it.
fn claim<'a>(core: &'a Core, proposal: &Proposal, now: BootTime) -> Result<Claim<'a>, Refusal> {
    let target = proposal.change.target();
    let claim = core.leases.claim(target).map_err(|id| {
        Refusal::state(
            format!("`{target}` is being changed at this moment, as lease {id}"),
            "look at `leases()` and decide anew",
        )
    })?;
    check_stack(core, proposal, target, now)?;
    Ok(claim)
}

/// Sets down everything a lease needs, without making the change.
fn open_lease(run: &Run, proposal: &Proposal, id: u64, now: BootTime) -> Result<Lease, Refusal> {
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
        reason: proposal.options.reason.clone().or_else(|| run.reason()).unwrap_or_default(),
        made: now,
        deadline: now.after(ttl),
        phase: Phase::Provisional,
        after: if proposal.options.persist { After::Persist } else { after },
        grace: None,
        failing: None,
    })
}

/// That no change of the point, or of the state, could not be undone (invariant 12).
///
/// # Errors
/// One could not; its lease is named.
pub(crate) fn not_failing(core: &Core, target: &Resource) -> Result<(), Refusal> {
    match core.leases.failing_at(target) {
        None => Ok(()),
        Some(lease) => Err(Refusal::state(
            format!(
                "lease {} at `{}` could not be undone yet; nothing may be changed there until it is",
                lease.id,
                lease.target()
            ),
            "see `leases()`; the agent keeps trying",
        )),
    }
}

fn check_stack(core: &Core, proposal: &Proposal, target: &Resource, now: BootTime) -> Result<(), Refusal> {
    let standing = core.leases.standing(target);
    not_failing(core, target)?;
    let Options { over, below, .. } = &proposal.options;
    match (standing, over.first()) {
        (None, None) => Ok(()),
        (None, Some(over)) => Err(Refusal::state(
            format!("`over: {over}` names no change in force at `{target}`"),
            "leave `over` out: nothing stands there",
        )),
        (Some(lease), _) if over.contains(&lease.id) => {
            match over.iter().find(|id| **id != lease.id && !stands(core, **id, target)) {
                None => Ok(()),
                Some(id) => Err(Refusal::state(
                    format!("`over: {id}` names no change in force at `{target}`"),
                    "leave it out; `leases()` shows what stands where",
                )),
            }
        }
        (Some(lease), _) => Err(Refusal::state(
            format!(
                "`{}` is already changed by lease {} of {}, {} left",
                lease.target(),
                lease.id,
                lease.owner,
                roughly(lease.due().0.remaining(now))
            ),
            match below.as_slice() {
                [_, _, ..] => format!(
                    "add `over: {below:?}` to put yours on top of all that is changed there, or end them with `revert(id)`"
                ),
                _ => {
                    format!(
                        "add `over: {}` to put yours on top, or end it with `revert({})`",
                        lease.id, lease.id
                    )
                }
            },
        )),
    }
}

/// Whether a lease is in force at a target, in it or around it.
pub(crate) fn stands(core: &Core, id: u64, target: &Resource) -> bool {
    let at = |other: &Resource| match (other, target) {
        (Resource::State(one), Resource::State(other)) => Path(one.clone()).overlaps(&Path(other.clone())),
        (one, other) => one == other,
    };
    core.leases.find(id).is_ok_and(|lease| at(lease.target()))
}

/// The records of an effect: the code it keeps in parts, the effect, and the lease with its undo.
fn intent(
    core: &Core,
    run: &Run,
    effect: &Effect,
    asked: &[(Request, Decision)],
    lease: Option<&Lease>,
) -> Vec<debug_audit::Entry> {
    let (mut entries, gate) = records::decisions(asked, &core.policy_digest);
    let mut body = json!({
        "eval": run.record_number(), "session": run.session.id, "operator": run.session.operator.spiffe,
        "function": effect.function().name(), "gate": gate,
    });
    for (name, value) in detail(core, run, effect) {
        let text = value.to_string();
        if text.len() > records::MAX_INLINE {
            let (parts, members) = records::parted("effect.part", name, &text, &Map::new());
            entries.extend(parts);
            body[name] = Value::Object(members);
        } else {
            body[name] = value;
        }
    }
    if let Some(lease) = lease {
        body["lease"] = json!({
            "id": lease.id, "target": lease.target(), "reason": lease.reason, "after": lease.after,
            "ttl_ms": millis(lease.deadline.remaining(lease.made)), "deadline_boot_ns": lease.deadline.0,
        });
    }
    let kind = if lease.is_some() { "lease.made" } else { "effect" };
    entries.push(records::record(kind, body));
    if run.emergency() || matches!(effect, Effect::Revert { .. }) {
        for entry in &mut entries {
            entry.keep = true;
        }
    }
    entries
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What an effect is, for its record: never a secret in the clear.
fn detail(core: &Core, run: &Run, effect: &Effect) -> Vec<(&'static str, Value)> {
    match effect {
        Effect::Observe => Vec::new(),
        Effect::See(_, about) => about.iter().map(|a| ("about", run.clean(core, a).into())).collect(),
        Effect::Read { path, value, .. } => {
            vec![("path", path.to_string().into()), ("value", core.digest(value))]
        }
        Effect::Reveal { path, value } => {
            vec![("path", path.to_string().into()), ("value", core.digest(value))]
        }
        Effect::Snapshot { name, parts } => {
            let digests = parts
                .iter()
                .map(|(path, tree)| json!({ "path": path.to_string(), "value": core.digest(tree) }));
            vec![("snapshot", name.as_str().into()), ("parts_kept", digests.collect())]
        }
        Effect::Diff { name, rows, .. } => {
            let paths = rows.iter().map(|(path, ..)| path.to_string());
            vec![("snapshot", name.as_str().into()), ("differing", paths.collect())]
        }
        Effect::Impossible { target, .. } => vec![("target", target.to_string().into())],
        Effect::Change(proposal) => {
            let target = proposal.change.target().to_string().into();
            let guard = proposal.guard.as_ref().map(|guard| ("guard", guard.record.clone()));
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
        Effect::Log { text, .. } => vec![("text", run.clean(core, text).into())],
    }
}

/// The word for what becomes of a conflict.
pub(crate) fn settled_as(force: bool) -> &'static str {
    if force { "force" } else { "keep" }
}

/// The policy that decides, with what the log says of it.
pub(crate) fn digest_of(policy: &Policy) -> String {
    policy.digest().iter().map(|byte| format!("{byte:02x}")).collect()
}
