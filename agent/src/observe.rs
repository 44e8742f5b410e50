//! What happens to patched calls, told by the points without ever blocking a thread of the service; and on the same thread
//! what else somebody has to look at now and then: guards, what the revert thread missed, what ends by itself, and the mark of
//! what is in force.

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

use crate::clock::BootTime;
use crate::core::{Core, RateLimit};
use crate::guard;
use crate::inside::{Inside, Place};
use crate::lease::Cause;
use crate::lifetimes::{Left, Told};
use crate::marks::{HEARTBEAT, Marks};
use crate::points::{Failed, Observer, PatchFailure, Tripped};
use crate::records::record;
use crate::state::Wait;
use crate::threads::{self, Next};

/// Failures that may wait; a service thread never waits for them to be taken. What ends a layer always finds room: it
/// comes once for each.
const WAITING: usize = 256;

/// How rarely patched calls and sessions ask to look for what the revert thread missed, in nanoseconds: a second late is
/// soon enough for what should never happen, and once a second costs nothing.
const LOOK_EVERY: u64 = 1_000_000_000;
/// How long after a lease was due this thread looks whether the revert thread has missed it: it is the first that tries.
const SLACK: Duration = Duration::from_millis(250);
/// The longest between two looks at what ends by itself: the clock that certificates go by can jump.
const CLOCK: Duration = Duration::from_secs(3600);

enum Event {
    /// There is a guard to be asked.
    Guarded,
    /// Something may be overdue.
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
    /// What is in force may be another than before.
    Marked,
}

/// Takes note of failed patches and ends those that the breaker stopped.
pub(crate) struct Observing {
    events: Sender<Event>,
    /// Failures sent and not yet taken.
    waiting: Arc<AtomicUsize>,
    /// When somebody last asked to look for what is overdue.
    looked: AtomicU64,
    /// After a fork the child has no thread that could be asked, and the lock on which that waits may be held for ever.
    process: u32,
    marks: Arc<Marks>,
    inside: Inside,
    /// Whether a [`Event::Marked`] was sent and not yet taken.
    marked: Arc<AtomicBool>,
}

impl Observing {
    /// Starts the thread that writes records for what patches do. It ends when this is dropped.
    pub(crate) fn new(core: &Arc<Core>, marks: Marks, inside: Inside) -> std::io::Result<Self> {
        let (events, sent) = channel();
        let (waiting, marked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let marks = Arc::new(marks);
        let (taken, shown, keeping) = (waiting.clone(), marked.clone(), marks.clone());
        let faults = core.faults.clone();
        // The core holds this; holding the core back would keep both for ever.
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
                // What is in force is looked at after this, so what changes from here on comes up again.
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
        Ok(Self { events, waiting, looked, process, marks, inside, marked })
    }

    /// Whether the next process will know if this one ended inside a patched call.
    pub(crate) fn notes_calls(&self) -> bool {
        self.inside.works()
    }

    /// The marks that the thread keeps.
    pub(crate) fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Has the file of the marks written, soon.
    pub(crate) fn mark(&self) {
        if !self.marked.swap(true, Ordering::AcqRel) {
            drop(self.events.send(Event::Marked));
        }
    }

    /// Wakes the thread that asks guards.
    pub(crate) fn guarded(&self) {
        drop(self.events.send(Event::Guarded));
    }

    /// Wakes the thread: there is something to be told. Returns at once.
    pub(crate) fn news(&self) {
        if self.process == std::process::id() {
            drop(self.events.send(Event::Look));
        }
    }

    /// Has what is overdue at `now` looked for, if that was not done a moment ago. Returns at once.
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

/// Says in the service's log what is new about what ends by itself; how long until there can be more.
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

/// Shows what is in force to whoever looks at the file.
fn show(core: &Core, marks: &Marks) {
    if let Err(error) = marks.write(core.leases.in_force(BootTime::now())) {
        core.emitter.alarm(&format!("the file that marks changes in force cannot be written: {error}"));
    }
}

/// Says what was found out about points on the service's threads: in its log, in the audit log, on stderr, in `info()`.
fn tell(core: &Core) {
    for news in core.points.news() {
        core.append(vec![record("alarm", json!({ "points": news }))]);
        core.emitter.alarm(&news);
        crate::start::complain(&news);
        core.note(news);
    }
}

/// What was told of patches that fail.
#[derive(Default)]
struct Failures {
    /// Of the further failures of a patch only so many are told.
    limit: RateLimit,
    /// The leases in force whose first failure was told.
    first: BTreeSet<u64>,
}

fn take(core: &Core, failures: &mut Failures, event: Event) {
    match event {
        // That it woke the thread is all.
        Event::Guarded => {}
        Event::Look => core.sweep(),
        Event::Failed { lease, call, why } => {
            let why = crate::eval::cut(&core.scrub(&why));
            failures.first.retain(|first| core.leases.find(*first).is_ok());
            // The first one is told to its operator, so its record is always there.
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
            // Whoever else ends it at this moment does the same.
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

    fn begins(&self, lease: u64) -> Option<Place> {
        self.inside.begins(lease)
    }

    fn ends(&self, place: Place) {
        self.inside.ends(place);
    }

    fn ran(&self, _lease: u64, _took: Duration) {}

    fn failed(&self, lease: u64, call: u64, failure: &PatchFailure) {
        // A full queue loses the text of a failure; the layer has counted it.
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        // The thread is gone when the agent is; then nobody asks any more.
        drop(self.events.send(Event::Failed { lease, call, why: failure.to_string() }));
    }

    fn tripped(&self, lease: u64, why: Tripped) {
        drop(self.events.send(Event::Breaker { lease, why: why.to_string() }));
    }
}
