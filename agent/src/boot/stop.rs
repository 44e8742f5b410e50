//! The agent stops: every change is undone, then each part ends, all within a second.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use debug_policy::Resource;
use debug_wire::records::Shutdown;

use super::{Running, Up, complain};
use crate::core::Core;
use crate::recorder::records;
use debug_base::{BootTime, Wait};
use debug_lease::{Cause, Lease};

/// How long stopping may take in total: under a second, with some milliseconds to spare.
const STOP: Duration = Duration::from_millis(900);
/// The part of [`STOP`] for the first step, reverting changes.
const REVERTING: Duration = Duration::from_millis(500);
/// The part of [`STOP`] reserved for the last step, closing the log.
const CLOSING: Duration = Duration::from_millis(250);

impl Running {
    /// Reverts everything, writes `shutdown` and ends the threads, within 1 s in total even if something hangs: each
    /// step gets what is left of the time, and none blocks on what blocks another.
    /// Returns what could not be reverted.
    pub(crate) fn stop(mut self) -> Vec<NotUndone> {
        if self.process != std::process::id() {
            // The log, the socket and the changes belong to the parent, and this process has no threads. Release none
            // of it.
            std::mem::forget(self);
            return Vec::new();
        }
        self.shared.stopping.store(true, Ordering::Release);
        let up = self
            .shared
            .up
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(boot) = &self.boot {
            boot.thread().unpark();
        }
        let Some(Up {
            core,
            queue,
            net,
            threads,
        }) = up
        else {
            // The agent is not up yet: the boot thread checks `stopping` before its next step.
            return Vec::new();
        };
        let begun = Instant::now();
        // Running evals are cancelled as their sessions end, while changes are reverted.
        net.begin_shutdown();
        queue.stop();
        revert_all(&core, begun + REVERTING);
        let (until, last) = (begun + STOP - CLOSING, begun + STOP);
        net.shutdown_within(until.saturating_duration_since(Instant::now()));
        // Before the log is closed: these threads write the outcomes of their evals.
        threads.into_iter().for_each(|thread| join(thread, until));
        if let Some(observing) = core.observer() {
            observing
                .marks()
                .end(core.changes.leases.in_force(BootTime::now()));
        }
        core.changes.leases.stop();
        core.recorder.append(vec![records::kept(&Shutdown {})]);
        if let Err(error) = core
            .recorder
            .log
            .clone()
            .close(last.saturating_duration_since(Instant::now()))
        {
            complain::complain(&format!("the audit log was not closed: {error}"));
        }
        if let Some(boot) = self.boot.take() {
            join(boot, last);
        }
        core.changes.leases.list().iter().map(NotUndone::of).collect()
    }
}

/// A change that the agent could not undo before it stopped.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct NotUndone {
    /// The number of its lease, as in the audit log.
    pub lease: u64,
    /// What is still changed: `state:limits.mail.rate`, `point:GET /health`.
    pub target: String,
    /// Why it could not be undone, if that was seen.
    pub why: Option<String>,
}

impl NotUndone {
    fn of(lease: &Lease) -> Self {
        let why = lease.failing.as_ref().map(|failing| failing.why.clone());
        Self {
            lease: lease.id,
            target: lease.target().to_string(),
            why,
        }
    }
}

/// Ends every lease, newest first; retries failed reverts until `until`.
fn revert_all(core: &Arc<Core>, until: Instant) {
    core.changes.leases.close();
    loop {
        let mut leases = core.changes.leases.list();
        leases.reverse();
        if leases.is_empty() {
            return;
        }
        for lease in leases {
            end_at_stop(core, &lease);
        }
        if Instant::now() > until {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// Ends a lease as the agent stops. A write is reverted on its state's thread, so that a blocked state delays no other
/// revert.
fn end_at_stop(core: &Arc<Core>, lease: &Lease) {
    let (id, ending) = (lease.id, core.clone());
    let end = move || ending.see_to_end(id, &Cause::Shutdown, Wait::AGENT);
    match lease.target() {
        Resource::State(path) => {
            let state = path.first().map(String::as_str).unwrap_or_default();
            if core.changes.helpers.undo(state, id, end).is_err() {
                core.see_to_end(id, &Cause::Shutdown, Wait::Try);
            }
        }
        _ => end(),
    }
}

/// Waits for a thread to end, until `until`; a thread that hangs in the service's code is detached.
fn join(thread: JoinHandle<()>, until: Instant) {
    while !thread.is_finished() && Instant::now() < until {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    if thread.is_finished() {
        drop(thread.join());
    }
}
