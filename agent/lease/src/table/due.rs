//! Which leases are due: for the revert thread, which waits for them, and for the threads that find what it missed.

use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use debug_policy::Resource;

use super::{Leases, Table};
use crate::{Cause, Failing};
use debug_base::BootTime;

/// Bounds of the delay between two attempts to undo a change. The delay is a quarter of the time for which the undo has
/// failed. The lower bound keeps a setter that always panics from filling the service's log.
const RETRY: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(1);

/// Time of the next attempt for an undo that has failed since `since`.
pub(super) fn again(since: BootTime, now: BootTime) -> BootTime {
    now.after((now.since(since) / 4).clamp(*RETRY.start(), *RETRY.end()))
}

/// A change that is in force past the end of its lease.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Overdue {
    /// The lease.
    pub lease: u64,
    /// Its target.
    pub target: Resource,
    /// Time since the end of the lease.
    pub by: Duration,
    /// Error of the last attempt to undo it.
    pub why: Option<String>,
}

/// The lease table was locked by another thread for more than 5 ms.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stuck;

impl Leases {
    /// Blocks until leases are due; returns them with their causes. `None` once stopped.
    pub fn wait_due(&self) -> Option<Vec<(u64, Cause)>> {
        let mut inner = self.lock();
        loop {
            if inner.stopped {
                return None;
            }
            let now = BootTime::now();
            let due = inner.due(now);
            if !due.is_empty() {
                return Some(due);
            }
            let next = inner.open.values().map(|l| l.due().0).min();
            // The host may be suspended, so this thread may wake late. Points and timed states also check deadlines on use.
            let nap = next.map_or(Duration::from_secs(1), |next| {
                next.remaining(now).min(Duration::from_secs(1))
            });
            inner = self
                .changed
                .wait_timeout(inner, nap)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Has the revert thread look at the lease again after a delay: another thread is undoing it, or the last attempt panicked.
    pub fn postpone(&self, id: u64, cause: &Cause) {
        let now = BootTime::now();
        if let Some(lease) = self.lock().open.get_mut(&id) {
            let why = "an attempt to undo it is under way, or has just failed".to_owned();
            let asked = Failing {
                why,
                since: now,
                again: now,
                cause: cause.clone(),
                tried: false,
            };
            let failing = lease.failing.get_or_insert(asked);
            failing.again = again(failing.since, now);
        }
    }

    /// When the next lease is due.
    pub fn next_due(&self) -> Option<BootTime> {
        self.lock().open.values().map(|lease| lease.due().0).min()
    }

    /// Returns the number of leases and, among those that do not end without a thread of the agent, the most overdue. Waits
    /// at most 5 ms for the table: the thread that ends leases may have been suspended while it held the lock.
    ///
    /// # Errors
    /// `Stuck` if another thread has held the lease table for 5 ms.
    pub fn glance(&self, now: BootTime) -> Result<(usize, Option<Overdue>), Stuck> {
        let inner = lock_soon(&self.inner).ok_or(Stuck)?;
        let all = || inner.open.values().chain(inner.ending.values());
        let overdue = all()
            .filter(|lease| !lease.change.ends_by_itself())
            .map(|lease| Overdue {
                lease: lease.id,
                target: lease.target().clone(),
                by: now.since(lease.over()),
                why: lease.failing.as_ref().map(|failing| failing.why.clone()),
            });
        let longest = overdue
            .max_by_key(|overdue| overdue.by)
            .filter(|overdue| !overdue.by.is_zero());
        Ok((all().count(), longest))
    }

    /// Leases due at `now`. Another thread calls this to find what the revert thread missed.
    pub fn overdue(&self, now: BootTime) -> Vec<(u64, Cause)> {
        self.lock().due(now)
    }

    /// Stops the revert thread.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }
}

impl Table {
    fn due(&self, now: BootTime) -> Vec<(u64, Cause)> {
        let due = self
            .open
            .values()
            .map(|lease| (lease.id, lease.due()))
            .filter(|(_, (at, _))| *at <= now);
        due.map(|(id, (_, cause))| (id, cause)).collect()
    }
}

/// Locks a mutex; gives up after 5 ms.
pub fn lock_soon<T>(lock: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    let until = Instant::now() + Duration::from_millis(5);
    loop {
        match lock.try_lock() {
            Ok(inner) => return Some(inner),
            Err(TryLockError::Poisoned(inner)) => return Some(inner.into_inner()),
            Err(TryLockError::WouldBlock) if until <= Instant::now() => return None,
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_micros(50)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_attempt_comes_after_a_quarter_of_the_time_within_bounds() {
        let since = BootTime(1_000_000_000);
        for (failed, delay) in [
            (0, 50),
            (100, 50),
            (200, 50),
            (400, 100),
            (2_000, 500),
            (4_000, 1_000),
            (60_000, 1_000),
        ] {
            let now = since.after(Duration::from_millis(failed));
            assert_eq!(
                again(since, now),
                now.after(Duration::from_millis(delay)),
                "{failed} ms"
            );
        }
    }
}
