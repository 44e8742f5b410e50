//! An agent's lists as tables. A table shows the keys that are present, the known ones first.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::ui::failure::CommandFailure;
use crate::ui::term;

/// The limit on the width of a column, in characters; longer values are cut.
const MAX_COLUMN: usize = 60;
/// The limit for notes, which say what to do and stand last or on a line of their own.
const MAX_NOTE: usize = 200;

/// The known columns of each list, in display order.
fn columns(name: &str) -> &'static [&'static str] {
    match name {
        "leases" => &[
            "id",
            "target",
            "owner",
            "state",
            "reverts_in_ms",
            "guard",
            "reason",
        ],
        "points" => &["name", "kind", "arguments", "patched", "owner", "where", "note"],
        "sessions" => &["id", "operator", "roles", "mode", "since", "leases"],
        _ => &[],
    }
}

/// Prints the value of `leases()`, `points()` or `sessions()`.
///
/// # Errors
/// Stdout cannot be written.
pub(crate) fn print(name: &str, value: &Value) -> Result<(), CommandFailure> {
    match value.as_array() {
        Some(rows) if rows.is_empty() => {
            term::note(&format!("no {name}"));
            Ok(())
        }
        Some(rows) if rows.iter().all(Value::is_object) => Ok(term::out(&text(name, rows))?),
        // Not a list of maps: an agent of another version. Its answer is still worth showing.
        _ => Ok(term::json(value)?),
    }
}

/// Such a list as text, without elements that are no maps. The notes on a lease stand below its row, since they would make all
/// rows longer than a screen is wide.
pub(crate) fn text(name: &str, rows: &[Value]) -> String {
    let known = columns(name);
    if name != "leases" {
        return table(known, rows);
    }
    let mut rows: Vec<Value> = rows.iter().filter(|row| row.is_object()).cloned().collect();
    let taken = rows
        .iter_mut()
        .map(|row| row.as_object_mut().and_then(|row| row.remove("note")));
    let notes: Vec<String> = taken.map(|note| cell("note", note.as_ref())).collect();
    let table = table(known, &rows);
    let mut lines = table.lines();
    let mut text: Vec<String> = lines.next().map(str::to_owned).into_iter().collect();
    for (line, note) in lines.zip(notes) {
        text.push(line.to_owned());
        if !note.is_empty() {
            text.push(format!("    {note}"));
        }
    }
    text.join("\n")
}

fn table(known: &[&str], rows: &[Value]) -> String {
    let rows: Vec<&Map<String, Value>> = rows.iter().filter_map(Value::as_object).collect();
    // An empty column says nothing, and a duration in words repeats its column in milliseconds.
    let says = |row: &&Map<String, Value>, key: &str| {
        !cell(key, row.get(key)).is_empty() && !row.contains_key(&format!("{key}_ms"))
    };
    let keys = rows.iter().flat_map(|row| row.keys().map(String::as_str));
    let present: BTreeSet<&str> = keys.filter(|key| rows.iter().any(|row| says(row, key))).collect();
    let others = present.iter().copied().filter(|key| !known.contains(key));
    let keys: Vec<&str> = known
        .iter()
        .copied()
        .filter(|key| present.contains(key))
        .chain(others)
        .collect();
    let mut lines = vec![keys.iter().map(|key| heading(key)).collect::<Vec<_>>()];
    lines.extend(
        rows.iter()
            .map(|row| keys.iter().map(|key| cell(key, row.get(*key))).collect()),
    );
    aligned(&lines)
}

fn heading(key: &str) -> String {
    match key.strip_suffix("_ms") {
        Some(key) => key.replace('_', " "),
        None => term::line(key).into_owned(),
    }
}

fn cell(key: &str, value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => term::line(text).into_owned(),
        Some(Value::Number(ms)) if key.ends_with("_ms") => ms.as_u64().map_or(ms.to_string(), term::span),
        Some(Value::Bool(yes)) => if *yes { "yes" } else { "no" }.to_owned(),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| cell("", Some(item)))
            .collect::<Vec<_>>()
            .join(","),
        Some(other) => term::line(&other.to_string()).into_owned(),
    };
    let most = if key == "note" { MAX_NOTE } else { MAX_COLUMN };
    if text.chars().count() <= most {
        return text;
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

/// Columns as wide as their widest cell, two spaces apart, without trailing spaces.
pub(crate) fn aligned(lines: &[Vec<String>]) -> String {
    let count = lines.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let mut row = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(row, "{cell:<width$}  ");
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text.pop();
    text
}

/// The ids of the leases in force in the value of `leases()`.
pub(crate) fn in_force(value: &Value) -> BTreeSet<u64> {
    let rows = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let live = |row: &&Value| {
        // A lease in conflict is listed until it is settled, but no longer changes anything.
        row.get("state")
            .and_then(Value::as_str)
            .is_none_or(|s| matches!(s, "provisional" | "confirmed"))
    };
    rows.iter()
        .filter(live)
        .filter_map(|row| row.get("id").and_then(Value::as_u64))
        .collect()
}

/// `lease 3`, `leases 3, 4`.
pub(crate) fn leases_text(ids: &[u64]) -> String {
    let list: Vec<String> = ids.iter().map(u64::to_string).collect();
    format!(
        "{} {}",
        if ids.len() == 1 { "lease" } else { "leases" },
        list.join(", ")
    )
}

/// Whether a text names a lease: `lease 7`, and not as part of `lease 71`.
pub(crate) fn speaks_of(text: &str, id: u64) -> bool {
    let name = format!("lease {id}");
    text.match_indices(&name).any(|(at, _)| {
        let rest = text.get(at + name.len()..).unwrap_or_default();
        !rest.starts_with(|next: char| next.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn known_columns_come_first_and_unknown_ones_are_not_lost() {
        let rows = json!([
            { "id": 3, "owner": "alice", "target": "point:GET /api/x", "state": "provisional",
              "reverts_in_ms": 299_000, "zeal": [1, true] },
            { "id": 12, "target": "state:config.a", "state": "confirmed", "reverts_in_ms": 60_000 },
        ]);
        let expected = "\
id  target            owner  state        reverts in  zeal
3   point:GET /api/x  alice  provisional  4m59s       1,yes
12  state:config.a           confirmed    1m";
        assert_eq!(table(columns("leases"), rows.as_array().unwrap()), expected);
    }

    #[test]
    fn what_there_is_to_say_of_a_lease_stands_below_it() {
        let rows =
            json!([{ "id": 3, "state": "conflict", "note": "one\ntwo" }, { "id": 4, "state": "confirmed" }]);
        let expected = "id  state\n3   conflict\n    one\\u{a}two\n4   confirmed";
        assert_eq!(text("leases", rows.as_array().unwrap()), expected);
        assert_eq!(
            text("points", &[json!({ "name": "a", "note": "b" })]),
            "name  note\na     b"
        );
    }

    /// T46.
    #[test]
    fn hostile_cells_stay_one_cell() {
        let rows = json!([{ "id": 1, "reason": "\u{1b}[2J\nid 2", "x\n\u{202e}": "y".repeat(5000) }]);
        let table = table(columns("leases"), rows.as_array().unwrap());
        assert_eq!(table.lines().count(), 2);
        assert!(table.contains(r"\u{1b}[2J\u{a}id 2") && !table.contains('\u{202e}'));
        assert!(table.lines().all(|line| line.chars().count() < 200));
    }

    #[test]
    fn ended_leases_are_not_in_force() {
        let rows =
            json!([{ "id": 1, "state": "provisional" }, { "id": 2, "state": "conflict" }, { "id": 3 }]);
        assert_eq!(in_force(&rows), [1, 3].into());
        assert_eq!(in_force(&json!("none")), [].into());
    }

    #[test]
    fn a_value_that_names_a_lease_speaks_of_no_longer_number() {
        let text = "[\"lease 71: config.db.port put back\", \"lease 72\"]";
        assert!(speaks_of(text, 71) && speaks_of(text, 72));
        assert!(!speaks_of(text, 7) && !speaks_of("", 7) && !speaks_of("7", 7));
    }
}
