//! One eval in progress: its session, its permissions, and what it has done so far.

mod looks;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use debug_audit::{AppendError, Entry, Until};
use debug_policy::{Action, Mode, Request, Resource};
use debug_wire::messages::{After, Ends, NotEnded};
use debug_wire::records::{Alarm, Looked};
use rhai::{AST, Dynamic, Position, Scope};

use self::looks::Looks;
use crate::changes::Changes;
use crate::changes::exposed::Exposed;
use crate::changes::failed;
use crate::changes::snapshot::Snapshot;
use crate::effect::Refusal;
use crate::recorder::Recorder;
use crate::session::Session;
use crate::session::overlay::Overlay;
use crate::session::planning::Planning;
use debug_base::{Path, Tree, Wait};
use debug_lease::{ChangeError, Conflict, EndError, Lease};
use debug_script::copies::Switched;
use debug_script::meter;
use debug_state as state;
use debug_state::{Checked, Origin, Scrubber, Shown, StateError};

/// The most effects of one eval: as many as a read may have leaves.
pub(crate) const MAX_EFFECTS: u64 = 10_000;

/// Calls `ask`, and charges the eval one operation for each microsecond since the last charge in which it may have blocked
/// the service. One eval thus blocks the service's locks for a second at most, a fifth of its time, and for the rest of the
/// effect in which that second ends.
pub(crate) fn charged<R>(ask: impl FnOnce() -> R) -> R {
    let answer = ask();
    meter::charge(u64::try_from(state::take_asked().as_micros()).unwrap_or(u64::MAX));
    answer
}

/// One eval.
pub(crate) struct EvalContext {
    /// The session it came from.
    pub(crate) session: Arc<Session>,
    /// The id of the call.
    pub(crate) call: u64,
    /// Set when the operator cancels it or leaves.
    pub(crate) cancelled: Arc<AtomicBool>,
    record: u64,
    after: Option<After>,
    emergency: bool,
    /// Whether reachable closures capture variables; variables are then checked before each use.
    watches: AtomicBool,
    /// What its code compares with `switch`.
    switched: OnceLock<Switched>,
    /// Its secret arguments. They are secret in this eval only: an operator must not be able to hide values from others
    /// by calling them secret.
    bound: Scrubber,
    done: Mutex<Done>,
}

/// The effects and outputs of an eval so far.
#[derive(Default)]
struct Done {
    effects: u64,
    planning: Option<Planning>,
    steps: Vec<Step>,
    /// Whether it did more than read.
    acted: bool,
    /// The leases that it could not end.
    standing: Vec<NotEnded>,
    functions: Option<AST>,
    refusal: Option<Refusal>,
    held: bool,
    revealed: Shown,
    /// Whether its output held a secret that it had not revealed.
    hit: bool,
    sent: usize,
    looks: Looks,
    /// The leaves that steps of the code were given, by path and position in the code.
    given: HashMap<(Path, Position), Dynamic>,
}

/// An effect to undo if the eval fails.
pub(crate) enum Step {
    /// A lease was made.
    Made(u64),
    /// A lease was renewed.
    Renewed {
        /// The lease before.
        before: Box<Lease>,
        /// The lease after.
        after: Box<Lease>,
    },
    /// A lease got a guard.
    Guarded(u64),
    /// The mode was changed; the former mode and reason.
    Mode(Mode, Option<String>),
    /// A lease was ended. This is not undone: it made the service what it was.
    Reverted(u64),
}

impl EvalContext {
    /// An eval with the record number `record`.
    pub(crate) fn new(
        session: Arc<Session>,
        call: u64,
        cancelled: Arc<AtomicBool>,
        record: u64,
        after: Option<After>,
        emergency: bool,
    ) -> Self {
        Self {
            session,
            call,
            cancelled,
            record,
            after,
            emergency,
            watches: AtomicBool::new(false),
            switched: OnceLock::new(),
            bound: Scrubber::default(),
            done: Mutex::new(Done::default()),
        }
    }

    fn done(&self) -> MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the eval's record.
    pub(crate) fn record_number(&self) -> u64 {
        self.record
    }

    /// What happens to its leases when the session ends; without it no lease is made. A plan assumes `Revert`: the eval
    /// that runs the code must declare it.
    pub(crate) fn after(&self) -> Option<After> {
        self.after.or_else(|| self.is_planning().then_some(After::Revert))
    }

    /// Whether it is a single call that works even if the log cannot be written.
    pub(crate) fn emergency(&self) -> bool {
        self.emergency
    }

    /// The mode and the reason given on entering it; in a plan, the plan's own.
    pub(crate) fn mode(&self) -> (Mode, Option<String>) {
        let planned = self.done().planning.as_ref().and_then(Planning::mode);
        planned.unwrap_or_else(|| self.session.mode())
    }

    /// The reason given on entering the mode `change`.
    pub(crate) fn reason(&self) -> Option<String> {
        self.mode().1
    }

    /// A request of this operator in the current mode.
    pub(crate) fn request(&self, action: Action, resource: Resource) -> Request {
        let (mode, reason) = self.mode();
        Request {
            mode,
            reason,
            ..self.session.request(action, resource)
        }
    }

    /// Begins a plan; false if one is in progress.
    pub(crate) fn begin_plan(&self, planning: Planning) -> bool {
        let mut done = self.done();
        let free = done.planning.is_none();
        if free {
            done.planning = Some(planning);
        }
        free
    }

    /// Ends the plan and returns it.
    pub(crate) fn end_plan(&self) -> Option<Planning> {
        self.done().planning.take()
    }

    /// Whether a plan is in progress: then nothing is executed.
    pub(crate) fn is_planning(&self) -> bool {
        self.done().planning.is_some()
    }

    /// Changes the plan in progress.
    pub(crate) fn planning(&self, change: impl FnOnce(&mut Planning)) {
        if let Some(planning) = &mut self.done().planning {
            change(planning);
        }
    }

    /// The value at a path; in a plan, with the plan's own writes.
    pub(crate) fn look(&self, exposed: &Exposed, path: &Path) -> Result<Tree, StateError> {
        self.may_ask(path)?;
        let planned = self
            .done()
            .planning
            .as_ref()
            .and_then(|planning| planning.overlay().look(exposed, path));
        planned.unwrap_or_else(|| charged(|| exposed.read(path, Wait::AGENT)))
    }

    /// Whether it has met a limit or was cancelled.
    pub(crate) fn is_over(&self) -> bool {
        meter::ended().is_some() || self.is_cancelled()
    }

    /// Leaves the service alone once the eval has ended, also in the middle of an effect that asks for many parts: the reply
    /// then says why it ended.
    fn may_ask(&self, path: &Path) -> Result<(), StateError> {
        match self.is_over() {
            true => Err(StateError::Busy(path.to_string())),
            false => Ok(()),
        }
    }

    /// Records a look at a container that did not read its values.
    pub(crate) fn looked_at(&self, path: &Path) {
        self.done().looks.add(path);
    }

    /// These looks, for the record of the outcome.
    pub(crate) fn looks(&self, exposed: &Exposed) -> (Vec<Looked>, Option<u64>) {
        self.done().looks.told(|path| self.clean(exposed, path))
    }

    /// The current place of each write in a path's state, by lease; in a plan, with the plan's own writes.
    ///
    /// # Errors
    /// The state cannot be read at this moment, so it is unknown where the service moved what the writes changed.
    pub(crate) fn places(
        &self,
        changes: &Changes,
        exposed: &Exposed,
        path: &Path,
    ) -> Result<BTreeMap<u64, Path>, ChangeError> {
        self.may_ask(path).map_err(failed)?;
        let planned = self
            .done()
            .planning
            .as_ref()
            .and_then(|planning| planning.overlay().places(exposed, path));
        planned.unwrap_or_else(|| charged(|| changes.writes.places(path, Wait::AGENT)))
    }

    /// The leases in force, oldest first; in a plan as the plan would leave them.
    pub(crate) fn leases(&self, changes: &Changes) -> Vec<Lease> {
        let leases = changes.leases.list();
        match &self.done().planning {
            Some(planning) => planning.leases().over(leases),
            None => leases,
        }
    }

    /// One lease in force; in a plan as the plan would leave it.
    ///
    /// # Errors
    /// What happened to the lease instead.
    pub(crate) fn lease(&self, changes: &Changes, id: u64) -> Result<Lease, EndError> {
        let planned = self
            .done()
            .planning
            .as_ref()
            .and_then(|planning| planning.leases().find(id));
        planned.unwrap_or_else(|| changes.leases.find(id))
    }

    /// Whether this eval made the lease: one submission is one transaction, and its changes may cover each other.
    pub(crate) fn is_own(&self, lease: &Lease) -> bool {
        lease.eval == self.record && lease.owner == self.session.operator.name
    }

    /// Whether the plan in progress has ended a lease.
    pub(crate) fn has_ended(&self, lease: u64) -> bool {
        self.done()
            .planning
            .as_ref()
            .is_some_and(|planning| planning.leases().has_ended(lease))
    }

    /// The number of layers at a point or target, of which `real` are in force; in a plan as the plan would leave them.
    pub(crate) fn layers(&self, changes: &Changes, target: &Resource, real: usize) -> usize {
        match self.is_planning() {
            true => self
                .leases(changes)
                .iter()
                .filter(|lease| lease.target() == target)
                .count(),
            false => real,
        }
    }

    /// Whether the plan in progress has a change at exactly this target.
    pub(crate) fn plans_at(&self, target: &Resource) -> bool {
        self.done()
            .planning
            .as_ref()
            .is_some_and(|planning| planning.leases().made_at(target))
    }

    /// Whether the plan in progress has put a guard on a lease.
    pub(crate) fn plans_guard(&self, lease: u64) -> bool {
        self.done()
            .planning
            .as_ref()
            .is_some_and(|planning| planning.leases().has_guard(lease))
    }

    /// A snapshot by name; in a plan also one that the plan would take.
    pub(crate) fn snapshot(&self, changes: &Changes, name: &str) -> Option<Snapshot> {
        match self.done().planning.as_ref().and_then(Planning::taken) {
            Some(planned) => planned.find(name),
            None => changes.snapshots.find(name),
        }
    }

    /// All snapshots; in a plan also those that the plan would take.
    pub(crate) fn snapshots(&self, changes: &Changes) -> Vec<Snapshot> {
        match self.done().planning.as_ref().and_then(Planning::taken) {
            Some(planned) => planned.list(),
            None => changes.snapshots.list(),
        }
    }

    /// The unsettled conflicts; in a plan as the plan would leave them.
    pub(crate) fn conflicts(&self, changes: &Changes) -> Vec<(Lease, Conflict)> {
        let conflicts = changes.leases.conflicts();
        match &self.done().planning {
            Some(planning) => planning.leases().conflicts_over(conflicts),
            None => conflicts,
        }
    }

    /// One unsettled conflict.
    ///
    /// # Errors
    /// What happened to the lease instead.
    pub(crate) fn conflict(&self, changes: &Changes, id: u64) -> Result<(Lease, Conflict), EndError> {
        let done = self.done();
        let Some(planning) = &done.planning else {
            return changes.leases.conflict(id);
        };
        let leases = planning.leases();
        match (leases.conflict(id), leases.find(id)) {
            _ if leases.is_settled(id) => Err(EndError::Ended { id, how: "conflict" }),
            (Some(conflict), _) => Ok(conflict),
            (None, Some(Ok(_))) => Err(EndError::InForce(id)),
            (None, Some(Err(error))) => Err(error),
            (None, None) => changes.leases.conflict(id),
        }
    }

    /// Checks a write: the value before and after it; in a plan, with the plan's own writes.
    ///
    /// # Errors
    /// Why the write would fail.
    pub(crate) fn check_write(
        &self,
        exposed: &Exposed,
        path: &Path,
        value: &Tree,
    ) -> Result<Checked, StateError> {
        self.may_ask(path)?;
        let planned = |planning: &Planning| planning.overlay().check_write(exposed, path, value);
        let planned = self.done().planning.as_ref().and_then(planned);
        planned.unwrap_or_else(|| charged(|| exposed.states.check_write(path, value, Wait::AGENT)))
    }

    /// The write without which `path` would not exist: its lease, and its path within the state.
    ///
    /// # Errors
    /// Another thread holds the stack of the state.
    pub(crate) fn outlived(
        &self,
        changes: &Changes,
        path: &Path,
    ) -> Result<Option<(u64, Vec<String>)>, ChangeError> {
        let planned = self
            .done()
            .planning
            .as_ref()
            .and_then(|planning| planning.overlay().outlived(path));
        planned.map_or_else(|| charged(|| changes.writes.outlived(path, Wait::AGENT)), Ok)
    }

    /// The overlay of the plan in progress.
    pub(crate) fn overlay(&self) -> Option<Overlay> {
        self.done()
            .planning
            .as_ref()
            .map(|planning| planning.overlay().clone())
    }

    /// Appends records of this eval and blocks until they are where `until` says.
    ///
    /// # Errors
    /// The log cannot be written. Records that wait in memory are no error; the reply then says so.
    pub(crate) fn record(
        &self,
        recorder: &Recorder,
        entries: Vec<Entry>,
        until: Until,
    ) -> Result<(), AppendError> {
        self.done().effects += 1;
        let ticket = recorder.log.append(entries, until);
        let result = match until {
            Until::Written => ticket.written().map(drop),
            Until::Durable => ticket.durable().map(drop),
        };
        match result {
            Err(AppendError::Held) => {
                self.hold();
                Ok(())
            }
            other => other,
        }
    }

    /// Whether one of its records waits in memory for the disk.
    pub(crate) fn held(&self) -> bool {
        self.done().held
    }

    /// Notes that one of its records waits in memory for the disk.
    pub(crate) fn hold(&self) {
        self.done().held = true;
    }

    /// Notes that it revealed a secret, which its reply may then show.
    pub(crate) fn reveal(&self, value: &Tree) {
        self.done().revealed.add(value);
    }

    /// Adds a secret argument; from now on it is replaced in everything that leaves the agent.
    pub(crate) fn bind(&self, name: &str, value: &str) {
        let secret = Tree::Secret(Box::new(Tree::Str(value.to_owned())));
        self.bound.learn(Origin::Argument(name.to_owned()), &secret);
    }

    /// A text without any secret, for a record or the service's log.
    pub(crate) fn clean(&self, exposed: &Exposed, text: &str) -> String {
        self.bound.scrub(&exposed.scrub(text)).into_owned()
    }

    /// Whether a text holds a secret known now, or a secret argument.
    pub(crate) fn holds_secret(&self, exposed: &Exposed, text: &str) -> bool {
        exposed.holds_secret(text) || self.bound.find(text)
    }

    /// A text for the operator, without secrets that this eval did not reveal. The first secret found raises an alarm:
    /// a replaced text confirms a guess, so secrets could be guessed this way.
    pub(crate) fn scrub(&self, recorder: &Recorder, exposed: &Exposed, text: &str) -> String {
        let text = self.bound.scrub(text);
        let clean = match exposed.scrubber.scrub_but(&text, &self.done().revealed) {
            Cow::Borrowed(text) => return text.to_owned(),
            Cow::Owned(clean) => clean,
        };
        if !std::mem::replace(&mut self.done().hit, true) {
            recorder.append(vec![crate::recorder::records::kept(&Alarm {
                session: Some(self.session.id),
                operator: Some(self.session.operator.to_string()),
                eval: Some(self.record),
                secret_in: Some("output".to_owned()),
                ..Alarm::default()
            })]);
            let operator = &self.session.operator.name;
            recorder.emitter.alarm(&format!(
                "an eval of {operator} put out a secret that it had not revealed; it was replaced"
            ));
        }
        clean
    }

    /// Whether it has had the most effects allowed.
    pub(crate) fn exhausted(&self) -> bool {
        self.done().effects >= MAX_EFFECTS
    }

    /// Adds a step to undo if the eval fails.
    pub(crate) fn step(&self, step: Step) {
        self.done().steps.push(step);
    }

    /// Notes that it does more than read.
    pub(crate) fn act(&self) {
        self.done().acted = true;
    }

    /// Whether it did more than read.
    pub(crate) fn acted(&self) -> bool {
        self.done().acted
    }

    /// Adds leases that it could not end yet.
    pub(crate) fn stand(&self, standing: Vec<NotEnded>) {
        self.done().standing.extend(standing);
    }

    /// The leases that it ended, and those that it could not end yet.
    pub(crate) fn ends(&self) -> Ends {
        let done = self.done();
        let reverted = done.steps.iter().filter_map(|step| match step {
            Step::Reverted(id) => Some(*id),
            Step::Made(_) | Step::Renewed { .. } | Step::Guarded(_) | Step::Mode(..) => None,
        });
        Ends {
            reverted: reverted.collect(),
            standing: done.standing.clone(),
        }
    }

    /// Takes the steps to undo, newest first.
    pub(crate) fn take_steps(&self) -> Vec<Step> {
        let mut steps = std::mem::take(&mut self.done().steps);
        steps.reverse();
        steps
    }

    /// The leases that it made, renewed, guarded or ended, without duplicates.
    pub(crate) fn touched(&self) -> Vec<u64> {
        let done = self.done();
        let mut seen = BTreeSet::new();
        let ids = done.steps.iter().filter_map(|step| match step {
            Step::Made(id) | Step::Reverted(id) => Some(*id),
            Step::Renewed { after, .. } => Some(after.id),
            Step::Guarded(id) => Some(*id),
            Step::Mode(..) => None,
        });
        ids.filter(|id| seen.insert(*id)).collect()
    }

    /// Sets the functions that frozen code can reach: those of the session and of this submission.
    pub(crate) fn set_functions(&self, functions: AST, watches: bool) {
        self.watches.store(watches, Ordering::Relaxed);
        self.done().functions = Some(functions);
    }

    /// Sets what its code compares with `switch`; only the first call counts.
    pub(crate) fn set_switched(&self, switched: Switched) {
        self.switched.get_or_init(|| switched);
    }

    /// Whether its code compares the result of the step at this position with `switch`.
    pub(crate) fn switches_at(&self, position: Position, in_function: bool) -> bool {
        self.switched
            .get()
            .is_some_and(|switched| switched.compares(position, in_function))
    }

    /// Whether its code compares a variable or state of this name with `switch`.
    pub(crate) fn switches(&self, name: &str, in_function: bool, scope: &Scope<'_>) -> bool {
        self.switched
            .get()
            .is_some_and(|switched| switched.names(name, in_function, scope))
    }

    /// Whether variables are checked before each use.
    pub(crate) fn watches(&self) -> bool {
        self.watches.load(Ordering::Relaxed)
    }

    /// The functions that frozen code can reach.
    pub(crate) fn functions(&self) -> AST {
        self.done().functions.clone().unwrap_or_else(AST::empty)
    }

    /// Records the first refusal; it ends the eval, also inside `try`.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        self.done().refusal.get_or_insert(refusal);
    }

    /// The refusal that ended it.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.done().refusal.clone()
    }

    /// Records the value that a step of the code was given, to compare it with what Rhai stores back.
    pub(crate) fn gave(&self, path: Path, at: Position, value: Dynamic) {
        self.done().given.insert((path, at), value);
    }

    /// Takes the value that the step at this position was given.
    pub(crate) fn take_given(&self, path: &Path, at: Position) -> Option<Dynamic> {
        self.done().given.remove(&(path.clone(), at))
    }

    /// Counts bytes of output; false if they exceed `limit`.
    pub(crate) fn may_send(&self, bytes: usize, limit: usize) -> bool {
        let mut done = self.done();
        done.sent += bytes;
        done.sent <= limit
    }

    /// Whether it was cancelled.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}
