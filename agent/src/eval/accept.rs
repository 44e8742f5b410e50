//! The steps before an eval's first operation: bounds, secrets, syntax, its record.

use std::sync::Arc;
use std::time::Instant;

use debug_audit::{AppendError, Until};
use debug_policy::Mode;
use debug_wire::messages::{After, Code, EvalParams, EvalPayload};
use debug_wire::records::{Eval, EvalPart, EvalRefused};
use rhai::{AST, Dynamic, Engine, ParseError, Scope};
use serde_json::Value;

use super::Submission;
use super::outcome::{self, EvalFailure, HELD, unwritable};
use crate::core::Core;
use crate::eval::explain;
use crate::execute::missing::BIND_SECRET;
use crate::host::handle;
use crate::host::{self, EvalTag, MODULE};
use crate::recorder::records;
use crate::session::Session;
use crate::session::context::EvalContext;
use crate::session::planning::Planning;
use crate::session::shapes;
use debug_base::{Path, Tree};
use debug_script::copies::{self, Lost};
use debug_script::{engine, memory, roots, values, walk};

/// An eval that is recorded and may run.
pub(super) struct AcceptedEval {
    pub(super) run: Arc<EvalContext>,
    pub(super) engine: Engine,
    pub(super) code: String,
    pub(super) ast: AST,
    pub(super) scope: Scope<'static>,
    pub(super) reserved: bool,
}

/// The steps before the first operation: bounds, secrets, syntax, the record.
pub(super) fn accept(core: &Arc<Core>, submission: Submission) -> Result<AcceptedEval, EvalFailure> {
    let Submission {
        session,
        call,
        params,
        payload,
        single,
        counter,
        cancelled,
    } = submission;
    if cancelled.load(std::sync::atomic::Ordering::Relaxed) {
        // Nothing ran. The log may hold the close record of the session already, so this is not recorded as an eval of
        // it.
        let digest = core.recorder.digest(&Tree::Str(params.payload.clone()));
        let body = refused(&session, counter, "cancelled before it ran", digest);
        durable(core, vec![records::record(&body)])?;
        return Err(EvalFailure::new(
            Code::Cancelled,
            "the eval was cancelled",
            "nothing was changed",
        ));
    }
    let payload = payload
        .unwrap_or_else(|| EvalPayload::parse(&params.payload))
        .map_err(|f| EvalFailure::new(f.data.code, f.message, f.data.help))?;
    let reserved = single.is_some_and(|function| function.reserved);
    let emergency = single.is_some_and(|function| function.emergency);
    if holds_secret(core, &payload, reserved) {
        let digest = core.recorder.digest(&Tree::Str(params.payload.clone()));
        let body = refused(&session, counter, "holds a secret", digest);
        durable(core, vec![records::record(&body)])?;
        return Err(EvalFailure::new(
            Code::Denied,
            "the code or its arguments hold what is or looks like a secret; it was neither run nor recorded",
            BIND_SECRET,
        ));
    }
    let mut engine = engine::for_eval();
    roots::teach(
        &mut engine,
        &payload.code,
        |name| core.exposed.states.named(name).is_ok(),
        handle::assign,
    );
    let compiled = engine.compile(&payload.code);
    let record = record_eval(core, &session, &params, counter, emergency)?;
    // A plan runs as an eval that declares what happens to its changes afterwards.
    let after = payload.after.or(payload.dry.then_some(After::Revert));
    let run = Arc::new(EvalContext::new(
        session.clone(),
        call,
        cancelled,
        record,
        after,
        emergency,
    ));
    let checked = |ast| check_names(ast).and_then(|ast| check_copies(core, &session, ast));
    let ast = match compiled.map_err(|e| syntax(&payload.code, &e)).and_then(checked) {
        Ok(ast) => ast,
        Err(failed) => return Err(outcome::finish_failed(core, &run, failed, Instant::now())),
    };
    if payload.dry {
        let reason = payload.reason.clone().or_else(|| session.mode().1);
        run.begin_plan(Planning::in_mode(Mode::Change, reason));
    }
    let scope = bind(core, &run, &payload, &params)
        .map_err(|failed| outcome::finish_failed(core, &run, failed, Instant::now()))?;
    prepare(&mut engine, core, &run);
    let code = payload.code;
    Ok(AcceptedEval {
        run,
        engine,
        code,
        ast,
        scope,
        reserved,
    })
}

/// Whether code or arguments hold what is or looks like a secret. Single calls that end changes are exempt while their
/// only arguments are numbers: they must work even if a word in them is a secret of some state.
fn holds_secret(core: &Core, payload: &EvalPayload, reserved: bool) -> bool {
    if reserved && payload.reason.is_none() && payload.args.values().all(Value::is_u64) {
        return false;
    }
    let arguments = Value::Object(payload.args.clone().into_iter().collect()).to_string();
    core.exposed.holds_secret(&payload.code)
        || debug_state::has_secret_shape(&payload.code)
        || core.exposed.holds_secret(&arguments)
        || payload
            .reason
            .as_deref()
            .is_some_and(|reason| core.exposed.holds_secret(reason))
}

fn syntax(code: &str, error: &ParseError) -> EvalFailure {
    let (message, help) = explain::syntax(code, error);
    EvalFailure::new(Code::Eval, message, help)
}

fn check_names(ast: AST) -> Result<AST, EvalFailure> {
    if let Some(position) = walk::closures(&ast).curry {
        return Err(EvalFailure::new(
            Code::Eval,
            format!("`curry` is not part of this language ({position})"),
            "write a closure that captures, as in `|x| f.call(1, x)`",
        ));
    }
    match walk::defined(&ast)
        .into_iter()
        .find(|(name, _)| host::is_host_function(name))
    {
        None => Ok(ast),
        Some((name, _)) => Err(EvalFailure::new(
            Code::Eval,
            format!("`{name}` is a host function; a script may not define another"),
            "give your function another name",
        )),
    }
}

/// Refuses code that changes a copy which is then dropped.
fn check_copies(core: &Core, session: &Session, ast: AST) -> Result<AST, EvalFailure> {
    let declared = walk::declared(&ast);
    let is_state = |name: &str| !declared.contains(name) && core.exposed.states.named(name).is_ok();
    let own: Vec<String> = walk::defined(&ast).into_iter().map(|(name, _)| name).collect();
    let is_own = |name: &str| own.iter().any(|own| own == name) || session.shapes().defines(name);
    match copies::lost(&ast, is_state, is_own) {
        None => Ok(ast),
        Some(Lost { name, position, help }) => Err(EvalFailure::new(
            Code::Eval,
            format!(
                "`{name}` changes what it is called on, and here that is a copy which is thrown away ({position})"
            ),
            format!("nothing ran; {help}"),
        )),
    }
}

/// Makes an engine report names that the agent's maps lack; `variables` are those of the session.
pub(super) fn tell_missing(
    engine: &mut Engine,
    core: &Core,
    run: &EvalContext,
    ast: &AST,
    variables: &Scope<'_>,
) {
    let declared = walk::declared(ast);
    let is_state = |name: &str| {
        !declared.contains(name) && !variables.contains(name) && core.exposed.states.named(name).is_ok()
    };
    let session = run.session.clone();
    let uses = session.shapes().uses(ast, is_state);
    if uses.are_apart() {
        engine.on_map_missing_property(move |map, name, _| {
            shapes::missing(&session.shapes(), &uses, map, name)
        });
    }
}

fn refused(session: &Session, counter: u64, why: &str, payload: Value) -> EvalRefused {
    EvalRefused {
        session: session.id,
        operator: session.operator.to_string(),
        counter,
        refused: why.to_owned(),
        payload,
    }
}

/// Writes the eval's record before anything runs, so that it survives the death of the process.
fn record_eval(
    core: &Core,
    session: &Session,
    params: &EvalParams,
    counter: u64,
    emergency: bool,
) -> Result<u64, EvalFailure> {
    let operator = &session.operator.to_string();
    let parts = records::parted("payload", &params.payload);
    // The parts carry session and operator as well: an operator may see only their own records, and must be able to
    // compare the parts.
    let part = |part| {
        records::record(&EvalPart {
            session: Some(session.id),
            operator: operator.clone(),
            part,
        })
    };
    let body = Eval {
        session: session.id,
        operator: operator.clone(),
        counter,
        sig: params.sig.clone(),
        payload: parts.is_none().then(|| params.payload.clone()),
        parts: parts.as_ref().map(|parts| parts.len() as u64),
    };
    let parts = parts.into_iter().flatten().map(part);
    let mut entries: Vec<_> = parts.chain([records::record(&body)]).collect();
    for part in &mut entries {
        part.keep = emergency;
    }
    match core.recorder.log.append(entries, Until::Written).written() {
        Ok(range) => Ok(range.end.saturating_sub(1)),
        Err(AppendError::Held) => Ok(HELD),
        // An eval that ends changes goes on without the log.
        Err(AppendError::Broken) if emergency => Ok(HELD),
        Err(error) => Err(unwritable(&error)),
    }
}

fn durable(core: &Core, entries: Vec<debug_audit::Entry>) -> Result<(), EvalFailure> {
    core.recorder
        .log
        .append(entries, Until::Durable)
        .durable()
        .map(drop)
        .map_err(|e| unwritable(&e))
}

/// The most secret arguments of an eval; and the most bytes of all of them. Each is searched for in everything that
/// leaves the agent while the eval runs.
const MAX_SECRET_ARGUMENTS: usize = 16;
const MAX_SECRETS: usize = 32 << 10;

/// Binds arguments by name. A secret argument is opaque, and must match the commitment that was signed.
fn bind(
    core: &Core,
    run: &EvalContext,
    payload: &EvalPayload,
    params: &EvalParams,
) -> Result<Scope<'static>, EvalFailure> {
    let bytes: usize = params.secrets.values().map(|argument| argument.value.len()).sum();
    if bytes > MAX_SECRETS || params.secrets.len() > MAX_SECRET_ARGUMENTS {
        let message = format!(
            "{} secret arguments of {bytes} bytes; at most {MAX_SECRET_ARGUMENTS} of {MAX_SECRETS} in all are taken",
            params.secrets.len()
        );
        return Err(EvalFailure::new(
            Code::Limit,
            message,
            "bind fewer or shorter ones",
        ));
    }
    let mut scope = Scope::new();
    for (name, value) in &payload.args {
        check_argument(name)?;
        scope.push_dynamic(name.clone(), values::argument(Tree::from_json(value)));
    }
    if payload.secret_args.len() != params.secrets.len() {
        return Err(EvalFailure::new(
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
        let matches = commitment.is_some_and(|c| {
            payload
                .secret_args
                .get(name)
                .is_some_and(|signed| *signed == debug_base::hex(&c))
        });
        if !matches {
            return Err(EvalFailure::new(
                Code::Params,
                format!("the secret argument `{name}` is not the one that was signed"),
                "use `--arg-secret`",
            ));
        }
        run.bind(name, &argument.value);
        scope.push_dynamic(
            name.clone(),
            values::bound_secret(name, &argument.value, &core.recorder.keyed),
        );
    }
    Ok(scope)
}

fn check_argument(name: &str) -> Result<(), EvalFailure> {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if plain && !host::is_host_function(name) {
        return Ok(());
    }
    Err(EvalFailure::new(
        Code::Params,
        format!("`{name}` is no name for an argument"),
        "use letters, digits and `_`",
    ))
}

fn decode_salt(text: &str) -> Option<[u8; 32]> {
    debug_base::from_base64(text)?.try_into().ok()
}

/// Gives an eval's engine its host functions, its state names and its output.
fn prepare(engine: &mut Engine, core: &Arc<Core>, run: &Arc<EvalContext>) {
    engine.register_global_module(MODULE.clone());
    let tag = EvalTag {
        core: core.clone(),
        run: run.clone(),
    };
    engine.register_global_module(handle::loops(tag.clone()));
    engine.set_default_tag(Dynamic::from(tag.clone()));
    #[expect(
        deprecated,
        reason = "Rhai marks it so because it may change; the version is pinned"
    )]
    engine.on_missing_function(|name, args, _, context| handle::missing_function(name, args, context));
    #[expect(
        deprecated,
        reason = "Rhai marks it so because it may change; the version is pinned"
    )]
    engine.on_var(move |name, _, context| {
        memory::check_variable(name, tag.run.watches(), &context)?;
        handle::check_switched(&tag, name, 0 < context.call_level(), context.scope())?;
        // Locals and parameters take precedence: `let config = 5` must mean 5. An eval that works without a log reads
        // no state.
        if tag.run.emergency()
            || context.scope().contains(name)
            || tag.core.exposed.states.named(name).is_err()
        {
            return Ok(None);
        }
        handle::resolve(&tag, Path(vec![name.to_owned()])).map(Some)
    });
}
