//! The state that all threads of the agent share.

mod ends;
#[cfg(test)]
pub(crate) mod planted;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use debug_wire::records::{Alarm, SessionClose};

use crate::changes::exposed::Exposed;
use crate::changes::observer::PatchObserver;
use crate::changes::{Changes, EndLeases};
use crate::gate::{Door, Rules};
use crate::recorder::Recorder;
use crate::recorder::notes::Note;
use crate::recorder::records;
use crate::session::Session;
use debug_base::threads::Faults;
use debug_base::{BootTime, Panicked, Wait, fenced};
use debug_lease::{Cause, EndError};
use debug_net::expiry::Lifetime;

/// Finds names in the author's code and in the policy that match nothing yet.
pub(crate) type Unmatched = Box<dyn Fn(&Core) -> Vec<Note> + Send + Sync>;

/// One running agent: its parts, put together.
pub(crate) struct Core {
    /// The service's name.
    pub(crate) service: String,
    /// The instance of the service.
    pub(crate) instance: String,
    /// The origin of the log, as its checkpoints name it.
    pub(crate) origin: String,
    /// Who may do what.
    pub(crate) rules: Rules,
    /// What is written down.
    pub(crate) recorder: Recorder,
    /// What the service shows.
    pub(crate) exposed: Exposed,
    /// What is in force.
    pub(crate) changes: Changes,
    /// Notes for `info()` about what happened, the newest last.
    pub(crate) notes: Mutex<Vec<Note>>,
    /// Faults found at start, each of which disables only itself; set once, for the life of the process.
    pub(crate) at_start: OnceLock<Vec<Note>>,
    /// Notes for `info()` about names that match nothing yet; set once.
    pub(crate) unmatched: OnceLock<Unmatched>,
    /// The panics inside the agent.
    pub(crate) faults: Faults,
    /// When the agent started.
    pub(crate) started: BootTime,
    /// The lifetimes of certificates and revocation lists: clients cannot attach once one has expired.
    pub(crate) lifetimes: Vec<Lifetime>,
    /// The budget of records of refused handshakes without a client certificate.
    pub(crate) noise: RateLimit,
    /// The same with a client certificate: noise must not keep these records out of the log.
    pub(crate) refusals: RateLimit,
    /// Verifies operators' signatures.
    pub(crate) algorithms: &'static [&'static dyn pki_types::SignatureVerificationAlgorithm],
    pub(crate) sessions: Mutex<BTreeMap<u64, Arc<Session>>>,
    pub(crate) next_session: AtomicU64,
}

impl Core {
    /// All that the gate may touch.
    pub(crate) fn door(&self) -> Door<'_> {
        Door {
            rules: &self.rules,
            recorder: &self.recorder,
            changes: &self.changes,
            exposed: &self.exposed,
            ends: self,
        }
    }

    /// Publishes what is in force. Call it after every change of that.
    pub(crate) fn mark(&self) {
        self.changes.mark(&self.recorder.emitter);
    }

    /// Counts a panic inside the agent that did not stop it, and reports it in the audit log and in the service's log.
    pub(crate) fn panicked(&self, what: &str) {
        self.faults.panicked(what);
    }

    /// Runs `run` and contains its panic; `None` if it panicked, which is reported.
    pub(crate) fn guarded<R>(&self, what: &str, run: impl FnOnce() -> R) -> Option<R> {
        let run = || {
            #[cfg(test)]
            crate::core::planted::meet(what);
            run()
        };
        fenced(run).map_err(|Panicked| self.panicked(what)).ok()
    }

    /// Reports a panic in both logs.
    pub(crate) fn tell_panic(&self, what: &str, times: u64) {
        self.recorder.append(vec![records::kept(&Alarm {
            panicked: Some(what.to_owned()),
            times: Some(times),
            ..Alarm::default()
        })]);
        self.recorder.emitter.alarm(&format!(
            "{what} panicked inside the agent ({times} times by now) and goes on"
        ));
    }

    /// The observer of failing patches.
    pub(crate) fn observer(&self) -> Option<Arc<PatchObserver>> {
        self.changes.observing.get().cloned()
    }

    /// Ends every lease of a revoked operator, confirmed leases too. Leases that another operator has adopted belong to
    /// that operator and stay. A revert that fails is tried again. Returns the number of leases.
    #[expect(
        dead_code,
        reason = "called when a revocation list or a lock file is read anew, which this version does not"
    )]
    pub(crate) fn revoke(&self, operator: &str, why: &str) -> usize {
        self.changes.leases.revoke(operator, why, |id, cause| {
            self.see_to_end(id, cause, Wait::AGENT);
        })
    }

    /// Ends overdue leases in case the revert thread is dead or late. Reports a dead writer of the log, the log's alarms, and faults of
    /// the lease table.
    pub(crate) fn sweep(&self) {
        const WRITER: &str = "debug-audit";
        if self.recorder.log.is_broken() && !self.faults.knows(WRITER) {
            self.panicked(WRITER);
        }
        for alarm in self.recorder.log.alarms() {
            self.recorder.append(vec![records::kept(&Alarm {
                log: Some(alarm.to_string()),
                ..Alarm::default()
            })]);
            self.recorder.emitter.alarm(&format!("audit log: {alarm}"));
        }
        for fault in self.changes.leases.faults() {
            self.recorder.append(vec![records::kept(&Alarm {
                fault: Some(fault.clone()),
                ..Alarm::default()
            })]);
            self.recorder
                .emitter
                .alarm(&format!("a fault of the agent: {fault}"));
        }
        for (id, cause) in self.changes.leases.overdue(BootTime::now()) {
            // Losing the race against the revert thread is the normal case.
            self.see_to_end(id, &cause, Wait::AGENT);
        }
    }

    /// Completes the end of a session: its leases get their grace once the client is gone, and the close record is written
    /// after the last of its evals. Called whenever either may be due.
    pub(crate) fn detach(&self, session: &Session) {
        if session.is_gone() {
            self.changes.leases.session_lost(session.id, BootTime::now());
            self.mark();
        }
        if let Some(why) = session.detach() {
            self.recorder.append(vec![records::kept(&SessionClose {
                session: session.id,
                operator: session.operator.to_string(),
                why,
            })]);
        }
    }

    /// The attached sessions.
    pub(crate) fn sessions(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the next session.
    pub(crate) fn next_session(&self) -> u64 {
        self.next_session.fetch_add(1, Ordering::Relaxed)
    }

    /// Faults found at start, each of which disables only itself.
    pub(crate) fn at_start(&self) -> &[Note] {
        self.at_start.get().map(Vec::as_slice).unwrap_or_default()
    }

    /// Adds a note that `info()` shows to every operator.
    pub(crate) fn note(&self, sentence: String) {
        /// The newest are kept, because a service may run for years.
        const MAX_NOTES: usize = 100;
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() >= MAX_NOTES {
            notes.remove(0);
        }
        notes.push(Note::for_all(sentence));
    }
}

impl EndLeases for Core {
    fn end(&self, id: u64, cause: &Cause, by: &str, wait: Wait) -> Result<String, EndError> {
        self.end_lease(id, cause, by, wait)
    }
}

/// The most records of refused handshakes per minute: an intruder must not fill the disk with them.
const REFUSALS_PER_MINUTE: u32 = 60;

/// A budget that refills each minute.
#[derive(Default)]
pub(crate) struct RateLimit {
    inner: Mutex<Budget>,
}

#[derive(Default)]
struct Budget {
    minute: u64,
    used: u32,
    /// Requests refused since the last one that was granted.
    lost: u64,
}

impl RateLimit {
    /// Takes one record from this minute's budget; returns the number refused since the last grant, or `None` if the
    /// budget is used up.
    pub(crate) fn allow(&self) -> Option<u64> {
        let minute = BootTime::now().0 / 60_000_000_000;
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.minute != minute {
            (inner.minute, inner.used) = (minute, 0);
        }
        if inner.used >= REFUSALS_PER_MINUTE {
            inner.lost += 1;
            return None;
        }
        inner.used += 1;
        Some(std::mem::take(&mut inner.lost))
    }
}
