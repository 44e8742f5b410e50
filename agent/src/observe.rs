//! What happens to patched calls, told by the points without ever blocking a thread of the service.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use serde_json::json;

use crate::core::{Core, RateLimit};
use crate::lease::Cause;
use crate::points::{Observer, PatchFailure, Tripped};
use crate::records::record;
use crate::state::Wait;

/// Events that may wait; a service thread never waits for them to be taken.
const WAITING: usize = 256;

enum Event {
    Failed { lease: u64, why: String },
    Breaker { lease: u64, why: String },
}

/// Takes note of failed patches and ends those that the breaker stopped.
pub(crate) struct Observing {
    events: SyncSender<Event>,
}

impl Observing {
    /// Starts the thread that writes records for what patches do. It ends when this is dropped.
    pub(crate) fn new(core: &Arc<Core>) -> std::io::Result<Self> {
        let (events, waiting) = sync_channel(WAITING);
        // The core holds this; holding the core back would keep both for ever.
        let core = Arc::downgrade(core);
        let work = move || {
            let failures = RateLimit::default();
            for event in waiting {
                let Some(core) = core.upgrade() else { return };
                take(&core, &failures, event);
            }
        };
        std::thread::Builder::new().name("debug-guard".to_owned()).spawn(work)?;
        Ok(Self { events })
    }
}

fn take(core: &Core, failures: &RateLimit, event: Event) {
    match event {
        Event::Failed { lease, why } => {
            if failures.allow() {
                core.append(vec![record(
                    "effect",
                    json!({ "lease": lease, "patch_failed": core.scrub(&why) }),
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
        drop(self.events.try_send(Event::Failed { lease, why: failure.to_string() }));
    }

    fn tripped(&self, lease: u64, why: Tripped) {
        drop(self.events.try_send(Event::Breaker { lease, why: why.to_string() }));
    }
}
