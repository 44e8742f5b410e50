//! Makes, ends and forces writes on the layer stack of one state, live or in a plan.

use std::cell::RefCell;

use super::errors::{came_in_between, failed, only_because_of, stands_above};
use debug_base::{BootTime, Here, Orders, Path, Tree, alike};
use debug_lease::stack::{self, Ending, WriteLayer};
use debug_lease::{ChangeError, Conflict, KeptBecause, KeptPlace, Otherwise};
use debug_state::{Edited, Later, StateError};

/// Replaces the value of a state with the result of `change`; returns the value stored. All or nothing.
pub(super) type Update<'a> = dyn Fn(&Edited<'_>, &Later<'_>) -> Result<Tree, StateError> + 'a;

/// The stack without the ended layer, the result of ending it, and the state's value after that.
pub(super) type EndedWrite = (Vec<WriteLayer>, Ending, Tree);

/// The layer that alone keeps `path` (below the state) in existence: its lease and its path.
pub(super) fn outlived(layers: &[WriteLayer], path: &[String]) -> Option<(u64, Vec<String>)> {
    let lease = stack::outlives(layers, path).err()?;
    layers
        .iter()
        .find(|layer| layer.lease == lease)
        .map(|layer| (lease, layer.path.clone()))
}

/// A write to put on a stack.
pub(super) struct Write<'a> {
    pub(super) lease: u64,
    pub(super) at: &'a Path,
    /// The value that must be there, and the one to put there.
    pub(super) values: &'a (Option<Tree>, Option<Tree>),
    pub(super) deadline: BootTime,
}

/// Puts a write on top of a stack. Returns the new stack and the state's value.
///
/// # Errors
/// The value at the path is not `before`, the type refuses the new value, the place exists only because of another lease, or
/// there is another lease there that is not in `covers`. `None` allows all: a plan has checked the same value before.
pub(super) fn make(
    layers: &[WriteLayer],
    write: &Write<'_>,
    covers: Option<&[u64]>,
    update: &Update<'_>,
) -> Result<(Vec<WriteLayer>, Tree), ChangeError> {
    let Write {
        lease,
        at,
        values,
        deadline,
    } = *write;
    let path = at.below();
    let (before, after) = values;
    let (made, refused) = (RefCell::new(Vec::new()), RefCell::new(None));
    let change = |live: &Tree, orders: &dyn Orders| {
        let here = Here {
            whole: live,
            path,
            orders,
        };
        if !alike(live.at(path), before.as_ref(), here) {
            return Err(StateError::Conflict(at.clone()));
        }
        let mut next = layers.to_vec();
        stack::look(&mut next, live, orders);
        if let Err(lease) = stack::outlives(&next, path) {
            *refused.borrow_mut() = Some(ChangeError::Refused(only_because_of(at, lease)));
            return Err(StateError::Conflict(at.clone()));
        }
        let uncovered = |layer: &&WriteLayer| {
            let meets = layer.known_path().iter().zip(path).all(|(a, b)| a == b);
            meets && covers.is_some_and(|covers| !covers.contains(&layer.lease))
        };
        if next.iter().any(|layer| uncovered(&layer)) {
            *refused.borrow_mut() = Some(ChangeError::Refused(came_in_between(at)));
            return Err(StateError::Conflict(at.clone()));
        }
        let edited = live.clone().with(path, after.clone(), &[]);
        let edited = edited.map_err(|_| StateError::Conflict(at.clone()))?;
        let edited = orders.in_order(edited, live);
        // In the order in which it is written: so it can be seen whether the service moves something afterwards.
        let written = (before.clone(), edited.at(path).cloned());
        next.push(WriteLayer::new(lease, path, written, (live, &edited), deadline));
        *made.borrow_mut() = next;
        Ok(Some(edited))
    };
    let later = |live: &Tree, orders: &dyn Orders| stack::schedule(&made.borrow(), live, orders);
    match (update(&change, &later), refused.into_inner()) {
        (Ok(tree), _) => Ok((made.into_inner(), tree)),
        (Err(_), Some(refused)) => Err(refused),
        (Err(error), None) => Err(failed(error)),
    }
}

/// Ends a layer of a stack. `None` if no layer has this lease.
pub(super) fn end(
    layers: &[WriteLayer],
    lease: u64,
    otherwise: Otherwise,
    update: &Update<'_>,
) -> Result<Option<EndedWrite>, StateError> {
    let ended = RefCell::new(None);
    let done = end_so(layers, lease, otherwise, Fit::AsMerged, &ended, update);
    let mixed = ended
        .borrow()
        .as_ref()
        .is_some_and(|(_, ending): &(_, Ending)| !ending.as_before);
    let done = match done {
        // The merge mixes the earlier value with the service's own changes, and the type refuses the result. Retried whole or
        // not at all.
        Err(error) if mixed && error.is_of_type() => {
            end_so(layers, lease, otherwise, Fit::WholeOrNot, &ended, update)
        }
        other => other,
    };
    let stored = done?;
    Ok(ended.into_inner().map(|(next, ending)| (next, ending, stored)))
}

/// Undoes the rest of a conflict, overwriting the service's changes. `None` if there is nothing to undo.
///
/// # Errors
/// Another write overlaps the place, or the changed element cannot be identified beyond doubt.
pub(super) fn force(
    layers: &[WriteLayer],
    left: &WriteLayer,
    root: &Path,
    update: &Update<'_>,
) -> Result<Option<EndedWrite>, ChangeError> {
    if let Some(above) = layers.iter().find(|layer| layer.overlaps(&left.path)) {
        return Err(ChangeError::Refused(stands_above(above.lease)));
    }
    // On top of the stack: no other layer overlaps it.
    let stack = [layers, std::slice::from_ref(left)].concat();
    let ended = end(&stack, left.lease, Otherwise::Force, update).map_err(failed)?;
    match ended
        .as_ref()
        .and_then(|(_, ending, _)| conflict(&ending.left, root))
    {
        Some(conflict) => Err(ChangeError::Refused(conflict.why)),
        None => Ok(ended.map(|(mut layers, ending, tree)| {
            stack::settled(&mut layers, left.lease);
            (layers, ending, tree)
        })),
    }
}

/// Describes what was not undone; `None` if everything was.
pub(super) fn conflict(left: &[KeptPlace], root: &Path) -> Option<Conflict> {
    let (changed, others): (Vec<&KeptPlace>, Vec<&KeptPlace>) =
        left.iter().partition(|left| left.why == KeptBecause::Changed);
    let names: Vec<String> = changed
        .iter()
        .map(|left| format!("`{}`", root.join(&left.place)))
        .collect();
    let changed =
        (!names.is_empty()).then(|| format!("the service itself changed {} meanwhile", names.join(", ")));
    let mut why: Vec<String> = changed.into_iter().collect();
    for left in others {
        let words = left.why.words(&left.place, root);
        if !why.contains(&words) {
            why.push(words);
        }
    }
    let mut places: Vec<Path> = left.iter().map(|left| root.join(&left.place)).collect();
    places.dedup();
    (!places.is_empty()).then(|| Conflict {
        why: why.join("; "),
        places,
    })
}

/// Whether a merge that differs from the earlier value may be written.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Fit {
    AsMerged,
    WholeOrNot,
}

fn end_so(
    layers: &[WriteLayer],
    lease: u64,
    otherwise: Otherwise,
    fit: Fit,
    ended: &RefCell<Option<(Vec<WriteLayer>, Ending)>>,
    update: &Update<'_>,
) -> Result<Tree, StateError> {
    let change = |live: &Tree, orders: &dyn Orders| {
        let mut next = layers.to_vec();
        let Some(mut ending) = stack::end(&mut next, lease, live, otherwise, orders) else {
            return Ok(None);
        };
        if fit == Fit::WholeOrNot && !ending.as_before {
            ending.stays(live);
            next = layers.to_vec();
            stack::look(&mut next, live, orders);
            stack::abandon(&mut next, lease, &ending.left);
        }
        if otherwise == Otherwise::Force {
            ending.keep_to_conflict(live);
        }
        // If the value is unchanged, nothing is written.
        let changed = (ending.tree != *live).then(|| ending.tree.clone());
        let refused = otherwise == Otherwise::Force && !ending.left.is_empty();
        *ended.borrow_mut() = Some((next, ending));
        Ok(changed.filter(|_| !refused))
    };
    let later = |live: &Tree, orders: &dyn Orders| match &*ended.borrow() {
        Some((next, _)) => stack::schedule(next, live, orders),
        None => stack::schedule(layers, live, orders),
    };
    update(&change, &later)
}
