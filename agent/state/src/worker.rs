//! A thread for cells that can only be read by waiting without a bound. The caller waits for a bounded time only.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::cell::{AccessError, BETWEEN_TRIES};
use crate::edit::WriteTicket;
use debug_base::{Panicked, Wait, fenced};

/// Longest wait of a patched call: as long as the agent may delay a service thread.
const IN_A_PATCH: Duration = Duration::from_millis(5);

/// Shortest patience of the agent's own threads. No service thread waits here, and on a loaded machine waking another thread
/// may take longer than 5 ms.
const ON_OUR_THREADS: Duration = Duration::from_millis(250);

/// Longest run time of a service's `set` before the write is rolled back.
const LONGEST_SET: Duration = Duration::from_secs(1);

type CellJob = Box<dyn FnOnce() + Send>;

/// The thread: started on first use, ends when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Worker {
    jobs: Mutex<Option<Sender<CellJob>>>,
    /// Set while one question is pending: abandoned questions must not pile up.
    occupied: Arc<AtomicBool>,
}

impl Worker {
    /// Runs `work` on the thread and waits for the answer within the patience of `wait`. An abandoned write is not started,
    /// or is rolled back.
    pub(crate) fn ask<R: Send + 'static>(
        &self,
        wait: Wait,
        ticket: Option<&WriteTicket>,
        work: impl FnOnce() -> Result<R, AccessError> + Send + 'static,
    ) -> Result<R, AccessError> {
        let patience = match wait {
            Wait::Try => IN_A_PATCH,
            Wait::Bounded(longest) => longest.max(ON_OUR_THREADS),
            Wait::Until => return work(),
        };
        let began = Instant::now();
        while self.occupied.swap(true, Ordering::AcqRel) {
            if patience <= began.elapsed() {
                return Err(AccessError::Busy);
            }
            thread::sleep(BETWEEN_TRIES);
        }
        let (answer, answered) = channel();
        let occupied = self.occupied.clone();
        let sent = self.send(Box::new(move || {
            let done = fenced(work).unwrap_or_else(|Panicked| Err(AccessError::Panicked("being asked")));
            occupied.store(false, Ordering::Release);
            // The caller may have stopped waiting; then the answer is dropped here.
            let _ = fenced(|| drop(answer.send(done)));
        }));
        if sent.is_err() {
            self.occupied.store(false, Ordering::Release);
            return Err(AccessError::Busy);
        }
        wait_for(&answered, patience.saturating_sub(began.elapsed()), ticket)
    }

    fn send(&self, job: CellJob) -> Result<(), ()> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.is_none() {
            let (sender, receiver) = channel::<CellJob>();
            let work = move || receiver.into_iter().for_each(|job| job());
            thread::Builder::new()
                .name("debug-field".to_owned())
                .spawn(work)
                .map_err(drop)?;
            *jobs = Some(sender);
        }
        jobs.as_ref().ok_or(())?.send(job).map_err(drop)
    }
}

fn wait_for<R>(
    answered: &Receiver<Result<R, AccessError>>,
    patience: Duration,
    ticket: Option<&WriteTicket>,
) -> Result<R, AccessError> {
    let gone = Err(AccessError::Panicked("being asked"));
    match answered.recv_timeout(patience) {
        Ok(answer) => return answer,
        Err(RecvTimeoutError::Disconnected) => return gone,
        Err(RecvTimeoutError::Timeout) => {}
    }
    let Some(ticket) = ticket else {
        return Err(AccessError::Busy);
    };
    if ticket.give_up() {
        return Err(AccessError::Busy);
    }
    match answered.recv_timeout(LONGEST_SET) {
        Ok(answer) => return answer,
        Err(RecvTimeoutError::Disconnected) => return gone,
        Err(RecvTimeoutError::Timeout) => {}
    }
    if ticket.give_up_begun() {
        return Err(AccessError::Busy);
    }
    // The value is in place; only the answer is still on its way.
    answered.recv().unwrap_or(gone)
}
