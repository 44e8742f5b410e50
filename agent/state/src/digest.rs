use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use debug_base::{Tree, feed, hex};

/// Length of a shown fingerprint in bytes: enough to tell values apart by eye, too short for a search to confirm a value.
const FINGERPRINT_LEN: usize = 4;

/// Keyed digests of values: HMAC-SHA256 (RFC 2104) over a tree's canonical bytes.
///
/// Keyed, because an attacker can search for the preimage of a plain hash of a short secret. Both keys are wiped on drop.
pub struct Keyed {
    start: Zeroizing<[u8; 32]>,
    log: Zeroizing<[u8; 32]>,
}

impl Keyed {
    /// Creates digests under `log_key`, the 32 bytes stored beside the log, and fingerprints under a new random key.
    ///
    /// # Errors
    /// The system provides no randomness.
    pub fn new(log_key: [u8; 32]) -> Result<Self, getrandom::Error> {
        let mut start = Zeroizing::new([0; 32]);
        getrandom::fill(start.as_mut_slice())?;
        Ok(Self {
            start,
            log: Zeroizing::new(log_key),
        })
    }

    /// 8 hex digits, to tell secrets apart on a screen. Useless after a restart, which creates another key.
    pub fn fingerprint(&self, tree: &Tree) -> String {
        hex(mac(&self.start, tree).get(..FINGERPRINT_LEN).unwrap_or_default())
    }

    /// 64 hex digits, for the log: a holder of the key can check whether a record is about a value.
    pub fn digest(&self, tree: &Tree) -> String {
        hex(&mac(&self.log, tree))
    }
}

/// Whether two trees have the same canonical bytes. The time does not depend on where they differ.
pub fn same_in_constant_time(left: &Tree, right: &Tree) -> bool {
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
