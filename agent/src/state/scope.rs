use std::cell::Cell;
use std::marker::PhantomData;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// While one lives, a `Secret<T>` on this thread hands its value to our own serializer, marked.
///
/// Necessary, not sufficient: `Secret<T>` also asks whether the serializer is ours, so that a service's type that
/// writes JSON inside its own `Serialize` still gets the placeholder.
pub(crate) struct SecretScope(PhantomData<*const ()>); // Not `Send`: it must end on the thread that began it.

impl SecretScope {
    /// Begins a scope on this thread; it ends when the value is dropped.
    pub(crate) fn enter() -> Self {
        DEPTH.set(DEPTH.get().saturating_add(1));
        Self(PhantomData)
    }

    /// Whether this thread is inside a scope.
    pub(crate) fn is_active() -> bool {
        // A thread whose locals are already gone is inside none.
        DEPTH.try_with(|depth| 0 < depth.get()).unwrap_or(false)
    }
}

impl Drop for SecretScope {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get().saturating_sub(1));
    }
}
