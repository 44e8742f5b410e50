use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use debug_policy::Resource;

use super::merge::Otherwise;
use super::rehearsal::Rehearsal;
use super::stack::{self, Ended};
use super::undo::{self, Layer};
use debug_base::{Basis, BootTime, Orders, Path, Tree};
use debug_points as points;
use debug_points::{Observer, PatchCode, Point, Registry};
use debug_state::{Edited, Later, StateError, States, Wait};

/// A change held by a lease, which can be applied and undone. Every kind of change implements this trait.
pub(crate) trait Change: Send + Sync {
    /// Target of the change.
    fn target(&self) -> &Resource;

    /// Applies the change. Called once, with a permit. `covers` are the leases that its author agreed to cover; the service
    /// may have moved another one to its place since then.
    ///
    /// # Errors
    /// The change is not in force.
    fn make(&self, lease: u64, deadline: BootTime, covers: &[u64]) -> Result<(), ChangeError>;

    /// Checks, for a plan, whether the change could be applied; applies nothing.
    ///
    /// # Errors
    /// The error that applying it would return.
    fn could_be_made(&self) -> Result<(), ChangeError> {
        Ok(())
    }

    /// Sets another deadline. Called under the lease table's lock: must not block or run service code.
    fn set_deadline(&self, lease: u64, deadline: BootTime);

    /// Completes [`Change::set_deadline`] for changes that keep a schedule; called without locks. The caller reports the new
    /// deadline only after `InForce`.
    fn rearm(&self, _lease: u64) -> Rearmed {
        Rearmed::InForce
    }

    /// Whether the effect stops at the deadline without an undo, because the clock is checked on each use.
    fn ends_by_itself(&self) -> bool {
        false
    }

    /// Undoes the change. May be called again after an error.
    ///
    /// # Errors
    /// The change is still in force; the caller must retry.
    fn undo(&self, lease: u64, wait: Wait) -> Result<Undone, ChangeError>;

    /// Undoes the rest of a conflict, overwriting what the service wrote. Called after `undo` reported a conflict, at most
    /// once with success. Returns whether the earlier value was seen in place again.
    ///
    /// # Errors
    /// Nothing was undone.
    fn force(&self, wait: Wait) -> Result<bool, ChangeError>;

    /// What [`force`](Self::force) would undo, if the change writes a value.
    fn left(&self) -> Option<Layer> {
        None
    }

    /// Path, value before and value after, if the change writes a value.
    fn write(&self) -> Option<(Path, BeforeAfter)> {
        None
    }

    /// Participle for the report on an applied change: `set`, `patched`, `at DEBUG`.
    fn done(&self) -> String {
        "set".to_owned()
    }

    /// Warning to show while the change is in force.
    fn warning(&self) -> Option<String> {
        None
    }
}

/// The value before a change and the value it writes; `None` for an empty place.
pub(crate) type BeforeAfter = (Option<Tree>, Option<Tree>);

/// Result of rearming a change with another deadline.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rearmed {
    /// The new deadline holds.
    InForce,
    /// The previous deadline passed first: the effect has stopped and only the undo remains.
    Over,
    /// The new deadline could not be set now; the previous one holds.
    NotYet,
}

/// Result of an undo.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Undone {
    /// The service changed part of the target since; that part was not overwritten.
    pub(crate) conflict: Option<Conflict>,
    /// Lease above that covers the place; the live value did not change then.
    pub(crate) covered_by: Option<u64>,
    /// Value or layers now at the target.
    pub(crate) stands: Option<Stands>,
    /// Value that will be there when the covering lease ends, if known.
    pub(crate) base: Option<Stands>,
    /// The service wrote there since and its value was kept, so `stands` may differ from the earlier value.
    pub(crate) foreign: bool,
    /// Path at which the changed element was found, if it has moved.
    pub(crate) found: Option<Path>,
    /// Evidence by which the place was identified; `None` if it was not found or is not in a state.
    pub(crate) basis: Option<Basis>,
}

impl Undone {
    /// Whether the earlier value was seen in place again.
    pub(crate) fn is_as_before(&self) -> bool {
        self.conflict.is_none() && self.covered_by.is_none() && !self.foreign && self.stands.is_some()
    }
}

/// The part of a change that was not undone, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Conflict {
    /// Reason, in words.
    pub(crate) why: String,
    /// Paths that were left as they are.
    pub(crate) places: Vec<Path>,
}

/// What is now at a target.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stands {
    /// A value at a state path.
    Value(Tree),
    /// A state path without a value.
    Nothing,
    /// Number of layers at a point or target.
    Layers(usize),
}

/// Why a change could not be applied or undone.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// Refused, with the reason.
    #[error("{0}")]
    Refused(String),
    /// The state's lock was not free in time.
    #[error("{0}")]
    Busy(String),
}

impl From<StateError> for ChangeError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Busy(_) => Self::Busy(error.to_string()),
            other => Self::Refused(other.to_string()),
        }
    }
}

/// A patch at a point.
pub(crate) struct PatchChange {
    target: Resource,
    point: Point,
    /// The point declared in the registry, for a route unknown before; set when the patch is applied.
    declared: OnceLock<Point>,
    routes: Option<Arc<Registry>>,
    code: Arc<dyn PatchCode>,
    observer: Arc<dyn Observer>,
    warning: Option<String>,
}

impl PatchChange {
    /// Creates a patch of `point` with `code`. `observer` receives its failures; `warning` is shown to the operator.
    pub(crate) fn new(
        point: Point,
        code: Arc<dyn PatchCode>,
        observer: Arc<dyn Observer>,
        warning: Option<String>,
    ) -> Self {
        let target = Resource::Point(point.name().to_owned());
        Self { target, point, declared: OnceLock::new(), routes: None, code, observer, warning }
    }

    /// For a route that may not be declared yet: it becomes a point when the patch is applied, not earlier.
    pub(crate) fn declaring(self, routes: Arc<Registry>) -> Self {
        Self { routes: Some(routes), ..self }
    }

    fn point(&self) -> &Point {
        self.declared.get().unwrap_or(&self.point)
    }
}

impl Change for PatchChange {
    fn target(&self) -> &Resource {
        &self.target
    }

    fn make(&self, lease: u64, deadline: BootTime, _: &[u64]) -> Result<(), ChangeError> {
        if let (Some(routes), Some((method, template))) = (&self.routes, self.point.name().split_once(' ')) {
            let slot = routes.declare(method, template).map_err(|e| ChangeError::Refused(e.to_string()))?;
            drop(self.declared.set(Point::Route(slot)));
        }
        let layer = points::Layer::new(lease, deadline, self.code.clone(), self.observer.clone());
        self.point().push(Arc::new(layer)).map_err(|e| ChangeError::Refused(e.to_string()))
    }

    fn set_deadline(&self, lease: u64, deadline: BootTime) {
        self.point().set_deadline(lease, deadline);
    }

    fn undo(&self, lease: u64, _wait: Wait) -> Result<Undone, ChangeError> {
        // Layers of a point are independent of each other.
        self.point().end(lease);
        Ok(Undone { stands: Some(Stands::Layers(self.point().layers().len())), ..Undone::default() })
    }

    fn ends_by_itself(&self) -> bool {
        true
    }

    fn done(&self) -> String {
        "patched".to_owned()
    }

    fn warning(&self) -> Option<String> {
        self.warning.clone()
    }

    fn force(&self, _wait: Wait) -> Result<bool, ChangeError> {
        Ok(true)
    }
}

/// The writes in force: one stack per state.
pub(crate) struct Writes {
    states: Arc<States>,
    stacks: BTreeMap<String, Mutex<Vec<Layer>>>,
}

/// Interval between attempts to lock a stack.
const BETWEEN_TRIES: Duration = Duration::from_micros(50);

impl Writes {
    /// Creates empty stacks for these states.
    pub(crate) fn new(states: Arc<States>) -> Self {
        let stacks = states.list().map(|(name, _)| (name.to_owned(), Mutex::default())).collect();
        Self { states, stacks }
    }

    #[cfg(test)]
    pub(crate) fn states_for_test(&self) -> &States {
        &self.states
    }

    /// A copy of the state of `path` and of its stack, for a plan.
    ///
    /// # Errors
    /// The state cannot be read, or its stack is locked.
    pub(crate) fn rehearse(&self, path: &Path, wait: Wait) -> Result<Rehearsal, ChangeError> {
        let layers = self.stack(path, wait)?;
        Ok(Rehearsal::new(self.states.whole(path, wait)?, layers.clone()))
    }

    /// The current path of each write in the state of `path`, by lease. Empty if no write lies below a list: then none can
    /// move.
    ///
    /// # Errors
    /// The state cannot be read, or its stack is locked.
    pub(crate) fn places(&self, path: &Path, wait: Wait) -> Result<BTreeMap<u64, Path>, ChangeError> {
        let layers = self.stack(path, wait)?.clone();
        if !layers.iter().any(Layer::is_in_list) {
            return Ok(BTreeMap::new());
        }
        let whole = self.states.whole(path, wait)?;
        Ok(Rehearsal::new(whole, layers).places(&self.states, path)?)
    }

    /// The write that alone keeps `path` in existence: its lease, and its path below the state.
    ///
    /// # Errors
    /// The stack is locked.
    pub(crate) fn outlived(
        &self,
        path: &Path,
        wait: Wait,
    ) -> Result<Option<(u64, Vec<String>)>, ChangeError> {
        Ok(stack::outlived(&self.stack(path, wait)?, path.below()))
    }

    /// Lease, path and base value of each layer in the state of `path`. Empty while the stack is locked.
    pub(crate) fn bases(&self, path: &Path) -> Vec<(u64, Path, Option<Tree>)> {
        let name = path.0.get(..1).unwrap_or_default();
        let layers = self.stack(path, Wait::AGENT);
        let layers = layers.iter().flat_map(|layers| layers.iter());
        layers.map(|layer| (layer.lease, Path(name.to_vec()).join(&layer.path), layer.base.clone())).collect()
    }

    /// Locks the stack of the state of `path`, within `wait`. The lock is held while code of the service's types runs, so a
    /// bounded caller gives up with `Busy`.
    fn stack(&self, path: &Path, wait: Wait) -> Result<MutexGuard<'_, Vec<Layer>>, ChangeError> {
        let name = path.0.first().map(String::as_str).unwrap_or_default();
        let Some(stack) = self.stacks.get(name) else {
            return Err(ChangeError::Refused(format!("there is no state `{name}`")));
        };
        // INVARIANT: a stack is replaced as a whole, so a panic never leaves it half changed.
        let began = Instant::now();
        loop {
            match stack.try_lock() {
                Ok(layers) => return Ok(layers),
                Err(TryLockError::Poisoned(layers)) => return Ok(layers.into_inner()),
                Err(TryLockError::WouldBlock) => {}
            }
            match wait {
                Wait::Until => return Ok(stack.lock().unwrap_or_else(PoisonError::into_inner)),
                Wait::Bounded(longest) if began.elapsed() < longest => thread::sleep(BETWEEN_TRIES),
                _ => {
                    return Err(ChangeError::Busy(format!(
                        "a change of state `{name}` is just being made or undone"
                    )));
                }
            }
        }
    }
}

/// Error text for a write to a place that exists only because of a lease.
pub(crate) fn only_because_of(path: &Path, lease: u64) -> String {
    format!("`{path}` is only there because of lease {lease}, and would vanish with it")
}

/// Error text for a write to a place where there is a lease that its author did not agree to cover.
pub(crate) fn came_in_between(path: &Path) -> String {
    format!(
        "since this was allowed, the service moved an element to `{path}` that another lease has changed; look at `leases()` \
         and decide anew"
    )
}

/// A write or removal of the value at a state path.
pub(crate) struct WriteChange {
    target: Resource,
    writes: Arc<Writes>,
    path: Path,
    /// The value before and the value it writes.
    values: (Option<Tree>, Option<Tree>),
    /// Nanoseconds on the boot-time clock.
    deadline: AtomicU64,
    /// The value as its type spells it, if that differs from the given one.
    spelling: Option<String>,
    warning: Option<String>,
    /// The layer of a conflict, kept for `force`.
    left: Mutex<Option<Layer>>,
}

impl WriteChange {
    /// A write of `after` at `path` in place of `before`; `None` is an empty place.
    pub(crate) fn new(writes: Arc<Writes>, path: Path, before: Option<Tree>, after: Option<Tree>) -> Self {
        let target = Resource::State(path.0.clone());
        let (deadline, left) = (AtomicU64::new(0), Mutex::new(None));
        let values = (before, after);
        Self { target, writes, path, values, deadline, spelling: None, warning: None, left }
    }

    /// Sets the spelling reported by `done`.
    pub(crate) fn spelled(self, spelling: Option<String>) -> Self {
        Self { spelling, ..self }
    }

    /// Sets the warning shown to the operator.
    pub(crate) fn warning_of(self, warning: Option<String>) -> Self {
        Self { warning, ..self }
    }

    fn states(&self) -> &States {
        &self.writes.states
    }

    /// The path of the state itself.
    fn root(&self) -> Path {
        Path(self.path.0.get(..1).unwrap_or_default().to_vec())
    }

    fn update(&self, change: &Edited<'_>, later: &Later<'_>, wait: Wait) -> Result<Tree, StateError> {
        let written: Vec<&Tree> = self.values.0.iter().chain(&self.values.1).collect();
        self.states().update(&self.path, &written, change, later, wait)
    }
}

impl Change for WriteChange {
    fn target(&self) -> &Resource {
        &self.target
    }

    fn make(&self, lease: u64, deadline: BootTime, covers: &[u64]) -> Result<(), ChangeError> {
        let mut layers = self.writes.stack(&self.path, Wait::AGENT)?;
        self.deadline.store(deadline.0, Ordering::Relaxed);
        let update = |change: &Edited<'_>, later: &Later<'_>| self.update(change, later, Wait::AGENT);
        let write = stack::Write { lease, at: &self.path, values: &self.values, deadline };
        let (next, _) = stack::make(&layers, &write, Some(covers), &update)?;
        *layers = next;
        Ok(())
    }

    fn set_deadline(&self, _lease: u64, deadline: BootTime) {
        self.deadline.store(deadline.0, Ordering::Relaxed);
    }

    fn rearm(&self, lease: u64) -> Rearmed {
        if !self.ends_by_itself() {
            return Rearmed::InForce;
        }
        let Ok(mut layers) = self.writes.stack(&self.path, Wait::AGENT) else { return Rearmed::NotYet };
        let Some(at) = layers.iter().position(|layer| layer.lease == lease) else { return Rearmed::InForce };
        let arm = |layers: &mut [Layer], deadline| {
            let before = std::mem::replace(&mut layers[at].deadline, deadline);
            let later = |live: &Tree, orders: &dyn Orders| undo::schedule(layers, live, orders);
            (before, self.states().rearm(&self.path, &later, Wait::AGENT).is_ok())
        };
        let (before, armed) = arm(&mut layers, BootTime(self.deadline.load(Ordering::Relaxed)));
        // Checked last: if the previous deadline has not passed by now, it had not when the new one took effect.
        if before <= BootTime::now() {
            arm(&mut layers, before);
            return Rearmed::Over;
        }
        if !armed {
            layers[at].deadline = before;
            return Rearmed::NotYet;
        }
        Rearmed::InForce
    }

    fn ends_by_itself(&self) -> bool {
        self.states().is_timed(&self.path)
    }

    fn done(&self) -> String {
        self.spelling
            .as_ref()
            .map_or("set".to_owned(), |spelling| format!("set, as its type spells it, to {spelling}"))
    }

    fn warning(&self) -> Option<String> {
        self.warning.clone()
    }

    fn undo(&self, lease: u64, wait: Wait) -> Result<Undone, ChangeError> {
        let mut layers = self.writes.stack(&self.path, wait)?;
        let update = |change: &Edited<'_>, later: &Later<'_>| self.update(change, later, wait);
        let ended: Option<Ended> = stack::end(&layers, lease, Otherwise::Keep, &update)?;
        let Some((next, ending, whole)) = ended else {
            return Ok(Undone::default());
        };
        *layers = next;
        drop(layers);
        let root = self.root();
        let conflict = stack::conflict(&ending.left, &root);
        let there = |value: Option<Tree>| value.map_or(Stands::Nothing, Stands::Value);
        let (stands, base) = match (ending.covered_by, ending.stands) {
            (_, None) => (None, None),
            (None, Some(stands)) => (Some(there(stands)), None),
            (Some(_), Some(base)) => (Some(there(whole.at(self.path.below()).cloned())), Some(there(base))),
        };
        let at = root.join(&ending.layer.path);
        let undone = Undone {
            foreign: conflict.is_none() && !ending.as_before,
            conflict,
            covered_by: ending.covered_by,
            stands,
            base,
            found: (ending.basis.is_some() && at != self.path).then_some(at),
            basis: ending.basis,
        };
        if undone.conflict.is_some() {
            *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(ending.layer);
        }
        Ok(undone)
    }

    fn force(&self, wait: Wait) -> Result<bool, ChangeError> {
        let mut layers = self.writes.stack(&self.path, wait)?;
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(layer) = left.as_ref() else { return Ok(false) };
        let update = |change: &Edited<'_>, later: &Later<'_>| self.update(change, later, wait);
        let Some((next, ending, _)) = stack::force(&layers, layer, &self.root(), &update)? else {
            return Ok(false);
        };
        *layers = next;
        *left = None;
        Ok(ending.as_before)
    }

    fn write(&self) -> Option<(Path, BeforeAfter)> {
        Some((self.path.clone(), self.values.clone()))
    }

    fn left(&self) -> Option<Layer> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Error text for `force` when another lease changes the same place.
pub(crate) fn stands_above(lease: u64) -> String {
    format!("lease {lease} changes the same place; end it first")
}
