//! One thread for each state that was written: what waits there for a lock of the service keeps no other revert waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, thread};

use crate::status::Waits;

/// What became of a job.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Turn {
    /// It is done when its turn comes.
    Next,
    /// It was given before, and has not been done yet.
    Queued,
}

/// Undoes one lease, waiting for the service as an ordinary writer.
type Job = Box<dyn FnOnce() + Send>;

/// The threads, by the name of their state. They end with this.
#[derive(Debug, Default)]
pub(crate) struct Helpers {
    threads: Mutex<BTreeMap<String, Sender<(u64, Job)>>>,
    /// The leases that wait for their turn or are being undone.
    queued: Arc<Mutex<BTreeSet<u64>>>,
    waits: Waits,
}

impl Helpers {
    /// None yet. `waits` hears of each wait.
    pub(crate) fn new(waits: Waits) -> Self {
        Self { waits, ..Self::default() }
    }

    /// Makes the state's thread, if it has none: before a write, since it may be too late for that when it is needed.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn ready(&self, state: &str) -> io::Result<()> {
        self.thread(state).map(drop)
    }

    fn thread(&self, state: &str) -> io::Result<Sender<(u64, Job)>> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = threads.get(state) {
            return Ok(thread.clone());
        }
        let (jobs, sent) = channel::<(u64, Job)>();
        let (queued, waits, name) = (self.queued.clone(), self.waits.clone(), state.to_owned());
        let work = move || {
            for (lease, job) in sent {
                let waiting = waits.begin(&name);
                job();
                drop(waiting);
                queued.lock().unwrap_or_else(PoisonError::into_inner).remove(&lease);
            }
        };
        thread::Builder::new().name("debug-state".to_owned()).spawn(work)?;
        threads.insert(state.to_owned(), jobs.clone());
        Ok(jobs)
    }

    /// Has `job` done on the state's thread, which undoes a lease; once at a time for each lease.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn undo(
        &self,
        state: &str,
        lease: u64,
        job: impl FnOnce() + Send + 'static,
    ) -> io::Result<Turn> {
        let thread = self.thread(state)?;
        if !self.queued.lock().unwrap_or_else(PoisonError::into_inner).insert(lease) {
            return Ok(Turn::Queued);
        }
        thread.send((lease, Box::new(job))).map(|()| Turn::Next).map_err(|_| {
            self.queued.lock().unwrap_or_else(PoisonError::into_inner).remove(&lease);
            self.threads.lock().unwrap_or_else(PoisonError::into_inner).remove(state);
            io::Error::other("the thread ended")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::status::{Shared, Status};

    #[test]
    fn a_wait_holds_up_its_own_state_only_and_is_told_of_when_it_is_long() {
        let status = Shared::new(Status::Running);
        let helpers = Helpers::new(status.waits());
        let (go, gone) = mpsc::channel::<()>();
        let (began, has_begun) = mpsc::channel();
        let wait = move || {
            began.send(()).unwrap();
            gone.recv().unwrap();
        };
        helpers.undo("config", 1, wait).unwrap();
        has_begun.recv().unwrap();
        assert_eq!(status.now(), Status::Running);
        status.waits().age_for_test(Duration::from_secs(5));
        assert_eq!(
            status.now().to_string(),
            "running, but undoing a change has waited 5 s for the lock or setter of state `config`"
        );

        let (told, done) = mpsc::channel();
        let tell = |word: &'static str| {
            let told = told.clone();
            move || told.send(word).unwrap()
        };
        helpers.undo("config", 2, tell("same state")).unwrap();
        assert_eq!(helpers.undo("config", 2, tell("the same once more")).unwrap(), Turn::Queued);
        helpers.undo("rota", 3, tell("other state")).unwrap();
        assert_eq!(done.recv().unwrap(), "other state");
        assert!(done.try_recv().is_err());
        go.send(()).unwrap();
        assert_eq!(done.recv().unwrap(), "same state");
        helpers.undo("config", 4, tell("afterwards")).unwrap();
        assert_eq!(done.recv().unwrap(), "afterwards", "a lease that is queued is not queued again");
    }
}
