//! The arguments of host functions, and the errors for wrong ones.

use std::collections::BTreeSet;
use std::time::Duration;

use debug_policy::parse_duration;
use debug_wire::table::{Function, HostFunction};
use rhai::{Dynamic, FnPtr, Map};

use crate::effect::ChangeOptions;
use crate::effect::Refusal;
use debug_base::Path;
use debug_script::convert;

pub(super) fn usage(function: &Function, what: &str) -> Refusal {
    Refusal::state(
        format!("`{}`: {what}", function.name),
        format!("as in `{}`; see `help(\"{}\")`", function.example, function.name),
    )
}

pub(super) fn text(function: &Function, what: &str, value: Option<Dynamic>) -> Result<String, Refusal> {
    let value = value.unwrap_or(Dynamic::UNIT);
    let kind = convert::kind(&value);
    value
        .into_string()
        .map_err(|_| usage(function, &format!("{what} must be a string, not {kind}")))
}

pub(super) fn reason(function: &Function, value: Option<Dynamic>) -> Result<String, Refusal> {
    let reason = text(function, "the reason", value)?.trim().to_owned();
    if reason.is_empty() || reason.len() > MAX_REASON {
        return Err(usage(function, "the reason must have 1 to 500 bytes"));
    }
    Ok(reason)
}

/// The longest name of a point, in bytes: a record may hold it several times.
pub(super) const MAX_POINT: usize = 1_000;

/// The longest reason, in bytes.
const MAX_REASON: usize = 500;

pub(super) fn path(function: &Function, value: Option<Dynamic>) -> Result<Path, Refusal> {
    if let Some(path) = value.as_ref().and_then(debug_script::handle::path_of) {
        return Ok(path);
    }
    let spelled = text(function, "the path", value)?;
    spelled
        .parse::<Path>()
        .map_err(|e| usage(function, &e.to_string()))
}

pub(super) fn id(function: &Function, value: Option<Dynamic>) -> Result<u64, Refusal> {
    let number = value
        .as_ref()
        .and_then(|v| v.as_int().ok())
        .and_then(|n| u64::try_from(n).ok());
    number.ok_or_else(|| usage(function, "the lease's id must be a whole number"))
}

/// The most leases that `over` may name.
const MAX_OVER: usize = 64;

/// One lease's id; for `restore`, which may make several changes, also a list of ids.
fn over(function: &Function, value: Dynamic) -> Result<Vec<u64>, Refusal> {
    if function.id != HostFunction::Restore || !value.is_array() {
        return Ok(vec![id(function, Some(value))?]);
    }
    let ids = value
        .into_array()
        .unwrap_or_default()
        .into_iter()
        .map(|value| id(function, Some(value)));
    // Limited, because each is looked up for each change.
    let ids = ids.collect::<Result<BTreeSet<u64>, _>>()?;
    match ids.len() <= MAX_OVER {
        true => Ok(ids.into_iter().collect()),
        false => Err(usage(
            function,
            &format!("`over` names at most {MAX_OVER} leases"),
        )),
    }
}

pub(super) fn ttl(function: &Function, value: Option<Dynamic>) -> Result<Duration, Refusal> {
    let spelled = text(function, "the ttl", value)?;
    parse_duration(&spelled).map_err(|e| usage(function, &e.to_string()))
}

/// A closure or function pointer.
pub(super) fn pointer(function: &Function, what: &str, value: Option<Dynamic>) -> Result<FnPtr, Refusal> {
    let value = value.unwrap_or(Dynamic::UNIT);
    let kind = convert::kind(&value);
    value.try_cast::<FnPtr>().ok_or_else(|| {
        usage(
            function,
            &format!("{what} must be a function such as `|s| s.errors < 10`, not {kind}"),
        )
    })
}

fn truth(function: &Function, name: &str, value: &Dynamic) -> Result<bool, Refusal> {
    value
        .as_bool()
        .map_err(|_| usage(function, &format!("`{name}` must be true or false")))
}

/// How a conflict is settled: true for `force`.
pub(super) fn how(function: &Function, value: Option<Dynamic>) -> Result<bool, Refusal> {
    match text(function, "what becomes of it", value)?.as_str() {
        "keep" => Ok(false),
        "force" => Ok(true),
        _ => Err(usage(
            function,
            "what becomes of it must be \"keep\" or \"force\"",
        )),
    }
}

/// The options of every change; `patch` also has `unseen`.
const OPTIONS: [&str; 5] = ["ttl", "reason", "over", "persist", "guard"];

/// Whether `name` is an option of a change.
pub(crate) fn is_option(name: &str) -> bool {
    OPTIONS.contains(&name)
}

/// The options of a change, and the function that is to become its guard.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallArguments {
    pub(crate) options: ChangeOptions,
    pub(crate) guard: Option<FnPtr>,
}

pub(super) fn options(function: &Function, value: Option<Dynamic>) -> Result<CallArguments, Refusal> {
    let mut given = CallArguments::default();
    let options = &mut given.options;
    let Some(value) = value else { return Ok(given) };
    let kind = convert::kind(&value);
    let Some(map) = value.try_cast::<Map>() else {
        return Err(usage(
            function,
            &format!("the options must be a map `#{{ ttl: \"5m\" }}`, not {kind}"),
        ));
    };
    for (key, value) in map {
        match key.as_str() {
            "ttl" => options.ttl = Some(ttl(function, Some(value))?),
            "reason" => options.reason = Some(reason(function, Some(value))?),
            "over" => options.over = over(function, value)?,
            "guard" => given.guard = Some(pointer(function, "the guard", Some(value))?),
            "persist" => options.persist = truth(function, "persist", &value)?,
            "unseen" if function.id == HostFunction::Patch => {
                options.unseen = truth(function, "unseen", &value)?
            }
            "hold" => {
                let how = "`hold` is said for a whole eval: `debugctl eval --change --hold`";
                return Err(usage(function, how));
            }
            other => {
                let unseen = if function.id == HostFunction::Patch {
                    ", unseen"
                } else {
                    ""
                };
                let known = format!("ttl, reason, over, persist, guard{unseen}");
                return Err(usage(
                    function,
                    &format!("unknown option `{other}`; known are {known}"),
                ));
            }
        }
    }
    Ok(given)
}
