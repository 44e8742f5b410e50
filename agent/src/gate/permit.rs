//! Permits, and what becomes of one that is not spent.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Value, json};

use super::Refusal;
use crate::core::Core;
use crate::effect::Effect;
use crate::lease::{Cause, Lease, Making};
use crate::records;
use crate::state::Wait;

/// Leave to execute one effect once. Neither `Clone` nor `Default`; only [`super::pass`] makes one. A lease that was opened
/// for it ends with it if it is dropped unspent.
#[must_use = "an effect happens only where its permit is spent"]
pub(crate) struct Permit<'a> {
    pub(super) effect: Effect,
    pub(super) lease: Option<Opened<'a>>,
}

impl<'a> Permit<'a> {
    /// The effect, with the lease that was opened for it. Consumes the permit.
    pub(crate) fn spend(self) -> (Effect, Option<Opened<'a>>) {
        (self.effect, self.lease)
    }
}

/// Leave to answer one call of a method that is no eval; whoever answers takes it.
#[must_use = "only who has leave answers"]
pub(crate) struct MethodPermit(pub(super) ());

/// A lease that is in the log, and whose change is not in force yet.
///
/// Whatever ends this before [`kept`](Self::kept), a panic included, ends the lease with its one terminal record.
#[must_use = "dropped, it takes its lease back"]
pub(crate) struct Opened<'a> {
    core: &'a Core,
    lease: Lease,
    /// Nobody ends it while this is there.
    making: Option<Making<'a>>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// Nothing of the service was changed.
    Waits,
    /// It may be in force.
    Begun,
    /// Its end or its keeping is told.
    Told,
}

impl<'a> Opened<'a> {
    /// Takes in a lease that the log has.
    ///
    /// # Errors
    /// None is taken in any more.
    pub(super) fn open(core: &'a Core, lease: Lease) -> Result<Self, Refusal> {
        // From here on: it stands in the log.
        let mut opened = Self { core, lease, making: None, stage: Stage::Waits };
        match core.leases.open(opened.lease.clone()) {
            Ok(making) => {
                opened.making = Some(making);
                Ok(opened)
            }
            Err(_) => {
                opened.end_untouched(Cause::Shutdown.kind(), "the agent is stopping");
                Err(Refusal::state("the agent is stopping", "nothing was changed"))
            }
        }
    }

    /// The lease.
    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Its change is made now: from here on it may be in force, and is undone if this is dropped.
    pub(crate) fn begin(&mut self) {
        self.stage = Stage::Begun;
    }

    /// The change is in force, and its eval knows that it has made it.
    pub(crate) fn kept(mut self) {
        self.stage = Stage::Told;
    }

    /// The change could not be made and is not in force.
    pub(crate) fn never_made(mut self, why: &str) {
        self.end_untouched(Cause::Undone.kind(), why);
    }

    fn end_untouched(&mut self, kind: &'static str, why: &str) {
        self.stage = Stage::Told;
        let core = self.core;
        core.leases.withdraw(self.lease.id);
        let detail = json!({ "never_made": core.scrub(why) });
        let undone = records::Told::default();
        core.append(vec![records::lease_ended(kind, &self.lease, "agent", &undone, detail)]);
        core.mark();
    }

    /// What a fault left: undone, if it may be in force.
    fn give_up(&mut self) {
        match self.stage {
            Stage::Told => {}
            Stage::Waits => {
                self.end_untouched(Cause::Undone.kind(), "a fault of the agent came before the change");
            }
            Stage::Begun => {
                self.stage = Stage::Told;
                drop(self.making.take());
                // What cannot be undone now is an alarm in the log and tried again.
                drop(self.core.end_lease(self.lease.id, &Cause::Undone, "agent", Wait::AGENT));
            }
        }
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        // The usual case costs nothing; otherwise a panic may be on its way through here, and a second one would end the service.
        if self.stage != Stage::Told
            && let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.give_up()))
        {
            drop(catch_unwind(AssertUnwindSafe(|| drop(panic))));
            let id = self.lease.id;
            let body = json!({ "lease": id, "revert_failed": "a fault of the agent", "detail": Value::Null });
            self.core.append(vec![records::kept("alarm", body)]);
            self.core
                .emitter
                .alarm(&format!("lease {id} could not be taken back after a fault of the agent"));
        }
    }
}
