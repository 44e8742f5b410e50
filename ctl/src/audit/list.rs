//! `debugctl audit list`.

use debug_audit::kinds::LEASE_ENDS;
use debug_wire::records::{
    self, Alarm, Armed, Belongs, Boot, ConfigLoaded, EffectRecord, Eval, EvalRefused, LEASE_ADOPTED,
    LEASE_CONFIRMED, LEASE_EXTENDED, LeaseEnded, LeaseMade, LeaseRenewed, LeaseSettled, ListsLoaded, Outcome,
    PolicyLoaded, Record as _, RecoveredRecord, SessionClose, SessionOpen, SessionRefused,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::check::{CheckedRecord, check};
use super::verify::{counts, operators, vouched};
use crate::args::ListArgs;
use crate::ui::failure::{CommandFailure, ended};
use crate::ui::tables;
use crate::ui::term;

/// How much of a record's own words a line shows, in characters.
const MAX_WHAT: usize = 80;

/// Prints the requested records.
///
/// # Errors
/// The log does not verify; its records are printed nevertheless.
pub(super) fn run(args: &ListArgs) -> Result<(), CommandFailure> {
    // INVARIANT: the lines are made from the bytes that were verified, and printed only once all of them were.
    let (mut rows, mut total, mut unproven) = (Vec::new(), 0_u64, 0_u64);
    let report = check(&args.anchor, &mut |record| {
        total += 1;
        if is_asked_for(record, args) {
            rows.push(row(record));
            unproven += u64::from(!record.covered);
        }
    });
    let shown = rows.len();
    // A log that does not verify outweighs a failed write to stdout, or a reader such as `head` that closed the pipe.
    let written = if shown > 0 {
        term::out(&tables::aligned(&rows)).map_err(CommandFailure::from)
    } else {
        Ok(())
    };
    let checked = report.and_then(|report| vouched(&report).map(|()| report));
    match checked {
        Ok(_) if written.is_err() => written,
        Ok(report) => {
            term::note(&format!(
                "{shown} of {total} records shown; verified: {}",
                counts(&report)
            ));
            if report.authority.is_none() {
                term::note(&operators(&report));
            }
            if unproven > 0 {
                term::alarm(&format!(
                    "{unproven} of those shown follow the checkpoint (`unproven`): a program that can write the folder may have made them"
                ));
            }
            Ok(())
        }
        Err(failure) => {
            term::alarm(&format!(
                "{shown} of {total} records shown, of a log that is NOT verified"
            ));
            ended(written, Err(failure))
        }
    }
}

fn is_asked_for(record: &CheckedRecord<'_>, args: &ListArgs) -> bool {
    let kind = args
        .kind
        .as_deref()
        .is_none_or(|kind| record.kind == kind || (kind.ends_with('.') && record.kind.starts_with(kind)));
    let name = |id: &str| id.rsplit('/').next().unwrap_or_default().to_owned();
    let who = args.operator.as_deref();
    kind && who.is_none_or(|who| operator(record).is_some_and(|id| id == who || name(&id) == who))
}

/// The operator of a record's session, else the one that the record names.
fn operator(record: &CheckedRecord<'_>) -> Option<String> {
    let named = || serde_json::from_str::<Belongs>(record.text).ok()?.operator;
    record.operator.map(str::to_owned).or_else(named)
}

/// The columns: number, time, kind, operator, subject, outcome.
fn row(record: &CheckedRecord<'_>) -> Vec<String> {
    let made: records::Made = serde_json::from_str(record.text).unwrap_or_default();
    let who = operator(record).unwrap_or_default();
    let who = who.rsplit('/').next().unwrap_or_default().to_owned();
    let Columns { subject, outcome } =
        told(record.kind, record.text).unwrap_or_else(|_| vec!["(not of its kind)".to_owned()].into());
    let subject: Vec<&str> = subject
        .iter()
        .map(String::as_str)
        .filter(|part| !part.is_empty())
        .collect();
    let outcome = term::line(&outcome).into_owned();
    vec![
        record.seq.to_string(),
        term::line(&made.time).into_owned(),
        term::line(record.kind).into_owned(),
        if who.is_empty() {
            "-".to_owned()
        } else {
            term::line(&who).into_owned()
        },
        cut(&subject.join(" ")),
        if record.covered {
            outcome
        } else {
            format!("{outcome} unproven").trim_start().to_owned()
        },
    ]
}

/// What a line tells of a record.
struct Columns {
    /// Words about its subject; empty ones are left out.
    subject: Vec<String>,
    /// The result of an eval, or the decision of the policy.
    outcome: String,
}

impl From<Vec<String>> for Columns {
    fn from(subject: Vec<String>) -> Self {
        Self {
            subject,
            outcome: String::new(),
        }
    }
}

/// What a line tells of a record of this kind.
///
/// # Errors
/// The record does not have the members of its kind.
fn told(kind: &str, text: &str) -> serde_json::Result<Columns> {
    Ok(match kind {
        Boot::KIND => {
            let boot: Boot = read(text)?;
            let agent = named("agent", boot.agent);
            vec![boot.service, boot.instance, boot.environment, agent].into()
        }
        RecoveredRecord::KIND => vec![read::<RecoveredRecord>(text)?.covered.to_string()].into(),
        ConfigLoaded::KIND => {
            let config: ConfigLoaded = read(text)?;
            vec![config.file, config.listen].into()
        }
        PolicyLoaded::KIND => vec![read::<PolicyLoaded>(text)?.file].into(),
        ListsLoaded::KIND => vec![read::<ListsLoaded>(text)?.file].into(),
        Armed::KIND => vec![read::<Armed>(text)?.listen].into(),
        SessionOpen::KIND => {
            let open: SessionOpen = read(text)?;
            vec![open.roles.join(","), named("from", open.peer)].into()
        }
        SessionRefused::KIND => {
            let refused: SessionRefused = read(text)?;
            vec![refused.why, named("from", refused.peer)].into()
        }
        SessionClose::KIND => vec![read::<SessionClose>(text)?.why].into(),
        Eval::KIND => vec![
            read::<Eval>(text)?
                .payload
                .and_then(|payload| code(&payload))
                .unwrap_or_default(),
        ]
        .into(),
        EvalRefused::KIND => vec![read::<EvalRefused>(text)?.refused].into(),
        EffectRecord::KIND => effect(read(text)?),
        LeaseMade::KIND => lease_made(read(text)?),
        LEASE_CONFIRMED | LEASE_EXTENDED | LEASE_ADOPTED => {
            let renewed: LeaseRenewed = read(text)?;
            of_lease(renewed.lease, renewed.target, renewed.by, renewed.undone)
        }
        LeaseSettled::KIND => {
            let settled: LeaseSettled = read(text)?;
            of_lease(
                settled.lease,
                settled.target,
                settled.by,
                settled.detail.as_ref().map(shown),
            )
        }
        Outcome::KIND => outcome(read(text)?),
        Alarm::KIND => alarm(read(text)?),
        kind if LEASE_ENDS.contains(&kind) => {
            let ended: LeaseEnded = read(text)?;
            of_lease(
                ended.lease,
                ended.target,
                ended.by,
                ended.detail.as_ref().map(shown),
            )
        }
        _ => Vec::new().into(),
    })
}

fn effect(effect: EffectRecord) -> Columns {
    const DETAIL: [&str; 9] = [
        "target", "path", "about", "reason", "text", "revert", "renew", "adopt", "settle",
    ];
    let mut subject = vec![
        effect.function.unwrap_or_default(),
        effect.method.unwrap_or_default(),
        effect.patch_failed.unwrap_or_default(),
    ];
    subject.extend(
        DETAIL
            .iter()
            .filter_map(|name| effect.detail.get(*name))
            .map(shown),
    );
    Columns {
        subject,
        outcome: decision(effect.gate.as_ref()),
    }
}

fn lease_made(made: LeaseMade) -> Columns {
    let lease = made.lease;
    Columns {
        subject: vec![
            named("lease", lease.id.to_string()),
            lease.target,
            named("for", term::span(lease.ttl_ms)),
            named("because", lease.reason),
        ],
        outcome: decision(Some(&made.gate)),
    }
}

fn of_lease(id: u64, target: String, by: String, detail: Option<String>) -> Columns {
    vec![
        named("lease", id.to_string()),
        target,
        named("by", by),
        detail.unwrap_or_default(),
    ]
    .into()
}

fn outcome(outcome: Outcome) -> Columns {
    let eval = outcome.eval.map(|eval| eval.to_string()).unwrap_or_default();
    Columns {
        subject: vec![named("eval", eval), format!("{} µs", outcome.micros)],
        outcome: match outcome.error {
            None => "ok".to_owned(),
            Some(error) => error.code.to_string(),
        },
    }
}

fn alarm(alarm: Alarm) -> Columns {
    let lease = alarm.lease.map(|lease| lease.to_string()).unwrap_or_default();
    let told = [
        alarm.log,
        alarm.revert_failed,
        alarm.bad_signature,
        alarm.secret_in,
        alarm.panicked,
        alarm.points,
        alarm.fault,
    ];
    let mut subject = vec![named("lease", lease)];
    subject.extend(told.into_iter().flatten());
    subject.into()
}

fn read<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    serde_json::from_str(text)
}

fn named(name: &str, value: String) -> String {
    if value.is_empty() {
        value
    } else {
        format!("{name} {value}")
    }
}

/// The code of an eval, unless it is recorded in parts.
fn code(payload: &str) -> Option<String> {
    /// The one member that is shown; payloads of a later version may have others than this one's.
    #[derive(serde::Deserialize)]
    struct Payload {
        code: String,
    }
    let payload: Payload = serde_json::from_str(payload).ok()?;
    Some(payload.code.trim().to_owned())
}

/// The decision of the policy.
fn decision(gate: Option<&Value>) -> String {
    match gate.and_then(|gate| gate.get("allowed")).and_then(Value::as_bool) {
        Some(true) => "allowed".to_owned(),
        Some(false) => "denied".to_owned(),
        None => String::new(),
    }
}

/// A value in words: lists joined, objects left out (`audit show` prints them).
fn shown(value: &Value) -> String {
    match value {
        Value::Null | Value::Object(_) => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn cut(text: &str) -> String {
    let text = term::escape(text, term::LineBreaks::Escape, 4 * MAX_WHAT);
    if text.chars().count() <= MAX_WHAT {
        return text.into_owned();
    }
    text.chars().take(MAX_WHAT - 1).chain(['…']).collect()
}
