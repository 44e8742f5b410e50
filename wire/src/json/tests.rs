use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

#[track_caller]
fn refused(text: &str, offset: usize, problem: &Problem) {
    assert_eq!(
        from_str::<Value>(text),
        Err(JsonError {
            offset,
            problem: problem.clone()
        }),
        "{text}"
    );
    // A type that ignores the value must not make the text acceptable.
    assert!(from_str::<serde::de::IgnoredAny>(text).is_err(), "{text}");
}

#[track_caller]
fn no_json(text: &str) {
    let error = from_str::<Value>(text).unwrap_err();
    assert!(matches!(error.problem, Problem::Syntax(_)), "{text}: {error}");
}

#[test]
fn equal_keys_are_refused_at_any_depth_and_in_any_spelling() {
    let twice = |key: &str| Problem::Twice(key.to_owned());
    refused(r#"{"a":1,"a":1}"#, 7, &twice("a"));
    refused(r#"{"a":1,"\u0061":2}"#, 7, &twice("a"));
    refused(r#"{"\u00f6":1,"ö":2}"#, 12, &twice("ö"));
    refused(r#"[[{"x":{"b":[],"c":{},"b":0}}]]"#, 22, &twice("b"));
    refused(r#"{"":1,"":2}"#, 6, &twice(""));
    refused(r#"{"\"":1,"\u0022":2}"#, 8, &twice("\""));
    refused(r#"{"\ud83e\uded6":1,"🫖":2}"#, 18, &twice("🫖"));
    assert_eq!(
        from_str::<Value>(r#"{"a":{"a":["a","a"]},"b":"a"}"#).unwrap(),
        json!({"a": {"a": ["a", "a"]}, "b": "a"})
    );
}

#[test]
fn depth_is_bounded() {
    let nested = |n| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert!(from_str::<Value>(&nested(MAX_DEPTH)).is_ok());
    refused(&nested(MAX_DEPTH + 1), MAX_DEPTH, &Problem::Depth(MAX_DEPTH));
    let objects = |n| format!("{}1{}", r#"{"a":"#.repeat(n), "}".repeat(n));
    assert!(from_str::<Value>(&objects(MAX_DEPTH)).is_ok());
    refused(&objects(MAX_DEPTH + 1), 5 * MAX_DEPTH, &Problem::Depth(MAX_DEPTH));
    refused(&"[".repeat(1_000_000), MAX_DEPTH, &Problem::Depth(MAX_DEPTH));
    assert!(from_str::<Value>(&format!("[{}]", vec!["[]"; 100].join(","))).is_ok());
    assert!(from_str::<Value>(&format!("\"{}\"", "[{".repeat(100))).is_ok());
}

#[test]
fn half_a_surrogate_pair_is_refused() {
    for text in [
        r#""\ud800""#,
        r#""\udc00""#,
        r#""\ud800\ud800""#,
        r#""\ud800x""#,
        r#""\ud800\n""#,
        r#""\udc00\ud800""#,
    ] {
        refused(text, 1, &Problem::Surrogate);
    }
    refused(r#"{"\ud800":1}"#, 2, &Problem::Surrogate);
    assert_eq!(from_str::<String>(r#""\ud83e\uded6""#).unwrap(), "🫖");
}

#[test]
fn numbers_that_would_change_are_refused() {
    for text in [
        "1e999",
        "-1e999",
        "18446744073709551616",
        "-9223372036854775809",
        "100000000000000000000000",
    ] {
        refused(text, 0, &Problem::Number);
    }
    for text in [
        "18446744073709551615",
        "-9223372036854775808",
        "1e308",
        "0",
        "-0",
        "1.5e-300",
    ] {
        assert!(from_str::<Value>(text).is_ok(), "{text}");
    }
}

#[test]
fn names_that_serde_json_keeps_for_itself_are_refused() {
    let key = "$serde_json::private::Number";
    refused(
        &format!(r#"{{"{key}":"1"}}"#),
        1,
        &Problem::Reserved(key.to_owned()),
    );
    refused(
        r#"{"a":{"\u0024serde_json::private::RawValue":"1"}}"#,
        6,
        &Problem::Reserved("$serde_json::private::RawValue".to_owned()),
    );
    assert!(from_str::<Value>(&format!(r#"["{key}"]"#)).is_ok());
}

#[test]
fn what_is_no_json_is_refused() {
    for text in [
        "",
        " ",
        "{",
        "}",
        "[",
        "]",
        "{]",
        "[}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "[1,]",
        "{,}",
        "{a:1}",
        "'a'",
        "\"a",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u+123\"",
        "\"\\",
        "01",
        "1.",
        ".5",
        "+1",
        "--1",
        "1e",
        "-",
        "NaN",
        "Infinity",
        "nul",
        "True",
        "{} {}",
        "{}x",
        "1 2",
        "\"\t\"",
        "\u{feff}{}",
        "// a\n1",
        "{\"a\":1 \"b\":2}",
        "{\"a\" 1}",
        "{1:2}",
        "{\"a\":\"b\":1}",
        "\u{a0}1",
    ] {
        no_json(text);
    }
}

#[test]
fn an_error_tells_the_place_and_never_a_value() {
    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[expect(dead_code, reason = "only its type matters")]
        number: u64,
    }
    let message = |text: &str| from_str::<Sample>(text).unwrap_err().to_string();
    assert_eq!(
        message("{\n\"nmber\": 1}"),
        "unknown member `nmber`, expected `number` at byte 8"
    );
    assert_eq!(message("{}"), "missing member `number` at byte 1");
    let secret = message(r#"{"number": "hunter2\", expected nothing"}"#);
    assert!(
        secret.starts_with("invalid type: a string, expected a whole number ") && !secret.contains("hunter2"),
        "{secret}"
    );
    let long = message(&format!(r#"{{"{}\u001b[2J": 1}}"#, "x".repeat(100)));
    assert!(!long.contains('\u{1b}'), "{long}");
    assert!(message(&format!(r#"{{"{}": 1}}"#, "x".repeat(10_000))).len() < 250);
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        // Halves and whole numbers: parsing every double exactly is a feature that we do not enable.
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 2.0)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(MAX_DEPTH.try_into().unwrap(), 64, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn everything_that_serde_json_writes_reads_back_equal(value in values()) {
        prop_assert_eq!(&from_str::<Value>(&value.to_string()).unwrap(), &value);
        prop_assert_eq!(&from_str::<Value>(&serde_json::to_string_pretty(&value).unwrap()).unwrap(), &value);
    }

    #[test]
    fn every_finite_double_is_accepted(number in any::<f64>()) {
        prop_assume!(number.is_finite());
        prop_assert!(from_str::<f64>(&serde_json::to_string(&number).unwrap()).is_ok());
    }

    #[test]
    fn mutations_never_panic_and_never_gain_a_meaning(value in values(), at in any::<proptest::sample::Index>(), new in any::<char>()) {
        let mut text: Vec<char> = value.to_string().chars().collect();
        *at.get_mut(&mut text) = new;
        let text: String = text.into_iter().collect();
        if let Ok(read) = from_str::<Value>(&text) {
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), read);
        }
    }

    #[test]
    fn pieces_of_json_never_panic(text in "([\\[\\]{},:\"\\\\]|\\\\u|d8|00|1|e9|-|\\.|é|true|null| ){0,40}") {
        let _ = from_str::<Value>(&text);
    }
}
