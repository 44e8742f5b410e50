//! `debugctl audit list`.

use serde_json::{Map, Value};

use super::check::{Record, check};
use super::verify::{counts, vouched};
use crate::args::List;
use crate::failure::Failure;
use crate::{tables, term};

/// How much of a record's own words a line shows, in characters.
const MAX_WHAT: usize = 80;

/// Prints the records that were asked for.
///
/// # Errors
/// The log does not verify; what it holds is printed nevertheless.
pub(super) fn run(args: &List) -> Result<(), Failure> {
    // INVARIANT: the lines are made from the bytes that were verified, and printed only once all of them were.
    let (mut rows, mut total) = (Vec::new(), 0_u64);
    let report = check(&args.anchor, &mut |record| {
        total += 1;
        if is_asked_for(record, args) {
            rows.push(row(record));
        }
    });
    let shown = rows.len();
    if shown > 0 {
        term::out(&tables::aligned(&rows))?;
    }
    let checked = report.and_then(|report| vouched(&report).map(|()| report));
    match checked {
        Ok(report) => {
            term::note(&format!("{shown} of {total} records shown; verified: {}", counts(&report)));
            Ok(())
        }
        Err(failure) => {
            term::alarm(&format!("{shown} of {total} records shown, of a log that is NOT verified"));
            Err(failure)
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

/// Who a record is about: it says so itself, or its session does.
fn operator(record: &Record<'_>) -> Option<String> {
    let own = serde_json::from_str::<Value>(record.text).ok();
    let own = own.as_ref().and_then(|value| value.get("operator")).and_then(Value::as_str).map(str::to_owned);
    own.or_else(|| record.operator.map(str::to_owned))
}

/// Number, time, kind, who, what, outcome.
fn row(record: &Record<'_>) -> Vec<String> {
    let members: Map<String, Value> = serde_json::from_str(record.text).unwrap_or_default();
    let who = operator(record).unwrap_or_default();
    let who = who.rsplit('/').next().unwrap_or_default().to_owned();
    vec![
        record.seq.to_string(),
        word(members.get("time")),
        term::line(record.kind).into_owned(),
        if who.is_empty() { "-".to_owned() } else { term::line(&who).into_owned() },
        what(&members),
        outcome(&members),
    ]
}

/// The code of an eval, else whatever names what a record is about.
fn what(members: &Map<String, Value>) -> String {
    let payload = members.get("payload").and_then(Value::as_str);
    let payload = payload.and_then(|payload| serde_json::from_str::<Value>(payload).ok());
    if let Some(code) = payload.as_ref().and_then(|payload| payload.get("code")).and_then(Value::as_str) {
        return cut(code.trim());
    }
    let keys =
        ["action", "resource", "target", "lease", "point", "path", "mode", "reason", "message", "version"];
    let words: Vec<String> =
        keys.iter().filter_map(|key| members.get(*key)).map(|value| word(Some(value))).collect();
    cut(&words.join(" "))
}

fn outcome(members: &Map<String, Value>) -> String {
    let keys = ["outcome", "decision", "state", "cause", "error"];
    keys.iter().find_map(|key| members.get(*key)).map(|value| word(Some(value))).unwrap_or_default()
}

/// A value in a word: a string itself, of an object its only or first name.
fn word(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => term::line(text).into_owned(),
        Some(Value::Object(members)) => {
            members.keys().next().map(|name| term::line(name).into_owned()).unwrap_or_default()
        }
        Some(other) => cut(&other.to_string()),
    }
}

fn cut(text: &str) -> String {
    let text = term::escape(text, term::Lines::Escape, 4 * MAX_WHAT);
    if text.chars().count() <= MAX_WHAT {
        return text.into_owned();
    }
    text.chars().take(MAX_WHAT - 1).chain(['…']).collect()
}
