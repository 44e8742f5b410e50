//! Records what happens to patched calls; the points report it without ever blocking a thread of the service. The same
//! thread does periodic work: it evaluates guards, ends what the revert thread missed, warns of expiring certificates,
//! and writes `active.json`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use debug_audit::Until;
use debug_policy::Resource;
use debug_wire::messages::FailingPatch;
use pki_types::UnixTime;
use serde_json::json;

use crate::core::{Core, RateLimit};
use crate::execute::guard;
use crate::recorder::marks::{HEARTBEAT, Marks};
use crate::recorder::records::record;
use debug_base::threads::Next;
use debug_base::{BootTime, Wait, threads};
use debug_lease::Cause;
use debug_net::expiry::{Left, Told};
use debug_points::{CrashNotes, Failed, Note, Observer, PatchFailure, Tripped};

/// The most queued failures; a thread of the service never blocks on them. Events that end a layer are not limited:
/// there is one for each layer.
const WAITING: usize = 256;

/// The minimum time between two requests of patched calls and sessions to look for overdue leases, in nanoseconds. The
/// revert thread should never miss one, so a delay of a second is acceptable.
const LOOK_EVERY: u64 = 1_000_000_000;
/// How long after a lease is due this thread checks whether the revert thread has missed it: the revert thread goes
/// first.
const SLACK: Duration = Duration::from_millis(250);
/// The longest time between two checks of expiring certificates: the wall clock can jump.
const CLOCK: Duration = Duration::from_secs(3600);

enum Event {
    /// There is a guard to evaluate.
    Guarded,
    /// A lease may be overdue.
    Look,
    Failed {
        lease: u64,
        call: u64,
        why: String,
    },
    Breaker {
        lease: u64,
        why: String,
    },
    /// The leases in force may have changed.
    Marked,
}

/// Records failed patches and ends those that the breaker stopped.
pub(crate) struct Observing {
    events: Sender<Event>,
    /// Failures queued.
    waiting: Arc<AtomicUsize>,
    /// When a look for overdue leases was last requested.
    looked: AtomicU64,
    /// The process that has the thread. A forked child has none, and the lock of the queue may be held for ever there.
    process: u32,
    marks: Arc<Marks>,
    crash_notes: CrashNotes,
    /// Whether an [`Event::Marked`] is queued.
    marked: Arc<AtomicBool>,
}

impl Observing {
    /// Starts the thread that records what patches do. It ends when this is dropped.
    pub(crate) fn new(core: &Arc<Core>, marks: Marks, crash_notes: CrashNotes) -> std::io::Result<Self> {
        let (events, sent) = channel();
        let (waiting, marked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let marks = Arc::new(marks);
        let (taken, shown, keeping) = (waiting.clone(), marked.clone(), marks.clone());
        let faults = core.faults.clone();
        // The core owns this value; a strong reference back would leak both.
        let core = Arc::downgrade(core);
        let (mut failures, mut told) = (Failures::default(), Told::default());
        let mut round = Instant::now();
        let mut beat = Instant::now() + HEARTBEAT;
        let turn = move || {
            let Some((mut wait, guarding)) =
                core.upgrade().map(|core| (warn(&core, &mut told), !core.guards.is_empty()))
            else {
                return Next::End;
            };
            if let Some(due) = core.upgrade().and_then(|core| core.leases.next_due()) {
                wait = wait.min(due.remaining(BootTime::now()) + SLACK);
            }
            let now = Instant::now();
            if guarding {
                wait = wait.min(round.saturating_duration_since(now));
            }
            if keeping.beats() {
                wait = wait.min(beat.saturating_duration_since(now));
            }
            let event = match sent.recv_timeout(wait) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) if keeping.beats() && beat <= Instant::now() => Event::Marked,
                Err(RecvTimeoutError::Timeout) if guarding => Event::Guarded,
                Err(RecvTimeoutError::Timeout) => Event::Look,
                Err(RecvTimeoutError::Disconnected) => return Next::End,
            };
            let Some(core) = core.upgrade() else { return Next::End };
            match event {
                // Cleared before the leases are read, so that a later change queues another event.
                Event::Marked => {
                    shown.store(false, Ordering::Release);
                    beat = Instant::now() + HEARTBEAT;
                    show(&core, &keeping);
                }
                Event::Failed { .. } => {
                    taken.fetch_sub(1, Ordering::Relaxed);
                    take(&core, &mut failures, event);
                }
                Event::Breaker { .. } | Event::Guarded | Event::Look => take(&core, &mut failures, event),
            }
            tell(&core);
            if guarding && round <= Instant::now() {
                guard::round(&core);
                round = Instant::now() + guard::EVERY;
            }
            if core.leases.next_due().is_some_and(|due| due.after(SLACK) <= BootTime::now()) {
                core.sweep();
            }
            Next::Turn
        };
        threads::spawn("debug-guard", None, faults, turn)?;
        let (looked, process) = (AtomicU64::new(0), std::process::id());
        Ok(Self { events, waiting, looked, process, marks, crash_notes, marked })
    }

    /// Whether the next process will know if this one ended inside a patched call.
    pub(crate) fn notes_calls(&self) -> bool {
        self.crash_notes.works()
    }

    /// The marks that the thread writes.
    pub(crate) fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Requests that the file of the marks be written soon.
    pub(crate) fn mark(&self) {
        if !self.marked.swap(true, Ordering::AcqRel) {
            drop(self.events.send(Event::Marked));
        }
    }

    /// Wakes the thread to evaluate guards.
    pub(crate) fn guarded(&self) {
        drop(self.events.send(Event::Guarded));
    }

    /// Wakes the thread to report news of the points. It does not block.
    pub(crate) fn news(&self) {
        if self.process == std::process::id() {
            drop(self.events.send(Event::Look));
        }
    }

    /// Requests a look for leases overdue at `now`, unless there was one a moment ago. It does not block.
    pub(crate) fn look(&self, now: BootTime) {
        let looked = self.looked.load(Ordering::Relaxed);
        if now.0 < looked.saturating_add(LOOK_EVERY) {
            return;
        }
        let first = self.looked.compare_exchange(looked, now.0, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if first && self.process == std::process::id() {
            drop(self.events.send(Event::Look));
        }
    }
}

/// Logs new warnings about expiring certificates and lists; returns the time until the next one can be due.
fn warn(core: &Core, told: &mut Told) -> Duration {
    let now = UnixTime::now().as_secs();
    for (left, warning) in told.news(&core.lifetimes, now) {
        match left {
            Left::Nothing => core.emitter.alarm(&warning),
            Left::Plenty | Left::Half | Left::Quarter => core.emitter.warning(&warning),
        }
    }
    core.lifetimes.iter().filter_map(|lifetime| lifetime.next(now)).min().unwrap_or(CLOCK).min(CLOCK)
}

/// Writes `active.json`.
fn show(core: &Core, marks: &Marks) {
    if let Err(error) = marks.write(core.leases.in_force(BootTime::now())) {
        core.emitter.alarm(&format!("the file that marks changes in force cannot be written: {error}"));
    }
}

/// Reports what the points found out on the service's threads: in the service's log, in the audit log, on stderr and in
/// `info()`.
fn tell(core: &Core) {
    for news in core.points.news() {
        core.append(vec![record("alarm", json!({ "points": news }))]);
        core.emitter.alarm(&news);
        crate::boot::complain(&news);
        core.note(news);
    }
}

/// The failures of patches reported so far.
#[derive(Default)]
struct Failures {
    /// Limits the records of further failures of a patch.
    limit: RateLimit,
    /// The leases in force with a reported first failure.
    first: BTreeSet<u64>,
}

fn take(core: &Core, failures: &mut Failures, event: Event) {
    match event {
        // Its only purpose is to wake the thread.
        Event::Guarded => {}
        Event::Look => core.sweep(),
        Event::Failed { lease, call, why } => {
            let why = debug_base::cut(&core.scrub(&why));
            failures.first.retain(|first| core.leases.find(*first).is_ok());
            // The first failure is reported to its operator, so it is always recorded.
            let found = core.leases.find(lease).ok().filter(|_| !failures.first.contains(&lease));
            if found.is_none() && failures.limit.allow().is_none() {
                return;
            }
            let body = json!({ "lease": lease, "call": call, "patch_failed": why });
            let recorded = core.log.append(vec![record("effect", body)], Until::Written);
            core.emitter.alarm(&format!("the patch of lease {lease} failed in call {call}: {why}"));
            let Some(found) = found else { return };
            failures.first.insert(lease);
            let holder = core.sessions().get(&found.session).cloned();
            if let Some(holder) = holder {
                let target = found.target().to_string();
                holder.patch_fails(FailingPatch { id: lease, target, call, why }, recorded);
            }
        }
        Event::Breaker { lease, why } => {
            let why = match last_failure(core, lease) {
                Some(last) => format!("{why}; the last time {last}"),
                None => why,
            };
            // Another thread may end it at the same moment, with the same effect.
            core.see_to_end(lease, &Cause::Breaker(why), Wait::AGENT);
        }
        Event::Marked => {}
    }
}

/// The last call in which the patch of a lease failed.
pub(crate) fn last_failure(core: &Core, lease: u64) -> Option<Arc<Failed>> {
    let found = core.leases.find(lease).ok()?;
    let Resource::Point(name) = found.target() else { return None };
    let layers = core.points.find(name)?.layers();
    layers.iter().find(|layer| layer.lease() == lease)?.last_failure()
}

impl Observer for Observing {
    fn called(&self, now: BootTime) {
        self.look(now);
    }

    fn begins(&self, lease: u64) -> Option<Note> {
        self.crash_notes.begins(lease)
    }

    fn ends(&self, place: Note) {
        self.crash_notes.ends(place);
    }

    fn ran(&self, _lease: u64, _took: Duration) {}

    fn failed(&self, lease: u64, call: u64, failure: &PatchFailure) {
        // A full queue drops the text of a failure; the layer has counted it.
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        // The send fails only when the agent has stopped.
        drop(self.events.send(Event::Failed { lease, call, why: failure.to_string() }));
    }

    fn tripped(&self, lease: u64, why: Tripped) {
        drop(self.events.send(Event::Breaker { lease, why: why.to_string() }));
    }
}
