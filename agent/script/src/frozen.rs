//! Frozen code: the agent's own copy of a script function, independent of later changes in the session.
//!
//! Captured variables are shared cells in Rhai. Without a deep copy, an assignment in the session would change the patch in
//! force without gate, lease or record. The functions that it reaches are copied too.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock, OnceLock};

use rhai::{
    AST, CallFnOptions, Dynamic, Engine, FnPtr, FuncRegistration, ImmutableString, Module, NativeCallContext,
    Position, Scope,
};

use super::engine::{self, PATCH, PATCH_CALLS, PATCH_EXPRESSIONS};
use super::meter::{self, End};
use super::results::{Results, results};
use super::unfrozen::FreezeError;
use super::walk::{self, Mentions};
use super::{memory, nesting};
use crate::convert;
use crate::kinds;
use crate::values;
use debug_base::{BootTime, Tree};
use debug_points::{PatchCode, PatchFailure};

/// Maximum nesting depth of captured values.
const CAPTURE_DEPTH: usize = 32;
/// Limit on the captured values as text, in bytes: 32 KiB, like the source of an eval.
const MAX_CAPTURED: usize = 32 << 10;

/// Up to this number of places that put a value into another need no memory checks, if no place runs twice.
const MAX_BUILDS: usize = nesting::MAX_NESTING / 2;

/// Up to this number of parameters and locals needs no memory checks: at the maximum call depth they are no more variables
/// than a patched call may have.
const UNWATCHED: usize = memory::PATCH.variables / PATCH_CALLS;

/// What frozen code may ask of the host while it runs; no operator is present.
pub trait PatchHost: Send + Sync {
    /// Reads the value at a state path without waiting for a lock; secret parts are opaque.
    ///
    /// # Errors
    /// The reason in words, also if the state is busy.
    fn read(&self, path: &str) -> Result<Dynamic, String>;
    /// Writes a line to the service's log, under the patch's lease.
    fn log(&self, lease: u64, warn: bool, text: &str);
}

/// A script function with deep copies of all captured values and reached functions.
pub struct Frozen {
    functions: AST,
    name: String,
    captured: Vec<Dynamic>,
    reads: BTreeSet<String>,
    /// Whether its variables are checked while it runs: its closures capture, or it has many variables.
    watched: bool,
    mentions_body: bool,
    /// Whether access to a missing name of a map is an error.
    strict: bool,
    /// Names and literal texts in it: properties, keys and string constants.
    words: BTreeSet<String>,
    host: Arc<dyn PatchHost>,
    /// Data passed to its calls; created on the first call, because the lease is not known before.
    tag: OnceLock<Arc<CallTag>>,
    /// The captured values in the order of the parameter list, for the record.
    pub captures: Vec<Tree>,
    /// The functions reached, as `name/parameters`, for the record.
    pub reached: Vec<String>,
    /// The results it may return, as far as its source shows.
    pub results: Results,
    /// Position of the first `Err` or `Ok` call.
    pub wraps: Option<Position>,
    /// Whether it calls `Err`.
    pub makes_err: bool,
}

/// A position in the code, in words.
pub fn at(position: rhai::Position) -> String {
    match (position.line(), position.position()) {
        (Some(line), Some(column)) => format!(" (line {line}, position {column})"),
        _ => String::new(),
    }
}

/// The engine of all patches: the library, `get` of literal paths, `log_info`, `log_warn`, `Ok` and `Err`.
static ENGINE: LazyLock<Engine> = LazyLock::new(engine);

/// The engine for patches that have closures with captures or many variables, or that repeatedly put values into each other:
/// it checks variables before their use.
static WATCHING: LazyLock<Engine> = LazyLock::new(watching);

fn watching() -> Engine {
    let mut engine = engine();
    #[expect(deprecated, reason = "Rhai marks it so because it may change; the version is pinned")]
    engine.on_var(|name, _, context| memory::check_variable(name, true, &context).map(|()| None));
    engine
}

/// The same two engines for guards. The names in a guard's argument are known, so a missing name is a mistake; in a patch it
/// may be an absent header.
static STRICT: LazyLock<Engine> = LazyLock::new(|| strict(engine()));
static STRICT_WATCHING: LazyLock<Engine> = LazyLock::new(|| strict(watching()));

fn strict(mut engine: Engine) -> Engine {
    engine.set_fail_on_invalid_map_property(true);
    engine
}

fn engine() -> Engine {
    let mut engine = engine::for_patches();
    let mut module = Module::new();
    FuncRegistration::new("get").set_into_module(&mut module, read);
    FuncRegistration::new("log_info")
        .set_into_module(&mut module, |ctx: NativeCallContext<'_>, text: &str| log(&ctx, false, text));
    FuncRegistration::new("log_warn")
        .set_into_module(&mut module, |ctx: NativeCallContext<'_>, text: &str| log(&ctx, true, text));
    FuncRegistration::new(OK).set_into_module(&mut module, |value: Dynamic| value);
    FuncRegistration::new(ERR).set_into_module(&mut module, |value: Dynamic| Dynamic::from(Fault(value)));
    module.set_custom_type::<Fault>("Err");
    convert::register_types(&mut module);
    module.build_index();
    engine.register_global_module(Arc::new(module));
    engine
}

/// Constructors for a patch of a function that returns a `Result`: `Err("no connection")`, and `Ok(5)`, which equals `5`.
const OK: &str = "Ok";
const ERR: &str = "Err";

/// An `Err` on its way out of a patch.
#[derive(Clone)]
struct Fault(Dynamic);

/// Data that a patched call carries through the engine: its lease and the paths it may read.
struct CallTag {
    lease: u64,
    reads: BTreeSet<String>,
    host: Arc<dyn PatchHost>,
}

fn tag(ctx: &NativeCallContext<'_>) -> Result<Arc<CallTag>, Box<rhai::EvalAltResult>> {
    ctx.tag()
        .and_then(|t| t.clone().try_cast::<Arc<CallTag>>())
        .ok_or_else(|| Box::from("only a patched call may do this"))
}

fn read(ctx: NativeCallContext<'_>, path: ImmutableString) -> Result<Dynamic, Box<rhai::EvalAltResult>> {
    let tag = tag(&ctx)?;
    if !tag.reads.contains(path.as_str()) {
        return Err("a patch reads only the literal paths that it was made with".into());
    }
    tag.host.read(&path).map_err(Box::from)
}

fn log(ctx: &NativeCallContext<'_>, warn: bool, text: &str) -> Result<(), Box<rhai::EvalAltResult>> {
    let tag = tag(ctx)?;
    // A line is charged what it costs to write: a patch in a loop would otherwise flood the service's log.
    if meter::charge(1_000 + text.len() as u64).is_some() {
        return Err(super::library::terminated());
    }
    tag.host.log(tag.lease, warn, text);
    Ok(())
}

impl Frozen {
    /// Freezes `function`, found in `functions`, for a point that passes `gives` arguments (`None`: any number).
    ///
    /// # Errors
    /// A part that cannot be kept, or would not exist when it runs.
    pub fn new(
        functions: &AST,
        function: &FnPtr,
        gives: Option<usize>,
        host: Arc<dyn PatchHost>,
    ) -> Result<Self, FreezeError> {
        let name = function.fn_name().to_owned();
        let captured = function.curry().iter().map(deep_copy).collect::<Result<Vec<_>, _>>()?;
        let captures = captured.iter().map(as_tree).collect::<Result<Vec<_>, _>>()?;
        let size: usize = captured.iter().map(|c| convert::display(c).len()).sum();
        if size > MAX_CAPTURED {
            return Err(FreezeError::Capture(format!(
                "{size} bytes are captured, the limit is {MAX_CAPTURED}"
            )));
        }
        let mentions = walk::reachable(functions, &name);
        check_depth(&mentions)?;
        check_calls(&mentions, functions)?;
        check_arguments(functions, &name, captured.len(), gives)?;
        let results = results(functions, &name);
        let own = |wrapper: &str| mentions.reached.contains(&(wrapper.to_owned(), 1));
        let wraps = |wrapper: &str| {
            let called = mentions.calls.iter().find(|((called, _), _)| called == wrapper);
            called.filter(|_| !own(wrapper)).map(|(_, position)| *position)
        };
        let (makes_err, wraps) = (wraps(ERR).is_some(), wraps(ERR).or_else(|| wraps(OK)));
        let reached = mentions.reached.iter().map(|(name, params)| format!("{name}/{params}")).collect();
        let keep = mentions.reached.clone();
        let functions = walk::only(functions, |n, p| keep.contains(&(n.to_owned(), p)));
        let closures = walk::closures(&functions);
        if let Some(position) = closures.curry {
            return Err(FreezeError::Curry { at: at(position) });
        }
        Ok(Self {
            functions,
            watched: closures.capture || mentions.declared > UNWATCHED || nests(&mentions),
            name,
            captured,
            reads: mentions.paths.clone(),
            mentions_body: mentions.properties.contains("body"),
            strict: false,
            words: mentions.properties.clone(),
            host,
            tag: OnceLock::new(),
            captures,
            reached,
            results,
            wraps,
            makes_err,
        })
    }

    /// Makes access to a missing name of a map an error.
    pub fn strictly(self) -> Self {
        Self { strict: true, ..self }
    }

    /// Names and literal texts in it: properties, keys and string constants.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(String::as_str)
    }

    /// The literal state paths that it reads. Its author must be allowed to read them when it is made.
    pub fn reads(&self) -> impl Iterator<Item = &str> {
        self.reads.iter().map(String::as_str)
    }
}

/// A copy that shares nothing with the session. Handles, secrets and functions are refused by [`as_tree`].
fn deep_copy(value: &Dynamic) -> Result<Dynamic, FreezeError> {
    fn copy(value: &Dynamic, depth: usize) -> Result<Dynamic, FreezeError> {
        if depth > CAPTURE_DEPTH {
            return Err(FreezeError::Capture(format!("it nests deeper than {CAPTURE_DEPTH}")));
        }
        let flat = value.clone().flatten();
        if let Some(items) = flat.read_lock::<rhai::Array>() {
            return Ok(items.iter().map(|i| copy(i, depth + 1)).collect::<Result<rhai::Array, _>>()?.into());
        }
        if let Some(entries) = flat.read_lock::<rhai::Map>() {
            let copied = entries.iter().map(|(k, v)| Ok((k.clone(), copy(v, depth + 1)?)));
            return Ok(copied.collect::<Result<rhai::Map, FreezeError>>()?.into());
        }
        Ok(flat)
    }
    copy(value, 0)
}

fn as_tree(value: &Dynamic) -> Result<Tree, FreezeError> {
    convert::from_dynamic(value.clone(), None).map_err(|e| FreezeError::Capture(e.to_string()))
}

/// The eval engine parsed the source, with limits too high for the stack of a service thread.
fn check_depth(mentions: &Mentions) -> Result<(), FreezeError> {
    let (depth, position) = mentions.deepest;
    if depth > PATCH_EXPRESSIONS {
        return Err(FreezeError::TooDeep { depth, at: at(position) });
    }
    Ok(())
}

/// Whether the patch could create values that nest deeper than its source. Dropping them takes stack, and little may be left.
fn nests(mentions: &Mentions) -> bool {
    mentions.builds > MAX_BUILDS || mentions.repeats && mentions.builds > 0
}

fn check_calls(mentions: &Mentions, functions: &AST) -> Result<(), FreezeError> {
    if let Some(position) = mentions.computed {
        return Err(FreezeError::Computed { at: at(position) });
    }
    if let Some((name, position)) = mentions.free.first_key_value() {
        return Err(FreezeError::UnknownVariable { name: name.clone(), at: at(*position) });
    }
    for ((name, args), position) in &mentions.calls {
        let known = super::words::find(name).is_some()
            || [OK, ERR].contains(&name.as_str()) && matches!(*args, 1 | walk::ANY)
            || is_operator(name)
            || functions.iter_functions().any(|f| {
                let takes = f.params.len();
                f.name == name && (*args == walk::ANY || takes == *args || takes + 1 == *args)
            });
        match debug_wire::table::function(name) {
            Some(host) if host.in_patches => {}
            Some(_) => return Err(FreezeError::Effect { name: name.clone(), at: at(*position) }),
            None if known => {}
            None => return Err(FreezeError::UnknownFunction { name: name.clone(), at: at(*position) }),
        }
    }
    Ok(())
}

fn is_operator(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn check_arguments(
    functions: &AST,
    name: &str,
    captured: usize,
    gives: Option<usize>,
) -> Result<(), FreezeError> {
    let takes: Vec<usize> = functions
        .iter_functions()
        .filter(|f| f.name == name)
        .filter_map(|f| f.params.len().checked_sub(captured))
        .collect();
    let Some(first) = takes.first() else { return Err(FreezeError::Missing(name.to_owned())) };
    match gives {
        Some(gives) if !takes.contains(&gives) => Err(FreezeError::Arguments { takes: *first, gives }),
        _ => Ok(()),
    }
}

impl PatchCode for Frozen {
    fn call(&self, lease: u64, now: BootTime, arguments: Vec<Tree>) -> Result<Tree, PatchFailure> {
        let (plain, watching) = if self.strict { (&STRICT, &STRICT_WATCHING) } else { (&ENGINE, &WATCHING) };
        if self.watched {
            memory::freeing(memory::PATCH, || self.run(watching, lease, now, arguments))
        } else {
            self.run(plain, lease, now, arguments)
        }
    }

    fn mentions_body(&self) -> bool {
        self.mentions_body
    }
}

impl Frozen {
    /// The value at a path as it would read it now; `None` if it may not or there is no value.
    pub fn look(&self, path: &str) -> Option<Dynamic> {
        self.host.read(path).ok()
    }

    /// The data for calls under this lease. Cached, because nearly all code is called for one lease only.
    fn tag(&self, lease: u64) -> Arc<CallTag> {
        let tag = || Arc::new(CallTag { lease, reads: self.reads.clone(), host: self.host.clone() });
        let first = self.tag.get_or_init(tag);
        if first.lease == lease { first.clone() } else { tag() }
    }

    fn run(
        &self,
        engine: &Engine,
        lease: u64,
        now: BootTime,
        arguments: Vec<Tree>,
    ) -> Result<Tree, PatchFailure> {
        let mut given = Vec::with_capacity(self.captured.len() + arguments.len());
        given.extend(self.captured.iter().cloned());
        given.extend(arguments.into_iter().map(values::argument));
        let options = CallFnOptions::new().eval_ast(false).with_tag(Dynamic::from(self.tag(lease)));
        let (result, end, _) = meter::metered(PATCH, now, None, || {
            engine.call_fn_with_options::<Dynamic>(
                options,
                &mut Scope::new(),
                &self.functions,
                &self.name,
                given,
            )
        });
        if let Some(end) = end {
            return Err(PatchFailure::Limit(match end {
                End::Operations => "100,000 operations",
                End::Time => "10 ms",
                End::Size => "size of a value",
                End::Cancelled | End::Refused => "ended",
            }));
        }
        let value = result.map_err(|e| failed(&e))?;
        if value.is::<Fault>() {
            let Fault(error) = value.cast();
            let error = convert::from_dynamic(error, None).map_err(|e| PatchFailure::Shape(e.to_string()))?;
            return Err(PatchFailure::Fault(error));
        }
        convert::from_dynamic(value, None).map_err(|e| PatchFailure::Shape(e.to_string()))
    }
}

fn failed(error: &rhai::EvalAltResult) -> PatchFailure {
    match error {
        rhai::EvalAltResult::ErrorInFunctionCall(_, _, inner, _) => failed(inner),
        rhai::EvalAltResult::ErrorPropertyNotFound(name, _) => PatchFailure::Missing(name.clone()),
        rhai::EvalAltResult::ErrorRuntime(value, position) => {
            PatchFailure::Threw(format!("{}{}", thrown(value), at(*position)))
        }
        rhai::EvalAltResult::ErrorFunctionNotFound(text, position) => {
            let (name, types) = kinds::signature(text);
            let name = if name.starts_with("anon$") { "a closure" } else { &format!("`{name}`") };
            PatchFailure::Threw(format!("{name} is not there for ({}){}", types.join(", "), at(*position)))
        }
        _ => PatchFailure::Threw(explain(error)),
    }
}

/// A thrown value in words: a text as it is, anything else as it is shown.
pub fn thrown(value: &rhai::Dynamic) -> String {
    match value.clone().into_string() {
        Ok(text) => text,
        Err(_) => convert::display(value),
    }
}

/// The text of a Rhai error, without the names that Rhai generates for closures.
pub fn explain(error: &rhai::EvalAltResult) -> String {
    let text = error.to_string();
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find("anon$") {
        clean.push_str(&rest[..at]);
        clean.push_str("the closure");
        rest = rest[at + 5..].trim_start_matches(|c: char| c.is_ascii_hexdigit());
    }
    clean.push_str(rest);
    clean
}
