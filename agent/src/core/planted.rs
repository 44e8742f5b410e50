//! Panics planted by tests, for places where a test cannot cause one.

use std::cell::Cell;

thread_local! {
    static IN: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Makes the next `guarded` call of this name on this thread panic.
pub(crate) fn panic_in(what: &'static str) {
    IN.set(Some(what));
}

/// Whether the planted panic has happened.
pub(crate) fn has_panicked() -> bool {
    IN.get().is_none()
}

/// Panics if a panic of this name is planted.
pub(crate) fn meet(what: &str) {
    if IN.get() == Some(what) {
        IN.set(None);
        panic!("planted");
    }
}
