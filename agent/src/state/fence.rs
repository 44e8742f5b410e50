//! Runs code of the service's types without harm to the service's locks.

pub(super) use crate::fence::{Panicked, fenced};

/// A value of the service's type held by the agent: it drops behind a fence.
pub(super) struct Outside<T>(Option<T>);

impl<T> Outside<T> {
    /// Holds `value`.
    pub(super) fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// The value. Must not be called after `take`.
    #[expect(clippy::expect_used, reason = "filled when made, emptied by drop and by those who hand it on")]
    pub(super) fn get(&self) -> &T {
        self.0.as_ref().expect("an outside value is there until it is handed on")
    }

    /// No value.
    pub(super) fn empty() -> Self {
        Self(None)
    }

    /// Takes the value out; `None` if it was taken before.
    pub(super) fn take(&mut self) -> Option<T> {
        self.0.take()
    }

    /// Swaps it with the live value. Runs no code of the type.
    pub(super) fn swap(&mut self, live: &mut T) {
        if let Some(value) = &mut self.0 {
            std::mem::swap(value, live);
        }
    }
}

impl<T> Drop for Outside<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        let _ = fenced(|| drop(value));
    }
}
