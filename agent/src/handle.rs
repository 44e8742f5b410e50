//! State paths in scripts: `config.db.host` reads, `config.server.port = 9090` writes, `config.db` is a live handle.
//!
//! Only the last step of an expression is an effect: containers stay handles, and Rhai's own write-backs of handles
//! are recognised.

use std::any::TypeId;
use std::sync::Arc;

use debug_wire::table::HostFunction;
use rhai::{
    Array, Dynamic, EvalAltResult, FuncRegistration, INT, ImmutableString, Module, NativeCallContext,
};

use crate::effect::Options;
use crate::gate;
use crate::host::{self, EvalTag};
use crate::state::Path;

/// A container in a state, by its path. Reading through it is live.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Handle {
    /// Where it points.
    pub(crate) path: Path,
}

type Fallible<T> = Result<T, Box<EvalAltResult>>;

/// The path that a value stands for, if it is a handle.
pub(crate) fn path_of(value: &Dynamic) -> Option<Path> {
    value.read_lock::<Handle>().map(|handle| handle.path.clone())
}

/// Registers what can be done with a handle.
pub(crate) fn register(module: &mut Module) {
    module.set_custom_type::<Handle>("state");
    FuncRegistration::new_index_getter().set_into_module(module, step_by_name);
    FuncRegistration::new_index_getter().set_into_module(module, step_by_index);
    // Pure, because the root is a constant that Rhai would otherwise refuse to index for writing.
    FuncRegistration::new_index_setter().with_purity(true).set_into_module(module, write_by_name);
    FuncRegistration::new_index_setter().with_purity(true).set_into_module(module, write_by_index);
    FuncRegistration::new("len").set_into_module(
        module,
        |ctx: NativeCallContext<'_>, handle: &mut Handle| {
            Ok::<INT, Box<EvalAltResult>>(INT::try_from(entries(&ctx, handle)?.len()).unwrap_or(INT::MAX))
        },
    );
    FuncRegistration::new("keys").set_into_module(
        module,
        |ctx: NativeCallContext<'_>, handle: &mut Handle| {
            Ok::<Array, Box<EvalAltResult>>(entries(&ctx, handle)?.into_iter().map(Dynamic::from).collect())
        },
    );
    FuncRegistration::new("contains").set_into_module(
        module,
        |ctx: NativeCallContext<'_>, handle: &mut Handle, key: ImmutableString| {
            Ok::<bool, Box<EvalAltResult>>(entries(&ctx, handle)?.iter().any(|k| *k == key.as_str()))
        },
    );
    FuncRegistration::new("==").set_into_module(module, |a: Handle, b: Handle| a == b);
    FuncRegistration::new("!=").set_into_module(module, |a: Handle, b: Handle| a != b);
}

/// `for host in config.hosts`: one read of the whole list. A module of one eval, because Rhai gives an iterator no
/// context to find the eval by.
pub(crate) fn loops(tag: EvalTag) -> Arc<Module> {
    let mut module = Module::new();
    module.set_iter_result(TypeId::of::<Handle>(), move |value| {
        let items = value
            .try_cast_result::<Handle>()
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

fn items(tag: &EvalTag, handle: &Handle) -> Fallible<Array> {
    contents(tag, handle)?.into_array().map_err(|_| {
        Box::from(format!("`{0}` is no list; loop over its names with `{0}.keys()`", handle.path))
    })
}

/// What a path is: a leaf is read, a container stays a handle.
pub(crate) fn resolve(tag: &EvalTag, path: Path) -> Fallible<Dynamic> {
    // Before the service is asked: the read is then the denial.
    if !gate::could_read(&tag.core, &tag.run, &path) {
        return read(tag, &path);
    }
    match tag.run.look(&tag.core, &path) {
        Ok(tree)
            if host::is_container(&tree)
                && gate::may_know(&tag.core, &tag.run, &path, Some(&tree)).is_ok() =>
        {
            Ok(Dynamic::from(Handle { path }))
        }
        // Of what is too large to be read whole parts are read all the same.
        Err(error)
            if error.is_large_container() && gate::may_know(&tag.core, &tag.run, &path, None).is_ok() =>
        {
            Ok(Dynamic::from(Handle { path }))
        }
        _ => read(tag, &path),
    }
}

/// The whole value behind a handle, read as an effect; for results and for loops.
pub(crate) fn contents(tag: &EvalTag, handle: &Handle) -> Fallible<Dynamic> {
    read(tag, &handle.path)
}

fn read(tag: &EvalTag, path: &Path) -> Fallible<Dynamic> {
    host::perform(tag, || Ok(vec![host::read(&tag.core, &tag.run, HostFunction::Get.row(), path)]))
}

fn step_by_name(ctx: NativeCallContext<'_>, handle: &mut Handle, name: ImmutableString) -> Fallible<Dynamic> {
    resolve(&host::tag(&ctx)?, handle.path.child(&name))
}

fn step_by_index(ctx: NativeCallContext<'_>, handle: &mut Handle, index: INT) -> Fallible<Dynamic> {
    resolve(&host::tag(&ctx)?, handle.path.child(&index.to_string()))
}

fn write_by_name(
    ctx: NativeCallContext<'_>,
    handle: &mut Handle,
    name: ImmutableString,
    value: Dynamic,
) -> Fallible<()> {
    write(&ctx, handle.path.child(&name), value)
}

fn write_by_index(
    ctx: NativeCallContext<'_>,
    handle: &mut Handle,
    index: INT,
    value: Dynamic,
) -> Fallible<()> {
    write(&ctx, handle.path.child(&index.to_string()), value)
}

fn write(ctx: &NativeCallContext<'_>, path: Path, value: Dynamic) -> Fallible<()> {
    // Rhai stores each level back into the one above it after an assignment; that is no effect.
    if path_of(&value).is_some_and(|p| p == path) {
        return Ok(());
    }
    let tag = host::tag(ctx)?;
    host::perform(&tag, || {
        Ok(vec![host::set(&tag.core, &tag.run, HostFunction::Set.row(), path, value, Options::default())])
    })
    .map(drop)
}

/// The names below a handle, as an effect: whoever may not read what is there does not learn its names.
fn entries(ctx: &NativeCallContext<'_>, handle: &Handle) -> Fallible<Vec<String>> {
    let contents = contents(&host::tag(ctx)?, handle)?;
    if let Some(map) = contents.read_lock::<rhai::Map>() {
        return Ok(map.keys().map(ToString::to_string).collect());
    }
    let len = contents.read_lock::<Array>().map_or(0, |items| items.len());
    Ok((0..len).map(|at| at.to_string()).collect())
}
