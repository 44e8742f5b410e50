//! `debugctl leases --watch`: the changes in force and the time that they have left.
//!
//! The agent is asked only every few seconds, as each lookup is an eval in its log; in between, the local clock counts down.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};

use crate::net::interrupts::Interrupts;
use crate::net::link::Loss;
use crate::session::{AgentTarget, AttachedSession, EvalError, EvalRequest};
use crate::ui::failure::{CommandFailure, ended};
use crate::ui::tables;
use crate::ui::term;

/// How often the agent is asked.
const ASK: Duration = Duration::from_secs(3);
/// How often the table is drawn.
const DRAW: Duration = Duration::from_secs(1);
/// The tolerance between two reports of one deadline: less than an operator would extend a lease by.
const SAME: Duration = Duration::from_millis(1500);

/// The agent's last answer.
struct LastSeen {
    rows: Vec<Value>,
    at: Instant,
}

/// Shows the leases until Ctrl-C: on a terminal one table in place, else one for each change.
///
/// # Errors
/// The first lookup fails; without a terminal also a later one.
pub(crate) async fn watch(target: &AgentTarget) -> Result<(), CommandFailure> {
    let mut session = AttachedSession::open(target).await?;
    let mut interrupts = Interrupts::listen();
    let watched = match term::is_screen() {
        true => in_place(target, &mut session, &mut interrupts).await,
        false => each_change(&mut session, &mut interrupts).await,
    };
    let closed = session.close().await;
    ended(watched, closed)
}

/// Looks the leases up and verifies that the lookup is in the log.
async fn look(session: &mut AttachedSession) -> Result<LastSeen, EvalError> {
    let result = session.quietly(EvalRequest::code("leases()")).await?;
    session.verify().await?;
    let rows = result.value.as_array().cloned().unwrap_or_default();
    Ok(LastSeen {
        rows,
        at: Instant::now(),
    })
}

async fn each_change(
    session: &mut AttachedSession,
    interrupts: &mut Interrupts,
) -> Result<(), CommandFailure> {
    let mut shown: Option<LastSeen> = None;
    loop {
        let seen = look(session).await?;
        if !shown.as_ref().is_some_and(|shown| is_as(shown, &seen)) {
            term::out(&table(&seen, seen.at))?;
            shown = Some(seen);
        }
        tokio::select! {
            () = sleep(ASK) => {}
            () = interrupts.next() => return Ok(()),
            loss = session.loss() => return Err(EvalError::Lost(loss).into()),
        }
    }
}

async fn in_place(
    target: &AgentTarget,
    session: &mut AttachedSession,
    interrupts: &mut Interrupts,
) -> Result<(), CommandFailure> {
    let mut seen = look(session).await?;
    let mut drawn = 0;
    let mut lost: Option<String> = None;
    loop {
        let text = screen(&seen, Instant::now(), lost.as_deref());
        drawn = term::redraw(&text, drawn)?;
        tokio::select! {
            () = sleep_until(Instant::now() + DRAW) => {}
            () = interrupts.next() => return lost.map_or(Ok(()), |why| Err(EvalError::Lost(Loss(why)).into())),
        }
        if lost.is_none() && !is_due(&seen) {
            continue;
        }
        let looked = tokio::select! {
            looked = look_again(target, session, lost.is_some()) => looked,
            () = interrupts.next() => return lost.map_or(Ok(()), |why| Err(EvalError::Lost(Loss(why)).into())),
        };
        match looked {
            Ok(Some(now)) => (seen, lost) = (now, None),
            Ok(None) => {}
            Err(EvalError::Lost(Loss(why))) => lost = Some(why),
            Err(other) => return Err(other.into()),
        }
    }
}

/// Looks the leases up, in a new session if this one was lost; `None` while nothing listens there.
async fn look_again(
    target: &AgentTarget,
    session: &mut AttachedSession,
    lost: bool,
) -> Result<Option<LastSeen>, EvalError> {
    if lost {
        let Some(again) = attach_again(target).await? else {
            return Ok(None);
        };
        let before = std::mem::replace(session, again);
        session.take_over(before);
    }
    look(session).await.map(Some)
}

/// Opens another session in place of a lost one; `None` while nothing listens there.
async fn attach_again(target: &AgentTarget) -> Result<Option<AttachedSession>, CommandFailure> {
    match AttachedSession::open(target).await {
        Ok(session) => Ok(Some(session)),
        Err(failure) if failure.is_no_connection() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Whether the next lookup is due: the last one is [`ASK`] old, or a lease should have ended since.
fn is_due(seen: &LastSeen) -> bool {
    let age = seen.at.elapsed();
    let over = |row: &Value| left(row).is_some_and(|left| left <= age);
    age >= ASK || seen.rows.iter().any(over)
}

/// The time that a lease had left at its lookup.
fn left(row: &Value) -> Option<Duration> {
    row.get("reverts_in_ms")
        .and_then(Value::as_u64)
        .map(Duration::from_millis)
}

/// Whether two answers agree, apart from the time between them.
fn is_as(before: &LastSeen, now: &LastSeen) -> bool {
    let between = now.at.saturating_duration_since(before.at);
    before.rows.len() == now.rows.len()
        && before.rows.iter().zip(&now.rows).all(|(before, now)| {
            let expected = left(before).map(|left| left.saturating_sub(between));
            let alike = match (expected, left(now)) {
                (Some(expected), Some(left)) => expected.abs_diff(left) < SAME,
                (expected, left) => expected == left,
            };
            alike && timeless(before) == timeless(now)
        })
}

/// A row without its remaining time.
fn timeless(row: &Value) -> Value {
    let mut row = row.clone();
    if let Some(members) = row.as_object_mut() {
        members.remove("reverts_in");
        members.remove("reverts_in_ms");
    }
    row
}

/// The table at a moment.
fn table(seen: &LastSeen, at: Instant) -> String {
    let age = at.saturating_duration_since(seen.at);
    let aged = |row: &Value| {
        let mut row = row.clone();
        if let (Some(left), Some(members)) = (left(&row), row.as_object_mut()) {
            let left = left.saturating_sub(age);
            // A lease past its deadline is being reverted; only the agent knows whether it has been.
            let shown = if left.is_zero() {
                Value::from("now")
            } else {
                Value::from(term::in_seconds(left))
            };
            members.insert("reverts_in_ms".to_owned(), shown);
        }
        row
    };
    let rows: Vec<Value> = seen.rows.iter().map(aged).collect();
    if rows.is_empty() {
        "no leases".to_owned()
    } else {
        tables::text("leases", &rows)
    }
}

/// The table with its footer.
fn screen(seen: &LastSeen, at: Instant, lost: Option<&str>) -> String {
    let table = table(seen, at);
    let foot = match lost {
        None => "Ctrl-C ends".to_owned(),
        Some(why) => format!(
            "NOT CURRENT: the connection was lost: {}; this was seen {} ago. Attaching again; Ctrl-C ends",
            term::line(why),
            term::in_seconds(at.saturating_duration_since(seen.at)),
        ),
    };
    format!("{table}\n\n{foot}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(id: u64, ms: u64) -> Value {
        json!({ "id": id, "target": "state:a", "state": "provisional", "reverts_in": "x", "reverts_in_ms": ms })
    }

    fn seen(rows: &[Value], at: Instant) -> LastSeen {
        LastSeen {
            rows: rows.to_vec(),
            at,
        }
    }

    #[test]
    fn a_table_counts_down() {
        let at = Instant::now();
        let seen = seen(&[row(1, 299_000), row(2, 2_500)], at);
        let lines = |after: u64| -> Vec<String> {
            let table = table(&seen, at + Duration::from_millis(after));
            table.lines().skip(1).map(str::to_owned).collect()
        };
        assert_eq!(
            lines(0),
            ["1   state:a  provisional  4m59s", "2   state:a  provisional  3s"]
        );
        assert_eq!(
            lines(1_000),
            ["1   state:a  provisional  4m58s", "2   state:a  provisional  2s"]
        );
        assert_eq!(
            lines(2_500),
            ["1   state:a  provisional  4m57s", "2   state:a  provisional  now"]
        );
    }

    #[test]
    fn a_conflict_has_no_time_and_a_note() {
        let at = Instant::now();
        let note = "the service itself changed `config.db.port` meanwhile; `settle(1, \"keep\")` or `settle(1, \"force\")`";
        let conflict = json!({ "id": 1, "target": "state:a", "state": "conflict", "note": note });
        let table = table(&seen(&[conflict, row(2, 1_000)], at), at);
        let expected = format!(
            "id  target   state        reverts in\n\
             1   state:a  conflict\n    {note}\n\
             2   state:a  provisional  1s"
        );
        assert_eq!(table, expected);
    }

    #[test]
    fn the_time_that_passes_is_no_change_and_another_deadline_is() {
        let at = Instant::now();
        let before = seen(&[row(1, 60_000)], at);
        let later = |rows: &[Value]| is_as(&before, &seen(rows, at + Duration::from_secs(3)));
        assert!(later(&[row(1, 57_100)]));
        assert!(!later(&[row(1, 60_000)]), "it was extended");
        assert!(!later(&[row(2, 57_000)]));
        assert!(!later(&[]));
        let mut confirmed = row(1, 57_000);
        confirmed["state"] = json!("confirmed");
        assert!(!later(&[confirmed]));
    }

    /// T46.
    #[test]
    fn a_lost_connection_is_said_below_what_was_seen_last() {
        let at = Instant::now();
        let seen = seen(&[row(1, 60_000)], at);
        let screen = screen(&seen, at + Duration::from_secs(5), Some("gone\u{1b}[2J"));
        assert!(
            screen.contains(
                "55s\n\nNOT CURRENT: the connection was lost: gone\\u{1b}[2J; this was seen 5s ago"
            )
        );
    }
}
