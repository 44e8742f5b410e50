//! `debugctl audit list`.

use serde_json::{Map, Value};

use super::check::{Record, check};
use super::verify::{counts, operators, vouched};
use crate::args::List;
use crate::ui::failure::{Failure, ended};
use crate::ui::tables;
use crate::ui::term;

/// How much of a record's own words a line shows, in characters.
const MAX_WHAT: usize = 80;

/// Prints the requested records.
///
/// # Errors
/// The log does not verify; its records are printed nevertheless.
pub(super) fn run(args: &List) -> Result<(), Failure> {
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
        term::out(&tables::aligned(&rows)).map_err(Failure::from)
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
                    "{unproven} of those shown follow the checkpoint (`unproven`): whoever can write the folder may have made them"
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

fn is_asked_for(record: &Record<'_>, args: &List) -> bool {
    let kind = args
        .kind
        .as_deref()
        .is_none_or(|kind| record.kind == kind || (kind.ends_with('.') && record.kind.starts_with(kind)));
    let name = |id: &str| id.rsplit('/').next().unwrap_or_default().to_owned();
    let who = args.operator.as_deref();
    kind && who.is_none_or(|who| operator(record).is_some_and(|id| id == who || name(&id) == who))
}

/// The operator that a record names, else the operator of its session.
fn operator(record: &Record<'_>) -> Option<String> {
    let own = serde_json::from_str::<Value>(record.text).ok();
    let own = own
        .as_ref()
        .and_then(|value| value.get("operator"))
        .and_then(Value::as_str)
        .map(str::to_owned);
    own.or_else(|| record.operator.map(str::to_owned))
}

/// The columns: number, time, kind, operator, subject, outcome.
fn row(record: &Record<'_>) -> Vec<String> {
    let members: Map<String, Value> = serde_json::from_str(record.text).unwrap_or_default();
    let who = operator(record).unwrap_or_default();
    let who = who.rsplit('/').next().unwrap_or_default().to_owned();
    vec![
        record.seq.to_string(),
        word(members.get("time")),
        term::line(record.kind).into_owned(),
        if who.is_empty() {
            "-".to_owned()
        } else {
            term::line(&who).into_owned()
        },
        what(record.kind, &members),
        match (record.covered, outcome(record.kind, &members)) {
            (true, outcome) => term::line(&outcome).into_owned(),
            (false, outcome) => format!("{} unproven", term::line(&outcome))
                .trim_start()
                .to_owned(),
        },
    ]
}

/// The subject of a record, from the members of its kind (`FORMAT.md` and the agent's records).
fn what(kind: &str, members: &Map<String, Value>) -> String {
    let text = |name: &str| members.get(name).map(shown).unwrap_or_default();
    let named = |name: &str, value: String| {
        if value.is_empty() {
            value
        } else {
            format!("{name} {value}")
        }
    };
    let parts = match kind {
        "eval" | "eval.refused" => vec![code(members).unwrap_or_else(|| text("refused"))],
        "effect" => vec![
            text("function"),
            text("method"),
            text("target"),
            text("path"),
            text("about"),
            text("reason"),
            text("text"),
            text("patch_failed"),
            text("revert"),
            text("renew"),
            text("adopt"),
            text("settle"),
        ],
        "outcome" => vec![named("eval", text("eval")), text("micros") + " µs"],
        "lease.made" => {
            let lease = members
                .get("lease")
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default();
            let part = |name: &str| lease.get(name).map(shown).unwrap_or_default();
            let ttl = lease
                .get("ttl_ms")
                .and_then(Value::as_u64)
                .map(term::span)
                .unwrap_or_default();
            vec![
                named("lease", part("id")),
                part("target"),
                named("for", ttl),
                named("because", part("reason")),
            ]
        }
        kind if kind.starts_with("lease.") => {
            vec![
                named("lease", text("lease")),
                text("target"),
                named("by", text("by")),
                text("detail"),
            ]
        }
        "session.open" => vec![text("roles"), named("from", text("peer"))],
        "session.close" | "session.refused" => vec![text("why"), named("from", text("peer"))],
        "boot" => vec![
            text("service"),
            text("instance"),
            text("environment"),
            named("agent", text("agent")),
        ],
        _ => [
            "file",
            "listen",
            "log",
            "revert_failed",
            "bad_signature",
            "covered",
        ]
        .iter()
        .map(|name| text(name))
        .collect(),
    };
    cut(&parts
        .iter()
        .filter(|part| !part.is_empty())
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(" "))
}

/// The code of an eval, unless it is recorded in parts.
fn code(members: &Map<String, Value>) -> Option<String> {
    let payload = members.get("payload")?.as_str()?;
    let payload: Value = serde_json::from_str(payload).ok()?;
    payload.get("code")?.as_str().map(|code| code.trim().to_owned())
}

/// The result of an outcome, or the decision of the policy.
fn outcome(kind: &str, members: &Map<String, Value>) -> String {
    if kind == "outcome" {
        let error = members.get("error").and_then(|error| error.get("code"));
        return error.map_or_else(|| "ok".to_owned(), shown);
    }
    match members
        .get("gate")
        .and_then(|gate| gate.get("allowed"))
        .and_then(Value::as_bool)
    {
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

/// A string of a record, escaped onto one line.
fn word(value: Option<&Value>) -> String {
    value
        .and_then(Value::as_str)
        .map(|text| term::line(text).into_owned())
        .unwrap_or_default()
}

fn cut(text: &str) -> String {
    let text = term::escape(text, term::Lines::Escape, 4 * MAX_WHAT);
    if text.chars().count() <= MAX_WHAT {
        return text.into_owned();
    }
    text.chars().take(MAX_WHAT - 1).chain(['…']).collect()
}
