//! Writing: takes what waits, commits it together, and decides what becomes of it when it cannot.
//!
//! One at a time does so: the thread `debug-audit`, or who waits for records while the thread does not.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;
use std::{io, mem, thread};

use super::store::{Failure, Store};
use super::ticket::{AppendError, Job, Receipt, lock};
use super::{HELD_MAX, Health, IDLE, RETRY, Shared, Until};
use crate::line;

/// How many bytes are written without a sync, at most: they are kept in memory to be written again if the sync fails.
const PENDING_MAX: usize = 1024 * 1024;

/// Starts the thread. It ends when asked to, and gives the lock on the folder free.
pub(super) fn spawn(store: Store) -> io::Result<()> {
    let shared = store.shared().clone();
    let writer = Writer { store, held: Vec::new(), waiting: Vec::new(), failing: None, idle_at: None };
    *lock(&shared.writer) = Some(writer);
    thread::Builder::new().name("debug-audit".to_owned()).spawn(move || {
        let stopped = Stopped(shared);
        run(&stopped.0);
        // Before `stopped` tells: whoever waited may open the log again.
        drop(lock(&stopped.0.writer).take());
    })?;
    Ok(())
}

/// Works until asked to end, or until somebody panicked while writing.
fn run(shared: &Arc<Shared>) {
    loop {
        shared.wait_for_work();
        let Ok(mut writer) = shared.writer.lock() else { return };
        let Some(writer) = writer.as_mut() else { return };
        if writer.turn_or_idle() {
            return;
        }
    }
}

/// Does the thread's work once, unless somebody is at it or nothing is to do.
pub(super) fn lead(shared: &Arc<Shared>) {
    let lead = || {
        if let Ok(mut writer) = shared.writer.try_lock()
            && let Some(writer) = writer.as_mut()
        {
            writer.lead();
        }
    };
    // A panic poisons the writer, by which the thread knows that nothing can be written any more. Who waits is told as an error.
    if let Err(payload) = catch_unwind(AssertUnwindSafe(lead)) {
        drop(payload);
        shared.wake.notify_one();
    }
}

/// Tells that the thread is gone, also when it panicked.
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
            lock(&self.0.state).health = Health::Failing { since: Instant::now(), reason, held: 0 };
            for job in &jobs {
                job.promise.tell_error(&AppendError::Broken);
            }
        }
        self.0.stopped.notify_all();
    }
}

pub(super) struct Writer {
    store: Store,
    /// Records that wait for the log to be writable, in order.
    held: Vec<Job>,
    /// Jobs whose lines are written and not yet durable, with their numbers.
    waiting: Vec<Numbered>,
    /// Since when the log cannot be written, and when it is tried again.
    failing: Option<Failing>,
    /// When what was written without a sync gets one.
    idle_at: Option<Instant>,
}

struct Failing {
    since: Instant,
    retry: Instant,
}

/// A job and the numbers that its records got.
type Numbered = (Range<u64>, Job);
/// Jobs that could not be written.
type Refused = (Failure, Vec<Job>);

impl Writer {
    /// The thread's turn; gives whether it was the last.
    fn turn_or_idle(&mut self) -> bool {
        let (jobs, sync, closing) = self.store.shared().take();
        let due = self.until().is_some_and(|until| until <= Instant::now());
        let idle = jobs.is_empty() && !sync;
        if idle && !due && !closing {
            return false; // Somebody else was quicker.
        }
        self.turn(jobs, sync || idle || closing);
        if idle || closing {
            self.store.sync_checkpoint();
        }
        if closing {
            self.store.tidy();
            lock(&self.store.shared().queue).lost = self.held.iter().map(Job::bytes).sum();
            return true;
        }
        self.plan();
        false
    }

    /// A turn for who waits, with all that others wait for. The last turn is the thread's.
    fn lead(&mut self) {
        let shared = self.store.shared().clone();
        let Some((jobs, sync)) = shared.take_unless_closing() else { return };
        if !jobs.is_empty() || sync {
            self.turn(jobs, sync);
            self.plan();
        }
    }

    /// When there is something to do without anybody asking.
    fn until(&self) -> Option<Instant> {
        self.failing.as_ref().map(|failing| failing.retry).or(self.idle_at)
    }

    fn plan(&mut self) {
        let unsynced = !self.store.pending.is_empty() || self.store.checkpoint_unsynced;
        self.idle_at = unsynced.then(|| Instant::now() + IDLE);
        self.store.shared().plan(self.until());
    }

    /// Tries to write everything held and everything new.
    fn turn(&mut self, new: Vec<Job>, sync: bool) {
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

    /// Numbers, writes and, if wanted, syncs and signs.
    fn commit(&mut self, jobs: Vec<Job>, sync: bool) -> Result<(), Refused> {
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

    fn number(&self, jobs: Vec<Job>) -> (Vec<Vec<u8>>, Vec<Numbered>) {
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

    /// Everything written is durable: signs it and tells who waits.
    fn settle(&mut self) {
        let checkpoint = if self.store.pending.is_empty() {
            self.store.shared().read(|index| index.checkpoint.clone())
        } else {
            self.store.publish()
        };
        // Before anybody is told, so that nobody who was told finds the log failing. Without its reserve it still is.
        if self.store.reserve {
            self.mend();
        }
        for (numbers, job) in self.waiting.drain(..) {
            let (first, last) = (numbers.start, numbers.end.saturating_sub(1));
            job.promise.tell_durable(Receipt { first, last, checkpoint: checkpoint.clone() });
        }
    }

    /// On a full disk, writes the terminal records alone with the room of the reserve; gives back what is left.
    fn use_reserve(&mut self, (failure, jobs): Refused) -> Refused {
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

    /// Holds what is to be kept, as far as there is room, and fails the rest.
    fn refuse(&mut self, failure: Failure, jobs: Vec<Job>) {
        let unwritable = AppendError::Unwritable { reason: failure.reason.clone() };
        // What was written stays pending and is written again; only its durability is in doubt.
        for (_, job) in self.waiting.drain(..) {
            job.promise.tell_error(if job.keep { &AppendError::Held } else { &unwritable });
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

    fn note_failure(&mut self, failure: Failure, held: usize) {
        let now = Instant::now();
        let since = self.failing.as_ref().map_or(now, |failing| failing.since);
        if self.failing.is_none() {
            self.store.shared().alarm(format!("the audit log cannot be written: {}", failure.reason));
        }
        self.failing = Some(Failing { since, retry: now + RETRY });
        lock(&self.store.shared().state).health = Health::Failing { since, reason: failure.reason, held };
    }

    fn mend(&mut self) {
        if self.failing.take().is_some() {
            lock(&self.store.shared().state).health = Health::Ok;
        }
    }
}
