//! The canonical bytes of a tree, over which it is digested and compared.

use crate::tree::Tree;
use crate::tree::Wide;

/// Feeds the canonical bytes of `tree` to `sink`, piece by piece.
///
/// One tag byte, then its content:
/// - null `00`
/// - boolean `01`, then `00` or `01`
/// - integer `02`, 8 bytes, two's complement
/// - integer above `i64::MAX` `03`, 8 bytes
/// - float `04`, 8 bytes of IEEE 754 (every NaN as `7ff8000000000000`)
/// - text `05`, length, UTF-8
/// - list `06`, count, elements
/// - map `07`, count, then per entry, sorted by the bytes of the keys: length and bytes of the key, and the value
/// - integer of more than 64 bits `08` (unsigned) or `09` (two's complement), 16 bytes
/// - unreadable value `0a`, length and UTF-8 of the reason
///
/// Lengths and counts are 8 bytes; all integers are big-endian. The mark of a secret adds nothing, so a marked value has the
/// same digest as an unmarked one.
pub fn feed(tree: &Tree, sink: &mut impl FnMut(&[u8])) {
    match tree {
        Tree::Null => sink(&[0]),
        Tree::Bool(value) => sink(&[1, u8::from(*value)]),
        Tree::I64(value) => tagged(2, value.to_be_bytes(), sink),
        Tree::U64(value) => tagged(3, value.to_be_bytes(), sink),
        Tree::F64(value) => {
            let value = if value.is_nan() {
                f64::from_bits(0x7ff8_0000_0000_0000)
            } else {
                *value
            };
            tagged(4, value.to_bits().to_be_bytes(), sink);
        }
        Tree::Str(text) => {
            tagged(5, count(text.len()), sink);
            sink(text.as_bytes());
        }
        Tree::Seq(items) => {
            tagged(6, count(items.len()), sink);
            for item in items {
                feed(item, sink);
            }
        }
        Tree::Map(entries) => {
            tagged(7, count(entries.len()), sink);
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_by(|(a, _), (b, _)| a.as_bytes().cmp(b.as_bytes()));
            for (key, value) in sorted {
                sink(&count(key.len()));
                sink(key.as_bytes());
                feed(value, sink);
            }
        }
        Tree::Secret(inner) => feed(inner, sink),
        Tree::Unreadable(leaf) => match leaf.kept() {
            Some(Wide::Unsigned(value)) => wide(8, value.to_be_bytes(), sink),
            Some(Wide::Signed(value)) => wide(9, value.to_be_bytes(), sink),
            None => {
                tagged(10, count(leaf.reason().len()), sink);
                sink(leaf.reason().as_bytes());
            }
        },
    }
}

fn wide(tag: u8, bytes: [u8; 16], sink: &mut impl FnMut(&[u8])) {
    sink(&[tag]);
    sink(&bytes);
}

fn tagged(tag: u8, bytes: [u8; 8], sink: &mut impl FnMut(&[u8])) {
    sink(&[tag]);
    sink(&bytes);
}

fn count(length: usize) -> [u8; 8] {
    // No target has a wider `usize`.
    u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes()
}

/// Canonical bytes with the elements of every list sorted.
pub(crate) fn unordered_bytes(tree: &Tree) -> Vec<u8> {
    let mut bytes = Vec::new();
    feed(&sorted(tree), &mut |part| bytes.extend_from_slice(part));
    bytes
}

fn sorted(tree: &Tree) -> Tree {
    match tree.without_mark() {
        Tree::Seq(items) => {
            let mut keyed: Vec<_> = items
                .iter()
                .map(|item| (unordered_bytes(item), sorted(item)))
                .collect();
            keyed.sort_by(|(a, _), (b, _)| a.cmp(b));
            Tree::Seq(keyed.into_iter().map(|(_, item)| item).collect())
        }
        Tree::Map(entries) => Tree::Map(
            entries
                .iter()
                .map(|(key, value)| (key.clone(), sorted(value)))
                .collect(),
        ),
        Tree::F64(float) => match whole(*float) {
            Some(whole) => i64::try_from(whole).map(Tree::I64).unwrap_or(Tree::F64(*float)),
            None => Tree::F64(*float),
        },
        leaf => leaf.clone(),
    }
}

/// The whole number that a float represents exactly within 64 bits, if any.
pub(crate) fn whole(float: f64) -> Option<i128> {
    // Within these bounds the conversion to `i128` is exact.
    (float.fract() == 0.0 && float.abs() <= 18_446_744_073_709_551_615.0).then_some(float as i128)
}
