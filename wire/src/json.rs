//! Strict JSON: a text has the same meaning for every reader.
//!
//! A scan of our own reads the text first. It refuses what `serde_json` would accept or refuse depending on the target type, or
//! on features that another crate of the same binary has enabled. The scan is no second parser: it may pass text that is no JSON,
//! which `serde_json` then refuses.

use std::borrow::Cow;
use std::collections::HashSet;

use debug_policy::is_hidden;
use serde::de::DeserializeOwned;

use crate::MAX_DEPTH;

/// The limit on the text of an error, in characters; it may quote what the peer sent.
const SHOWN: usize = 200;
/// The prefix with which `serde_json` marks its own values under certain features. As a member of a message it could turn into a
/// number or raw text.
const RESERVED: &str = "$serde_json::private::";

/// Parses one JSON value that fills the text.
///
/// # Errors
/// No JSON; arrays and objects more than [`MAX_DEPTH`] deep; an object with two equal keys, compared unescaped; half of a
/// surrogate pair; a number that neither 64 bits nor a finite double can hold; anything after the value; and what the type
/// rejects, such as an unknown member.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, JsonError> {
    read(text, MAX_DEPTH)
}

/// Like [`from_str`], with another limit on the depth.
pub(crate) fn read<T: DeserializeOwned>(text: &str, max_depth: usize) -> Result<T, JsonError> {
    Scan {
        text,
        at: 0,
        open: Vec::new(),
        max_depth,
    }
    .run()?;
    serde_json::from_str(text).map_err(|error| JsonError::from_serde(text, &error))
}

/// Why a text was rejected, and where.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{problem} at byte {offset}")]
pub struct JsonError {
    /// The place, in bytes from the beginning of the text.
    pub offset: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a text.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Problem {
    /// It is no JSON.
    #[error("this is no JSON: {0}")]
    Syntax(String),
    /// It is JSON, but not what is expected here.
    #[error("{0}")]
    Data(String),
    /// It nests too deeply.
    #[error("arrays and objects nest more than {0} deep")]
    Depth(usize),
    /// A member occurs twice.
    #[error("the member `{0}` is there twice")]
    Twice(String),
    /// A reserved name.
    #[error("the member `{0}` is reserved")]
    Reserved(String),
    /// An escape for half a character.
    #[error("`\\u` escape for half of a surrogate pair")]
    Surrogate,
    /// A number that would be rounded or become infinite.
    #[error("the number is too large: expected 64 bits, or a decimal within a double")]
    Number,
}

impl JsonError {
    fn from_serde(text: &str, error: &serde_json::Error) -> Self {
        // Lines and columns count from 1, columns in bytes; a column of 0 is the newline before.
        let lines = text
            .split_inclusive('\n')
            .take(error.line().saturating_sub(1))
            .map(str::len)
            .sum::<usize>();
        let offset = (lines + error.column().saturating_sub(1)).min(text.len());
        let message = describe(error);
        let problem = if error.is_data() {
            Problem::Data(message)
        } else {
            Problem::Syntax(message)
        };
        Self { offset, problem }
    }
}

/// The text of an error without its place, in our terms, and without the value: it may be a secret.
pub(crate) fn describe(error: &serde_json::Error) -> String {
    let whole = error.to_string();
    let words = whole
        .rfind(" at line ")
        .and_then(|at| whole.get(..at))
        .unwrap_or(&whole);
    let words = match (words.find(": string \""), words.rfind("\", expected ")) {
        (Some(value), Some(expected)) if words.starts_with("invalid ") && value < expected => {
            format!("{}: a string{}", &words[..value], &words[expected + 1..])
        }
        _ => words.to_owned(),
    };
    let words = match words.split_once(" field `") {
        Some((kind @ ("unknown" | "missing" | "duplicate"), rest)) => format!("{kind} member `{rest}"),
        _ => words,
    };
    let words = match words.rsplit_once(", expected ") {
        Some((before, expected)) => format!("{before}, expected {}", ours(expected)),
        None => words,
    };
    shown(&words)
}

/// The expected type, in JSON's terms.
fn ours(expected: &str) -> &str {
    match expected {
        "u64" | "u32" | "usize" => "a whole number",
        "i64" | "i32" => "an integer",
        "a map" => "an object",
        "a sequence" => "a list",
        name if name.starts_with("struct ") => "an object",
        other => other,
    }
}

/// An untrusted text, cut and safe to print.
pub(crate) fn shown(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(SHOWN) {
        if is_hidden(c) {
            out.extend(c.escape_unicode())
        } else {
            out.push(c)
        }
    }
    out
}

/// An array or object that the scan is inside of.
enum OpenContainer<'t> {
    Array,
    /// The keys so far, and whether the next string is a key.
    Object(HashSet<Cow<'t, str>>, bool),
}

struct Scan<'t> {
    text: &'t str,
    at: usize,
    open: Vec<OpenContainer<'t>>,
    max_depth: usize,
}

impl<'t> Scan<'t> {
    fn run(mut self) -> Result<(), JsonError> {
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    let at = self.at;
                    let string = self.string()?;
                    self.key(at, string)?;
                }
                b'{' => self.enter(OpenContainer::Object(HashSet::new(), true))?,
                b'[' => self.enter(OpenContainer::Array)?,
                b'}' | b']' => {
                    self.open.pop();
                    self.at += 1;
                }
                b',' => {
                    if let Some(OpenContainer::Object(_, key_follows)) = self.open.last_mut() {
                        *key_follows = true;
                    }
                    self.at += 1;
                }
                b'-' | b'0'..=b'9' => self.number()?,
                _ => self.at += 1,
            }
        }
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn error<T>(&self, offset: usize, problem: Problem) -> Result<T, JsonError> {
        Err(JsonError {
            offset: offset.min(self.text.len()),
            problem,
        })
    }

    fn enter(&mut self, open: OpenContainer<'t>) -> Result<(), JsonError> {
        if self.open.len() == self.max_depth {
            return self.error(self.at, Problem::Depth(self.max_depth));
        }
        self.open.push(open);
        self.at += 1;
        Ok(())
    }

    /// Records a string that is a key: the first string after `{` or `,` of an object.
    fn key(&mut self, at: usize, string: Cow<'t, str>) -> Result<(), JsonError> {
        let Some(OpenContainer::Object(keys, key_follows @ true)) = self.open.last_mut() else {
            return Ok(());
        };
        *key_follows = false;
        if string.starts_with(RESERVED) {
            return self.error(at, Problem::Reserved(shown(&string)));
        }
        if keys.contains(&string) {
            return self.error(at, Problem::Twice(shown(&string)));
        }
        keys.insert(string);
        Ok(())
    }

    /// Scans a string, from its opening to its closing quote.
    fn string(&mut self) -> Result<Cow<'t, str>, JsonError> {
        self.at += 1;
        let mut unescaped = String::new();
        // The text since the last escape, unprocessed.
        let mut start = self.at;
        loop {
            let literal = self.text.get(start..self.at).unwrap_or_default();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(if unescaped.is_empty() {
                        Cow::Borrowed(literal)
                    } else {
                        Cow::Owned(unescaped + literal)
                    });
                }
                Some(b'\\') => {
                    unescaped.push_str(literal);
                    unescaped.push(self.escape()?);
                    start = self.at;
                }
                Some(0..0x20) => {
                    return self.error(
                        self.at,
                        Problem::Syntax("a control character in a string".to_owned()),
                    );
                }
                Some(_) => self.at += 1,
                None => return self.error(self.at, Problem::Syntax("a string without an end".to_owned())),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let at = self.at;
        self.at += 2;
        let c = match self.text.as_bytes().get(at + 1) {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(at),
            Some(plain @ (b'"' | b'\\' | b'/')) => char::from(*plain),
            _ => {
                return self.error(
                    at,
                    Problem::Syntax("an escape that JSON does not have".to_owned()),
                );
            }
        };
        Ok(c)
    }

    /// Scans the digits after `\u`, and the second escape of a pair.
    fn unicode(&mut self, at: usize) -> Result<char, JsonError> {
        let first = self.four_digits(at)?;
        let mut units = vec![first];
        if (0xd800..0xdc00).contains(&first) && self.text.as_bytes().get(self.at..self.at + 2) == Some(b"\\u")
        {
            self.at += 2;
            units.push(self.four_digits(at)?);
        }
        match char::decode_utf16(units).next() {
            Some(Ok(c)) => Ok(c),
            _ => self.error(at, Problem::Surrogate),
        }
    }

    fn four_digits(&mut self, at: usize) -> Result<u16, JsonError> {
        let digits = self
            .text
            .get(self.at..self.at + 4)
            .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        self.at += 4;
        match digits.and_then(|d| u16::from_str_radix(d, 16).ok()) {
            Some(unit) => Ok(unit),
            None => self.error(
                at,
                Problem::Syntax("`\\u` without four hexadecimal digits".to_owned()),
            ),
        }
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let at = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')) {
            self.at += 1;
        }
        let number = self.text.get(at..self.at).unwrap_or_default();
        let fits = if number.contains(['.', 'e', 'E']) {
            // Text that is no number is left to serde_json.
            number.parse::<f64>().map_or(true, f64::is_finite)
        } else {
            let digits = number.strip_prefix('-').unwrap_or(number);
            let numeric = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            !numeric || number.parse::<u64>().is_ok() || number.parse::<i64>().is_ok()
        };
        if fits {
            Ok(())
        } else {
            self.error(at, Problem::Number)
        }
    }
}

#[cfg(test)]
mod tests;
