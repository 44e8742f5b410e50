//! Contains panics: a panic while one thing is handled, in the service's code or the agent's, must not affect others.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// The code panicked.
pub struct Panicked;

/// Runs code and contains its panic, also a panic in the drop of the panic's payload. Code of the service's types runs
/// in it while one of the service's locks is held: a guard dropped while unwinding would poison that lock.
///
/// # Errors
/// The code panicked.
pub fn fenced<R>(run: impl FnOnce() -> R) -> Result<R, Panicked> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|payload| {
        // The payload's drop is the service's code, too.
        if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(second);
        }
        Panicked
    })
}

/// A value of the service's type held by the agent: it drops behind a fence.
pub struct ServiceValue<T>(Option<T>);

impl<T> ServiceValue<T> {
    /// Holds `value`.
    pub fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// The value. Must not be called after `take`.
    #[expect(
        clippy::expect_used,
        reason = "filled when made, emptied by drop and by those who hand it on"
    )]
    pub fn get(&self) -> &T {
        self.0
            .as_ref()
            .expect("an outside value is there until it is handed on")
    }

    /// No value.
    pub fn empty() -> Self {
        Self(None)
    }

    /// Takes the value out; `None` if it was taken before.
    pub fn take(&mut self) -> Option<T> {
        self.0.take()
    }

    /// Swaps it with the live value. Runs no code of the type.
    pub fn swap(&mut self, live: &mut T) {
        if let Some(value) = &mut self.0 {
            std::mem::swap(value, live);
        }
    }
}

impl<T> Drop for ServiceValue<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        let _ = fenced(|| drop(value));
    }
}
