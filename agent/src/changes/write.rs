//! Writes of states, and the stack of writes of each state.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use debug_base::{BootTime, Orders, Path, Tree, Wait};
use debug_lease::Begun;
use debug_lease::stack::{self as stack, WriteLayer};
use debug_lease::{BeforeAfter, Change, ChangeError, Otherwise, Rearmed, Stands, Undone};
use debug_policy::Resource;
use debug_state::{Edited, Later, StateError, States};

use super::errors::failed;
use super::layers::{self, EndedWrite};
use super::rehearsal::Rehearsal;

/// The writes in force: one stack per state.
pub(crate) struct Writes {
    states: Arc<States>,
    stacks: BTreeMap<String, Mutex<Vec<WriteLayer>>>,
}

/// Interval between attempts to lock a stack.
const BETWEEN_TRIES: Duration = Duration::from_micros(50);

impl Writes {
    /// Creates empty stacks for these states.
    pub(crate) fn new(states: Arc<States>) -> Self {
        let stacks = states
            .list()
            .map(|(name, _)| (name.to_owned(), Mutex::default()))
            .collect();
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
        Ok(Rehearsal::new(
            self.states.whole(path, wait).map_err(failed)?,
            layers.clone(),
        ))
    }

    /// The current path of each write in the state of `path`, by lease. Empty if no write lies below a list: then none can
    /// move.
    ///
    /// # Errors
    /// The state cannot be read, or its stack is locked.
    pub(crate) fn places(&self, path: &Path, wait: Wait) -> Result<BTreeMap<u64, Path>, ChangeError> {
        let layers = self.stack(path, wait)?.clone();
        if !layers.iter().any(WriteLayer::is_in_list) {
            return Ok(BTreeMap::new());
        }
        let whole = self.states.whole(path, wait).map_err(failed)?;
        Rehearsal::new(whole, layers)
            .places(&self.states, path)
            .map_err(failed)
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
        Ok(layers::outlived(&self.stack(path, wait)?, path.below()))
    }

    /// Lease, path and base value of each layer in the state of `path`. Empty while the stack is locked.
    pub(crate) fn bases(&self, path: &Path) -> Vec<(u64, Path, Option<Tree>)> {
        let name = path.0.get(..1).unwrap_or_default();
        let layers = self.stack(path, Wait::AGENT);
        let layers = layers.iter().flat_map(|layers| layers.iter());
        layers
            .map(|layer| {
                (
                    layer.lease,
                    Path(name.to_vec()).join(&layer.path),
                    layer.base.clone(),
                )
            })
            .collect()
    }

    /// Locks the stack of the state of `path`, within `wait`. The lock is held while code of the service's types runs, so a
    /// bounded caller gives up with `Busy`.
    fn stack(&self, path: &Path, wait: Wait) -> Result<MutexGuard<'_, Vec<WriteLayer>>, ChangeError> {
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

/// A write or removal of the value at a state path.
pub(crate) struct WriteChange {
    target: Resource,
    writes: Arc<Writes>,
    path: Path,
    /// The value before and the value it writes.
    values: (Option<Tree>, Option<Tree>),
    /// The value as its type spells it, if that differs from the given one.
    spelling: Option<String>,
    warning: Option<String>,
    /// The layer of a conflict, kept for `force`.
    left: Mutex<Option<WriteLayer>>,
}

impl WriteChange {
    /// A write of `after` at `path` in place of `before`; `None` is an empty place.
    pub(crate) fn new(writes: Arc<Writes>, path: Path, before: Option<Tree>, after: Option<Tree>) -> Self {
        let target = Resource::State(path.0.clone());
        let values = (before, after);
        Self {
            target,
            writes,
            path,
            values,
            spelling: None,
            warning: None,
            left: Mutex::new(None),
        }
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

    fn make(&self, begun: Begun, deadline: BootTime, covers: &[u64]) -> Result<(), ChangeError> {
        let mut layers = self.writes.stack(&self.path, Wait::AGENT)?;
        let update = |change: &Edited<'_>, later: &Later<'_>| self.update(change, later, Wait::AGENT);
        let write = layers::Write {
            lease: begun.lease(),
            at: &self.path,
            values: &self.values,
            deadline,
        };
        let (next, _) = layers::make(&layers, &write, Some(covers), &update)?;
        *layers = next;
        Ok(())
    }

    fn rearm(&self, lease: u64, until: BootTime) -> Rearmed {
        if !self.ends_by_itself() {
            return Rearmed::InForce;
        }
        let Ok(mut layers) = self.writes.stack(&self.path, Wait::AGENT) else {
            return Rearmed::NotYet;
        };
        let Some(at) = layers.iter().position(|layer| layer.lease == lease) else {
            return Rearmed::InForce;
        };
        let arm = |layers: &mut [WriteLayer], deadline| {
            let before = std::mem::replace(&mut layers[at].deadline, deadline);
            let later = |live: &Tree, orders: &dyn Orders| stack::schedule(layers, live, orders);
            (
                before,
                self.states().rearm(&self.path, &later, Wait::AGENT).is_ok(),
            )
        };
        let (before, armed) = arm(&mut layers, until);
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
        self.spelling.as_ref().map_or("set".to_owned(), |spelling| {
            format!("set, as its type spells it, to {spelling}")
        })
    }

    fn warning(&self) -> Option<String> {
        self.warning.clone()
    }

    fn undo(&self, lease: u64, wait: Wait) -> Result<Undone, ChangeError> {
        let mut layers = self.writes.stack(&self.path, wait)?;
        let update = |change: &Edited<'_>, later: &Later<'_>| self.update(change, later, wait);
        let ended: Option<EndedWrite> =
            layers::end(&layers, lease, Otherwise::Keep, &update).map_err(failed)?;
        let Some((next, ending, whole)) = ended else {
            return Ok(Undone::default());
        };
        *layers = next;
        drop(layers);
        let root = self.root();
        let conflict = layers::conflict(&ending.left, &root);
        let there = |value: Option<Tree>| value.map_or(Stands::Nothing, Stands::Value);
        let (stands, base) = match (ending.covered_by, ending.stands) {
            (_, None) => (None, None),
            (None, Some(stands)) => (Some(there(stands)), None),
            (Some(_), Some(base)) => (
                Some(there(whole.at(self.path.below()).cloned())),
                Some(there(base)),
            ),
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
        let Some(layer) = left.as_ref() else {
            return Ok(false);
        };
        let update = |change: &Edited<'_>, later: &Later<'_>| self.update(change, later, wait);
        let Some((next, ending, _)) = layers::force(&layers, layer, &self.root(), &update)? else {
            return Ok(false);
        };
        *layers = next;
        *left = None;
        Ok(ending.as_before)
    }

    fn write(&self) -> Option<(Path, BeforeAfter)> {
        Some((self.path.clone(), self.values.clone()))
    }

    fn left(&self) -> Option<WriteLayer> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
