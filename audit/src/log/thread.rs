//! The thread `debug-audit`: takes what waits, commits it together, and decides what becomes of it when it cannot.

use std::ops::Range;
use std::sync::PoisonError;
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
    let mut writer = Writer { store, held: Vec::new(), waiting: Vec::new(), failing: None, idle_at: None };
    thread::Builder::new().name("debug-audit".to_owned()).spawn(move || {
        let _stopped = Stopped(shared);
        writer.run();
        // Before `_stopped` tells: whoever waited may open the log again.
        drop(writer);
    })?;
    Ok(())
}

/// Tells that the thread is gone, also when it panicked.
struct Stopped(std::sync::Arc<Shared>);

impl Drop for Stopped {
    fn drop(&mut self) {
        let mut queue = lock(&self.0.queue);
        queue.closing = true;
        queue.stopped = true;
        queue.jobs.clear();
        self.0.stopped.notify_all();
    }
}

struct Writer {
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
    fn run(&mut self) {
        loop {
            let (jobs, sync, closing) = self.take();
            let idle = jobs.is_empty() && !sync;
            self.turn(jobs, sync || idle || closing);
            if idle || closing {
                self.store.sync_checkpoint();
            }
            if closing {
                self.store.tidy();
                lock(&self.store.shared().queue).lost = self.held.iter().map(Job::bytes).sum();
                return;
            }
            let unsynced = !self.store.pending.is_empty() || self.store.checkpoint_unsynced;
            self.idle_at = unsynced.then(|| Instant::now() + IDLE);
        }
    }

    /// Waits for work, for the next retry or for idleness; gives jobs, whether a sync is wanted, whether to end.
    fn take(&mut self) -> (Vec<Job>, bool, bool) {
        let until = self.failing.as_ref().map(|failing| failing.retry).or(self.idle_at);
        let shared = self.store.shared();
        let mut queue = lock(&shared.queue);
        while queue.jobs.is_empty() && !queue.sync && !queue.closing {
            let Some(until) = until else {
                queue = shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            (queue, _) = shared.wake.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner);
        }
        queue.bytes = 0;
        (mem::take(&mut queue.jobs).into(), mem::take(&mut queue.sync), queue.closing)
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
