//! Parts that several effects share.

use std::sync::Arc;

use debug_policy::{Action, Decision, Resource};
use debug_wire::table::Function;
use rhai::FnPtr;

use crate::core::Core;
use crate::effect::Refusal;
use crate::effect::{ChangeOptions, Effect, GuardCode, Guarding};
use crate::gate::{self};
use crate::host::answers;
use crate::host::arguments::{CallArguments, usage};
use crate::host::patch_view::PatchView;
use crate::session::context::EvalContext;
use debug_base::leaves;
use debug_base::{BootTime, Path, Tree};
use debug_lease::Lease;
use debug_points::{PatchCode, PatchFailure, Point};
use debug_script::convert;
use debug_script::frozen::{Frozen, Takes};
use debug_script::unfrozen::Purpose;

/// A formed effect, or why it is impossible; the reason goes only to operators who would be allowed to have the effect.
pub(super) fn possible(
    formed: Result<Effect, Refusal>,
    function: &'static Function,
    target: Resource,
    options: ChangeOptions,
) -> Effect {
    formed.unwrap_or_else(|why| Effect::Impossible {
        function,
        target,
        options,
        why,
    })
}

pub(super) fn state(path: &Path) -> Resource {
    Resource::State(path.0.clone())
}

/// The guard among the options of a change.
pub(super) fn guard_of(
    core: &Arc<Core>,
    run: &EvalContext,
    function: &'static Function,
    given: &CallArguments,
) -> Result<Option<Guarding>, Refusal> {
    let guard = given.guard.as_ref();
    guard
        .map(|guard| guarding(core, run, function, guard))
        .transpose()
}

/// Freezes the condition for a lease.
pub(super) fn guarding(
    core: &Arc<Core>,
    run: &EvalContext,
    function: &'static Function,
    pointer: &FnPtr,
) -> Result<Guarding, Refusal> {
    let host = Arc::new(PatchView::new(core, run));
    let frozen = Frozen::new(&run.functions(), pointer, Some(1), Takes::Counts, host).map_err(|e| {
        Refusal::state(
            e.told(Purpose::Guard),
            "a guard takes one argument, as in `|s| s.errors < 10`; it may compute and `get` literal paths",
        )
    })?;
    let paths = frozen
        .reads()
        .map(|p| p.parse::<Path>().map_err(|e| usage(function, &e.to_string())))
        .collect::<Result<Vec<_>, _>>()?;
    let reads = paths.iter().flat_map(|p| readable(core, run, p)).collect();
    answers::check_guard(&frozen)?;
    let points: Vec<Point> = frozen
        .words()
        .filter_map(|word| core.exposed.points.find(word))
        .collect();
    if let Some(point) = points
        .iter()
        .find(|point| core.exposed.points.is_shared(point.name()))
    {
        return Err(Refusal::state(
            format!(
                "calls of `{}` cannot be counted for a guard: several functions have this name",
                point.name()
            ),
            "`points()` tells where they are; name another point, a state or a gauge",
        ));
    }
    if let Some(point) = points.iter().find(|point| !point.is_countable()) {
        return Err(Refusal::state(
            format!(
                "calls of `{}` cannot be counted for a guard: it is only listed",
                point.name()
            ),
            "`describe(name)` says why; name another point, a state or a gauge",
        ));
    }
    let frozen = frozen.knowing(run.session.shapes().handed_out());
    let mut record = frozen_record(&frozen);
    if !points.is_empty() {
        record["counts"] = points.iter().map(|point| point.name()).collect();
    }
    Ok(Guarding {
        logs: frozen.logs,
        gauges: core.changes.guards.has_gauges(),
        code: Arc::new(ScriptGuard(frozen)),
        reads,
        points,
        record,
    })
}

/// The record of frozen code; the code itself is in the eval's record.
pub(super) fn frozen_record(frozen: &Frozen) -> serde_json::Value {
    serde_json::json!({
        "code": "as in the eval", "functions": frozen.reached,
        "captures": frozen.captures.iter().map(Tree::to_json).collect::<Vec<_>>(),
    })
}

/// Finds a text that contains one of the placeholders that the agent shows instead of a value; returns its meaning, and
/// advice.
pub(super) fn stands_for(tree: &Tree) -> Option<(&'static str, &'static str)> {
    let shows = |what: &str| {
        tree.leaves()
            .any(|(_, leaf)| matches!(leaf, Tree::Str(text) if text.contains(what)))
    };
    if shows("‹secret") {
        let help = "assign the secret itself, to its own path; `--arg-secret` gives a new one";
        return Some(("a secret is shown, not the secret", help));
    }
    shows("‹unreadable").then_some(("what cannot be read is shown", "leave it out"))
}

/// The leaves that frozen code reads by a literal path; the path itself if nothing is there or the operator could read
/// none of it.
pub(super) fn readable(core: &Core, run: &EvalContext, path: &Path) -> Vec<Path> {
    if !gate::could_read(core.door(), run, path) {
        return vec![path.clone()];
    }
    run.look(&core.exposed, path)
        .map_or_else(|_| vec![path.clone()], |tree| leaves(path, &tree).into_vec())
}

/// The leases that this operator may end: their own, and those that policy lets them revert.
pub(crate) fn revertible(core: &Core, run: &EvalContext) -> Vec<Lease> {
    let mine = &run.session.operator.name;
    let may = |lease: &debug_lease::Lease| {
        let asks = [lease.target().clone(), Resource::Lease(lease.owner.clone())];
        lease.owner == *mine
            || asks.into_iter().all(|resource| {
                let request = run.request(Action::Revert, resource);
                matches!(core.rules.policy.decide(&request), Decision::Allow(_))
            })
    };
    // Newest first, so that no lease has to be rebased.
    let mut leases = run.leases(&core.changes);
    leases.reverse();
    leases.retain(may);
    leases
}

/// A guard's code.
struct ScriptGuard(Frozen);

impl PatchCode for ScriptGuard {
    fn call(&self, lease: u64, now: BootTime, arguments: Vec<Tree>) -> Result<Tree, PatchFailure> {
        self.0.call(lease, now, arguments)
    }

    fn mentions_body(&self) -> bool {
        self.0.mentions_body()
    }
}

impl GuardCode for ScriptGuard {
    fn reads_now(&self) -> Vec<String> {
        let read = |path| Some(format!("{path} = {}", convert::display(&self.0.look(path)?)));
        self.0.reads().filter_map(read).collect()
    }
}
