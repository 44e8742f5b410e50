//! The host functions: registered from the one table, each a wish that goes through the gate.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use debug_policy::{Resource, parse_duration};
use debug_wire::table::{self, FUNCTIONS, Function};
use rhai::{Dynamic, EvalAltResult, FnPtr, FuncRegistration, Map, Module, NativeCallContext};

use crate::convert;
use crate::core::Core;
use crate::effect::{Effect, Options, Proposal};
use crate::eval;
use crate::execute::{self, PatchView};
use crate::gate::{self, Refusal};
use crate::handle;
use crate::lease::{Lease, PatchChange, WriteChange};
use crate::points::{Kind, Point};
use crate::run::Run;
use crate::script::frozen::Frozen;
use crate::script::library::terminated;
use crate::script::meter::{self, End};
use crate::state::{Path, StateError, Tree, Wait};
use crate::values;

/// What a host function finds in the engine it is called from.
#[derive(Clone)]
pub(crate) struct EvalTag {
    pub(crate) core: Arc<Core>,
    pub(crate) run: Arc<Run>,
}

type Fallible<T> = Result<T, Box<EvalAltResult>>;

/// The module of host functions and state handles, built once.
pub(crate) static MODULE: LazyLock<Arc<Module>> = LazyLock::new(|| {
    let mut module = Module::new();
    for function in FUNCTIONS {
        register(&mut module, function);
    }
    for name in ["print", "debug"] {
        FuncRegistration::new(name).set_into_module(&mut module, print);
    }
    handle::register(&mut module);
    convert::register_types(&mut module);
    values::register(&mut module);
    module.build_index();
    Arc::new(module)
});

/// Registers one function for each number of arguments that the table gives it.
fn register(module: &mut Module, function: &'static Function) {
    for arity in function.arities() {
        let registration = FuncRegistration::new(function.name);
        match arity {
            0 => registration
                .set_into_module(module, move |ctx: NativeCallContext<'_>| call(function, &ctx, Vec::new())),
            1 => registration.set_into_module(module, move |ctx: NativeCallContext<'_>, a: Dynamic| {
                call(function, &ctx, vec![a])
            }),
            2 => registration
                .set_into_module(module, move |ctx: NativeCallContext<'_>, a: Dynamic, b: Dynamic| {
                    call(function, &ctx, vec![a, b])
                }),
            _ => registration.set_into_module(
                module,
                move |ctx: NativeCallContext<'_>, a: Dynamic, b: Dynamic, c: Dynamic| {
                    call(function, &ctx, vec![a, b, c])
                },
            ),
        };
    }
}

/// Rhai's `print`: output of the eval itself, which reads and changes nothing.
fn print(ctx: NativeCallContext<'_>, value: Dynamic) -> Fallible<()> {
    let tag = tag(&ctx)?;
    let text =
        if value.is_string() { values::text(&value).unwrap_or_default() } else { convert::display(&value) };
    eval::print(&tag.core, &tag.run, &text);
    if meter::ended().is_some() { Err(terminated()) } else { Ok(()) }
}

/// The eval that a native function was called from.
pub(crate) fn tag(ctx: &NativeCallContext<'_>) -> Fallible<EvalTag> {
    ctx.tag()
        .and_then(|t| t.clone().try_cast::<EvalTag>())
        .ok_or_else(|| Box::from("only an eval may do this"))
}

fn call(function: &'static Function, ctx: &NativeCallContext<'_>, args: Vec<Dynamic>) -> Fallible<Dynamic> {
    let tag = tag(ctx)?;
    let mut args = args.into_iter();
    let (a, b, c) = (args.next(), args.next(), args.next());
    perform(&tag, || wish(function, &tag, a.clone(), b.clone(), c.clone()))
}

/// Forms the effect, passes it through the gate, executes it. A refusal ends the eval, wherever it is.
pub(crate) fn perform(
    tag: &EvalTag,
    wish: impl FnOnce() -> Result<Vec<Effect>, Refusal>,
) -> Fallible<Dynamic> {
    // A run that has ended gets nothing more, not even in what the unwinding of a closure calls.
    if meter::ended().is_some() || tag.run.is_cancelled() {
        meter::end(End::Cancelled);
        return Err(terminated());
    }
    if tag.run.exhausted() {
        meter::end(End::Operations);
        return Err(terminated());
    }
    let mut results = Vec::new();
    let passed = wish().and_then(|effects| {
        for effect in effects {
            let permit = gate::pass(&tag.core, &tag.run, effect)?;
            results.push(execute::execute(&tag.core, &tag.run, permit)?);
        }
        Ok(())
    });
    match passed {
        Ok(()) if results.len() == 1 => Ok(results.pop().unwrap_or(Dynamic::UNIT)),
        Ok(()) if results.is_empty() => Ok(values::say("nothing to do")),
        Ok(()) => Ok(values::say(results.iter().filter_map(values::said).collect::<Vec<_>>().join("\n"))),
        Err(refusal) => {
            tag.run.refuse(refusal);
            meter::end(End::Refused);
            Err(terminated())
        }
    }
}

/// What a call comes down to; more than one effect only for `revert_all`.
fn wish(
    function: &'static Function,
    tag: &EvalTag,
    a: Option<Dynamic>,
    b: Option<Dynamic>,
    c: Option<Dynamic>,
) -> Result<Vec<Effect>, Refusal> {
    let (core, run) = (&tag.core, &tag.run);
    let effect = match function.name {
        "help" | "info" | "ls" | "points" | "leases" | "sessions" | "describe" => {
            Effect::See(function, crate::listing::subject(a.as_ref()))
        }
        "get" => read(core, function, &path(function, a)?),
        "reveal" => {
            let path = path(function, a)?;
            possible(reveal(core, path.clone()), function, state(&path), Options::default())
        }
        "set" => {
            let path = path(function, a)?;
            let options = options(function, c)?;
            set(core, function, path, b.unwrap_or(Dynamic::UNIT), options)
        }
        "patch" => {
            let name = text(function, "the point", a)?;
            if name.len() > MAX_POINT {
                let what = format!("the point's name has {} bytes, the limit is {MAX_POINT}", name.len());
                return Err(usage(function, &what));
            }
            let options = options(function, c)?;
            let patch = patch(core, run, function, &name, b, options.clone());
            possible(patch, function, Resource::Point(name), options)
        }
        "revert" => Effect::Revert { lease: lease(core, id(function, a)?)? },
        "revert_all" => return Ok(revertible(core, run)),
        "confirm" | "extend" => Effect::Renew {
            confirm: function.name == "confirm",
            lease: lease(core, id(function, a)?)?,
            ttl: ttl(function, b)?,
        },
        "change" => Effect::EnterChange { reason: reason(function, a)? },
        "observe" => Effect::Observe,
        "log_info" | "log_warn" => {
            Effect::Log { warn: function.name == "log_warn", text: text(function, "the text", a)? }
        }
        other => {
            return Err(Refusal::state(
                format!("`{other}` is in the table, but nothing does it"),
                "this is a fault of the agent",
            ));
        }
    };
    Ok(vec![effect])
}

/// An effect as it was formed, or what stands in its way, which is told only to who would be allowed to have it.
fn possible(
    formed: Result<Effect, Refusal>,
    function: &'static Function,
    target: Resource,
    options: Options,
) -> Effect {
    formed.unwrap_or_else(|why| Effect::Impossible { function, target, options, why })
}

fn state(path: &Path) -> Resource {
    Resource::State(path.0.clone())
}

fn usage(function: &Function, what: &str) -> Refusal {
    Refusal::state(
        format!("`{}`: {what}", function.name),
        format!("as in `{}`; see `help(\"{}\")`", function.example, function.name),
    )
}

fn text(function: &Function, what: &str, value: Option<Dynamic>) -> Result<String, Refusal> {
    let value = value.unwrap_or(Dynamic::UNIT);
    let kind = value.type_name();
    value.into_string().map_err(|_| usage(function, &format!("{what} must be a string, not {kind}")))
}

fn reason(function: &Function, value: Option<Dynamic>) -> Result<String, Refusal> {
    let reason = text(function, "the reason", value)?.trim().to_owned();
    if reason.is_empty() || reason.len() > MAX_REASON {
        return Err(usage(function, "the reason must have 1 to 500 bytes"));
    }
    Ok(reason)
}

/// The longest name of a point, in bytes: what names it stands in a record several times.
const MAX_POINT: usize = 1_000;

/// The longest reason, in bytes.
const MAX_REASON: usize = 500;

fn path(function: &Function, value: Option<Dynamic>) -> Result<Path, Refusal> {
    if let Some(path) = value.as_ref().and_then(handle::path_of) {
        return Ok(path);
    }
    let spelled = text(function, "the path", value)?;
    spelled.parse::<Path>().map_err(|e| usage(function, &e.to_string()))
}

fn id(function: &Function, value: Option<Dynamic>) -> Result<u64, Refusal> {
    let number = value.as_ref().and_then(|v| v.as_int().ok()).and_then(|n| u64::try_from(n).ok());
    number.ok_or_else(|| usage(function, "the lease's id must be a whole number"))
}

/// A lease in force. One that is not has no effect, so that nothing is permitted without having been decided on.
fn lease(core: &Core, id: u64) -> Result<Box<Lease>, Refusal> {
    core.leases.find(id).map(Box::new).map_err(|error| execute::ended(&error))
}

fn ttl(function: &Function, value: Option<Dynamic>) -> Result<Duration, Refusal> {
    let spelled = text(function, "the ttl", value)?;
    parse_duration(&spelled).map_err(|e| usage(function, &e.to_string()))
}

fn options(function: &Function, value: Option<Dynamic>) -> Result<Options, Refusal> {
    let mut options = Options::default();
    let Some(value) = value else { return Ok(options) };
    let kind = value.type_name();
    let Some(map) = value.try_cast::<Map>() else {
        return Err(usage(function, &format!("the options must be a map `#{{ ttl: \"5m\" }}`, not {kind}")));
    };
    for (key, value) in map {
        match key.as_str() {
            "ttl" => options.ttl = Some(ttl(function, Some(value))?),
            "reason" => options.reason = Some(reason(function, Some(value))?),
            "over" => options.over = Some(id(function, Some(value))?),
            "unseen" if function.name == "patch" => {
                options.unseen =
                    value.as_bool().map_err(|_| usage(function, "`unseen` must be true or false"))?;
            }
            "persist" | "hold" => {
                return Err(usage(
                    function,
                    &format!("the option `{key}` is not part of this version; it is said for a whole eval"),
                ));
            }
            other => {
                let known =
                    if function.name == "patch" { "ttl, reason, over, unseen" } else { "ttl, reason, over" };
                return Err(usage(function, &format!("unknown option `{other}`; known are {known}")));
            }
        }
    }
    Ok(options)
}

/// A read of a path: what stands there, and which leaves policy is asked about.
pub(crate) fn read(core: &Core, function: &'static Function, path: &Path) -> Effect {
    let formed = core
        .read(path, Wait::AGENT)
        .map(|value| Effect::Read { path: path.clone(), leaves: leaves(path, &value), value })
        .map_err(|error| state_refusal(&error));
    possible(formed, function, state(path), Options::default())
}

/// What policy is asked about of a value at a path: each of its leaves, or itself if it has none.
pub(crate) fn leaves(path: &Path, tree: &Tree) -> Vec<Path> {
    let mut leaves: Vec<Path> = tree.leaves().map(|(below, _)| path.join(&below.0)).collect();
    if leaves.is_empty() {
        leaves.push(path.clone());
    }
    leaves
}

fn reveal(core: &Core, path: Path) -> Result<Effect, Refusal> {
    let value = core.read(&path, Wait::AGENT).map_err(|e| state_refusal(&e))?;
    if is_container(&value) {
        return Err(Refusal::state(
            format!("`{path}` is no single value; a secret is revealed by its own path"),
            format!("`ls(\"{path}\")` lists what is below it"),
        ));
    }
    Ok(Effect::Reveal { path, value })
}

/// A write: checked against the live state in full before it is asked for, so that what would fail is never made.
pub(crate) fn set(
    core: &Core,
    function: &'static Function,
    path: Path,
    value: Dynamic,
    options: Options,
) -> Effect {
    let target = state(&path);
    possible(write(core, function, path, value, options.clone()), function, target, options)
}

fn write(
    core: &Core,
    function: &'static Function,
    path: Path,
    value: Dynamic,
    options: Options,
) -> Result<Effect, Refusal> {
    let after = match values::bound(&value) {
        Some(secret) => secret,
        None => convert::from_dynamic(value, Some(&path)).map_err(|e| {
            Refusal::state(format!("`{path}` was not changed: {e}"), "give a value that JSON could hold")
        })?,
    };
    if shows_secret(&after) {
        return Err(Refusal::state(
            format!(
                "`{path}` was not changed: the value holds the text by which a secret is shown, not the secret"
            ),
            "assign the secret itself, to its own path; `--arg-secret` gives a new one",
        ));
    }
    let before = core.states.check_write(&path, &after, Wait::AGENT).map_err(|e| state_refusal(&e))?;
    let marked = core.redactor.mark(&path, after.clone());
    let mut targets = leaves(&path, &before);
    targets.extend(leaves(&path, &after));
    targets.sort();
    targets.dedup();
    let after_record = if marked.holds_secret() { core.digest(&after) } else { values::json(&marked) };
    let proposal = Proposal {
        function,
        targets: targets.iter().map(state).collect(),
        reads: Vec::new(),
        before: core.digest(&before),
        after: after_record,
        change: Arc::new(WriteChange::new(core.states.clone(), path, before, after)),
        options,
    };
    Ok(Effect::Change(Box::new(proposal)))
}

/// Whether a text in a value is, or was made with, what is shown in place of a secret.
fn shows_secret(tree: &Tree) -> bool {
    tree.leaves().any(|(_, leaf)| matches!(leaf, Tree::Str(text) if text.contains("‹secret")))
}

fn patch(
    core: &Arc<Core>,
    run: &Run,
    function: &'static Function,
    name: &str,
    code: Option<Dynamic>,
    options: Options,
) -> Result<Effect, Refusal> {
    let code = code.unwrap_or(Dynamic::UNIT);
    let kind = code.type_name();
    let Some(pointer) = code.try_cast::<FnPtr>() else {
        return Err(usage(function, &format!("the patch must be a function such as `|req| …`, not {kind}")));
    };
    let point = find_point(core, run, name, &options)?;
    point.patchable().map_err(|e| Refusal::state(e.to_string(), "`points()` says which can be patched"))?;
    if point.kind() == Kind::Function && crate::points::PANIC_ABORTS {
        return Err(Refusal::state(
            format!(
                "`{name}` cannot be patched: this service is built with `panic = \"abort\"`, so a failing patch could not be caught"
            ),
            "patch a route, or build the service with `panic = \"unwind\"`",
        ));
    }
    let Some(observer) = core.observer() else {
        return Err(Refusal::state("the agent is stopping", "nothing can be changed any more"));
    };
    let gives = point.arguments().len();
    let frozen = Frozen::new(&run.functions(), &pointer, Some(gives), Arc::new(PatchView::new(core, run)))
        .map_err(|e| {
            Refusal::state(
                e.to_string(),
                "a patch may compute, `log_info`, `log_warn`, and `get` literal paths",
            )
        })?;
    let reads = frozen
        .reads()
        .map(|p| p.parse::<Path>().map_err(|e| usage(function, &e.to_string())))
        .collect::<Result<Vec<_>, _>>()?;
    let reads = reads.iter().flat_map(|p| readable(core, p)).collect();
    let record = serde_json::json!({
        "code": "as in the eval", "functions": frozen.reached,
        "captures": frozen.captures.iter().map(values::json).collect::<Vec<_>>(),
    });
    let proposal = Proposal {
        function,
        targets: vec![Resource::Point(point.name().to_owned())],
        reads,
        before: serde_json::json!({ "layers": point.layers().len() }),
        after: record,
        change: Arc::new(PatchChange::new(point, Arc::new(frozen), observer)),
        options,
    };
    Ok(Effect::Change(Box::new(proposal)))
}

/// The leaves that a patch reads by a literal path; the path itself while nothing is there.
fn readable(core: &Core, path: &Path) -> Vec<Path> {
    core.read(path, Wait::AGENT).map_or_else(|_| vec![path.clone()], |tree| leaves(path, &tree))
}

/// The leases that this operator may end: one's own, and those of others that policy allows.
fn revertible(core: &Core, run: &Run) -> Vec<Effect> {
    let mine = &run.session.operator.name;
    let may = |lease: &crate::lease::Lease| {
        let asks = [lease.target().clone(), Resource::Lease(lease.owner.clone())];
        lease.owner == *mine
            || asks.into_iter().all(|resource| {
                let request = run.request(core, debug_policy::Action::Revert, resource);
                matches!(core.policy.decide(&request), debug_policy::Decision::Allow(_))
            })
    };
    // The newest first, so that nothing has to be rebased.
    let mut leases = core.leases.list();
    leases.reverse();
    leases
        .iter()
        .filter(|lease| may(lease))
        .map(|lease| Effect::Revert { lease: Box::new(lease.clone()) })
        .collect()
}

/// The names that a script may not define functions with.
pub(crate) fn is_host_function(name: &str) -> bool {
    table::function(name).is_some()
}

/// An error of a state, with what to do.
pub(crate) fn state_refusal(error: &StateError) -> Refusal {
    let help = match error {
        StateError::NoSuchState { .. } | StateError::NoSuchPath(_) => {
            "`ls()` lists the states, `ls(path)` what is below a path"
        }
        StateError::ReadOnly(_) => "the service shows it with `.state`; `.state_mut` makes it writable",
        StateError::NeverWrite { .. } => "only the service's author can open it",
        StateError::Busy(_) => "the service holds its lock; try again",
        StateError::Refused(_) | StateError::NotStored(_) => {
            "the value stays as it was; give one of the type that stands there"
        }
        StateError::Lossy { .. } => {
            "the value stays as it was; its type loses something on the way through serde"
        }
        StateError::Conflict(_) => "read it again and decide anew",
        StateError::Poisoned(_)
        | StateError::Panicked { .. }
        | StateError::Unreadable(_)
        | StateError::DuplicateName(_) => "tell the service's author",
    };
    Refusal::state(error.to_string(), help)
}

/// Whether a value has names or elements below it, so that a path to it stays a handle.
pub(crate) fn is_container(tree: &Tree) -> bool {
    matches!(tree, Tree::Map(_) | Tree::Seq(_))
}

/// A point by its name. A route that nobody has called is made one only if the operator says that it is unseen.
fn find_point(core: &Core, run: &Run, name: &str, options: &Options) -> Result<Point, Refusal> {
    if let Some(point) = core.points.find(name) {
        return Ok(point);
    }
    if let (true, Some((method, template))) = (options.unseen, name.split_once(' ')) {
        // Declaring it changes what others see: only for who may patch it. The gate then says the denial.
        if !gate::may_patch(core, run, name, options) {
            return Err(Refusal::state(format!("there is no point `{name}`"), "`points()` lists them"));
        }
        let slot = core
            .points
            .declare(method, template)
            .map_err(|e| Refusal::state(e.to_string(), "as in `GET /api/healthcheck`"))?;
        return Ok(Point::Route(slot));
    }
    let nearest =
        core.points.nearest(name).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    Err(Refusal::state(
        format!("there is no point `{name}`{nearest}"),
        "`points()` lists them; a route is one once it was called, or with `#{ unseen: true }`",
    ))
}

#[cfg(test)]
mod tests;
