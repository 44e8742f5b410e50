//! Frozen code: the agent's own copy of a script function, independent of later changes in the session.
//!
//! Captured variables are shared cells in Rhai. Without a deep copy, an assignment in the session would change the patch in
//! force without gate, lease or record. The functions that it reaches are copied too.

mod engines;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};

use rhai::{AST, CallFnOptions, Dynamic, Engine, FnPtr, Position, Scope};

use self::engines::{Common, ERR, ErrValue, LOGS, OK, OPEN, PatchCall, STRICT, TELLING};
use super::engine::{PATCH, PATCH_CALLS, PATCH_EXPRESSIONS};
use super::handed_out::HandedOut;
use super::meter::{self, End};
use super::results::{Results, results};
use super::unfrozen::FreezeError;
use super::walk::{self, Mentions, Uses};
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
    takes: Takes,
    /// The maps among the captured values that the session was handed.
    captured_maps: HandedOut,
    uses: Uses,
    /// Names and literal texts in it: properties, keys and string constants.
    words: BTreeSet<String>,
    host: Arc<dyn PatchHost>,
    /// Created on the first call, because the lease is not known before.
    common: OnceLock<Arc<Common>>,
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
    /// Whether it can write to the service's log.
    pub logs: bool,
}

/// A position in the code, in words.
pub fn at(position: rhai::Position) -> String {
    match (position.line(), position.position()) {
        (Some(line), Some(column)) => format!(" (line {line}, position {column})"),
        _ => String::new(),
    }
}

/// What the arguments of frozen code are, which decides where a missing name is a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Values of a function: their names are the service's.
    Values,
    /// The request of a route: its own names and its parameters are known; a header, an entry of the query or of the body
    /// may be absent.
    Request,
    /// What a guard sees: all names are known.
    Counts,
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
        takes: Takes,
        host: Arc<dyn PatchHost>,
    ) -> Result<Self, FreezeError> {
        let name = function.fn_name().to_owned();
        let captured = function
            .curry()
            .iter()
            .map(deep_copy)
            .collect::<Result<Vec<_>, _>>()?;
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
        let own = |name: &&str| functions.iter_functions().any(|f| f.name == *name);
        let is_called = |name: &str| mentions.calls.keys().any(|(called, _)| called == name);
        if let Some(name) = [OK, ERR].into_iter().filter(|name| is_called(name)).find(own) {
            return Err(FreezeError::Reserved { name });
        }
        let wraps = |wrapper: &str| {
            let called = mentions.calls.iter().find(|((called, _), _)| called == wrapper);
            called.map(|(_, position)| *position)
        };
        let (makes_err, wraps) = (wraps(ERR).is_some(), wraps(ERR).or_else(|| wraps(OK)));
        // A text may become the name of a function.
        let logs = LOGS
            .iter()
            .any(|name| is_called(name) || mentions.properties.contains(*name));
        let reached = mentions
            .reached
            .iter()
            .map(|(name, params)| format!("{name}/{params}"))
            .collect();
        let keep = mentions.reached.clone();
        let functions = walk::only(functions, |n, p| keep.contains(&(n.to_owned(), p)));
        let closures = walk::closures(&functions);
        if let Some(position) = closures.curry {
            return Err(FreezeError::Curry { at: at(position) });
        }
        Ok(Self {
            watched: closures.capture || mentions.declared > UNWATCHED || nests(&mentions),
            name,
            captured,
            reads: mentions.paths.clone(),
            mentions_body: mentions.properties.contains("body"),
            takes,
            captured_maps: HandedOut::default(),
            uses: Uses::of(&functions, |_| false),
            words: mentions.properties.clone(),
            host,
            functions,
            common: OnceLock::new(),
            captures,
            reached,
            results,
            wraps,
            makes_err,
            logs,
        })
    }

    /// Makes a missing name an error in those captured maps that are among `handed_out`.
    pub fn knowing(mut self, handed_out: &HandedOut) -> Self {
        self.captured
            .iter()
            .for_each(|value| self.captured_maps.note_known(value, handed_out));
        self
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
            return Err(FreezeError::Capture(format!(
                "it nests deeper than {CAPTURE_DEPTH}"
            )));
        }
        let flat = value.clone().flatten();
        if let Some(items) = flat.read_lock::<rhai::Array>() {
            return Ok(items
                .iter()
                .map(|i| copy(i, depth + 1))
                .collect::<Result<rhai::Array, _>>()?
                .into());
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
        return Err(FreezeError::TooDeep {
            depth,
            at: at(position),
        });
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
        return Err(FreezeError::UnknownVariable {
            name: name.clone(),
            at: at(*position),
        });
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
            Some(_) => {
                return Err(FreezeError::Effect {
                    name: name.clone(),
                    at: at(*position),
                });
            }
            None if known => {}
            None => {
                return Err(FreezeError::UnknownFunction {
                    name: name.clone(),
                    at: at(*position),
                });
            }
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
    let Some(first) = takes.first() else {
        return Err(FreezeError::Missing(name.to_owned()));
    };
    match gives {
        Some(gives) if !takes.contains(&gives) => Err(FreezeError::Arguments { takes: *first, gives }),
        _ => Ok(()),
    }
}

impl PatchCode for Frozen {
    fn call(&self, lease: u64, now: BootTime, arguments: Vec<Tree>) -> Result<Tree, PatchFailure> {
        let engines = match self.takes {
            _ if self.uses.are_apart() => &TELLING,
            Takes::Counts => &STRICT,
            Takes::Values | Takes::Request => &OPEN,
        };
        let engine = engines.get(self.watched);
        if self.watched {
            memory::freeing(memory::PATCH, || self.run(engine, lease, now, arguments))
        } else {
            self.run(engine, lease, now, arguments)
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

    /// The data of a call under this lease. The common part is cached: nearly all code is called for one lease only.
    fn called(&self, lease: u64, arguments: &[Dynamic]) -> PatchCall {
        let common = || {
            Arc::new(Common {
                lease,
                reads: self.reads.clone(),
                host: self.host.clone(),
                uses: self.uses.clone(),
                everywhere: self.takes == Takes::Counts,
            })
        };
        let first = self.common.get_or_init(common);
        let common = if first.lease == lease {
            first.clone()
        } else {
            common()
        };
        let mut handed_out = self.captured_maps.clone();
        if self.uses.read_any() {
            arguments
                .iter()
                .for_each(|argument| self.note_argument(&mut handed_out, argument));
        }
        PatchCall {
            common,
            handed_out: Arc::new(Mutex::new(handed_out)),
        }
    }

    fn note_argument(&self, handed_out: &mut HandedOut, argument: &Dynamic) {
        match self.takes {
            Takes::Values => handed_out.note(argument),
            Takes::Request => {
                if let Some(request) = argument.read_lock::<rhai::Map>() {
                    handed_out.note_map(&request);
                    if let Some(params) = request.get("params").and_then(|p| p.read_lock::<rhai::Map>()) {
                        handed_out.note_map(&params);
                    }
                }
            }
            // All their missing names are errors, and the guard tells what it is given.
            Takes::Counts => {}
        }
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
        let call = self.called(lease, &given[self.captured.len()..]);
        let options = CallFnOptions::new().eval_ast(false).with_tag(Dynamic::from(call));
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
            return Err(match end {
                End::Operations => PatchFailure::Limit("100,000 operations"),
                End::Time => PatchFailure::Limit("10 ms"),
                End::Size => PatchFailure::Limit("size of a value"),
                End::Stack => PatchFailure::Stack,
                End::Cancelled | End::Refused => PatchFailure::Limit("ended"),
            });
        }
        let value = result.map_err(|e| failed(&e))?;
        if value.is::<ErrValue>() {
            let ErrValue(error) = value.cast();
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
            let name = if name.starts_with("anon$") {
                "a closure"
            } else {
                &format!("`{name}`")
            };
            PatchFailure::Threw(format!(
                "{name} is not there for ({}){}",
                types.join(", "),
                at(*position)
            ))
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
