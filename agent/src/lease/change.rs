use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use debug_policy::Resource;

use super::planted::{Fault, planted};
use super::rehearsal::Rehearsal;
use super::undo::{self, Layer, Otherwise};
use crate::clock::BootTime;
use crate::points::{self, Observer, PatchCode, Point, Registry};
use crate::state::{Path, StateError, States, Tree, Wait};

/// A change that can be made and undone; what a lease holds. The one trait for every kind of change.
pub(crate) trait Change: Send + Sync {
    /// What it changes.
    fn target(&self) -> &Resource;

    /// Puts it in force. Called once, with a permit.
    ///
    /// # Errors
    /// It is not in force then.
    fn make(&self, lease: u64, deadline: BootTime) -> Result<(), ChangeError>;

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

    /// Undoes what a conflict left, whoever changed it meanwhile. Called at most once, after `undo` told of a conflict.
    ///
    /// # Errors
    /// Nothing was undone then.
    fn force(&self, wait: Wait) -> Result<(), ChangeError>;

    /// What [`force`](Self::force) would undo at its target, if that is a value: what was put there, and what should stand there.
    fn left(&self) -> Option<(Tree, Tree)> {
        None
    }

    /// Where it writes what stood there before and what it puts there, if it writes a value.
    fn write(&self) -> Option<(Path, (Tree, Tree))> {
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
    /// What will stand there when the lease above ends.
    pub(crate) base: Option<Tree>,
    /// The service itself wrote there meanwhile, and that was left: what stands there need not be what stood before.
    pub(crate) foreign: bool,
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

    fn force(&self, _wait: Wait) -> Result<(), ChangeError> {
        Ok(())
    }
}

/// The writes in force, a stack for each state.
pub(crate) struct Writes {
    states: Arc<States>,
    stacks: BTreeMap<String, Mutex<Vec<Layer>>>,
}

/// How often a stack that is in use is asked for again.
const BETWEEN_TRIES: Duration = Duration::from_micros(50);

/// How often an undo begins anew because the service changed the value between our reading and our writing.
const ATTEMPTS: u32 = 4;

impl Writes {
    /// None yet, at any of these states.
    pub(crate) fn new(states: Arc<States>) -> Self {
        let stacks = states.list().map(|(name, _)| (name.to_owned(), Mutex::default())).collect();
        Self { states, stacks }
    }

    /// The state that `path` is in, for a plan.
    ///
    /// # Errors
    /// It cannot be read, or the stack is in use.
    pub(crate) fn rehearse(&self, path: &Path, wait: Wait) -> Result<Rehearsal, ChangeError> {
        let layers = self.stack(path, wait)?;
        Ok(Rehearsal::new(self.states.whole(path, wait)?, layers.clone()))
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
        Ok(outlived(&self.stack(path, wait)?, path.below()))
    }

    /// What stood below each of the layers of the state that `path` is in: the lease, its path, its base. None while the
    /// stack is in use.
    pub(crate) fn bases(&self, path: &Path) -> Vec<(u64, Path, Tree)> {
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

fn outlives(layers: &[Layer], path: &Path) -> Result<(), ChangeError> {
    undo::outlives(layers, path.below()).map_err(|lease| ChangeError::Refused(only_because_of(path, lease)))
}

/// The layer without which nothing would stand at a path below the state: its lease and its own path.
pub(super) fn outlived(layers: &[Layer], path: &[String]) -> Option<(u64, Vec<String>)> {
    let lease = undo::outlives(layers, path).err()?;
    layers.iter().find(|layer| layer.lease == lease).map(|layer| (lease, layer.path.clone()))
}

/// Why nothing is written at a place that a lease has brought.
pub(crate) fn only_because_of(path: &Path, lease: u64) -> String {
    format!("`{path}` is only there because of lease {lease}, and would vanish with it")
}

/// How a value was put back.
struct PutBack {
    /// What was put there.
    tree: Tree,
    /// Where that was not possible.
    places: Vec<Path>,
    /// Whether the service itself had written there.
    foreign: bool,
}

/// A value at a state path.
pub(crate) struct WriteChange {
    target: Resource,
    writes: Arc<Writes>,
    path: Path,
    before: Tree,
    after: Tree,
    /// Nanoseconds on the boot-time clock.
    deadline: AtomicU64,
    /// The value as its type spells it, where that is not as it was given.
    spelling: Option<String>,
    /// What a conflict left to be forced: ours, and what should stand there.
    left: Mutex<Option<(Tree, Tree)>>,
}

impl WriteChange {
    /// `after` in place of `before` at `path`.
    pub(crate) fn new(writes: Arc<Writes>, path: Path, before: Tree, after: Tree) -> Self {
        let target = Resource::State(path.0.clone());
        let (deadline, left) = (AtomicU64::new(0), Mutex::new(None));
        Self { target, writes, path, before, after, deadline, spelling: None, left }
    }

    /// Tells how the type spells the value.
    pub(crate) fn spelled(self, spelling: Option<String>) -> Self {
        Self { spelling, ..self }
    }

    fn states(&self) -> &States {
        &self.writes.states
    }

    /// What stands at the path, as the service's type writes it.
    fn live(&self, wait: Wait) -> Result<Tree, StateError> {
        self.states().read(&self.path, wait)
    }

    /// Undoes what can be undone without overwriting anybody.
    fn put_back(
        &self,
        ours: &Tree,
        target: &Tree,
        otherwise: Otherwise,
        layers: &[Layer],
        wait: Wait,
    ) -> Result<PutBack, StateError> {
        let later = |live: &Tree| undo::schedule(layers, live);
        for _ in 0..ATTEMPTS {
            match self.states().compare_and_set(&self.path, ours, target, &later, wait) {
                Err(StateError::Conflict(_)) => {}
                other => {
                    let whole = PutBack { tree: target.clone(), places: Vec::new(), foreign: false };
                    return other.map(|()| whole);
                }
            }
            let live = self.live(wait)?;
            let otherwise = if planted(Fault::Overwrites) { Otherwise::Force } else { otherwise };
            let merged = undo::merge(ours, &live, target, otherwise);
            match self.states().compare_and_set(&self.path, &live, &merged.tree, &later, wait) {
                Ok(()) => {
                    let places = merged.conflicts.iter().map(|place| self.path.join(place)).collect();
                    return Ok(PutBack { tree: merged.tree, places, foreign: true });
                }
                Err(StateError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StateError::Busy(self.path.0.first().cloned().unwrap_or_default()))
    }
}

impl Change for WriteChange {
    fn target(&self) -> &Resource {
        &self.target
    }

    fn make(&self, lease: u64, deadline: BootTime) -> Result<(), ChangeError> {
        let mut layers = self.writes.stack(&self.path, Wait::AGENT)?;
        outlives(&layers, &self.path)?;
        self.deadline.store(deadline.0, Ordering::Relaxed);
        let layer = Layer {
            lease,
            path: self.path.below().to_vec(),
            after: self.after.clone(),
            base: self.before.clone(),
            deadline,
        };
        let mut next = layers.clone();
        next.push(layer);
        let later = |live: &Tree| undo::schedule(&next, live);
        self.states().compare_and_set(&self.path, &self.before, &self.after, &later, Wait::AGENT)?;
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
            let later = |live: &Tree| undo::schedule(layers, live);
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
        let live = match self.live(wait) {
            // The service took away what it stood in. Nothing is overwritten; layers above get its base all the same.
            Err(StateError::NoSuchPath(_)) => None,
            other => Some(other?),
        };
        let mut next = layers.clone();
        let Some((_, ending)) = undo::take_out(&mut next, lease, live.as_ref().unwrap_or(&Tree::Null)) else {
            return Ok(Undone::default());
        };
        let mut places: Vec<Path> = ending.conflicts.iter().map(|place| self.path.join(place)).collect();
        let mut put = None;
        if ending.covered_by.is_some() {
            let later = |live: &Tree| undo::schedule(&next, live);
            self.states().rearm(&self.path, &later, wait)?;
        } else if live.is_some() {
            let back = self.put_back(&ending.ours, &ending.target, Otherwise::Keep, &next, wait)?;
            places.extend(back.places);
            put = Some((back.tree, back.foreign));
        } else {
            places.push(self.path.clone());
        }
        let base = ending.covered_by.and_then(|above| {
            let above = next.iter().find(|layer| layer.lease == above)?;
            above.base.at(&self.path.below()[above.path.len()..]).cloned()
        });
        *layers = next;
        drop(layers);
        if !places.is_empty() {
            *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some((ending.ours, ending.target));
        }
        let stands = self.live(wait).ok();
        let (stands, foreign) = match (stands, put) {
            // A set need not come back in the order in which it was put there.
            (Some(live), Some((tree, foreign))) if live.same_unordered(&tree) => (Some(tree), foreign),
            (Some(live), Some(_)) => (Some(live), true),
            (stands, _) => (stands, false),
        };
        Ok(Undone {
            conflict: Conflict::at(places),
            covered_by: ending.covered_by,
            stands: stands.map(Stands::Value),
            base,
            foreign,
        })
    }

    fn force(&self, wait: Wait) -> Result<(), ChangeError> {
        let layers = self.writes.stack(&self.path, wait)?;
        let above = layers.iter().find(|layer| layer.path.iter().zip(self.path.below()).all(|(a, b)| a == b));
        if let Some(above) = above {
            return Err(ChangeError::Refused(stands_above(above.lease)));
        }
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((ours, target)) = left.as_ref() {
            self.put_back(ours, target, Otherwise::Force, &layers, wait)?;
            *left = None;
        }
        Ok(())
    }

    fn write(&self) -> Option<(Path, (Tree, Tree))> {
        Some((self.path.clone(), (self.before.clone(), self.after.clone())))
    }

    fn left(&self) -> Option<(Tree, Tree)> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Why a conflict is not undone by force.
pub(crate) fn stands_above(lease: u64) -> String {
    format!("lease {lease} changes the same place; end it first")
}

impl Conflict {
    /// What the service itself had changed, if it had changed something.
    pub(crate) fn at(places: Vec<Path>) -> Option<Self> {
        let names: Vec<String> = places.iter().map(|place| format!("`{place}`")).collect();
        (!places.is_empty()).then(|| Self {
            why: format!("the service itself changed {} meanwhile", names.join(", ")),
            places,
        })
    }
}
