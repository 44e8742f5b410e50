use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use debug_policy::Resource;
use debug_wire::messages::{After, InForce};

use super::planted::{Fault, planted};
use super::{Cause, ChangeError, Conflict, Failing, GRACE, Lease, Phase, Rearmed, Undone};
use crate::clock::BootTime;
use crate::fence::{Panicked, fenced};
use crate::state::Wait;
use crate::threads::Next;

/// How long after a failed undo it is tried again: after a quarter of the time that it has failed for, but no sooner and no
/// later than this. A setter that panics does so for as long as it likes, and should not fill the service's log.
const RETRY: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(1);

/// When an undo that has failed since `since` is tried again.
fn again(since: BootTime, now: BootTime) -> BootTime {
    now.after((now.since(since) / 4).clamp(*RETRY.start(), *RETRY.end()))
}

/// All leases of the process.
pub(crate) struct Leases {
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    next: u64,
    /// In force, by id; also those whose undo failed.
    open: BTreeMap<u64, Lease>,
    /// Being ended right now, so that nobody ends them twice.
    ending: BTreeMap<u64, Lease>,
    /// The causes of the last ended leases, for errors that tell the real state.
    ended: BTreeMap<u64, &'static str>,
    /// Ended, but somebody else had changed a part of it: until somebody settles what is to become of that.
    conflicts: BTreeMap<u64, (Lease, Conflict)>,
    /// What is about to be changed and by whom, by the id of the lease to be.
    claimed: BTreeMap<u64, (Resource, String)>,
    /// In force, but their change is not made yet: there is nothing to undo.
    making: BTreeSet<u64>,
    /// No lease is taken in any more.
    closed: bool,
    stopped: bool,
}

/// How many ended leases are remembered by id, and how many conflicts wait to be settled.
const REMEMBERED: usize = 1_000;

/// A change that is in force past its end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Overdue {
    pub(crate) lease: u64,
    pub(crate) target: Resource,
    /// For how long.
    pub(crate) by: Duration,
    /// What the last attempt to undo it met.
    pub(crate) why: Option<String>,
}

/// The list of leases has been in somebody's hands for too long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stuck;

/// Why a lease could not be ended or renewed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum EndError {
    /// No such id.
    #[error("there is no lease {0}")]
    Unknown(u64),
    /// Ended before.
    #[error("lease {id} has already ended: {how}")]
    Ended {
        /// The lease.
        id: u64,
        /// The word of its terminal record.
        how: &'static str,
    },
    /// Being ended by somebody else at this moment.
    #[error("lease {0} is being ended right now")]
    Ending(u64),
    /// Undoing failed; it is tried again.
    #[error("lease {id} could not be undone: {why}; it is tried again until it succeeds")]
    Failing {
        /// The lease.
        id: u64,
        /// In words.
        why: String,
        /// Whether it had not failed before.
        first: bool,
    },
    /// It has become another operator's since policy was asked.
    #[error("lease {0} is another operator's by now")]
    Owner(u64),
    /// It has not ended, so there is nothing to settle.
    #[error("lease {0} is in force")]
    InForce(u64),
    /// It cannot be told of another deadline at this moment.
    #[error("lease {0} stays as it was: its state is in use; try again")]
    Busy(u64),
    /// It was confirmed before.
    #[error("lease {0} was confirmed before")]
    Confirmed(u64),
}

/// The right to make the next lease on a target.
pub(crate) struct Claim<'a> {
    leases: &'a Leases,
    /// Of the lease to be.
    pub(crate) id: u64,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.leases.lock().claimed.remove(&self.id);
    }
}

/// A change that is being made. Its lease can be ended once this is dropped.
#[must_use = "while it lives, nobody ends the lease"]
pub(crate) struct Making<'a> {
    leases: &'a Leases,
    id: u64,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.leases.lock().making.remove(&self.id);
        self.leases.changed.notify_all();
    }
}

/// A lease that has ended.
pub(crate) struct Ended {
    /// As it was.
    pub(crate) lease: Lease,
    /// How undoing went.
    pub(crate) undone: Undone,
}

impl Leases {
    /// None yet; the first id is one above `highest`.
    pub(crate) fn after(highest: u64) -> Self {
        let inner = Inner {
            next: if planted(Fault::IdsAgain) { 1 } else { highest + 1 },
            open: BTreeMap::new(),
            ending: BTreeMap::new(),
            ended: BTreeMap::new(),
            conflicts: BTreeMap::new(),
            claimed: BTreeMap::new(),
            making: BTreeSet::new(),
            closed: false,
            stopped: false,
        };
        Self { inner: Mutex::new(inner), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // INVARIANT: no code of the service runs under this lock, so it is never poisoned half-way through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of the next lease, with its target kept free of others until the lease is taken in or the claim dropped.
    /// Between looking what stands there and taking the lease in lies a wait for the disk.
    ///
    /// # Errors
    /// Whose claim overlaps, as they called themselves.
    pub(crate) fn claim(&self, target: &Resource, by: impl Into<String>) -> Result<Claim<'_>, String> {
        let mut inner = self.lock();
        if let Some((_, by)) = inner.claimed.values().find(|(claimed, _)| overlaps(claimed, target)) {
            return Err(by.clone());
        }
        let id = inner.next;
        inner.next += 1;
        inner.claimed.insert(id, (target.clone(), by.into()));
        Ok(Claim { leases: self, id })
    }

    /// Takes a lease in, before its change is made. It cannot be ended while the guard lives.
    ///
    /// # Errors
    /// The lease, if none is taken in any more.
    pub(crate) fn open(&self, lease: Lease) -> Result<Making<'_>, Box<Lease>> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(Box::new(lease));
        }
        let id = lease.id;
        inner.making.insert(id);
        inner.open.insert(id, lease);
        drop(inner);
        self.changed.notify_all();
        Ok(Making { leases: self, id })
    }

    /// The id of the next lease, if nothing claims it before.
    pub(crate) fn next_id(&self) -> u64 {
        self.lock().next
    }

    /// From now on no lease is taken in: those in the list are the last.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    /// Takes one out again whose change could not be made.
    pub(crate) fn withdraw(&self, id: u64) {
        let mut inner = self.lock();
        inner.open.remove(&id);
        inner.remember(id, "never made");
    }

    /// The leases in force, oldest first.
    pub(crate) fn list(&self) -> Vec<Lease> {
        let inner = self.lock();
        inner.open.values().chain(inner.ending.values()).cloned().collect()
    }

    /// How many there are, and when the first of them reverts; one that could not be undone yet is past its time.
    pub(crate) fn in_force(&self, now: BootTime) -> InForce {
        let inner = self.lock();
        let (mut count, mut shortest) = (0, None);
        for lease in inner.open.values().chain(inner.ending.values()) {
            count += 1;
            shortest = Some(lease.until()).into_iter().chain(shortest).min();
        }
        let left = |until: BootTime| u64::try_from(until.remaining(now).as_millis()).unwrap_or(u64::MAX);
        InForce { count, shortest_ms: shortest.map(left) }
    }

    /// One lease in force.
    ///
    /// # Errors
    /// What became of it.
    pub(crate) fn find(&self, id: u64) -> Result<Lease, EndError> {
        self.lock().find(id).cloned()
    }

    /// The newest lease in force whose target is `target`, lies inside it or contains it.
    #[cfg(test)]
    pub(crate) fn standing(&self, target: &Resource) -> Option<Lease> {
        let inner = self.lock();
        inner
            .open
            .values()
            .chain(inner.ending.values())
            .filter(|l| overlaps(l.target(), target))
            .max_by_key(|l| l.id)
            .cloned()
    }

    /// A lease that could not be undone yet and is in the way of a change of `target`: at the same point, or in the same
    /// state, since what goes wrong in one part of it may go wrong in all.
    pub(crate) fn failing_at(&self, target: &Resource) -> Option<Lease> {
        let inner = self.lock();
        let near = |lease: &&Lease| {
            let Some(failing) = &lease.failing else { return false };
            overlaps(lease.target(), target) || failing.tried && same_state(lease.target(), target)
        };
        inner.open.values().chain(inner.ending.values()).rfind(near).cloned()
    }

    /// Sets the deadline `ttl` from `now`, and confirms if asked to.
    ///
    /// # Errors
    /// What became of it; also when it is past its deadline and only not undone yet.
    pub(crate) fn renew(
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
        if confirm && lease.phase == Phase::Confirmed && !planted(Fault::ConfirmsTwice) {
            return Err(EndError::Confirmed(id));
        }
        lease.deadline = match planted(Fault::ExtendAdds) {
            true => lease.deadline.after(deadline.remaining(now)),
            false => deadline,
        };
        if confirm {
            lease.phase = Phase::Confirmed;
        }
        lease.tell();
        self.renewed(inner, before)
    }

    /// Makes a lease another operator's, in that operator's session.
    ///
    /// # Errors
    /// What became of it; also when it is past its deadline and only not undone yet.
    pub(crate) fn adopt(
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
        if !planted(Fault::AdoptKeepsOwner) {
            lease.owner = owner.to_owned();
        }
        (lease.session, lease.grace) = (session, None);
        lease.tell();
        self.renewed(inner, before)
    }

    /// Sees to it that a lease that was just changed and told so holds; returns it.
    ///
    /// # Errors
    /// What it was before was over first, or its change cannot be told now. Then it is as before.
    fn renewed(&self, inner: MutexGuard<'_, Inner>, before: Lease) -> Result<Lease, EndError> {
        let id = before.id;
        // Looked at once more behind the change of the deadline: a thread may stand still between any two steps.
        let over = before.until() <= BootTime::now();
        let Some(renewed) = inner.open.get(&id).cloned() else { return Err(EndError::Unknown(id)) };
        drop(inner);
        let rearmed = if over { Rearmed::Over } else { renewed.change.rearm(id) };
        if rearmed == Rearmed::InForce {
            self.changed.notify_all();
            return Ok(renewed);
        }
        let mut inner = self.lock();
        if let Some(lease) = inner.open.get_mut(&id) {
            (lease.owner, lease.session) = (before.owner.clone(), before.session);
            (lease.deadline, lease.phase, lease.grace) = (before.deadline, before.phase, before.grace);
            lease.tell();
        }
        if rearmed == Rearmed::Over {
            inner.is_over(&before);
        }
        drop(inner);
        self.changed.notify_all();
        Err(match rearmed {
            Rearmed::Over => EndError::Ended { id, how: before.due().1.word() },
            Rearmed::InForce | Rearmed::NotYet => EndError::Busy(id),
        })
    }

    /// Tells a change that keeps a deadline itself that there is another, behind [`Lease::tell`]. If the deadline of before came
    /// first, or if it cannot be told and must be, the lease ends as it would have before.
    fn rearm(&self, before: &Lease, must: bool) {
        /// A state is in use for milliseconds.
        const TRIES: usize = 3;
        let mut tries = (0..TRIES).map(|_| before.change.rearm(before.id));
        let last = tries.find(|rearmed| *rearmed != Rearmed::NotYet).unwrap_or(Rearmed::NotYet);
        if last == Rearmed::Over || must && last == Rearmed::NotYet {
            self.lock().is_over(before);
        }
        self.changed.notify_all();
    }

    /// Puts a lease back to what it was before it was renewed or adopted, when the eval that did so failed; returns it.
    /// Nothing if somebody else has done so since: then theirs counts.
    ///
    /// `lost`: whether the session that held it before is gone; then it gets its grace.
    pub(crate) fn restore(
        &self,
        before: &Lease,
        renewed: &Lease,
        lost: bool,
        now: BootTime,
    ) -> Option<Lease> {
        let mut inner = self.lock();
        let lease = inner.open.get_mut(&before.id)?;
        let was = lease.clone();
        let told = |lease: &Lease| (lease.deadline, lease.phase, lease.owner.clone());
        if told(lease) != told(renewed) {
            return None;
        }
        if (&lease.owner, lease.session) != (&before.owner, before.session)
            && renewed.session == lease.session
        {
            (lease.owner, lease.session) = (before.owner.clone(), before.session);
            lease.grace = before.grace.or_else(|| lost.then(|| now.after(GRACE)));
        }
        (lease.deadline, lease.phase) = (before.deadline, before.phase);
        let restored = lease.tell();
        drop(inner);
        self.rearm(&was, restored.until() > was.until());
        Some(restored)
    }

    /// Ends a lease and undoes its change. Whoever gets the answer writes its one terminal record.
    ///
    /// # Errors
    /// What became of it, or why undoing failed; then it stays and is tried again.
    #[cfg(test)]
    pub(crate) fn end(&self, id: u64, cause: &Cause, wait: Wait) -> Result<Ended, EndError> {
        self.end_of(id, None, cause, wait)
    }

    /// Ends a lease and undoes its change, if it is still that owner's for whom policy has decided. Whoever gets the answer
    /// writes its one terminal record.
    ///
    /// # Errors
    /// What became of it, or why undoing failed; then it stays and is tried again. It has become another operator's.
    pub(crate) fn end_of(
        &self,
        id: u64,
        owner: Option<&str>,
        cause: &Cause,
        wait: Wait,
    ) -> Result<Ended, EndError> {
        let lease = {
            let mut inner = self.lock();
            let found = inner.find(id)?;
            if owner.is_some_and(|owner| owner != found.owner) {
                return Err(EndError::Owner(id));
            }
            let target = found.target().clone();
            let other = inner.ending.values().find(|l| l.id != id && overlaps(l.target(), &target));
            // Two layers of one stack that end at once would each take the other for standing. This one is next.
            let later = other.map(|other| format!("lease {} of the same target is being ended", other.id));
            let making = inner.making.contains(&id).then(|| "its change is just being made".to_owned());
            if let Some(why) = making.or(later) {
                let since = BootTime::now();
                let again = again(since, since);
                if let Some(lease) = inner.open.get_mut(&id) {
                    let first = Failing { why, since, again, cause: cause.clone(), tried: false };
                    let failing = lease.failing.get_or_insert(first);
                    // Whoever ends what is due would otherwise come back at once, again and again.
                    failing.again = failing.again.max(again);
                }
                drop(inner);
                self.changed.notify_all();
                return Err(EndError::Ending(id));
            }
            let Some(lease) = inner.open.remove(&id) else { return Err(EndError::Ending(id)) };
            inner.ending.insert(id, lease.clone());
            lease
        };
        // The service's own code runs in here (serialization, comparison, drop): no lock of ours is held.
        // Should it panic all the same, the lease must not count as being ended for ever.
        let undone = fenced(|| lease.change.undo(id, wait));
        let undone =
            undone.unwrap_or_else(|Panicked| Err(ChangeError::Refused("undoing it panicked".to_owned())));
        let mut inner = self.lock();
        inner.ending.remove(&id);
        match undone {
            Ok(undone) => {
                inner.remember(id, "ended");
                if planted(Fault::EndsTwice) {
                    inner.open.insert(id, lease.clone());
                }
                if let Some(conflict) = &undone.conflict {
                    inner.conflicts.insert(id, (lease.clone(), conflict.clone()));
                }
                Ok(Ended { lease, undone })
            }
            Err(error) => {
                let why = error.to_string();
                let now = BootTime::now();
                let since = lease.failing.as_ref().map_or(now, |failing| failing.since);
                let first = !lease.failing.as_ref().is_some_and(|before| before.tried);
                let (again, cause) = (again(since, now), cause.clone());
                let failing = Failing { why: why.clone(), since, again, cause, tried: true };
                inner.open.insert(id, Lease { failing: Some(failing), ..lease });
                drop(inner);
                self.changed.notify_all();
                Err(EndError::Failing { id, why, first })
            }
        }
    }

    /// Remembers how a lease ended, for later errors.
    pub(crate) fn ended(&self, id: u64, how: &'static str) {
        self.lock().remember(id, how);
    }

    /// Gives the leases of a lost session their grace. Those that keep their deadline stay, and so do those that were
    /// confirmed, as long as they are.
    pub(crate) fn session_lost(&self, session: u64, now: BootTime) {
        self.tell(|lease| {
            let loses = lease.session == session && lease.after != After::Persist && lease.grace.is_none();
            if loses && !planted(Fault::NoGrace) {
                lease.grace = Some(now.after(GRACE));
            }
            loses
        });
    }

    /// Changes leases, and tells the changes of those that were how long these last now, and whoever waits for a deadline. Returns
    /// those.
    fn tell(&self, mut change: impl FnMut(&mut Lease) -> bool) -> Vec<Lease> {
        let mut inner = self.lock();
        let mut told = Vec::new();
        for lease in inner.open.values_mut() {
            let before = lease.clone();
            if change(lease) {
                told.push((before, lease.tell()));
            }
        }
        drop(inner);
        for (before, lease) in &told {
            self.rearm(before, lease.until() > before.until());
        }
        self.changed.notify_all();
        told.into_iter().map(|(_, lease)| lease).collect()
    }

    /// Ends every lease of an operator who may be here no longer, confirmed ones too, the newest first, so that nothing has
    /// to be rebased. Returns how many there were.
    #[cfg_attr(not(test), allow(dead_code, reason = "see `Core::revoke`"))]
    pub(crate) fn revoke(&self, owner: &str, why: &str, mut end: impl FnMut(u64, &Cause)) -> usize {
        let mut owned = self.list();
        owned.retain(|lease| lease.owner == owner);
        let cause = Cause::Revoked(why.to_owned());
        owned.iter().rev().for_each(|lease| end(lease.id, &cause));
        owned.len()
    }

    /// Hands the leases that an operator's lost sessions left to a new session; returns them.
    pub(crate) fn take_over(&self, owner: &str, session: u64) -> Vec<Lease> {
        self.tell(|lease| {
            // What is over only waits to be undone: coming back now does not bring it back.
            let left = lease.owner == owner && lease.grace.is_some() && BootTime::now() < lease.until();
            if left {
                lease.session = session;
                if !planted(Fault::GraceStays) {
                    lease.grace = None;
                }
            }
            left
        })
    }

    /// The leases that ended as a conflict and were not settled yet, each with what was left, oldest first.
    pub(crate) fn conflicts(&self) -> Vec<(Lease, Conflict)> {
        self.lock().conflicts.values().cloned().collect()
    }

    /// One of them.
    ///
    /// # Errors
    /// What became of the lease.
    pub(crate) fn conflict(&self, id: u64) -> Result<(Lease, Conflict), EndError> {
        let inner = self.lock();
        match inner.conflicts.get(&id) {
            Some(found) => Ok(found.clone()),
            None => Err(match inner.find(id) {
                Ok(_) => EndError::InForce(id),
                Err(error) => error,
            }),
        }
    }

    /// Takes a conflict out to be settled; nothing if somebody else has.
    pub(crate) fn take_conflict(&self, id: u64) -> Option<(Lease, Conflict)> {
        self.lock().conflicts.remove(&id)
    }

    /// Puts one back that could not be settled.
    pub(crate) fn put_conflict_back(&self, lease: Lease, conflict: Conflict) {
        self.lock().conflicts.insert(lease.id, (lease, conflict));
    }

    /// The oldest conflict, if more wait than are kept.
    pub(crate) fn surplus_conflict(&self) -> Option<Lease> {
        let inner = self.lock();
        let oldest = inner.conflicts.values().next().map(|(lease, _)| lease.clone());
        oldest.filter(|_| REMEMBERED < inner.conflicts.len())
    }

    /// Whether a session holds leases.
    pub(crate) fn held_by(&self, session: u64) -> Vec<Lease> {
        self.lock().open.values().filter(|l| l.session == session).cloned().collect()
    }

    /// Waits until leases are due and returns them with the cause; nothing once stopped.
    pub(crate) fn wait_due(&self) -> Option<Vec<(u64, Cause)>> {
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
            // A suspended host wakes this thread late; what it guards is checked where it is used as well.
            let nap =
                next.map_or(Duration::from_secs(1), |next| next.remaining(now).min(Duration::from_secs(1)));
            inner = self.changed.wait_timeout(inner, nap).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Somebody else was asked to end a lease: it comes up again later, should that fail.
    pub(crate) fn postpone(&self, id: u64, cause: &Cause) {
        let now = BootTime::now();
        if let Some(lease) = self.lock().open.get_mut(&id) {
            let why = "it is just being undone".to_owned();
            let asked = Failing { why, since: now, again: now, cause: cause.clone(), tried: false };
            let failing = lease.failing.get_or_insert(asked);
            failing.again = again(failing.since, now);
        }
    }

    /// When the next lease is due.
    pub(crate) fn next_due(&self) -> Option<BootTime> {
        self.lock().open.values().map(|lease| lease.due().0).min()
    }

    /// How many leases there are, and the one whose end is the longest overdue, of those whose change does not end by itself.
    /// Waits for nobody longer than 5 ms: whoever ends leases may have been stopped with the list in its hands.
    ///
    /// # Errors
    /// Somebody has.
    pub(crate) fn glance(&self, now: BootTime) -> Result<(usize, Option<Overdue>), Stuck> {
        let inner = lock_soon(&self.inner).ok_or(Stuck)?;
        let all = || inner.open.values().chain(inner.ending.values());
        let overdue = all().filter(|lease| !lease.change.ends_by_itself()).map(|lease| Overdue {
            lease: lease.id,
            target: lease.target().clone(),
            by: now.since(lease.over()),
            why: lease.failing.as_ref().map(|failing| failing.why.clone()),
        });
        let longest = overdue.max_by_key(|overdue| overdue.by).filter(|overdue| !overdue.by.is_zero());
        Ok((all().count(), longest))
    }

    /// The leases that are due at `now`; what the revert thread missed, seen from another.
    pub(crate) fn overdue(&self, now: BootTime) -> Vec<(u64, Cause)> {
        self.lock().due(now)
    }

    /// Stops the waiting thread.
    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }
}

impl Inner {
    /// A lease is over, as it was before somebody tried to change that.
    fn is_over(&mut self, before: &Lease) {
        if let Some(lease) = self.open.get_mut(&before.id) {
            let (now, (_, cause)) = (BootTime::now(), before.due());
            let why = "its time was over before it could be given more".to_owned();
            lease.failing.get_or_insert(Failing { why, since: now, again: now, cause, tried: false });
        }
    }

    fn find(&self, id: u64) -> Result<&Lease, EndError> {
        if let Some(lease) = self.open.get(&id) {
            return Ok(lease);
        }
        if let Some(lease) = self.ending.get(&id) {
            // What it met before is what whoever asks wants to know.
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

    /// A lease in force that is not past its deadline either, and still the owner's for whom policy has decided.
    fn alive(&mut self, id: u64, owner: &str, now: BootTime) -> Result<&mut Lease, EndError> {
        self.find(id)?;
        let Some(lease) = self.open.get_mut(&id) else { return Err(EndError::Unknown(id)) };
        // The lock may have been waited for.
        lease.alive(owner, now.max(BootTime::now()))?;
        Ok(lease)
    }

    fn due(&self, now: BootTime) -> Vec<(u64, Cause)> {
        let late = |at: BootTime| planted(Fault::DeadlineLate) && at == now;
        let due = self.open.values().map(|l| (l.id, l.due())).filter(|(_, (at, _))| *at <= now && !late(*at));
        due.map(|(id, (_, cause))| (id, cause)).collect()
    }

    fn remember(&mut self, id: u64, how: &'static str) {
        self.ended.insert(id, how);
        while self.ended.len() > REMEMBERED {
            self.ended.pop_first();
        }
    }
}

/// A lock, unless it takes longer than 5 ms to get it.
pub(crate) fn lock_soon<T>(lock: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
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

/// Whether two targets share something: the same point, or paths of which one contains the other.
pub(crate) fn overlaps(a: &Resource, b: &Resource) -> bool {
    match (a, b) {
        (Resource::State(a), Resource::State(b)) => a.iter().zip(b).all(|(x, y)| x == y),
        _ => a == b,
    }
}

fn same_state(a: &Resource, b: &Resource) -> bool {
    matches!((a, b), (Resource::State(a), Resource::State(b)) if a.first() == b.first())
}

impl Leases {
    /// Waits until something is due and runs `end_due` for each; the last turn is the one in which it is stopped.
    pub(crate) fn revert_turn(&self, mut end_due: impl FnMut(u64, Cause)) -> Next {
        let Some(due) = self.wait_due() else { return Next::End };
        for (id, cause) in due {
            end_due(id, cause);
        }
        Next::Turn
    }
}
