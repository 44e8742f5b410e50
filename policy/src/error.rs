use std::fmt;
use std::ops::Range;

use crate::text::is_hidden;

/// How much of a line an error shows, in characters.
const SHOWN: usize = 120;

/// Why a text is not a policy, with the place.
///
/// Its display has several lines: the place, the message, the line with a mark below it, the advice. Logs record only `message`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyError {
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// The fault and what was expected, in one line.
    pub message: String,
    /// What to do; empty if the message says it.
    pub help: String,
    /// The part of the line around the fault.
    excerpt: String,
    /// The position and width of the mark below `excerpt`, in characters.
    mark: (usize, usize),
}

impl PolicyError {
    /// An error about a byte range of the text.
    pub(crate) fn new(
        text: &str,
        span: &Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = text
            .get(line_start..)
            .unwrap_or_default()
            .lines()
            .next()
            .unwrap_or_default();
        let column = before.get(line_start..).unwrap_or_default().chars().count();
        // A long line is shown from a little before the fault.
        let first = column.saturating_sub(SHOWN / 2);
        let printable = |c| if is_hidden(c) { ' ' } else { c };
        let excerpt: String = line.chars().skip(first).take(SHOWN).map(printable).collect();
        let marked = text
            .get(span.clone())
            .unwrap_or_default()
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .count();
        let room = excerpt.chars().count().saturating_sub(column - first);
        Self {
            line: before.matches('\n').count() + 1,
            column: column + 1,
            message: message.into(),
            help: help.into(),
            excerpt,
            mark: (column - first, marked.min(room).max(1)),
        }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            column,
            message,
            help,
            excerpt,
            mark: (indent, width),
        } = self;
        let number = line.to_string();
        let margin = number.len();
        writeln!(f, "line {line}, column {column}: {message}")?;
        writeln!(f, "{:margin$} |", "")?;
        writeln!(f, "{number} | {excerpt}")?;
        write!(f, "{:margin$} | {:indent$}{}", "", "", "^".repeat(*width))?;
        if help.is_empty() {
            Ok(())
        } else {
            write!(f, "\nhelp: {help}")
        }
    }
}

impl std::error::Error for PolicyError {}
