//! What waits to be sent to a client.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use debug_wire::messages::FromAgent;
use tokio::sync::Notify;

use super::codec;
use super::session::Closed;

/// The way to a session's client. Usable from any thread, cheap to clone, bounded in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Outbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Wakes threads that wait for room.
    room: Condvar,
    /// Wakes the sender of the session: there is a line, or the queue is closing.
    filled: Notify,
    /// Wakes the session: the client does not read.
    overrun: Notify,
    /// How many bytes may wait.
    bound: usize,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    state: State,
}

#[derive(Clone, Debug, Default)]
enum State {
    /// Takes messages.
    #[default]
    Open,
    /// Takes no more and sends what is left.
    Closing(Closed),
    /// Takes and sends nothing.
    Gone(Closed),
}

impl Outbox {
    pub(crate) fn new(bound: usize) -> Self {
        let (room, filled, overrun) = (Condvar::new(), Notify::new(), Notify::new());
        Self(Arc::new(Shared { queue: Mutex::default(), room, filled, overrun, bound }))
    }

    /// Puts a message in the queue and returns at once.
    ///
    /// # Errors
    /// The session has ended; or too much waits for a client that does not read, which ends it now.
    pub(crate) fn send(&self, message: FromAgent) -> Result<(), Closed> {
        let line = codec::encode(&message);
        self.push(self.lock(), line)
    }

    /// Puts a message in the queue and waits for room, at most `patience`, if there is none. For threads that make
    /// output faster than any client can read it; never on `debug-net`, which is what makes room.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub(crate) fn send_patiently(&self, message: FromAgent, patience: Duration) -> Result<(), Closed> {
        let line = codec::encode(&message);
        let deadline = Instant::now() + patience;
        let mut queue = self.lock();
        while matches!(queue.state, State::Open) && queue.bytes + line.len() > self.0.bound {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queue = self.0.room.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        self.push(queue, line)
    }

    /// Ends the session once everything sent so far has reached the client.
    pub(crate) fn close(&self) {
        self.finish(Closed::Ended, None);
    }

    /// Whether the session has ended or is about to: what still runs for it may stop.
    pub(crate) fn closed(&self) -> Option<Closed> {
        match &self.lock().state {
            State::Open => None,
            State::Closing(why) | State::Gone(why) => Some(why.clone()),
        }
    }

    fn push(&self, mut queue: MutexGuard<'_, Queue>, line: Vec<u8>) -> Result<(), Closed> {
        if let State::Closing(why) | State::Gone(why) = &queue.state {
            return Err(why.clone());
        }
        if queue.bytes + line.len() > self.0.bound {
            drop(queue);
            self.abandon(Closed::SlowReader);
            self.0.overrun.notify_one();
            return Err(Closed::SlowReader);
        }
        queue.bytes += line.len();
        queue.lines.push_back(line);
        drop(queue);
        self.0.filled.notify_one();
        Ok(())
    }

    /// Takes no more messages after `last`, which is sent even if it goes over the bound. Only the first call counts.
    pub(super) fn finish(&self, why: Closed, last: Option<FromAgent>) {
        let mut queue = self.lock();
        if matches!(queue.state, State::Open) {
            queue.state = State::Closing(why);
            queue.lines.extend(last.as_ref().map(codec::encode));
        }
        drop(queue);
        self.0.filled.notify_one();
        self.0.room.notify_all();
    }

    /// Forgets what waits: nobody will read it.
    pub(super) fn abandon(&self, why: Closed) {
        let mut queue = self.lock();
        if !matches!(queue.state, State::Gone(_)) {
            *queue = Queue { state: State::Gone(why), ..Queue::default() };
        }
        drop(queue);
        self.0.filled.notify_one();
        self.0.room.notify_all();
    }

    /// The next line to send; `None` when there will be none. For one waiter.
    pub(super) async fn next(&self) -> Option<Vec<u8>> {
        loop {
            {
                let mut queue = self.lock();
                if let Some(line) = queue.lines.pop_front() {
                    queue.bytes = queue.bytes.saturating_sub(line.len());
                    drop(queue);
                    self.0.room.notify_all();
                    return Some(line);
                }
                if !matches!(queue.state, State::Open) {
                    return None;
                }
            }
            self.0.filled.notified().await;
        }
    }

    /// Waits until the client has let too much pile up. For one waiter.
    pub(super) async fn overrun(&self) {
        self.0.overrun.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it is held, and a queue is whole between any two of its lines.
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
