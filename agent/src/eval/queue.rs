//! The queue of evals: round robin over operators, one at a time for each, and one thread reserved for ending changes.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use debug_base::threads::Next;

/// Work for an eval thread.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// The most queued jobs of one operator: a client sends the next eval when it has read the last reply.
const MAX_WAITING: usize = 64;

/// The most queued reserved jobs of one operator; there are at most 16 sessions.
const MAX_RESERVED: usize = 16;

/// All queued evals.
#[derive(Default)]
pub(crate) struct Queue {
    inner: Mutex<QueueState>,
    /// Notified once for each job that a thread could take.
    waiting: Condvar,
    /// The same for reserved jobs, which have their own thread.
    reserved: Condvar,
}

#[derive(Default)]
struct QueueState {
    /// The operators in the order of service, each with the queued jobs.
    lines: VecDeque<(String, VecDeque<Job>)>,
    /// The operators with a running eval.
    busy: BTreeSet<String>,
    /// In order, each with its operator.
    reserved: VecDeque<(String, Job)>,
    stopped: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a job; false if the operator has the most queued already.
    pub(crate) fn push(&self, operator: &str, job: Job) -> bool {
        let mut inner = self.lock();
        match inner.lines.iter_mut().find(|(name, _)| name == operator) {
            Some((_, line)) if line.len() >= MAX_WAITING => return false,
            Some((_, line)) => line.push_back(job),
            None => inner
                .lines
                .push_back((operator.to_owned(), VecDeque::from([job]))),
        }
        drop(inner);
        self.waiting.notify_one();
        true
    }

    /// Queues a job that must not wait behind running code: attaching, ending changes. False if the operator has the
    /// most queued already; other operators are not affected.
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

    /// Waits for a job and runs it; returns `End` once the queue is stopped and empty. If the job panics, its
    /// operator's next job can still run.
    pub(crate) fn work(&self) -> Next {
        let Some((operator, job)) = self.next() else {
            return Next::End;
        };
        let _busy = Busy {
            queue: self,
            operator,
        };
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

    /// Stops the queue: drops the queued jobs other than reserved ones. Threads finish their job and end.
    pub(crate) fn stop(&self) {
        let mut inner = self.lock();
        inner.stopped = true;
        inner.lines.clear();
        drop(inner);
        self.waiting.notify_all();
        self.reserved.notify_all();
    }
}

/// Marks an operator as having a running eval.
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
        // This thread takes one of the jobs; another thread may wait for a job of this operator.
        if more {
            self.queue.waiting.notify_one();
        }
    }
}

impl QueueState {
    /// The next job of the first operator without a running one; that operator goes to the end.
    fn take(&mut self) -> Option<(String, Job)> {
        let at = self
            .lines
            .iter()
            .position(|(name, _)| !self.busy.contains(name))?;
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
    use debug_base::threads::{Faults, spawn};

    /// After a panic neither the thread nor the operator's turn is lost.
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
