//! The hash tree of RFC 6962, section 2.1 (the same as RFC 9162, section 2.1, with SHA-256).
//!
//! Empty tree: `SHA-256("")`. Leaf: `SHA-256(0x00 || entry)`. Node: `SHA-256(0x01 || left || right)`. A tree of n > 1 leaves
//! splits at the largest power of two smaller than n.

use sha2::{Digest, Sha256};

use crate::Hash;

#[cfg(test)]
mod tests;

/// The hash of one entry; for the log, of a record's line without its newline.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new()
        .chain_update([0])
        .chain_update(entry)
        .finalize()
        .into()
}

/// The hash of a node from the hashes of its two subtrees.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new()
        .chain_update([1])
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

/// The root of the tree without leaves.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// A tree that can answer for every size it ever had.
///
/// Keeps the hash of every complete subtree: 64 bytes a leaf (32 × 2n), so 64 MB for a million records, and at most twice that
/// while a level grows. In return a root costs O(log n) hashes and a proof O(log² n).
#[derive(Clone, Debug, Default)]
pub struct HashTree {
    /// `levels[k][i]` is the hash over the leaves `i·2^k .. (i+1)·2^k`; only complete subtrees.
    levels: Vec<Vec<Hash>>,
}

impl HashTree {
    /// A tree without leaves.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a leaf, given as its leaf hash, and returns its index.
    pub fn append(&mut self, leaf: Hash) -> u64 {
        let index = self.size();
        let mut hash = leaf;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let row = &mut self.levels[level];
            row.push(hash);
            let [.., left, right] = row.as_slice() else { break };
            if row.len() % 2 == 1 {
                break;
            }
            hash = node_hash(left, right);
        }
        index
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// The hash of the leaf `index`.
    pub fn leaf(&self, index: u64) -> Option<Hash> {
        self.levels.first()?.get(usize::try_from(index).ok()?).copied()
    }

    /// The root over all leaves.
    pub fn root(&self) -> Hash {
        self.root_at(self.size()).unwrap_or_else(empty_root)
    }

    /// The root as it was at `size` leaves; `None` if the tree has fewer.
    pub fn root_at(&self, size: u64) -> Option<Hash> {
        if size == 0 {
            Some(empty_root())
        } else {
            self.subtree(0, size)
        }
    }

    /// The audit path of leaf `index` in the tree of `size` leaves, from the leaf's sibling up (RFC 6962, 2.1.1).
    pub fn inclusion(&self, index: u64, size: u64) -> Option<Vec<Hash>> {
        if index >= size || size > self.size() {
            return None;
        }
        let (mut start, mut count, mut path) = (0, size, Vec::new());
        while count > 1 {
            let left = split(count);
            if index < start + left {
                path.push(self.subtree(start + left, count - left)?);
                count = left;
            } else {
                path.push(self.subtree(start, left)?);
                (start, count) = (start + left, count - left);
            }
        }
        path.reverse();
        Some(path)
    }

    /// The proof that the tree of `from` leaves is a prefix of that of `to` leaves (RFC 6962, 2.1.2).
    ///
    /// Empty when `from` is 0 or equals `to`; `None` if `from > to` or the tree has fewer leaves.
    pub fn consistency(&self, from: u64, to: u64) -> Option<Vec<Hash>> {
        if from > to || to > self.size() {
            return None;
        }
        if from == 0 {
            return Some(Vec::new());
        }
        let (mut start, mut count, mut path) = (0, to, Vec::new());
        // Whether the old tree is exactly the subtree `start..start + count` from here on.
        while from != start + count {
            let left = split(count);
            if from <= start + left {
                path.push(self.subtree(start + left, count - left)?);
                count = left;
            } else {
                path.push(self.subtree(start, left)?);
                (start, count) = (start + left, count - left);
            }
        }
        if start != 0 {
            // The verifier knows the old root, but not the hash of a subtree further right.
            path.push(self.subtree(start, count)?);
        }
        path.reverse();
        Some(path)
    }

    /// The hash over `count` > 0 leaves from `start`; `start` is a multiple of the smallest power of two not below `count`.
    fn subtree(&self, start: u64, count: u64) -> Option<Hash> {
        if count.is_power_of_two() {
            let row = self.levels.get(count.trailing_zeros() as usize)?;
            return row.get(usize::try_from(start / count).ok()?).copied();
        }
        let left = split(count);
        Some(node_hash(
            &self.subtree(start, left)?,
            &self.subtree(start + left, count - left)?,
        ))
    }
}

/// The largest power of two smaller than `count`, which is at least 2.
fn split(count: u64) -> u64 {
    1 << (63 - (count - 1).leading_zeros())
}

/// The right edge of a growing tree: at most 64 hashes, enough for its root.
#[derive(Clone, Debug, Default)]
pub(crate) struct Edge {
    size: u64,
    /// Roots of the complete subtrees, largest first: one for each bit set in `size`.
    roots: Vec<Hash>,
}

impl Edge {
    pub(crate) fn append(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            // `roots` has one entry for each bit set in `size`, so it does not run out.
            let Some(left) = self.roots.pop() else { break };
            hash = node_hash(&left, &hash);
        }
        self.roots.push(hash);
        self.size += 1;
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn root(&self) -> Hash {
        let mut roots = self.roots.iter().rev().copied();
        let Some(last) = roots.next() else {
            return empty_root();
        };
        roots.fold(last, |right, left| node_hash(&left, &right))
    }
}

/// Why a proof is rejected.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProofError {
    /// The index lies outside the tree, or the older tree is the larger.
    #[error("the proof is for a record or a size outside the log")]
    OutOfRange,
    /// More or fewer hashes than the sizes require.
    #[error("the proof has {found} hashes, which do not fit the sizes")]
    Length {
        /// The number of hashes given.
        found: usize,
    },
    /// The hashes lead to another root than the signed one.
    #[error("the proof does not lead to the signed root hash")]
    Root,
}

/// Verifies that `leaf` is the leaf `index` of the tree of `size` leaves with that `root` (RFC 9162, 2.1.3.2).
///
/// # Errors
/// [`ProofError`]; exactly one proof is accepted for each index, size and root (unless SHA-256 is broken).
pub fn verify_inclusion(
    index: u64,
    size: u64,
    leaf: &Hash,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::OutOfRange);
    }
    let length = ProofError::Length { found: proof.len() };
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return Err(length);
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(sibling, &hash);
            (at, last) = up_to_right_child(at, last);
        } else {
            hash = node_hash(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    if last != 0 {
        return Err(length);
    }
    if hash == *root {
        Ok(())
    } else {
        Err(ProofError::Root)
    }
}

/// Verifies that the tree of `from` leaves is a prefix of the tree of `to` leaves (RFC 9162, 2.1.4.2).
///
/// Every log continues the empty one: with `from` = 0 the proof must be empty and `root_from` the empty root.
///
/// # Errors
/// [`ProofError`]; exactly one proof is accepted for each pair of sizes and roots (unless SHA-256 is broken).
pub fn verify_consistency(
    from: u64,
    to: u64,
    root_from: &Hash,
    root_to: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if from > to {
        return Err(ProofError::OutOfRange);
    }
    if from == to || from == 0 {
        return verify_trivial(from, to, root_from, root_to, proof);
    }
    let length = ProofError::Length { found: proof.len() };
    let (mut at, mut last) = (from - 1, to - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    // When the old tree is complete, its root is the first hash and is not sent.
    let (first, rest) = if from.is_power_of_two() {
        (root_from, proof)
    } else {
        proof.split_first().ok_or(length)?
    };
    let (mut old, mut new) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return Err(length);
        }
        if at & 1 == 1 || at == last {
            old = node_hash(sibling, &old);
            new = node_hash(sibling, &new);
            (at, last) = up_to_right_child(at, last);
        } else {
            new = node_hash(&new, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    if last != 0 {
        return Err(length);
    }
    if old == *root_from && new == *root_to {
        Ok(())
    } else {
        Err(ProofError::Root)
    }
}

/// Climbs past the levels at which the node is the left-most of an incomplete right edge and so has no sibling.
fn up_to_right_child(mut at: u64, mut last: u64) -> (u64, u64) {
    while at & 1 == 0 && at != 0 {
        (at, last) = (at >> 1, last >> 1);
    }
    (at, last)
}

fn verify_trivial(
    from: u64,
    to: u64,
    root_from: &Hash,
    root_to: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if !proof.is_empty() {
        return Err(ProofError::Length { found: proof.len() });
    }
    let known = |size: u64, root: &Hash| size != 0 || *root == empty_root();
    if !known(from, root_from) || !known(to, root_to) || (from == to && root_from != root_to) {
        return Err(ProofError::Root);
    }
    Ok(())
}
