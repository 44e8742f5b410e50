//! A panic ends here: what the service's code or a fault of ours does to one thing is none of the others'.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Code panicked in our hands.
pub(crate) struct Panicked;

/// Runs code so that its panic ends here, and that of what it panicked with. Code of the service's types runs in it while one of
/// its locks is held: a guard dropped while unwinding would poison the lock.
///
/// # Errors
/// It panicked.
pub(crate) fn fenced<R>(run: impl FnOnce() -> R) -> Result<R, Panicked> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|payload| {
        // The payload's own drop is the service's code too.
        if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(second);
        }
        Panicked
    })
}

/// Panics of tests, in the place of those that no test can cause.
#[cfg(test)]
pub(crate) mod planted {
    use std::cell::Cell;

    thread_local! {
        static IN: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// The next thing of this name that this thread does guarded panics.
    pub(crate) fn panic_in(what: &'static str) {
        IN.set(Some(what));
    }

    /// Whether it has come to that.
    pub(crate) fn has_panicked() -> bool {
        IN.get().is_none()
    }

    /// Panics if it was asked to.
    pub(crate) fn meet(what: &str) {
        if IN.get() == Some(what) {
            IN.set(None);
            panic!("planted");
        }
    }
}
