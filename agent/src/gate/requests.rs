//! Maps an effect to every request that policy must allow first.

use std::time::Duration;

use debug_policy::{Action, Request, Resource};

use super::asked::Asked;
use crate::effect::{ChangeOptions, Effect, Guarding, Proposal};
use crate::session::context::EvalContext;
use debug_base::NonEmpty;
use debug_base::{BootTime, Path};
use debug_lease::{DEFAULT_TTL, Lease};

/// Every request that policy must allow for an effect.
pub(super) fn requests(run: &EvalContext, effect: &Effect, now: BootTime) -> Asked {
    let action = effect.action();
    let ask = |resource: Resource| run.request(action, resource);
    Asked::Policy(match effect {
        // An operator may always end their own change: that makes the service what it was.
        Effect::Revert { lease } if lease.owner == run.session.operator.name => return Asked::Own(lease.id),
        Effect::Revert { lease } => {
            NonEmpty::one(ask(lease.target().clone())).and([ask(Resource::Lease(lease.owner.clone()))])
        }
        Effect::See(..) | Effect::EnterChange { .. } | Effect::Observe | Effect::Log { .. } => {
            let reason = match effect {
                Effect::EnterChange { reason } => Some(reason.clone()),
                _ => None,
            };
            NonEmpty::one(Request {
                reason: reason.or_else(|| run.reason()),
                ..ask(Resource::Agent)
            })
        }
        Effect::Snapshot { parts, .. } => parts
            .flat_map(|(path, tree)| debug_base::leaves(path, tree))
            .map(|leaf| ask(resource(leaf))),
        Effect::Diff { leaves, .. } | Effect::Read { leaves, .. } => leaves.map(|leaf| ask(resource(leaf))),
        // The path itself and everything below it: a map may be secret as a whole.
        Effect::Reveal { path, value } => {
            let below = value
                .without_mark()
                .leaves()
                .map(|(below, _)| path.join(&below.0));
            let inside: Vec<Path> = below.filter(|leaf| leaf != path).collect();
            NonEmpty::one(ask(resource(path))).and(inside.iter().map(|path| ask(resource(path))))
        }
        Effect::Change(proposal) => change_requests(run, proposal, action),
        Effect::Impossible { target, options, .. } => {
            NonEmpty::one(with_options(run, options, ask(target.clone())))
        }
        Effect::Barred(barred) => NonEmpty::one(barred.request(run)),
        Effect::Adopt { lease }
        | Effect::Settle {
            lease, force: false, ..
        } => of_lease(run, lease, ask).map(|request| with_reason(lease, request.clone())),
        // A forced settlement writes each of these leaves.
        Effect::Settle { lease, leaves, .. } => of_lease(run, lease, ask)
            .and(leaves.iter().map(|leaf| ask(resource(leaf))))
            .map(|request| with_reason(lease, request.clone())),
        Effect::Guard { lease, guard } => of_lease(run, lease, ask)
            .map(|request| with_reason(lease, request.clone()))
            .and(guard_requests(run, guard)),
        Effect::Renew { lease, ttl, .. } => renew_requests(run, lease, *ttl, now, ask),
    })
}

pub(super) fn resource(path: &Path) -> Resource {
    Resource::State(path.0.clone())
}

/// The target of a lease and, if another operator owns the lease, that owner.
fn of_lease(run: &EvalContext, lease: &Lease, ask: impl Fn(Resource) -> Request) -> NonEmpty<Request> {
    let others = lease.owner != run.session.operator.name;
    NonEmpty::one(ask(lease.target().clone())).and(others.then(|| ask(Resource::Lease(lease.owner.clone()))))
}

fn change_requests(run: &EvalContext, proposal: &Proposal, action: Action) -> NonEmpty<Request> {
    let asked = |target: &Resource| with_options(run, &proposal.options, run.request(action, target.clone()));
    let guard = proposal.guard.iter().flat_map(|guard| guard_requests(run, guard));
    let reads = proposal
        .reads
        .iter()
        .map(|path| run.request(Action::Read, resource(path)));
    proposal
        .targets
        .map(asked)
        .and(reads)
        .and(log_request(run, proposal.logs))
        .and(guard)
}

/// The author of a guard must be allowed to read the states that it reads, to list if it is given counts of points or the service's
/// gauges, and to log if it logs.
fn guard_requests(run: &EvalContext, guard: &Guarding) -> Vec<Request> {
    let reads = guard
        .reads
        .iter()
        .map(|path| run.request(Action::Read, resource(path)));
    let counts =
        (guard.gauges || !guard.points.is_empty()).then(|| run.request(Action::List, Resource::Agent));
    reads.chain(counts).chain(log_request(run, guard.logs)).collect()
}

/// Code that stays and can write to the service's log does so later, without a decision of its own.
fn log_request(run: &EvalContext, logs: bool) -> Option<Request> {
    logs.then(|| run.request(Action::Log, Resource::Agent))
}

/// Adds the time to live and the reason of a change to a request.
pub(super) fn with_options(run: &EvalContext, options: &ChangeOptions, request: Request) -> Request {
    let ttl = request
        .action
        .sets_deadline()
        .then(|| options.ttl.unwrap_or(DEFAULT_TTL));
    let reason = options.reason.clone().or_else(|| run.reason());
    Request {
        ttl,
        life: ttl,
        reason,
        ..request
    }
}

fn renew_requests(
    run: &EvalContext,
    lease: &Lease,
    ttl: Duration,
    now: BootTime,
    ask: impl Fn(Resource) -> Request,
) -> NonEmpty<Request> {
    let lived = now.since(lease.made);
    of_lease(run, lease, ask).map(|request| Request {
        ttl: Some(ttl),
        life: Some(lived.saturating_add(ttl)),
        ..with_reason(lease, request.clone())
    })
}

/// Adds the lease's reason, unless the operator gave one.
fn with_reason(lease: &Lease, request: Request) -> Request {
    Request {
        reason: request.reason.clone().or_else(|| Some(lease.reason.clone())),
        ..request
    }
}
