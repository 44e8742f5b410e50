use std::time::Duration;

/// The limit on a written duration: 365 days. A change that must live longer belongs in the service's own code.
pub const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How much of a refused text an error shows, in characters.
const SHOWN: usize = 40;

/// The units, the largest first, in milliseconds.
const UNITS: &[(&str, u64)] = &[
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Parses a duration: decimal digits and a unit (`ms`, `s`, `m`, `h`, `d`), such as `90s`, `5m`, `2h`.
///
/// Several parts follow each other without a space, the larger unit first and each unit once: `1h30m`, `4m59s`.
///
/// # Errors
/// Anything else, including zero, a sign, a fraction, a number without a unit, and more than [`MAX_DURATION`]: a mistyped
/// deadline must not become another deadline, or none.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    let error = |problem| InvalidDuration {
        text: shown(text),
        problem,
    };
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total: u64 = 0;
    loop {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, after) = after.split_at(letters);
        if number.is_empty() {
            return Err(error(DurationProblem::Malformed));
        }
        if unit.is_empty() && after.is_empty() {
            return Err(error(DurationProblem::NoUnit));
        }
        // The iterator continues after the previous part's unit, so units only get smaller.
        let (_, factor) = units
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| error(DurationProblem::Malformed))?;
        let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(*factor));
        total = part
            .and_then(|p| total.checked_add(p))
            .ok_or_else(|| error(DurationProblem::TooLong))?;
        if after.is_empty() {
            break;
        }
        rest = after;
    }
    match Duration::from_millis(total) {
        Duration::ZERO => Err(error(DurationProblem::Zero)),
        long if long > MAX_DURATION => Err(error(DurationProblem::TooLong)),
        duration => Ok(duration),
    }
}

/// Formats a duration as [`parse_duration`] reads it, the largest units first: `5m`, `1h30m`, `4m59s`.
///
/// Truncates to milliseconds. Zero becomes `0s`, which does not parse: no deadline is zero.
pub fn format_duration(duration: Duration) -> String {
    let mut rest = duration.as_millis();
    let mut text = String::new();
    for (unit, factor) in UNITS {
        let count = rest / u128::from(*factor);
        rest %= u128::from(*factor);
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A text that is no duration.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{text}` {problem}")]
pub struct InvalidDuration {
    text: String,
    problem: DurationProblem,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
enum DurationProblem {
    #[error(
        "is no duration: expected digits and a unit of `ms`, `s`, `m`, `h` or `d`, such as `90s` or `1h30m`"
    )]
    Malformed,
    #[error("has no unit: expected one of `ms`, `s`, `m`, `h` or `d`, such as `90s` or `5m`")]
    NoUnit,
    #[error("is no time at all: expected more than zero, such as `90s` or `5m`")]
    Zero,
    #[error("is too long: expected at most `365d`")]
    TooLong,
}

/// The beginning of an untrusted text, safe to print.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_error_shows_the_text_so_that_it_can_be_printed() {
        let shown = |text: &str| parse_duration(text).unwrap_err().to_string();
        assert!(
            shown("soon").starts_with("`soon` is no duration"),
            "{}",
            shown("soon")
        );
        assert!(shown("5\n").contains("`5\\n`"), "{}", shown("5\n"));
    }

    #[test]
    fn durations_with_a_unit_are_read() {
        let cases = [
            ("500ms", 500),
            ("90s", 90_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("4m59s", 299_000),
        ];
        for (text, millis) in cases {
            assert_eq!(
                parse_duration(text).unwrap(),
                Duration::from_millis(millis),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_deadline_is_refused_and_told_what_was_expected() {
        let refused = [
            "",
            "0",
            "0s",
            "0h0m",
            "10",
            "-5m",
            "+5m",
            "5 m",
            " 5m",
            "5m ",
            "1.5h",
            "NaN",
            "inf",
            "5M",
            "5min",
            "m",
            "m5",
            "5m5m",
            "5s5m",
            "1m2",
            "18446744073709551616s",
            "18446744073709551615d",
            "366d",
            "365d1ms",
            "5m\n",
            "٣m",
        ];
        for text in refused {
            let error = parse_duration(text).unwrap_err().to_string();
            assert!(error.contains("expected"), "{text}: {error}");
        }
        assert!(parse_duration("10").unwrap_err().to_string().contains("no unit"));
        assert!(parse_duration("365d").is_ok());
    }

    #[test]
    fn a_refused_text_is_shown_short_and_escaped() {
        let error = parse_duration(&format!("\u{1b}[2J{}", "x".repeat(5000)))
            .unwrap_err()
            .to_string();
        assert!(error.len() < 250 && !error.contains('\u{1b}'), "{error}");
    }

    #[test]
    fn people_see_the_largest_units() {
        for (millis, text) in [
            (0, "0s"),
            (300_000, "5m"),
            (5_400_000, "1h30m"),
            (90_000, "1m30s"),
            (1_500, "1s500ms"),
        ] {
            assert_eq!(format_duration(Duration::from_millis(millis)), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_equal(millis in 1..=365 * 86_400_000_u64) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration)).unwrap(), duration);
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = parse_duration(&text);
        }
    }
}
