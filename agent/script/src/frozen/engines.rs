//! The engines of frozen code: the library, `get` of literal paths, `log_info`, `log_warn`, `Ok` and `Err`.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use rhai::{
    Dynamic, Engine, EvalAltResult, EvalContext, FuncRegistration, ImmutableString, Map, Module,
    NativeCallContext, Position, Target,
};

use super::PatchHost;
use crate::ScriptResult;
use crate::engine;
use crate::handed_out::HandedOut;
use crate::walk::Uses;
use crate::{convert, memory, meter};
use debug_base::Tree;

/// Constructors for a patch of a function that returns a `Result`: `Err("no connection")`, and `Ok(5)`, which equals `5`.
pub(super) const OK: &str = "Ok";
pub(super) const ERR: &str = "Err";
const LOG_INFO: &str = "log_info";
const LOG_WARN: &str = "log_warn";
/// What writes to the service's log.
pub(super) const LOGS: [&str; 2] = [LOG_INFO, LOG_WARN];

/// An `Err` on its way out of a patch.
///
/// INVARIANT: it holds a tree and no value of Rhai. What holds values of Rhai can be nested in itself without a bound, where no check
/// looks, and dropping that overflows the stack.
#[derive(Clone)]
pub(super) struct ErrValue(pub(super) Tree);

/// Longest value of an `Err`, in bytes: it is made into an error of the service, or is its text.
const MAX_ERR: usize = 4 << 10;
/// Cost of an `Err` in operations: so a run cannot hold more than a few MiB in them, where memory is not counted.
const ERR_COST: u64 = 100;

fn make_err(value: Dynamic) -> ScriptResult<Dynamic> {
    if meter::charge(ERR_COST).is_some() {
        return Err(meter::terminated());
    }
    let tree =
        convert::from_dynamic(value, None).map_err(|error| format!("the value of an `Err`: {error}"))?;
    let size = tree.size();
    if MAX_ERR < size {
        return Err(format!("the value of an `Err` has {size} bytes, the limit is {MAX_ERR}").into());
    }
    Ok(Dynamic::from(ErrValue(tree)))
}

/// An engine, and the same one for code that has closures with captures or many variables, or that repeatedly puts values
/// into each other: the second checks variables before their use.
pub(super) struct Engines {
    plain: LazyLock<Engine>,
    watching: LazyLock<Engine>,
}

impl Engines {
    pub(super) fn get(&self, watched: bool) -> &Engine {
        if watched { &self.watching } else { &self.plain }
    }
}

/// For code that assigns no name that it reads: a name that a map of the agent's lacks is an error.
pub(super) static TELLING: Engines = Engines {
    plain: LazyLock::new(|| telling(engine())),
    watching: LazyLock::new(|| telling(watching(engine()))),
};

/// For patches that assign a name that they read: a missing name is `()`.
pub(super) static OPEN: Engines = Engines {
    plain: LazyLock::new(engine),
    watching: LazyLock::new(|| watching(engine())),
};

/// For guards that do: a missing name is an error in every map.
pub(super) static STRICT: Engines = Engines {
    plain: LazyLock::new(|| strict(engine())),
    watching: LazyLock::new(|| strict(watching(engine()))),
};

fn watching(mut engine: Engine) -> Engine {
    #[expect(
        deprecated,
        reason = "Rhai marks it so because it may change; the version is pinned"
    )]
    engine.on_var(|name, _, context| memory::check_variable(name, true, &context).map(|()| None));
    engine
}

fn strict(mut engine: Engine) -> Engine {
    engine.set_fail_on_invalid_map_property(true);
    engine
}

fn telling(mut engine: Engine) -> Engine {
    engine.on_map_missing_property(missing);
    engine
}

fn engine() -> Engine {
    let mut engine = engine::for_patches();
    let mut module = Module::new();
    FuncRegistration::new("get").set_into_module(&mut module, read);
    FuncRegistration::new(LOG_INFO).set_into_module(&mut module, |ctx: NativeCallContext<'_>, text: &str| {
        log(&ctx, false, text)
    });
    FuncRegistration::new(LOG_WARN).set_into_module(&mut module, |ctx: NativeCallContext<'_>, text: &str| {
        log(&ctx, true, text)
    });
    FuncRegistration::new(OK).set_into_module(&mut module, |value: Dynamic| value);
    FuncRegistration::new(ERR).set_into_module(&mut module, make_err);
    module.set_custom_type::<ErrValue>("Err");
    convert::register_types(&mut module);
    module.build_index();
    engine.register_global_module(Arc::new(module));
    engine
}

/// What all calls of frozen code under one lease have in common.
pub(super) struct Common {
    pub(super) lease: u64,
    pub(super) reads: BTreeSet<String>,
    pub(super) host: Arc<dyn PatchHost>,
    pub(super) uses: Uses,
    /// Whether a missing name is an error in every map, as in a guard.
    pub(super) everywhere: bool,
}

/// One call, carried through the engine as its tag.
#[derive(Clone)]
pub(super) struct PatchCall {
    pub(super) common: Arc<Common>,
    /// The maps that this call was handed.
    pub(super) handed_out: Arc<Mutex<HandedOut>>,
}

impl PatchCall {
    fn of(tag: Option<&Dynamic>) -> ScriptResult<Self> {
        tag.and_then(|tag| tag.clone().try_cast::<Self>())
            .ok_or_else(|| Box::from("only a patched call may do this"))
    }
}

fn read(ctx: NativeCallContext<'_>, path: ImmutableString) -> ScriptResult<Dynamic> {
    let call = PatchCall::of(ctx.tag())?;
    if !call.common.reads.contains(path.as_str()) {
        return Err("a patch reads only the literal paths that it was made with".into());
    }
    let value = call.common.host.read(&path).map_err(Box::<EvalAltResult>::from)?;
    call.handed_out
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .note(&value);
    Ok(value)
}

fn log(ctx: &NativeCallContext<'_>, warn: bool, text: &str) -> ScriptResult<()> {
    let call = PatchCall::of(ctx.tag())?;
    // A line is charged what it costs to write: a patch in a loop would otherwise flood the service's log.
    if meter::charge(1_000 + text.len() as u64).is_some() {
        return Err(crate::meter::terminated());
    }
    call.common.host.log(call.common.lease, warn, text);
    Ok(())
}

/// Rhai's callback for a name that a map lacks.
fn missing<'a>(
    map: &'a mut Map,
    name: &str,
    context: EvalContext<'_, '_, '_, '_, '_, '_>,
) -> ScriptResult<Target<'a>> {
    let call = PatchCall::of(Some(context.tag()))?;
    let common = call.common;
    let handed_out = call.handed_out.lock().unwrap_or_else(PoisonError::into_inner);
    match handed_out.missing(&common.uses, map, name) {
        Some(target) => target,
        None if common.everywhere => {
            Err(EvalAltResult::ErrorPropertyNotFound(name.to_owned(), Position::NONE).into())
        }
        None => Ok(Target::from(Dynamic::UNIT)),
    }
}
