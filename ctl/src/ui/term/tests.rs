use proptest::prelude::*;

use super::*;

/// T46.
#[test]
fn what_acts_on_a_terminal_is_shown_instead() {
    for (hostile, shown) in [
        ("\u{1b}[2Jgone", "\\u{1b}[2Jgone"),
        ("a\rb", "a\\u{d}b"),
        ("bell\u{7}", "bell\\u{7}"),
        ("\u{9b}31m", "\\u{9b}31m"),
        ("\u{202e}drowssap", "\\u{202e}drowssap"),
        ("ad\u{200b}min", "ad\\u{200b}min"),
        ("a\u{2066}b\u{2069}", "a\\u{2066}b\\u{2069}"),
        ("tag\u{e0041}", "tag\\u{e0041}"),
        ("nul\0", "nul\\u{0}"),
        ("a\u{61c}b\u{ad}c", "a\\u{61c}b\\u{ad}c"),
    ] {
        assert_eq!(escape(hostile, LineBreaks::Keep, MAX_TEXT), shown);
        assert_eq!(escape(hostile, LineBreaks::Escape, MAX_TEXT), shown);
    }
    assert_eq!(escape("a\n\tb", LineBreaks::Keep, 9), "a\n\tb");
    assert_eq!(escape("a\n\tb", LineBreaks::Escape, 9), "a\\u{a}\\u{9}b");
    assert_eq!(escape("Grüße, 世界 🫖", LineBreaks::Escape, 99), "Grüße, 世界 🫖");
}

#[test]
fn long_text_is_cut_between_characters_and_says_so() {
    assert_eq!(escape("ééé", LineBreaks::Keep, 3), "é… (4 bytes more)");
    assert_eq!(escape("ééé", LineBreaks::Keep, 6), "ééé");
}

#[test]
fn spans_take_two_units() {
    for (ms, text) in [
        (0, "0ms"),
        (950, "950ms"),
        (299_000, "4m59s"),
        (28_800_000, "8h"),
        (270_000_000, "3d3h"),
    ] {
        assert_eq!(span(ms), text);
    }
}

proptest! {
    #[test]
    fn nothing_hidden_is_left_in_escaped_text(text in any::<String>(), max in 0_usize..99) {
        let safe = escape(&text, LineBreaks::Escape, max);
        prop_assert!(!safe.chars().any(is_hidden), "{safe:?}");
    }

    #[test]
    fn escaped_json_says_the_same(text in any::<String>()) {
        let value = serde_json::json!({ text.clone(): [text] });
        let safe = escape_json(&value.to_string());
        prop_assert!(!safe.chars().any(is_hidden));
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }
}

#[test]
fn seconds_are_whole_and_rounded_up() {
    use std::time::Duration;
    for (ms, text) in [
        (0, "0s"),
        (1, "1s"),
        (1_000, "1s"),
        (298_001, "4m59s"),
        (300_000, "5m"),
        (7_261_000, "2h1m"),
    ] {
        assert_eq!(in_seconds(Duration::from_millis(ms)), text);
    }
    assert!(!in_seconds(Duration::MAX).is_empty());
}

/// T46.
#[test]
fn what_is_drawn_in_place_stays_in_its_place() {
    let (text, drawn) = drawing("one\ntwo\u{1b}[9A", 3, 24);
    assert_eq!(
        text,
        "\r\x1b[3A\x1b[?7lone\x1b[K\r\ntwo\\u{1b}[9A\x1b[K\r\n\x1b[?7h\x1b[J"
    );
    assert_eq!(drawn, 2);
    let (text, drawn) = drawing(&"line\n".repeat(40).replacen("line", "first", 1), 0, 10);
    assert_eq!(drawn, 9);
    assert!(
        text.starts_with("\r\x1b[?7lfirst") && text.contains("… 32 more lines"),
        "{text}"
    );
}
