//! Equality of trees, and where they first differ.
//!
//! Three things do not count: marks of secrets, the order of a map (a `HashMap` iterates in another order in each copy), and
//! whether a whole number is an integer or a float.

use crate::align::reordered;
use crate::canonical::{unordered_bytes, whole};
use crate::tree::Tree;

impl Tree {
    /// Whether both are the same value. Lists must agree in order. NaN equals NaN.
    pub fn same(&self, other: &Tree) -> bool {
        self.first_difference(other).is_none()
    }

    /// As `same`, but lists may be permuted: a `HashSet` serializes in another order in each copy.
    pub fn same_unordered(&self, other: &Tree) -> bool {
        self.same(other) || unordered_bytes(self) == unordered_bytes(other)
    }

    /// Every path at which the two differ, with both values. A list with another length or with reordered elements differs as
    /// a whole.
    pub fn differences<'t>(&'t self, other: &'t Tree) -> Vec<Difference<'t>> {
        let mut found = Vec::new();
        differences(&mut Vec::new(), Some(self), Some(other), &mut found);
        found
    }

    /// Path of the first difference other than the order of a list.
    pub fn first_difference_unordered(&self, other: &Tree) -> Option<Vec<String>> {
        if self.same_unordered(other) {
            return None;
        }
        let pairs: Vec<(String, Option<&Tree>, Option<&Tree>)> =
            match (self.without_mark(), other.without_mark()) {
                (Tree::Map(left), Tree::Map(_)) => {
                    let there = left.iter().map(|(name, value)| {
                        (
                            name.clone(),
                            Some(value),
                            other.without_mark().at(std::slice::from_ref(name)),
                        )
                    });
                    let only_there = other.without_mark().names().into_iter();
                    let only_there = only_there
                        .filter(|name| self.without_mark().at(std::slice::from_ref(name)).is_none());
                    there.chain(only_there.map(|name| (name, None, None))).collect()
                }
                (Tree::Seq(left), Tree::Seq(right)) if left.len() == right.len() => {
                    let pairs = left.iter().zip(right).enumerate();
                    pairs
                        .map(|(at, (left, right))| (at.to_string(), Some(left), Some(right)))
                        .collect()
                }
                _ => Vec::new(),
            };
        let below = pairs
            .into_iter()
            .find_map(|(name, left, right)| match (left, right) {
                (Some(left), Some(right)) => left
                    .first_difference_unordered(right)
                    .map(|below| prefixed(name, below)),
                _ => Some(vec![name]),
            });
        Some(below.unwrap_or_default())
    }

    /// Path of the first difference.
    pub fn first_difference(&self, other: &Tree) -> Option<Vec<String>> {
        match (self.without_mark(), other.without_mark()) {
            (Tree::Map(left), Tree::Map(right)) => map_difference(left, right),
            (Tree::Seq(left), Tree::Seq(right)) => {
                let pairs = left.iter().zip(right).enumerate();
                let inside = pairs.map(|(index, (a, b))| (index.to_string(), a.first_difference(b)));
                let length =
                    (left.len() != right.len()).then(|| vec![left.len().min(right.len()).to_string()]);
                first_below(inside).or(length)
            }
            (left, right) => (!same_leaf(left, right)).then(Vec::new),
        }
    }
}

/// A path, and the value there in each of two trees.
pub type Difference<'t> = (Vec<String>, Option<&'t Tree>, Option<&'t Tree>);

fn differences<'t>(
    path: &mut Vec<String>,
    left: Option<&'t Tree>,
    right: Option<&'t Tree>,
    found: &mut Vec<Difference<'t>>,
) {
    let mut below = |name: &str, left, right| {
        path.push(name.to_owned());
        differences(path, left, right, found);
        path.pop();
    };
    match (left, right) {
        (Some(Tree::Map(ours)), Some(Tree::Map(theirs))) => {
            let names = ours.iter().chain(
                theirs
                    .iter()
                    .filter(|(name, _)| !ours.iter().any(|(n, _)| n == name)),
            );
            let at = |entries: &'t [(String, Tree)], name: &str| {
                entries
                    .iter()
                    .find(|(key, _)| key == name)
                    .map(|(_, value)| value)
            };
            for (name, _) in names {
                below(name, at(ours, name), at(theirs, name));
            }
        }
        (Some(Tree::Seq(ours)), Some(Tree::Seq(theirs)))
            if ours.len() == theirs.len() && !reordered(ours, theirs) =>
        {
            for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                below(&index.to_string(), Some(ours), Some(theirs));
            }
        }
        // An unreadable value cannot be known to be equal.
        (Some(ours), Some(theirs)) if ours.same(theirs) && !ours.holds_unreadable() => {}
        (None, None) => {}
        (left, right) => found.push((path.clone(), left, right)),
    }
}

fn map_difference(left: &[(String, Tree)], right: &[(String, Tree)]) -> Option<Vec<String>> {
    let in_order = left.len() == right.len() && left.iter().zip(right).all(|((a, _), (b, _))| a == b);
    if in_order {
        let pairs = left.iter().zip(right);
        return first_below(pairs.map(|((key, a), (_, b))| (key.clone(), a.first_difference(b))));
    }
    let by_name: std::collections::BTreeMap<_, _> = right.iter().map(|(key, value)| (key, value)).collect();
    for (key, value) in left {
        match by_name.get(key) {
            None => return Some(vec![key.clone()]),
            Some(other) => {
                if let Some(below) = value.first_difference(other) {
                    return Some(prefixed(key.clone(), below));
                }
            }
        }
    }
    let names: std::collections::BTreeSet<_> = left.iter().map(|(key, _)| key).collect();
    right
        .iter()
        .find(|(key, _)| !names.contains(key))
        .map(|(key, _)| vec![key.clone()])
}

fn first_below(mut pairs: impl Iterator<Item = (String, Option<Vec<String>>)>) -> Option<Vec<String>> {
    pairs.find_map(|(segment, below)| below.map(|below| prefixed(segment, below)))
}

fn prefixed(segment: String, below: Vec<String>) -> Vec<String> {
    [segment].into_iter().chain(below).collect()
}

fn same_leaf(left: &Tree, right: &Tree) -> bool {
    match (left, right) {
        (Tree::F64(a), Tree::F64(b)) => a == b || (a.is_nan() && b.is_nan()),
        (Tree::F64(float), other) | (other, Tree::F64(float)) => {
            whole(*float).is_some_and(|whole| whole_of(other) == Some(whole))
        }
        (a, b) => a == b,
    }
}

fn whole_of(tree: &Tree) -> Option<i128> {
    match tree {
        Tree::I64(value) => Some(i128::from(*value)),
        Tree::U64(value) => Some(i128::from(*value)),
        _ => None,
    }
}
