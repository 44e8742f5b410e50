//! What all threads of the agent share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use debug_audit::{Entry, Log, Until};
use debug_policy::{Action, Policy, Request, Resource};
use debug_wire::messages::{EndedLease, InForce};
use serde_json::{Value, json};

use crate::clock::BootTime;
use crate::emit::Emitter;
use crate::fence::{Panicked, fenced};
use crate::guard::Guards;
use crate::helpers::Helpers;
use crate::lease::{Cause, EndError, Leases, Stands, Undone, Writes};
use crate::levels::Levels;
use crate::lifetimes::Lifetime;
use crate::notes::Note;
use crate::observe::Observing;
use crate::points::Registry;
use crate::records;
use crate::session::Session;
use crate::snapshot::Snapshots;
use crate::state::{Basis, Keyed, Origin, Path, Redactor, Scrubber, StateError, States, Tree, Wait};
use crate::status::Waits;
use crate::threads::Faults;
use crate::values;

/// Everything of one running agent.
pub(crate) struct Core {
    /// The service's name.
    pub(crate) service: String,
    /// Which instance of it.
    pub(crate) instance: String,
    /// Such as `production`.
    pub(crate) environment: String,
    /// The origin of the log.
    pub(crate) origin: String,
    /// What decides.
    pub(crate) policy: Policy,
    /// SHA-256 of the policy's text, hex.
    pub(crate) policy_digest: String,
    /// The audit log.
    pub(crate) log: Log,
    /// The changes in force.
    pub(crate) leases: Arc<Leases>,
    /// Those of them that are writes to states.
    pub(crate) writes: Arc<Writes>,
    /// The conditions under which leases stay.
    pub(crate) guards: Guards,
    /// Sentences for `info()` about what happened, the newest last.
    pub(crate) notes: Mutex<Vec<Note>>,
    /// What was found at start that costs only itself, and is so for as long as this process runs; set once.
    pub(crate) at_start: OnceLock<Vec<Note>>,
    /// Names in the author's code and in the policy; set once.
    pub(crate) names: OnceLock<crate::start::Names>,
    /// How many permits the gate has made.
    pub(crate) permits: AtomicU64,
    /// What was kept of states.
    pub(crate) snapshots: Snapshots,
    /// The threads on which writes are undone that must wait for the service.
    pub(crate) helpers: Helpers,
    /// Which of them wait.
    pub(crate) waits: Waits,
    /// What panicked inside the agent.
    pub(crate) faults: Faults,
    /// What the service registered.
    pub(crate) states: Arc<States>,
    /// The points.
    pub(crate) points: Arc<Registry>,
    /// The levels that are set for targets of the service's log.
    pub(crate) levels: Arc<Levels>,
    /// Who hears of failing patches; set once, right after the core is made.
    pub(crate) observing: OnceLock<Arc<Observing>>,
    /// What is secret.
    pub(crate) redactor: Arc<Redactor>,
    /// What must not leave, searched for in everything that does.
    pub(crate) scrubber: Scrubber,
    /// Texts that are those of secrets, by their paths, as they were found at start; set once.
    pub(crate) alike: OnceLock<BTreeMap<Path, Vec<(Origin, bool)>>>,
    /// Keyed digests.
    pub(crate) keyed: Keyed,
    /// Where events for the service's log wait.
    pub(crate) emitter: Emitter,
    /// Since when.
    pub(crate) started: BootTime,
    /// What ends by itself and keeps everybody out then.
    pub(crate) lifetimes: Vec<Lifetime>,
    /// How many refused handshakes are still recorded, of peers that showed no certificate.
    pub(crate) noise: RateLimit,
    /// Likewise, of peers whose certificate was looked at: noise must not keep these out of the log.
    pub(crate) refusals: RateLimit,
    /// Verifies operators' signatures.
    pub(crate) algorithms: &'static [&'static dyn pki_types::SignatureVerificationAlgorithm],
    pub(crate) sessions: Mutex<BTreeMap<u64, Arc<Session>>>,
    pub(crate) next_session: AtomicU64,
}

impl Core {
    /// A request of a session's operator at this moment.
    pub(crate) fn request(&self, session: &Session, action: Action, resource: Resource) -> Request {
        let (mode, reason) = session.mode();
        Request {
            action,
            resource,
            operator: session.operator.name.clone(),
            roles: session.operator.roles.clone(),
            environment: self.environment.clone(),
            mode,
            ttl: None,
            life: None,
            reason,
        }
    }

    /// Appends records that nobody waits for.
    pub(crate) fn append(&self, entries: Vec<Entry>) {
        drop(self.log.append(entries, Until::Written));
    }

    /// Keyed digest and length of a value, for records.
    pub(crate) fn digest(&self, value: &Tree) -> Value {
        json!({ "hmac": self.keyed.digest(value), "bytes": values::size_of(value) })
    }

    /// A text without the secrets that are known now.
    pub(crate) fn scrub(&self, text: &str) -> String {
        self.scrubber.scrub(text).into_owned()
    }

    /// Whether a text holds a secret that is known now.
    pub(crate) fn holds_secret(&self, text: &str) -> bool {
        self.scrubber.find(text)
    }

    /// Reads a path with its secrets marked, and lets the scrubber know them before anybody sees anything of it.
    ///
    /// # Errors
    /// Nothing stands there, or the service's lock is not free in time.
    pub(crate) fn read(&self, path: &Path, wait: Wait) -> Result<Tree, StateError> {
        let tree = self.states.read(path, wait)?;
        self.scrubber.learn(path, &tree);
        // A script could take a text apart and so get a secret in it past the scrubber.
        Ok(self.scrubber.mark(tree))
    }

    /// Lets the scrubber know the secrets of every state, so that none leaves that nobody has read yet.
    pub(crate) fn learn_all(&self) {
        for (name, _) in self.states.list() {
            // A state that cannot be read now is learnt when it is read.
            drop(self.read(&Path(vec![name.to_owned()]), Wait::AGENT));
        }
    }

    /// Finds the texts that are those of secrets as the service has them at start. Later an operator could have brought one, and
    /// would learn whether it was the right one.
    pub(crate) fn find_alike(&self) {
        let mut alike = BTreeMap::new();
        for (name, _) in self.states.list() {
            let state = Path(vec![name.to_owned()]);
            let Ok(tree) = self.read(&state, Wait::AGENT) else { continue };
            for (below, leaf) in tree.leaves() {
                let Tree::Str(text) = leaf.without_mark() else { continue };
                let path = state.join(&below.0);
                let secrets = self.scrubber.alike(&path, text);
                if !secrets.is_empty() {
                    alike.insert(path, secrets);
                }
            }
        }
        drop(self.alike.set(alike));
    }

    /// The secrets whose text was found at a path at start, and whether it was nothing else.
    pub(crate) fn alike(&self, path: &Path) -> &[(Origin, bool)] {
        self.alike.get().and_then(|alike| alike.get(path)).map(Vec::as_slice).unwrap_or_default()
    }

    /// Says so where the number of changes in force, or the first deadline of them, may be another than before. Waits for
    /// nothing: the event leaves through a queue, and the file is written elsewhere.
    pub(crate) fn mark(&self) {
        let Some(observing) = self.observing.get() else { return };
        let tell = |now: InForce| self.emitter.in_force(now);
        observing.marks().tell(|| self.leases.in_force(BootTime::now()), tell);
        observing.mark();
    }

    /// Something of the agent's has panicked and goes on: counted, and told in the audit log and in the service's.
    pub(crate) fn panicked(&self, what: &str) {
        self.faults.panicked(what);
    }

    /// Does something whose panic must end here; nothing if it panicked, which is told.
    pub(crate) fn guarded<R>(&self, what: &str, run: impl FnOnce() -> R) -> Option<R> {
        let run = || {
            #[cfg(test)]
            crate::fence::planted::meet(what);
            run()
        };
        fenced(run).map_err(|Panicked| self.panicked(what)).ok()
    }

    /// Says in both logs that something has panicked.
    pub(crate) fn tell_panic(&self, what: &str, times: u64) {
        self.append(vec![records::kept("alarm", json!({ "panicked": what, "times": times }))]);
        self.emitter.alarm(&format!("{what} panicked inside the agent ({times} times by now) and goes on"));
    }

    /// Who hears of failing patches.
    pub(crate) fn observer(&self) -> Option<Arc<Observing>> {
        self.observing.get().cloned()
    }

    /// Ends a lease, whoever asks, and writes its one terminal record.
    ///
    /// # Errors
    /// What became of it, or why it could not be undone; then an alarm is recorded and it is tried again.
    pub(crate) fn end_lease(&self, id: u64, cause: &Cause, by: &str, wait: Wait) -> Result<String, EndError> {
        self.end_lease_of(id, None, cause, by, wait)
    }

    /// Ends a lease for a cause of the agent's own. What stands in the way is an alarm in the log, and the revert thread tries
    /// again, also if ending it panicked; so those that are to end with it go on at once.
    pub(crate) fn see_to_end(&self, id: u64, cause: &Cause, wait: Wait) {
        let end = || drop(self.end_lease(id, cause, "agent", wait));
        if self.guarded("ending a lease", end).is_none() {
            self.leases.postpone(id, cause);
        }
    }

    /// As [`end_lease`](Self::end_lease), if it is still that owner's.
    ///
    /// # Errors
    /// Likewise; and if it has become another operator's.
    pub(crate) fn end_lease_of(
        &self,
        id: u64,
        owner: Option<&str>,
        cause: &Cause,
        by: &str,
        wait: Wait,
    ) -> Result<String, EndError> {
        match self.leases.end_of(id, owner, cause, wait) {
            Ok(ended) => {
                let detail = cause.detail().map_or(Value::Null, |seen| self.scrub(seen).into());
                let target = ended.lease.target().to_string();
                if let Resource::State(path) = ended.lease.target() {
                    // What stands there now must be known before it is forgotten that it once stood below.
                    let path = Path(path.clone());
                    drop(self.read(&path, Wait::AGENT));
                    self.scrubber.learn(Origin::replaced(id), &Tree::Null);
                    // Layers above may have taken over what stood below it, which will stand there again.
                    for (lease, path, base) in self.writes.bases(&path) {
                        let base = base.unwrap_or(Tree::Null);
                        self.scrubber.learn(Origin::replaced(lease), &self.redactor.mark(&path, base));
                    }
                }
                let undone = &ended.undone;
                let how = if undone.conflict.is_some() { "conflict" } else { cause.word() };
                self.leases.ended(id, how);
                let why = match cause {
                    // What a guard saw its author could see, who need not be the one who holds the lease.
                    Cause::GuardFailed(_) => String::new(),
                    _ => crate::eval::cut(detail.as_str().unwrap_or_default()),
                };
                let record = records::lease_ended(cause.kind(), &ended.lease, by, &self.told(undone), detail);
                let recorded = self.log.append(vec![record], Until::Written);
                let holder = self.sessions().get(&ended.lease.session).cloned();
                // Of what its own eval undid its reply tells.
                if let Some(holder) = holder.filter(|_| *cause != Cause::Undone) {
                    let ended = EndedLease { id, target: target.clone(), how: how.to_owned(), why };
                    holder.lease_ended(ended, recorded);
                }
                self.settle_surplus();
                self.mark();
                self.emitter.lease_ended(id, &target, cause.word());
                Ok(match (&undone.conflict, undone.covered_by) {
                    (Some(conflict), _) => format!(
                        "lease {id}: {target} was not restored whole: {}; `settle({id}, \"keep\")` leaves it so, \
                         `settle({id}, \"force\")` undoes the change all the same",
                        conflict.why
                    ),
                    (None, Some(above)) => {
                        format!("lease {id}: ended; {target} stays as lease {above} above it made it")
                    }
                    (None, None) => format!("lease {id}: {}", ended_as(&target, undone)),
                })
            }
            Err(EndError::Failing { id, why, first }) => {
                if first {
                    self.append(vec![records::kept("alarm", json!({ "lease": id, "revert_failed": why }))]);
                    self.emitter.alarm(&format!("lease {id} could not be undone: {why}"));
                }
                Err(EndError::Failing { id, why, first })
            }
            Err(error) => Err(error),
        }
    }

    /// How undoing went, for the record of it: digests, never values.
    fn told(&self, undone: &Undone) -> records::Told {
        records::Told {
            conflict: undone.conflict.as_ref().map(|conflict| conflict.why.clone()),
            covered_by: undone.covered_by,
            restored: undone.stands.as_ref().map_or(Value::Null, |stands| self.stands(stands)),
            base: undone.base.as_ref().map_or(Value::Null, |base| self.stands(base)),
            foreign: undone.foreign,
            found: undone.found.as_ref().map(Path::to_string),
            compared: compared(undone),
        }
    }

    fn stands(&self, stands: &Stands) -> Value {
        match stands {
            Stands::Value(value) => self.digest(value),
            Stands::Nothing => self.digest_of(None),
            Stands::Layers(count) => json!({ "layers": count }),
        }
    }

    /// Keyed digest and length of what stands at a place, or that nothing does.
    pub(crate) fn digest_of(&self, value: Option<&Tree>) -> Value {
        value.map_or_else(|| json!({ "absent": true }), |value| self.digest(value))
    }

    /// Leaves the oldest conflict as it is if too many wait for somebody to say so.
    fn settle_surplus(&self) {
        if let Some(lease) = self.leases.surplus_conflict()
            && self.leases.take_conflict(lease.id).is_some()
        {
            let detail = json!("too many conflicts wait to be settled");
            self.append(vec![records::lease_settled(&lease, "agent", "keep", &Value::Null, detail)]);
        }
    }

    /// Ends every lease of an operator who may be here no longer, confirmed ones too; those that somebody else has adopted
    /// are no longer this operator's. What cannot be undone at once is tried again. Returns how many there were.
    #[expect(
        dead_code,
        reason = "called when a revocation list or a lock file is read anew, which this version does not"
    )]
    pub(crate) fn revoke(&self, operator: &str, why: &str) -> usize {
        self.leases.revoke(operator, why, |id, cause| {
            self.see_to_end(id, cause, Wait::AGENT);
        })
    }

    /// Does what the revert thread should have done, should it be dead or late, and tells of what the log noticed.
    pub(crate) fn sweep(&self) {
        const WRITER: &str = "debug-audit";
        if self.log.is_broken() && !self.faults.knows(WRITER) {
            self.panicked(WRITER);
        }
        for alarm in self.log.alarms() {
            self.append(vec![records::kept("alarm", json!({ "log": alarm }))]);
            self.emitter.alarm(&format!("audit log: {alarm}"));
        }
        for (id, cause) in self.leases.overdue(BootTime::now()) {
            // Losing the race against the revert thread is the normal case.
            self.see_to_end(id, &cause, Wait::AGENT);
        }
    }

    /// The sessions that are attached.
    pub(crate) fn sessions(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the next session.
    pub(crate) fn next_session(&self) -> u64 {
        self.next_session.fetch_add(1, Ordering::Relaxed)
    }

    /// What was found at start that costs only itself.
    pub(crate) fn at_start(&self) -> &[Note] {
        self.at_start.get().map(Vec::as_slice).unwrap_or_default()
    }

    /// Adds a sentence to what `info()` says to all.
    pub(crate) fn note(&self, sentence: String) {
        /// The newest are kept: a service may run for years.
        const MAX_NOTES: usize = 100;
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() >= MAX_NOTES {
            notes.remove(0);
        }
        notes.push(Note::for_all(sentence));
    }
}

/// What is said of a target whose change was undone: no more than was seen.
fn ended_as(target: &str, undone: &Undone) -> String {
    let found = undone.found.as_ref().map(|now| format!("; it moved meanwhile and is `{now}` now"));
    let found = found.unwrap_or_default();
    match undone.stands {
        Some(Stands::Layers(0)) => format!("{target} is as it was before"),
        Some(Stands::Layers(_)) => format!("{target} is as the others in force there make it"),
        _ if undone.is_as_before() => format!("{target} is as it was before{found}"),
        Some(_) => format!(
            "what was changed at {target} is undone; what the service itself wrote there meanwhile stays{found}"
        ),
        None => format!("{target} was undone; what stands there was not seen"),
    }
}

/// What the claim of a record rests on, in words.
fn compared(undone: &Undone) -> &'static [&'static str] {
    match (&undone.stands, undone.basis) {
        (Some(Stands::Layers(_)), _) => &["layers"],
        (_, Some(Basis::Names)) => &["value"],
        (_, Some(Basis::WholeList)) => &["value", "list"],
        (_, Some(Basis::Identity)) => &["value", "identity"],
        (_, Some(Basis::Neighbours)) => &["value", "length", "neighbours"],
        (_, None) => &[],
    }
}

/// At most so many records of refused handshakes per minute: an intruder must not fill the disk with them.
const REFUSALS_PER_MINUTE: u32 = 60;

/// A budget that is filled up again each minute.
#[derive(Default)]
pub(crate) struct RateLimit {
    inner: Mutex<Budget>,
}

#[derive(Default)]
struct Budget {
    minute: u64,
    used: u32,
    /// What found nothing left since something last did.
    lost: u64,
}

impl RateLimit {
    /// Takes one from the budget of this minute, with how many found nothing left before; nothing if it is used up.
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
