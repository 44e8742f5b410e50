use std::time::Duration;

/// How long to wait for a lock or another resource of the service.
#[derive(Clone, Copy, Debug)]
pub enum Wait {
    /// Not at all: inside a patch, because the patched caller may hold the lock.
    Try,
    /// At most this long, by polling. A reader that blocks behind a waiting writer would delay the service's own readers, and
    /// std's locks have no timeout.
    Bounded(Duration),
    /// Without a bound, as an ordinary waiting writer: for a revert, on a thread that may block.
    Until,
}

impl Wait {
    /// For the agent's own threads: 5 ms, as long as the agent may delay a service thread.
    pub const AGENT: Self = Self::Bounded(Duration::from_millis(5));
}
