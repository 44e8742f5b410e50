//! What is said of a path that cannot be read or written.

use debug_base::{Path, PathError, Tree, Wait};
use debug_state::StateError;

use crate::core::Core;
use crate::effect::Refusal;
use crate::gate;
use crate::session::context::EvalContext;

/// The way in which a secret is given.
pub(crate) const BIND_SECRET: &str =
    "bind the secret: `debugctl eval AT CODE --arg-secret name=@FILE`, and use `name` in the code";

/// The refusal for a state's error, with advice. It names only what this operator may know of.
pub(crate) fn state_refusal(core: &Core, run: &EvalContext, error: &StateError) -> Refusal {
    let error = match error {
        StateError::NoSuchPath(missing) => &missing_path(core, run, error, &missing.path),
        StateError::NoSuchState { .. } => &error.knowing(&known_states(core, run)),
        other => other,
    };
    if let StateError::NoSuchPath(missing) = error
        && let Some(help) = instead_of_missing(core, run, missing)
    {
        return Refusal::state(error.to_string(), help);
    }
    let help = match error {
        StateError::NoSuchState { .. } | StateError::NoSuchPath(_) => {
            "`ls()` lists the states, `ls(path)` what is below a path"
        }
        StateError::ReadOnly(_) => {
            "the service shows it with `.state` or `.read`; `.state_mut` or `.field` makes it writable"
        }
        StateError::NeverWrite { .. } => "only the service's author can open it",
        StateError::Busy(_) => "the service holds its lock; try again",
        StateError::Refused(error) if error.wants_secret() => BIND_SECRET,
        StateError::Refused(_) => {
            "the value stays as it was; `get` of the path shows what kind of value stands there"
        }
        StateError::NotStored(_) => "the value stays as it was; give one as the type itself would write it",
        StateError::Lossy { .. } => {
            "the value stays as it was; what the service's author shows by `.field`, under a first name of its own, is written \
             without the rest"
        }
        StateError::Conflict(_) => "read it again and decide anew",
        StateError::Unreadable(error) if error.is_bound() => {
            "read a part of it by its path, as in `get(\"jobs.17\")`; the service's author can show one by `.field` or `.read`"
        }
        StateError::Poisoned(_) | StateError::Panicked { .. } | StateError::Unreadable(_) => {
            "tell the service's author"
        }
        StateError::DuplicateName(_) | StateError::Overlapping(..) | StateError::InsideState(_) => {
            "all that share the name are closed; give each a name of its own in the service's code"
        }
    };
    Refusal::state(error.to_string(), help)
}

/// Advice where nothing stands: the name that was probably meant, or how the place is filled.
pub(crate) fn instead_of_missing(core: &Core, run: &EvalContext, missing: &PathError) -> Option<String> {
    let path = &missing.path;
    if let Some(near) = meant(core, missing) {
        return Some(format!("did you mean `{}`?", near.to_read()));
    }
    if let Some(named) = missing.named_instead() {
        return Some(format!(
            "what stands there has names and no positions, as in `{}`",
            named.to_read()
        ));
    }
    gate::may_know(core.door(), run, path, None).ok()?;
    if !core.exposed.states.could_hold(path, Wait::AGENT) {
        return None;
    }
    let set = format!("set({}, value)", serde_json::Value::from(path.to_string()));
    let fills = path.as_code().map_or(set, |code| format!("{code} = value"));
    Some(format!(
        "nothing stands there now, and the service's type takes something: `{fills}` fills it until the lease ends"
    ))
}

/// The path that was probably meant. None for an empty field of a struct: its name is no mistake.
pub(crate) fn meant(core: &Core, missing: &PathError) -> Option<Path> {
    missing
        .near()
        .filter(|_| !core.exposed.states.has_field(&missing.path, Wait::AGENT))
}

/// What to say of a write where nothing stood, to an operator who may know it.
pub(crate) fn filled(core: &Core, run: &EvalContext, path: &Path, error: &StateError) -> Option<String> {
    gate::must_see(core.door(), run, path, &Tree::Null).ok()?;
    let StateError::NoSuchPath(missing) = error else {
        return None;
    };
    let near = match missing_path(core, run, error, &missing.path) {
        StateError::NoSuchPath(missing) => meant(core, &missing),
        _ => None,
    };
    let guess = near
        .map(|near| format!("; did you mean `{}`?", near.last_step()))
        .unwrap_or_default();
    Some(format!("nothing stood there before{guess}"))
}

/// Adds to the error for a missing path the sibling names that this operator may know of.
pub(crate) fn missing_path(core: &Core, run: &EvalContext, error: &StateError, path: &Path) -> StateError {
    let above = Path(
        path.0
            .split_last()
            .map(|(_, above)| above.to_vec())
            .unwrap_or_default(),
    );
    if !gate::could_read(core.door(), run, &above) {
        return error.knowing(&[]);
    }
    let Ok(tree) = core.exposed.read(&above, Wait::AGENT) else {
        return error.knowing(&[]);
    };
    match tree {
        Tree::Map(_) => error.knowing(&gate::known_below(core.door(), run, &above, &tree)),
        // The error tells the length of a list, and the kind of any other value.
        _ if gate::may_know(core.door(), run, &above, Some(&tree)).is_ok() => error.clone(),
        _ => error.knowing(&[]),
    }
}

pub(crate) fn known_states(core: &Core, run: &EvalContext) -> Vec<String> {
    let known = |name: &&str| {
        let path = Path(vec![(*name).to_owned()]);
        gate::could_read(core.door(), run, &path)
            && gate::may_know(
                core.door(),
                run,
                &path,
                core.exposed.read(&path, Wait::AGENT).ok().as_ref(),
            )
            .is_ok()
    };
    core.exposed
        .states
        .list()
        .map(|(name, _)| name)
        .filter(known)
        .map(str::to_owned)
        .collect()
}
