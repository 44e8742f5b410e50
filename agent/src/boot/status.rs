//! The state of the agent, readable by the service at any time.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::changes::waits::{LONG_WAIT, Waits};
use debug_base::BootTime;
use debug_base::threads::Faults;
use debug_lease::{Leases, Overdue, Stuck};

/// The state of the agent.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Status {
    /// `DEBUG_AGENT` is off: there is no thread, no socket, no file.
    Inert,
    /// The agent checks the log and opens its socket.
    Starting,
    /// The agent listens, and no change is in force.
    Running,
    /// The agent listens, and this many changes are in force.
    Changed(usize),
    /// The agent listens, and a change is in force more than 1 s past its end; the reason. The service holds the lock
    /// of its state or refuses the old value, or the agent's threads are blocked. The revert is retried until it
    /// succeeds.
    Late(String),
    /// The agent listens, and a thread of its own, or the service's code on it, has panicked; what panicked. It goes
    /// on; the service's log and the audit log have details.
    Faulty(String),
    /// Another process holds the port or the audit folder; retried each second.
    Waiting(String),
    /// The agent did not start, for this reason; the service is not affected.
    Refused(String),
    /// The agent was stopped; or this process is a forked child of the one it runs in.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inert => f.write_str("inert"),
            Self::Starting => f.write_str("starting"),
            Self::Running => f.write_str("running"),
            Self::Changed(1) => f.write_str("running, with 1 change in force"),
            Self::Changed(count) => write!(f, "running, with {count} changes in force"),
            Self::Late(why) | Self::Faulty(why) => write!(f, "running, but {why}"),
            Self::Waiting(why) => write!(f, "waiting: {why}"),
            // One line, fit for a log.
            Self::Refused(why) => {
                write!(
                    f,
                    "refused: {}",
                    why.lines().map(str::trim).collect::<Vec<_>>().join("; ")
                )
            }
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

impl Status {
    /// Another thread holds the lease table for too long.
    pub(crate) fn stuck() -> Self {
        Self::Late("a thread that ends changes does not get on".to_owned())
    }
}

fn late(overdue: &Overdue) -> String {
    let Overdue {
        lease,
        target,
        by,
        why,
    } = overdue;
    let why = why.as_deref().unwrap_or("no thread of the agent has got to it");
    format!(
        "lease {lease} should have ended {} s ago, and {target} is still changed: {why}",
        by.as_secs()
    )
}

/// The status, shared between the handle and the threads.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    status: Arc<Mutex<Status>>,
    waits: Waits,
    faults: Faults,
}

impl Shared {
    /// Starts as `status`.
    pub(crate) fn new(status: Status) -> Self {
        Self {
            status: Arc::new(Mutex::new(status)),
            waits: Waits::default(),
            faults: Faults::default(),
        }
    }

    /// The current status.
    pub(crate) fn now(&self) -> Status {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match (status, self.waits.long().pop()) {
            (Status::Running, Some((_, why))) => Status::Late(why),
            (status, _) => status,
        }
    }

    /// The current status, with what the leases of a running agent add.
    pub(crate) fn with_leases(&self, leases: &Leases) -> Status {
        let status = self.now();
        if status != Status::Running {
            return status;
        }
        match leases.glance(BootTime::now()) {
            Err(Stuck) => Status::stuck(),
            Ok((_, Some(overdue))) if LONG_WAIT < overdue.by => Status::Late(late(&overdue)),
            Ok((count, _)) => match (self.faults.sentence(), count) {
                (Some(why), _) => Status::Faulty(why),
                (None, 0) => Status::Running,
                (None, count) => Status::Changed(count),
            },
        }
    }

    /// Sets the status; true if it differs from the one before.
    pub(crate) fn set(&self, status: Status) -> bool {
        let mut now = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let differs = *now != status;
        *now = status;
        differs
    }

    /// The panics inside the agent.
    pub(crate) fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// The reverts that wait for a lock of the service.
    pub(crate) fn waits(&self) -> Waits {
        self.waits.clone()
    }
}
