//! The result of an append, to wait for.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::{Shared, Until, thread};
use crate::line::BodyError;

/// Why records were not appended, or are not known to be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AppendError {
    /// The body or kind is invalid.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The line would be longer than [`crate::MAX_LINE`] bytes.
    #[error("the record's body has {bytes} bytes, {max} fit")]
    TooLong {
        /// The body's length, braces included.
        bytes: usize,
        /// The limit ([`crate::room`]).
        max: usize,
    },
    /// A log begins with `boot`, which names it.
    #[error("the first record of a log must be of kind `boot`, not `{kind}`")]
    NotBoot {
        /// The kind found.
        kind: &'static str,
    },
    /// The log cannot be written. The records are not known to be on disk; some may nevertheless appear in the log.
    #[error("the audit log cannot be written: {reason}")]
    Unwritable {
        /// The system's error.
        reason: String,
    },
    /// The log cannot be written; the records are held in memory.
    #[error("not yet on disk: the audit log cannot be written, the record waits in memory")]
    Held,
    /// A panic while writing broke the log: what is on disk is unknown, and nothing is written until the log is opened again.
    #[error("the audit log cannot be written any more: writing it panicked; restart the service")]
    Broken,
    /// The log was closed.
    #[error("the audit log is closed")]
    Closed,
}

/// The position of records, and the head that covers them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Receipt {
    /// The number of the first record of the call.
    pub first: u64,
    /// The number of the last record of the call.
    pub last: u64,
    /// The signed checkpoint that covers them: a C2SP note.
    pub checkpoint: Arc<str>,
}

/// Waits for the records of one [`crate::Log::append`]. If it is dropped, the records are still written soon.
///
/// A waiting caller does the work of the thread `debug-audit`, for all waiting callers, if the thread is idle: waking it and
/// being woken by it takes longer than the write.
#[must_use = "a record without a wait may never be on disk"]
pub struct Ticket {
    pub(super) promise: Arc<Promise>,
    pub(super) shared: Arc<Shared>,
    pub(super) until: Until,
    /// Whether a caller waited for the records or asked about them. Otherwise dropping the ticket wakes the thread.
    pub(super) seen_to: AtomicBool,
}

impl Ticket {
    /// Waits until the kernel has the records, so that they survive the death of this process. Returns their numbers.
    ///
    /// # Errors
    /// [`AppendError`]
    pub fn written(&self) -> Result<Range<u64>, AppendError> {
        // A caller that does not wait for the disk does not sync for others either.
        self.wait(self.until == Until::Written, |state| state.written.clone())
    }

    /// Waits until the records are on disk: they survive a power loss, and the returned head covers them.
    ///
    /// On a ticket of [`Until::Written`] this asks for the sync that the append did not cause.
    ///
    /// # Errors
    /// [`AppendError`]
    pub fn durable(&self) -> Result<Receipt, AppendError> {
        if self.until == Until::Written && lock(&self.promise.state).durable.is_none() {
            self.shared.ask_for_sync();
        }
        self.wait(true, |state| state.durable.clone())
    }

    /// Whether the records are on disk. Asks for a sync if none was asked for yet; never blocks.
    pub fn is_durable(&self) -> bool {
        self.seen_to.store(true, Ordering::Relaxed);
        match &lock(&self.promise.state).durable {
            Some(durable) => return durable.is_ok(),
            None if self.until == Until::Durable => return false,
            None => {}
        }
        self.shared.ask_for_sync();
        self.shared.wake.notify_one();
        false
    }

    fn wait<T>(&self, lead: bool, of: impl Fn(&TicketState) -> Option<T>) -> T {
        self.seen_to.store(true, Ordering::Relaxed);
        let answer = of(&lock(&self.promise.state));
        if let Some(answer) = answer {
            return answer;
        }
        if lead {
            thread::lead(&self.shared);
        }
        let answer = of(&lock(&self.promise.state));
        answer.unwrap_or_else(|| {
            // The current writer may have started before these records were queued: the thread continues with them.
            self.shared.wake.notify_one();
            self.promise.wait(of)
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.seen_to.load(Ordering::Relaxed) {
            self.shared.wake.notify_one();
        }
    }
}

/// The state that a ticket waits for.
#[derive(Default)]
pub(super) struct Promise {
    state: Mutex<TicketState>,
    changed: Condvar,
}

#[derive(Default)]
struct TicketState {
    written: Option<Result<Range<u64>, AppendError>>,
    durable: Option<Result<Receipt, AppendError>>,
    /// The number of waiting callers: a notification costs a system call even without any.
    waiting: usize,
}

impl Promise {
    fn wait<T>(&self, of: impl Fn(&TicketState) -> Option<T>) -> T {
        let mut state = lock(&self.state);
        state.waiting += 1;
        loop {
            if let Some(answer) = of(&state) {
                state.waiting -= 1;
                return answer;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn tell(&self, change: impl FnOnce(&mut TicketState)) {
        let mut state = lock(&self.state);
        change(&mut state);
        if state.waiting > 0 {
            self.changed.notify_all();
        }
    }

    pub(super) fn tell_written(&self, records: Range<u64>) {
        self.tell(|state| {
            state.written.get_or_insert(Ok(records));
        });
    }

    pub(super) fn tell_durable(&self, receipt: Receipt) {
        self.tell(|state| {
            state.durable.get_or_insert(Ok(receipt));
        });
    }

    /// Sets each result that is still open to the error. Earlier results stay: a ticket never changes its answer.
    pub(super) fn tell_error(&self, error: &AppendError) {
        self.tell(|state| {
            state.written.get_or_insert_with(|| Err(error.clone()));
            state.durable.get_or_insert_with(|| Err(error.clone()));
        });
    }
}

/// The records of one append, on their way to the disk.
pub(super) struct WriteJob {
    /// The part of each line after its number.
    pub(super) tails: Vec<Vec<u8>>,
    pub(super) first_kind: Option<&'static str>,
    pub(super) until: Until,
    pub(super) keep: bool,
    pub(super) terminal: bool,
    pub(super) promise: Arc<Promise>,
}

impl WriteJob {
    pub(super) fn bytes(&self) -> usize {
        self.tails.iter().map(Vec::len).sum()
    }
}

impl Drop for WriteJob {
    /// Releases the waiting callers, even after a panic while writing.
    fn drop(&mut self) {
        let panicking = std::thread::panicking();
        self.promise.tell_error(if panicking {
            &AppendError::Broken
        } else {
            &AppendError::Closed
        });
    }
}

/// Locks a mutex, also a poisoned one: each of these structures is changed by single assignments, so a panic leaves it whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
