//! State paths in scripts: `config.db.host` reads, `config.server.port = 9090` writes, `config.db` is a live handle.
//!
//! Only the last step of an expression is an effect: containers stay handles. Rhai stores a value back after each method
//! call; that is a write only if the method changed the value. If a value is needed, a handle is replaced by the value of its
//! container ([`value`]).

mod value;

use std::any::TypeId;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use debug_wire::table::HostFunction;
use rhai::{
    Array, Dynamic, EvalAltResult, FuncRegistration, INT, ImmutableString, Map, Module, NativeCallContext,
    Position, Scope,
};

use crate::gate;
use crate::host::arguments::CallArguments;
use crate::host::{self, EvalTag};
use debug_base::{Path, Tree};
use debug_script::ScriptResult;
use debug_script::convert;
use debug_script::roots::applied;
use debug_state::StateError;

pub(crate) use debug_script::handle::{PathHandle, path_of, whole};
pub(crate) use value::{add, missing_function};

/// Registers the operations on handles, except those on the value of the container.
pub(crate) fn register(module: &mut Module) {
    module.set_custom_type::<PathHandle>("state");
    FuncRegistration::new_index_getter().set_into_module(module, step_by_name);
    FuncRegistration::new_index_getter().set_into_module(module, step_by_index);
    FuncRegistration::new_index_getter().set_into_module(module, slice);
    FuncRegistration::new_index_getter().set_into_module(module, slice_inclusive);
    FuncRegistration::new_index_getter().set_into_module(module, no_step);
    // Pure, because the root is a constant, which Rhai would otherwise refuse to index for writing.
    FuncRegistration::new_index_setter()
        .with_purity(true)
        .set_into_module(module, write_by_name);
    FuncRegistration::new_index_setter()
        .with_purity(true)
        .set_into_module(module, write_by_index);
    FuncRegistration::new_index_setter()
        .with_purity(true)
        .set_into_module(module, no_write);
    // Otherwise this would call the host function `set`, with the name as the value.
    FuncRegistration::new("set")
        .with_purity(true)
        .set_into_module(module, set_entry);
    value::register(module);
}

/// `for host in config.hosts`: one read of the whole list. The module belongs to one eval, because Rhai gives an iterator no
/// context from which to find the eval.
pub(crate) fn loops(tag: EvalTag) -> Arc<Module> {
    let mut module = Module::new();
    module.set_iter_result(TypeId::of::<PathHandle>(), move |value| {
        let items = value
            .try_cast_result::<PathHandle>()
            .map_err(|_| Box::from("only a state's list can be looped over"))
            .and_then(|handle| items(&tag, &handle));
        match items {
            Ok(items) => Box::new(items.into_iter().map(Ok)),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    });
    module.build_index();
    Arc::new(module)
}

fn items(tag: &EvalTag, handle: &PathHandle) -> ScriptResult<Array> {
    contents(tag, handle)?.into_array().map_err(|_| {
        let code = handle.path.as_code().unwrap_or_else(|| "state".to_owned());
        Box::from(format!(
            "`{}` is no list; loop over its names with `{code}.keys()`",
            handle.path
        ))
    })
}

/// Resolves a path: reads a leaf, returns a handle for a container.
pub(crate) fn resolve(tag: &EvalTag, path: Path) -> ScriptResult<Dynamic> {
    // Before the service is accessed: the read then fails with the denial.
    if !gate::could_read(tag.core.door(), &tag.run, &path) {
        return read(tag, &path);
    }
    host::may_go_on(tag)?;
    let found = tag.run.look(&tag.core.exposed, &path);
    if !stays_handle(tag, &path, &found) {
        return host::perform(tag, || {
            Ok(vec![host::read_found(&tag.core, &tag.run, &path, found)])
        });
    }
    host::looked(tag, &path);
    Ok(Dynamic::from(PathHandle { path }))
}

fn stays_handle(tag: &EvalTag, path: &Path, found: &Result<Tree, StateError>) -> bool {
    let tree = match found {
        Ok(tree) if debug_base::is_container(tree) => Some(tree),
        // A container too large to be read whole can still be read in parts.
        Err(error) if error.is_large_container() => None,
        _ => return false,
    };
    gate::may_know(tag.core.door(), &tag.run, path, tree).is_ok()
}

/// Checks that a variable or state compared by a `switch` is a value, not a handle.
pub(crate) fn check_switched(
    tag: &EvalTag,
    name: &str,
    in_function: bool,
    scope: &Scope<'_>,
) -> ScriptResult<()> {
    if !tag.run.switches(name, in_function, scope) {
        return Ok(());
    }
    let path = match scope.get(name) {
        Some(variable) => path_of(variable),
        None if tag.core.exposed.states.named(name).is_err() => None,
        None => path_of(&resolve(tag, Path(vec![name.to_owned()]))?),
    };
    match path {
        None => Ok(()),
        Some(path) => {
            let copy = format!("get({})", serde_json::Value::from(path.to_string()));
            Err(error(format!(
                "`switch` compares values, and `{name}` is a list or map of a state, which is live; compare `{copy}`"
            )))
        }
    }
}

/// The whole value behind a handle, read as an effect.
pub(crate) fn contents(tag: &EvalTag, handle: &PathHandle) -> ScriptResult<Dynamic> {
    read(tag, &handle.path)
}

fn read(tag: &EvalTag, path: &Path) -> ScriptResult<Dynamic> {
    host::perform(tag, || Ok(vec![host::read(&tag.core, &tag.run, path)]))
}

fn step_by_name(
    ctx: NativeCallContext<'_>,
    handle: &mut PathHandle,
    name: ImmutableString,
) -> ScriptResult<Dynamic> {
    step(&ctx, handle.path.child(&name))
}

fn step_by_index(ctx: NativeCallContext<'_>, handle: &mut PathHandle, index: INT) -> ScriptResult<Dynamic> {
    let path = element(&host::tag(&ctx)?, handle, index)?;
    step(&ctx, path)
}

/// One step of a chain. After a method call, Rhai stores the value returned here back at the same position in the code,
/// changed or not. For an assignment, it does not read the value at that position first.
fn step(ctx: &NativeCallContext<'_>, path: Path) -> ScriptResult<Dynamic> {
    let tag = host::tag(ctx)?;
    // Rhai's `switch` finds no handle equal to any value. A step counts as a call level of its own.
    if tag.run.switches_at(ctx.call_position(), 1 < ctx.call_level()) {
        return read(&tag, &path);
    }
    let value = resolve(&tag, path.clone())?;
    if !value.is::<PathHandle>() {
        tag.run.gave(path, ctx.call_position(), value.clone());
    }
    Ok(value)
}

/// The path of an element; a negative index counts from the end, as in a list of the script.
fn element(tag: &EvalTag, handle: &PathHandle, index: INT) -> ScriptResult<Path> {
    let from_end = if index < 0 {
        from_end(tag, &handle.path, index)?
    } else {
        None
    };
    Ok(handle.path.child(&from_end.unwrap_or(index).to_string()))
}

/// A position counted from the current end of a list; `None` if there is no list that this operator may know.
fn from_end(tag: &EvalTag, path: &Path, index: INT) -> ScriptResult<Option<INT>> {
    host::may_go_on(tag)?;
    let found = tag.run.look(&tag.core.exposed, path);
    host::looked(tag, path);
    let Ok(tree @ Tree::Seq(items)) = &found else {
        return Ok(None);
    };
    if gate::may_know(tag.core.door(), &tag.run, path, Some(tree)).is_err() {
        return Ok(None);
    }
    Ok(INT::try_from(items.len())
        .ok()
        .and_then(|len| len.checked_add(index))
        .filter(|at| *at >= 0))
}

fn slice(ctx: NativeCallContext<'_>, handle: &mut PathHandle, range: Range<INT>) -> ScriptResult<Dynamic> {
    part(&ctx, handle, range.start, range.end)
}

fn slice_inclusive(
    ctx: NativeCallContext<'_>,
    handle: &mut PathHandle,
    range: RangeInclusive<INT>,
) -> ScriptResult<Dynamic> {
    part(&ctx, handle, *range.start(), range.end().saturating_add(1))
}

/// A copy of a range of a list's elements.
fn part(ctx: &NativeCallContext<'_>, handle: &PathHandle, from: INT, to: INT) -> ScriptResult<Dynamic> {
    let items = items(&host::tag(ctx)?, handle)?;
    let at = |index: INT| {
        let len = INT::try_from(items.len()).unwrap_or(INT::MAX);
        usize::try_from(if index < 0 {
            len.saturating_add(index)
        } else {
            index.min(len)
        })
        .unwrap_or(0)
    };
    let (from, to) = (at(from), at(to));
    Ok(Dynamic::from_array(
        items.get(from..to.max(from)).unwrap_or_default().to_vec(),
    ))
}

fn no_step(handle: &mut PathHandle, index: Dynamic) -> ScriptResult<Dynamic> {
    Err(no_name(handle, &index))
}

fn no_write(handle: &mut PathHandle, index: Dynamic, _: Dynamic) -> ScriptResult<()> {
    Err(no_name(handle, &index))
}

fn no_name(handle: &PathHandle, index: &Dynamic) -> Box<EvalAltResult> {
    let what = format!("{} names nothing below `{}`", convert::kind(index), handle.path);
    error(format!("{what}; give a name as text or a position as integer"))
}

fn error(text: String) -> Box<EvalAltResult> {
    EvalAltResult::ErrorRuntime(text.into(), Position::NONE).into()
}

fn write_by_name(
    ctx: NativeCallContext<'_>,
    handle: &mut PathHandle,
    name: ImmutableString,
    value: Dynamic,
) -> ScriptResult<()> {
    store(&ctx, handle.path.child(&name), value)
}

fn write_by_index(
    ctx: NativeCallContext<'_>,
    handle: &mut PathHandle,
    index: INT,
    value: Dynamic,
) -> ScriptResult<()> {
    let path = element(&host::tag(&ctx)?, handle, index)?;
    store(&ctx, path, value)
}

/// Handles a store by Rhai: of an assigned value, or of one on which a method was called. The latter is a write only if the
/// value differs from the one returned by the step.
fn store(ctx: &NativeCallContext<'_>, path: Path, value: Dynamic) -> ScriptResult<()> {
    // After an assignment, Rhai also stores each level back into the one above; that is not an effect.
    if path_of(&value).is_some_and(|p| p == path) {
        return Ok(());
    }
    let tag = host::tag(ctx)?;
    match tag.run.take_given(&path, ctx.call_position()) {
        Some(given) if convert::identical(&given, &value) => Ok(()),
        _ => write(&tag, path, value),
    }
}

/// Writes as an effect, like `set`.
pub(crate) fn write(tag: &EvalTag, path: Path, value: Dynamic) -> ScriptResult<()> {
    let value = whole(value)?;
    host::perform(tag, || {
        Ok(vec![host::set(
            &tag.core,
            &tag.run,
            HostFunction::Set.row(),
            path,
            value,
            CallArguments::default(),
        )])
    })
    .map(drop)
}

/// `config.db.set("host", "x")` means `config.db.host = "x"`; with options it means `set(config.db, "x", #{ … })`.
fn set_entry(
    ctx: NativeCallContext<'_>,
    handle: &mut PathHandle,
    name: ImmutableString,
    value: Dynamic,
) -> ScriptResult<Dynamic> {
    let tag = host::tag(&ctx)?;
    let is_options = value
        .read_lock::<Map>()
        .is_some_and(|map| map.keys().all(|key| host::is_option(key)));
    if is_options {
        let path = Dynamic::from(handle.clone());
        return host::set_with_options(&tag, path, name.into(), value);
    }
    write(&tag, handle.path.child(&name), value).map(|()| Dynamic::UNIT)
}

/// `pause_ms = 20` and `pause_ms += 1`, where `pause_ms` is a state.
pub(crate) fn assign(path: &Path, operator: &str, value: Dynamic) -> ScriptResult<Dynamic> {
    let tag = host::current()?;
    if operator.is_empty() {
        return write(&tag, path.clone(), value).map(|()| Dynamic::UNIT);
    }
    let before = resolve(&tag, path.clone())?;
    if operator == "+" && path_of(&before).is_some() {
        return add(&tag, path, value).map(|()| Dynamic::UNIT);
    }
    let after = applied(operator, before.clone(), whole(value)?)?;
    if !convert::identical(&before, &after) {
        write(&tag, path.clone(), after)?;
    }
    Ok(Dynamic::UNIT)
}
