//! The end of an eval: undo it if it failed, record the outcome, and only then return the reply.

use std::time::Instant;

use debug_audit::{AppendError, Until};
use debug_wire::messages::{AuditRange, Code, Ends, EvalResult, Failure, FromAgent, LeaseSummary};
use debug_wire::records::{Outcome, OutcomeError};
use rhai::EvalAltResult;
use serde_json::Value;

use crate::core::Core;
use crate::effect::Refusal;
use crate::eval::explain;
use crate::execute;
use crate::recorder::events::Weight;
use crate::recorder::records;
use crate::session::context::EvalContext;
use debug_base::{BootTime, Tree};
use debug_script::engine::EVAL;
use debug_script::meter::End;

/// Why an eval failed, for its reply and its record.
pub(super) struct EvalFailure {
    pub(super) code: Code,
    pub(super) message: String,
    pub(super) help: String,
    /// The range of its records in the log, if it is there.
    audit: Option<AuditRange>,
    /// The leases that it ended, and those that it could not end.
    ends: Option<Box<Ends>>,
}

impl EvalFailure {
    pub(super) fn new(code: Code, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            help: help.into(),
            audit: None,
            ends: None,
        }
    }

    /// Adds the leases that the eval ended and those that it could not end.
    fn with_ends(self, core: &Core, run: &EvalContext) -> Self {
        let mut ends = run.ends();
        for lease in &mut ends.standing {
            lease.why = run.scrub(&core.recorder, &core.exposed, &lease.why);
        }
        Self {
            ends: (ends != Ends::default()).then(|| Box::new(ends)),
            ..self
        }
    }
}

/// Stands for the number of a record that has none yet, because it waits in memory for the disk.
pub(super) const HELD: u64 = u64::MAX;

pub(super) fn unwritable(error: &AppendError) -> EvalFailure {
    EvalFailure::new(
        Code::Audit,
        format!("the audit log cannot be written: {error}"),
        "nothing runs without its record; `revert(id)`, `revert_all()`, `leases()`, `info()`, `sessions()` and `help()` still work, each as a call of its own",
    )
}

pub(super) fn cancelled(run: &EvalContext) -> EvalFailure {
    EvalFailure::new(Code::Cancelled, "the eval was cancelled", explain::undone(run))
}

pub(super) fn ended(run: &EvalContext, end: End) -> EvalFailure {
    let limit = |what: String| {
        EvalFailure::new(
            Code::Limit,
            what,
            format!("{}; ask for less at a time", explain::undone(run)),
        )
    };
    match end {
        End::Operations => limit(format!("the eval used more than {} operations", EVAL.operations)),
        End::Time => limit(format!("the eval took longer than {} s", EVAL.time.as_secs())),
        End::Size => limit("the eval made something larger than allowed".to_owned()),
        End::Stack => limit("the eval nested deeper than the stack of its thread allows".to_owned()),
        End::Cancelled => cancelled(run),
        End::Refused => EvalFailure::new(
            Code::Audit,
            "the audit log cannot be written",
            explain::undone(run),
        ),
    }
}

pub(super) fn refused(refusal: Refusal) -> EvalFailure {
    match refusal {
        Refusal::Denied(denial) => {
            let rules: Vec<String> = denial
                .rules
                .iter()
                .map(|rule| format!("`{}` ({})", rule.id, rule.why))
                .collect();
            let by = if rules.is_empty() {
                String::new()
            } else {
                format!(" by rule {}", rules.join(", "))
            };
            EvalFailure::new(
                Code::Denied,
                format!("denied: {} {}{by}", denial.action, denial.resource),
                denial.help,
            )
        }
        Refusal::Log(error) => unwritable(&error),
        Refusal::State { message, help } => EvalFailure::new(Code::State, message, help),
    }
}

pub(super) fn script_error(
    core: &Core,
    run: &EvalContext,
    source: &str,
    is_closure: impl Fn(&str) -> bool,
    error: &EvalAltResult,
) -> EvalFailure {
    let limit = matches!(
        error,
        EvalAltResult::ErrorTooManyOperations(_)
            | EvalAltResult::ErrorStackOverflow(_)
            | EvalAltResult::ErrorDataTooLarge(..)
            | EvalAltResult::ErrorTooManyVariables(_)
    );
    let code = if limit { Code::Limit } else { Code::Eval };
    let (message, help) = explain::script_error(core, run, source, is_closure, error);
    EvalFailure::new(code, message, help)
}

/// Completes a failed eval: undo it, record the outcome; the caller then replies.
pub(super) fn finish_failed(
    core: &Core,
    run: &EvalContext,
    failed: EvalFailure,
    started: Instant,
) -> EvalFailure {
    let failed = failed.with_ends(core, run);
    let undone = execute::undo(core, run);
    let mut body = outcome_body(core, run, started);
    // `scrub` also raises an alarm if the message holds a secret. The record must not hold even a revealed secret:
    // `clean` removes those, too.
    let failed = EvalFailure {
        message: run.scrub(&core.recorder, &core.exposed, &failed.message),
        ..failed
    };
    let message = debug_base::cut(&run.clean(&core.exposed, &failed.message));
    body.error = Some(OutcomeError {
        code: failed.code.into(),
        message,
    });
    body.undone = Some(undone);
    match record_outcome(core, run, body) {
        Ok(audit) => EvalFailure { audit, ..failed },
        Err(error) => {
            let lost = unwritable(&error);
            let message = format!("{}; and {}", failed.message, lost.message);
            EvalFailure {
                code: Code::Audit,
                message,
                help: lost.help,
                ..failed
            }
        }
    }
}

fn outcome_body(core: &Core, run: &EvalContext, started: Instant) -> Outcome {
    let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    let (looked, looked_elsewhere) = run.looks(&core.exposed);
    Outcome {
        eval: Some(run.record_number()),
        session: run.session.id,
        operator: run.session.operator.to_string(),
        micros,
        looked,
        looked_elsewhere,
        ..Outcome::default()
    }
}

/// Appends the outcome and blocks until it is on disk; no reply leaves before.
fn record_outcome(core: &Core, run: &EvalContext, body: Outcome) -> Result<Option<AuditRange>, AppendError> {
    let outcome = if body.error.is_some() { "error" } else { "ok" };
    let mut entry = records::record(&body);
    entry.keep = run.emergency();
    match core.recorder.log.append(vec![entry], Until::Durable).durable() {
        Ok(receipt) => {
            let denied = matches!(run.refusal(), Some(Refusal::Denied(_)));
            let weight = match (denied, run.acted()) {
                (true, _) => Weight::Denied,
                (false, true) => Weight::Acted,
                (false, false) => Weight::Looked,
            };
            core.recorder
                .emitter
                .recorded(&run.session.operator.name, outcome, weight, receipt.last);
            let eval = run.record_number();
            if eval == HELD {
                // The record waited in memory, and its number is not known here. A wrong number would look like a
                // forgery.
                run.hold();
                return Ok(None);
            }
            Ok(Some(AuditRange {
                eval,
                first: eval,
                last: receipt.last,
                checkpoint: receipt.checkpoint.to_string(),
            }))
        }
        Err(AppendError::Held) => {
            run.hold();
            Ok(None)
        }
        Err(AppendError::Broken) if run.emergency() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Completes an eval that succeeded: record the outcome, and only then return the reply.
///
/// # Errors
/// The reply that says that it could not be recorded; its effects are undone.
pub(super) fn succeed(
    core: &Core,
    run: &EvalContext,
    display: String,
    value: Value,
    started: Instant,
) -> Result<FromAgent, Box<FromAgent>> {
    // Secrets that this eval revealed are what the reply is for; all others are scrubbed.
    let (display, value) = (
        run.scrub(&core.recorder, &core.exposed, &display),
        scrub_value(core, run, value),
    );
    let mut body = outcome_body(core, run, started);
    body.result = Some(core.recorder.digest(&Tree::Str(display.clone())));
    let audit = match record_outcome(core, run, body) {
        Ok(audit) => audit,
        Err(error) => {
            // An effect without a recorded outcome must not stay.
            let failed = unwritable(&error).with_ends(core, run);
            execute::undo(core, run);
            return Err(Box::new(failure(core, run.call, failed)));
        }
    };
    let mut warnings = untold(core, run, &display);
    if core.recorder.log.is_broken() {
        warnings.push(format!("not recorded: {}", AppendError::Broken));
    } else if run.held() || audit.is_none() {
        warnings
            .push("not yet on disk: the audit log cannot be written; the records wait in memory".to_owned());
    }
    let result = EvalResult {
        value,
        display,
        leases: run.touched().into_iter().map(|id| summary(core, id)).collect(),
        in_force: core.changes.leases.in_force(BootTime::now()),
        mode: run.session.mode().0,
        audit,
        warnings,
    };
    Ok(FromAgent::success(run.call, &result))
}

/// The warnings about the changes that the eval made and that its displayed value does not name: an assignment has no value.
fn untold(core: &Core, run: &EvalContext, display: &str) -> Vec<String> {
    let is_untold = |id: &u64| !display.contains(&format!("lease {id}: "));
    let warning = |id: u64| {
        let lease = core
            .changes
            .leases
            .find(id)
            .ok()
            .filter(|lease| run.is_own(lease))?;
        Some(run.scrub(
            &core.recorder,
            &core.exposed,
            &format!("lease {id}: {}", lease.change.warning()?),
        ))
    };
    run.touched()
        .into_iter()
        .filter(is_untold)
        .filter_map(warning)
        .collect()
}

/// Scrubs every text of a JSON value.
fn scrub_value(core: &Core, run: &EvalContext, value: Value) -> Value {
    match value {
        Value::String(text) => run.scrub(&core.recorder, &core.exposed, &text).into(),
        Value::Array(items) => items
            .into_iter()
            .map(|item| scrub_value(core, run, item))
            .collect(),
        Value::Object(entries) => entries
            .into_iter()
            .map(|(k, v)| {
                (
                    run.scrub(&core.recorder, &core.exposed, &k),
                    scrub_value(core, run, v),
                )
            })
            .collect(),
        other => other,
    }
}

/// A lease as replies show it, also an ended one.
pub(crate) fn summary(core: &Core, id: u64) -> LeaseSummary {
    match core.changes.leases.find(id) {
        Ok(lease) => LeaseSummary {
            id,
            target: lease.target().to_string(),
            state: lease.phase.name().to_owned(),
            remaining_ms: u64::try_from(lease.deadline.remaining(BootTime::now()).as_millis())
                .unwrap_or(u64::MAX),
        },
        Err(error) => {
            let state = match error {
                debug_lease::EndError::Ended { how, .. } => how,
                _ => "ended",
            };
            LeaseSummary {
                id,
                target: String::new(),
                state: state.to_owned(),
                remaining_ms: 0,
            }
        }
    }
}

pub(super) fn failure(core: &Core, call: u64, failed: EvalFailure) -> FromAgent {
    let mut failure = Failure::new(failed.code, core.exposed.scrub(&failed.message), failed.help);
    failure.data.audit = failed.audit;
    failure.data.leases = failed.ends;
    self::failed(call, failure)
}

/// The reply for a failed call.
pub(crate) fn failed(id: u64, error: Failure) -> FromAgent {
    FromAgent::Failure {
        jsonrpc: debug_wire::messages::Version::V2,
        id: Some(id),
        error,
    }
}
