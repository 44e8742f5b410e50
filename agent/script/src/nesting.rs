//! Bounds on how deeply values contain each other.
//!
//! Rhai counts lists and maps, but not what closures capture. A loop in which each closure captures the previous one makes a
//! chain as long as the number of operations, and dropping it overflows the stack, which kills the process. Every link of
//! such a chain is captured from a variable, so it is enough to check the variables of code with such closures.

use rhai::{Array, Dynamic, FnPtr, Map};

use super::meter;

/// Maximum nesting depth of lists, maps and captured values.
pub const MAX_NESTING: usize = 64;
/// Maximum nesting depth of captured closures; each takes several frames to drop.
const MAX_CLOSURES: usize = 8;
/// Number of values checked for the cost of one operation.
const ITEMS_PER_OPERATION: u64 = 64;

/// Limit on the number of visits. A shared value may be reachable on many more paths than there are values.
const MAX_SEEN: u64 = 200_000;

/// A check in progress; `seen` counts the visits.
struct NestingCheck {
    seen: u64,
}

impl NestingCheck {
    /// Whether `value` stays within the remaining depths.
    fn fits(&mut self, value: &Dynamic, nesting: usize, closures: usize) -> bool {
        self.seen += 1;
        if self.seen > MAX_SEEN {
            return false;
        }
        if self.seen.is_multiple_of(ITEMS_PER_OPERATION) && meter::charge(1).is_some() {
            return false;
        }
        // In use by the current operation: checked at its next use.
        if value.is_locked() {
            return true;
        }
        if let Some(function) = value.read_lock::<FnPtr>() {
            let captured = function.curry();
            return captured.is_empty()
                || nesting > 0
                    && closures > 0
                    && captured
                        .iter()
                        .all(|value| self.fits(value, nesting - 1, closures - 1));
        }
        if let Some(items) = value.read_lock::<Array>() {
            return nesting > 0 && items.iter().all(|item| self.fits(item, nesting - 1, closures));
        }
        if let Some(entries) = value.read_lock::<Map>() {
            return nesting > 0
                && entries
                    .values()
                    .all(|value| self.fits(value, nesting - 1, closures));
        }
        true
    }
}

/// Whether a value nests no deeper than [`MAX_NESTING`], and its closures within their own bound.
pub fn fits(value: &Dynamic) -> bool {
    NestingCheck { seen: 0 }.fits(value, MAX_NESTING, MAX_CLOSURES)
}
