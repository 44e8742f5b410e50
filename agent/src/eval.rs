//! One eval, from its signed payload to its reply: record it, run it, undo it if it fails, record the outcome, reply.

mod accept;
pub(crate) mod explain;
mod outcome;
pub(crate) mod queue;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use debug_wire::messages::{Code, EvalParams, EvalPayload, Failure, FromAgent};
use debug_wire::records::Alarm;
use debug_wire::table::Function;
use rhai::{AST, Dynamic, Engine, FnPtr, Scope};
use serde_json::Value;

use crate::core::Core;
use crate::host::output::{self, PATIENCE};
use crate::host::planned;
use crate::host::{self, EvalTag};
use crate::recorder::records;
use crate::session::context::EvalContext;
use crate::session::limits::MAX_RESULT;
use crate::session::{Session, Workspace};
use accept::{AcceptedEval, accept, tell_missing};
use debug_base::{BootTime, Panicked, fenced};
use debug_script::copies::Switched;
use debug_script::engine::EVAL;
use debug_script::meter::{self, RunBounds};
use debug_script::nesting::{self, MAX_NESTING};
use debug_script::{convert, memory, values, walk};
use debug_state as state;
use outcome::{EvalFailure, failure, finish_failed, succeed};

pub(crate) use outcome::{failed, summary};

/// An eval with a verified signature, queued to run.
pub(crate) struct Submission {
    /// The session it came from.
    pub(crate) session: Arc<Session>,
    /// The id of the call.
    pub(crate) call: u64,
    /// The parameters as received.
    pub(crate) params: EvalParams,
    /// The payload, if it is short; longer ones are parsed on the thread of evals.
    pub(crate) payload: Option<Result<EvalPayload, Failure>>,
    /// The function, if the payload is a single call of it.
    pub(crate) single: Option<&'static Function>,
    /// The counter that it was signed with.
    pub(crate) counter: u64,
    /// Set when it is cancelled.
    pub(crate) cancelled: Arc<AtomicBool>,
}

impl Submission {
    /// An eval of a session, to run on the thread that its payload allows.
    pub(crate) fn new(
        session: &Arc<Session>,
        call: u64,
        params: EvalParams,
        counter: u64,
        cancelled: Arc<AtomicBool>,
    ) -> Self {
        let payload = EvalPayload::parse_short(&params.payload);
        let single = payload
            .as_ref()
            .and_then(|payload| payload.as_ref().ok()?.single_call());
        Self {
            session: session.clone(),
            call,
            params,
            payload,
            single,
            counter,
            cancelled,
        }
    }
}

/// Evaluates a submission and replies. A panic ends this eval and its session; the thread and the rest of this function
/// go on.
pub(crate) fn evaluate(core: &Arc<Core>, submission: Submission) {
    core.guarded("looking for what is overdue", || core.sweep());
    let session = submission.session.clone();
    let call = submission.call;
    // Unwind safe: what a panicking eval leaves half done is dropped with it or belongs to its leases.
    let mut running = None;
    let reply = fenced(|| match accept(core, submission) {
        Ok(accepted) => {
            running = Some(accepted.run.clone());
            answer(core, accepted)
        }
        Err(failed) => failure(core, call, failed),
    });
    session.finish(call);
    match reply {
        // A client that is gone does not read its reply; the log has the outcome.
        Ok(reply) => drop(session.outbox.send_patiently(reply, PATIENCE)),
        Err(Panicked) => {
            let failed = core.guarded("an eval", || panicked(core, &session, running.as_deref()));
            let reply = failed.map(|failed| core.guarded("a reply", || failure(core, call, failed)));
            if let Some(Some(reply)) = reply {
                drop(session.outbox.send_patiently(reply, PATIENCE));
            }
            session.outbox.close();
        }
    }
    // The eval may have made a lease after its session was closed, and it may have been the session's last.
    core.guarded("the end of a session", || core.detach(&session));
}

/// Cleans up after an eval that panicked. The panic's text is not shown: it may come from the service's code and may
/// hold a secret.
fn panicked(core: &Core, session: &Session, run: Option<&EvalContext>) -> EvalFailure {
    core.recorder.append(vec![records::kept(&Alarm {
        session: Some(session.id),
        panicked: Some("an eval".to_owned()),
        ..Alarm::default()
    })]);
    core.faults.panicked("an eval");
    core.recorder
        .emitter
        .alarm("an eval panicked inside the agent; its session is closed, its changes are undone");
    let failed = |help: &str| EvalFailure::new(Code::Internal, "the eval panicked inside the agent", help);
    match run {
        Some(run) => finish_failed(core, run, failed(explain::undone(run)), Instant::now()),
        None => failed("nothing was changed; attach again"),
    }
}

/// Runs an accepted eval and replies.
fn answer(core: &Arc<Core>, accepted: AcceptedEval) -> FromAgent {
    let started = Instant::now();
    let run = accepted.run.clone();
    match execute_code(core, accepted, started) {
        Ok(reply) => reply,
        Err(failed) => failure(core, run.call, finish_failed(core, &run, failed, started)),
    }
}

/// Runs the code in the operator's workspace, and restores the workspace if the code fails.
fn execute_code(
    core: &Arc<Core>,
    accepted: AcceptedEval,
    started: Instant,
) -> Result<FromAgent, EvalFailure> {
    let AcceptedEval {
        run,
        mut engine,
        code,
        ast,
        scope: arguments,
        reserved,
    } = accepted;
    // A single call that ends or keeps changes commits before it runs: it is cancelled before that, or not at all.
    if run.is_cancelled() || reserved && !run.session.commit(run.call) {
        return Err(outcome::cancelled(&run));
    }
    if reserved {
        // It must not wait for the workspace lock, which a running eval of the same session holds.
        let mut scope = arguments;
        let (display, value) = run_code(core, &run, &engine, &code, &ast, &mut scope)?;
        return Ok(succeed(core, &run, display, value, started).unwrap_or_else(|failed| *failed));
    }
    let mut workspace = run.session.workspace();
    tell_missing(&mut engine, core, &run, &ast, &workspace.scope);
    // Of two functions with the same name and arity the newer one wins.
    let ast = workspace.functions.merge(&ast);
    let functions = ast.clone_functions_only();
    // Work on a copy: closures share variables, and a failed eval must leave the session's variables unchanged.
    let mut scope = memory::copy(&workspace.scope);
    let before = scope.len();
    for (name, _, value) in arguments.iter() {
        scope.push_dynamic(name.to_owned(), value);
    }
    memory::freeing(memory::EVAL, || {
        let result = run_code(core, &run, &engine, &code, &ast, &mut scope);
        let result = result.inspect_err(|_| tell_planned(core, &run))?;
        // Drop the arguments, keep the variables that the eval declared.
        let given = before..before + arguments.len();
        let kept = Workspace {
            scope: memory::select(&scope, |place| !given.contains(&place)),
            functions,
        };
        if !run.is_planning() {
            check_workspace(&run, &kept)?;
        }
        // All effects are made. Commit: from here on a cancellation comes too late.
        if !run.session.commit(run.call) {
            return Err(outcome::cancelled(&run));
        }
        if let Some(planned) = run.end_plan() {
            // A plan keeps no variables.
            let (display, value) = (
                planned::text(core, &planned),
                convert::to_json(&planned::rows(core, planned)),
            );
            return Ok(succeed(core, &run, display, value, started).unwrap_or_else(|failed| *failed));
        }
        memory::keep(&kept.scope);
        let (display, value) = result;
        let before = std::mem::replace(&mut *workspace, kept);
        Ok(
            succeed(core, &run, display, value, started).unwrap_or_else(|failed| {
                // The outcome is not on disk, so the eval must leave nothing behind.
                *workspace = before;
                *failed
            }),
        )
    })
}

/// Prints what a plan listed before its code failed.
fn tell_planned(core: &Core, run: &EvalContext) {
    if let Some(text) = run
        .end_plan()
        .and_then(|planned| planned::up_to_failure(core, &planned))
    {
        output::print(core, run, &text);
    }
}

/// The most functions, closures included, that a session keeps: every closure that an eval contains adds one.
const MAX_SESSION_FUNCTIONS: usize = 2_000;

/// The most that a session keeps between evals, as displayed, in bytes: 16 MiB.
const MAX_WORKSPACE: usize = 16 << 20;

fn check_workspace(run: &EvalContext, workspace: &Workspace) -> Result<(), EvalFailure> {
    let functions = workspace.functions.iter_functions().count();
    if functions > MAX_SESSION_FUNCTIONS {
        let message = format!("the session has {functions} functions, the limit is {MAX_SESSION_FUNCTIONS}");
        return Err(EvalFailure::new(
            Code::Limit,
            message,
            "attach again: a new session starts empty",
        ));
    }
    // Deeper values may exist only on a thread with a stack large enough to drop them.
    if let Some((name, ..)) = workspace
        .scope
        .iter_raw()
        .find(|(_, _, value)| !nesting::fits(value))
    {
        return Err(EvalFailure::new(
            Code::Limit,
            format!(
                "the variable `{name}` nests deeper than {MAX_NESTING} levels, or closures in closures too deeply"
            ),
            format!("{}; keep flatter values", explain::undone(run)),
        ));
    }
    let size = memory::size(&workspace.scope);
    if size <= MAX_WORKSPACE {
        return Ok(());
    }
    Err(EvalFailure::new(
        Code::Limit,
        format!("the session's variables hold {size} bytes, the limit is {MAX_WORKSPACE}"),
        "let go of some: `big = ()`",
    ))
}

/// How long a single call that ends changes may take. It asks the service about each change, and its reply must tell
/// the operator the outcome of every one.
const EMERGENCY: Duration = Duration::from_secs(60);

fn run_code(
    core: &Arc<Core>,
    run: &Arc<EvalContext>,
    engine: &Engine,
    code: &str,
    ast: &AST,
    scope: &mut Scope<'static>,
) -> Result<(String, Value), EvalFailure> {
    run.set_functions(ast.clone_functions_only(), walk::closures(ast).capture);
    run.set_switched(Switched::of(ast));
    let bounds = if run.emergency() {
        RunBounds {
            time: EMERGENCY,
            ..EVAL
        }
    } else {
        EVAL
    };
    // What this thread spent on cells before belongs to other evals.
    state::take_asked();
    let ((result, shown), end, _) =
        meter::metered(bounds, BootTime::now(), Some(run.cancelled.clone()), || {
            host::within(
                EvalTag {
                    core: core.clone(),
                    run: run.clone(),
                },
                || {
                    let result = engine.eval_ast_with_scope::<Dynamic>(scope, ast);
                    let shown = result
                        .as_ref()
                        .ok()
                        .map(|value| show(value, walk::names_value(ast)));
                    (result, shown)
                },
            )
        });
    if let Some(refusal) = run.refusal() {
        return Err(outcome::refused(refusal));
    }
    if let Some(end) = end {
        return Err(outcome::ended(run, end));
    }
    if let Err(error) = result {
        let is_closure = |name: &str| {
            scope.get(name).map_or_else(
                || walk::is_declared(ast, name),
                |value| value.is_locked() || value.read_lock::<FnPtr>().is_some(),
            )
        };
        return Err(outcome::script_error(core, run, code, is_closure, &error));
    }
    let (display, value) = shown.unwrap_or_default();
    if display.len() > MAX_RESULT {
        let message = format!(
            "the result has {} bytes, the limit is {MAX_RESULT}",
            display.len()
        );
        return Err(EvalFailure::new(Code::Limit, message, "ask for a part of it"));
    }
    Ok((display, value))
}

/// Displays a result. Handles in it are read whole, through the gate like any read. `()` is shown only where the code
/// names a value that is `()`.
fn show(value: &Dynamic, is_named: bool) -> (String, Value) {
    // A read that was refused has already ended the eval.
    let Ok(value) = debug_script::handle::settled(value) else {
        return Default::default();
    };
    if let Some(sentence) = values::message_text(&value) {
        return (sentence.clone(), sentence.into());
    }
    let display = if value.is_unit() && !is_named {
        String::new()
    } else {
        convert::display(&value)
    };
    (display, convert::to_json(&value))
}
