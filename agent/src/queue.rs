//! Evals wait here: round robin over operators, one at a time for each, and a thread kept free for ending changes.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Work for an eval thread.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// The most jobs of one operator that may wait: a client sends the next eval when it has read the last reply.
const MAX_WAITING: usize = 64;

/// The most reserved jobs of one operator that may wait; there are at most 16 sessions.
const MAX_RESERVED: usize = 16;

/// All waiting evals.
#[derive(Default)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    /// Told once for each job that a thread could take.
    waiting: Condvar,
    /// The same for reserved jobs, which have a thread of their own.
    reserved: Condvar,
}

#[derive(Default)]
struct Inner {
    /// Operators in the order in which they are served, each with what waits.
    lines: VecDeque<(String, VecDeque<Job>)>,
    /// Operators of whom an eval runs.
    busy: BTreeSet<String>,
    /// In order, each with whose it is.
    reserved: VecDeque<(String, Job)>,
    stopped: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a job wait for its operator's turn; false if too many of that operator's wait already.
    pub(crate) fn push(&self, operator: &str, job: Job) -> bool {
        let mut inner = self.lock();
        match inner.lines.iter_mut().find(|(name, _)| name == operator) {
            Some((_, line)) if line.len() >= MAX_WAITING => return false,
            Some((_, line)) => line.push_back(job),
            None => inner.lines.push_back((operator.to_owned(), VecDeque::from([job]))),
        }
        drop(inner);
        self.waiting.notify_one();
        true
    }

    /// A job that must not wait behind running code: attaching, ending changes. False if too many of that operator's wait
    /// already; those of others find room.
    pub(crate) fn push_reserved(&self, operator: &str, job: Job) -> bool {
        let mut inner = self.lock();
        if inner.reserved.iter().filter(|(name, _)| name == operator).count() >= MAX_RESERVED {
            return false;
        }
        inner.reserved.push_back((operator.to_owned(), job));
        drop(inner);
        self.reserved.notify_one();
        true
    }

    /// Works until stopped.
    pub(crate) fn work(&self) {
        while let Some((operator, job)) = self.next() {
            job();
            let mut inner = self.lock();
            inner.busy.remove(&operator);
            let more = !inner.lines.is_empty();
            drop(inner);
            // This thread takes one of them; another may have waited for this operator only.
            if more {
                self.waiting.notify_one();
            }
        }
    }

    /// Works on reserved jobs until stopped.
    pub(crate) fn work_reserved(&self) {
        loop {
            let mut inner = self.lock();
            let job = loop {
                if let Some((_, job)) = inner.reserved.pop_front() {
                    break job;
                }
                if inner.stopped {
                    return;
                }
                inner = self.reserved.wait(inner).unwrap_or_else(PoisonError::into_inner);
            };
            drop(inner);
            job();
        }
    }

    fn next(&self) -> Option<(String, Job)> {
        let mut inner = self.lock();
        loop {
            if let Some(found) = inner.take() {
                return Some(found);
            }
            if inner.stopped {
                return None;
            }
            inner = self.waiting.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets the threads finish what they do and end.
    pub(crate) fn stop(&self) {
        let mut inner = self.lock();
        inner.stopped = true;
        inner.lines.clear();
        drop(inner);
        self.waiting.notify_all();
        self.reserved.notify_all();
    }
}

impl Inner {
    /// The next job of the first operator in line who has none running; that operator goes to the end.
    fn take(&mut self) -> Option<(String, Job)> {
        let at = self.lines.iter().position(|(name, _)| !self.busy.contains(name))?;
        let (name, mut line) = self.lines.remove(at)?;
        let job = line.pop_front()?;
        if !line.is_empty() {
            self.lines.push_back((name.clone(), line));
        }
        self.busy.insert(name.clone());
        Some((name, job))
    }
}
