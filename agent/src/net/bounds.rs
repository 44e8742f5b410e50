//! How much of everything the socket allows.

use std::time::Duration;

use debug_wire::MAX_MESSAGE;

/// The bounds of the socket; [`Bounds::default`] is what runs, tests use shorter times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// How long a handshake may take: 5 s, a hundred times what one takes on a loaded host.
    pub(crate) handshake: Duration,
    /// How many handshakes may be unfinished: 32. A newcomer displaces the oldest, of those that have said
    /// nothing first, so that connections which say nothing keep nobody out.
    pub(crate) handshakes: usize,
    /// How many sessions may be open: 16.
    pub(crate) sessions: usize,
    /// How many sessions of one operator may be open: 4.
    pub(crate) per_operator: usize,
    /// How long a session may go without a call other than `ping`: 30 min, after which a forgotten terminal is shut.
    pub(crate) idle: Duration,
    /// How long a session may say nothing at all: 30 s, three missed pings.
    pub(crate) silence: Duration,
    /// How many bytes may wait for a client that does not read, newlines counted: one message of the largest size.
    pub(crate) outgoing: usize,
    /// How long a closing connection may take to send its last messages: short enough that the agent is gone within
    /// a second of being told.
    pub(crate) farewell: Duration,
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

/// How often an open session is looked at by the wall clock: each second, so that a certificate that expires while
/// its session is open ends it within one.
pub(super) const LOOK: Duration = Duration::from_secs(1);
