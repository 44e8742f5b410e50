//! One thread per written state for reverts that must wait for the service's lock: a blocked state does not delay other
//! reverts.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::waits::Waits;
use debug_base::threads;
use debug_base::threads::{Faults, Next};

/// What happened to a submitted job.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Submitted {
    /// It is queued and runs in its turn.
    Taken,
    /// A job of the same lease is still queued or running, so this one is dropped.
    Already,
}

/// An attempt to revert one lease, which may wait for the service's lock as an ordinary writer.
type UndoJob = Box<dyn FnOnce() + Send>;

/// The threads, by state. They end when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct RevertWorkers {
    threads: Mutex<BTreeMap<String, Sender<(u64, UndoJob)>>>,
    /// The leases with a queued or running job.
    queued: Arc<Mutex<BTreeSet<u64>>>,
    waits: Waits,
    faults: Faults,
}

impl RevertWorkers {
    /// No threads yet. `waits` records each wait, `faults` each panic.
    pub(crate) fn new(waits: Waits, faults: Faults) -> Self {
        Self {
            waits,
            faults,
            ..Self::default()
        }
    }

    /// Starts the state's thread unless it runs. Called before a write: when the thread is needed, it may be too late
    /// to start one.
    ///
    /// # Errors
    /// The system starts no thread.
    pub(crate) fn ready(&self, state: &str) -> io::Result<()> {
        self.thread(state).map(drop)
    }

    fn thread(&self, state: &str) -> io::Result<Sender<(u64, UndoJob)>> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = threads.get(state) {
            return Ok(thread.clone());
        }
        let (jobs, sent) = channel::<(u64, UndoJob)>();
        let (queued, waits, name) = (self.queued.clone(), self.waits.clone(), state.to_owned());
        let work = move || {
            let Ok((lease, job)) = sent.recv() else {
                return Next::End;
            };
            // Removed also if the job panics: the revert thread then submits the lease again.
            let _turn = InTurn {
                queued: &queued,
                lease,
            };
            let _waiting = waits.begin(&name);
            job();
            Next::Turn
        };
        threads::spawn("debug-undo", None, self.faults.clone(), work)?;
        threads.insert(state.to_owned(), jobs.clone());
        Ok(jobs)
    }

    /// Runs `job`, which reverts a lease, on the state's thread; at most one job per lease at a time.
    ///
    /// # Errors
    /// The system starts no thread.
    pub(crate) fn undo(
        &self,
        state: &str,
        lease: u64,
        job: impl FnOnce() + Send + 'static,
    ) -> io::Result<Submitted> {
        let thread = self.thread(state)?;
        if !self
            .queued
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(lease)
        {
            return Ok(Submitted::Already);
        }
        thread
            .send((lease, Box::new(job)))
            .map(|()| Submitted::Taken)
            .map_err(|_| {
                self.queued
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&lease);
                self.threads
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(state);
                io::Error::other("the thread ended")
            })
    }
}

/// A lease with a running job.
struct InTurn<'a> {
    queued: &'a Mutex<BTreeSet<u64>>,
    lease: u64,
}

impl Drop for InTurn<'_> {
    fn drop(&mut self) {
        self.queued
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.lease);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::boot::status::{SharedStatus, Status};

    #[test]
    fn a_wait_holds_up_its_own_state_only_and_is_told_of_when_it_is_long() {
        let status = SharedStatus::new(Status::Running);
        let helpers = RevertWorkers::new(status.waits(), status.faults());
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
        assert_eq!(
            helpers.undo("config", 2, tell("the same once more")).unwrap(),
            Submitted::Already
        );
        helpers.undo("rota", 3, tell("other state")).unwrap();
        assert_eq!(done.recv().unwrap(), "other state");
        assert!(done.try_recv().is_err());
        go.send(()).unwrap();
        assert_eq!(done.recv().unwrap(), "same state");
        helpers.undo("config", 4, tell("afterwards")).unwrap();
        assert_eq!(
            done.recv().unwrap(),
            "afterwards",
            "a lease that is queued is not queued again"
        );
    }

    #[test]
    fn a_job_that_panics_neither_ends_the_thread_nor_stays_queued() {
        let status = SharedStatus::new(Status::Running);
        let helpers = RevertWorkers::new(status.waits(), status.faults());
        let (told, done) = mpsc::channel();
        helpers.undo("config", 1, || panic!("planted")).unwrap();
        let next = told.clone();
        helpers.undo("config", 2, move || next.send(2).unwrap()).unwrap();
        assert_eq!(done.recv().unwrap(), 2);
        assert_eq!(
            helpers.undo("config", 1, move || told.send(1).unwrap()).unwrap(),
            Submitted::Taken
        );
        assert_eq!(done.recv().unwrap(), 1);
        assert!(status.faults().sentence().unwrap().contains("debug-undo"));
    }
}
