//! The agent's own events in the service's log: they leave through a bounded queue on a thread of their own, and wait
//! there until the service has installed its subscriber.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use debug_wire::messages::InForce;
use tracing::subscriber::NoSubscriber;

use crate::execute::escape;
use crate::threads::Next;

/// Events that may wait; more are counted and dropped.
const WAITING: usize = 1_024;
/// After this long it is looked again whether a subscriber is there, then after twice as long each time.
const FIRST_LOOK: Duration = Duration::from_millis(10);
/// The longest between two looks: a service may never have one.
const LOOK: Duration = Duration::from_secs(1);
/// How long a start that failed waits to be told: a service installs its subscriber when it starts, or never.
const PATIENCE: Duration = Duration::from_secs(60);

/// One event, without code and without values.
enum Event {
    Lease { id: u64, target: String, how: &'static str },
    Record { operator: String, outcome: &'static str, weight: Weight, seq: u64 },
    InForce(InForce),
    Info(String),
    Warning(String),
    Alarm(String),
}

/// How much an eval matters to who reads the service's log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Weight {
    /// It only looked, or failed by itself.
    Looked,
    /// It had an effect on the service, a lease or a session.
    Acted,
    /// Policy refused something of it.
    Denied,
}

/// Where events go in.
#[derive(Clone)]
pub(crate) struct Emitter {
    queue: SyncSender<Event>,
    dropped: Arc<AtomicU64>,
}

/// Whether the service's subscriber has taken in the agent's layer: it will be there in a moment.
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// The agent's layer is part of a subscriber now.
#[cfg(feature = "tracing")]
pub(crate) fn installed() {
    INSTALLED.store(true, Ordering::Release);
}

/// Whether events of this thread reach anybody. A subscriber takes in its layers before it becomes the global one, and
/// one that another thread has for itself is not ours.
fn subscriber_is_there() -> bool {
    tracing::dispatcher::get_default(|dispatch| !dispatch.is::<NoSubscriber>())
}

impl Emitter {
    /// An emitter and the work of its thread.
    pub(crate) fn new() -> (Self, impl FnMut() -> Next + Send + 'static) {
        let (queue, events) = sync_channel(WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let emitter = Self { queue, dropped: dropped.clone() };
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
        self.send(Event::Lease { id, target: target.to_owned(), how });
    }

    /// The number of leases in force is another than before.
    pub(crate) fn in_force(&self, now: InForce) {
        self.send(Event::InForce(now));
    }

    /// The outcome of an eval was recorded.
    pub(crate) fn recorded(&self, operator: &str, outcome: &'static str, weight: Weight, seq: u64) {
        self.send(Event::Record { operator: operator.to_owned(), outcome, weight, seq });
    }

    /// Something worth knowing.
    pub(crate) fn info(&self, text: &str) {
        self.send(Event::Info(text.to_owned()));
    }

    /// Something somebody should see to before long.
    pub(crate) fn warning(&self, text: &str) {
        self.send(Event::Warning(text.to_owned()));
    }

    /// Something somebody must look at.
    pub(crate) fn alarm(&self, text: &str) {
        self.send(Event::Alarm(text.to_owned()));
    }
}

/// Waits until there is somebody to tell; false if `abandoned` says so first.
fn await_subscriber(abandoned: impl Fn() -> bool) -> bool {
    let mut nap = FIRST_LOOK;
    while !subscriber_is_there() {
        if abandoned() {
            return false;
        }
        std::thread::park_timeout(nap);
        nap = if INSTALLED.swap(false, Ordering::AcqRel) { FIRST_LOOK } else { (nap * 2).min(LOOK) };
    }
    true
}

/// Tells the service's log why there is no agent, once it has one; on a thread that then ends.
pub(crate) fn refused(why: &str) {
    let (why, since) = (why.to_owned(), Instant::now());
    let tell = move || {
        if await_subscriber(|| PATIENCE < since.elapsed()) {
            tracing::error!(target: "debug_agent", "{why}");
        }
    };
    // Without a thread to spare the line on stderr has to do.
    drop(std::thread::Builder::new().name("debug-emit".to_owned()).spawn(tell));
}

/// Tells one event. A subscriber that panics costs that event.
fn emit(events: &Receiver<Event>, dropped: &Arc<AtomicU64>) -> Next {
    // Nothing is taken out of the queue before there is somebody to tell.
    if !await_subscriber(|| Arc::strong_count(dropped) == 1) {
        return Next::End;
    }
    let Ok(event) = events.recv() else { return Next::End };
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
        Event::Record { operator, outcome, weight, seq } => {
            // The audit log has each of them; whoever reads the service's log wants those that did something.
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
        // The promise of `Agent::leases_in_force`: a gauge can be made of it.
        Event::InForce(InForce { count, shortest_ms }) => {
            tracing::info!(
                target: "debug_agent::leases", in_force = count, shortest_ms,
                "the number of changes in force is another"
            );
        }
        // Texts may come from scripts: one event is one line, whatever stands in it.
        Event::Info(text) => tracing::info!(target: "debug_agent", "{}", escape(&text)),
        Event::Warning(text) => tracing::warn!(target: "debug_agent", "{}", escape(&text)),
        Event::Alarm(text) => tracing::error!(target: "debug_agent", alarm = true, "{}", escape(&text)),
    }
}
