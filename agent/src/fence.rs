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
