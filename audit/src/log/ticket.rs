//! What an append waits on.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::{Shared, Until};
use crate::line::BodyError;

/// Why records were not appended, or not known to be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AppendError {
    /// The body or kind cannot be a record.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The line would be longer than [`crate::MAX_LINE`] bytes.
    #[error("the record's body has {bytes} bytes, {max} fit")]
    TooLong {
        /// The body's length, braces included.
        bytes: usize,
        /// The most that fit ([`crate::room`]).
        max: usize,
    },
    /// A log begins with `boot`, which names it.
    #[error("the first record of a log must be of kind `boot`, not `{kind}`")]
    NotBoot {
        /// The kind found.
        kind: &'static str,
    },
    /// The log cannot be written. The records are not known to be on disk; some may appear in the log nevertheless.
    #[error("the audit log cannot be written: {reason}")]
    Unwritable {
        /// What the system says.
        reason: String,
    },
    /// The log cannot be written; the records wait in memory.
    #[error("not yet on disk: the audit log cannot be written, the record waits in memory")]
    Held,
    /// The log was closed.
    #[error("the audit log is closed")]
    Closed,
}

/// Where records are, and the head that covers them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Receipt {
    /// The number of the first record of the call.
    pub first: u64,
    /// The number of the last record of the call.
    pub last: u64,
    /// The signed checkpoint that covers them: a C2SP note.
    pub checkpoint: Arc<str>,
}

/// Waits for the records of one [`crate::Log::append`].
#[must_use = "a record that nobody waits for may never be on disk"]
#[derive(Clone)]
pub struct Ticket {
    pub(super) promise: Arc<Promise>,
    pub(super) shared: Arc<Shared>,
    pub(super) until: Until,
}

impl Ticket {
    /// Waits until the kernel has the records: they survive the death of this process. Gives their numbers.
    ///
    /// # Errors
    /// [`AppendError`]
    pub fn written(&self) -> Result<Range<u64>, AppendError> {
        self.promise.wait(|state| state.written.clone())
    }

    /// Waits until the records are on disk: they survive a power loss, and the head signed covers them.
    ///
    /// On a ticket of [`Until::Written`] this asks for the sync that appending did not ask for.
    ///
    /// # Errors
    /// [`AppendError`]
    pub fn durable(&self) -> Result<Receipt, AppendError> {
        if self.until == Until::Written && lock(&self.promise.state).durable.is_none() {
            self.shared.ask_for_sync();
        }
        self.promise.wait(|state| state.durable.clone())
    }
}

/// The side of a ticket that is told.
#[derive(Default)]
pub(super) struct Promise {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    written: Option<Result<Range<u64>, AppendError>>,
    durable: Option<Result<Receipt, AppendError>>,
}

impl Promise {
    fn wait<T>(&self, of: impl Fn(&State) -> Option<T>) -> T {
        let mut state = lock(&self.state);
        loop {
            if let Some(answer) = of(&state) {
                return answer;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn tell_written(&self, records: Range<u64>) {
        lock(&self.state).written.get_or_insert(Ok(records));
        self.changed.notify_all();
    }

    pub(super) fn tell_durable(&self, receipt: Receipt) {
        lock(&self.state).durable.get_or_insert(Ok(receipt));
        self.changed.notify_all();
    }

    /// Tells whatever has not been told. What was told before stays: a ticket never changes its mind.
    pub(super) fn tell_error(&self, error: &AppendError) {
        let mut state = lock(&self.state);
        state.written.get_or_insert_with(|| Err(error.clone()));
        state.durable.get_or_insert_with(|| Err(error.clone()));
        self.changed.notify_all();
    }
}

/// The records of one append, on their way to the disk.
pub(super) struct Job {
    /// All of each line after its number.
    pub(super) tails: Vec<Vec<u8>>,
    pub(super) first_kind: Option<&'static str>,
    pub(super) until: Until,
    pub(super) keep: bool,
    pub(super) terminal: bool,
    pub(super) promise: Arc<Promise>,
}

impl Job {
    pub(super) fn bytes(&self) -> usize {
        self.tails.iter().map(Vec::len).sum()
    }
}

impl Drop for Job {
    /// Nobody may wait for ever, not even if the thread panics.
    fn drop(&mut self) {
        self.promise.tell_error(&AppendError::Closed);
    }
}

/// A panic while a lock was held leaves these structures whole: each is changed by single assignments.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
