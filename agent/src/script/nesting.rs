//! How deeply values hold each other.
//!
//! Rhai counts lists and maps, but not what closures capture: a loop in which each closure captures the one before makes
//! a chain as long as there are operations, and dropping it overflows the stack, which ends the process. Every link of
//! such a chain is captured from a variable, so it is enough to look at the variables of code that has such closures.

use std::cell::RefCell;

use rhai::{Array, Dynamic, EvalContext, FnPtr, Map};

use super::library::terminated;
use super::meter::{self, End};

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

thread_local! {
    /// What closures of the call on this thread captured: cells that they share with their makers.
    static CELLS: RefCell<Vec<Dynamic>> = const { RefCell::new(Vec::new()) };
}

/// Runs a patched call and frees afterwards what its closures captured. A closure that was put into a variable which it
/// captured holds itself: nobody would ever drop it.
pub(crate) fn freeing<T>(call: impl FnOnce() -> T) -> T {
    /// Frees also when the call panics.
    struct Free(Vec<Dynamic>);
    impl Drop for Free {
        fn drop(&mut self) {
            let cells = CELLS.with(|cells| cells.replace(std::mem::take(&mut self.0)));
            for mut cell in cells {
                if !cell.is_locked()
                    && let Some(mut held) = cell.write_lock::<Dynamic>()
                {
                    *held = Dynamic::UNIT;
                }
            }
        }
    }
    let _free = Free(CELLS.with(RefCell::take));
    call()
}

/// As [`check_variable`], in a call that is [`freeing`].
///
/// # Errors
/// The run has ended.
pub(crate) fn check_and_keep(
    name: &str,
    context: &EvalContext<'_, '_, '_, '_, '_, '_>,
) -> Result<(), Box<rhai::EvalAltResult>> {
    if let Some(cell) = context.scope().get(name).filter(|value| value.is_shared()) {
        CELLS.with(|cells| cells.borrow_mut().push(cell.clone()));
    }
    check_variable(name, context)
}

/// Looks at a variable before it is used, and ends the run if it nests too deeply.
///
/// # Errors
/// The run has ended.
pub(crate) fn check_variable(
    name: &str,
    context: &EvalContext<'_, '_, '_, '_, '_, '_>,
) -> Result<(), Box<rhai::EvalAltResult>> {
    match context.scope().get(name) {
        Some(value) if !fits(value) => {
            meter::end(End::Size);
            Err(terminated())
        }
        _ => Ok(()),
    }
}
