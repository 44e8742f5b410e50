//! Contains panics: a panic while one thing is handled, in the service's code or the agent's, must not affect others.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// The code panicked.
pub(crate) struct Panicked;

/// Runs code and contains its panic, also a panic in the drop of the panic's payload. Code of the service's types runs
/// in it while one of the service's locks is held: a guard dropped while unwinding would poison that lock.
///
/// # Errors
/// The code panicked.
pub(crate) fn fenced<R>(run: impl FnOnce() -> R) -> Result<R, Panicked> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|payload| {
        // The payload's drop is the service's code, too.
        if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(second);
        }
        Panicked
    })
}

/// Panics planted by tests, for places where a test cannot cause one.
#[cfg(test)]
pub(crate) mod planted {
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
}
