//! What the thread and everybody else share.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};

use super::Health;
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
    pub(super) closing: bool,
    pub(super) stopped: bool,
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

impl Shared {
    pub(super) fn new(dir: PathBuf, origin: String, index: Index) -> Self {
        Self {
            dir,
            origin,
            queue: Mutex::default(),
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
        if queue.closing {
            return; // Dropping the job tells its ticket that the log is closed.
        }
        if queue.bytes + job.bytes() > QUEUE_MAX {
            let reason = format!("more than {QUEUE_MAX} bytes of records wait for the disk");
            return job.promise.tell_error(&AppendError::Unwritable { reason });
        }
        queue.bytes += job.bytes();
        queue.jobs.push_back(job);
        drop(queue);
        self.wake.notify_one();
    }

    pub(super) fn ask_for_sync(&self) {
        lock(&self.queue).sync = true;
        self.wake.notify_one();
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
