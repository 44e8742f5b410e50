//! What happens to patched calls, told by the points without ever blocking a thread of the service.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::core::{Core, RateLimit};
use crate::guard;
use crate::lease::Cause;
use crate::points::{Observer, PatchFailure, Tripped};
use crate::records::record;
use crate::state::Wait;

/// Failures that may wait; a service thread never waits for them to be taken. What ends a layer always finds room: it
/// comes once for each.
const WAITING: usize = 256;

enum Event {
    /// There is a guard to be asked now.
    Guarded,
    Failed {
        lease: u64,
        why: String,
    },
    Breaker {
        lease: u64,
        why: String,
    },
}

/// Takes note of failed patches and ends those that the breaker stopped.
pub(crate) struct Observing {
    events: Sender<Event>,
    /// Failures sent and not yet taken.
    waiting: Arc<AtomicUsize>,
}

impl Observing {
    /// Starts the thread that writes records for what patches do. It ends when this is dropped.
    pub(crate) fn new(core: &Arc<Core>) -> std::io::Result<Self> {
        let (events, sent) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let taken = waiting.clone();
        // The core holds this; holding the core back would keep both for ever.
        let core = Arc::downgrade(core);
        let work = move || {
            let failures = RateLimit::default();
            let mut guarding = false;
            let mut next = Instant::now();
            loop {
                // Without a guard there is nothing to wake up for.
                let event = match guarding {
                    false => sent.recv().map_err(|_| RecvTimeoutError::Disconnected),
                    true => sent.recv_timeout(next.saturating_duration_since(Instant::now())),
                };
                if matches!(event, Err(RecvTimeoutError::Disconnected)) {
                    return;
                }
                if matches!(event, Ok(Event::Failed { .. })) {
                    taken.fetch_sub(1, Ordering::Relaxed);
                }
                let Some(core) = core.upgrade() else { return };
                if let Ok(event) = event {
                    take(&core, &failures, event);
                }
                if guarding && next <= Instant::now() {
                    guard::round(&core);
                    next = Instant::now() + guard::EVERY;
                }
                guarding = !core.guards.is_empty();
            }
        };
        std::thread::Builder::new().name("debug-guard".to_owned()).spawn(work)?;
        Ok(Self { events, waiting })
    }
}

impl Observing {
    /// Wakes the thread that asks guards.
    pub(crate) fn guarded(&self) {
        drop(self.events.send(Event::Guarded));
    }
}

fn take(core: &Core, failures: &RateLimit, event: Event) {
    match event {
        // That it woke the thread is all.
        Event::Guarded => {}
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
