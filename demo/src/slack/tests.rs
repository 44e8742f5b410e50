use super::*;

const NOW: i64 = 1_531_420_618;
// The example of Slack's documentation, with another secret and signature: theirs is shaped like a real one.
const SECRET: &str = "not-a-real-signing-secret";
const BODY: &[u8] = b"token=x&team_id=T1DC2JH3J&text=who";
/// Computed with `openssl dgst -sha256 -hmac not-a-real-signing-secret`.
const SIGNATURE: &str = "v0=e1e570afb4cb25a3eb278310372f895c5521d9ce30eeabfe7876a8c1c2992d3c";

fn check(timestamp: i64, signature: &str, body: &[u8]) -> Result<(), Unsigned> {
    let now = Timestamp::from_second(NOW).unwrap();
    verify(SECRET, Some(&timestamp.to_string()), Some(signature), body, now)
}

fn signed_at(timestamp: i64) -> Result<(), Unsigned> {
    check(timestamp, &sign(SECRET, timestamp, BODY), BODY)
}

#[test]
fn the_signature_is_the_one_that_openssl_computes() {
    assert_eq!(sign(SECRET, NOW, BODY), SIGNATURE);
    assert_eq!(check(NOW, SIGNATURE, BODY), Ok(()));
}

#[test]
fn another_body_time_secret_or_signature_is_refused() {
    assert_eq!(
        check(NOW, SIGNATURE, b"token=x&team_id=T1DC2JH3J&text=rotate"),
        Err(Unsigned::Mismatch)
    );
    assert_eq!(check(NOW + 1, SIGNATURE, BODY), Err(Unsigned::Mismatch));
    assert_eq!(
        check(NOW, &sign("another secret", NOW, BODY), BODY),
        Err(Unsigned::Mismatch)
    );
    for broken in [
        "",
        "v0=",
        "v0=zz",
        "v0=a",
        &SIGNATURE[3..],
        &SIGNATURE[..65],
        &format!("{SIGNATURE}00"),
        "v0=äö",
    ] {
        assert_eq!(check(NOW, broken, BODY), Err(Unsigned::Mismatch), "{broken}");
    }
}

#[test]
fn five_minutes_either_way_are_tolerated_and_no_more() {
    assert_eq!(signed_at(NOW - 300), Ok(()));
    assert_eq!(signed_at(NOW + 300), Ok(()));
    assert_eq!(signed_at(NOW - 301), Err(Unsigned::Stale(301)));
    assert_eq!(signed_at(NOW + 301), Err(Unsigned::Stale(301)));
    assert!(matches!(signed_at(i64::MIN), Err(Unsigned::Stale(_))));
    assert!(matches!(signed_at(i64::MAX), Err(Unsigned::Stale(_))));
}

#[test]
fn what_is_missing_is_named() {
    let now = Timestamp::from_second(NOW).unwrap();
    let time = NOW.to_string();
    let missing = |header| Err(Unsigned::Missing(header));
    assert_eq!(
        verify(SECRET, None, Some(SIGNATURE), BODY, now),
        missing(TIMESTAMP_HEADER)
    );
    assert_eq!(
        verify(SECRET, Some(&time), None, BODY, now),
        missing(SIGNATURE_HEADER)
    );
    assert_eq!(
        verify(SECRET, Some("noon"), Some(SIGNATURE), BODY, now),
        Err(Unsigned::Timestamp)
    );
}

#[test]
fn without_a_secret_nothing_is_accepted() {
    let now = Timestamp::from_second(NOW).unwrap();
    let signature = sign("", NOW, BODY);
    assert_eq!(
        verify("", Some(&NOW.to_string()), Some(&signature), BODY, now),
        Err(Unsigned::NoSecret)
    );
}

#[test]
fn a_command_is_the_first_word_that_is_no_mention() {
    assert_eq!(Command::parse("<@U0LAN0Z89> who"), Command::Who);
    assert_eq!(
        Command::parse("  <@U0LAN0Z89>\n<@U1>  ROTATE please"),
        Command::Rotate
    );
    assert_eq!(Command::parse("<@U0LAN0Z89>"), Command::Unknown);
    assert_eq!(Command::parse("please rotate"), Command::Unknown);
    assert_eq!(Command::parse(""), Command::Unknown);
}
