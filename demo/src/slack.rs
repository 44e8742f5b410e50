//! The messages of Slack to an app, and the proof that Slack sent them.
//!
//! Source: Slack's "Verifying requests from Slack" (scheme `v0`) and "Events API".

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// The header with the time at which Slack sent the request: seconds since 1970, in decimal.
pub const TIMESTAMP_HEADER: &str = "x-slack-request-timestamp";
/// The header with `v0=` and the HMAC in lower-case hex.
pub const SIGNATURE_HEADER: &str = "x-slack-signature";
/// How far the request's time may differ from ours, in seconds: 5 minutes, as Slack advises. An older request may be a replay.
pub const TOLERANCE_SECONDS: u64 = 5 * 60;

/// Why a request is not accepted as Slack's.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unsigned {
    /// No secret is configured; with an empty key anyone could sign.
    #[error("no signing secret is configured; set SLACK__SIGN")]
    NoSecret,
    /// The header is missing, or not text.
    #[error("the header `{0}` is missing")]
    Missing(&'static str),
    /// The timestamp is not a number.
    #[error("the header `{TIMESTAMP_HEADER}` is not a number of seconds")]
    Timestamp,
    /// The timestamp is too old, or in the future.
    #[error("the request's time is {0} seconds from ours, more than {TOLERANCE_SECONDS}")]
    Stale(u64),
    /// Signed with another secret, or over another body.
    #[error("the signature does not match")]
    Mismatch,
}

/// The value of the signature header for `body` sent at `timestamp`, in seconds since 1970.
#[must_use]
pub fn sign(secret: &str, timestamp: i64, body: &[u8]) -> String {
    use std::fmt::Write;
    let mac = mac(secret, timestamp, body).finalize().into_bytes();
    mac.iter().fold(String::from("v0="), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Checks that the holder of `secret` sent `body`, within [`TOLERANCE_SECONDS`] of `now`.
///
/// # Errors
/// Names the part of the proof that is missing or wrong; reveals nothing about the expected signature.
pub fn verify(
    secret: &str,
    timestamp: Option<&str>,
    signature: Option<&str>,
    body: &[u8],
    now: Timestamp,
) -> Result<(), Unsigned> {
    if secret.is_empty() {
        return Err(Unsigned::NoSecret);
    }
    let timestamp = timestamp.ok_or(Unsigned::Missing(TIMESTAMP_HEADER))?;
    let signature = signature.ok_or(Unsigned::Missing(SIGNATURE_HEADER))?;
    let timestamp: i64 = timestamp.parse().map_err(|_| Unsigned::Timestamp)?;
    let distance = now.as_second().abs_diff(timestamp);
    if TOLERANCE_SECONDS < distance {
        return Err(Unsigned::Stale(distance));
    }
    let expected = signature
        .strip_prefix("v0=")
        .and_then(from_hex)
        .ok_or(Unsigned::Mismatch)?;
    // Compared in constant time, so that the time reveals nothing about the right signature.
    mac(secret, timestamp, body)
        .verify_slice(&expected)
        .map_err(|_| Unsigned::Mismatch)
}

/// HMAC-SHA256 over `v0:<timestamp>:<body>`.
#[expect(clippy::expect_used, reason = "RFC 2104 takes keys of any length")]
fn mac(secret: &str, timestamp: i64, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length is accepted");
    mac.update(format!("v0:{timestamp}:").as_bytes());
    mac.update(body);
    mac
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

/// The body of a request to the events endpoint. Unused members are ignored.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Envelope {
    /// Slack asks whether the endpoint is ours: the answer contains the challenge.
    UrlVerification {
        /// To be sent back unchanged.
        challenge: String,
    },
    /// An event.
    EventCallback {
        /// The event.
        event: Event,
    },
    /// Types that later versions of Slack may send.
    #[serde(other)]
    Other,
}

/// An event of a workspace.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A user mentioned the bot.
    AppMention {
        /// The text, such as `<@U0LAN0Z89> who`.
        text: String,
        /// The channel; the answer goes there.
        channel: String,
    },
    /// Not for the bot.
    #[serde(other)]
    Other,
}

/// A user's command.
#[derive(Debug, Eq, PartialEq)]
pub enum Command {
    /// Who is on duty?
    Who,
    /// Pass the duty on.
    Rotate,
    /// An unknown command.
    Unknown,
}

impl Command {
    /// Parses the first word of a mention's text that is not itself a mention, ignoring case.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let word = text
            .split_whitespace()
            .find(|word| !word.starts_with("<@"))
            .unwrap_or_default();
        match word.to_lowercase().as_str() {
            "who" => Self::Who,
            "rotate" => Self::Rotate,
            _ => Self::Unknown,
        }
    }
}

/// A message to a channel: the arguments of `chat.postMessage`, which the demo logs and returns instead.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Message {
    /// The channel.
    pub channel: String,
    /// The text.
    pub text: String,
}

#[cfg(test)]
mod tests;
