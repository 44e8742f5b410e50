//! What the end of one write does to the others and to the live value: pure functions over trees.
//!
//! Invariant: the live value is always that of the newest layer in force, and what the service made it where no layer
//! covers it. Nothing here knows a lock, a clock or a service's type.

use super::planted::{Fault, planted};
use crate::clock::BootTime;
use crate::state::Tree;

/// One write in force at a path of a state.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// Whose it is. Ids rise, so the larger one lies above.
    pub(crate) lease: u64,
    /// From the state's root on.
    pub(crate) path: Vec<String>,
    /// What it put there.
    pub(crate) after: Tree,
    /// What will stand there without it, as far as layers below and the service's own writes tell.
    pub(crate) base: Tree,
    /// When it is over.
    pub(crate) deadline: BootTime,
}

impl Layer {
    fn overlaps(&self, path: &[String]) -> bool {
        self.path.iter().zip(path).all(|(a, b)| a == b)
    }
}

/// What remains to be done at the path of a layer that was taken out of its stack.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    /// What its layer put there, with what layers inside it made of that: what must stand there if the service changed
    /// nothing.
    pub(crate) ours: Tree,
    /// What should stand there without it, layers inside it included.
    pub(crate) target: Tree,
    /// The layer above that covers it: then nothing live changes, and that layer's base was changed instead.
    pub(crate) covered_by: Option<u64>,
    /// Places, from the layer's path on, that somebody else has changed meanwhile below a layer above.
    pub(crate) conflicts: Vec<Vec<String>>,
}

/// Takes a layer out of its stack and hands its base on to the layers above it. `live` is what stands at its path.
///
/// Layers above that lie inside it keep their value, and their base becomes what stood there below. One that covers it
/// takes its base over. Nothing if there is no such layer.
pub(crate) fn take_out(layers: &mut Vec<Layer>, lease: u64, live: &Tree) -> Option<(Layer, Ending)> {
    let at = layers.iter().position(|layer| layer.lease == lease)?;
    let ended = layers.remove(at);
    let mut ending = Ending {
        ours: ended.after.clone(),
        target: ended.base.clone(),
        covered_by: None,
        conflicts: Vec::new(),
    };
    // Those that were made after it, the oldest first; what one of them hides, those above it never saw.
    let mut hidden: Vec<Vec<String>> = Vec::new();
    for above in layers.iter_mut().filter(|layer| ended.lease < layer.lease && layer.overlaps(&ended.path)) {
        match above.path.strip_prefix(ended.path.as_slice()) {
            Some(below) if !below.is_empty() => {
                if hidden.iter().any(|hidden| below.starts_with(hidden)) {
                    continue;
                }
                if let (Some(ours), Some(target)) = (ended.after.at(below), ended.base.at(below)) {
                    let inside: Vec<Vec<String>> =
                        hidden.iter().filter_map(|place| Some(place.strip_prefix(below)?.to_vec())).collect();
                    let (ours, target) =
                        (shown(ours, &inside, &above.base), shown(target, &inside, &above.base));
                    let merged = merge(&ours, &above.base, &target, Otherwise::Keep);
                    above.base = merged.tree;
                    ending
                        .conflicts
                        .extend(merged.conflicts.into_iter().map(|place| [below, &place].concat()));
                }
                hidden.push(below.to_vec());
            }
            // It is at the same path or contains it.
            _ => {
                let below = ended.path[above.path.len()..].to_vec();
                let seen = above.base.at(&below).cloned().unwrap_or(Tree::Null);
                let (ours, target) =
                    (shown(&ending.ours, &hidden, &seen), shown(&ending.target, &hidden, &seen));
                let merged = merge(&ours, &seen, &target, Otherwise::Keep);
                if let Ok(base) = above.base.clone().replaced(&below, merged.tree)
                    && !planted(Fault::BaseLost)
                {
                    above.base = base;
                }
                ending.conflicts.extend(merged.conflicts);
                ending.covered_by = Some(above.lease);
                return Some((ended, ending));
            }
        }
    }
    ending.ours = shown(&ending.ours, &hidden, live);
    ending.target = shown(&ending.target, &hidden, live);
    Some((ended, ending))
}

/// A tree with what stands in `seen` at the hidden places, so that nothing is done there.
fn shown(tree: &Tree, hidden: &[Vec<String>], seen: &Tree) -> Tree {
    hidden.iter().fold(tree.clone(), |tree, place| match seen.at(place) {
        Some(value) => tree.clone().replaced(place, value.clone()).unwrap_or(tree),
        None => tree,
    })
}

/// Whether a new layer at `path` could outlive those that it lies inside of: what only they brought goes with them.
pub(crate) fn outlives(layers: &[Layer], path: &[String]) -> Result<(), u64> {
    let containing = layers.iter().filter(|layer| path.len() > layer.path.len() && layer.overlaps(path));
    for layer in containing {
        if layer.base.at(&path[layer.path.len()..]).is_none() {
            return Err(layer.lease);
        }
    }
    Ok(())
}

/// What the whole state will be from each deadline on, if nobody does anything until then; for states that look at the
/// clock where they are read. `live` is the whole state with all layers in force.
pub(crate) fn schedule(layers: &[Layer], live: &Tree) -> Vec<(BootTime, Tree)> {
    let (mut layers, mut live) = (layers.to_vec(), live.clone());
    let mut deadlines: Vec<BootTime> = layers.iter().map(|layer| layer.deadline).collect();
    deadlines.sort_unstable();
    deadlines.dedup();
    let mut later = Vec::new();
    for deadline in deadlines {
        while let Some(layer) = layers.iter().rev().find(|layer| layer.deadline <= deadline) {
            let lease = layer.lease;
            let stands = live.at(&layer.path).cloned().unwrap_or(Tree::Null);
            let Some((ended, ending)) = take_out(&mut layers, lease, &stands) else { break };
            if ending.covered_by.is_none() {
                let merged = merge(&ending.ours, &stands, &ending.target, Otherwise::Keep);
                live = live.clone().replaced(&ended.path, merged.tree).unwrap_or(live);
            }
        }
        later.push((deadline, live.clone()));
    }
    later
}

/// What becomes of a place that was changed by us and by somebody else.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Otherwise {
    /// Theirs stays; it is a conflict.
    Keep,
    /// Ours is undone all the same.
    Force,
}

/// A value that was put together, and where that was not possible.
#[derive(Clone, Debug)]
pub(crate) struct Merged {
    pub(crate) tree: Tree,
    /// Places at which `live` stayed although it should have been `target`.
    pub(crate) conflicts: Vec<Vec<String>>,
}

/// Undoes a change from `target` to `ours` in `live`, which somebody else may have changed, too: what they changed and we
/// did not stays, what we changed and they did not becomes as in `target`.
pub(crate) fn merge(ours: &Tree, live: &Tree, target: &Tree, otherwise: Otherwise) -> Merged {
    let mut merging = Merging { otherwise, place: Vec::new(), conflicts: Vec::new() };
    let tree = merging.merge(Some(ours), Some(live), Some(target)).unwrap_or(Tree::Null);
    Merged { tree, conflicts: merging.conflicts }
}

struct Merging {
    otherwise: Otherwise,
    place: Vec<String>,
    conflicts: Vec<Vec<String>>,
}

impl Merging {
    /// Nothing stands for a name that is not in the map.
    fn merge(&mut self, ours: Option<&Tree>, live: Option<&Tree>, target: Option<&Tree>) -> Option<Tree> {
        if same(live, target) || same(ours, target) {
            return live.cloned();
        }
        if same(live, ours) {
            return target.cloned();
        }
        match (ours, live, target) {
            (Some(Tree::Map(ours)), Some(Tree::Map(live)), Some(Tree::Map(target))) => {
                Some(Tree::Map(self.maps(ours, live, target)))
            }
            (Some(Tree::Seq(ours)), Some(Tree::Seq(live)), Some(Tree::Seq(target)))
                if ours.len() == live.len() && live.len() == target.len() =>
            {
                let items = ours.iter().zip(live).zip(target).enumerate();
                let merged = items.filter_map(|(index, ((ours, live), target))| {
                    self.below(&index.to_string(), Some(ours), Some(live), Some(target))
                });
                Some(Tree::Seq(merged.collect()))
            }
            _ => {
                if self.otherwise == Otherwise::Force {
                    return target.cloned();
                }
                self.conflicts.push(self.place.clone());
                live.cloned()
            }
        }
    }

    fn below(
        &mut self,
        name: &str,
        ours: Option<&Tree>,
        live: Option<&Tree>,
        target: Option<&Tree>,
    ) -> Option<Tree> {
        self.place.push(name.to_owned());
        let merged = self.merge(ours, live, target);
        self.place.pop();
        merged
    }

    /// In the order of the live map; what it lacks comes behind.
    fn maps(
        &mut self,
        ours: &[(String, Tree)],
        live: &[(String, Tree)],
        target: &[(String, Tree)],
    ) -> Vec<(String, Tree)> {
        let missing = target.iter().filter(|(name, _)| named(live, name).is_none());
        let names = live.iter().chain(missing).map(|(name, _)| name);
        names
            .filter_map(|name| {
                let merged = self.below(name, named(ours, name), named(live, name), named(target, name));
                merged.map(|value| (name.clone(), value))
            })
            .collect()
    }
}

fn named<'t>(entries: &'t [(String, Tree)], name: &str) -> Option<&'t Tree> {
    entries.iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

fn same(left: Option<&Tree>, right: Option<&Tree>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => left.same(right),
        (left, right) => left.is_none() && right.is_none(),
    }
}

#[cfg(test)]
pub(super) mod tests;
