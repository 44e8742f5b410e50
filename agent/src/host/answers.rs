//! Compares the possible answers of a patch, as far as its text tells, with the type that its point returns.

use crate::effect::Refusal;
use debug_points::{Kind, NO_ERR, NO_RESULT, Point};
use debug_script::frozen::{Frozen, at};

/// Refuses a patch if all its possible answers would fail.
pub(super) fn check(point: &Point, patch: &Frozen) -> Result<(), Refusal> {
    match point.kind() {
        Kind::Route => check_route(patch),
        Kind::Function => check_function(point, patch),
    }
}

/// Refuses a guard that answers `Ok` or `Err`.
pub(super) fn check_guard(guard: &Frozen) -> Result<(), Refusal> {
    let Some(position) = guard.wraps else {
        return Ok(());
    };
    Err(Refusal::state(
        format!(
            "the guard answers true or false, not `Ok` or `Err`{}",
            at(position)
        ),
        "as in `|s| s.errors < 10`",
    ))
}

fn check_route(patch: &Frozen) -> Result<(), Refusal> {
    let help = "as in `|req| #{ status: 503, headers: #{ \"retry-after\": \"9\" }, body: \"try again\" }`";
    if let Some(position) = patch.wraps {
        let what = format!("a route's patch answers a map, not `Ok` or `Err`{}", at(position));
        return Err(Refusal::state(what, help));
    }
    #[cfg(feature = "http")]
    for (answer, position) in &patch.results.answers {
        debug_http::check_answer(answer)
            .map_err(|what| Refusal::state(format!("{what}{}", at(*position)), help))?;
    }
    Ok(())
}

fn check_function(point: &Point, patch: &Frozen) -> Result<(), Refusal> {
    let Some(makes) = point.makes() else { return Ok(()) };
    let refused = |why: &str, position, help: &str| {
        Err(Refusal::state(
            format!("`{}`: {why}{}", point.name(), at(position)),
            help,
        ))
    };
    match (makes.error, patch.wraps) {
        (None, Some(position)) => refused(NO_RESULT, position, "answer the value itself"),
        (Some(false), Some(position)) if patch.makes_err => refused(
            NO_ERR,
            position,
            "its author can add `impl From<String>` to the error",
        ),
        (Some(true), _) if !makes.value && !patch.makes_err => Err(Refusal::state(
            format!(
                "`{}`: the value in its `Ok` lacks `Deserialize`, so only an `Err` can be made",
                point.name()
            ),
            "as in `|n| Err(\"no connection\")`",
        )),
        _ => Ok(()),
    }
}

/// A warning for the operator about an accepted patch.
pub(super) fn warning(point: &Point, patch: &Frozen) -> Option<String> {
    let can_fail = point.makes()?.error == Some(true);
    let throws = patch.results.throws.filter(|_| can_fail && !patch.makes_err)?;
    Some(format!(
        "where it throws{} the original answers; `Err(\"..\")` makes the function fail",
        at(throws)
    ))
}
