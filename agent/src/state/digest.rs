use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::tree::Tree;
use super::unreadable::Wide;

/// Length of a shown fingerprint in bytes: enough to tell values apart by eye, too short for a search to confirm a value.
const FINGERPRINT_LEN: usize = 4;

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
pub(super) fn feed(tree: &Tree, sink: &mut impl FnMut(&[u8])) {
    match tree {
        Tree::Null => sink(&[0]),
        Tree::Bool(value) => sink(&[1, u8::from(*value)]),
        Tree::I64(value) => tagged(2, value.to_be_bytes(), sink),
        Tree::U64(value) => tagged(3, value.to_be_bytes(), sink),
        Tree::F64(value) => {
            let value = if value.is_nan() { f64::from_bits(0x7ff8_0000_0000_0000) } else { *value };
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

/// Keyed digests of values: HMAC-SHA256 (RFC 2104) over a tree's canonical bytes.
///
/// Keyed, because an attacker can search for the preimage of a plain hash of a short secret. Both keys are wiped on drop.
pub(crate) struct Keyed {
    start: Zeroizing<[u8; 32]>,
    log: Zeroizing<[u8; 32]>,
}

impl Keyed {
    /// Creates digests under `log_key`, the 32 bytes stored beside the log, and fingerprints under a new random key.
    ///
    /// # Errors
    /// The system provides no randomness.
    pub(crate) fn new(log_key: [u8; 32]) -> Result<Self, getrandom::Error> {
        let mut start = Zeroizing::new([0; 32]);
        getrandom::fill(start.as_mut_slice())?;
        Ok(Self { start, log: Zeroizing::new(log_key) })
    }

    /// 8 hex digits, to tell secrets apart on a screen. Useless after a restart, which creates another key.
    pub(crate) fn fingerprint(&self, tree: &Tree) -> String {
        hex(mac(&self.start, tree).get(..FINGERPRINT_LEN).unwrap_or_default())
    }

    /// 64 hex digits, for the log: a holder of the key can check whether a record is about a value.
    pub(crate) fn digest(&self, tree: &Tree) -> String {
        hex(&mac(&self.log, tree))
    }
}

/// Whether two trees have the same canonical bytes. The time does not depend on where they differ.
pub(crate) fn same_in_constant_time(left: &Tree, right: &Tree) -> bool {
    let key = [0; 32]; // Both digests stay within this process.
    begun(&key, left).verify(&mac(&key, right).into()).is_ok()
}

fn mac(key: &[u8; 32], tree: &Tree) -> [u8; 32] {
    begun(key, tree).finalize().into_bytes().into()
}

fn begun(key: &[u8; 32], tree: &Tree) -> Hmac<Sha256> {
    // RFC 2104 pads a short key with zeros to the hash's block size. Padding it here rules out an invalid key length.
    let mut block = Zeroizing::new([0; 64]);
    block[..key.len()].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new((&*block).into());
    feed(tree, &mut |bytes| mac.update(bytes));
    mac
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // Writing to a string cannot fail.
        text
    })
}
