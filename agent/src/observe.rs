//! What happens to patched calls, told by the points without ever blocking a thread of the service; and the mark of what is
//! in force, kept by the same thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use serde_json::json;

use crate::clock::BootTime;
use crate::core::{Core, RateLimit};
use crate::lease::Cause;
use crate::marks::{HEARTBEAT, Marks};
use crate::points::{Observer, PatchFailure, Tripped};
use crate::records::record;
use crate::state::Wait;

/// Failures that may wait; a service thread never waits for them to be taken. What ends a layer always finds room: it
/// comes once for each.
const WAITING: usize = 256;

enum Event {
    Failed {
        lease: u64,
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
    marks: Arc<Marks>,
    /// Whether a [`Event::Marked`] was sent and not yet taken.
    marked: Arc<AtomicBool>,
}

impl Observing {
    /// Starts the thread that writes records for what patches do. It ends when this is dropped.
    pub(crate) fn new(core: &Arc<Core>, marks: Marks) -> std::io::Result<Self> {
        let (events, sent) = channel();
        let (waiting, marked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let marks = Arc::new(marks);
        let (taken, shown, keeping) = (waiting.clone(), marked.clone(), marks.clone());
        // The core holds this; holding the core back would keep both for ever.
        let core = Arc::downgrade(core);
        let work = move || {
            let failures = RateLimit::default();
            while let Some(event) = next(&sent, keeping.beats()) {
                let Some(core) = core.upgrade() else { return };
                match event {
                    // What is in force is looked at after this, so what changes from here on comes up again.
                    Event::Marked => {
                        shown.store(false, Ordering::Release);
                        show(&core, &keeping);
                    }
                    Event::Failed { .. } => {
                        taken.fetch_sub(1, Ordering::Relaxed);
                        take(&core, &failures, event);
                    }
                    Event::Breaker { .. } => take(&core, &failures, event),
                }
            }
        };
        std::thread::Builder::new().name("debug-guard".to_owned()).spawn(work)?;
        Ok(Self { events, waiting, marks, marked })
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
}

/// The next event; if the file has to be written in any case, at the latest when it is time for that. Nothing when the agent
/// is gone.
fn next(events: &Receiver<Event>, beats: bool) -> Option<Event> {
    if !beats {
        return events.recv().ok();
    }
    match events.recv_timeout(HEARTBEAT) {
        Ok(event) => Some(event),
        Err(RecvTimeoutError::Timeout) => Some(Event::Marked),
        Err(RecvTimeoutError::Disconnected) => None,
    }
}

/// Shows what is in force to whoever looks at the file.
fn show(core: &Core, marks: &Marks) {
    if let Err(error) = marks.write(core.leases.in_force(BootTime::now())) {
        core.emitter.alarm(&format!("the file that marks changes in force cannot be written: {error}"));
    }
}

fn take(core: &Core, failures: &RateLimit, event: Event) {
    match event {
        Event::Failed { lease, why } => {
            if failures.allow().is_some() {
                core.append(vec![record(
                    "effect",
                    json!({ "lease": lease, "patch_failed": crate::eval::cut(&core.scrub(&why)) }),
                )]);
                core.emitter.alarm(&format!("the patch of lease {lease} failed: {}", core.scrub(&why)));
            }
        }
        Event::Breaker { lease, why } => {
            // Whoever else ends it at this moment does the same.
            drop(core.end_lease(lease, &Cause::Breaker(why), "agent", Wait::AGENT));
        }
        Event::Marked => {}
    }
}

impl Observer for Observing {
    fn ran(&self, _lease: u64, _took: Duration) {}

    fn failed(&self, lease: u64, failure: &PatchFailure) {
        // A full queue loses the text of a failure; the layer has counted it.
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        // The thread is gone when the agent is; then nobody asks any more.
        drop(self.events.send(Event::Failed { lease, why: failure.to_string() }));
    }

    fn tripped(&self, lease: u64, why: Tripped) {
        drop(self.events.send(Event::Breaker { lease, why: why.to_string() }));
    }
}
