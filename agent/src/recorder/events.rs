//! The agent's own events in the service's log. They go through a bounded queue to a thread of their own, and stay in
//! the queue until the service has installed its subscriber.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use debug_wire::messages::InForce;
use tracing::subscriber::NoSubscriber;

use debug_base::escape;
use debug_base::threads::Next;

/// The most queued events; further ones are counted and dropped.
const WAITING: usize = 1_024;
/// The first wait between two checks for a subscriber; it doubles each time.
const FIRST_LOOK: Duration = Duration::from_millis(10);
/// The longest wait between two checks: a service may never install a subscriber.
const LOOK: Duration = Duration::from_secs(1);
/// How long the event of a failed start waits for a subscriber: a service installs one at startup or never.
const PATIENCE: Duration = Duration::from_secs(60);

/// One event. It carries no code and no values.
enum Event {
    Lease {
        id: u64,
        target: String,
        how: &'static str,
    },
    Record {
        operator: String,
        outcome: &'static str,
        weight: Weight,
        seq: u64,
    },
    InForce(InForce),
    Info(String),
    Warning(String),
    Alarm(String),
}

/// How relevant an eval is to a reader of the service's log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Weight {
    /// It only read, or failed.
    Looked,
    /// It had an effect on the service, a lease or a session.
    Acted,
    /// Policy denied a part of it.
    Denied,
}

/// The sending half.
#[derive(Clone)]
pub(crate) struct Emitter {
    queue: SyncSender<Event>,
    dropped: Arc<AtomicU64>,
}

/// Whether a subscriber has registered the agent's layer: it becomes the default in a moment.
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// Called when a subscriber registers the agent's layer.
#[cfg(feature = "tracing")]
pub(crate) fn installed() {
    INSTALLED.store(true, Ordering::Release);
}

/// Whether this thread's events reach a subscriber. `INSTALLED` does not tell: a subscriber registers its layers before
/// it becomes the global default, and another thread may have one for itself only.
fn subscriber_is_there() -> bool {
    tracing::dispatcher::get_default(|dispatch| !dispatch.is::<NoSubscriber>())
}

impl Emitter {
    /// An emitter, and the loop body of its thread.
    pub(crate) fn new() -> (Self, impl FnMut() -> Next + Send + 'static) {
        let (queue, events) = sync_channel(WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let emitter = Self {
            queue,
            dropped: dropped.clone(),
        };
        (emitter, move || emit(&events, &dropped))
    }

    fn send(&self, event: Event) {
        match self.queue.try_send(event) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// A lease ended.
    pub(crate) fn lease_ended(&self, id: u64, target: &str, how: &'static str) {
        self.send(Event::Lease {
            id,
            target: target.to_owned(),
            how,
        });
    }

    /// The number of leases in force changed.
    pub(crate) fn in_force(&self, now: InForce) {
        self.send(Event::InForce(now));
    }

    /// The outcome of an eval was recorded.
    pub(crate) fn recorded(&self, operator: &str, outcome: &'static str, weight: Weight, seq: u64) {
        self.send(Event::Record {
            operator: operator.to_owned(),
            outcome,
            weight,
            seq,
        });
    }

    /// An event at INFO.
    pub(crate) fn info(&self, text: &str) {
        self.send(Event::Info(text.to_owned()));
    }

    /// An event at WARN: an operator should act before long.
    pub(crate) fn warning(&self, text: &str) {
        self.send(Event::Warning(text.to_owned()));
    }

    /// An event at ERROR: an operator must look at once.
    pub(crate) fn alarm(&self, text: &str) {
        self.send(Event::Alarm(text.to_owned()));
    }
}

/// Blocks until a subscriber is installed; false if `abandoned` is true first.
fn await_subscriber(abandoned: impl Fn() -> bool) -> bool {
    let mut nap = FIRST_LOOK;
    while !subscriber_is_there() {
        if abandoned() {
            return false;
        }
        std::thread::park_timeout(nap);
        nap = if INSTALLED.swap(false, Ordering::AcqRel) {
            FIRST_LOOK
        } else {
            (nap * 2).min(LOOK)
        };
    }
    true
}

/// Logs why the agent did not start, once the service has a subscriber; on a thread that then ends.
pub(crate) fn refused(why: &str) {
    let (why, since) = (why.to_owned(), Instant::now());
    let tell = move || {
        if await_subscriber(|| PATIENCE < since.elapsed()) {
            tracing::error!(target: "debug_agent", "{why}");
        }
    };
    // If the thread does not start, the line on stderr has to do.
    drop(
        std::thread::Builder::new()
            .name("debug-emit".to_owned())
            .spawn(tell),
    );
}

/// Emits one event. A subscriber that panics loses that event.
fn emit(events: &Receiver<Event>, dropped: &Arc<AtomicU64>) -> Next {
    // Leave the events in the queue until there is a subscriber.
    if !await_subscriber(|| Arc::strong_count(dropped) == 1) {
        return Next::End;
    }
    let Ok(event) = events.recv() else {
        return Next::End;
    };
    let lost = dropped.swap(0, Ordering::Relaxed);
    if lost > 0 {
        tracing::warn!(target: "debug_agent", lost, "events of the agent were dropped: their queue was full");
    }
    write(event);
    Next::Turn
}

fn write(event: Event) {
    match event {
        Event::Lease { id, target, how } => {
            tracing::info!(target: "debug_agent", lease = id, %target, how, "a lease ended");
        }
        Event::Record {
            operator,
            outcome,
            weight,
            seq,
        } => {
            // The audit log has every eval; a reader of the service's log wants those that acted.
            macro_rules! tell {
                ($level:ident) => {
                    tracing::$level!(
                        target: "debug_agent", %operator, action = "eval", outcome, seq, "an operator's eval ended"
                    )
                };
            }
            match weight {
                Weight::Looked => tell!(debug),
                Weight::Acted => tell!(info),
                Weight::Denied => tell!(warn),
            }
        }
        // Documented at `Agent::leases_in_force`: services build a gauge on it.
        Event::InForce(InForce { count, shortest_ms }) => {
            tracing::info!(
                target: "debug_agent::leases", in_force = count, shortest_ms,
                "the number of changes in force is another"
            );
        }
        // Texts may come from scripts: escape them, so that one event is one line.
        Event::Info(text) => tracing::info!(target: "debug_agent", "{}", escape(&text)),
        Event::Warning(text) => tracing::warn!(target: "debug_agent", "{}", escape(&text)),
        Event::Alarm(text) => tracing::error!(target: "debug_agent", alarm = true, "{}", escape(&text)),
    }
}
