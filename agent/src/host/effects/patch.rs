//! Patches of points.

use std::sync::Arc;

use debug_policy::Resource;
use debug_wire::table::Function;
use rhai::{Dynamic, FnPtr};

use super::parts::{frozen_record, guard_of, readable};
use crate::changes::PatchChange;
use crate::core::Core;
use crate::effect::Refusal;
use crate::effect::{ChangeOptions, Effect, Proposal};
use crate::host::answers;
use crate::host::arguments::{CallArguments, usage};
use crate::host::patch_view::PatchView;
use crate::session::context::EvalContext;
use debug_base::NonEmpty;
use debug_base::Path;
use debug_points::{Kind, Point};
use debug_script::convert;
use debug_script::frozen::{Frozen, Takes};
use debug_script::unfrozen::Purpose;

pub(super) fn patch(
    core: &Arc<Core>,
    run: &EvalContext,
    function: &'static Function,
    name: &str,
    code: Option<Dynamic>,
    given: CallArguments,
) -> Result<Effect, Refusal> {
    let code = code.unwrap_or(Dynamic::UNIT);
    let kind = convert::kind(&code);
    let Some(pointer) = code.try_cast::<FnPtr>() else {
        return Err(usage(
            function,
            &format!("the patch must be a function such as `|req| #{{ status: 503 }}`, not {kind}"),
        ));
    };
    let point = find_point(core, run, name, &given.options)?;
    point
        .patchable()
        .map_err(|e| Refusal::state(e.to_string(), "`points()` says which can be patched"))?;
    if point.kind() == Kind::Function && debug_points::PANIC_ABORTS {
        return Err(Refusal::state(
            format!(
                "`{name}` cannot be patched: this service is built with `panic = \"abort\"`, so a failing patch could not be caught"
            ),
            "patch a route, or build the service with `panic = \"unwind\"`",
        ));
    }
    let Some(observer) = core.observer() else {
        return Err(Refusal::state(
            "the agent is stopping",
            "nothing can be changed any more",
        ));
    };
    let gives = point.arguments().len();
    let takes = match point.kind() {
        Kind::Function => Takes::Values,
        Kind::Route => Takes::Request,
    };
    let host = Arc::new(PatchView::new(core, run));
    let frozen = Frozen::new(&run.functions(), &pointer, Some(gives), takes, host).map_err(|e| {
        Refusal::state(
            e.told(Purpose::Patch),
            "a patch may compute, `log_info`, `log_warn`, and `get` literal paths",
        )
    })?;
    let frozen = frozen.knowing(run.session.shapes().handed_out());
    answers::check(&point, &frozen)?;
    let warning = answers::warning(&point, &frozen);
    let reads = frozen
        .reads()
        .map(|p| p.parse::<Path>().map_err(|e| usage(function, &e.to_string())))
        .collect::<Result<Vec<_>, _>>()?;
    let reads = reads.iter().flat_map(|p| readable(core, run, p)).collect();
    let record = frozen_record(&frozen);
    let layers = run.layers(
        &core.changes,
        &Resource::Point(point.name().to_owned()),
        point.layers().len(),
    );
    let proposal = Proposal {
        function,
        targets: NonEmpty::one(Resource::Point(point.name().to_owned())),
        reads,
        logs: frozen.logs,
        before: serde_json::json!({ "layers": layers }),
        after_digest: serde_json::Value::Null,
        after: record,
        shown: None,
        change: Arc::new(
            PatchChange::new(point, Arc::new(frozen), observer, warning)
                .declaring(core.exposed.points.clone()),
        ),
        guard: guard_of(core, run, function, &given)?,
        options: given.options,
    };
    Ok(Effect::Change(Box::new(proposal)))
}

/// Looks up a point by name. A route without any request so far is found only with `unseen`, and is listed once its
/// patch is made.
pub(super) fn find_point(
    core: &Core,
    run: &EvalContext,
    name: &str,
    options: &ChangeOptions,
) -> Result<Point, Refusal> {
    if let Some(point) = core.exposed.points.find(name) {
        return Ok(point);
    }
    let unseen = options.unseen || run.plans_at(&Resource::Point(name.to_owned()));
    if let (true, Some((method, template))) = (unseen, name.split_once(' ')) {
        // The name would appear in the log and in every listing.
        if run.holds_secret(&core.exposed, name) || debug_state::has_secret_shape(name) {
            return Err(Refusal::state(
                "the name of the point holds what is or looks like a secret",
                "name a route by its template, as in `GET /api/healthcheck`",
            ));
        }
        // Other operators see the route once the patch is made.
        let slot = core
            .exposed
            .points
            .sketch(method, template)
            .map_err(|e| Refusal::state(e.to_string(), "as in `GET /api/healthcheck`"))?;
        return Ok(Point::Route(slot));
    }
    let nearest = core
        .exposed
        .points
        .nearest(name)
        .map(|near| format!("; did you mean `{near}`?"))
        .unwrap_or_default();
    Err(Refusal::state(
        format!("there is no point `{name}`{nearest}"),
        "`points()` lists them; a route is one once it was called, or with `#{ unseen: true }`",
    ))
}
