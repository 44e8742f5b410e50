//! All output to the terminal. Text of an agent or a log passes [`escape`] first.
//!
//! An agent is hostile until proven otherwise, and a log holds what operators typed: neither may move the cursor, rename the
//! window, or show text in a misleading order.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use debug_policy::is_hidden;
use serde::Serialize;

#[cfg(test)]
mod tests;

/// The limit on text shown at once, in bytes: the size of a message, so that nothing that arrived complete is cut.
pub(crate) const MAX_TEXT: usize = debug_wire::MAX_MESSAGE;
/// The limit on a warning or an error, in bytes: a screen or two, so that the important part does not scroll away.
pub(crate) const MAX_NOTE: usize = 8 << 10;

/// Why a result did not get to stdout.
#[derive(Debug)]
pub(crate) enum Unwritten {
    /// It cannot be written as JSON.
    Json(serde_json::Error),
    /// Stdout refuses it.
    Stdout(io::Error),
}

/// Whether line breaks and tabs are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LineBreaks {
    /// They are kept: the text may take several lines.
    Keep,
    /// They are escaped: the text is part of a line.
    Escape,
}

/// Makes text safe to show: control characters, characters that change the writing direction, and invisible ones become `\u{..}`.
/// The text is cut after `max` bytes of the original, and the number of bytes left off is appended.
pub(crate) fn escape(text: &str, lines: LineBreaks, max: usize) -> Cow<'_, str> {
    let shown = prefix(text, max);
    let left_off = text.len() - shown.len();
    let plain = |c: char| !is_hidden(c) || (lines == LineBreaks::Keep && matches!(c, '\n' | '\t'));
    if left_off == 0 && shown.chars().all(plain) {
        return Cow::Borrowed(shown);
    }
    let mut safe = String::with_capacity(shown.len());
    for c in shown.chars() {
        if plain(c) {
            safe.push(c);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(safe, "\\u{{{:x}}}", u32::from(c));
        }
    }
    if left_off > 0 {
        let _ = write!(safe, "… ({left_off} bytes more)");
    }
    Cow::Owned(safe)
}

/// The longest prefix of the text within `max` bytes, cut between characters.
pub(crate) fn prefix(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// One line of at most 200 bytes, for a column or the middle of a message.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escape(text, LineBreaks::Escape, 200)
}

/// Makes JSON safe to show without changing its meaning: the same characters become `\uXXXX`. They occur only inside strings,
/// where that is allowed.
pub(crate) fn escape_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    let mut units = [0; 2];
    for c in json.chars() {
        if is_hidden(c) && c != '\n' {
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(safe, "\\u{unit:04x}");
            }
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Writes a result to stdout, escaped, with a final newline.
///
/// # Errors
/// Stdout cannot be written, or its reader has closed it, as `head` does.
pub(crate) fn out(text: &str) -> Result<(), Unwritten> {
    let mut text = escape(text, LineBreaks::Keep, MAX_TEXT).into_owned();
    text.push('\n');
    write_out(&text)
}

/// Writes a part of a running eval's output to stdout, escaped.
///
/// # Errors
/// Stdout cannot be written.
pub(crate) fn stream(text: &str) -> Result<(), Unwritten> {
    write_out(&escape(text, LineBreaks::Keep, MAX_TEXT))
}

/// Writes a value to stdout as one line of JSON.
///
/// # Errors
/// Stdout cannot be written.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Unwritten> {
    let text = serde_json::to_string(value).map_err(Unwritten::Json)?;
    write_out(&(escape_json(&text) + "\n"))
}

fn write_out(text: &str) -> Result<(), Unwritten> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(Unwritten::Stdout)
}

/// Writes a warning, an explanation or progress to stderr, escaped. A failure is ignored: there is nowhere left to report it.
pub(crate) fn note(text: &str) {
    let mut text = escape(text, LineBreaks::Keep, MAX_NOTE).into_owned();
    text.push('\n');
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Writes the beginning of a line to stderr, escaped.
pub(crate) fn unfinished(text: &str) {
    let _ = io::stderr()
        .lock()
        .write_all(escape(text, LineBreaks::Escape, MAX_NOTE).as_bytes());
}

/// Clears the cursor's row, the `rows` rows above it, and everything below; leaves the cursor at the beginning of the topmost.
pub(crate) fn clear_up(rows: usize) {
    let up = if rows == 0 {
        String::new()
    } else {
        format!("\x1b[{rows}A")
    };
    let _ = io::stderr().lock().write_all(format!("\r{up}\x1b[J").as_bytes());
}

/// The width of the terminal at stderr, in columns; 80 if unknown.
pub(crate) fn columns() -> usize {
    let columns = rustix::termios::tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { 80 } else { columns }
}

/// Whether the terminal can only show text, so that no line can be edited on it: `TERM` is `dumb` or missing.
pub(crate) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|name| name.is_empty() || name == "dumb")
}

/// Writes a warning to stderr that must not be overlooked.
pub(crate) fn alarm(text: &str) {
    note(&format!("WARNING: {text}"));
}

/// Draws text at the end of stdout in place of the `above` lines drawn before. Returns the number of lines drawn, at most the
/// height of the terminal.
///
/// # Errors
/// Stdout cannot be written.
pub(crate) fn redraw(text: &str, above: usize) -> Result<usize, Unwritten> {
    let rows = rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_row));
    let (text, drawn) = drawing(text, above, if rows < 2 { 24 } else { rows });
    write_out(&text).map(|()| drawn)
}

/// The bytes of [`redraw`] for a terminal of `rows` rows, and the number of lines they take. The last row stays free for the
/// cursor: if the terminal scrolled, the first line would be left behind.
fn drawing(text: &str, above: usize, rows: usize) -> (String, usize) {
    let safe = escape(text, LineBreaks::Keep, MAX_NOTE);
    let lines: Vec<&str> = safe.lines().collect();
    let most = rows.saturating_sub(1).max(1);
    let mut shown: Vec<Cow<'_, str>> = lines.iter().take(most).map(|line| Cow::Borrowed(*line)).collect();
    if lines.len() > most {
        // The last line tells whether the table is current, so it stays.
        let left_off = lines.len() - most + 1;
        let foot = lines.last().copied().unwrap_or_default();
        shown.truncate(most.saturating_sub(2));
        shown.push(Cow::Owned(format!("… {left_off} more lines")));
        shown.push(Cow::Borrowed(foot));
    }
    // Wrapping is off while drawing, so that each line takes one row, however wide its characters are.
    let up = if above == 0 {
        String::new()
    } else {
        format!("\x1b[{above}A")
    };
    let body: String = shown.iter().map(|line| format!("{line}\x1b[K\r\n")).collect();
    (format!("\r{up}\x1b[?7l{body}\x1b[?7h\x1b[J"), shown.len())
}

/// Whether results go to a terminal.
pub(crate) fn is_screen() -> bool {
    io::stdout().is_terminal()
}

/// Whether a person sits at this end: stdin and stderr are a terminal.
pub(crate) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Whether colours are wanted (<https://no-color.org>).
pub(crate) fn wants_colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A span of time in words, in whole seconds, rounded up so that only an elapsed one is `0s`: `4m59s`.
pub(crate) fn in_seconds(time: std::time::Duration) -> String {
    let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
    if seconds == 0 {
        "0s".to_owned()
    } else {
        span(seconds.saturating_mul(1000))
    }
}

/// A span of time in words, at most two units: `8h`, `4m59s`, `950ms`, `3d4h`.
pub(crate) fn span(ms: u64) -> String {
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    let Some(at) = units.iter().position(|(_, unit)| ms >= *unit) else {
        return format!("{ms}ms");
    };
    let mut rest = ms;
    let mut text = String::new();
    for (name, unit) in units.iter().skip(at).take(2) {
        if rest / unit > 0 {
            let _ = write!(text, "{}{name}", rest / unit);
        }
        rest %= unit;
    }
    text
}
