//! The state of the agent, readable by the service at any time.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::error::StartError;
use crate::changes::waits::{self, LONG_WAIT, Waits};
use debug_base::BootTime;
use debug_base::threads::{self, Faults};
use debug_lease::{Leases, Overdue, Stuck};

/// The state of the agent. As text, it is one line.
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
    /// The agent listens, and a change is in force more than 1 s past its end. The revert is retried until it succeeds.
    Late(Late),
    /// The agent listens, and threads of its own, or the service's code on them, have panicked. It goes on; the service's log and
    /// the audit log have details.
    Faulty(Vec<Panics>),
    /// The agent does not listen yet: another process holds what it needs. Retried each second.
    Waiting(Occupied),
    /// The agent did not start; the service is not affected.
    Refused(StartError),
    /// The agent was stopped; or this process is a forked child of the one it runs in.
    Stopped,
}

/// Why a change is in force past its end.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Late {
    /// A lease should have ended. Of several, the one that is overdue the longest.
    #[non_exhaustive]
    Lease {
        /// The number of the lease, as in the audit log.
        lease: u64,
        /// What is still changed: `state:limits.mail.rate`, `point:GET /health`.
        target: String,
        /// How long ago it should have ended.
        by: Duration,
        /// Why the last attempt failed; `None` if there was none.
        why: Option<String>,
    },
    /// An undo waits for the lock or the setter of a state.
    #[non_exhaustive]
    State {
        /// The name of the state.
        state: String,
        /// How long it has waited.
        waited: Duration,
    },
    /// A thread of the agent that ends changes has held their table for more than 5 ms.
    Stuck,
}

/// A part of the agent that has panicked, and goes on.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Panics {
    /// The part: the name of a thread, or what it did.
    pub part: String,
    /// How often.
    pub times: u64,
}

/// What another process holds.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Occupied {
    /// The address to listen on.
    Address(SocketAddr),
    /// The folder of the audit log.
    AuditFolder(PathBuf),
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inert => f.write_str("inert"),
            Self::Starting => f.write_str("starting"),
            Self::Running => f.write_str("running"),
            Self::Changed(1) => f.write_str("running, with 1 change in force"),
            Self::Changed(count) => write!(f, "running, with {count} changes in force"),
            Self::Late(late) => write!(f, "running, but {late}"),
            Self::Faulty(panics) => {
                let each: Vec<(&str, u64)> = panics.iter().map(|p| (p.part.as_str(), p.times)).collect();
                write!(f, "running, but {}", threads::sentence(&each))
            }
            Self::Waiting(occupied) => write!(f, "waiting: {occupied}"),
            Self::Refused(error) => {
                let lines: Vec<String> = error.why().lines().map(|line| line.trim().to_owned()).collect();
                write!(f, "refused: {}", lines.join("; "))
            }
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lease {
                lease,
                target,
                by,
                why,
            } => {
                let why = why.as_deref().unwrap_or("no thread of the agent has got to it");
                let by = by.as_secs();
                write!(
                    f,
                    "lease {lease} should have ended {by} s ago, and {target} is still changed: {why}"
                )
            }
            Self::State { state, waited } => f.write_str(&waits::sentence(state, *waited)),
            Self::Stuck => f.write_str("a thread that ends changes does not get on"),
        }
    }
}

impl fmt::Display for Occupied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "another process listens on `{address}`"),
            Self::AuditFolder(folder) => {
                write!(f, "another process holds the audit folder `{}`", folder.display())
            }
        }
    }
}

impl From<Overdue> for Late {
    fn from(overdue: Overdue) -> Self {
        Self::Lease {
            lease: overdue.lease,
            target: overdue.target.to_string(),
            by: overdue.by,
            why: overdue.why,
        }
    }
}

/// The status, shared between the handle and the threads.
#[derive(Clone, Debug)]
pub(crate) struct SharedStatus {
    status: Arc<Mutex<Status>>,
    waits: Waits,
    faults: Faults,
}

impl SharedStatus {
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
            (Status::Running, Some((state, waited))) => Status::Late(Late::State { state, waited }),
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
            Err(Stuck) => Status::Late(Late::Stuck),
            Ok((_, Some(overdue))) if LONG_WAIT < overdue.by => Status::Late(overdue.into()),
            Ok((count, _)) => match (self.panics(), count) {
                (panics, _) if !panics.is_empty() => Status::Faulty(panics),
                (_, 0) => Status::Running,
                (_, count) => Status::Changed(count),
            },
        }
    }

    fn panics(&self) -> Vec<Panics> {
        let seen = self.faults.seen().into_iter();
        seen.map(|(part, times)| Panics { part, times }).collect()
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

#[cfg(test)]
mod tests {
    use super::super::error::Mistake;
    use super::*;

    /// As text, a status is one line: services put it into their health reports.
    #[test]
    fn each_status_is_one_line() {
        let lease = |why: Option<&str>| {
            Status::Late(Late::Lease {
                lease: 3,
                target: "state:a".to_owned(),
                by: Duration::from_millis(2_900),
                why: why.map(str::to_owned),
            })
        };
        let panics = |part: &str, times| Panics {
            part: part.to_owned(),
            times,
        };
        let refused = StartError::Log(Mistake::new("it is full", "make room"));
        assert_eq!(refused.advice(), Some("make room"));
        for (status, text) in [
            (Status::Changed(1), "running, with 1 change in force"),
            (Status::Changed(2), "running, with 2 changes in force"),
            (
                lease(None),
                "running, but lease 3 should have ended 2 s ago, and state:a is still changed: no thread of the agent has got \
                 to it",
            ),
            (
                lease(Some("locked")),
                "running, but lease 3 should have ended 2 s ago, and state:a is still changed: locked",
            ),
            (
                Status::Faulty(vec![panics("debug-undo", 2), panics("ending a lease", 1)]),
                "running, but the agent panicked inside and goes on: debug-undo (2 times), ending a lease (1 times)",
            ),
            (
                Status::Waiting(Occupied::AuditFolder("/a".into())),
                "waiting: another process holds the audit folder `/a`",
            ),
            (
                Status::Waiting(Occupied::Address(([127, 0, 0, 1], 7000).into())),
                "waiting: another process listens on `127.0.0.1:7000`",
            ),
            (Status::Refused(refused), "refused: it is full; help: make room"),
            (
                Status::Refused(StartError::Panicked),
                "refused: the agent panicked while it started",
            ),
        ] {
            assert_eq!(status.to_string(), text);
        }
    }
}
