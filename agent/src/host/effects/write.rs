//! Writes of states.

use std::sync::Arc;

use debug_policy::Resource;
use debug_wire::table::{Function, HostFunction};
use rhai::Dynamic;

use super::parts::{guard_of, possible, stands_for, state};
use crate::changes::{WriteChange, only_because_of};
use crate::core::Core;
use crate::effect::{Barred, Refusal};
use crate::effect::{Effect, Proposal};
use crate::execute::missing::BIND_SECRET;
use crate::execute::missing::{filled, state_refusal};
use crate::gate::{self};
use crate::host::arguments::CallArguments;
use crate::session::context::EvalContext;
use debug_base::NonEmpty;
use debug_base::leaves;
use debug_base::{Path, Tree, Wait};
use debug_lease::ChangeError;
use debug_script::convert::ConvertError;
use debug_script::{convert, values};
use debug_state::{Checked, StateError};

/// A write. It is checked in full against the live state first, so that a change that would fail is never made.
pub(crate) fn set(
    core: &Arc<Core>,
    run: &EvalContext,
    function: &'static Function,
    path: Path,
    value: Dynamic,
    given: CallArguments,
) -> Effect {
    let target = state(&path);
    let barred = Barred::named(function, target.clone(), given.options.clone());
    if let Some(barred) = barred.unless_allowed(core.door(), run) {
        return barred;
    }
    possible(
        write(core, run, function, path, value, given.clone()),
        function,
        target,
        given.options,
    )
}

/// The id of the lease that a change at `target` must name in `over`.
pub(super) fn stacked_at(core: &Core, run: &EvalContext, target: &Resource) -> Option<u64> {
    gate::unagreed(run, &gate::standing(core.door(), run, target).ok()?).map(|lease| lease.id)
}

pub(super) fn write(
    core: &Arc<Core>,
    run: &EvalContext,
    function: &'static Function,
    path: Path,
    value: Dynamic,
    given: CallArguments,
) -> Result<Effect, Refusal> {
    let after = match values::bound(&value) {
        Some(secret) => secret,
        None => convert::from_dynamic(value, Some(&path)).map_err(|e| {
            let help = match e {
                ConvertError::SecretMoved(_) | ConvertError::SecretArgument => BIND_SECRET,
                _ => "give a value that JSON could hold",
            };
            Refusal::state(format!("`{path}` was not changed: {e}"), help)
        })?,
    };
    if let Some((what, help)) = stands_for(&after) {
        return Err(Refusal::state(
            format!("`{path}` was not changed: the value holds the text by which {what}"),
            help,
        ));
    }
    write_tree(core, run, function, path, after, given)
}

pub(super) fn write_tree(
    core: &Arc<Core>,
    run: &EvalContext,
    function: &'static Function,
    path: Path,
    after: Tree,
    given: CallArguments,
) -> Result<Effect, Refusal> {
    // Checked before the read: a state that fails to revert is often unreadable.
    gate::not_failing(core.door(), run, &state(&path))?;
    // A path below a secret cannot be read or written.
    let empty = match run.look(&core.exposed, &path) {
        Ok(_) => None,
        // An empty place can be filled.
        Err(error @ StateError::NoSuchPath(_)) => Some(error),
        Err(error) => return Err(state_refusal(core, run, &error)),
    };
    let (checked, after, spelling) = checked(core, run, &path, after)?;
    let Checked {
        before,
        after: stored,
    } = checked;
    let after = stored.map(|stored| {
        if stored.same_unordered(&after) {
            after
        } else {
            stored
        }
    });
    if let Some((lease, above)) = outlived(core, run, &path)? {
        if !run
            .lease(&core.changes, lease)
            .is_ok_and(|lease| run.is_own(&lease))
        {
            let target = state(&Path(path.0.iter().take(1).cloned().collect()).join(&above));
            let top = stacked_at(core, run, &target).unwrap_or(lease);
            let whole = gate::on_top(function.id, &target, &top.to_string());
            let help = format!("change what contains it instead: `{whole}`");
            return Err(Refusal::state(only_because_of(&path, lease), help));
        }
        // The path exists only because of this eval's own write: write it as a part of that, so that both revert
        // together.
        let above = Path(path.0.iter().take(1).cloned().collect()).join(&above);
        let whole = run
            .look(&core.exposed, &above)
            .map_err(|e| state_refusal(core, run, &e))?;
        let whole = whole.with(&path.0[above.0.len()..], after, &[]);
        let whole = whole.map_err(|e| state_refusal(core, run, &e.below(&above).into()))?;
        return write_tree(core, run, function, above, whole, given);
    }
    let warning = empty.filter(|_| function.id == HostFunction::Set && after.is_some());
    let warning = warning.and_then(|error| filled(core, run, &path, &error));
    let marked = after
        .clone()
        .map(|after| core.exposed.redactor.mark(&path, after));
    let of = |tree: &Option<Tree>| {
        tree.as_ref()
            .map_or_else(|| NonEmpty::one(path.clone()), |tree| leaves(&path, tree))
    };
    let targets = of(&before).and(of(&after).into_vec()).sorted();
    let after_record = match &marked {
        Some(marked) if marked.holds_secret() => core.recorder.digest_of(after.as_ref()),
        marked => marked.as_ref().map_or(serde_json::Value::Null, Tree::to_json),
    };
    let proposal = Proposal {
        function,
        targets: targets.map(state),
        reads: Vec::new(),
        logs: false,
        before: core.recorder.digest_of(before.as_ref()),
        after_digest: core.recorder.digest_of(after.as_ref()),
        after: after_record,
        shown: Some((before.clone(), marked)),
        change: Arc::new(
            WriteChange::new(core.changes.writes.clone(), path, before, after)
                .spelled(spelling)
                .warning_of(warning),
        ),
        guard: guard_of(core, run, function, &given)?,
        options: given.options,
    };
    Ok(Effect::Change(Box::new(proposal)))
}

/// The value at a path, the new value, and its spelling if the type spells it differently from what was given.
pub(super) fn checked(
    core: &Core,
    run: &EvalContext,
    path: &Path,
    after: Tree,
) -> Result<(Checked, Tree, Option<String>), Refusal> {
    let check = |after: &Tree| run.check_write(&core.exposed, path, after);
    let refusal = |error: &StateError| state_refusal(core, run, error);
    let error = match check(&after) {
        Ok(live) => return Ok((live, after, None)),
        Err(error) => error,
    };
    let StateError::NotStored(_) = &error else {
        return Err(refusal(&error));
    };
    let Some((becomes, is_same)) = core.exposed.states.spelled(path, &after, Wait::AGENT) else {
        return Err(refusal(&error));
    };
    let shown = spelled(core, path, &becomes);
    match is_same {
        true => Ok((check(&becomes).map_err(|error| refusal(&error))?, becomes, shown)),
        false => Err(match (refusal(&error), shown) {
            (Refusal::State { message, help }, Some(shown)) => {
                Refusal::state(format!("{message}: {shown}"), help)
            }
            (refusal, _) => refusal,
        }),
    }
}

/// A value as text on one line, unless it holds a secret or is too long.
pub(super) fn spelled(core: &Core, path: &Path, value: &Tree) -> Option<String> {
    const MAX: usize = 200;
    let text = value.to_json().to_string();
    let is_open =
        !core.exposed.redactor.mark(path, value.clone()).holds_secret() && !core.exposed.holds_secret(&text);
    (is_open && text.len() <= MAX).then_some(text)
}

/// The write, if there is one, without which the path would not exist.
pub(super) fn outlived(
    core: &Core,
    run: &EvalContext,
    path: &Path,
) -> Result<Option<(u64, Vec<String>)>, Refusal> {
    match run.outlived(&core.changes, path) {
        // A change there is just being made or undone. The gate names it, and it is checked again when the write is made.
        Err(ChangeError::Busy(_)) => Ok(None),
        outlived => outlived.map_err(|e| Refusal::state(e.to_string(), "try again")),
    }
}
