//! What the thread `debug-audit` shares with the log's callers.

use std::collections::VecDeque;
use std::mem;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::Instant;

use super::Health;
use super::thread::Writer;
use super::ticket::{AppendError, WriteJob, lock};
use crate::Hash;
use crate::tree::HashTree;

/// The limit on bytes that wait for the thread: only reached if the disk hangs.
const QUEUE_MAX: usize = 64 * 1024 * 1024;
/// The limit on messages kept for [`crate::Log::alarms`]; more of them add nothing.
const ALARMS_MAX: usize = 16;

/// What the thread `debug-audit` shares with the log's callers.
pub(crate) struct Shared {
    pub(super) dir: PathBuf,
    pub(super) origin: String,
    pub(super) queue: Mutex<AppendQueue>,
    /// Held while records are written; `None` while the log is not open.
    pub(super) writer: Mutex<Option<Writer>>,
    /// The thread waits here.
    pub(super) wake: Condvar,
    /// [`Log::close`] waits here.
    pub(super) stopped: Condvar,
    pub(super) index: RwLock<Index>,
    pub(super) state: Mutex<LogState>,
}

#[derive(Default)]
pub(super) struct AppendQueue {
    pub(super) jobs: VecDeque<WriteJob>,
    pub(super) bytes: usize,
    /// Whether a caller waits for records that were appended without a sync.
    pub(super) sync: bool,
    /// The time of the thread's next planned work.
    pub(super) until: Option<Instant>,
    pub(super) closing: bool,
    pub(super) stopped: bool,
    /// Whether a panic while writing ended the log.
    pub(super) broken: bool,
    /// The bytes of records still held when the log was closed.
    pub(super) lost: usize,
}

pub(super) struct LogState {
    pub(super) health: Health,
    pub(super) alarms: Vec<String>,
}

/// The index of the records on disk: all of them are durable and covered by the checkpoint.
pub(super) struct Index {
    pub(super) tree: HashTree,
    /// The offset of each record's line in its file.
    pub(super) offsets: Vec<u64>,
    /// The first record and the name of each file, in order.
    pub(super) files: Vec<(u64, String)>,
    pub(super) checkpoint: Arc<str>,
}

impl Index {
    /// File, offset and leaf hash of a record.
    pub(super) fn find(&self, seq: u64) -> Option<(String, u64, Hash)> {
        let leaf = self.tree.leaf(seq)?;
        let offset = self.offsets.get(usize::try_from(seq).ok()?)?;
        let after = self.files.partition_point(|(first, _)| *first <= seq);
        let (_, name) = self.files.get(after.checked_sub(1)?)?;
        Some((name.clone(), *offset, leaf))
    }
}

impl AppendQueue {
    fn take(&mut self) -> (Vec<WriteJob>, bool) {
        self.bytes = 0;
        (mem::take(&mut self.jobs).into(), mem::take(&mut self.sync))
    }
}

impl Shared {
    pub(super) fn new(dir: PathBuf, origin: String, index: Index) -> Self {
        Self {
            dir,
            origin,
            queue: Mutex::default(),
            writer: Mutex::new(None),
            wake: Condvar::new(),
            stopped: Condvar::new(),
            index: RwLock::new(index),
            state: Mutex::new(LogState {
                health: Health::Ok,
                alarms: Vec::new(),
            }),
        }
    }

    pub(super) fn read<T>(&self, of: impl FnOnce(&Index) -> T) -> T {
        of(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn push(&self, job: WriteJob) {
        let mut queue = lock(&self.queue);
        if queue.broken {
            return job.promise.tell_error(&AppendError::Broken);
        }
        if queue.closing {
            return; // Dropping the job tells its ticket that the log is closed.
        }
        if queue.bytes + job.bytes() > QUEUE_MAX {
            let reason = format!("more than {QUEUE_MAX} bytes of records wait for the disk");
            return job.promise.tell_error(&AppendError::Unwritable { reason });
        }
        queue.bytes += job.bytes();
        queue.jobs.push_back(job);
    }

    /// Waits for jobs, for the planned time or for the request to close.
    pub(super) fn wait_for_work(&self) {
        let mut queue = lock(&self.queue);
        while queue.jobs.is_empty() && !queue.sync && !queue.closing {
            let Some(until) = queue.until else {
                queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            (queue, _) = self
                .wake
                .wait_timeout(queue, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes the queued jobs, whether a sync is wanted, and whether the log is closing.
    pub(super) fn take(&self) -> (Vec<WriteJob>, bool, bool) {
        let mut queue = lock(&self.queue);
        let closing = queue.closing;
        let (jobs, sync) = queue.take();
        (jobs, sync, closing)
    }

    /// Takes the queued jobs and whether a sync is wanted; `None` while closing, as the last turn is the thread's.
    pub(super) fn take_unless_closing(&self) -> Option<(Vec<WriteJob>, bool)> {
        let mut queue = lock(&self.queue);
        (!queue.closing).then(|| queue.take())
    }

    /// Sets the time of the thread's next work; wakes the thread if it sleeps without a timeout.
    pub(super) fn plan(&self, until: Option<Instant>) {
        let before = mem::replace(&mut lock(&self.queue).until, until);
        if before.is_none() && until.is_some() {
            self.wake.notify_one();
        }
    }

    pub(super) fn ask_for_sync(&self) {
        lock(&self.queue).sync = true;
    }

    pub(super) fn ask_to_close(&self) {
        lock(&self.queue).closing = true;
        self.wake.notify_one();
    }

    pub(super) fn alarm(&self, message: String) {
        let alarms = &mut lock(&self.state).alarms;
        if alarms.len() < ALARMS_MAX {
            alarms.push(message);
        }
    }
}
