//! What `points`, `describe` and `leases` show about points and their patches.

use debug_policy::Resource;

use crate::core::Core;
use crate::effect::{ChangeOptions, Reply, Row};
use crate::gate;
use crate::session::context::EvalContext;
use debug_lease::Lease;
use debug_points::{Failed, Kind, LayerInfo, Makes, PointInfo};

/// All points.
pub(super) fn all(core: &Core, run: &EvalContext) -> Reply {
    Reply::table(points(core, run).iter().map(|point| row(core, run, point)))
}

/// All points; in a plan with the layers that they would have.
fn points(core: &Core, run: &EvalContext) -> Vec<PointInfo> {
    let mut points = core.exposed.points.points();
    if !run.is_planning() {
        return points;
    }
    let leases = run.leases(&core.changes);
    for lease in &leases {
        if let Resource::Point(name) = lease.target()
            && !points.iter().any(|point| point.name == *name)
        {
            points.extend(core.exposed.points.sketched(name));
        }
    }
    points
        .iter_mut()
        .for_each(|point| point.layers = planned_layers(&leases, point));
    // Functions first, in their order, then routes by name.
    points.sort_by_key(|point| (point.kind == Kind::Route).then(|| point.name.clone()));
    points
}

fn planned_layers(leases: &[Lease], point: &PointInfo) -> Vec<LayerInfo> {
    let here = |lease: &&Lease| matches!(lease.target(), Resource::Point(name) if *name == point.name);
    let layer = |lease: &Lease| {
        let made = point.layers.iter().find(|layer| layer.lease == lease.id).cloned();
        made.unwrap_or_else(|| LayerInfo::planned(lease.id, lease.deadline))
    };
    leases.iter().filter(here).map(layer).collect()
}

/// The point of that name; a list of points if several functions share the name.
pub(super) fn one(core: &Core, run: &EvalContext, name: &str) -> Option<Reply> {
    let points = points(core, run);
    let mut found: Vec<&PointInfo> = points.iter().filter(|point| point.name == name).collect();
    let whole = |point: &PointInfo| {
        let mut members = row(core, run, point);
        members.push(("answers", answers(point).into()));
        members.push(("leaves_out", leaves_out(point).into()));
        if point.kind == Kind::Route {
            let behind = point.behind.iter().map(|name| name.to_string());
            members.push(("behind", behind.collect()));
        }
        members
    };
    match found.len() {
        0 => None,
        1 => found.pop().map(|point| Reply::Row(whole(point))),
        _ => Some(Reply::table(found.into_iter().map(whole))),
    }
}

/// What a patch of a point would run before, for the operator who is about to make it.
pub(crate) fn answers_before(point: &PointInfo) -> String {
    let behind = point
        .behind
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ");
    match (point.kind, behind.is_empty()) {
        (Kind::Function, _) => "answers in place of the function's body".to_owned(),
        (Kind::Route, true) => {
            "answers before the handler and all that lies inside the agent's layer; no layer is known to lie outside"
                .to_owned()
        }
        (Kind::Route, false) => {
            format!("answers before the handler and all that lies inside the agent's layer, behind {behind}")
        }
    }
}

/// The last failure of a patch, for its row in `leases()`.
pub(super) fn failing(core: &Core, run: &EvalContext, lease: &Lease) -> Option<String> {
    let Resource::Point(name) = lease.target() else {
        return None;
    };
    let layers = core.exposed.points.find(name)?.layers();
    let layer = layers.iter().find(|layer| layer.lease() == lease.id)?;
    let last = layer.last_failure()?;
    Some(format!(
        "failed in {} of {} calls, the last time {}",
        layer.failures(),
        layer.calls(),
        shown(core, run, name, &lease.owner, &last)
    ))
}

/// The text of a failure may hold data that passed through the point: it is shown to the patch's owner and to operators
/// who may patch the point.
fn shown(core: &Core, run: &EvalContext, point: &str, owner: &str, last: &Failed) -> String {
    if *owner == run.session.operator.name
        || gate::may_patch(core.door(), run, point, &ChangeOptions::default())
    {
        return core.exposed.scrub(&last.to_string());
    }
    format!("in call {} (why is told to its owner)", last.call)
}

fn row(core: &Core, run: &EvalContext, point: &PointInfo) -> Row {
    let layers: Reply = point
        .layers
        .iter()
        .map(|layer| Reply::Count(layer.lease))
        .collect();
    let arguments: Reply = point
        .arguments
        .iter()
        .map(|a| {
            if a.given {
                a.name.to_owned()
            } else {
                format!("{} (not given to patches)", a.name)
            }
        })
        .collect();
    let owner = top_owner(core, run, point);
    let top = point.layers.last();
    let last = top.and_then(|layer| layer.last_failure.as_ref());
    let last = last.map(|last| format!("failed {}", shown(core, run, &point.name, &owner, last)));
    let note = match (&point.not_patchable, point.is_seen) {
        (Some(why), _) => format!("cannot be patched: {why}"),
        (None, Some(false)) => "has matched 0 requests".to_owned(),
        (None, _) => last.unwrap_or_default(),
    };
    let (calls, failures) = top.map_or((Reply::Nothing, Reply::Nothing), |l| {
        (Reply::Count(l.calls), Reply::Count(l.failures))
    });
    vec![
        ("name", point.name.clone().into()),
        (
            "kind",
            match point.kind {
                Kind::Function => "function",
                Kind::Route => "route",
            }
            .into(),
        ),
        (
            "where",
            point
                .place
                .map(|(file, line)| format!("{file}:{line}"))
                .unwrap_or_default()
                .into(),
        ),
        ("arguments", arguments),
        ("patched", layers),
        ("owner", owner.into()),
        ("patched_calls", calls),
        ("failures", failures),
        ("note", note.into()),
    ]
}

fn top_owner(core: &Core, run: &EvalContext, point: &PointInfo) -> String {
    let top = point.layers.last().map(|layer| layer.lease);
    top.and_then(|id| run.lease(&core.changes, id).ok())
        .map(|lease| lease.owner)
        .unwrap_or_default()
}

/// What a patch of a point may answer.
fn answers(point: &PointInfo) -> &'static str {
    if point.kind == Kind::Route {
        return "a map with `status`, `headers` and `body`";
    }
    match point.makes {
        None => "nothing: it takes no patches",
        Some(Makes {
            value: true,
            error: None | Some(false),
        }) => "the value",
        Some(Makes {
            value: true,
            error: Some(true),
        }) => "the value, or `Err(..)` to make it fail",
        Some(Makes {
            value: false,
            error: Some(true),
        }) => "`Err(..)`, to make it fail",
        Some(Makes { value: false, .. }) => "nothing",
    }
}

/// What does not run while a patch answers.
fn leaves_out(point: &PointInfo) -> &'static str {
    match point.kind {
        Kind::Function => "the function's body, and what it would have done",
        Kind::Route => {
            "the handler with the checks of its extractors, and each layer inside the agent's; \
             `behind` names layers outside of it that the service has given a name"
        }
    }
}
