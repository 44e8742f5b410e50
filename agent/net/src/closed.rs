//! Why a session ended.

use std::fmt;

use debug_wire::messages::{AGENT_STOPS, Code, FromAgent};

pub(crate) const EXPIRED: &str = "the certificate expired";

/// Why a session ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Closed {
    /// The client closed the connection properly (TLS `close_notify`).
    Clean,
    /// The client vanished, or may be gone; the reason.
    Lost(String),
    /// No call other than `ping` for too long.
    Idle,
    /// A newer session displaced it.
    Displaced,
    /// The client sent something that is not a call; the reason.
    Protocol(String),
    /// The client does not read its messages.
    SlowReader,
    /// The agent ended the session, by [`super::Flow::Close`] or [`super::Outbox::close`].
    Ended,
    /// The agent stops.
    Shutdown,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean => f.write_str("closed by the client"),
            Self::Lost(reason) => write!(f, "lost: {reason}"),
            Self::Idle => f.write_str("idle for too long"),
            Self::Displaced => f.write_str("displaced by a newer session"),
            Self::Protocol(reason) => write!(f, "protocol error: {reason}"),
            Self::SlowReader => f.write_str("the client does not read"),
            Self::Ended => f.write_str("ended by the agent"),
            Self::Shutdown => f.write_str(AGENT_STOPS),
        }
    }
}

impl Closed {
    /// The last message to the client: none if the client knows the reason or no longer reads.
    pub(crate) fn farewell(&self) -> Option<FromAgent> {
        let (code, message, help) = match self {
            Self::Idle => (Code::Limit, "the session was idle for too long", "attach again"),
            Self::Displaced => (
                Code::Limit,
                "a newer session took the place of this one",
                "attach again; close what is not needed",
            ),
            Self::Shutdown => (Code::State, AGENT_STOPS, "attach again once the service is back"),
            Self::Lost(reason) if reason == EXPIRED => (
                Code::Limit,
                "the certificate expired",
                "get a new certificate and attach again",
            ),
            Self::Clean | Self::Lost(_) | Self::Protocol(_) | Self::SlowReader | Self::Ended => return None,
        };
        Some(FromAgent::failure(None, code, message, help))
    }

    /// Whether the client may still be reading.
    pub(crate) fn reachable(&self) -> bool {
        match self {
            Self::Idle | Self::Displaced | Self::Protocol(_) | Self::Ended | Self::Shutdown | Self::Clean => {
                true
            }
            Self::Lost(reason) => reason == EXPIRED,
            Self::SlowReader => false,
        }
    }
}
