//! Permits, and the cleanup of a permit that is not spent.

use std::panic::{AssertUnwindSafe, catch_unwind};

use debug_wire::records::Alarm;
use serde_json::json;

use super::Door;
use crate::effect::{Effect, Refusal};
use crate::recorder::records;
use debug_base::Wait;
use debug_lease::{Begun, Cause, Lease, Making, NotOpened};

/// The permission to execute one effect once. It is neither `Clone` nor `Default`; only [`super::pass`] makes one.
/// Dropping it unspent ends the lease that was opened for it.
#[must_use = "an effect happens only where its permit is spent"]
pub(crate) struct Permit<'a> {
    pub(super) effect: Effect,
    pub(super) lease: Option<Opened<'a>>,
}

impl<'a> Permit<'a> {
    /// Consumes the permit; returns the effect and the lease that was opened for it.
    pub(crate) fn spend(self) -> (Effect, Option<Opened<'a>>) {
        (self.effect, self.lease)
    }
}

/// The permission to answer one call of a method.
#[must_use = "a call is answered against its permit"]
pub(crate) struct MethodPermit(pub(super) ());

/// A lease that is in the log but has no change in force yet.
///
/// If it is dropped before [`kept`](Self::kept), also by a panic, the lease ends with its one terminal record.
#[must_use = "dropped, it takes its lease back"]
pub(crate) struct Opened<'a> {
    door: Door<'a>,
    lease: Lease,
    /// The leases that the author of the change agreed to cover.
    covers: Vec<u64>,
    /// Keeps other threads from ending the lease.
    making: Option<Making<'a>>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// The service is unchanged.
    Waits,
    /// The change may be in force.
    Begun,
    /// Nothing is left to take back.
    Told,
}

impl<'a> Opened<'a> {
    /// Opens a lease that the log has.
    ///
    /// # Errors
    /// The agent is stopping and opens no more leases, or has a fault.
    pub(super) fn open(door: Door<'a>, lease: Lease, covers: Vec<u64>) -> Result<Self, Refusal> {
        // From here on the record in the log needs its terminal record.
        let mut opened = Self {
            door,
            lease,
            covers,
            making: None,
            stage: Stage::Waits,
        };
        match door.changes.leases.open(opened.lease.clone()) {
            Ok(making) => {
                opened.making = Some(making);
                Ok(opened)
            }
            Err(refused) => {
                let (cause, why) = match refused {
                    NotOpened::Closed => (Cause::Shutdown, refused.to_string()),
                    NotOpened::Fault(_) => (Cause::Undone, opened.fault("cannot be opened")),
                };
                opened.end_untouched(cause.kind(), &why);
                Err(Refusal::state(why, "nothing was changed"))
            }
        }
    }

    /// The lease.
    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The leases that the author of the change agreed to cover.
    pub(crate) fn covers(&self) -> &[u64] {
        &self.covers
    }

    /// The change is to be applied now: from here on it may be in force, and a drop reverts it.
    ///
    /// # Errors
    /// A fault of the agent: the change has begun before.
    pub(crate) fn begin(&mut self) -> Result<Begun, String> {
        self.step(Stage::Waits, Stage::Begun)?;
        let begun = self.making.as_mut().and_then(Making::begin);
        begun.ok_or_else(|| self.fault("is not in the table"))
    }

    /// The change is in force, and its eval has noted it. If that was not to be, the change is taken back.
    pub(crate) fn kept(mut self) {
        // The fault is an alarm already, and the drop reverts the change.
        drop(self.step(Stage::Begun, Stage::Told));
    }

    /// Goes from one stage to the next. A permit in another stage is a fault of the agent: an alarm and a refusal.
    fn step(&mut self, from: Stage, to: Stage) -> Result<(), String> {
        if self.stage == from {
            self.stage = to;
            return Ok(());
        }
        Err(self.fault(&format!(
            "was to go from {from:?} to {to:?}, and is {:?}",
            self.stage
        )))
    }

    /// Records a fault of the agent about this lease; returns what the operator is told.
    fn fault(&self, what: &str) -> String {
        let id = self.lease.id;
        let fault = format!("lease {id} {what}");
        let recorder = &self.door.recorder;
        recorder.append(vec![records::kept(&Alarm {
            fault: Some(fault.clone()),
            ..Alarm::default()
        })]);
        recorder.emitter.alarm(&format!("a fault of the agent: {fault}"));
        format!("lease {id} is not at this step; this is a fault of the agent")
    }

    /// The change failed to apply and is not in force.
    pub(crate) fn never_made(mut self, why: &str) {
        self.end_untouched(Cause::Undone.kind(), why);
    }

    fn end_untouched(&mut self, kind: &'static str, why: &str) {
        self.stage = Stage::Told;
        let door = self.door;
        door.changes.leases.withdraw(self.lease.id);
        let detail = json!({ "never_made": door.exposed.scrub(why) });
        let undone = records::EndReport::default();
        door.recorder.append(vec![records::lease_ended(
            kind,
            &self.lease,
            "agent",
            &undone,
            detail,
        )]);
        door.changes.mark(&door.recorder.emitter);
    }

    /// Cleans up after a fault: reverts the change if it may be in force.
    fn give_up(&mut self) {
        match self.stage {
            Stage::Told => {}
            Stage::Waits => {
                self.end_untouched(
                    Cause::Undone.kind(),
                    "a fault of the agent came before the change",
                );
            }
            Stage::Begun => {
                self.stage = Stage::Told;
                drop(self.making.take());
                // A revert that fails now is an alarm in the log, and is tried again.
                drop(
                    self.door
                        .ends
                        .end(self.lease.id, &Cause::Undone, "agent", Wait::AGENT),
                );
            }
        }
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        // In the normal case this does nothing. Otherwise a panic may be unwinding, and a second one would abort the
        // service.
        if self.stage != Stage::Told
            && let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.give_up()))
        {
            drop(catch_unwind(AssertUnwindSafe(|| drop(panic))));
            let id = self.lease.id;
            self.door.recorder.append(vec![records::kept(&Alarm {
                lease: Some(id),
                revert_failed: Some("a fault of the agent".to_owned()),
                ..Alarm::default()
            })]);
            self.door.recorder.emitter.alarm(&format!(
                "lease {id} could not be taken back after a fault of the agent"
            ));
        }
    }
}
