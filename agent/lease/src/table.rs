//! The table of all leases.

mod ending;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use debug_policy::Resource;
use debug_wire::messages::{After, InForce};

use self::steps::{Fault, LeaseState};
use crate::{Begun, Cause, Conflict, Failing, GRACE, Lease, Phase, Rearmed, Undone};
use debug_base::BootTime;

/// Bounds of the delay between two attempts to undo a change. The delay is a quarter of the time for which the undo has
/// failed. The lower bound keeps a setter that always panics from filling the service's log.
const RETRY: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(1);

/// Why a lease that was renewed or adopted too late ends at once.
const OVER: &str = "its time was over before it could be given more";

/// Time of the next attempt for an undo that has failed since `since`.
fn again(since: BootTime, now: BootTime) -> BootTime {
    now.after((now.since(since) / 4).clamp(*RETRY.start(), *RETRY.end()))
}

/// All leases of the process.
pub struct Leases {
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    next: u64,
    /// In force, by id. Includes leases with a failed undo.
    open: BTreeMap<u64, Lease>,
    /// Being ended right now. Keeps two threads from ending one lease.
    ending: BTreeMap<u64, Lease>,
    /// How the last leases ended, for precise error messages.
    ended: BTreeMap<u64, &'static str>,
    /// Ended leases with a conflict: another writer had changed part of the target. Kept until settled.
    conflicts: BTreeMap<u64, (Lease, Conflict)>,
    /// Targets reserved by a claim, with the claimant's name, by the id of the future lease.
    claimed: BTreeMap<u64, (Resource, String)>,
    /// Listed, but not applied yet: there is nothing to undo.
    making: BTreeSet<u64>,
    /// Set at shutdown: `open` refuses new leases.
    closed: bool,
    stopped: bool,
    /// Faults of the agent that were not reported yet.
    faults: Vec<String>,
}

/// Limit on ended leases remembered by id, and on unsettled conflicts.
pub(crate) const REMEMBERED: usize = 1_000;

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

/// Why a lease could not be ended or renewed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EndError {
    /// No lease has this id.
    #[error("there is no lease {0}")]
    Unknown(u64),
    /// It has already ended.
    #[error("lease {id} has already ended: {how}")]
    Ended {
        /// The lease.
        id: u64,
        /// The word of its terminal record.
        how: &'static str,
    },
    /// Another thread is ending it right now.
    #[error("lease {0} is being ended right now")]
    Ending(u64),
    /// The undo failed; the revert thread retries it.
    #[error("lease {id} could not be undone: {why}; it is tried again until it succeeds")]
    Failing {
        /// The lease.
        id: u64,
        /// Error text of the attempt.
        why: String,
        /// True on the first failed attempt.
        first: bool,
    },
    /// It was adopted by another operator after the policy decision.
    #[error("lease {0} is another operator's by now")]
    Owner(u64),
    /// It is still in force, so there is no conflict to settle.
    #[error("lease {0} is in force")]
    InForce(u64),
    /// Its change could not be rearmed with the new deadline now.
    #[error("lease {0} stays as it was: its state is in use; try again")]
    Busy(u64),
    /// It is already confirmed.
    #[error("lease {0} was confirmed before")]
    Confirmed(u64),
    /// The agent lost track of it.
    #[error("lease {0} is in no state from which this is possible; this is a fault of the agent")]
    Fault(u64),
}

/// Reserves a target for the next lease. Dropping it releases the target.
#[must_use = "dropped, it releases the target"]
pub struct Claim<'a> {
    leases: &'a Leases,
    /// Id of the future lease.
    pub id: u64,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.leases.lock().claimed.remove(&self.id);
    }
}

/// A lease in the table with a change not yet applied. The lease cannot be ended until this is dropped.
#[must_use = "while it lives, the lease cannot be ended"]
pub struct Making<'a> {
    leases: &'a Leases,
    id: u64,
    begun: bool,
}

impl Making<'_> {
    /// Begins to apply the change. `None` after the first call.
    pub fn begin(&mut self) -> Option<Begun> {
        let first = !std::mem::replace(&mut self.begun, true);
        first.then(|| Begun::of(self.id))
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        let mut inner = self.leases.lock();
        // A change that failed was withdrawn before.
        if inner.state(self.id) != LeaseState::Ended {
            drop(inner.step(
                "made",
                self.id,
                &[LeaseState::Making],
                &[LeaseState::Open],
                |inner| inner.making.remove(&self.id),
            ));
        }
        drop(inner);
        self.leases.changed.notify_all();
    }
}

/// A lease that has ended.
pub struct Ended {
    /// The lease as it was in force.
    pub lease: Lease,
    /// Result of the undo.
    pub undone: Undone,
}

impl Leases {
    /// Creates an empty table; the first id is `highest + 1`.
    pub fn after(highest: u64) -> Self {
        let inner = Inner {
            next: highest + 1,
            open: BTreeMap::new(),
            ending: BTreeMap::new(),
            ended: BTreeMap::new(),
            conflicts: BTreeMap::new(),
            claimed: BTreeMap::new(),
            making: BTreeSet::new(),
            closed: false,
            stopped: false,
            faults: Vec::new(),
        };
        Self {
            inner: Mutex::new(inner),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // INVARIANT: no service code runs under this lock, so a panic cannot leave the table half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves `target` and the next lease id. The caller then reads the target, waits for the log to reach the disk and
    /// opens the lease; until the claim is dropped, no other claim on an overlapping target succeeds.
    ///
    /// # Errors
    /// The name of the claimant with an overlapping target.
    pub fn claim(&self, target: &Resource, by: impl Into<String>) -> Result<Claim<'_>, String> {
        let mut inner = self.lock();
        if let Some((_, by)) = inner
            .claimed
            .values()
            .find(|(claimed, _)| overlaps(claimed, target))
        {
            return Err(by.clone());
        }
        let id = inner.next;
        inner.next += 1;
        inner.claimed.insert(id, (target.clone(), by.into()));
        Ok(Claim { leases: self, id })
    }

    /// Adds a lease before its change is applied. The lease cannot be ended while the returned [`Making`] lives.
    ///
    /// # Errors
    /// The lease itself, if the table is closed.
    pub fn open(&self, lease: Lease) -> Result<Making<'_>, Box<Lease>> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(Box::new(lease));
        }
        let (id, refused) = (lease.id, lease.clone());
        let opened = inner.step(
            "opened",
            id,
            &[LeaseState::None],
            &[LeaseState::Making],
            |inner| {
                inner.making.insert(id);
                inner.open.insert(id, lease);
            },
        );
        drop(inner);
        self.changed.notify_all();
        match opened {
            Ok(()) => Ok(Making {
                leases: self,
                id,
                begun: false,
            }),
            Err(Fault) => Err(Box::new(refused)),
        }
    }

    /// Id that the next claim will get.
    pub fn next_id(&self) -> u64 {
        self.lock().next
    }

    /// Closes the table: no lease can be added afterwards.
    pub fn close(&self) {
        self.lock().closed = true;
    }

    /// Removes a lease after its change failed to apply.
    pub fn withdraw(&self, id: u64) {
        let mut inner = self.lock();
        // `None`: the table is closed, so the lease was never in it.
        let from = [LeaseState::Making, LeaseState::None];
        drop(inner.step("withdrawn", id, &from, &[LeaseState::Ended], |inner| {
            inner.making.remove(&id);
            inner.open.remove(&id);
            inner.remember(id, "never made");
        }));
    }

    /// Leases in force, oldest first, including those being ended.
    pub fn list(&self) -> Vec<Lease> {
        let inner = self.lock();
        inner
            .open
            .values()
            .chain(inner.ending.values())
            .cloned()
            .collect()
    }

    /// Number of leases in force and time until the first of them ends, in ms (0 if an undo is overdue).
    pub fn in_force(&self, now: BootTime) -> InForce {
        let inner = self.lock();
        let (mut count, mut shortest) = (0, None);
        for lease in inner.open.values().chain(inner.ending.values()) {
            count += 1;
            shortest = Some(lease.until()).into_iter().chain(shortest).min();
        }
        let left = |until: BootTime| u64::try_from(until.remaining(now).as_millis()).unwrap_or(u64::MAX);
        InForce {
            count,
            shortest_ms: shortest.map(left),
        }
    }

    /// Looks up a lease in force.
    ///
    /// # Errors
    /// `Unknown`, `Ended`, `Ending` or `Failing`.
    pub fn find(&self, id: u64) -> Result<Lease, EndError> {
        self.lock().find(id).cloned()
    }

    /// The newest lease in force with a target that overlaps `target`.
    #[cfg(any(test, feature = "test-util"))]
    pub fn standing(&self, target: &Resource) -> Option<Lease> {
        let inner = self.lock();
        inner
            .open
            .values()
            .chain(inner.ending.values())
            .filter(|l| overlaps(l.target(), target))
            .max_by_key(|l| l.id)
            .cloned()
    }

    /// Returns a lease that blocks a change of `target` because its undo has not succeeded. It overlaps `target`, or an
    /// attempt to undo it failed in the same state: a fault in one part of a state may affect all of it.
    pub fn failing_at(&self, target: &Resource) -> Option<Lease> {
        let inner = self.lock();
        let near = |lease: &&Lease| {
            let Some(failing) = &lease.failing else {
                return false;
            };
            overlaps(lease.target(), target) || failing.tried && same_state(lease.target(), target)
        };
        inner
            .open
            .values()
            .chain(inner.ending.values())
            .rfind(near)
            .cloned()
    }

    /// Sets a new deadline for a lease, and confirms it if `confirm`.
    ///
    /// # Errors
    /// The lease is not alive (a lease past its deadline is not, even before its undo), is already confirmed, or could not be
    /// rearmed.
    pub fn renew(
        &self,
        id: u64,
        owner: &str,
        deadline: BootTime,
        confirm: bool,
        now: BootTime,
    ) -> Result<Lease, EndError> {
        let mut inner = self.lock();
        let lease = inner.alive(id, owner, now)?;
        let before = lease.clone();
        if confirm && lease.phase == Phase::Confirmed {
            return Err(EndError::Confirmed(id));
        }
        lease.deadline = deadline;
        if confirm {
            lease.phase = Phase::Confirmed;
        }
        self.renewed(inner, before)
    }

    /// Transfers a lease to another operator and their session.
    ///
    /// # Errors
    /// The lease is not alive (a lease past its deadline is not, even before its undo), or could not be rearmed.
    pub fn adopt(
        &self,
        id: u64,
        from: &str,
        owner: &str,
        session: u64,
        now: BootTime,
    ) -> Result<Lease, EndError> {
        let mut inner = self.lock();
        let lease = inner.alive(id, from, now)?;
        let before = lease.clone();
        lease.owner = owner.to_owned();
        (lease.session, lease.grace) = (session, None);
        self.renewed(inner, before)
    }

    /// Rearms the change behind a renewed lease; rolls the lease back if that fails.
    ///
    /// # Errors
    /// `Ended` if the previous end of the lease passed first, `Busy` if the change cannot be rearmed now.
    fn renewed(&self, inner: MutexGuard<'_, Inner>, before: Lease) -> Result<Lease, EndError> {
        let id = before.id;
        let Some(renewed) = inner.open.get(&id).cloned() else {
            return Err(EndError::Unknown(id));
        };
        drop(inner);
        let rearmed = self.rearm(&before);
        if rearmed == Rearmed::InForce {
            self.changed.notify_all();
            return Ok(renewed);
        }
        let mut inner = self.lock();
        // Terms that another thread gave since then stay.
        if let Some(lease) = inner
            .open
            .get_mut(&id)
            .filter(|lease| lease.terms() == renewed.terms() && lease.session == renewed.session)
        {
            (lease.owner, lease.session) = (before.owner.clone(), before.session);
            (lease.deadline, lease.phase, lease.grace) = (before.deadline, before.phase, before.grace);
        }
        if rearmed == Rearmed::Over {
            inner.is_over(&before, OVER);
        }
        drop(inner);
        // Back to the end that it had; if that fails, it never got the new one.
        self.rearm(&before);
        self.changed.notify_all();
        Err(match rearmed {
            Rearmed::Over => EndError::Ended {
                id,
                how: before.due().1.word(),
            },
            Rearmed::InForce | Rearmed::NotYet => EndError::Busy(id),
        })
    }

    /// Has the change of a lease stop at the lease's present end. `before` is the lease with its previous end.
    fn rearm(&self, before: &Lease) -> Rearmed {
        let end = || self.lock().open.get(&before.id).map(Lease::until);
        let mut until = end();
        while let Some(wanted) = until {
            let rearmed = before.change.rearm(before.id, wanted);
            // Checked last: this thread may have been preempted between any two steps.
            if before.until() <= BootTime::now() {
                return Rearmed::Over;
            }
            // Another thread may have given it another end since then.
            until = end();
            if until == Some(wanted) {
                return rearmed;
            }
        }
        // It is being ended, or has ended.
        Rearmed::InForce
    }

    /// As [`rearm`](Self::rearm), for a lease whose new terms stand. Makes it due if its previous end passed first, or if `must` is
    /// set and the change cannot be rearmed.
    fn see_to_rearm(&self, before: &Lease, must: bool) {
        /// A state is locked for milliseconds only.
        const TRIES: usize = 3;
        let mut tries = (0..TRIES).map(|_| self.rearm(before));
        let last = tries
            .find(|rearmed| *rearmed != Rearmed::NotYet)
            .unwrap_or(Rearmed::NotYet);
        match last {
            Rearmed::Over => self.lock().is_over(before, OVER),
            Rearmed::NotYet if must => self
                .lock()
                .is_over(before, "its state was busy, so its end could not be set back"),
            Rearmed::NotYet | Rearmed::InForce => {}
        }
        self.changed.notify_all();
    }

    /// Restores a renewed or adopted lease to `before` because the eval that changed it failed; returns it. `None` if the
    /// lease has been renewed or adopted again since: the later change wins.
    ///
    /// `lost`: the session that held it before is gone, so the lease enters its grace period.
    pub fn restore(&self, before: &Lease, renewed: &Lease, lost: bool, now: BootTime) -> Option<Lease> {
        let mut inner = self.lock();
        let lease = inner.open.get_mut(&before.id)?;
        let was = lease.clone();
        if lease.terms() != renewed.terms() {
            return None;
        }
        if (&lease.owner, lease.session) != (&before.owner, before.session)
            && renewed.session == lease.session
        {
            (lease.owner, lease.session) = (before.owner.clone(), before.session);
            lease.grace = before.grace.or_else(|| lost.then(|| now.after(GRACE)));
        }
        (lease.deadline, lease.phase) = (before.deadline, before.phase);
        let restored = lease.clone();
        drop(inner);
        self.see_to_rearm(&was, restored.until() > was.until());
        Some(restored)
    }

    /// Records how a lease ended, for later error messages.
    pub fn ended(&self, id: u64, how: &'static str) {
        self.lock().remember(id, how);
    }

    /// Starts the grace period of the leases of a lost session, except those with `After::Persist`. Confirmed leases are not
    /// affected by it while they stay confirmed.
    pub fn session_lost(&self, session: u64, now: BootTime) {
        self.tell(|lease| {
            let loses = lease.session == session && lease.after != After::Persist && lease.grace.is_none();
            if loses {
                lease.grace = Some(now.after(GRACE));
            }
            loses
        });
    }

    /// Applies `change` to each open lease. For each lease that changed, rearms its change; then wakes the revert thread.
    /// Returns the changed leases.
    fn tell(&self, mut change: impl FnMut(&mut Lease) -> bool) -> Vec<Lease> {
        let mut inner = self.lock();
        let mut told = Vec::new();
        for lease in inner.open.values_mut() {
            let before = lease.clone();
            if change(lease) {
                told.push((before, lease.clone()));
            }
        }
        drop(inner);
        for (before, lease) in &told {
            self.see_to_rearm(before, lease.until() > before.until());
        }
        self.changed.notify_all();
        told.into_iter().map(|(_, lease)| lease).collect()
    }

    /// Ends every lease of an operator who has lost access, confirmed ones too. Newest first, so no lower layer has to be
    /// rebased. Returns their number.
    #[cfg_attr(not(test), allow(dead_code, reason = "see `Core::revoke`"))]
    pub fn revoke(&self, owner: &str, why: &str, mut end: impl FnMut(u64, &Cause)) -> usize {
        let mut owned = self.list();
        owned.retain(|lease| lease.owner == owner);
        let cause = Cause::Revoked(why.to_owned());
        owned.iter().rev().for_each(|lease| end(lease.id, &cause));
        owned.len()
    }

    /// Moves the leases of an operator's lost sessions to a new session and clears their grace; returns them.
    pub fn take_over(&self, owner: &str, session: u64) -> Vec<Lease> {
        self.tell(|lease| {
            // An expired lease only waits for its undo; a takeover does not revive it.
            let left = lease.owner == owner && lease.grace.is_some() && BootTime::now() < lease.until();
            if left {
                lease.session = session;
                lease.grace = None;
            }
            left
        })
    }

    /// Unsettled conflicts with their ended leases, oldest first.
    pub fn conflicts(&self) -> Vec<(Lease, Conflict)> {
        self.lock().conflicts.values().cloned().collect()
    }

    /// Looks up one unsettled conflict.
    ///
    /// # Errors
    /// `InForce` if the lease has not ended, otherwise how it ended.
    pub fn conflict(&self, id: u64) -> Result<(Lease, Conflict), EndError> {
        let inner = self.lock();
        match inner.conflicts.get(&id) {
            Some(found) => Ok(found.clone()),
            None => Err(match inner.find(id) {
                Ok(_) => EndError::InForce(id),
                Err(error) => error,
            }),
        }
    }

    /// Removes a conflict in order to settle it; `None` if another thread has removed it.
    pub fn take_conflict(&self, id: u64) -> Option<(Lease, Conflict)> {
        let mut inner = self.lock();
        if !inner.conflicts.contains_key(&id) {
            return None;
        }
        // `None`: how it ended was forgotten.
        let to = [LeaseState::Ended, LeaseState::None];
        let taken = inner.step("settled", id, &[LeaseState::Conflict], &to, |inner| {
            inner.conflicts.remove(&id)
        });
        taken.ok().flatten()
    }

    /// Puts back a conflict that could not be settled.
    pub fn put_conflict_back(&self, lease: Lease, conflict: Conflict) {
        let id = lease.id;
        let from = [LeaseState::Ended, LeaseState::None];
        drop(
            self.lock()
                .step("put back", id, &from, &[LeaseState::Conflict], |inner| {
                    inner.conflicts.insert(id, (lease, conflict));
                }),
        );
    }

    /// The oldest conflict, if there are more than `REMEMBERED`.
    pub fn surplus_conflict(&self) -> Option<Lease> {
        let inner = self.lock();
        let oldest = inner.conflicts.values().next().map(|(lease, _)| lease.clone());
        oldest.filter(|_| REMEMBERED < inner.conflicts.len())
    }

    /// Leases held by a session.
    pub fn held_by(&self, session: u64) -> Vec<Lease> {
        self.lock()
            .open
            .values()
            .filter(|l| l.session == session)
            .cloned()
            .collect()
    }

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

    /// Notes that another thread is undoing the lease: the revert thread looks again after a delay, in case that fails.
    pub fn postpone(&self, id: u64, cause: &Cause) {
        let now = BootTime::now();
        if let Some(lease) = self.lock().open.get_mut(&id) {
            let why = "it is just being undone".to_owned();
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

    /// Takes the faults of the agent that the table has noticed.
    pub fn faults(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().faults)
    }

    /// Stops the revert thread.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }
}

impl Inner {
    /// Marks a lease as due now, with the cause of its previous end: that end passed first, or the change could not be
    /// rearmed.
    fn is_over(&mut self, before: &Lease, why: &str) {
        if let Some(lease) = self.open.get_mut(&before.id) {
            let (now, (_, cause)) = (BootTime::now(), before.due());
            let why = why.to_owned();
            lease.failing.get_or_insert(Failing {
                why,
                since: now,
                again: now,
                cause,
                tried: false,
            });
        }
    }

    fn find(&self, id: u64) -> Result<&Lease, EndError> {
        if let Some(lease) = self.open.get(&id) {
            return Ok(lease);
        }
        if let Some(lease) = self.ending.get(&id) {
            // The caller needs the earlier error more than the fact that an attempt is running.
            let before = lease.failing.as_ref().filter(|failing| failing.tried);
            return Err(before.map_or(EndError::Ending(id), |failing| EndError::Failing {
                id,
                why: failing.why.clone(),
                first: false,
            }));
        }
        match self.ended.get(&id) {
            Some(how) => Err(EndError::Ended { id, how }),
            None => Err(EndError::Unknown(id)),
        }
    }

    /// Returns an open lease if [`Lease::alive`] accepts it.
    fn alive(&mut self, id: u64, owner: &str, now: BootTime) -> Result<&mut Lease, EndError> {
        self.find(id)?;
        let Some(lease) = self.open.get_mut(&id) else {
            return Err(EndError::Unknown(id));
        };
        // Taking the lock may have taken time.
        lease.alive(owner, now.max(BootTime::now()))?;
        Ok(lease)
    }

    fn due(&self, now: BootTime) -> Vec<(u64, Cause)> {
        let due = self
            .open
            .values()
            .map(|lease| (lease.id, lease.due()))
            .filter(|(_, (at, _))| *at <= now);
        due.map(|(id, (_, cause))| (id, cause)).collect()
    }

    fn remember(&mut self, id: u64, how: &'static str) {
        self.ended.insert(id, how);
        // Never the one that ended just now, however old it is.
        while self.ended.len() > REMEMBERED {
            let oldest = self.ended.keys().find(|other| **other != id).copied();
            oldest.and_then(|oldest| self.ended.remove(&oldest));
        }
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

/// Whether two targets overlap: the same point, or state paths of which one is a prefix of the other.
pub fn overlaps(a: &Resource, b: &Resource) -> bool {
    match (a, b) {
        (Resource::State(a), Resource::State(b)) => a.iter().zip(b).all(|(x, y)| x == y),
        _ => a == b,
    }
}

fn same_state(a: &Resource, b: &Resource) -> bool {
    matches!((a, b), (Resource::State(a), Resource::State(b)) if a.first() == b.first())
}
