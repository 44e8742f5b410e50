//! The limits of the socket.

use std::time::Duration;

use debug_wire::MAX_MESSAGE;

/// The limits of the socket; [`Bounds::default`] is used in production, tests use shorter times.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How long a handshake may take: 5 s, a hundred times the time on a loaded host.
    pub handshake: Duration,
    /// The most unfinished handshakes: 32. A new one displaces the oldest, first of all the oldest silent one, so that
    /// silent connections cannot lock clients out.
    pub handshakes: usize,
    /// The most open sessions: 16.
    pub sessions: usize,
    /// The most open sessions of one operator: 4.
    pub per_operator: usize,
    /// How long a session may go without a call other than `ping`: 30 min. This ends the session of a forgotten
    /// terminal.
    pub idle: Duration,
    /// How long a session may send nothing at all: 30 s, three missed pings.
    pub silence: Duration,
    /// The most bytes, newlines included, queued for a client that does not read: one message of the largest size.
    pub outgoing: usize,
    /// How long a closing connection may take to send its last messages: short enough that the agent stops within a
    /// second.
    pub farewell: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            handshakes: 32,
            sessions: 16,
            per_operator: 4,
            idle: Duration::from_secs(30 * 60),
            silence: Duration::from_secs(30),
            outgoing: MAX_MESSAGE + 1,
            farewell: Duration::from_millis(400),
        }
    }
}

/// How often an open session is checked against the wall clock: each second, so that an expired certificate ends its
/// session within one.
pub(crate) const LOOK: Duration = Duration::from_secs(1);
