//! Places at which a layer above ended as a conflict: what it left there may look like what a layer below put there, and is not.
//!
//! Invariant: what another lease left is never taken for one's own, so it is never replaced by a value of before.

use super::merge::{Left, Why};
use crate::state::Tree;

/// A place, from the state's root on, and the lease whose value was left there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Dispute {
    pub(super) place: Vec<String>,
    pub(super) lease: u64,
}

/// Those that `left` of `lease` brings to a layer at `path`. `depth`: how many segments of the path are known to be where
/// they were.
pub(super) fn disputes(lease: u64, left: &[Left], path: &[String], depth: usize) -> Vec<Dispute> {
    let known = path.get(..depth).unwrap_or(path);
    let overlap = |left: &&Left| left.place.iter().zip(known).all(|(one, other)| one == other);
    let place = |left: &Left| match left.place.starts_with(path) {
        true => left.place.clone(),
        false => path.to_vec(),
    };
    left.iter().filter(overlap).map(|left| Dispute { place: place(left), lease }).collect()
}

/// What a layer at a path put there and what should stand there without it, but for what is disputed: there both are what
/// stands there now, so that it stays.
pub(super) struct Claim {
    pub(super) ours: Option<Tree>,
    pub(super) target: Option<Tree>,
    /// What stays because of disputes, and would not stand there otherwise.
    pub(super) left: Vec<Left>,
}

impl Claim {
    pub(super) fn new(ours: Option<Tree>, target: Option<Tree>) -> Self {
        Self { ours, target, left: Vec::new() }
    }

    /// Without what is disputed.
    pub(super) fn yield_to(&mut self, disputes: &[Dispute], path: &[String], live: Option<&Tree>) {
        for dispute in disputes {
            let below = dispute.place.strip_prefix(path).unwrap_or_default();
            // Positions are not followed: all of the value is disputed then.
            let is_named = |value: Option<&Tree>| value.is_none_or(|value| is_named(value, below));
            let all = [self.ours.as_ref(), self.target.as_ref(), live].into_iter().all(is_named);
            self.yield_at(if all { below } else { &[] }, path, live, dispute.lease);
        }
    }

    fn yield_at(&mut self, below: &[String], path: &[String], live: Option<&Tree>, lease: u64) {
        let at = |value: Option<&Tree>| value.and_then(|value| value.at(below)).cloned();
        let (ours, target, stays) = (at(self.ours.as_ref()), at(self.target.as_ref()), at(live));
        if ours == target || stays == target {
            return;
        }
        match (
            replace(self.ours.as_ref(), below, stays.as_ref()),
            replace(self.target.as_ref(), below, stays.as_ref()),
        ) {
            (Some(ours), Some(target)) => (self.ours, self.target) = (ours, target),
            _ => (self.ours, self.target) = (live.cloned(), live.cloned()),
        }
        self.left.push(Left { place: [path, below].concat(), why: Why::Below(lease) });
    }
}

/// The value with another one, or none, at a place in it; nothing if it has no such place.
fn replace(value: Option<&Tree>, below: &[String], with: Option<&Tree>) -> Option<Option<Tree>> {
    if below.is_empty() {
        return Some(with.cloned());
    }
    value?.clone().with(below, with.cloned(), &[]).ok().map(Some)
}

/// Whether only names lead to a place in a value.
fn is_named(value: &Tree, below: &[String]) -> bool {
    (0..below.len())
        .all(|depth| !matches!(value.at(&below[..depth]).map(Tree::without_mark), Some(Tree::Seq(_))))
}
