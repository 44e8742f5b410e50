//! Evals wait here: round robin over operators, one at a time for each, and a thread kept free for ending changes.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::threads::Next;

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

    /// Waits for a job and does it; the last turn is the one in which it is stopped. Should the job panic, its operator's next
    /// one can be done all the same.
    pub(crate) fn work(&self) -> Next {
        let Some((operator, job)) = self.next() else { return Next::End };
        let _busy = Busy { queue: self, operator };
        job();
        Next::Turn
    }

    /// The same for a reserved job.
    pub(crate) fn work_reserved(&self) -> Next {
        let mut inner = self.lock();
        let job = loop {
            if let Some((_, job)) = inner.reserved.pop_front() {
                break job;
            }
            if inner.stopped {
                return Next::End;
            }
            inner = self.reserved.wait(inner).unwrap_or_else(PoisonError::into_inner);
        };
        drop(inner);
        job();
        Next::Turn
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

/// An operator of whom an eval runs.
struct Busy<'a> {
    queue: &'a Queue,
    operator: String,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut inner = self.queue.lock();
        inner.busy.remove(&self.operator);
        let more = !inner.lines.is_empty();
        drop(inner);
        // This thread takes one of them; another may have waited for this operator only.
        if more {
            self.queue.waiting.notify_one();
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use super::*;
    use crate::threads::{Faults, spawn};

    /// Neither the thread nor the operator whose job it was is lost.
    #[test]
    fn after_a_job_that_panics_the_next_of_its_operator_is_done() {
        let (queue, faults, (told, heard)) = (Arc::new(Queue::default()), Faults::default(), channel());
        let works: [fn(&Queue) -> Next; 2] = [Queue::work, Queue::work_reserved];
        let threads = works.map(|work| {
            let queue = queue.clone();
            spawn("debug-eval", None, faults.clone(), move || work(&queue)).unwrap()
        });
        let tell = |word: &'static str| -> Job {
            let told = told.clone();
            Box::new(move || told.send(word).unwrap())
        };
        for push in [Queue::push, Queue::push_reserved] {
            assert!(push(&queue, "alice", Box::new(|| panic!("planted"))));
            assert!(push(&queue, "alice", tell("hers")));
            assert_eq!(heard.recv().unwrap(), "hers");
            assert!(push(&queue, "bob", tell("his")));
            assert_eq!(heard.recv().unwrap(), "his");
        }
        queue.stop();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(faults.sentence().unwrap().contains("debug-eval (2 times)"));
    }
}
