//! `debugctl eval`: code in, one result out.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use debug_policy::ENTER_CHANGE;
use debug_wire::MAX_CODE;
use debug_wire::messages::{After, AuditRange, EvalResult, LeaseSummary};
use serde::Serialize;
use serde_json::Value;
use tokio::time::sleep;

use crate::args::EvalArgs;
use crate::net::interrupts::Interrupts;
use crate::session::{AgentTarget, AttachedSession, EvalError, EvalRequest, is_in_force, recorded};
use crate::trust::identity;
use crate::ui::failure::{CommandFailure, ended};
use crate::ui::tables;
use crate::ui::term;

/// How often `--hold` checks whether its leases are still in force.
const LOOK: Duration = Duration::from_secs(1);

/// What `--json` prints for an eval that succeeded.
#[derive(Serialize)]
struct EvalReport<'a> {
    value: &'a Value,
    display: &'a str,
    output: &'a str,
    leases: &'a [LeaseSummary],
    audit: Option<&'a AuditRange>,
}

/// Reads the files and options that the command line names, before anything is connected.
///
/// # Errors
/// A file cannot be read, or the options contradict each other.
pub(crate) fn prepare(args: &EvalArgs) -> Result<EvalRequest, CommandFailure> {
    let after = match (args.change.change && !args.plan, args.persist, args.hold) {
        (_, true, _) => Some(After::Persist),
        (_, _, true) => Some(After::Hold),
        (true, false, false) => {
            let message = "`--change` needs `--reason TEXT` and `--persist` or `--hold`: what becomes of the changes when this ends?";
            return Err(CommandFailure::usage(message).help(
                "`--persist` lets them keep their deadline, `--hold` stays and reverts them on Ctrl-C",
            ));
        }
        (false, false, false) => None,
    };
    let mut submission = EvalRequest {
        code: code(args)?,
        after,
        ..EvalRequest::default()
    };
    for (name, value) in &args.args {
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.clone()));
        if submission.args.insert(name.clone(), value).is_some() {
            return Err(twice(name));
        }
    }
    submission.secrets = secrets(args)?;
    if let Some(name) = submission
        .secrets
        .keys()
        .find(|name| submission.args.contains_key(*name))
    {
        return Err(twice(name));
    }
    // A plan does not enter the mode `change`: it lists what the code would do in that mode, for this reason.
    Ok(if args.plan {
        submission.dry(args.change.reason.clone())
    } else {
        submission
    })
}

fn twice(name: &str) -> CommandFailure {
    CommandFailure::usage(format!("the name `{name}` is bound twice"))
}

fn code(args: &EvalArgs) -> Result<String, CommandFailure> {
    let bytes = match (&args.file, args.code.as_deref()) {
        (Some(path), _) => identity::read(path)?,
        (None, Some("-")) => stdin()?,
        (None, code) => return Ok(code.unwrap_or_default().to_owned()),
    };
    String::from_utf8(bytes).map_err(|_| CommandFailure::usage("the code is not UTF-8"))
}

fn stdin() -> Result<Vec<u8>, CommandFailure> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().take(MAX_CODE as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| CommandFailure::usage(format!("cannot read the code from stdin: {error}")))?;
    if bytes.len() > MAX_CODE {
        return Err(CommandFailure::usage(format!(
            "the code is longer than {MAX_CODE} bytes"
        )));
    }
    Ok(bytes)
}

fn secrets(args: &EvalArgs) -> Result<BTreeMap<String, String>, CommandFailure> {
    let mut secrets = BTreeMap::new();
    for (name, path) in &args.secrets {
        let value = String::from_utf8(identity::read(path)?)
            .map_err(|_| CommandFailure::usage(format!("`{}` is not UTF-8", path.display())))?;
        // Editors and `echo` end a file with a newline that is not part of the secret.
        let value = value.strip_suffix('\n').unwrap_or(&value).to_owned();
        if secrets.insert(name.clone(), value).is_some() {
            return Err(twice(name));
        }
    }
    Ok(secrets)
}

/// Runs the eval.
///
/// # Errors
/// It fails, there is no connection, or the agent's log does not hold it or is not proven to.
pub(crate) async fn run(
    target: &AgentTarget,
    args: &EvalArgs,
    submission: EvalRequest,
) -> Result<(), CommandFailure> {
    let mut session = AttachedSession::open(target).await?;
    let mut interrupts = Interrupts::listen();
    let mut printed = false;
    let result = evaluate(&mut session, &mut interrupts, args, submission, &mut printed).await;
    let result = result.map_err(|error| for_flags(error.into()));
    // A failed eval must be in the log, too.
    let closed = session.close().await;
    ended(result, closed).map_err(|failure| failure.answered(printed))
}

async fn evaluate(
    session: &mut AttachedSession,
    interrupts: &mut Interrupts,
    args: &EvalArgs,
    submission: EvalRequest,
    printed: &mut bool,
) -> Result<(), EvalError> {
    if let Some(reason) = args.change.reason.as_ref().filter(|_| !args.plan) {
        enter_change(session, interrupts, reason).await?;
    }
    let mut collected = String::new();
    let mut output = |text: &str| {
        if args.json {
            collected.push_str(text);
            return Ok(());
        }
        term::stream(text)
    };
    let mut result = session.eval(submission, interrupts, &mut output).await?;
    if args.plan {
        result.display = by_flags(&result.display);
    }
    print(&result, &collected, args.json)?;
    *printed = true;
    if args.hold && !result.leases.is_empty() {
        hold(session, interrupts, &result.leases).await?;
    }
    Ok(())
}

/// The flags that enter the mode `change`. The agent advises a command of the prompt, which this command line does not have.
const FLAGS: &str = "`--change --reason TEXT` with `--persist` or `--hold`";

/// An advice of the agent in the words of this command line.
fn by_flags(advice: &str) -> String {
    advice.replace(ENTER_CHANGE, FLAGS)
}

/// A failure with advice in the words of this command line.
fn for_flags(failure: CommandFailure) -> CommandFailure {
    CommandFailure {
        message: by_flags(&failure.message),
        help: by_flags(&failure.help),
        ..failure
    }
}

/// Enters the mode `change`.
///
/// # Errors
/// As [`AttachedSession::eval`].
pub(crate) async fn enter_change(
    session: &mut AttachedSession,
    interrupts: &mut Interrupts,
    reason: &str,
) -> Result<EvalResult, EvalError> {
    let submission = EvalRequest::code("change(reason)").bind("reason", reason);
    session.eval(submission, interrupts, &mut |_| Ok(())).await
}

fn print(result: &EvalResult, output: &str, json: bool) -> Result<(), CommandFailure> {
    warn(result);
    if json {
        let EvalResult {
            value,
            display,
            leases,
            audit,
            ..
        } = result;
        term::json(&EvalReport {
            value,
            display,
            output,
            leases,
            audit: audit.as_ref(),
        })?;
        return Ok(());
    }
    if !result.display.is_empty() {
        term::out(&result.display)?;
    }
    tell_changes(result);
    Ok(())
}

/// The limit on changes of one eval that are listed one by one.
const MAX_CHANGES: usize = 20;

/// Prints, to stderr, the changes in force that an eval made and that its displayed value does not name. An assignment, for
/// example, has no value.
pub(crate) fn tell_changes(result: &EvalResult) {
    let untold = |lease: &&LeaseSummary| is_in_force(lease) && !tables::speaks_of(&result.display, lease.id);
    let mut changes = result.leases.iter().filter(untold);
    for LeaseSummary {
        id,
        target,
        state,
        remaining_ms,
    } in changes.by_ref().take(MAX_CHANGES)
    {
        let left = term::in_seconds(Duration::from_millis(*remaining_ms));
        let unless = if state == "confirmed" {
            ""
        } else {
            " unless confirmed"
        };
        let (done, target) = match target.split_once(':') {
            Some(("state", path)) => (" set", path),
            Some(("point", name)) => (" patched", name),
            Some((_, name)) => (" changed", name),
            None => ("", target.as_str()),
        };
        term::note(&format!(
            "lease {id}: {}{done}, reverts in {left}{unless}",
            term::line(target)
        ));
    }
    match changes.count() {
        0 => {}
        more => term::note(&format!("and {more} changes more; `leases()` shows all")),
    }
}

/// Prints an eval's warnings to stderr, and that it is not recorded yet if it is not.
pub(crate) fn warn(result: &EvalResult) {
    for warning in &result.warnings {
        term::note(&format!("warning: {warning}"));
    }
    if result.audit.is_none() {
        term::note(&format!(
            "warning: this eval is {}: the audit log cannot be written",
            recorded(None)
        ));
    }
}

/// Waits until the leases have ended; Ctrl-C reverts them.
async fn hold(
    session: &mut AttachedSession,
    interrupts: &mut Interrupts,
    leases: &[LeaseSummary],
) -> Result<(), EvalError> {
    let mut held: Vec<u64> = leases.iter().map(|lease| lease.id).collect();
    term::note(&format!("holding {}; Ctrl-C reverts", tables::leases_text(&held)));
    loop {
        tokio::select! {
            () = sleep(LOOK) => {}
            () = interrupts.next() => return revert_all(session, &held).await,
            loss = session.loss() => return Err(EvalError::Lost(loss)),
        }
        // Ctrl-C is for the leases and does not cancel this lookup.
        let result = session.quietly(EvalRequest::code("leases()")).await?;
        let standing = tables::in_force(&result.value);
        held.retain(|id| standing.contains(id));
        session.verify().await?;
        if held.is_empty() {
            term::note("all of them have ended");
            return Ok(());
        }
    }
}

/// Reverts each lease and returns the first failure after all were tried.
async fn revert_all(session: &mut AttachedSession, held: &[u64]) -> Result<(), EvalError> {
    let mut failed = Ok(());
    for id in held {
        let submission = EvalRequest::code("revert(id)").bind("id", *id);
        match session.quietly(submission).await {
            Ok(result) => term::note(&result.display),
            Err(EvalError::Failed(failure)) if failed.is_ok() => failed = Err(EvalError::Failed(failure)),
            Err(EvalError::Failed(failure)) => failure.print(),
            Err(gone) => return Err(gone),
        }
    }
    failed
}
