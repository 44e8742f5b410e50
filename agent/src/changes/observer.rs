//! What points talk to: events of patched calls are queued for an agent thread, and never block a thread of the service.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use debug_base::BootTime;
use debug_points::{CallNote, CrashNotes, Observer, PatchFailure, Tripped};

use crate::recorder::marker::ActiveMarker;

/// The most queued failures; a thread of the service never blocks on them. Events that end a layer are not limited:
/// there is one for each layer.
const WAITING: usize = 256;
/// The minimum time between two requests of patched calls and sessions to look for overdue leases, in nanoseconds. The
/// revert thread should never miss one, so a delay of a second is acceptable.
const LOOK_EVERY: u64 = 1_000_000_000;

/// What the agent thread is to look at.
pub(crate) enum PatchEvent {
    /// There is a guard to evaluate.
    Guarded,
    /// A lease may be overdue.
    Look,
    /// A patch failed.
    Failed { lease: u64, call: u64, why: String },
    /// The breaker stopped a patch.
    Breaker { lease: u64, why: String },
    /// The leases in force may have changed.
    Marked,
}

/// Records failed patches and ends those that the breaker stopped.
pub(crate) struct PatchObserver {
    events: Sender<PatchEvent>,
    /// Failures queued.
    waiting: Arc<AtomicUsize>,
    /// When a look for overdue leases was last requested.
    looked: AtomicU64,
    /// The process that has the thread. A forked child has none, and the lock of the queue may be held for ever there.
    process: u32,
    marks: Arc<ActiveMarker>,
    crash_notes: CrashNotes,
    /// Whether an [`PatchEvent::Marked`] is queued.
    marked: Arc<AtomicBool>,
}

/// The thread's side of the queue.
pub(crate) struct Events {
    sent: Receiver<PatchEvent>,
    waiting: Arc<AtomicUsize>,
    marked: Arc<AtomicBool>,
}

impl Events {
    /// The queue, to wait on.
    pub(crate) fn sent(&self) -> &Receiver<PatchEvent> {
        &self.sent
    }

    /// A failure was taken out of the queue.
    pub(crate) fn taken(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// The marks are about to be written: a later change queues another event.
    pub(crate) fn shown(&self) {
        self.marked.store(false, Ordering::Release);
    }
}

impl PatchObserver {
    /// The two sides of the queue.
    pub(crate) fn new(marks: ActiveMarker, crash_notes: CrashNotes) -> (Self, Events) {
        let (events, sent) = channel();
        let (waiting, marked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let queue = Events {
            sent,
            waiting: waiting.clone(),
            marked: marked.clone(),
        };
        let (looked, process) = (AtomicU64::new(0), std::process::id());
        (
            Self {
                events,
                waiting,
                looked,
                process,
                marks: Arc::new(marks),
                crash_notes,
                marked,
            },
            queue,
        )
    }

    /// Whether the next process will know if this one ended inside a patched call.
    pub(crate) fn notes_calls(&self) -> bool {
        self.crash_notes.works()
    }

    /// Clears the notes of finished calls; returns whether others stand.
    pub(crate) fn sweep_notes(&self) -> bool {
        self.crash_notes.sweep()
    }

    /// The marks that the thread writes.
    pub(crate) fn marks(&self) -> &Arc<ActiveMarker> {
        &self.marks
    }

    /// Requests that the file of the marks be written soon.
    pub(crate) fn mark(&self) {
        if !self.marked.swap(true, Ordering::AcqRel) {
            drop(self.events.send(PatchEvent::Marked));
        }
    }

    /// Wakes the thread to evaluate guards.
    pub(crate) fn guarded(&self) {
        drop(self.events.send(PatchEvent::Guarded));
    }

    /// Wakes the thread to report news of the points. It does not block.
    pub(crate) fn news(&self) {
        if self.process == std::process::id() {
            drop(self.events.send(PatchEvent::Look));
        }
    }

    /// Requests a look for leases overdue at `now`, unless there was one a moment ago. It does not block.
    pub(crate) fn look(&self, now: BootTime) {
        let looked = self.looked.load(Ordering::Relaxed);
        if now.0 < looked.saturating_add(LOOK_EVERY) {
            return;
        }
        let first = self
            .looked
            .compare_exchange(looked, now.0, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        if first && self.process == std::process::id() {
            drop(self.events.send(PatchEvent::Look));
        }
    }
}

impl Observer for PatchObserver {
    fn called(&self, now: BootTime) {
        self.look(now);
    }

    fn begins(&self, lease: u64) -> Option<CallNote> {
        let note = self.crash_notes.begins(lease)?;
        // The thread clears the note.
        if note.is_new {
            self.news();
        }
        Some(note)
    }

    fn ends(&self, place: CallNote) {
        self.crash_notes.ends(place);
    }

    fn gone(&self, lease: u64) {
        self.crash_notes.forget(lease);
    }

    fn ran(&self, _lease: u64, _took: Duration) {}

    fn failed(&self, lease: u64, call: u64, failure: &PatchFailure) {
        // A full queue drops the text of a failure; the layer has counted it.
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        // The send fails only when the agent has stopped.
        drop(self.events.send(PatchEvent::Failed {
            lease,
            call,
            why: failure.to_string(),
        }));
    }

    fn tripped(&self, lease: u64, why: Tripped) {
        drop(self.events.send(PatchEvent::Breaker {
            lease,
            why: why.to_string(),
        }));
    }
}
