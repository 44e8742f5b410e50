//! Whether a submission continues on the next line: just enough of Rhai's lexer to find open brackets, strings and comments.
//!
//! It only decides where a submission ends. The agent parses the submission, and its verdict counts.

use std::iter::Peekable;
use std::str::Chars;

#[cfg(test)]
mod tests;

/// An open construct; the innermost is last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum OpenToken {
    /// A bracket, closed by this one.
    Bracket(char),
    /// A string in backticks, which may span lines.
    Backtick,
    /// `${` inside a string in backticks.
    Interpolation,
}

/// How a string ended.
enum TokenEnd {
    Closed,
    /// By the end of the text: more lines may close it.
    Open,
    /// By the end of a line where Rhai does not allow it: no further line can close it.
    Broken,
}

/// Whether `text` is an incomplete submission: a bracket, a string that may span lines, or a comment is open.
///
/// A text with a mistake that no further line can repair (a bracket that closes nothing, an unterminated `"` string in a line)
/// counts as complete, so that the agent reports the mistake.
pub(super) fn is_open(text: &str) -> bool {
    let mut chars = text.chars().peekable();
    let mut open = Vec::new();
    loop {
        if open.last() == Some(&OpenToken::Backtick) {
            match backtick(&mut chars) {
                Inside::Closed => drop(open.pop()),
                Inside::Interpolation => open.push(OpenToken::Interpolation),
                Inside::Open => return true,
            }
            continue;
        }
        let Some(c) = chars.next() else {
            return !open.is_empty();
        };
        let end = match c {
            '(' => push(&mut open, OpenToken::Bracket(')')),
            '[' => push(&mut open, OpenToken::Bracket(']')),
            '{' => push(&mut open, OpenToken::Bracket('}')),
            ')' | ']' | '}' => match open.pop() {
                Some(OpenToken::Bracket(closing)) if closing == c => TokenEnd::Closed,
                Some(OpenToken::Interpolation) if c == '}' => TokenEnd::Closed,
                _ => TokenEnd::Broken,
            },
            '`' => push(&mut open, OpenToken::Backtick),
            '"' | '\'' => quoted(&mut chars, c),
            '#' => raw(&mut chars),
            '/' => comment(&mut chars),
            _ => TokenEnd::Closed,
        };
        match end {
            TokenEnd::Closed => {}
            TokenEnd::Open => return true,
            TokenEnd::Broken => return false,
        }
    }
}

fn push(open: &mut Vec<OpenToken>, what: OpenToken) -> TokenEnd {
    open.push(what);
    TokenEnd::Closed
}

/// What ends a part of a string in backticks.
enum Inside {
    Closed,
    Interpolation,
    Open,
}

fn backtick(chars: &mut Peekable<Chars<'_>>) -> Inside {
    while let Some(c) = chars.next() {
        match c {
            // A doubled backtick stands for one.
            '`' if chars.next_if_eq(&'`').is_none() => return Inside::Closed,
            '$' if chars.next_if_eq(&'{').is_some() => return Inside::Interpolation,
            // The only escape in these strings: `\${` is no interpolation.
            '\\' if chars.next_if_eq(&'$').is_some() => drop(chars.next_if_eq(&'{')),
            _ => {}
        }
    }
    Inside::Open
}

/// A string or character; it continues on the next line only after a backslash.
fn quoted(chars: &mut Peekable<Chars<'_>>, quote: char) -> TokenEnd {
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                None | Some('\n') if quote == '"' && chars.peek().is_none() => return TokenEnd::Open,
                Some('\n') if quote == '\'' => return TokenEnd::Broken,
                _ => {}
            },
            '\n' => return TokenEnd::Broken,
            // A doubled quote stands for one.
            c if c == quote && chars.next_if_eq(&quote).is_none() => return TokenEnd::Closed,
            _ => {}
        }
    }
    TokenEnd::Broken
}

/// `#"…"#` with any number of `#`; a single `#` begins a map and is skipped.
fn raw(chars: &mut Peekable<Chars<'_>>) -> TokenEnd {
    let mut hashes = 1;
    while chars.next_if_eq(&'#').is_some() {
        hashes += 1;
    }
    if chars.next_if_eq(&'"').is_none() {
        return TokenEnd::Closed;
    }
    while let Some(c) = chars.next() {
        if c == '"' {
            let mut seen = 0;
            while seen < hashes && chars.next_if_eq(&'#').is_some() {
                seen += 1;
            }
            if seen == hashes {
                return TokenEnd::Closed;
            }
        }
    }
    TokenEnd::Open
}

/// `// …` to the end of the line, nested `/* … */`; a single `/` is an operator.
fn comment(chars: &mut Peekable<Chars<'_>>) -> TokenEnd {
    if chars.next_if_eq(&'/').is_some() {
        chars.by_ref().take_while(|c| *c != '\n').for_each(drop);
        return TokenEnd::Closed;
    }
    if chars.next_if_eq(&'*').is_none() {
        return TokenEnd::Closed;
    }
    let mut depth = 1_usize;
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'/').is_some() => depth -= 1,
            '/' if chars.next_if_eq(&'*').is_some() => depth += 1,
            _ => {}
        }
        if depth == 0 {
            return TokenEnd::Closed;
        }
    }
    TokenEnd::Open
}
