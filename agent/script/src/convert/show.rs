use rhai::Dynamic;

use super::opaque::{BigInteger, OpaqueSecret};
use super::{MAX_DEPTH, UnreadableLeaf, is_range};
use crate::{handle, values};

/// Maximum size of a shown result in bytes: 256 KiB.
const MAX_SHOWN: usize = 256 * 1024;

/// Maximum number of values visited to show one, above that of any result within the bounds of an eval. A list that contains
/// itself would have no end.
const MAX_VALUES: usize = 100_000;

/// Maximum number of bytes shown of a byte string: enough to tell strings apart.
const MAX_BYTES_SHOWN: usize = 32;

/// Maximum width of a container shown on one line, in characters: the width of a terminal.
const WIDTH: usize = 100;

/// The text that the REPL shows for a value. Text is in JSON quotes, lists and maps in Rhai's notation, on one line if they
/// fit, and opaque secrets as fingerprints. Text beyond 256 KiB is cut, with a note of its size.
pub fn display(value: &Dynamic) -> String {
    let mut out = Out {
        text: String::new(),
        cut: 0,
        values: 0,
    };
    out.value(value, 0);
    if 0 < out.cut {
        out.text.push_str(&format!("\n… {} more bytes cut", out.cut));
    } else if MAX_VALUES < out.values {
        out.text.push_str(&format!("\n… cut after {MAX_VALUES} values"));
    }
    out.text
}

/// The value as JSON, for programs. Opaque secrets, functions and other objects appear as their text, numbers that are not
/// finite as `null`. Values beyond 100,000, or deeper than 64 levels, are `"…"`. The caller must limit the size in bytes.
pub fn to_json(value: &Dynamic) -> serde_json::Value {
    json(value, &mut 0, 0)
}

fn json(value: &Dynamic, values: &mut usize, depth: usize) -> serde_json::Value {
    *values += 1;
    if MAX_VALUES < *values || MAX_DEPTH < depth || value.is_locked() {
        return "…".into();
    }
    if let Ok(text) = value.as_immutable_string_ref() {
        return text.as_str().into();
    }
    if let Ok(bytes) = value.as_blob_ref() {
        *values = values.saturating_add(bytes.len());
        return if MAX_VALUES < *values {
            "…".into()
        } else {
            bytes.iter().copied().collect()
        };
    }
    if let Ok(items) = value.as_array_ref() {
        return items.iter().map(|item| json(item, values, depth + 1)).collect();
    }
    if let Ok(entries) = value.as_map_ref() {
        let entries = entries.iter();
        return entries
            .map(|(key, value)| (key.to_string(), json(value, values, depth + 1)))
            .collect();
    }
    if let Some(big) = value.read_lock::<BigInteger>() {
        return big.0.into();
    }
    let unit = value.as_unit().map(|()| serde_json::Value::Null);
    let number = unit
        .or_else(|_| value.as_int().map(Into::into))
        .or_else(|_| value.as_float().map(Into::into));
    let plain = number.or_else(|_| value.as_bool().map(Into::into));
    plain
        .or_else(|_| value.as_char().map(|char| char.to_string().into()))
        .unwrap_or_else(|_| object(value).into())
}

struct Out {
    text: String,
    cut: usize,
    values: usize,
}

impl Out {
    fn push(&mut self, part: &str) {
        let fits = self.cut == 0 && self.text.len() + part.len() <= MAX_SHOWN;
        if fits {
            self.text.push_str(part);
            return;
        }
        let left = if self.cut == 0 {
            MAX_SHOWN.saturating_sub(self.text.len())
        } else {
            0
        };
        let end = (0..=left.min(part.len()))
            .rev()
            .find(|end| part.is_char_boundary(*end))
            .unwrap_or(0);
        let (shown, cut) = part.split_at(end);
        self.text.push_str(shown);
        self.cut += cut.len();
    }

    fn value(&mut self, value: &Dynamic, depth: usize) {
        self.values += 1;
        if MAX_VALUES < self.values || MAX_DEPTH < depth || value.is_locked() {
            return self.push("…");
        }
        let mut line = ShownLine {
            text: String::new(),
            columns: WIDTH.saturating_sub(depth * 2),
        };
        if line.value(value, depth).is_some() {
            return self.push(&line.text);
        }
        if let Ok(items) = value.as_array_ref() {
            self.lines("[", items.iter().map(|item| (None, item)), "]", depth);
        } else if let Ok(entries) = value.as_map_ref() {
            self.lines(
                "#{",
                entries.iter().map(|(key, value)| (Some(key.as_str()), value)),
                "}",
                depth,
            );
        } else {
            let text = leaf(value);
            self.push(&text);
        }
    }

    fn lines<'v>(
        &mut self,
        open: &str,
        entries: impl Iterator<Item = (Option<&'v str>, &'v Dynamic)>,
        close: &str,
        depth: usize,
    ) {
        self.push(open);
        for (key, value) in entries {
            self.push("\n");
            self.push(&"  ".repeat(depth + 1));
            if let Some(name) = key {
                self.push(&key_text(name));
                self.push(": ");
            }
            self.value(value, depth + 1);
            self.push(",");
        }
        self.push("\n");
        self.push(&"  ".repeat(depth));
        self.push(close);
    }
}

/// One line of limited width; operations return `None` once it is full.
struct ShownLine {
    text: String,
    columns: usize,
}

impl ShownLine {
    fn push(&mut self, part: &str) -> Option<()> {
        // A character has at least one byte, so a longer text need not be counted.
        self.columns = self.columns.checked_sub(if part.len() <= WIDTH {
            part.chars().count()
        } else {
            WIDTH + 1
        })?;
        self.text.push_str(part);
        Some(())
    }

    fn value(&mut self, value: &Dynamic, depth: usize) -> Option<()> {
        if MAX_DEPTH < depth || value.is_locked() {
            return self.push("…");
        }
        if let Ok(items) = value.as_array_ref() {
            self.push("[")?;
            for (index, item) in items.iter().enumerate() {
                self.push(if index == 0 { "" } else { ", " })?;
                self.value(item, depth + 1)?;
            }
            return self.push("]");
        }
        if let Ok(entries) = value.as_map_ref() {
            self.push("#{")?;
            for (index, (key, value)) in entries.iter().enumerate() {
                self.push(if index == 0 { "" } else { ", " })?;
                self.push(&key_text(key))?;
                self.push(": ")?;
                self.value(value, depth + 1)?;
            }
            return self.push("}");
        }
        self.push(&leaf(value))
    }
}

fn key_text(key: &str) -> String {
    let name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let plain = key.bytes().all(name) && key.bytes().next().is_some_and(|first| !first.is_ascii_digit());
    if plain { key.to_owned() } else { quoted(key) }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

fn leaf(value: &Dynamic) -> String {
    if let Ok(text) = value.as_immutable_string_ref() {
        return quoted(&text);
    }
    if let Ok(bytes) = value.as_blob_ref() {
        let first: Vec<_> = bytes.iter().take(MAX_BYTES_SHOWN).collect();
        let more = if first.len() < bytes.len() {
            ", of which the first are"
        } else {
            ""
        };
        return format!("{} bytes{more} {first:?}", bytes.len());
    }
    if value.is_unit() {
        return "()".to_owned();
    }
    if let Ok(float) = value.as_float() {
        return format!("{float:?}");
    }
    match value.as_char() {
        Ok(char) => format!("'{}'", char.escape_debug()),
        Err(_) => object(value),
    }
}

/// The text of a value that is neither text, a container nor a float.
fn object(value: &Dynamic) -> String {
    if let Some(secret) = value.read_lock::<OpaqueSecret>() {
        secret.to_string()
    } else if let Some(leaf) = value.read_lock::<UnreadableLeaf>() {
        leaf.to_string()
    } else if let Some(big) = value.read_lock::<BigInteger>() {
        big.to_string()
    } else if let Some(sentence) = values::message_text(value) {
        sentence
    } else if let Some(path) = handle::path_of(value) {
        format!("‹{path}›")
    } else if value.is_fnptr() {
        // The name of an anonymous function is a number without meaning to an operator.
        "‹function›".to_owned()
    } else if value.is_timestamp() {
        "‹time›".to_owned()
    } else if value.is_int() || value.is_bool() || is_range(value) {
        value.to_string()
    } else {
        "‹object›".to_owned()
    }
}
