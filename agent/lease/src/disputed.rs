//! Places at which a layer above ended with a conflict. The value left there may look like the one a layer below wrote.
//!
//! Invariant: a value that another lease left is never taken for the layer's own, so it is never replaced by an earlier
//! value.

use super::merge::{KeptBecause, KeptPlace};
use debug_base::Tree;

/// A place, from the state's root, and the lease that left its value there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Dispute {
    pub place: Vec<String>,
    pub lease: u64,
}

/// The disputes that `left` of `lease` brings to a layer at `path`. `depth`: number of leading segments of `path` known to be
/// current.
pub(crate) fn disputes(lease: u64, left: &[KeptPlace], path: &[String], depth: usize) -> Vec<Dispute> {
    let known = path.get(..depth).unwrap_or(path);
    let overlap = |left: &&KeptPlace| left.place.iter().zip(known).all(|(one, other)| one == other);
    let place = |left: &KeptPlace| match left.place.starts_with(path) {
        true => left.place.clone(),
        false => path.to_vec(),
    };
    left.iter()
        .filter(overlap)
        .map(|left| Dispute {
            place: place(left),
            lease,
        })
        .collect()
}

/// A layer's value and target, without the disputed parts. In those parts both equal the live value, so the merge keeps it.
pub(crate) struct OwnPart {
    pub ours: Option<Tree>,
    pub target: Option<Tree>,
    /// Disputed parts that keep a value other than the target.
    pub left: Vec<KeptPlace>,
}

impl OwnPart {
    pub(crate) fn new(ours: Option<Tree>, target: Option<Tree>) -> Self {
        Self {
            ours,
            target,
            left: Vec::new(),
        }
    }

    /// Excludes the disputed parts.
    pub(crate) fn yield_to(&mut self, disputes: &[Dispute], path: &[String], live: Option<&Tree>) {
        for dispute in disputes {
            let below = dispute.place.strip_prefix(path).unwrap_or_default();
            // A list position may have moved, so a dispute below one covers the whole value.
            let is_named = |value: Option<&Tree>| value.is_none_or(|value| is_named(value, below));
            let all = [self.ours.as_ref(), self.target.as_ref(), live]
                .into_iter()
                .all(is_named);
            self.yield_at(if all { below } else { &[] }, path, live, dispute.lease);
        }
    }

    fn yield_at(&mut self, below: &[String], path: &[String], live: Option<&Tree>, lease: u64) {
        let at = |value: Option<&Tree>| value.and_then(|value| value.at(below)).cloned();
        let (ours, target, stays) = (at(self.ours.as_ref()), at(self.target.as_ref()), at(live));
        if ours == target || stays == target {
            return;
        }
        let replaced = (
            replace(self.ours.as_ref(), below, stays.as_ref()),
            replace(self.target.as_ref(), below, stays.as_ref()),
        );
        let (values, below) = match replaced {
            (Some(ours), Some(target)) => ((ours, target), below),
            // Without the place in one of them the whole value stays, so the whole is left, and may be forced.
            _ => ((live.cloned(), live.cloned()), &[][..]),
        };
        (self.ours, self.target) = values;
        self.left.push(KeptPlace {
            place: [path, below].concat(),
            why: KeptBecause::Below(lease),
        });
    }
}

/// `value` with another value, or none, at `below`; outer `None` if it has no such place.
fn replace(value: Option<&Tree>, below: &[String], with: Option<&Tree>) -> Option<Option<Tree>> {
    if below.is_empty() {
        return Some(with.cloned());
    }
    value?.clone().with(below, with.cloned(), &[]).ok().map(Some)
}

/// Whether the path leads through maps only.
fn is_named(value: &Tree, below: &[String]) -> bool {
    (0..below.len()).all(|depth| {
        !matches!(
            value.at(&below[..depth]).map(Tree::without_mark),
            Some(Tree::Seq(_))
        )
    })
}
