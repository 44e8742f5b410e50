//! The host functions, registered from the one table. Each call forms effects that pass the gate.

mod answers;
mod arguments;
pub(crate) mod handle;

mod effects;
pub(crate) mod help;
mod meter;
pub(crate) mod output;
mod patch_view;
pub(crate) mod planned;
mod reply;

use std::cell::RefCell;
use std::sync::{Arc, LazyLock};

use debug_policy::Mode;
use debug_wire::table::{self, FUNCTIONS, Function, HostFunction};
use rhai::{Dynamic, FnPtr, FuncRegistration, Module, NativeCallContext, Scope};

use crate::core::Core;
use crate::effect::Effect;
use crate::effect::Refusal;
use crate::execute;
use crate::execute::plan;
use crate::gate::{self};
use crate::session::context::{EvalContext, charged};
use crate::session::planning::Planning;
use debug_base::{BootTime, Path};
use debug_script::ScriptResult;
use debug_script::meter::terminated;
use debug_script::meter::{End, end, ended};
use debug_script::{convert, memory, nesting, values};

pub(crate) use arguments::is_option;
pub(crate) use effects::{read, read_found, set};

/// The eval that a host function is called from.
#[derive(Clone)]
pub(crate) struct EvalTag {
    pub(crate) core: Arc<Core>,
    pub(crate) run: Arc<EvalContext>,
}

thread_local! {
    /// The eval that runs on this thread. Library functions have no other way to read what a handle stands for.
    static CURRENT: RefCell<Option<EvalTag>> = const { RefCell::new(None) };
}

/// Runs the code of an eval as the [`current`] one.
pub(crate) fn within<T>(tag: EvalTag, code: impl FnOnce() -> T) -> T {
    /// Restores the outer eval, also on a panic.
    struct RestoreTag(Option<EvalTag>);
    impl Drop for RestoreTag {
        fn drop(&mut self) {
            CURRENT.set(self.0.take());
        }
    }
    let reader = {
        let tag = tag.clone();
        Arc::new(move |path: &Path| handle::contents(&tag, &handle::PathHandle { path: path.clone() }))
    };
    let _restore = RestoreTag(CURRENT.replace(Some(tag)));
    debug_script::handle::with_reader(reader, code)
}

/// The eval that runs on this thread.
pub(crate) fn current() -> ScriptResult<EvalTag> {
    CURRENT
        .with_borrow(Clone::clone)
        .ok_or_else(|| Box::from("only an eval may do this"))
}

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

/// Registers one function for each arity in the table.
fn register(module: &mut Module, function: &'static Function) {
    for arity in function.arities() {
        let registration = FuncRegistration::new(function.name);
        match arity {
            0 => registration.set_into_module(module, move |ctx: NativeCallContext<'_>| {
                call(function, &ctx, Vec::new())
            }),
            1 => registration.set_into_module(module, move |ctx: NativeCallContext<'_>, a: Dynamic| {
                call(function, &ctx, vec![a])
            }),
            2 => registration.set_into_module(
                module,
                move |ctx: NativeCallContext<'_>, a: Dynamic, b: Dynamic| call(function, &ctx, vec![a, b]),
            ),
            _ => registration.set_into_module(
                module,
                move |ctx: NativeCallContext<'_>, a: Dynamic, b: Dynamic, c: Dynamic| {
                    call(function, &ctx, vec![a, b, c])
                },
            ),
        };
    }
}

/// Runs a function as a plan and returns the effects that it would have. It runs on copies of the captured variables,
/// so that it changes no variable of the session.
fn plan(
    ctx: &NativeCallContext<'_>,
    EvalTag { core, run }: &EvalTag,
    function: Dynamic,
) -> ScriptResult<Dynamic> {
    let Some(mut function) = function.try_cast::<FnPtr>() else {
        return Err("what is planned must be a function such as `|| config.server.port = 9090`".into());
    };
    let (_, reason) = run.session.mode();
    if !run.begin_plan(Planning::in_mode(Mode::Change, reason)) {
        return Err("a plan is being made already; what it lists is all that would happen".into());
    }
    // A value that contains itself has no finite copy.
    if !function.curry().iter().all(nesting::fits) {
        run.end_plan();
        return Err("what the function captured nests too deeply".into());
    }
    let mut captured = Scope::new();
    for value in function.curry() {
        captured.push_dynamic("", value.clone());
    }
    function.set_curry(
        memory::copy(&captured)
            .iter()
            .map(|(.., value)| value.flatten())
            .collect::<Vec<_>>(),
    );
    let result = function.call_within_context::<Dynamic>(ctx, ());
    let planned = run.end_plan().unwrap_or_default();
    if let (Err(_), Some(text)) = (&result, planned::up_to_failure(core, &planned)) {
        output::print(core, run, &text);
    }
    drop(result?);
    let rows = planned::rows(core, planned);
    run.session.shapes().note(&rows);
    Ok(rows)
}

/// Rhai's `print`: output of the eval. A path is read first.
fn print(ctx: NativeCallContext<'_>, value: Dynamic) -> ScriptResult<()> {
    let tag = tag(&ctx)?;
    let value = handle::whole(value)?;
    let text = if value.is_string() {
        values::text(&value).unwrap_or_default()
    } else {
        convert::display(&value)
    };
    output::print(&tag.core, &tag.run, &text);
    if ended().is_some() {
        Err(terminated())
    } else {
        Ok(())
    }
}

/// The eval that called a native function.
pub(crate) fn tag(ctx: &NativeCallContext<'_>) -> ScriptResult<EvalTag> {
    ctx.tag()
        .and_then(|t| t.clone().try_cast::<EvalTag>())
        .ok_or_else(|| Box::from("only an eval may do this"))
}

fn call(
    function: &'static Function,
    ctx: &NativeCallContext<'_>,
    args: Vec<Dynamic>,
) -> ScriptResult<Dynamic> {
    let tag = tag(ctx)?;
    let mut args = args.into_iter();
    let (a, mut b, c) = (args.next(), args.next(), args.next());
    // The planned function requests its effects one by one, each through here.
    if function.id == HostFunction::Plan {
        return plan(ctx, &tag, a.unwrap_or(Dynamic::UNIT));
    }
    if function.id == HostFunction::RevertAll && !tag.run.is_planning() {
        return revert_all(&tag);
    }
    if function.id == HostFunction::Set {
        b = b.map(handle::whole).transpose()?;
    }
    perform(&tag, || {
        effects::form(function, &tag, a.clone(), b.clone(), c.clone())
    })
}

/// `set(path, value, options)` where the value is text and the path is a handle.
pub(crate) fn set_with_options(
    tag: &EvalTag,
    path: Dynamic,
    value: Dynamic,
    options: Dynamic,
) -> ScriptResult<Dynamic> {
    let function = HostFunction::Set.row();
    perform(tag, || {
        effects::form(
            function,
            tag,
            Some(path.clone()),
            Some(value.clone()),
            Some(options.clone()),
        )
    })
}

/// Forms the effects, passes each through the gate, and executes it. A refusal ends the eval, however deep the call is.
pub(crate) fn perform(
    tag: &EvalTag,
    form: impl FnOnce() -> Result<Vec<Effect>, Refusal>,
) -> ScriptResult<Dynamic> {
    may_go_on(tag)?;
    match charged(form).and_then(|effects| pass_each(tag, effects)) {
        // A refusal that the end of the eval caused is not told: the reply tells why it ended.
        Err(_) if may_go_on(tag).is_err() => Err(terminated()),
        Err(refusal) => refuse(tag, refusal),
        Ok(mut results) if results.len() == 1 => Ok(results.pop().unwrap_or(Dynamic::UNIT)),
        Ok(results) if results.is_empty() => Ok(values::message("nothing to do")),
        Ok(results) => Ok(values::message(
            results
                .iter()
                .filter_map(values::message_text)
                .collect::<Vec<_>>()
                .join("\n"),
        )),
    }
}

/// One call may want hundreds of effects; the eval may end after each.
fn pass_each(tag: &EvalTag, effects: Vec<Effect>) -> Result<Vec<Dynamic>, Refusal> {
    let (core, run) = (&tag.core, &tag.run);
    let mut results = Vec::new();
    for effect in effects {
        if run.is_over() {
            break;
        }
        meter::charge_effect(&effect);
        let reply = charged(|| match run.is_planning() {
            true => plan::one(core, run, effect),
            false => execute::execute(core, run, gate::pass(core.door(), run, effect)?),
        })?;
        let result = reply::value(core, reply)?;
        run.session.shapes().note(&result);
        // If the result is too large, the run ends after this effect.
        drop(memory::made(values::size_at_most(&result)));
        results.push(result);
    }
    Ok(results)
}

/// Charges a look at a container as a read, and records it: it takes the service's lock, but is no effect of its own.
pub(crate) fn looked(tag: &EvalTag, path: &Path) {
    debug_script::meter::charge(meter::EFFECT);
    tag.run.looked_at(path);
}

/// Refuses to go on after the run has ended, also in what the unwinding of a closure calls.
pub(crate) fn may_go_on(tag: &EvalTag) -> ScriptResult<()> {
    if tag.run.is_over() {
        end(End::Cancelled);
        return Err(terminated());
    }
    if tag.run.exhausted() {
        end(End::Operations);
        return Err(terminated());
    }
    Ok(())
}

fn refuse(tag: &EvalTag, refusal: Refusal) -> ScriptResult<Dynamic> {
    tag.run.refuse(refusal);
    end(End::Refused);
    Err(terminated())
}

/// Ends each change that the operator may end; one failure does not stop the others. If some could not be ended, the
/// error lists both kinds.
fn revert_all(tag: &EvalTag) -> ScriptResult<Dynamic> {
    may_go_on(tag)?;
    let (core, run) = (&tag.core, &tag.run);
    debug_script::meter::charge(meter::EFFECT);
    match execute::end_each(core, run, effects::parts::revertible(core, run)) {
        // How many changes are in force is told to each client that attaches.
        Ok(ended) if ended.is_empty() => Ok(values::message(
            match core.changes.leases.in_force(BootTime::now()).count {
                0 => "nothing to do".to_owned(),
                1 => "nothing to do: the one change in force is not yours to end".to_owned(),
                count => format!("nothing to do: the {count} changes in force are not yours to end"),
            },
        )),
        Ok(ended) => Ok(values::message(ended.join("\n"))),
        Err(refusal) => refuse(tag, refusal),
    }
}

/// The names that a script must not define as functions.
pub(crate) fn is_host_function(name: &str) -> bool {
    table::function(name).is_some()
}

#[cfg(test)]
mod tests;
