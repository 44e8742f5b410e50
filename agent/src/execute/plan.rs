//! Plans: code runs against an overlay in which it sees its own writes, and the plan lists the effects that the code
//! would have.
//!
//! Invariant: no code here holds or requests a permit. [`gate::consider`] decides and records what a plan reads; what
//! the plan would change is listed, and kept in the overlay only.

mod rehearse;

use debug_policy::{ENTER_CHANGE, Mode, Resource, format_duration};
use debug_wire::table::{HostFunction, Undo};

use crate::core::Core;
use crate::effect::{Barred, Effect, Proposal, Refusal, Reply};
use crate::execute::difference_rows;
use crate::execute::listing;
use crate::gate::{self, Considered};
use crate::session::context::EvalContext;
use debug_base::{BootTime, Path, Tree, roughly};

use crate::session::planning::PlanLine;

/// Considers an effect in a plan, and lists it.
///
/// # Errors
/// It is refused and the code needs its result. A denied change is listed, and the plan goes on.
pub(crate) fn one(core: &Core, run: &EvalContext, effect: Effect) -> Result<Reply, Refusal> {
    let now = BootTime::now();
    let mut line = described(core, &effect, now);
    let Considered {
        effect,
        verdict,
        wants,
    } = gate::consider(core.door(), run, effect)?;
    let verdict = verdict.and_then(|said| rehearse::effect(core, run, &effect, now).map(|()| said));
    if let (Effect::Change(proposal), Err(_)) = (&effect, &verdict) {
        rehearse::go_on(core, run, proposal, now);
    }
    (line.allowed, line.verdict) = match (&verdict, &wants) {
        (Ok(said), _) if lacks_mode(run, &effect) => (
            false,
            format!("would need: mode change, as {ENTER_CHANGE} enters it; then {said}"),
        ),
        (Ok(said), _) => (true, said.clone()),
        (Err(_), Some(reason)) => (
            false,
            format!("would need: mode change with {reason}, as {ENTER_CHANGE} enters it"),
        ),
        (Err(refusal), None) => (false, told(refusal)),
    };
    line.refused = verdict.is_err() && wants.is_none();
    // The run tells it with the change.
    if let (false, Effect::Change(proposal)) = (line.refused, &effect)
        && let Some(warning) = proposal.change.warning()
    {
        line.verdict = format!("{}; {warning}", line.verdict);
    }
    // Permission to write does not include permission to read.
    if !may_see(core, run, &effect) {
        (line.before, line.after) = (None, None);
    }
    let said = format!("planned: {} {}", line.function, line.target);
    // A read is listed only if it would be denied.
    if !is_look(&effect) || !line.allowed {
        run.planning(|planning| planning.lines.push(line));
    }
    match effect {
        Effect::See(listing, about) => {
            verdict?;
            listing::list(core, run, listing, about.as_deref(), now)
        }
        Effect::Read { path, value, .. } => {
            verdict?;
            Ok(Reply::value(value, path))
        }
        Effect::Diff { rows, .. } => {
            verdict?;
            Ok(difference_rows(&rows))
        }
        // A plan reveals nothing, even if policy would allow it: the placeholder holds no value.
        Effect::Reveal { path, .. } => Ok(Reply::value(Tree::Secret(Box::new(Tree::Null)), path)),
        Effect::EnterChange { reason } => {
            run.planning(|planning| planning.mode = Some((Mode::Change, Some(reason))));
            Ok(Reply::message(said))
        }
        Effect::Observe => {
            run.planning(|planning| planning.mode = Some((Mode::Observe, None)));
            Ok(Reply::message(said))
        }
        // While the reason is missing, other obstacles are not told. The plan goes on as after any denied change.
        Effect::Impossible { function, .. } if wants.is_some() && function.undo == Undo::Lease => {
            Ok(Reply::message(said))
        }
        Effect::Impossible { why, .. } => Err(verdict.err().unwrap_or(why)),
        // A barred change is denied like one that was formed, and the plan goes on.
        Effect::Barred(Barred {
            function,
            resource: Resource::State(path),
            ..
        }) if function.id == HostFunction::Reveal => {
            let hidden = Tree::Secret(Box::new(Tree::Null));
            Ok(Reply::value(hidden, Path(path)))
        }
        Effect::Barred(barred) => match verdict {
            Err(refusal) if barred.function.undo != Undo::Lease => Err(refusal),
            _ => Ok(Reply::message(said)),
        },
        Effect::Change(_)
        | Effect::Revert { .. }
        | Effect::Renew { .. }
        | Effect::Adopt { .. }
        | Effect::Settle { .. }
        | Effect::Guard { .. }
        | Effect::Snapshot { .. }
        | Effect::Log { .. } => Ok(Reply::message(said)),
    }
}

/// Whether the operator may read everything that a change replaces and writes.
fn may_see(core: &Core, run: &EvalContext, effect: &Effect) -> bool {
    let Effect::Change(proposal) = effect else {
        return true;
    };
    match (proposal.change.target(), &proposal.shown) {
        (Resource::State(path), Some((before, after))) => {
            let path = Path(path.clone());
            let see = |tree: &Option<Tree>| {
                let nothing = Tree::Null;
                gate::must_see(core.door(), run, &path, tree.as_ref().unwrap_or(&nothing)).is_ok()
            };
            see(before) && see(after)
        }
        _ => true,
    }
}

/// Whether an effect needs the mode `change`, and neither the session nor the plan has entered it with a reason. Plans
/// are decided as if it were entered, so that the operator learns policy's other requirements, too.
fn lacks_mode(run: &EvalContext, effect: &Effect) -> bool {
    effect.function().row().action.needs_change() && run.reason().is_none()
}

/// Whether an effect only reads.
fn is_look(effect: &Effect) -> bool {
    match effect {
        Effect::See(..) | Effect::Read { .. } | Effect::Diff { .. } => true,
        Effect::Reveal { .. }
        | Effect::Impossible { .. }
        | Effect::Barred(_)
        | Effect::Change(_)
        | Effect::Revert { .. }
        | Effect::Renew { .. }
        | Effect::Snapshot { .. }
        | Effect::Adopt { .. }
        | Effect::Settle { .. }
        | Effect::Guard { .. }
        | Effect::EnterChange { .. }
        | Effect::Observe
        | Effect::Log { .. } => false,
    }
}

fn told(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Denied(denial) => {
            let rules: Vec<&str> = denial.rules.iter().map(|rule| rule.id.as_str()).collect();
            let by = if rules.is_empty() {
                String::new()
            } else {
                format!(" by {}", rules.join(", "))
            };
            format!("denied{by}: {}", denial.help)
        }
        Refusal::State { message, help } => format!("refused: {message}; {help}"),
        Refusal::Log(error) => format!("refused: {error}"),
    }
}

fn described(core: &Core, effect: &Effect, now: BootTime) -> PlanLine {
    let (mut before, mut after) = (None, None);
    let target = match effect {
        Effect::See(listing, about) => about
            .clone()
            .unwrap_or_else(|| listing.function().name().to_owned()),
        Effect::Read { path, .. } | Effect::Reveal { path, .. } => format!("state:{path}"),
        Effect::Diff { name, .. } | Effect::Snapshot { name, .. } => name.clone(),
        Effect::Change(proposal) => {
            (before, after) = change_shown(core, proposal);
            proposal.change.target().to_string()
        }
        Effect::Impossible { target, .. } => target.to_string(),
        Effect::Barred(barred) if barred.named => barred.resource.to_string(),
        Effect::Barred(barred) => barred.function.name.to_owned(),
        Effect::Revert { lease } | Effect::Adopt { lease } | Effect::Guard { lease, .. } => {
            format!("lease {} at {}", lease.id, lease.target())
        }
        Effect::Renew { lease, ttl, .. } => {
            let left = lease.deadline.remaining(now);
            (before, after) = (Some(roughly(left).into()), Some(format_duration(*ttl).into()));
            format!("lease {} at {}", lease.id, lease.target())
        }
        Effect::Settle { lease, force, .. } => format!("lease {} as {}", lease.id, gate::settled_as(*force)),
        Effect::EnterChange { reason } => reason.clone(),
        Effect::Observe => "agent".to_owned(),
        Effect::Log { text, .. } => debug_base::shortened(&core.exposed.scrub(text)),
    };
    let function = effect.function().name();
    PlanLine {
        function,
        target,
        before,
        after,
        allowed: false,
        refused: false,
        verdict: String::new(),
    }
}

fn change_shown(core: &Core, proposal: &Proposal) -> (Option<Reply>, Option<Reply>) {
    match (proposal.change.target(), &proposal.shown) {
        (Resource::State(path), Some((before, after))) => {
            let path = Path(path.clone());
            let shown = |tree: &Option<Tree>| match tree {
                Some(tree) => Reply::value(core.exposed.redactor.mark(&path, tree.clone()), path.clone()),
                None => Reply::message("(nothing)"),
            };
            (Some(shown(before)), Some(shown(after)))
        }
        // The code of a patch is in the eval itself.
        (Resource::Point(name), _) => {
            let point = core.exposed.points.described(name);
            (None, point.map(|point| listing::answers_before(&point).into()))
        }
        _ => (None, None),
    }
}
