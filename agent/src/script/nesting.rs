//! How deeply values hold each other.
//!
//! Rhai counts lists and maps, but not what closures capture: a loop in which each closure captures the one before makes
//! a chain as long as there are operations, and dropping it overflows the stack, which ends the process. Every link of
//! such a chain is captured from a variable, so it is enough to look at the variables of code that has such closures.

use rhai::{Array, Dynamic, FnPtr, Map};

use super::meter;

/// How deeply values may hold each other: lists, maps and what closures captured.
pub(crate) const MAX_NESTING: usize = 64;
/// How deeply closures may capture closures; each is several frames to drop.
const MAX_CLOSURES: usize = 8;
/// How many items of a list are looked at for the price of an operation.
const ITEMS_PER_OPERATION: u64 = 64;

/// How many values are looked at in all. What closures share may be reached in many more ways than there are values.
const MAX_SEEN: u64 = 200_000;

/// What is left of both bounds, and how many values were looked at.
struct Look {
    seen: u64,
}

impl Look {
    /// Whether `value` stays within what is left.
    fn fits(&mut self, value: &Dynamic, nesting: usize, closures: usize) -> bool {
        self.seen += 1;
        if self.seen > MAX_SEEN {
            return false;
        }
        if self.seen.is_multiple_of(ITEMS_PER_OPERATION) && meter::charge(1).is_some() {
            return false;
        }
        // In use by the very operation that looks: it is looked at when that is done.
        if value.is_locked() {
            return true;
        }
        if let Some(function) = value.read_lock::<FnPtr>() {
            let captured = function.curry();
            return captured.is_empty()
                || nesting > 0
                    && closures > 0
                    && captured.iter().all(|value| self.fits(value, nesting - 1, closures - 1));
        }
        if let Some(items) = value.read_lock::<Array>() {
            return nesting > 0 && items.iter().all(|item| self.fits(item, nesting - 1, closures));
        }
        if let Some(entries) = value.read_lock::<Map>() {
            return nesting > 0 && entries.values().all(|value| self.fits(value, nesting - 1, closures));
        }
        true
    }
}

/// Whether a value nests no deeper than [`MAX_NESTING`].
pub(crate) fn fits(value: &Dynamic) -> bool {
    Look { seen: 0 }.fits(value, MAX_NESTING, MAX_CLOSURES)
}
