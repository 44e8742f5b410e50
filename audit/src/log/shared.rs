//! What the thread and everybody else share.

use std::collections::VecDeque;
use std::mem;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::Instant;

use super::Health;
use super::thread::Writer;
use super::ticket::{AppendError, Job, lock};
use crate::Hash;
use crate::tree::Tree;

/// How many bytes wait for the thread, at most: only reached if the disk hangs.
const QUEUE_MAX: usize = 64 * 1024 * 1024;
/// How many messages [`crate::Log::alarms`] keeps; more of them say nothing new.
const ALARMS_MAX: usize = 16;

/// What the thread and everybody else share.
pub(crate) struct Shared {
    pub(super) dir: PathBuf,
    pub(super) origin: String,
    pub(super) queue: Mutex<Queue>,
    /// Held while records are written; nothing while the log is not open.
    pub(super) writer: Mutex<Option<Writer>>,
    /// The thread waits here.
    pub(super) wake: Condvar,
    /// [`Log::close`] waits here.
    pub(super) stopped: Condvar,
    pub(super) index: RwLock<Index>,
    pub(super) state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) jobs: VecDeque<Job>,
    pub(super) bytes: usize,
    /// Somebody waits for records that were appended without a sync.
    pub(super) sync: bool,
    /// When the thread has something to do without being asked.
    pub(super) until: Option<Instant>,
    pub(super) closing: bool,
    pub(super) stopped: bool,
    /// Somebody panicked while writing.
    pub(super) broken: bool,
    /// Bytes of records that were still held at the end.
    pub(super) lost: usize,
}

pub(super) struct State {
    pub(super) health: Health,
    pub(super) alarms: Vec<String>,
}

/// What is on disk: everything here is durable and covered by the checkpoint.
pub(super) struct Index {
    pub(super) tree: Tree,
    /// Where each record's line begins in its file.
    pub(super) offsets: Vec<u64>,
    /// First record and name of each file, in order.
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

impl Queue {
    fn take(&mut self) -> (Vec<Job>, bool) {
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
            state: Mutex::new(State { health: Health::Ok, alarms: Vec::new() }),
        }
    }

    pub(super) fn read<T>(&self, of: impl FnOnce(&Index) -> T) -> T {
        of(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn push(&self, job: Job) {
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

    /// Waits for jobs, for the moment planned or for the end.
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
            (queue, _) = self.wake.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What waits, whether a sync is wanted, and whether it is the end.
    pub(super) fn take(&self) -> (Vec<Job>, bool, bool) {
        let mut queue = lock(&self.queue);
        let closing = queue.closing;
        let (jobs, sync) = queue.take();
        (jobs, sync, closing)
    }

    /// What waits and whether a sync is wanted; nothing at the end, which is the thread's.
    pub(super) fn take_unless_closing(&self) -> Option<(Vec<Job>, bool)> {
        let mut queue = lock(&self.queue);
        (!queue.closing).then(|| queue.take())
    }

    /// Sets when the thread has something to do; wakes it if it sleeps for good.
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
