//! The messages queued for a client.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use debug_wire::messages::FromAgent;
use tokio::sync::Notify;

use super::closed::Closed;
use super::codec;

/// The queue of a session's client. Usable from any thread, cheap to clone, bounded in bytes.
#[derive(Clone, Debug)]
pub struct Outbox(Arc<OutboxShared>);

#[derive(Debug)]
struct OutboxShared {
    queue: Mutex<OutboxQueue>,
    /// Wakes threads that wait for room in the queue.
    room: Condvar,
    /// Wakes the session's sender: there is a line, or the queue is closing.
    filled: Notify,
    /// Wakes the session: the client does not read.
    overrun: Notify,
    /// The most bytes in the queue.
    bound: usize,
}

#[derive(Debug, Default)]
struct OutboxQueue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    state: OutboxState,
}

#[derive(Clone, Debug, Default)]
enum OutboxState {
    /// Accepts messages.
    #[default]
    Open,
    /// Accepts no more messages and sends what is queued.
    Closing(Closed),
    /// Accepts and sends nothing.
    Gone(Closed),
}

impl Outbox {
    /// An outbox for this many bytes that wait.
    pub fn new(bound: usize) -> Self {
        let (room, filled, overrun) = (Condvar::new(), Notify::new(), Notify::new());
        Self(Arc::new(OutboxShared {
            queue: Mutex::default(),
            room,
            filled,
            overrun,
            bound,
        }))
    }

    /// Queues a message without blocking.
    ///
    /// # Errors
    /// The session has ended; or the queue of a client that does not read is full, which ends the session now.
    pub fn send(&self, message: FromAgent) -> Result<(), Closed> {
        let line = codec::encode(&message);
        self.push(self.lock(), line)
    }

    /// Queues a message; blocks for at most `patience` while there is no room. For threads that make output faster than
    /// a client reads it. Never call it on `debug-net`, which is the thread that makes room.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_patiently(&self, message: FromAgent, patience: Duration) -> Result<(), Closed> {
        let line = codec::encode(&message);
        let deadline = Instant::now() + patience;
        let mut queue = self.lock();
        while matches!(queue.state, OutboxState::Open) && queue.bytes + line.len() > self.0.bound {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queue = self
                .0
                .room
                .wait_timeout(queue, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        self.push(queue, line)
    }

    /// Ends the session once everything queued so far has been sent.
    pub fn close(&self) {
        self.finish(Closed::Ended, None);
    }

    /// Why the session has ended or is about to, if so: work for it may stop.
    pub fn closed(&self) -> Option<Closed> {
        match &self.lock().state {
            OutboxState::Open => None,
            OutboxState::Closing(why) | OutboxState::Gone(why) => Some(why.clone()),
        }
    }

    fn push(&self, mut queue: MutexGuard<'_, OutboxQueue>, line: Vec<u8>) -> Result<(), Closed> {
        if let OutboxState::Closing(why) | OutboxState::Gone(why) = &queue.state {
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

    /// Accepts no more messages after `last`, which is sent even if it exceeds the bound. Only the first call counts.
    pub(crate) fn finish(&self, why: Closed, last: Option<FromAgent>) {
        let mut queue = self.lock();
        if matches!(queue.state, OutboxState::Open) {
            queue.state = OutboxState::Closing(why);
            queue.lines.extend(last.as_ref().map(codec::encode));
        }
        drop(queue);
        self.0.filled.notify_one();
        self.0.room.notify_all();
    }

    /// Drops the queue: the client will not read it.
    pub(crate) fn abandon(&self, why: Closed) {
        let mut queue = self.lock();
        if !matches!(queue.state, OutboxState::Gone(_)) {
            *queue = OutboxQueue {
                state: OutboxState::Gone(why),
                ..OutboxQueue::default()
            };
        }
        drop(queue);
        self.0.filled.notify_one();
        self.0.room.notify_all();
    }

    /// The next line to send; `None` when there will be no more. For one waiter.
    pub(crate) async fn next(&self) -> Option<Vec<u8>> {
        loop {
            {
                let mut queue = self.lock();
                if let Some(line) = queue.lines.pop_front() {
                    queue.bytes = queue.bytes.saturating_sub(line.len());
                    drop(queue);
                    self.0.room.notify_all();
                    return Some(line);
                }
                if !matches!(queue.state, OutboxState::Open) {
                    return None;
                }
            }
            self.0.filled.notified().await;
        }
    }

    /// Waits until the queue of a client that does not read is full. For one waiter.
    pub(crate) async fn overrun(&self) {
        self.0.overrun.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, OutboxQueue> {
        // Code that holds the lock does not panic, and the queue is consistent between its statements.
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
