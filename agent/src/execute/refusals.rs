//! Why effects on leases are refused.

use debug_wire::messages::NotEnded;

use crate::changes::snapshot::SnapshotError;
use crate::effect::Refusal;
use debug_lease::{ChangeError, EndError};

/// The error for a lease that has a guard: it can have only one.
pub(crate) fn guarded_already(id: u64) -> Refusal {
    Refusal::state(
        format!("lease {id} has a guard already"),
        "one condition can say it all",
    )
}

/// The error for a conflict that is settled already.
pub(crate) fn settled_before(id: u64) -> Refusal {
    Refusal::state(format!("lease {id} was settled before"), "nothing is left to do")
}

/// The error for a conflict that could not be reverted by force, with advice.
pub(crate) fn not_forced(id: u64, error: &ChangeError) -> Refusal {
    let help = format!(
        "nothing was changed; `settle({id}, \"keep\")` leaves it so, and what stands there can be written by hand"
    );
    Refusal::state(error.to_string(), help)
}

/// The error for a snapshot that was not taken.
pub(crate) fn not_kept(error: &SnapshotError) -> Refusal {
    Refusal::state(
        error.to_string(),
        "`snapshots()` lists them; take it of fewer paths or under another name",
    )
}

pub(crate) fn broken(why: &str) -> Refusal {
    Refusal::state(
        why,
        "nothing was changed; a guard must be true before the change and stay so",
    )
}

/// The most changes that an error names one by one.
pub(super) const MAX_NAMED: usize = 20;

/// The first [`MAX_NAMED`], and the number of further ones.
pub(super) fn named(mut all: impl Iterator<Item = String>) -> String {
    let mut named: Vec<String> = all.by_ref().take(MAX_NAMED).collect();
    let more = all.count();
    named.extend((more > 0).then(|| format!("and {more} more")));
    named.join(", ")
}

/// The error for leases that could not be ended.
pub(super) fn not_all(done: &[String], standing: &[NotEnded]) -> Refusal {
    let stand = named(
        standing
            .iter()
            .map(|lease| format!("lease {} at {} ({})", lease.id, lease.target, lease.why)),
    );
    let ended = named(done.iter().cloned());
    let ended = if ended.is_empty() {
        String::new()
    } else {
        format!("; ended: {ended}")
    };
    let (standing, all) = (standing.len(), standing.len() + done.len());
    Refusal::state(
        format!("{standing} of {all} changes could not be ended yet: {stand}{ended}"),
        "each is tried again until it has ended; `leases()` shows which stand",
    )
}

pub(crate) fn ended(error: &EndError) -> Refusal {
    let help = match error {
        EndError::Ended { how: "conflict", .. } => {
            "`settle(id, \"keep\")` leaves what the service changed, `settle(id, \"force\")` undoes the change all the same, once its place is known"
        }
        EndError::Unknown(_) => "`leases()` lists those in force",
        EndError::Ended {
            how: "never made", ..
        } => "nothing is left to do; it changed nothing",
        EndError::Ended {
            how: "conflict, settled",
            ..
        } => "nothing is left to do; what became of its conflict stands in the log",
        EndError::Ended { .. } => "nothing is left to do; the record of its end says what stood there then",
        EndError::Ending(_) => "look at `leases()` again",
        EndError::Failing { .. } => "`leases()` shows it until it succeeds",
        EndError::Busy(_) => "nothing was changed",
        EndError::Owner(_) => "look at `leases()` and decide anew",
        EndError::InForce(_) => "`revert(id)` ends it; only what ended as a conflict is settled",
        EndError::Fault(_) => "restart the service to be sure that nothing of it is left",
        EndError::Confirmed(_) => "`extend(id, ttl)` sets another deadline",
    };
    Refusal::state(error.to_string(), help)
}
