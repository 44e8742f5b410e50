//! The form of one record: the lines that are written and accepted.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// The limit on a line, in bytes without its newline: 65,535, the capacity of an entry of a C2SP tile.
pub const MAX_LINE: usize = 65_535;
/// The members that this crate writes; a body must not have them.
const OURS: [&str; 4] = ["v", "seq", "kind", "origin"];
/// The longest sequence number, in digits, so that whether a body fits does not depend on its number.
const MAX_DIGITS: usize = 20;

/// Why a record's body or kind is rejected.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BodyError {
    /// Not a JSON object from `{` to `}`.
    #[error("a record's body must be one JSON object from its first byte to its last: {0}")]
    Object(String),
    /// It would not stay on one line.
    #[error("a record's body holds the control character U+{0:04X}; it must be escaped")]
    Control(u32),
    /// The log writes this member itself.
    #[error("a record's body must not have the member `{0}`, which the log writes itself")]
    Reserved(&'static str),
    /// A kind is 1 to 64 bytes of `a-z`, `0-9`, `.`, `_` and `-`.
    #[error("`{}` is not a kind of record: 1 to 64 of a-z, 0-9, `.`, `_`, `-`", .0.escape_debug())]
    Kind(String),
}

/// The room for a record of this kind, in bytes of JSON, including the braces of its body.
///
/// `origin` is the log's origin for kind `boot` and `None` otherwise.
pub fn room(kind: &str, origin: Option<&str>) -> usize {
    let overhead = head(kind, origin).len() + br#"{"v":1,"seq":"#.len() + MAX_DIGITS;
    // The body's opening brace becomes the comma.
    MAX_LINE.saturating_sub(overhead)
}

/// The part of a line after the number, with the newline: `,"kind":"…"` + the body's members + `}` + newline.
///
/// # Errors
/// [`BodyError`]. The caller must check the length against [`room`].
pub(crate) fn tail(kind: &str, origin: Option<&str>, body: &str) -> Result<Vec<u8>, BodyError> {
    check_kind(kind)?;
    let members = members_of(body)?;
    let mut line = head(kind, origin).into_bytes();
    if members.len() > 1 {
        line.push(b',');
    }
    line.extend_from_slice(members.as_bytes());
    line.push(b'\n');
    Ok(line)
}

/// The whole line, with its newline.
pub(crate) fn numbered(seq: u64, tail: &[u8]) -> Vec<u8> {
    let mut line = format!(r#"{{"v":1,"seq":{seq}"#).into_bytes();
    line.extend_from_slice(tail);
    line
}

fn head(kind: &str, origin: Option<&str>) -> String {
    match origin {
        // An origin holds no control characters (it is a line of a checkpoint), so that two escapes suffice for JSON.
        Some(origin) => {
            format!(
                r#","kind":"{kind}","origin":"{}""#,
                origin.replace('\\', r"\\").replace('"', r#"\""#)
            )
        }
        None => format!(r#","kind":"{kind}""#),
    }
}

fn check_kind(kind: &str) -> Result<(), BodyError> {
    let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    if kind.is_empty() || kind.len() > 64 || !kind.bytes().all(plain) {
        return Err(BodyError::Kind(kind.to_owned()));
    }
    Ok(())
}

/// The body without its opening brace, once it has passed all checks.
fn members_of(body: &str) -> Result<&str, BodyError> {
    if let Some(control) = body.chars().find(|c| *c < ' ') {
        return Err(BodyError::Control(u32::from(control)));
    }
    let Some(members) = body.strip_prefix('{').filter(|rest| rest.ends_with('}')) else {
        return Err(BodyError::Object("it begins or ends otherwise".to_owned()));
    };
    let Object(names) = serde_json::from_str(body).map_err(|error| BodyError::Object(error.to_string()))?;
    match OURS.iter().find(|ours| names.iter().any(|name| name == **ours)) {
        Some(ours) => Err(BodyError::Reserved(ours)),
        // `{ }` is an object too, but a comma before its brace would be invalid.
        None if names.is_empty() => Ok("}"),
        None => Ok(members),
    }
}

/// Checks that `line` (without its newline) is what a log writes as record `seq`.
///
/// At most [`MAX_LINE`] bytes of UTF-8 without control characters below U+0020: one JSON object that begins exactly with
/// `{"v":1,"seq":<seq>,"kind":"`, has no name twice in any of its objects and nests at most 127 deep.
///
/// # Errors
/// The check that failed, in words.
pub(crate) fn check(line: &[u8], seq: u64) -> Result<(), String> {
    let Ok(text) = std::str::from_utf8(line) else {
        return Err("it is not UTF-8".to_owned());
    };
    if text.bytes().any(|b| b < b' ') {
        return Err("it holds a control character".to_owned());
    }
    let Some(rest) = text.strip_prefix(&format!(r#"{{"v":1,"seq":{seq},"kind":""#)) else {
        return Err(format!(
            r#"it does not begin with `{{"v":1,"seq":{seq},"kind":"`"#
        ));
    };
    let kind = rest.split('"').next().unwrap_or_default();
    check_kind(kind).map_err(|error| error.to_string())?;
    let Object(_) = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if text.ends_with('}') {
        Ok(())
    } else {
        Err("there is something after the object".to_owned())
    }
}

/// The origin in a `boot` record.
pub(crate) fn origin_of(line: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct BootOrigin {
        kind: String,
        origin: String,
    }
    let boot: BootOrigin = serde_json::from_slice(line).ok()?;
    (boot.kind == "boot").then_some(boot.origin)
}

/// The names of an object's members, in byte order, from an object in which no name repeats at any depth.
struct Object<'a>(Vec<Cow<'a, str>>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                names(map).map(Object)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

fn names<'de, A: MapAccess<'de>>(mut map: A) -> Result<Vec<Cow<'de, str>>, A::Error> {
    let mut names = Vec::new();
    while let Some(MemberName(name)) = map.next_key()? {
        names.push(name);
        let AnyValue = map.next_value()?;
    }
    // Sorted rather than compared pairwise: a line has room for ten thousand members.
    names.sort_unstable();
    if let Some((name, _)) = names.iter().zip(names.iter().skip(1)).find(|(a, b)| a == b) {
        return Err(de::Error::custom(format_args!(
            "the member `{}` appears twice",
            name.escape_debug()
        )));
    }
    Ok(names)
}

/// A member's name, borrowed unless it holds an escape.
struct MemberName<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for MemberName<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = MemberName<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(MemberName(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(MemberName(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Any JSON value in which no object repeats a name.
struct AnyValue;

impl<'de> Deserialize<'de> for AnyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = AnyValue;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_unit<E>(self) -> Result<AnyValue, E> {
                Ok(AnyValue)
            }
            fn visit_bool<E>(self, _: bool) -> Result<AnyValue, E> {
                Ok(AnyValue)
            }
            fn visit_i64<E>(self, _: i64) -> Result<AnyValue, E> {
                Ok(AnyValue)
            }
            fn visit_u64<E>(self, _: u64) -> Result<AnyValue, E> {
                Ok(AnyValue)
            }
            fn visit_f64<E>(self, _: f64) -> Result<AnyValue, E> {
                Ok(AnyValue)
            }
            fn visit_str<E>(self, _: &str) -> Result<AnyValue, E> {
                Ok(AnyValue)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<AnyValue, A::Error> {
                while let Some(AnyValue) = seq.next_element()? {}
                Ok(AnyValue)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AnyValue, A::Error> {
                names(map).map(|_| AnyValue)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(seq: u64, kind: &str, origin: Option<&str>, body: &str) -> Result<String, BodyError> {
        let line = numbered(seq, &tail(kind, origin, body)?);
        let line = String::from_utf8(line)
            .unwrap()
            .strip_suffix('\n')
            .unwrap()
            .to_owned();
        assert_eq!(check(line.as_bytes(), seq), Ok(()), "{line}");
        Ok(line)
    }

    #[test]
    fn a_line_is_number_kind_and_the_bodys_own_bytes() {
        let line = written(7, "eval", None, r#"{"time": "now",  "n":1.50}"#).unwrap();
        assert_eq!(line, r#"{"v":1,"seq":7,"kind":"eval","time": "now",  "n":1.50}"#);
        assert_eq!(
            written(0, "alarm", None, "{ }").unwrap(),
            r#"{"v":1,"seq":0,"kind":"alarm"}"#
        );
        let boot = written(0, "boot", Some(r#"a"\b/00"#), "{}").unwrap();
        assert_eq!(origin_of(boot.as_bytes()).unwrap(), r#"a"\b/00"#);
        assert_eq!(origin_of(line.as_bytes()), None);
    }

    /// T46, T61.
    #[test]
    fn a_body_that_would_not_stay_one_clear_record_is_refused() {
        for bad in [
            "",
            "[]",
            "null",
            "{",
            "}",
            "{}{}",
            " {}",
            "{} ",
            "{}\n",
            "{\n}",
            "{\"a\":1\r}",
            r#"{"a":1,}"#,
            r#"{"v":2}"#,
            r#"{"seq":2}"#,
            r#"{"kind":"x"}"#,
            r#"{"origin":"x"}"#,
            r#"{"\u0073eq":2}"#,
            r#"{"a":1,"a":1}"#,
            r#"{"a":{"b":[{"c":1,"\u0063":2}]}}"#,
            "{\"a\":\"\u{1b}[2J\"}",
            "{\"a\":\"\0\"}",
        ] {
            assert!(tail("eval", None, bad).is_err(), "{bad:?}");
        }
        for kind in ["", "Eval", "a b", "a\"b", "é", &"x".repeat(65)] {
            assert!(
                matches!(tail(kind, None, "{}"), Err(BodyError::Kind(_))),
                "{kind:?}"
            );
        }
        assert!(tail(&"x".repeat(64), None, "{}").is_ok());
        let number = serde_json::from_str::<Object<'_>>("5").map(drop).unwrap_err();
        assert!(number.to_string().contains("expected an object"), "{number}");
        let name = serde_json::from_str::<MemberName<'_>>("5").map(drop).unwrap_err();
        assert!(name.to_string().contains("expected a name"), "{name}");
        // Inside strings, all other characters stay as they are.
        written(
            1,
            "eval",
            None,
            "{\"a\":\"\u{202e}\u{9b} \u{7f}\",\"b\":\"\\n\\u001b\"}",
        )
        .unwrap();
    }

    #[test]
    fn a_line_in_any_other_spelling_is_refused() {
        for bad in [
            r#"{"seq":3,"v":1,"kind":"x"}"#,
            r#"{"v":1,"seq":03,"kind":"x"}"#,
            r#"{"v":1,"seq":3.0,"kind":"x"}"#,
            r#"{"v":1,"seq":4,"kind":"x"}"#,
            r#"{"v":2,"seq":3,"kind":"x"}"#,
            r#"{"v":1, "seq":3,"kind":"x"}"#,
            r#"{"v":1,"seq":3,"kind":3}"#,
            r#"{"v":1,"seq":3,"kind":"x\u0041"}"#,
            r#"{"v":1,"seq":3,"kind":"x","seq":4}"#,
            r#"{"v":1,"seq":3,"kind":"x"} "#,
            r#"{"v":1,"seq":3,"kind":"x"}{}"#,
            r#"{"v":1,"seq":3,"kind":"x""#,
            "{\"v\":1,\"seq\":3,\"kind\":\"x\"}\r",
        ] {
            assert!(check(bad.as_bytes(), 3).is_err(), "{bad}");
        }
        assert!(check(b"{\"v\":1,\"seq\":3,\"kind\":\"x\",\"a\":\"\xff\"}", 3).is_err());
        let deep = format!(
            r#"{{"v":1,"seq":3,"kind":"x","a":{}{}}}"#,
            "[".repeat(5000),
            "]".repeat(5000)
        );
        assert!(check(deep.as_bytes(), 3).is_err());
    }

    #[test]
    fn the_room_for_a_body_is_exact_for_the_largest_number() {
        for origin in [None, Some("a/log/0011223344556677")] {
            let body = format!(r#"{{"a":"{}"}}"#, "x".repeat(room("boot", origin) - 8));
            let line = numbered(u64::MAX, &tail("boot", origin, &body).unwrap());
            assert_eq!(line.len(), MAX_LINE + 1);
        }
    }
}
