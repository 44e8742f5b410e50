//! Handles as values: a function or operator gets the value of the container, read as an effect.

use rhai::{Dynamic, EvalAltResult, EvalContext, FuncRegistration, Module, NativeCallContext};

use debug_script::handle::whole;

use super::{PathHandle, contents, error, path_of, write};
use crate::host::{self, EvalTag};
use debug_base::Path;
use debug_script::ScriptResult;
use debug_script::{convert, library, meter};

/// Functions that change their receiver; on a handle each is one write of the container.
const CHANGERS: [&str; 7] = ["clear", "insert", "pop", "push", "remove", "reverse", "sort"];

pub(super) fn register(module: &mut Module) {
    // Rhai itself evaluates comparisons of different types, always to `false`.
    FuncRegistration::new("==")
        .set_into_module(module, |a: PathHandle, b: Dynamic| same(Dynamic::from(a), b));
    FuncRegistration::new("==")
        .set_into_module(module, |a: Dynamic, b: PathHandle| same(a, Dynamic::from(b)));
    FuncRegistration::new("!=").set_into_module(module, |a: PathHandle, b: Dynamic| {
        same(Dynamic::from(a), b).map(|same| !same)
    });
    FuncRegistration::new("!=").set_into_module(module, |a: Dynamic, b: PathHandle| {
        same(a, Dynamic::from(b)).map(|same| !same)
    });
    for name in ["<", "<=", ">", ">="] {
        FuncRegistration::new(name)
            .set_into_module(module, move |a: PathHandle, _: Dynamic| no_order(name, &a.path));
        FuncRegistration::new(name)
            .set_into_module(module, move |_: Dynamic, b: PathHandle| no_order(name, &b.path));
    }
    FuncRegistration::new("+=").with_purity(true).set_into_module(
        module,
        |ctx: NativeCallContext<'_>, handle: &mut PathHandle, more: Dynamic| {
            add(&host::tag(&ctx)?, &handle.path, more)
        },
    );
}

fn same(a: Dynamic, b: Dynamic) -> ScriptResult<bool> {
    library::same(&a, &b)
}

fn no_order(operator: &str, path: &Path) -> ScriptResult<bool> {
    Err(error(format!(
        "`{operator}` is not there for lists and maps, and `{path}` is one"
    )))
}

/// `config.hosts += ["x"]`.
pub(crate) fn add(tag: &EvalTag, path: &Path, more: Dynamic) -> ScriptResult<()> {
    let code = path.as_code().unwrap_or_else(|| "state".to_owned());
    let Ok(mut items) = contents(tag, &PathHandle { path: path.clone() })?.into_array() else {
        let what = format!("`+=` is not there for maps, and `{path}` is one");
        return Err(error(format!(
            "{what}; write an entry of it: `{code}[\"name\"] = value`"
        )));
    };
    let Ok(more) = whole(more)?.into_array() else {
        return Err(error(format!(
            "`+=` adds a list to `{path}`; one item is added with `{code}.push(value)`"
        )));
    };
    if more.is_empty() {
        return Ok(());
    }
    items.extend(more);
    write(tag, path.clone(), Dynamic::from_array(items))
}

/// Called by Rhai after a failed call. If a handle was among the arguments, repeats the call with the value of its container.
///
/// # Errors
/// The error of the repeated call.
pub(crate) fn missing_function(
    name: &str,
    args: &mut [&mut Dynamic],
    mut ctx: EvalContext<'_, '_, '_, '_, '_, '_>,
) -> ScriptResult<Option<Dynamic>> {
    // A run that has ended stops here. A failed call without handles has its own error.
    if meter::ended().is_some() || !args.iter().any(|argument| path_of(argument).is_some()) {
        return Ok(None);
    }
    let tag = host::current()?;
    let receiver = args.first().and_then(|first| path_of(first));
    let mut values = args
        .iter()
        .map(|argument| whole((**argument).clone()))
        .collect::<ScriptResult<Vec<_>>>()?;
    let changed = receiver.filter(|_| CHANGERS.contains(&name));
    let before = changed.zip(values.first().cloned());
    let mut given: Vec<&mut Dynamic> = values.iter_mut().collect();
    let result = match ctx.call_native_fn_raw(name, true, &mut given) {
        Ok(result) => result,
        // Rhai's own error names the position in the code.
        Err(error) if matches!(*error, EvalAltResult::ErrorFunctionNotFound(..)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let after = values.swap_remove(0);
    match (before, args.first_mut()) {
        (Some((path, before)), _) if is_other(&path, &before, &after) => write(&tag, path, after)?,
        // The function changed a copy of the script's value: store it back.
        (None, Some(first)) if path_of(first).is_none() && !first.is_read_only() => **first = after,
        _ => {}
    }
    Ok(Some(result))
}

/// Whether a container was changed. A value that cannot be stored counts as changed, so that the write refuses it.
fn is_other(path: &Path, before: &Dynamic, after: &Dynamic) -> bool {
    let tree = |value: &Dynamic| convert::from_dynamic(value.clone(), Some(path));
    !matches!((tree(before), tree(after)), (Ok(before), Ok(after)) if before == after)
}
