//! The end of a lease: its one terminal record, and what its end changes for others.

use debug_audit::Until;
use debug_policy::Resource;
use debug_wire::messages::EndedLease;
use debug_wire::records::Alarm;
use serde_json::{Value, json};

use super::Core;
use crate::recorder::records;
use debug_base::{Basis, Path, Tree, Wait};
use debug_lease::{Cause, EndError, Ended, Lease, Stands, Undone};
use debug_state::Origin;

impl Core {
    /// Ends a lease and writes its one terminal record.
    ///
    /// # Errors
    /// What happened to the lease instead, or why it could not be reverted. In the latter case an alarm is recorded and
    /// the revert is tried again.
    pub(crate) fn end_lease(&self, id: u64, cause: &Cause, by: &str, wait: Wait) -> Result<String, EndError> {
        self.end_lease_of(id, None, cause, by, wait)
    }

    /// Ends a lease for a cause of the agent's own. On failure, also on a panic, an alarm is recorded and the revert
    /// thread tries again; the caller goes on with the next lease.
    pub(crate) fn see_to_end(&self, id: u64, cause: &Cause, wait: Wait) {
        let end = || drop(self.end_lease(id, cause, "agent", wait));
        if self.guarded("ending a lease", end).is_none() {
            self.changes.leases.postpone(id, cause);
        }
    }

    /// As [`end_lease`](Self::end_lease), if the lease still belongs to `owner`. Every end of a change that was in force goes through
    /// here; a lease whose change never was in force is ended by the gate (`Opened`).
    ///
    /// # Errors
    /// As there; and if another operator has adopted the lease.
    pub(crate) fn end_lease_of(
        &self,
        id: u64,
        owner: Option<&str>,
        cause: &Cause,
        by: &str,
        wait: Wait,
    ) -> Result<String, EndError> {
        match self.changes.leases.end_of(id, owner, cause, wait) {
            Ok(ended) => {
                self.learn_again(&ended.lease);
                self.record_end(&ended, cause, by);
                self.settle_surplus();
                self.mark();
                let target = ended.lease.target().to_string();
                self.recorder.emitter.lease_ended(id, &target, cause.word());
                Ok(sentence(id, &target, &ended.undone))
            }
            Err(error) => {
                self.alarm_if_first(&error);
                Err(error)
            }
        }
    }

    /// Learns the secrets that the end of a lease may have brought back, before anything of the end is told.
    fn learn_again(&self, lease: &Lease) {
        let Resource::State(path) = lease.target() else {
            return;
        };
        let path = Path(path.clone());
        let (scrubber, redactor) = (&self.exposed.scrubber, &self.exposed.redactor);
        // Learn what stands in the state now before the scrubber forgets the value that the lease replaced. It may be
        // elsewhere by now, so the whole state is read; if that fails, nothing is forgotten.
        let whole = Path(path.0.iter().take(1).cloned().collect());
        if self.exposed.read(&whole, Wait::AGENT).is_ok() {
            // Learning nothing under an origin forgets what was learnt there.
            scrubber.learn(Origin::replaced(lease.id), &Tree::Null);
        }
        // Layers above may have inherited the value below the lease as their base: it can come back, so the scrubber must
        // know it.
        for (above, path, base) in self.changes.writes.bases(&path) {
            let base = base.unwrap_or(Tree::Null);
            scrubber.learn(Origin::replaced(above), &redactor.mark(&path, base));
        }
    }

    /// Writes the terminal record, and tells the holder.
    fn record_end(&self, ended: &Ended, cause: &Cause, by: &str) {
        let Ended { lease, undone } = ended;
        let detail = cause.detail().map(|seen| self.exposed.scrub(seen));
        let how = match undone.conflict {
            Some(_) => "conflict",
            None => cause.word(),
        };
        self.changes.leases.ended(lease.id, how);
        let record = records::lease_ended(
            cause.kind(),
            lease,
            by,
            &self.told(undone),
            detail.as_deref().map_or(Value::Null, Value::from),
        );
        let recorded = self.recorder.log.append(vec![record], Until::Written);
        // The reply to the holder's own eval reports what that eval reverted.
        let holder = self.sessions().get(&lease.session).cloned();
        let Some(holder) = holder.filter(|_| *cause != Cause::Undone) else {
            return;
        };
        let why = match cause {
            // What a guard saw was readable to the guard's author, who need not be the lease's holder.
            Cause::GuardFailed(_) => String::new(),
            _ => debug_base::cut(&detail.unwrap_or_default()),
        };
        let ended = EndedLease {
            id: lease.id,
            target: lease.target().to_string(),
            how: how.to_owned(),
            why,
        };
        holder.lease_ended(ended, recorded);
    }

    /// Raises an alarm for the first failure to undo a change.
    fn alarm_if_first(&self, error: &EndError) {
        if let EndError::Failing { id, why, first: true } = error {
            self.recorder.append(vec![records::kept(&Alarm {
                lease: Some(*id),
                revert_failed: Some(why.clone()),
                ..Alarm::default()
            })]);
            self.recorder
                .emitter
                .alarm(&format!("lease {id} could not be undone: {why}"));
        }
    }

    /// The outcome of a revert, for its record: digests, never values.
    fn told(&self, undone: &Undone) -> records::EndReport {
        records::EndReport {
            conflict: undone.conflict.as_ref().map(|conflict| conflict.why.clone()),
            covered_by: undone.covered_by,
            restored: undone
                .stands
                .as_ref()
                .map_or(Value::Null, |stands| self.stands(stands)),
            base: undone.base.as_ref().map_or(Value::Null, |base| self.stands(base)),
            foreign: undone.foreign,
            found: undone.found.as_ref().map(Path::to_string),
            compared: compared(undone),
        }
    }

    fn stands(&self, stands: &Stands) -> Value {
        match stands {
            Stands::Value(value) => self.recorder.digest(value),
            Stands::Nothing => self.recorder.digest_of(None),
            Stands::Layers(count) => json!({ "layers": count }),
        }
    }

    /// Settles the oldest conflict as `keep` if too many wait for an operator to settle them.
    fn settle_surplus(&self) {
        if let Some(lease) = self.changes.leases.surplus_conflict()
            && self.changes.leases.take_conflict(lease.id).is_some()
        {
            let detail = json!("too many conflicts wait to be settled");
            self.recorder.append(vec![records::lease_settled(
                &lease,
                "agent",
                "keep",
                &Value::Null,
                detail,
            )]);
        }
    }
}

/// What the operator who ended a lease is told.
fn sentence(id: u64, target: &str, undone: &Undone) -> String {
    match (&undone.conflict, undone.covered_by) {
        (Some(conflict), _) => format!(
            "lease {id}: {target} was not restored whole: {}; `settle({id}, \"keep\")` leaves it so, \
             `settle({id}, \"force\")` undoes the change all the same, once its place is known",
            conflict.why
        ),
        (None, Some(above)) => {
            format!("lease {id}: ended; {target} stays as lease {above} above it made it")
        }
        (None, None) => format!("lease {id}: {}", ended_as(target, undone)),
    }
}

/// What the agent says about the target of a reverted change: no more than it saw.
fn ended_as(target: &str, undone: &Undone) -> String {
    let found = undone
        .found
        .as_ref()
        .map(|now| format!("; it moved meanwhile and is `{now}` now"));
    let found = found.unwrap_or_default();
    match undone.stands {
        Some(Stands::Layers(0)) => format!("{target} is as it was before"),
        Some(Stands::Layers(_)) => format!("{target} is as the others in force there make it"),
        _ if undone.is_as_before() => format!("{target} is as it was before{found}"),
        Some(_) => format!(
            "what was changed at {target} is undone; what the service itself wrote there meanwhile stays{found}"
        ),
        None => format!("{target} was undone; what stands there was not seen"),
    }
}

/// What the comparison in a record is based on.
fn compared(undone: &Undone) -> &'static [&'static str] {
    match (&undone.stands, undone.basis) {
        (Some(Stands::Layers(_)), _) => &["layers"],
        (_, Some(Basis::Names)) => &["value"],
        (_, Some(Basis::WholeList)) => &["value", "list"],
        (_, Some(Basis::Identity)) => &["value", "identity"],
        (_, Some(Basis::Neighbours)) => &["value", "length", "neighbours"],
        (_, None) => &[],
    }
}
