//! How the agent is, readable by the service at any time.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// How the agent is.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Status {
    /// The environment flag is not set: there is no thread, no socket, no file.
    Inert,
    /// It checks the log and opens its socket.
    Starting,
    /// It listens.
    Running,
    /// Another process holds the port or the audit folder; it is tried again each second.
    Waiting(String),
    /// It did not start, for this reason; the service is not affected.
    Refused(String),
    /// It was stopped.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inert => f.write_str("inert"),
            Self::Starting => f.write_str("starting"),
            Self::Running => f.write_str("running"),
            Self::Waiting(why) => write!(f, "waiting: {why}"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// The status, shared between the handle and the threads.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Mutex<Status>>);

impl Shared {
    /// Beginning with `status`.
    pub(crate) fn new(status: Status) -> Self {
        Self(Arc::new(Mutex::new(status)))
    }

    /// As it is now.
    pub(crate) fn now(&self) -> Status {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes it; true if it was another before.
    pub(crate) fn set(&self, status: Status) -> bool {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let differs = *now != status;
        *now = status;
        differs
    }
}
