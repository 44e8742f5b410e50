use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use debug_policy::Resource;

use super::merge::Otherwise;
use super::planted::{Fault, planted};
use super::rehearsal::Rehearsal;
use super::stack::{self, Ended};
use super::undo::{self, Layer};
use crate::clock::BootTime;
use crate::points::{self, Observer, PatchCode, Point, Registry};
use crate::state::{Basis, Edited, Later, Orders, Path, StateError, States, Tree, Wait};

/// A change that can be made and undone; what a lease holds. The one trait for every kind of change.
pub(crate) trait Change: Send + Sync {
    /// What it changes.
    fn target(&self) -> &Resource;

    /// Puts it in force. Called once, with a permit.
    ///
    /// # Errors
    /// It is not in force then.
    fn make(&self, lease: u64, deadline: BootTime) -> Result<(), ChangeError>;

    /// What a plan can find out of whether it could be made, without making it; in the words in which making it would fail.
    ///
    /// # Errors
    /// It could not.
    fn could_be_made(&self) -> Result<(), ChangeError> {
        Ok(())
    }

    /// Tells it about another deadline. Called under the lock of all leases: it may wait for nothing and run no code of
    /// the service.
    fn set_deadline(&self, lease: u64, deadline: BootTime);

    /// Called behind [`Change::set_deadline`] without any lock, for changes that have more to do about it. Nothing is told
    /// unless the answer is that it is in force.
    fn rearm(&self, _lease: u64) -> Rearmed {
        Rearmed::InForce
    }

    /// Whether its effect is over at the deadline even if nobody undoes it, because the clock is looked at where it is used.
    fn ends_by_itself(&self) -> bool {
        false
    }

    /// Takes it out of force. May be called again after an error.
    ///
    /// # Errors
    /// It is still in force then; it must be tried again.
    fn undo(&self, lease: u64, wait: Wait) -> Result<Undone, ChangeError>;

    /// Undoes what a conflict left, whoever changed it meanwhile. Called at most once, after `undo` told of a conflict. Whether
    /// what stood there before was seen to stand there again.
    ///
    /// # Errors
    /// Nothing was undone then.
    fn force(&self, wait: Wait) -> Result<bool, ChangeError>;

    /// What [`force`](Self::force) would undo, if that is a value.
    fn left(&self) -> Option<Layer> {
        None
    }

    /// Where it writes, what stood there before and what it puts there, if it writes a value.
    fn write(&self) -> Option<(Path, BeforeAfter)> {
        None
    }

    /// What is said of its target once it is made: that it is `set`, `patched`, `at DEBUG`.
    fn done(&self) -> String {
        "set".to_owned()
    }

    /// What everybody should know of it while it is in force.
    fn warning(&self) -> Option<String> {
        None
    }
}

/// What stood at a place before a change, and what it puts there; nothing where nothing stood or stands.
pub(crate) type BeforeAfter = (Option<Tree>, Option<Tree>);

/// What became of another deadline.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rearmed {
    /// It holds.
    InForce,
    /// The one before came first: the change is out of force already, and only has to be undone.
    Over,
    /// It could not be told at this moment; the one before holds.
    NotYet,
}

/// How undoing went.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Undone {
    /// The service itself changed a part of it meanwhile, which was not overwritten.
    pub(crate) conflict: Option<Conflict>,
    /// The lease above whose change stands there: then nothing live changed.
    pub(crate) covered_by: Option<u64>,
    /// What stands there now.
    pub(crate) stands: Option<Stands>,
    /// What will stand there when the lease above ends; nothing where that is not told.
    pub(crate) base: Option<Stands>,
    /// The service itself wrote there meanwhile, and that was left: what stands there need not be what stood before.
    pub(crate) foreign: bool,
    /// Where the thing that was changed was found, if not where it was.
    pub(crate) found: Option<Path>,
    /// What its place was told by; nothing where it was not found, or is no place of a state.
    pub(crate) basis: Option<Basis>,
}

impl Undone {
    /// Whether it was seen that what stood there before stands there again.
    pub(crate) fn is_as_before(&self) -> bool {
        self.conflict.is_none() && self.covered_by.is_none() && !self.foreign && self.stands.is_some()
    }
}

/// What was not undone, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Conflict {
    /// In words.
    pub(crate) why: String,
    /// The paths that were left as they are.
    pub(crate) places: Vec<Path>,
}

/// What stands at a target.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stands {
    /// The value at a state path.
    Value(Tree),
    /// Nothing, at a state path.
    Nothing,
    /// So many layers at a point or target.
    Layers(usize),
}

/// Why a change could not be made or undone.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// In words.
    #[error("{0}")]
    Refused(String),
    /// The lock was held all the time.
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
    /// The point that others know, if `point` is a route that none did; known from the patch on.
    declared: OnceLock<Point>,
    routes: Option<Arc<Registry>>,
    code: Arc<dyn PatchCode>,
    observer: Arc<dyn Observer>,
    warning: Option<String>,
}

impl PatchChange {
    /// A patch with `code` at `point`, whose failures `observer` hears of, and what its operator should know about it.
    pub(crate) fn new(
        point: Point,
        code: Arc<dyn PatchCode>,
        observer: Arc<dyn Observer>,
        warning: Option<String>,
    ) -> Self {
        let target = Resource::Point(point.name().to_owned());
        Self { target, point, declared: OnceLock::new(), routes: None, code, observer, warning }
    }

    /// One at a route that may not be known yet: it becomes a point when the patch is made, and not before.
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

    fn make(&self, lease: u64, deadline: BootTime) -> Result<(), ChangeError> {
        if let (Some(routes), Some((method, template))) = (&self.routes, self.point.name().split_once(' ')) {
            let slot = routes.declare(method, template).map_err(|e| ChangeError::Refused(e.to_string()))?;
            drop(self.declared.set(Point::Route(slot)));
        }
        let layer = points::Layer::new(lease, deadline, self.code.clone(), self.observer.clone());
        self.point().push(Arc::new(layer)).map_err(|e| ChangeError::Refused(e.to_string()))
    }

    fn set_deadline(&self, lease: u64, deadline: BootTime) {
        if !planted(Fault::PointNotTold) {
            self.point().set_deadline(lease, deadline);
        }
    }

    fn undo(&self, lease: u64, _wait: Wait) -> Result<Undone, ChangeError> {
        // Layers of a point are independent: none knows what lies below it.
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

/// The writes in force, a stack for each state.
pub(crate) struct Writes {
    states: Arc<States>,
    stacks: BTreeMap<String, Mutex<Vec<Layer>>>,
}

/// How often a stack that is in use is asked for again.
const BETWEEN_TRIES: Duration = Duration::from_micros(50);

impl Writes {
    /// None yet, at any of these states.
    pub(crate) fn new(states: Arc<States>) -> Self {
        let stacks = states.list().map(|(name, _)| (name.to_owned(), Mutex::default())).collect();
        Self { states, stacks }
    }

    #[cfg(test)]
    pub(crate) fn states_for_test(&self) -> &States {
        &self.states
    }

    /// The state that `path` is in, for a plan.
    ///
    /// # Errors
    /// It cannot be read, or the stack is in use.
    pub(crate) fn rehearse(&self, path: &Path, wait: Wait) -> Result<Rehearsal, ChangeError> {
        let layers = self.stack(path, wait)?;
        Ok(Rehearsal::new(self.states.whole(path, wait)?, layers.clone()))
    }

    /// Where each write in the state that `path` is in is now, by lease; none if no list lies on the way to any.
    ///
    /// # Errors
    /// The state cannot be read, or the stack is in use.
    pub(crate) fn places(&self, path: &Path, wait: Wait) -> Result<BTreeMap<u64, Path>, ChangeError> {
        let layers = self.stack(path, wait)?.clone();
        if !layers.iter().any(Layer::is_in_list) {
            return Ok(BTreeMap::new());
        }
        let whole = self.states.whole(path, wait)?;
        Ok(Rehearsal::new(whole, layers).places(&self.states, path)?)
    }

    /// The write without which nothing would stand at `path`: its lease, and its path below the state.
    ///
    /// # Errors
    /// The stack is in use.
    pub(crate) fn outlived(
        &self,
        path: &Path,
        wait: Wait,
    ) -> Result<Option<(u64, Vec<String>)>, ChangeError> {
        Ok(stack::outlived(&self.stack(path, wait)?, path.below()))
    }

    /// What stood below each of the layers of the state that `path` is in: the lease, its path, its base. None while the
    /// stack is in use.
    pub(crate) fn bases(&self, path: &Path) -> Vec<(u64, Path, Option<Tree>)> {
        let name = path.0.get(..1).unwrap_or_default();
        let layers = self.stack(path, Wait::AGENT);
        let layers = layers.iter().flat_map(|layers| layers.iter());
        layers.map(|layer| (layer.lease, Path(name.to_vec()).join(&layer.path), layer.base.clone())).collect()
    }

    /// The stack of the state that `path` is in. Held while code of the service's types runs; whoever does not want to
    /// wait for that does not.
    fn stack(&self, path: &Path, wait: Wait) -> Result<MutexGuard<'_, Vec<Layer>>, ChangeError> {
        let name = path.0.first().map(String::as_str).unwrap_or_default();
        let Some(stack) = self.stacks.get(name) else {
            return Err(ChangeError::Refused(format!("there is no state `{name}`")));
        };
        // INVARIANT: a stack is replaced as a whole, so it is never left half-way through a change.
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

/// Why nothing is written at a place that a lease has brought.
pub(crate) fn only_because_of(path: &Path, lease: u64) -> String {
    format!("`{path}` is only there because of lease {lease}, and would vanish with it")
}

/// A value at a state path, or none.
pub(crate) struct WriteChange {
    target: Resource,
    writes: Arc<Writes>,
    path: Path,
    /// What stood there before and what it puts there.
    values: (Option<Tree>, Option<Tree>),
    /// Nanoseconds on the boot-time clock.
    deadline: AtomicU64,
    /// The value as its type spells it, where that is not as it was given.
    spelling: Option<String>,
    /// What a conflict left to be forced.
    left: Mutex<Option<Layer>>,
}

impl WriteChange {
    /// `after` in place of `before` at `path`; nothing where the place is empty.
    pub(crate) fn new(writes: Arc<Writes>, path: Path, before: Option<Tree>, after: Option<Tree>) -> Self {
        let target = Resource::State(path.0.clone());
        let (deadline, left) = (AtomicU64::new(0), Mutex::new(None));
        Self { target, writes, path, values: (before, after), deadline, spelling: None, left }
    }

    /// Tells how the type spells the value.
    pub(crate) fn spelled(self, spelling: Option<String>) -> Self {
        Self { spelling, ..self }
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

    fn make(&self, lease: u64, deadline: BootTime) -> Result<(), ChangeError> {
        let mut layers = self.writes.stack(&self.path, Wait::AGENT)?;
        self.deadline.store(deadline.0, Ordering::Relaxed);
        let update = |change: &Edited<'_>, later: &Later<'_>| self.update(change, later, Wait::AGENT);
        let (next, _) = stack::make(&layers, lease, &self.path, &self.values, deadline, &update)?;
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
        // Looked at last: what was not over by now was not over when the new deadline came in place.
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

    fn undo(&self, lease: u64, wait: Wait) -> Result<Undone, ChangeError> {
        let mut layers = self.writes.stack(&self.path, wait)?;
        let otherwise = if planted(Fault::Overwrites) { Otherwise::Force } else { Otherwise::Keep };
        let update = |change: &Edited<'_>, later: &Later<'_>| self.update(change, later, wait);
        let ended: Option<Ended> = stack::end(&layers, lease, otherwise, &update)?;
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

/// Why a conflict is not undone by force.
pub(crate) fn stands_above(lease: u64) -> String {
    format!("lease {lease} changes the same place; end it first")
}
