//! Effect of the end of one write on the other writes and on the live value: pure functions over trees.
//!
//! The place of a layer is looked up in the state as it would be without the layers above it. They are lifted off, newest
//! first, and put back afterwards. The element at the place is identified by its content, see [`follow`].
//!
//! Invariant: the live value is that of the newest layer in force, and the service's own value where no layer covers it. A
//! place that cannot be identified is not written. No function here uses a lock, a clock or a type of the service.

use super::disputed::{Dispute, OwnPart, disputes};
use super::merge::{KeptBecause, KeptPlace, Otherwise, merge};
use debug_base::{
    Basis, BootTime, Doubt, Evidence, Here, Orders, Trail, Tree, alike, changed_places, follow, is_in_order,
};

/// One write in force at a path of a state.
#[derive(Clone, Debug)]
pub struct WriteLayer {
    /// Id of its lease. Ids increase, so a larger id lies above.
    pub lease: u64,
    /// Its path below the state when it was last located.
    pub path: Vec<String>,
    /// Value it wrote; `None` if it removed one.
    pub after: Option<Tree>,
    /// Value that will be there without it, given the layers below and the service's own writes; `None` if the place was
    /// empty.
    pub base: Option<Tree>,
    /// When its lease ends.
    pub deadline: BootTime,
    /// Evidence by which its place is located.
    pub anchor: Anchor,
    /// Places below which a layer above ended with a conflict.
    disputed: Vec<Dispute>,
    /// The places that its end left as a conflict: only these may be forced.
    conflict: Vec<Vec<String>>,
}

/// Evidence that identifies the place of a layer.
#[derive(Clone, Debug, Default)]
pub struct Anchor {
    /// The outermost list on the path, as it was with the layer in place: the number of segments that lead to it, and the
    /// list.
    list: Option<(usize, Tree)>,
    /// Places, from the state's root, that the layer changed.
    changed: Vec<Vec<String>>,
    /// Kind of evidence that may be used.
    evidence: Evidence,
    /// Names in the surrounding map before the write, so that a removed name is restored in its position.
    order: Vec<String>,
}

impl WriteLayer {
    /// A write that turned the state `before` into `whole`, and the value `base` at `path` into `after`.
    pub fn new(
        lease: u64,
        path: &[String],
        (base, after): (Option<Tree>, Option<Tree>),
        (before, whole): (&Tree, &Tree),
        deadline: BootTime,
    ) -> Self {
        let mut changed = changed_places(base.as_ref(), after.as_ref());
        if changed.is_empty() {
            changed.push(Vec::new());
        }
        let anchor = Anchor {
            list: outermost_list(path, whole),
            changed: changed.into_iter().map(|place| [path, &place].concat()).collect(),
            evidence: Evidence::All,
            order: names_beside(path, before),
        };
        Self {
            lease,
            path: path.to_vec(),
            after,
            base,
            deadline,
            anchor,
            disputed: Vec::new(),
            conflict: Vec::new(),
        }
    }

    /// Locates the layer in a view of the state. `lost`: places changed by layers above that could not be lifted. `others`:
    /// for timed states, places changed by layers that may have ended without an undo.
    ///
    /// # Errors
    /// Why the place cannot be identified.
    fn find(&self, view: &Tree, lost: &[Vec<String>], others: &[Vec<String>]) -> Result<Trail, Doubt> {
        let changed = [self.anchor.changed.clone(), self.in_each(lost)].concat();
        let found = self.anchor.follow(&self.path, &changed, view);
        found.or_else(|doubt| match others {
            [] => Err(doubt),
            others => self
                .anchor
                .follow(&self.path, &[changed, others.to_vec()].concat(), view),
        })
    }

    /// Maps places in other elements of the layer's list to its own element: it is not known where those elements are now.
    fn in_each(&self, lost: &[Vec<String>]) -> Vec<Vec<String>> {
        let Some((depth, _)) = self.anchor.list else {
            return Vec::new();
        };
        let (Some(list), Some(own)) = (self.path.get(..depth), self.path.get(..=depth)) else {
            return Vec::new();
        };
        let inside = lost.iter().filter(|place| place.starts_with(list));
        inside
            .filter_map(|place| Some([own, place.get(depth + 1..)?].concat()))
            .collect()
    }

    /// Records the layer's current path and its surroundings there.
    fn is_at(&mut self, path: Vec<String>, view: &Tree) {
        let old = std::mem::replace(&mut self.path, path);
        let disputed = self.disputed.iter_mut().map(|dispute| &mut dispute.place);
        for place in self.anchor.changed.iter_mut().chain(disputed) {
            if let Some(below) = place.strip_prefix(old.as_slice()) {
                *place = [self.path.as_slice(), below].concat();
            }
        }
        self.anchor.list = outermost_list(&self.path, view);
        self.anchor.evidence = Evidence::All;
    }

    /// Whether the layer lies in a list, so that the service can move its element.
    pub fn is_in_list(&self) -> bool {
        self.anchor.list.is_some()
    }

    /// Its path as far as it is known: of a layer whose element is lost, that of the list.
    pub fn known_path(&self) -> &[String] {
        let depth = match (&self.anchor.list, self.anchor.evidence) {
            (Some((depth, _)), Evidence::Text) => *depth,
            _ => self.path.len(),
        };
        &self.path[..depth.min(self.path.len())]
    }

    /// The value it wrote and its base.
    pub fn values(&self) -> impl Iterator<Item = &Tree> {
        self.after.iter().chain(&self.base)
    }

    /// Records what an ended layer above left in place.
    fn dispute(&mut self, lease: u64, left: &[KeptPlace], is_found: bool) {
        let depth = match (&self.anchor.list, is_found) {
            (Some((depth, _)), false) => *depth,
            _ => self.path.len(),
        };
        self.disputed.extend(disputes(lease, left, &self.path, depth));
    }

    fn contains(&self, path: &[String]) -> bool {
        path.starts_with(&self.path)
    }

    /// Whether `path` contains its place or lies inside it.
    pub fn overlaps(&self, path: &[String]) -> bool {
        self.path.iter().zip(path).all(|(a, b)| a == b)
    }
}

impl Anchor {
    fn follow(&self, path: &[String], changed: &[Vec<String>], view: &Tree) -> Result<Trail, Doubt> {
        let Some((depth, list)) = &self.list else {
            return match path.split_last().is_none_or(|(_, above)| is_map(view.at(above))) {
                true => Ok(Trail {
                    path: path.to_vec(),
                    basis: Basis::Names,
                }),
                false => Err(Doubt::Gone(missing(path, view))),
            };
        };
        let (above, below) = path.split_at(*depth);
        let Some(now) = view.at(above) else {
            return Err(Doubt::Gone(missing(path, view)));
        };
        let changed: Vec<_> = changed
            .iter()
            .filter_map(|place| Some(place.strip_prefix(above)?.to_vec()))
            .collect();
        match follow(below, &changed, list, now, self.evidence) {
            Ok(trail) => Ok(Trail {
                path: [above, &trail.path].concat(),
                basis: trail.basis,
            }),
            Err(Doubt::Gone(path)) => Err(Doubt::Gone([above, &path].concat())),
            Err(Doubt::List {
                path,
                had,
                has,
                alike,
            }) => Err(Doubt::List {
                path: [above, &path].concat(),
                had,
                has,
                alike,
            }),
        }
    }
}

fn is_map(tree: Option<&Tree>) -> bool {
    matches!(tree.map(Tree::without_mark), Some(Tree::Map(_)))
}

/// The path up to and including the first missing segment.
fn missing(path: &[String], view: &Tree) -> Vec<String> {
    let there = (0..=path.len())
        .take_while(|&depth| view.at(&path[..depth]).is_some())
        .count();
    path[..there.min(path.len())].to_vec()
}

fn outermost_list(path: &[String], whole: &Tree) -> Option<(usize, Tree)> {
    let at = |depth: usize| Some((depth, whole.at(path.get(..depth)?)?.clone()));
    (0..path.len())
        .filter_map(at)
        .find(|(_, tree)| matches!(tree, Tree::Seq(_)))
}

fn names_beside(path: &[String], whole: &Tree) -> Vec<String> {
    let parent = path.split_last().and_then(|(_, above)| whole.at(above));
    parent.map(Tree::names).unwrap_or_default()
}

/// Result of ending a layer.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The layer at the place where it was found.
    pub layer: WriteLayer,
    /// The whole state without it.
    pub tree: Tree,
    /// Evidence for its place; `None` if it was not found.
    pub basis: Option<Basis>,
    /// Value now at its place, or in the base of the covering layer; outer `None` if the place was not found.
    pub stands: Option<Option<Tree>>,
    /// Whether that value equals the earlier one.
    pub as_before: bool,
    /// Layer above that covers the place: the live value stays and that layer's base was changed instead.
    pub covered_by: Option<u64>,
    /// Parts that were not undone.
    pub left: Vec<KeptPlace>,
}

impl Ending {
    /// Turns the ending into one that undoes nothing: `live` stays.
    pub fn stays(&mut self, live: &Tree) {
        self.tree = live.clone();
        let place = self.layer.path.clone();
        if self.covered_by.is_none() && self.basis.is_some() {
            self.stands = Some(live.at(&place).cloned());
        }
        self.left = vec![KeptPlace {
            place,
            why: KeptBecause::Unfit,
        }];
        self.layer.conflict = self.left.iter().map(|left| left.place.clone()).collect();
    }

    /// Refuses to force what lies outside the places of the conflict. The operator, policy and the record know those; the
    /// service may have moved what was changed since.
    pub fn keep_to_conflict(&mut self, live: &Tree) {
        let known = |place: &[String]| self.layer.conflict.iter().any(|known| place.starts_with(known));
        let differing = live.differences(&self.tree).into_iter().map(|(place, ..)| place);
        let moved: Vec<KeptPlace> = differing
            .filter(|place| !known(place))
            .map(|place| KeptPlace {
                place,
                why: KeptBecause::Moved,
            })
            .collect();
        self.left.extend(moved);
    }
}

/// A layer lifted off the view, with the value that was at its place.
struct Lifted {
    at: usize,
    path: Vec<String>,
    stood: Option<Tree>,
    order: Vec<String>,
}

/// Removes a layer from its stack and undoes it in `live`, the whole state with all layers in force. `None` if there is no
/// such layer.
pub fn end(
    layers: &mut Vec<WriteLayer>,
    lease: u64,
    live: &Tree,
    otherwise: Otherwise,
    orders: &dyn Orders,
) -> Option<Ending> {
    let at = layers.iter().position(|layer| layer.lease == lease)?;
    let (mut view, mut lifted, mut lost) = (live.clone(), Vec::new(), Vec::new());
    for above in (at + 1..layers.len()).rev() {
        let lost_places = changed_by(layers, &lost);
        match lift(layers, above, &mut view, &lost_places, orders) {
            Ok(taken) => lifted.push(taken),
            Err(_) => lost.push(above),
        }
    }
    let lost_places = changed_by(layers, &lost);
    let mut ended = layers[at].clone();
    let over_lost = lost
        .iter()
        .find(|&&above| layers[above].overlaps(&ended.path))
        .copied();
    let found = match over_lost {
        // The layer above could not be lifted, so the view still shows its value here rather than that of the ended layer.
        Some(above) => {
            let found = layers[above].find(&view, &lost_places, &[]);
            found.and_then(|_| ended.find(&view, &lost_places, &others(layers, at, orders)))
        }
        None => ended.find(&view, &lost_places, &others(layers, at, orders)),
    };
    let covered_by = |path: &[String]| {
        let covers = |taken: &&Lifted| layers[taken.at].contains(path);
        lifted
            .iter()
            .rev()
            .find(covers)
            .map(|taken| layers[taken.at].lease)
    };
    let mut ending = match found {
        Ok(trail) => {
            ended.is_at(trail.path, &view);
            let covered_by = covered_by(&ended.path);
            let seen = view.clone();
            let mut ending = undone(ended, &mut view, otherwise, orders);
            ending.covered_by = covered_by;
            ending.basis = Some(trail.basis);
            match place_again(layers, &lifted, &ending.layer.path, &seen, &view) {
                Ok(places) => {
                    for (taken, place) in lifted.iter_mut().zip(places) {
                        taken.path = place;
                    }
                }
                Err(inside) => {
                    view = seen;
                    let place = ending.layer.path.clone();
                    ending.stands = Some(view.at(&place).cloned());
                    ending.as_before = false;
                    ending.left = vec![KeptPlace {
                        place,
                        why: KeptBecause::Inside(inside),
                    }];
                }
            }
            ending
        }
        Err(doubt) => {
            let place = nearest_place(&doubt, &ended.path);
            Ending {
                layer: ended,
                tree: Tree::Null,
                basis: None,
                stands: None,
                as_before: false,
                covered_by: None,
                left: vec![KeptPlace {
                    place,
                    why: KeptBecause::Doubt(doubt),
                }],
            }
        }
    };
    // The layers below are located too: otherwise the agent's own undo around them could hide their elements from a later
    // lookup.
    let mut below = Vec::new();
    let left: Vec<KeptPlace> = ending
        .left
        .iter()
        .filter(|left| may_be_ours(left, &view))
        .cloned()
        .collect();
    for under in (0..at).rev() {
        let found = lift(layers, under, &mut view, &lost_places, orders);
        layers[under].dispute(lease, &left, found.is_ok());
        below.extend(found);
    }
    put_back(layers, below, &mut view);
    put_back(layers, lifted, &mut view);
    layers.remove(at);
    ending.tree = view;
    if otherwise == Otherwise::Keep {
        ending.layer.conflict = ending.left.iter().map(|left| left.place.clone()).collect();
    }
    Some(ending)
}

/// Whether a value left by an ended layer may be the one it wrote. A changed leaf is the service's own. Of a changed list
/// only some elements may be.
fn may_be_ours(left: &KeptPlace, view: &Tree) -> bool {
    left.why != KeptBecause::Changed || matches!(view.at(&left.place), Some(Tree::Seq(_)))
}

/// The place to report for a layer that was not found: the list it was in, or else its path.
fn nearest_place(doubt: &Doubt, path: &[String]) -> Vec<String> {
    match doubt {
        Doubt::List { path, .. } => path.clone(),
        Doubt::Gone(_) => path.to_vec(),
    }
}

/// For timed states, the places that other layers in the same state changed. One of them may have ended without an undo, so
/// those places are no evidence.
fn others(layers: &[WriteLayer], at: usize, orders: &dyn Orders) -> Vec<Vec<String>> {
    if !orders.is_timed() {
        return Vec::new();
    }
    let others = layers.iter().enumerate().filter(|(other, _)| *other != at);
    others
        .flat_map(|(_, layer)| layer.anchor.changed.iter().cloned())
        .collect()
}

/// The places that the layers at these indices changed.
fn changed_by(layers: &[WriteLayer], some: &[usize]) -> Vec<Vec<String>> {
    some.iter()
        .flat_map(|&at| layers[at].anchor.changed.iter().cloned())
        .collect()
}

/// Undoes a layer in a view without layers above it.
fn undone(layer: WriteLayer, view: &mut Tree, otherwise: Otherwise, orders: &dyn Orders) -> Ending {
    let (path, target) = (layer.path.clone(), layer.base.clone());
    let mut claim = OwnPart::new(layer.after.clone(), target.clone());
    if otherwise == Otherwise::Keep {
        claim.yield_to(&layer.disputed, &path, view.at(&path));
    }
    let here = Here {
        whole: view,
        path: &path,
        orders,
    };
    let merged = merge(
        claim.ours.as_ref(),
        view.at(&path),
        claim.target.as_ref(),
        otherwise,
        here,
    );
    let mut left = [claim.left, merged.left].concat();
    match view.clone().with(&path, merged.value, &layer.anchor.order) {
        Ok(next) => *view = next,
        Err(_) => left.push(KeptPlace {
            place: path.clone(),
            why: KeptBecause::Unfit,
        }),
    }
    let stands = view.at(&path).cloned();
    let here = Here {
        whole: view,
        path: &path,
        orders,
    };
    let as_before = left.is_empty()
        && alike(stands.as_ref(), target.as_ref(), here)
        && is_in_order(stands.as_ref(), target.as_ref(), here);
    // A set may have come back in another order: report the earlier value.
    let stands = if as_before { target } else { stands };
    Ending {
        layer,
        tree: Tree::Null,
        basis: None,
        stands: Some(stands),
        as_before,
        covered_by: None,
        left,
    }
}

/// Lifts a layer off a view without layers above it.
fn lift(
    layers: &mut [WriteLayer],
    at: usize,
    view: &mut Tree,
    lost: &[Vec<String>],
    orders: &dyn Orders,
) -> Result<Lifted, Doubt> {
    let others = others(layers, at, orders);
    let trail = layers[at].find(view, lost, &others);
    let layer = &mut layers[at];
    let trail = trail.inspect_err(|_| layer.anchor.evidence = Evidence::Text)?;
    let seen = view.at(&trail.path).cloned();
    let order = names_beside(&trail.path, view);
    let without = view
        .clone()
        .with(&trail.path, layer.base.clone(), &layer.anchor.order);
    // Fails for a list element that did not exist before: lists are only written whole, never extended.
    let without = without.map_err(|_| Doubt::Gone(trail.path.clone()))?;
    layer.is_at(trail.path.clone(), view);
    *view = without;
    Ok(Lifted {
        at,
        path: trail.path,
        stood: seen,
        order,
    })
}

/// Where the lifted layers go back to after an undo changed the list elements around them, in the order of `lifted`. One that
/// stands on another lifted layer goes where that layer goes: its path leads into that layer's value.
///
/// # Errors
/// The lease that has no place any more.
fn place_again(
    layers: &[WriteLayer],
    lifted: &[Lifted],
    path: &[String],
    seen: &Tree,
    now: &Tree,
) -> Result<Vec<Vec<String>>, u64> {
    let mut places: Vec<Vec<String>> = lifted.iter().map(|taken| taken.path.clone()).collect();
    for (index, taken) in lifted.iter().enumerate().rev() {
        let older = lifted.iter().enumerate().skip(index + 1);
        let holder = older
            .filter(|(_, older)| taken.path.starts_with(&older.path))
            .map(|(at, _)| at)
            .next();
        if let Some(holder) = holder {
            places[index] = [&places[holder], &taken.path[lifted[holder].path.len()..]].concat();
        } else if let Some(below) = taken.path.strip_prefix(path).filter(|below| !below.is_empty()) {
            let lease = layers[taken.at].lease;
            let changed = layers[taken.at].anchor.changed.iter();
            let changed: Vec<_> = changed
                .filter_map(|at| Some(at.strip_prefix(path)?.to_vec()))
                .collect();
            let (seen, now) = (seen.at(path).ok_or(lease)?, now.at(path).ok_or(lease)?);
            let trail = follow(below, &changed, seen, now, Evidence::All).map_err(|_| lease)?;
            places[index] = [path, &trail.path].concat();
        }
    }
    let mut view = now.clone();
    for (taken, place) in lifted.iter().zip(&places).rev() {
        let next = view.with(place, taken.stood.clone(), &taken.order);
        view = next.map_err(|_| layers[taken.at].lease)?;
    }
    Ok(places)
}

/// Puts lifted layers back, oldest first; the value then at each place becomes the layer's base.
fn put_back(layers: &mut [WriteLayer], mut lifted: Vec<Lifted>, view: &mut Tree) {
    while let Some(Lifted {
        at,
        path,
        stood,
        order,
    }) = lifted.pop()
    {
        let base = view.at(&path).cloned();
        let Ok(next) = view.clone().with(&path, stood, &order) else {
            continue;
        };
        let layer = &mut layers[at];
        layer.base = base;
        *view = next;
        layer.is_at(path, view);
    }
}

/// Locates each layer in `live`, so that later lookups start from its current place.
pub fn look(layers: &mut [WriteLayer], live: &Tree, orders: &dyn Orders) {
    let (mut view, mut lifted, mut lost) = (live.clone(), Vec::new(), Vec::new());
    for at in (0..layers.len()).rev() {
        let lost_places = changed_by(layers, &lost);
        match lift(layers, at, &mut view, &lost_places, orders) {
            Ok(taken) => lifted.push(taken),
            Err(_) => lost.push(at),
        }
    }
    put_back(layers, lifted, &mut view);
}

/// Removes a layer from its stack but keeps what it wrote, as listed in `left`.
pub fn abandon(layers: &mut Vec<WriteLayer>, lease: u64, left: &[KeptPlace]) {
    for below in layers.iter_mut().take_while(|layer| layer.lease < lease) {
        below.dispute(lease, left, true);
    }
    layers.retain(|layer| layer.lease != lease);
}

/// Drops the disputes of a lease after its conflict was undone by force: the values there are those from below it again.
pub fn settled(layers: &mut [WriteLayer], lease: u64) {
    for layer in layers {
        layer.disputed.retain(|dispute| dispute.lease != lease);
    }
}

/// Checks that a new layer at `path` could outlive the layers around it: a place that only one of them created goes when that
/// layer ends.
///
/// # Errors
/// The lease that created the place.
pub fn outlives(layers: &[WriteLayer], path: &[String]) -> Result<(), u64> {
    // Newest first: each path leads into the value of the layer above.
    let mut path = path.to_vec();
    for layer in layers.iter().rev() {
        if path.len() <= layer.path.len() || !layer.contains(&path) {
            continue;
        }
        let below = &path[layer.path.len()..];
        let (Some(after), Some(base)) = (&layer.after, &layer.base) else {
            return Err(layer.lease);
        };
        // The place itself counts as changed, because the write will change it.
        let found = follow(below, &[below.to_vec()], after, base, Evidence::All).map_err(|_| layer.lease)?;
        if base.at(&found.path).is_none() && after.at(below).is_some() {
            return Err(layer.lease);
        }
        path = [layer.path.as_slice(), &found.path].concat();
    }
    Ok(())
}

/// The whole state from each deadline on if no lease changes until then; for timed states, which check the clock on each
/// read. `live` is the whole state with all layers in force.
pub fn schedule(layers: &[WriteLayer], live: &Tree, orders: &dyn Orders) -> Vec<(BootTime, Tree)> {
    let (mut layers, mut live) = (layers.to_vec(), live.clone());
    let mut deadlines: Vec<BootTime> = layers.iter().map(|layer| layer.deadline).collect();
    deadlines.sort_unstable();
    deadlines.dedup();
    let mut later = Vec::new();
    for deadline in deadlines {
        while let Some(layer) = layers.iter().rev().find(|layer| layer.deadline <= deadline) {
            let lease = layer.lease;
            let Some(ending) = end(&mut layers, lease, &live, Otherwise::Keep, orders) else {
                break;
            };
            live = ending.tree;
        }
        later.push((deadline, live.clone()));
    }
    later
}

#[cfg(test)]
mod tests;
