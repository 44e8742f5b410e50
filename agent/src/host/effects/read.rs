//! Reads.

use debug_wire::table::HostFunction;

use super::parts::{possible, state};
use crate::core::Core;
use crate::effect::{Barred, Refusal};
use crate::effect::{ChangeOptions, Effect};
use crate::execute::missing::state_refusal;
use crate::session::context::EvalContext;
use debug_base::{Path, Tree};
use debug_base::{is_container, leaves};
use debug_state::StateError;

/// A read of a path, with the leaves that policy decides about.
pub(crate) fn read(core: &Core, run: &EvalContext, path: &Path) -> Effect {
    let barred = Barred::named(HostFunction::Get.row(), state(path), ChangeOptions::default());
    if let Some(barred) = barred.unless_allowed(core.door(), run) {
        return barred;
    }
    read_found(core, run, path, run.look(&core.exposed, path))
}

/// As [`read`], for a path that policy could allow and that the eval has read already.
pub(crate) fn read_found(
    core: &Core,
    run: &EvalContext,
    path: &Path,
    found: Result<Tree, StateError>,
) -> Effect {
    let formed = found
        .map(|value| Effect::Read {
            path: path.clone(),
            leaves: leaves(path, &value),
            value,
        })
        .map_err(|error| state_refusal(core, run, &error));
    possible(
        formed,
        HostFunction::Get.row(),
        state(path),
        ChangeOptions::default(),
    )
}

pub(super) fn reveal(core: &Core, run: &EvalContext, path: Path) -> Result<Effect, Refusal> {
    let value = run
        .look(&core.exposed, &path)
        .map_err(|e| state_refusal(core, run, &e))?;
    if is_container(&value) {
        return Err(Refusal::state(
            format!("`{path}` is no single value; a secret is revealed by its own path"),
            format!("`ls(\"{path}\")` lists what is below it"),
        ));
    }
    Ok(Effect::Reveal { path, value })
}
