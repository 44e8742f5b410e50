//! What is said of code that failed by itself: what, where, and what to do next.

use debug_wire::table::{FUNCTIONS, LATER};
use rhai::{EvalAltResult, Position};

use crate::core::Core;
use crate::gate;
use crate::run::Run;
use crate::script::frozen::explain;
use crate::script::library;
use crate::state::{Path, Wait, nearest};

/// The message and the advice for an error of a script.
pub(crate) fn script_error(core: &Core, run: &Run, error: &EvalAltResult) -> (String, String) {
    let undone = undone(run);
    match innermost(error) {
        EvalAltResult::ErrorVariableNotFound(name, position) => {
            let near = near_state(core, run, name);
            let help = near.unwrap_or_else(|| "`ls()` lists the states, `help()` the functions".to_owned());
            (format!("there is no variable or state `{name}`{}", at(*position)), format!("{undone}; {help}"))
        }
        // Rhai takes `call(x)` for the call of a closure, whatever `x` is.
        EvalAltResult::ErrorMismatchDataType(expected, _, position) if expected == "Fn" => {
            let (what, help) = later("call");
            (format!("{what}, except for closures{}", at(*position)), format!("{undone}; {help}"))
        }
        EvalAltResult::ErrorFunctionNotFound(signature, position) => {
            let (what, help) = no_function(signature);
            (format!("{what}{}", at(*position)), format!("{undone}; {help}"))
        }
        _ => {
            let text = explain(error);
            let text = text.strip_prefix("Runtime error: ").unwrap_or(&text);
            (text.to_owned(), undone.to_owned())
        }
    }
}

/// What became of what a failed eval did.
pub(crate) fn undone(run: &Run) -> &'static str {
    let reverted = run.ends().reverted.len();
    match (reverted, run.touched().len() - reverted) {
        (0, 0) => "nothing was changed",
        (0, _) => "what it had changed was undone",
        (_, 0) => "what it reverted stays reverted",
        (_, _) => "what it had changed was undone, what it reverted stays reverted",
    }
}

/// The error itself, without the calls that it came through.
fn innermost(error: &EvalAltResult) -> &EvalAltResult {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _) => innermost(inner),
        other => other,
    }
}

fn at(position: Position) -> String {
    if position.is_none() { String::new() } else { format!(" ({position})") }
}

/// The state that was probably meant, if this operator may know of it.
fn near_state(core: &Core, run: &Run, name: &str) -> Option<String> {
    let near = nearest(name, core.states.list().map(|(name, _)| name))?;
    let path = Path(vec![near.to_owned()]);
    if !gate::could_read(core, run, &path) {
        return None;
    }
    let tree = core.read(&path, Wait::AGENT).ok();
    gate::may_know(core, run, &path, tree.as_ref()).ok()?;
    Some(format!("did you mean `{near}`?"))
}

/// What is said of a function that is planned.
pub(crate) fn later(name: &str) -> (String, String) {
    (format!("`{name}` is not part of this version"), "`help()` lists the functions".to_owned())
}

/// The most arguments whose types an error lists.
const MAX_TYPES: usize = 8;

/// `(string, string and 12 more)`.
fn shortened(types: &str) -> String {
    let all: Vec<&str> = types.split(", ").collect();
    match all.split_at_checked(MAX_TYPES) {
        Some((first, more)) if !more.is_empty() => format!("{} and {} more)", first.join(", "), more.len()),
        _ => types.to_owned(),
    }
}

/// `foo (i64)` and `* (&str | ImmutableString | String, i64)` in words.
fn no_function(signature: &str) -> (String, String) {
    let (name, types) = signature.split_once(' ').unwrap_or((signature, ""));
    let types = types.replace("&str | ImmutableString | String", "string");
    let types = shortened(&types.replace("i64", "integer").replace("f64", "number"));
    if !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
        return (format!("`{name}` is not there for {types}"), "convert one of them".to_owned());
    }
    // `f.call(x)` calls a closure, in every version.
    if LATER.contains(&name) && !types.starts_with("(Fn") {
        return later(name);
    }
    let known = FUNCTIONS.iter().map(|function| function.name).chain(library::NAMES.iter().copied());
    if let Some(same) = known.clone().find(|known| *known == name) {
        let what = format!("`{same}` does not take {types}");
        return (what, format!("`help(\"{same}\")` explains the functions of the agent"));
    }
    let help = nearest(name, known).map_or_else(
        || "`help()` lists the functions".to_owned(),
        |near| format!("did you mean `{near}`? `help()` lists the functions"),
    );
    (format!("there is no function `{name}` for {types}"), help)
}
