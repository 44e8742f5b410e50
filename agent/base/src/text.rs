//! Text for people.

use debug_policy::is_hidden;

/// Escapes characters that are invisible or change how the text around them is shown, so that one text is one line.
pub fn escape(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            line.extend(c.escape_unicode());
        } else {
            line.push(c);
        }
    }
    line
}

/// The first characters of a text, escaped, for one line.
pub fn shortened(text: &str) -> String {
    const MAX: usize = 64;
    let line = escape(text);
    match line.char_indices().nth(MAX) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

/// The longest text of an error in a record, in bytes: with every byte escaped it still fits a line.
const MAX_ERROR: usize = 4_000;

/// Cuts a text to 4,000 bytes, and adds its full length.
pub fn cut(text: &str) -> String {
    if text.len() <= MAX_ERROR {
        return text.to_owned();
    }
    let end = (0..=MAX_ERROR)
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    format!("{}… ({} bytes)", &text[..end], text.len())
}

/// Bytes as lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes in base64 (RFC 4648, section 4).
pub fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The bytes behind base64; `None` if the text is none.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing that policy calls hidden may appear in a line.
    #[test]
    fn nothing_that_cannot_be_seen_gets_into_a_line_of_the_services_log() {
        for c in (0..=0x10_ffff).filter_map(char::from_u32) {
            let line = escape(&format!("a{c}b"));
            assert!(!line.chars().any(is_hidden), "U+{:04X}", u32::from(c));
            assert_eq!(line == format!("a{c}b"), !is_hidden(c), "U+{:04X}", u32::from(c));
        }
        assert_eq!(
            escape("A\u{61c}B\u{e0041}C\u{ad}D\u{200b}E\n"),
            "A\\u{61c}B\\u{e0041}C\\u{ad}D\\u{200b}E\\u{a}"
        );
    }
}
