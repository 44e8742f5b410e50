//! Frozen code: what the agent keeps of a script, out of reach of everything that happens later.
//!
//! Captured variables are shared cells in Rhai: without a deep copy, an assignment in the session would change the
//! patch in force with no gate, lease or record. The functions it reaches are copied along.

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
use crate::clock::BootTime;
use crate::convert;
use crate::points::{PatchCode, PatchFailure};
use crate::state::Tree;
use crate::values;

/// How deeply captured values may nest.
const CAPTURE_DEPTH: usize = 32;
/// The longest source of frozen code with its captures, in bytes: 32 KiB, as an eval's.
const MAX_CAPTURED: usize = 32 << 10;

/// So many places where a value is put into another need no watching if none is passed twice.
const MAX_BUILDS: usize = nesting::MAX_NESTING / 2;

/// So many parameters and locals need no watching: in all calls that can be in progress at once they are no more variables
/// than a patched call may have.
const UNWATCHED: usize = memory::PATCH.variables / PATCH_CALLS;

/// What frozen code may ask of the service while it runs; there is no operator in it.
pub(crate) trait PatchHost: Send + Sync {
    /// The value at a state path, opaque where it is secret, without waiting for a lock.
    ///
    /// # Errors
    /// In words, also when the state is busy.
    fn read(&self, path: &str) -> Result<Dynamic, String>;
    /// Writes a line into the service's log, under the lease that the patch belongs to.
    fn log(&self, lease: u64, warn: bool, text: &str);
}

/// A function of a script, with deep copies of all it captured and reached.
pub(crate) struct Frozen {
    functions: AST,
    name: String,
    captured: Vec<Dynamic>,
    reads: BTreeSet<String>,
    /// Whether its variables are looked at while it runs: closures in it capture some, or there are many.
    watched: bool,
    mentions_body: bool,
    /// Whether a name that a map does not have is an error.
    strict: bool,
    /// Names and texts in it: properties, keys, and whatever else is written down between quotes.
    words: BTreeSet<String>,
    host: Arc<dyn PatchHost>,
    /// What its calls carry; made at the first, as the lease is not known before.
    tag: OnceLock<Arc<CallTag>>,
    /// The values captured, for the record: position in the parameter list and value.
    pub(crate) captures: Vec<Tree>,
    /// The functions reached, as `name/parameters`, for the record.
    pub(crate) reached: Vec<String>,
    /// What it may answer, as far as its text tells.
    pub(crate) results: Results,
    /// Where it makes an `Err` or `Ok` first.
    pub(crate) wraps: Option<Position>,
    /// Whether it makes an `Err`.
    pub(crate) makes_err: bool,
}

pub(crate) fn at(position: rhai::Position) -> String {
    match (position.line(), position.position()) {
        (Some(line), Some(column)) => format!(" (line {line}, position {column})"),
        _ => String::new(),
    }
}

/// The engine of all patches: the library, `get` of literal paths, `log_info` and `log_warn`, `Ok` and `Err`. Nothing else.
static ENGINE: LazyLock<Engine> = LazyLock::new(engine);

/// The same for patches in which closures capture, that have many variables or that put values into each other again and
/// again: it looks at them before they are used.
static WATCHING: LazyLock<Engine> = LazyLock::new(watching);

fn watching() -> Engine {
    let mut engine = engine();
    #[expect(deprecated, reason = "Rhai marks it so because it may change; the version is pinned")]
    engine.on_var(|name, _, context| memory::check_variable(name, true, &context).map(|()| None));
    engine
}

/// The same two for guards: what they are shown has names that are known, and one that is not is a mistake, where in a patch it
/// may be a header that is not there.
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

/// What a patch of a function answers that returns a `Result`: `Err("no connection")`, and `Ok(5)`, which is the same as `5`.
const OK: &str = "Ok";
const ERR: &str = "Err";

/// An `Err` on its way out of a patch.
#[derive(Clone)]
struct Fault(Dynamic);

/// What a patched call carries through the engine: whose it is and what it may read.
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
    // A line costs what it takes to write: a patch in a loop would otherwise flood the service's log.
    if meter::charge(1_000 + text.len() as u64).is_some() {
        return Err(super::library::terminated());
    }
    tag.host.log(tag.lease, warn, text);
    Ok(())
}

impl Frozen {
    /// Freezes `function`, found in `functions`, for a point that gives `gives` arguments (unknown: any number).
    ///
    /// # Errors
    /// What in it cannot be kept or would not exist when it runs.
    pub(crate) fn new(
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

    /// The same, for which a name that a map does not have is an error.
    pub(crate) fn strictly(self) -> Self {
        Self { strict: true, ..self }
    }

    /// What is written down in it: properties, keys, texts.
    pub(crate) fn words(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(String::as_str)
    }

    /// The literal state paths it reads: its author must be allowed to, when it is made.
    pub(crate) fn reads(&self) -> impl Iterator<Item = &str> {
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

/// The source was parsed by the engine of evals, which lets more through than fits a thread of the service.
fn check_depth(mentions: &Mentions) -> Result<(), FreezeError> {
    let (depth, position) = mentions.deepest;
    if depth > PATCH_EXPRESSIONS {
        return Err(FreezeError::TooDeep { depth, at: at(position) });
    }
    Ok(())
}

/// Whether the patch could make values deeper than its text is. Dropping these takes stack, of which little may be left.
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
    /// What it would read at a path now; nothing if it may not, or nothing stands there.
    pub(crate) fn look(&self, path: &str) -> Option<Dynamic> {
        self.host.read(path).ok()
    }

    /// What a call for this lease carries. Made once, as code is nearly always called for one lease alone.
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
        let value = result.map_err(|e| PatchFailure::Threw(explain(&e)))?;
        if value.is::<Fault>() {
            let Fault(error) = value.cast();
            let error = convert::from_dynamic(error, None).map_err(|e| PatchFailure::Shape(e.to_string()))?;
            return Err(PatchFailure::Fault(error));
        }
        convert::from_dynamic(value, None).map_err(|e| PatchFailure::Shape(e.to_string()))
    }
}

/// An error of Rhai without the names it makes up for closures.
pub(crate) fn explain(error: &rhai::EvalAltResult) -> String {
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
