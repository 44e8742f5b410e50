//! Writing: takes the queue, commits it as a batch, and handles its failure.
//!
//! One writer works at a time: the thread `debug-audit`, or a caller that waits for records while the thread is idle.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;
use std::{io, mem, thread};

use super::store::{Store, WriteFailure};
use super::ticket::{AppendError, Receipt, WriteJob, lock};
use super::{HELD_MAX, Health, IDLE, RETRY, Shared, Until};
use crate::line;

/// The limit on bytes written without a sync: they are kept in memory to be written again if the sync fails.
const PENDING_MAX: usize = 1024 * 1024;

/// Starts the thread. It ends on request and releases the lock on the folder.
pub(super) fn spawn(store: Store) -> io::Result<()> {
    let shared = store.shared().clone();
    let writer = Writer {
        store,
        held: Vec::new(),
        waiting: Vec::new(),
        failing: None,
        idle_at: None,
    };
    *lock(&shared.writer) = Some(writer);
    thread::Builder::new()
        .name("debug-audit".to_owned())
        .spawn(move || {
            let stopped = Stopped(shared);
            run(&stopped.0);
            // Before `stopped` is notified: the caller of `close` may open the log again.
            drop(lock(&stopped.0.writer).take());
        })?;
    Ok(())
}

/// Works until asked to end, or until a panic while writing has poisoned the writer.
fn run(shared: &Arc<Shared>) {
    loop {
        shared.wait_for_work();
        let Ok(mut writer) = shared.writer.lock() else {
            return;
        };
        let Some(writer) = writer.as_mut() else { return };
        if writer.turn_or_idle() {
            return;
        }
    }
}

/// Does one turn in a caller's thread, unless another writer is at work or there is nothing to do.
pub(super) fn lead(shared: &Arc<Shared>) {
    let lead = || {
        if let Ok(mut writer) = shared.writer.try_lock()
            && let Some(writer) = writer.as_mut()
        {
            writer.lead();
        }
    };
    // The panic poisons the writer, by which the thread learns that nothing can be written any more. Waiting callers get an
    // error.
    if let Err(payload) = catch_unwind(AssertUnwindSafe(lead)) {
        drop(payload);
        shared.wake.notify_one();
    }
}

/// Marks the thread as stopped, also after a panic.
struct Stopped(Arc<Shared>);

impl Drop for Stopped {
    fn drop(&mut self) {
        let mut queue = lock(&self.0.queue);
        queue.closing = true;
        queue.stopped = true;
        let jobs = std::mem::take(&mut queue.jobs);
        if self.0.writer.is_poisoned() {
            queue.broken = true;
            let reason = AppendError::Broken.to_string();
            self.0.alarm(reason.clone());
            lock(&self.0.state).health = Health::Failing {
                since: Instant::now(),
                reason,
                held: 0,
            };
            for job in &jobs {
                job.promise.tell_error(&AppendError::Broken);
            }
        }
        self.0.stopped.notify_all();
    }
}

pub(super) struct Writer {
    store: Store,
    /// Jobs held until the log is writable, in order.
    held: Vec<WriteJob>,
    /// Numbered jobs with lines that are written and not yet durable.
    waiting: Vec<Numbered>,
    /// When the log began to fail, and when it is tried again.
    failing: Option<FailingLog>,
    /// When records written without a sync are synced.
    idle_at: Option<Instant>,
}

struct FailingLog {
    since: Instant,
    retry: Instant,
}

/// A job and the numbers of its records.
type Numbered = (Range<u64>, WriteJob);
/// Jobs that could not be written.
type RefusedJobs = (WriteFailure, Vec<WriteJob>);

impl Writer {
    /// The thread's turn; returns whether it was the last.
    fn turn_or_idle(&mut self) -> bool {
        let (jobs, sync, closing) = self.store.shared().take();
        let due = self.until().is_some_and(|until| until <= Instant::now());
        let idle = jobs.is_empty() && !sync;
        if idle && !due && !closing {
            return false; // Another writer was quicker.
        }
        self.turn(jobs, sync || idle || closing);
        if idle || closing {
            self.store.sync_checkpoint();
        }
        if closing {
            self.store.tidy();
            lock(&self.store.shared().queue).lost = self.held.iter().map(WriteJob::bytes).sum();
            return true;
        }
        self.plan();
        false
    }

    /// A caller's turn, for all queued jobs. The last turn is the thread's.
    fn lead(&mut self) {
        let shared = self.store.shared().clone();
        let Some((jobs, sync)) = shared.take_unless_closing() else {
            return;
        };
        if !jobs.is_empty() || sync {
            self.turn(jobs, sync);
            self.plan();
        }
    }

    /// The time of the next work that no caller asks for.
    fn until(&self) -> Option<Instant> {
        self.failing
            .as_ref()
            .map(|failing| failing.retry)
            .or(self.idle_at)
    }

    fn plan(&mut self) {
        let unsynced = !self.store.pending.is_empty() || self.store.checkpoint_unsynced;
        self.idle_at = unsynced.then(|| Instant::now() + IDLE);
        self.store.shared().plan(self.until());
    }

    /// Tries to write the held jobs and the new ones.
    fn turn(&mut self, new: Vec<WriteJob>, sync: bool) {
        let mut jobs = mem::take(&mut self.held);
        jobs.extend(new);
        let sync = sync || self.failing.is_some() || jobs.iter().any(|job| job.until == Until::Durable);
        let committed = match self.store.prepare() {
            Ok(()) => self.commit(jobs, sync),
            Err(failure) => Err((failure, jobs)),
        };
        if let Err(refused) = committed {
            let (failure, jobs) = self.use_reserve(refused);
            self.refuse(failure, jobs);
        }
        self.store.cache_leaves();
    }

    /// Numbers and writes the jobs; syncs and signs them if wanted.
    fn commit(&mut self, jobs: Vec<WriteJob>, sync: bool) -> Result<(), RefusedJobs> {
        let (lines, jobs) = self.number(jobs);
        let durable = match self.store.put(lines) {
            Ok(durable) => durable,
            Err(failure) => return Err((failure, jobs.into_iter().map(|(_, job)| job).collect())),
        };
        for (numbers, job) in &jobs {
            job.promise.tell_written(numbers.clone());
        }
        self.waiting.extend(jobs);
        if !durable {
            if !sync && self.store.pending_bytes() <= PENDING_MAX {
                return Ok(());
            }
            if !self.store.pending.is_empty() {
                self.store.sync().map_err(|failure| (failure, Vec::new()))?;
            }
        }
        self.settle();
        Ok(())
    }

    fn number(&self, jobs: Vec<WriteJob>) -> (Vec<Vec<u8>>, Vec<Numbered>) {
        let (mut next, mut lines, mut numbered) = (self.store.next(), Vec::new(), Vec::new());
        for job in jobs {
            if let Some(kind) = job.first_kind.filter(|kind| next == 0 && *kind != "boot") {
                job.promise.tell_error(&AppendError::NotBoot { kind });
                continue;
            }
            let first = next;
            for tail in &job.tails {
                lines.push(line::numbered(next, tail));
                next += 1;
            }
            numbered.push((first..next, job));
        }
        (lines, numbered)
    }

    /// Signs the written records, which are durable, and notifies their tickets.
    fn settle(&mut self) {
        let checkpoint = if self.store.pending.is_empty() {
            self.store.shared().read(|index| index.checkpoint.clone())
        } else {
            self.store.publish()
        };
        // Before any ticket is notified, so that its holder does not find the log failing. Without its reserve the log still is.
        if self.store.reserve {
            self.mend();
        }
        for (numbers, job) in self.waiting.drain(..) {
            let (first, last) = (numbers.start, numbers.end.saturating_sub(1));
            job.promise.tell_durable(Receipt {
                first,
                last,
                checkpoint: checkpoint.clone(),
            });
        }
    }

    /// On a full disk, writes only the terminal records, in the space of the reserve; returns the others.
    fn use_reserve(&mut self, (failure, jobs): RefusedJobs) -> RefusedJobs {
        let (terminal, mut others): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.terminal);
        if !failure.full || (terminal.is_empty() && self.waiting.iter().all(|(_, job)| !job.terminal)) {
            others.splice(0..0, terminal);
            return (failure, others);
        }
        self.store.release_reserve();
        if let Err((_, terminal)) = self.commit(terminal, true) {
            others.splice(0..0, terminal);
        }
        (failure, others)
    }

    /// Holds the jobs to be kept, as far as there is room, and fails the others.
    fn refuse(&mut self, failure: WriteFailure, jobs: Vec<WriteJob>) {
        let unwritable = AppendError::Unwritable {
            reason: failure.reason.clone(),
        };
        // Written lines stay pending and are written again; only their durability is in doubt.
        for (_, job) in self.waiting.drain(..) {
            job.promise
                .tell_error(if job.keep { &AppendError::Held } else { &unwritable });
        }
        let mut held = 0;
        for job in jobs {
            if job.keep && held + job.bytes() <= HELD_MAX {
                held += job.bytes();
                job.promise.tell_error(&AppendError::Held);
                self.held.push(job);
            } else {
                job.promise.tell_error(&unwritable);
            }
        }
        self.note_failure(failure, held);
    }

    fn note_failure(&mut self, failure: WriteFailure, held: usize) {
        let now = Instant::now();
        let since = self.failing.as_ref().map_or(now, |failing| failing.since);
        if self.failing.is_none() {
            self.store
                .shared()
                .alarm(format!("the audit log cannot be written: {}", failure.reason));
        }
        self.failing = Some(FailingLog {
            since,
            retry: now + RETRY,
        });
        lock(&self.store.shared().state).health = Health::Failing {
            since,
            reason: failure.reason,
            held,
        };
    }

    fn mend(&mut self) {
        if self.failing.take().is_some() {
            lock(&self.store.shared().state).health = Health::Ok;
        }
    }
}
