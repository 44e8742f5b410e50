//! One eval from its signed payload to its reply: recorded, run, undone if it fails, recorded again, answered.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use debug_audit::{AppendError, Until};
use debug_wire::messages::{
    AuditRange, Code, EvalParams, EvalPayload, EvalResult, Failure, FromAgent, LeaseSummary, Output,
};
use debug_wire::table;
use rhai::{AST, Dynamic, Engine, EvalAltResult, Scope};
use serde_json::{Map, Value, json};

use crate::clock::BootTime;
use crate::convert;
use crate::core::Core;
use crate::execute;
use crate::explain;
use crate::gate::Refusal;
use crate::handle::{self, Handle};
use crate::host::{self, EvalTag, MODULE};
use crate::records;
use crate::run::Run;
use crate::script::cells;
use crate::script::engine::{self, EVAL};
use crate::script::meter::{self, End};
use crate::script::nesting::{self, MAX_NESTING};
use crate::script::walk;
use crate::session::{Session, Workspace};
use crate::state::{Path, Tree};
use crate::values;

/// The most output of one eval, in bytes.
const MAX_OUTPUT: usize = 1 << 20;
/// The most bytes of one `output` message.
const OUTPUT_CHUNK: usize = 64 << 10;
/// The longest displayed result, in bytes.
const MAX_RESULT: usize = 256 << 10;

/// How long an eval waits for a slow client to take what was said before the session is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// An eval whose signature was verified, as it waits for its turn.
pub(crate) struct Submission {
    /// Whose.
    pub(crate) session: Arc<Session>,
    /// The id of the call.
    pub(crate) call: u64,
    /// As received.
    pub(crate) params: EvalParams,
    /// What it was signed with.
    pub(crate) counter: u64,
    /// Set when it is cancelled.
    pub(crate) cancelled: Arc<AtomicBool>,
}

/// Why an eval failed, for its reply and its record.
struct Failed {
    code: Code,
    message: String,
    help: String,
}

impl Failed {
    fn new(code: Code, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: help.into() }
    }
}

/// The functions that have a thread of their own, each as a call by itself.
const RESERVED: [&str; 5] = ["revert", "revert_all", "leases", "confirm", "extend"];

/// Whether code is one call that has a thread of its own, with nothing but words, numbers and plain texts as arguments.
/// Looked at before it is parsed: what is more than that must not get near the thread on which changes are ended.
pub(crate) fn is_reserved_call(payload: &str) -> bool {
    let payload: Option<Value> = serde_json::from_str(payload).ok();
    let code =
        payload.as_ref().and_then(|payload| payload["code"].as_str()).map(str::trim).unwrap_or_default();
    let code = code.strip_suffix(';').unwrap_or(code).trim_end();
    let Some((name, rest)) = code.split_once('(') else { return false };
    let Some(arguments) = rest.strip_suffix(')').map(str::trim) else { return false };
    let word = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let text = |text: &str| {
        let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        inner.is_some_and(|inner| inner.bytes().all(|b| b.is_ascii_alphanumeric() || b == b' '))
    };
    let plain = |argument: &str| !argument.is_empty() && (word(argument) || text(argument));
    RESERVED.contains(&name.trim_end())
        && (arguments.is_empty() || arguments.split(',').map(str::trim).all(plain))
}

/// Evaluates a submission and answers it. Never panics: the thread has other evals to run.
pub(crate) fn evaluate(core: &Arc<Core>, submission: Submission) {
    core.sweep();
    let session = submission.session.clone();
    let call = submission.call;
    // What an eval leaves half done is either dropped with it or belongs to its leases.
    let reply = catch_unwind(AssertUnwindSafe(|| match accept(core, submission) {
        Ok(accepted) => answer(core, accepted),
        Err(failed) => failure(core, call, failed, None),
    }));
    session.finish(call);
    core.scrubber.forget(&arguments_of(&session, call));
    match reply {
        // A client that is gone does not read its reply; the log has the outcome.
        Ok(reply) => drop(session.outbox.send_patiently(reply, PATIENCE)),
        Err(panic) => {
            // Its text is not shown: whose code panicked is not known, and what it says may be secret.
            drop(catch_unwind(AssertUnwindSafe(|| drop(panic))));
            core.append(vec![records::kept(
                "alarm",
                json!({ "session": session.id, "panicked": "an eval" }),
            )]);
            core.emitter
                .alarm("an eval panicked inside the agent; its session is closed, its changes will revert");
            session.outbox.close();
        }
    }
    // A lease may have been made after its session had been given up, and this may have been its last eval.
    crate::dispatch::detach(core, &session);
}

/// An eval that was recorded and may run.
struct Accepted {
    run: Arc<Run>,
    engine: Engine,
    ast: AST,
    scope: Scope<'static>,
    reserved: bool,
}

/// Everything before the first operation: bounds, secrets, the record, syntax.
fn accept(core: &Arc<Core>, submission: Submission) -> Result<Accepted, Failed> {
    let Submission { session, call, params, counter, cancelled } = submission;
    if cancelled.load(std::sync::atomic::Ordering::Relaxed) {
        // Nothing ran. Its session may be closed in the log already, so it is no record of that session's evals.
        let digest = core.digest(&Tree::Str(params.payload.clone()));
        core.append(vec![records::record(
            "eval.refused",
            json!({ "session": session.id, "counter": counter, "operator": session.operator.spiffe,
                "refused": "cancelled before it ran", "payload": digest }),
        )]);
        return Err(Failed::new(Code::Cancelled, "the eval was cancelled", "nothing was changed"));
    }
    let payload =
        EvalPayload::parse(&params.payload).map_err(|f| Failed::new(f.data.code, f.message, f.data.help))?;
    if holds_secret(core, &payload) && !is_reserved_call(&params.payload) {
        let digest = core.digest(&Tree::Str(params.payload.clone()));
        let body = json!({ "session": session.id, "counter": counter, "operator": session.operator.spiffe, "refused": "holds a secret", "payload": digest });
        durable(core, vec![records::record("eval.refused", body)])?;
        return Err(Failed::new(
            Code::Denied,
            "the code or its arguments hold what is or looks like a secret; it was neither run nor recorded",
            "bind the secret: `debugctl eval … --arg-secret name=@FILE`, and use `name` in the code",
        ));
    }
    let mut engine = engine::for_eval();
    let compiled = engine.compile(&payload.code);
    let single = compiled.as_ref().ok().and_then(walk::single_call);
    let emergency = single.as_deref().and_then(table::function).is_some_and(|f| f.emergency);
    let record = record_eval(core, &session, &params, counter, emergency)?;
    let run = Arc::new(Run::new(session.clone(), call, cancelled, record, payload.after, emergency));
    let ast = match compiled.map_err(|e| syntax(&e.to_string())).and_then(check_names) {
        Ok(ast) => ast,
        Err(failed) => return Err(finish_failed(core, &run, failed, Instant::now()).0),
    };
    let scope = bind(core, &payload, &params, &arguments_of(&session, call))
        .map_err(|failed| finish_failed(core, &run, failed, Instant::now()).0)?;
    prepare(&mut engine, core, &run);
    Ok(Accepted { run, engine, ast, scope, reserved: single.is_some() && is_reserved(single.as_deref()) })
}

/// Whether code or arguments hold what is or looks like a secret. Single calls that end changes are not asked: they hold
/// no more than words, and must work whatever somebody made a secret.
fn holds_secret(core: &Core, payload: &EvalPayload) -> bool {
    let arguments = Value::Object(payload.args.clone().into_iter().collect()).to_string();
    core.holds_secret(&payload.code)
        || crate::state::has_secret_shape(&payload.code)
        || core.holds_secret(&arguments)
}

fn is_reserved(name: Option<&str>) -> bool {
    name.is_some_and(|name| RESERVED.contains(&name))
}

fn syntax(message: &str) -> Failed {
    Failed::new(Code::Eval, message, "nothing ran")
}

fn check_names(ast: AST) -> Result<AST, Failed> {
    if let Some(position) = walk::closures(&ast).curry {
        return Err(Failed::new(
            Code::Eval,
            format!("`curry` is not part of this language ({position})"),
            "write a closure that captures, as in `|x| f.call(1, x)`",
        ));
    }
    match walk::defined(&ast).into_iter().find(|(name, _)| host::is_host_function(name)) {
        None => Ok(ast),
        Some((name, _)) => Err(Failed::new(
            Code::Eval,
            format!("`{name}` is a host function; a script may not define another"),
            "give your function another name",
        )),
    }
}

/// Writes the eval's record before anything runs, so that it survives the death of the process.
fn record_eval(
    core: &Core,
    session: &Session,
    params: &EvalParams,
    counter: u64,
    emergency: bool,
) -> Result<u64, Failed> {
    let (mut entries, members) = records::parted("eval.part", "payload", &params.payload);
    let mut body = json!({
        "session": session.id, "operator": session.operator.spiffe, "counter": counter, "sig": params.sig,
    });
    if let Value::Object(body) = &mut body {
        body.extend(members);
    }
    let mut entry = records::record("eval", body);
    entry.keep = emergency;
    entries.push(entry);
    for part in &mut entries {
        part.keep = emergency;
    }
    match core.log.append(entries, Until::Written).written() {
        Ok(range) => Ok(range.end.saturating_sub(1)),
        Err(AppendError::Held) => Ok(HELD),
        Err(error) => Err(unwritable(&error)),
    }
}

/// The number of a record that has none yet, because it waits in memory for the disk.
pub(crate) const HELD: u64 = u64::MAX;

fn unwritable(error: &AppendError) -> Failed {
    Failed::new(
        Code::Audit,
        format!("the audit log cannot be written: {error}"),
        "nothing runs without its record; `revert(id)`, `revert_all()`, `leases()`, `info()`, `sessions()` and `help()` still work, each as a call of its own",
    )
}

fn durable(core: &Core, entries: Vec<debug_audit::Entry>) -> Result<(), Failed> {
    core.log.append(entries, Until::Durable).durable().map(drop).map_err(|e| unwritable(&e))
}

/// The most secret arguments of an eval, and the most bytes that they have together: each is searched for in all that
/// leaves while the eval runs.
const MAX_SECRET_ARGUMENTS: usize = 16;
const MAX_SECRETS: usize = 32 << 10;

/// Where the secret arguments of a call are known by, as long as it runs.
fn arguments_of(session: &Session, call: u64) -> Path {
    Path(vec![format!("arguments of call {call} of session {}", session.id)])
}

/// Binds arguments by name. A secret one is opaque, and its commitment was signed.
fn bind(
    core: &Core,
    payload: &EvalPayload,
    params: &EvalParams,
    bound: &Path,
) -> Result<Scope<'static>, Failed> {
    let bytes: usize = params.secrets.values().map(|argument| argument.value.len()).sum();
    if bytes > MAX_SECRETS || params.secrets.len() > MAX_SECRET_ARGUMENTS {
        let message = format!(
            "{} secret arguments of {bytes} bytes; at most {MAX_SECRET_ARGUMENTS} of {MAX_SECRETS} in all are taken",
            params.secrets.len()
        );
        return Err(Failed::new(Code::Limit, message, "bind fewer or shorter ones"));
    }
    let mut scope = Scope::new();
    for (name, value) in &payload.args {
        check_argument(name)?;
        scope.push_dynamic(name.clone(), values::argument(values::from_json(value)));
    }
    if payload.secret_args.len() != params.secrets.len() {
        return Err(Failed::new(
            Code::Params,
            "secret arguments and their commitments differ in number",
            "use `--arg-secret`",
        ));
    }
    for (name, argument) in &params.secrets {
        check_argument(name)?;
        let salt = decode_salt(&argument.salt);
        let commitment: Option<[u8; 32]> =
            salt.map(|salt| debug_wire::signature::secret_commitment(&salt, argument.value.as_bytes()));
        let matches = commitment
            .is_some_and(|c| payload.secret_args.get(name).is_some_and(|signed| *signed == hex(&c)));
        if !matches {
            return Err(Failed::new(
                Code::Params,
                format!("the secret argument `{name}` is not the one that was signed"),
                "use `--arg-secret`",
            ));
        }
        core.scrubber.learn(&bound.child(name), &Tree::Secret(Box::new(Tree::Str(argument.value.clone()))));
        scope.push_dynamic(name.clone(), values::bound_secret(name, &argument.value, &core.keyed));
    }
    Ok(scope)
}

fn check_argument(name: &str) -> Result<(), Failed> {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if plain && !host::is_host_function(name) {
        return Ok(());
    }
    Err(Failed::new(
        Code::Params,
        format!("`{name}` is no name for an argument"),
        "use letters, digits and `_`",
    ))
}

fn decode_salt(text: &str) -> Option<[u8; 32]> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()?.try_into().ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Gives an eval's engine its host functions, its state names and its output.
fn prepare(engine: &mut Engine, core: &Arc<Core>, run: &Arc<Run>) {
    engine.register_global_module(MODULE.clone());
    let tag = EvalTag { core: core.clone(), run: run.clone() };
    engine.register_global_module(handle::loops(tag.clone()));
    engine.set_default_tag(Dynamic::from(tag.clone()));
    #[expect(deprecated, reason = "Rhai marks it so because it may change; the version is pinned")]
    engine.on_var(move |name, _, context| {
        if tag.run.watches() {
            cells::check_variable(name, &context)?;
        }
        // Locals and parameters come first: `let config = 5` must mean 5. What works without a log reads no state.
        if tag.run.emergency() || context.scope().contains(name) || tag.core.states.named(name).is_err() {
            return Ok(None);
        }
        handle::resolve(&tag, Path(vec![name.to_owned()])).map(Some)
    });
}

/// Streams what a script prints, in chunks, without the secrets that are known.
pub(crate) fn print(core: &Core, run: &Run, text: &str) {
    let outbox = &run.session.outbox;
    let line = format!("{}\n", run.scrub(core, text));
    if !run.may_send(line.len(), MAX_OUTPUT) {
        meter::end(End::Size);
        return;
    }
    // What is printed may be the last anyone sees of the process; its record must be on disk before that.
    if core.log.append(Vec::new(), Until::Durable).durable().is_err() {
        meter::end(End::Refused);
        return;
    }
    let mut rest = line.as_str();
    while !rest.is_empty() {
        let mut at = rest.len().min(OUTPUT_CHUNK);
        while !rest.is_char_boundary(at) {
            at -= 1;
        }
        let (chunk, tail) = rest.split_at(at);
        rest = tail;
        let output = Output { id: run.call, text: chunk.to_owned() };
        let sent =
            FromAgent::notification("output", &output).ok().map(|m| outbox.send_patiently(m, PATIENCE));
        if !matches!(sent, Some(Ok(()))) {
            meter::end(End::Cancelled);
            return;
        }
    }
}

/// Runs what was accepted, and answers.
fn answer(core: &Arc<Core>, accepted: Accepted) -> FromAgent {
    let started = Instant::now();
    let run = accepted.run.clone();
    match execute_code(core, accepted) {
        Ok((display, value)) => succeed(core, &run, display, value, started),
        Err(failed) => {
            let (failed, audit) = finish_failed(core, &run, failed, started);
            failure(core, run.call, failed, audit)
        }
    }
}

/// Runs the code in the operator's workspace, which is put back if it fails.
fn execute_code(core: &Arc<Core>, accepted: Accepted) -> Result<(String, Value), Failed> {
    let Accepted { run, engine, ast, scope: arguments, reserved } = accepted;
    if run.is_cancelled() {
        return Err(cancelled(&run));
    }
    if reserved {
        // It must not wait for the workspace, which a running eval of the same session holds.
        let mut scope = arguments;
        return run_code(core, &run, &engine, &ast, &mut scope);
    }
    let mut workspace = run.session.workspace();
    // Of two functions with one name and arity, the newer one counts.
    let ast = workspace.functions.merge(&ast);
    let functions = ast.clone_functions_only();
    // A copy: what closures share with the variables that are put back if it fails must not change with it.
    let mut scope = cells::copy(&workspace.scope);
    let before = scope.len();
    for (name, _, value) in arguments.iter() {
        scope.push_dynamic(name.to_owned(), value);
    }
    cells::freeing(|| {
        let result = run_code(core, &run, &engine, &ast, &mut scope)?;
        // The arguments are gone with the eval; what it declared itself stays.
        let given = before..before + arguments.len();
        let kept = Workspace { scope: cells::select(&scope, |place| !given.contains(&place)), functions };
        check_workspace(&run, &kept)?;
        cells::keep(&kept.scope);
        *workspace = kept;
        Ok(result)
    })
}

/// The most functions, closures included, that a session keeps: every closure ever typed is one.
const MAX_SESSION_FUNCTIONS: usize = 2_000;
/// The most that a session keeps between evals, as displayed: 16 MiB.
const MAX_WORKSPACE: usize = 16 << 20;

fn check_workspace(run: &Run, workspace: &Workspace) -> Result<(), Failed> {
    let functions = workspace.functions.iter_functions().count();
    if functions > MAX_SESSION_FUNCTIONS {
        let message = format!("the session has {functions} functions, the limit is {MAX_SESSION_FUNCTIONS}");
        return Err(Failed::new(Code::Limit, message, "attach again: a new session starts empty"));
    }
    // Deeper values may only exist while a thread with a large stack is there to drop them.
    if let Some((name, ..)) = workspace.scope.iter_raw().find(|(_, _, value)| !nesting::fits(value)) {
        return Err(Failed::new(
            Code::Limit,
            format!(
                "the variable `{name}` nests deeper than {MAX_NESTING} levels, or closures in closures too deeply"
            ),
            format!("{}; keep flatter values", explain::undone(run)),
        ));
    }
    let size = cells::size(&workspace.scope);
    if size <= MAX_WORKSPACE {
        return Ok(());
    }
    Err(Failed::new(
        Code::Limit,
        format!("the session's variables hold {size} bytes, the limit is {MAX_WORKSPACE}"),
        "let go of some: `big = ()`",
    ))
}

fn run_code(
    core: &Arc<Core>,
    run: &Arc<Run>,
    engine: &Engine,
    ast: &AST,
    scope: &mut Scope<'static>,
) -> Result<(String, Value), Failed> {
    run.set_functions(ast.clone_functions_only(), walk::closures(ast).capture);
    let ((result, shown), end, _) =
        meter::metered(EVAL, BootTime::now(), Some(run.cancelled.clone()), || {
            let result = engine.eval_ast_with_scope::<Dynamic>(scope, ast);
            let shown = result.as_ref().ok().map(|value| show(core, run, value));
            (result, shown)
        });
    if let Some(refusal) = run.refusal() {
        return Err(refused(refusal));
    }
    if let Some(end) = end {
        return Err(ended(run, end));
    }
    if let Err(error) = result {
        return Err(script_error(core, run, &error));
    }
    let (display, value) = shown.unwrap_or_default();
    if display.len() > MAX_RESULT {
        let message = format!("the result has {} bytes, the limit is {MAX_RESULT}", display.len());
        return Err(Failed::new(Code::Limit, message, "ask for a part of it"));
    }
    Ok((display, value))
}

/// A handle as the result is read whole, through the gate like any read.
fn show(core: &Arc<Core>, run: &Arc<Run>, value: &Dynamic) -> (String, Value) {
    let handle = value.read_lock::<Handle>().map(|h| h.clone());
    let whole = handle.and_then(|handle| {
        let tag = EvalTag { core: core.clone(), run: run.clone() };
        handle::contents(&tag, &handle).ok()
    });
    let value = whole.as_ref().unwrap_or(value);
    if let Some(sentence) = values::said(value) {
        return (sentence.clone(), sentence.into());
    }
    let display = if value.is_unit() { String::new() } else { convert::display(value) };
    (display, convert::to_json(value))
}

fn cancelled(run: &Run) -> Failed {
    Failed::new(Code::Cancelled, "the eval was cancelled", explain::undone(run))
}

fn ended(run: &Run, end: End) -> Failed {
    let limit = |what: String| {
        Failed::new(Code::Limit, what, format!("{}; ask for less at a time", explain::undone(run)))
    };
    match end {
        End::Operations => limit(format!("the eval used more than {} operations", EVAL.operations)),
        End::Time => limit(format!("the eval took longer than {} s", EVAL.time.as_secs())),
        End::Size => limit("the eval made something larger than allowed".to_owned()),
        End::Cancelled => cancelled(run),
        End::Refused => Failed::new(Code::Audit, "the audit log cannot be written", explain::undone(run)),
    }
}

fn refused(refusal: Refusal) -> Failed {
    match refusal {
        Refusal::Denied(denial) => {
            let rules: Vec<String> =
                denial.rules.iter().map(|rule| format!("`{}` ({})", rule.id, rule.why)).collect();
            let by = if rules.is_empty() { String::new() } else { format!(" by rule {}", rules.join(", ")) };
            Failed::new(
                Code::Denied,
                format!("denied: {} {}{by}", denial.action, denial.resource),
                denial.help,
            )
        }
        Refusal::Log(error) => unwritable(&error),
        Refusal::State { message, help } => Failed::new(Code::State, message, help),
    }
}

fn script_error(core: &Core, run: &Run, error: &EvalAltResult) -> Failed {
    let limit = matches!(
        error,
        EvalAltResult::ErrorTooManyOperations(_)
            | EvalAltResult::ErrorStackOverflow(_)
            | EvalAltResult::ErrorDataTooLarge(..)
            | EvalAltResult::ErrorTooManyVariables(_)
    );
    let code = if limit { Code::Limit } else { Code::Eval };
    let (message, help) = explain::script_error(core, run, error);
    Failed { code, message, help }
}

/// The outcome of a failed eval: undo, record, and only then the reply.
fn finish_failed(core: &Core, run: &Run, failed: Failed, started: Instant) -> (Failed, Option<AuditRange>) {
    let undone = execute::undo(core, run);
    let mut body = outcome_body(run, started);
    drop(run.scrub(core, &failed.message)); // Tells of a secret in it. The record shows none, not even a revealed one.
    let message = cut(&core.scrub(&failed.message));
    body.insert("error".to_owned(), json!({ "code": failed.code, "message": message }));
    body.insert("undone".to_owned(), undone.into());
    match record_outcome(core, run, body) {
        Ok(audit) => (failed, audit),
        Err(error) => {
            let lost = unwritable(&error);
            let message = format!("{}; and {}", failed.message, lost.message);
            (Failed { code: Code::Audit, message, help: lost.help }, None)
        }
    }
}

/// The longest text of an error that a record holds, in bytes: with every byte escaped it still fits a line.
const MAX_ERROR: usize = 4_000;

/// The beginning of a text, and how long it was.
pub(crate) fn cut(text: &str) -> String {
    if text.len() <= MAX_ERROR {
        return text.to_owned();
    }
    let end = (0..=MAX_ERROR).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}… ({} bytes)", &text[..end], text.len())
}

fn outcome_body(run: &Run, started: Instant) -> Map<String, Value> {
    let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    Map::from_iter([
        ("eval".to_owned(), run.record_number().into()),
        ("session".to_owned(), run.session.id.into()),
        ("operator".to_owned(), run.session.operator.spiffe.as_str().into()),
        ("micros".to_owned(), micros.into()),
    ])
}

/// Appends the outcome and waits until it is on disk; no reply leaves before.
fn record_outcome(
    core: &Core,
    run: &Run,
    body: Map<String, Value>,
) -> Result<Option<AuditRange>, AppendError> {
    let outcome = if body.contains_key("error") { "error" } else { "ok" };
    let mut entry = records::record("outcome", Value::Object(body));
    entry.keep = run.emergency();
    match core.log.append(vec![entry], Until::Durable).durable() {
        Ok(receipt) => {
            core.emitter.recorded(&run.session.operator.name, "eval", outcome, receipt.last);
            let first = run.record_number().min(receipt.last);
            Ok(Some(AuditRange {
                eval: first,
                first,
                last: receipt.last,
                checkpoint: receipt.checkpoint.to_string(),
            }))
        }
        Err(AppendError::Held) => {
            run.hold();
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn succeed(core: &Core, run: &Run, display: String, value: Value, started: Instant) -> FromAgent {
    // What was revealed is what the reply is for; everything else leaves scrubbed.
    let (display, value) = (run.scrub(core, &display), scrub_value(core, run, value));
    let mut body = outcome_body(run, started);
    body.insert("result".to_owned(), core.digest(&Tree::Str(display.clone())));
    let audit = match record_outcome(core, run, body) {
        Ok(audit) => audit,
        Err(error) => {
            // What it did stands in no outcome; it must not stand at all.
            execute::undo(core, run);
            return failure(core, run.call, unwritable(&error), None);
        }
    };
    let mut warnings = Vec::new();
    if run.held() || audit.is_none() {
        warnings
            .push("not yet on disk: the audit log cannot be written; the records wait in memory".to_owned());
    }
    let result = EvalResult {
        value,
        display,
        leases: run.touched().into_iter().map(|id| summary(core, id)).collect(),
        mode: run.session.mode().0,
        audit,
        warnings,
    };
    FromAgent::success(run.call, &result)
}

/// Scrubs every text of a JSON value.
fn scrub_value(core: &Core, run: &Run, value: Value) -> Value {
    match value {
        Value::String(text) => run.scrub(core, &text).into(),
        Value::Array(items) => items.into_iter().map(|item| scrub_value(core, run, item)).collect(),
        Value::Object(entries) => {
            entries.into_iter().map(|(k, v)| (run.scrub(core, &k), scrub_value(core, run, v))).collect()
        }
        other => other,
    }
}

/// A lease as replies show it, ended ones too.
pub(crate) fn summary(core: &Core, id: u64) -> LeaseSummary {
    match core.leases.find(id) {
        Ok(lease) => LeaseSummary {
            id,
            target: lease.target().to_string(),
            state: lease.phase.name().to_owned(),
            remaining_ms: u64::try_from(lease.deadline.remaining(BootTime::now()).as_millis())
                .unwrap_or(u64::MAX),
        },
        Err(error) => {
            let state = match error {
                crate::lease::EndError::Ended { how, .. } => how,
                _ => "ended",
            };
            LeaseSummary { id, target: String::new(), state: state.to_owned(), remaining_ms: 0 }
        }
    }
}

fn failure(core: &Core, call: u64, failed: Failed, audit: Option<AuditRange>) -> FromAgent {
    let mut failure = Failure::new(failed.code, core.scrub(&failed.message), failed.help);
    failure.data.audit = audit;
    crate::dispatch::failed(call, failure)
}
