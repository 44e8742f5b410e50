//! The terms of a lease: who holds it and when it ends. A change that stops at the lease's end by the clock is rearmed with
//! each new end.

use std::sync::MutexGuard;

use super::{EndError, Leases, Table};
use crate::{Cause, Failing, GRACE, Lease, Phase, Rearmed};
use debug_base::BootTime;
use debug_wire::messages::After;

/// Why a lease that was renewed or adopted too late ends at once.
const OVER: &str = "its time was over before it could be given more";

impl Leases {
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
    fn renewed(&self, inner: MutexGuard<'_, Table>, before: Lease) -> Result<Lease, EndError> {
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
}

impl Table {
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
}
