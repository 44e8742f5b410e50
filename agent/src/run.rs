//! One eval on its way: whose it is, what it may do, what it has done so far.

mod looks;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use debug_audit::{AppendError, Entry, Until};
use debug_policy::{Action, Mode, Request, Resource};
use debug_wire::messages::{After, Ends, Standing};
use rhai::{AST, Dynamic, Position};
use serde_json::{Map, Value, json};

use self::looks::Looks;
use crate::core::Core;
use crate::gate::Refusal;
use crate::lease::{ChangeError, Conflict, EndError, Lease};
use crate::plan::{Overlay, Planning};
use crate::script::copies::Switched;
use crate::script::meter;
use crate::session::Session;
use crate::snapshot::Snapshot;
use crate::state::{self, Checked, Origin, Path, Scrubber, Shown, StateError, Tree, Wait};

/// The most effects of one eval: as many as a read may have leaves.
pub(crate) const MAX_EFFECTS: u64 = 10_000;

/// Asks the service, and charges the eval an operation for each microsecond in which that may have held it up: all that one
/// eval asks holds locks for a second at most, a fifth of the time that it has.
fn charged<R>(ask: impl FnOnce() -> R) -> R {
    let before = state::asked();
    let answer = ask();
    let held_up = state::asked().saturating_sub(before);
    meter::charge(u64::try_from(held_up.as_micros()).unwrap_or(u64::MAX));
    answer
}

/// One eval.
pub(crate) struct Run {
    /// Whose.
    pub(crate) session: Arc<Session>,
    /// The id of the call.
    pub(crate) call: u64,
    /// Set when the operator cancels or is gone.
    pub(crate) cancelled: Arc<AtomicBool>,
    record: u64,
    after: Option<After>,
    emergency: bool,
    /// Whether closures in reach capture variables, so that these are looked at before they are used.
    watches: AtomicBool,
    /// What its code compares by `switch`.
    switched: OnceLock<Switched>,
    /// Its secret arguments. Of this eval alone: what an operator calls a secret must not hide anything from others.
    bound: Scrubber,
    done: Mutex<Done>,
}

/// What an eval has done so far.
#[derive(Default)]
struct Done {
    effects: u64,
    planning: Option<Planning>,
    steps: Vec<Step>,
    /// Whether it did more than look.
    acted: bool,
    /// What it could not end.
    standing: Vec<Standing>,
    functions: Option<AST>,
    refusal: Option<Refusal>,
    held: bool,
    revealed: Shown,
    /// Whether something it put out held a secret that it had not revealed.
    hit: bool,
    sent: usize,
    looks: Looks,
    /// Leaves as chains of the code were given them, by where the step stands in the code.
    given: HashMap<(Path, Position), Dynamic>,
}

/// Something to undo if the eval fails.
pub(crate) enum Step {
    /// A lease was made.
    Made(u64),
    /// A lease was renewed.
    Renewed {
        /// As it was.
        before: Box<Lease>,
        /// As it is.
        after: Box<Lease>,
    },
    /// A lease got a guard.
    Guarded(u64),
    /// The mode was another.
    Mode(Mode, Option<String>),
    /// A lease was ended. That is not undone: it made the service what it was.
    Reverted(u64),
}

impl Run {
    /// An eval whose record has the number `record`.
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

    /// The number of its record.
    pub(crate) fn record_number(&self) -> u64 {
        self.record
    }

    /// What becomes of its leases when the session ends; none are made without it. What is planned is run by another eval, which
    /// says it.
    pub(crate) fn after(&self) -> Option<After> {
        self.after.or_else(|| self.is_planning().then_some(After::Revert))
    }

    /// Whether it is a single call that works while the log cannot be written.
    pub(crate) fn emergency(&self) -> bool {
        self.emergency
    }

    /// The mode, and the reason with which it was entered; a plan's own, while one is made.
    pub(crate) fn mode(&self) -> (Mode, Option<String>) {
        let planned = self.done().planning.as_ref().and_then(Planning::mode);
        planned.unwrap_or_else(|| self.session.mode())
    }

    /// The reason with which the mode `change` was entered.
    pub(crate) fn reason(&self) -> Option<String> {
        self.mode().1
    }

    /// A request of this operator at this moment.
    pub(crate) fn request(&self, core: &Core, action: Action, resource: Resource) -> Request {
        let (mode, reason) = self.mode();
        Request { mode, reason, ..core.request(&self.session, action, resource) }
    }

    /// Begins a plan; false if one is being made.
    pub(crate) fn begin_plan(&self, planning: Planning) -> bool {
        let mut done = self.done();
        let free = done.planning.is_none();
        if free {
            done.planning = Some(planning);
        }
        free
    }

    /// Ends it.
    pub(crate) fn end_plan(&self) -> Option<Planning> {
        self.done().planning.take()
    }

    /// Whether one is being made: then nothing is executed.
    pub(crate) fn is_planning(&self) -> bool {
        self.done().planning.is_some()
    }

    /// Changes the plan that is being made.
    pub(crate) fn planning(&self, change: impl FnOnce(&mut Planning)) {
        if let Some(planning) = &mut self.done().planning {
            change(planning);
        }
    }

    /// What stands at a path; in a plan, with its own writes.
    pub(crate) fn look(&self, core: &Core, path: &Path) -> Result<Tree, StateError> {
        let planned = self.done().planning.as_ref().and_then(|planning| planning.overlay().look(core, path));
        planned.unwrap_or_else(|| charged(|| core.read(path, Wait::AGENT)))
    }

    /// Notes that it has looked at a container without reading what is in it.
    pub(crate) fn looked_at(&self, path: &Path) {
        self.done().looks.add(path);
    }

    /// What it has so looked at, for the record of its outcome.
    pub(crate) fn looks(&self, core: &Core) -> Map<String, Value> {
        self.done().looks.members(|path| self.clean(core, path))
    }

    /// Where each write in the state of a path is now, by lease, as far as that can be told at this moment; in a plan, with its
    /// own writes.
    pub(crate) fn places(&self, core: &Core, path: &Path) -> BTreeMap<u64, Path> {
        let planned =
            self.done().planning.as_ref().and_then(|planning| planning.overlay().places(core, path));
        planned.unwrap_or_else(|| core.writes.places(path, Wait::AGENT)).unwrap_or_default()
    }

    /// The leases in force, oldest first; in a plan as it would have left them.
    pub(crate) fn leases(&self, core: &Core) -> Vec<Lease> {
        let leases = core.leases.list();
        match &self.done().planning {
            Some(planning) => planning.leases().over(leases),
            None => leases,
        }
    }

    /// One of them.
    ///
    /// # Errors
    /// What became of it.
    pub(crate) fn lease(&self, core: &Core, id: u64) -> Result<Lease, EndError> {
        let planned = self.done().planning.as_ref().and_then(|planning| planning.leases().find(id));
        planned.unwrap_or_else(|| core.leases.find(id))
    }

    /// Whether a lease is of this very eval: one submission is one transaction, and what it has changed is its own business.
    pub(crate) fn is_own(&self, lease: &Lease) -> bool {
        lease.eval == self.record && lease.owner == self.session.operator.name
    }

    /// Whether a lease has ended in the plan that is being made.
    pub(crate) fn has_ended(&self, lease: u64) -> bool {
        self.done().planning.as_ref().is_some_and(|planning| planning.leases().has_ended(lease))
    }

    /// How many layers there are at a point or target, of which `real` are in force; in a plan as it would have left them.
    pub(crate) fn layers(&self, core: &Core, target: &Resource, real: usize) -> usize {
        match self.is_planning() {
            true => self.leases(core).iter().filter(|lease| lease.target() == target).count(),
            false => real,
        }
    }

    /// Whether the plan that is being made has changed exactly this.
    pub(crate) fn plans_at(&self, target: &Resource) -> bool {
        self.done().planning.as_ref().is_some_and(|planning| planning.leases().made_at(target))
    }

    /// Whether the plan that is being made has put a guard on a lease.
    pub(crate) fn plans_guard(&self, lease: u64) -> bool {
        self.done().planning.as_ref().is_some_and(|planning| planning.leases().has_guard(lease))
    }

    /// A snapshot by its name; in a plan also one that it would have taken.
    pub(crate) fn snapshot(&self, core: &Core, name: &str) -> Option<Snapshot> {
        match self.done().planning.as_ref().and_then(Planning::taken) {
            Some(planned) => planned.find(name),
            None => core.snapshots.find(name),
        }
    }

    /// All of them; in a plan also those that it would have taken.
    pub(crate) fn snapshots(&self, core: &Core) -> Vec<Snapshot> {
        match self.done().planning.as_ref().and_then(Planning::taken) {
            Some(planned) => planned.list(),
            None => core.snapshots.list(),
        }
    }

    /// The leases that ended as a conflict and were not settled; in a plan as it would have left them.
    pub(crate) fn conflicts(&self, core: &Core) -> Vec<(Lease, Conflict)> {
        let conflicts = core.leases.conflicts();
        match &self.done().planning {
            Some(planning) => planning.leases().conflicts_over(conflicts),
            None => conflicts,
        }
    }

    /// One of them.
    ///
    /// # Errors
    /// What became of the lease.
    pub(crate) fn conflict(&self, core: &Core, id: u64) -> Result<(Lease, Conflict), EndError> {
        let done = self.done();
        let Some(planning) = &done.planning else { return core.leases.conflict(id) };
        let leases = planning.leases();
        match (leases.conflict(id), leases.find(id)) {
            _ if leases.is_settled(id) => Err(EndError::Ended { id, how: "conflict" }),
            (Some(conflict), _) => Ok(conflict),
            (None, Some(Ok(_))) => Err(EndError::InForce(id)),
            (None, Some(Err(error))) => Err(error),
            (None, None) => core.leases.conflict(id),
        }
    }

    /// Whether a write would succeed now, what stands there, and what would; in a plan with its own writes.
    ///
    /// # Errors
    /// What stands in the way.
    pub(crate) fn check_write(&self, core: &Core, path: &Path, value: &Tree) -> Result<Checked, StateError> {
        let planned = |planning: &Planning| planning.overlay().check_write(core, path, value);
        let planned = self.done().planning.as_ref().and_then(planned);
        planned.unwrap_or_else(|| charged(|| core.states.check_write(path, value, Wait::AGENT)))
    }

    /// The write without which nothing would stand at `path`: its lease, and its path below the state.
    ///
    /// # Errors
    /// The stack of the state is in use.
    pub(crate) fn outlived(
        &self,
        core: &Core,
        path: &Path,
    ) -> Result<Option<(u64, Vec<String>)>, ChangeError> {
        let planned = self.done().planning.as_ref().and_then(|planning| planning.overlay().outlived(path));
        planned.map_or_else(|| core.writes.outlived(path, Wait::AGENT), Ok)
    }

    /// What stands in the states with the writes of the plan that is being made.
    pub(crate) fn overlay(&self) -> Option<Overlay> {
        self.done().planning.as_ref().map(|planning| planning.overlay().clone())
    }

    /// Appends records of this eval and waits until they are where `until` says.
    ///
    /// # Errors
    /// The log cannot be written. Records that may wait in memory are no error, but the reply will say so.
    pub(crate) fn record(&self, core: &Core, entries: Vec<Entry>, until: Until) -> Result<(), AppendError> {
        self.done().effects += 1;
        let ticket = core.log.append(entries, until);
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

    /// Whether something of it waits in memory for the disk.
    pub(crate) fn held(&self) -> bool {
        self.done().held
    }

    /// Notes that something of it waits in memory for the disk.
    pub(crate) fn hold(&self) {
        self.done().held = true;
    }

    /// Notes that it revealed a secret, which its reply then shows.
    pub(crate) fn reveal(&self, value: &Tree) {
        self.done().revealed.add(value);
    }

    /// Takes a secret argument, which is replaced in all that leaves from now on.
    pub(crate) fn bind(&self, name: &str, value: &str) {
        let secret = Tree::Secret(Box::new(Tree::Str(value.to_owned())));
        self.bound.learn(Origin::Argument(name.to_owned()), &secret);
    }

    /// A text for a record or the service's log, without any secret.
    pub(crate) fn clean(&self, core: &Core, text: &str) -> String {
        self.bound.scrub(&core.scrub(text)).into_owned()
    }

    /// Whether a text holds a secret that is known now, or one of its arguments.
    pub(crate) fn holds_secret(&self, core: &Core, text: &str) -> bool {
        core.holds_secret(text) || self.bound.find(text)
    }

    /// A text for its operator, without the secrets that it did not reveal. That it held one is told in the log: what is
    /// replaced tells that it is a secret, so secrets can be guessed in this way.
    pub(crate) fn scrub(&self, core: &Core, text: &str) -> String {
        let text = self.bound.scrub(text);
        let clean = match core.scrubber.scrub_but(&text, &self.done().revealed) {
            Cow::Borrowed(text) => return text.to_owned(),
            Cow::Owned(clean) => clean,
        };
        if !std::mem::replace(&mut self.done().hit, true) {
            let body = json!({ "session": self.session.id, "operator": self.session.operator.spiffe, "eval": self.record,
                "secret_in": "output" });
            core.append(vec![crate::records::kept("alarm", body)]);
            let operator = &self.session.operator.name;
            core.emitter.alarm(&format!(
                "an eval of {operator} put out a secret that it had not revealed; it was replaced"
            ));
        }
        clean
    }

    /// Whether it has asked for too many effects.
    pub(crate) fn exhausted(&self) -> bool {
        self.done().effects >= MAX_EFFECTS
    }

    /// Notes what to undo if it fails.
    pub(crate) fn step(&self, step: Step) {
        self.done().steps.push(step);
    }

    /// Notes that it does more than look.
    pub(crate) fn act(&self) {
        self.done().acted = true;
    }

    /// Whether it did more than look.
    pub(crate) fn acted(&self) -> bool {
        self.done().acted
    }

    /// Notes leases that it could not end yet.
    pub(crate) fn stand(&self, standing: Vec<Standing>) {
        self.done().standing.extend(standing);
    }

    /// The leases that it ended, and those that it could not end yet.
    pub(crate) fn ends(&self) -> Ends {
        let done = self.done();
        let reverted = done.steps.iter().filter_map(|step| match step {
            Step::Reverted(id) => Some(*id),
            Step::Made(_) | Step::Renewed { .. } | Step::Guarded(_) | Step::Mode(..) => None,
        });
        Ends { reverted: reverted.collect(), standing: done.standing.clone() }
    }

    /// Takes what is to undo, the newest first.
    pub(crate) fn take_steps(&self) -> Vec<Step> {
        let mut steps = std::mem::take(&mut self.done().steps);
        steps.reverse();
        steps
    }

    /// The leases it made, renewed or ended, each once.
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

    /// The functions in reach of what is kept: those of the session and of this submission.
    pub(crate) fn set_functions(&self, functions: AST, watches: bool) {
        self.watches.store(watches, Ordering::Relaxed);
        self.done().functions = Some(functions);
    }

    /// What its code compares by `switch`, told once.
    pub(crate) fn set_switched(&self, switched: Switched) {
        self.switched.get_or_init(|| switched);
    }

    /// Whether its code compares by `switch` what the step at that place leads to.
    pub(crate) fn switches_at(&self, position: Position, in_function: bool) -> bool {
        self.switched.get().is_some_and(|switched| switched.compares(position, in_function))
    }

    /// Whether its code compares by `switch` a variable or state of that name.
    pub(crate) fn switches(&self, name: &str) -> bool {
        self.switched.get().is_some_and(|switched| switched.names(name))
    }

    /// Whether variables are looked at before they are used.
    pub(crate) fn watches(&self) -> bool {
        self.watches.load(Ordering::Relaxed)
    }

    /// The functions in reach of what is kept.
    pub(crate) fn functions(&self) -> AST {
        self.done().functions.clone().unwrap_or_else(AST::empty)
    }

    /// Keeps the first refusal; it ends the eval, also inside `try`.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        self.done().refusal.get_or_insert(refusal);
    }

    /// The refusal that ended it.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.done().refusal.clone()
    }

    /// Notes what a step of the code was given: what Rhai stores back there is compared with it.
    pub(crate) fn gave(&self, path: Path, at: Position, value: Dynamic) {
        self.done().given.insert((path, at), value);
    }

    /// What the step at that place of the code was given, once.
    pub(crate) fn take_given(&self, path: &Path, at: Position) -> Option<Dynamic> {
        self.done().given.remove(&(path.clone(), at))
    }

    /// Counts bytes of output; false once there are too many.
    pub(crate) fn may_send(&self, bytes: usize, limit: usize) -> bool {
        let mut done = self.done();
        done.sent += bytes;
        done.sent <= limit
    }

    /// Whether it should end.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}
