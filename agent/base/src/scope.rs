use std::cell::Cell;
use std::marker::PhantomData;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// While one exists on this thread, a `Secret<T>` passes its marked value to the agent's serializer.
///
/// Necessary, not sufficient: `Secret<T>` also checks that the serializer is the agent's, so a service's type that writes
/// JSON inside its own `Serialize` still gets the placeholder.
pub struct SecretScope(PhantomData<*const ()>); // Not `Send`: it must end on the thread that began it.

impl SecretScope {
    /// Begins a scope on this thread, which ends when the value is dropped.
    pub fn enter() -> Self {
        DEPTH.set(DEPTH.get().saturating_add(1));
        Self(PhantomData)
    }

    /// Whether this thread is inside a scope.
    pub fn is_active() -> bool {
        // If the thread's locals are already destroyed, it is in no scope.
        DEPTH.try_with(|depth| 0 < depth.get()).unwrap_or(false)
    }
}

impl Drop for SecretScope {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get().saturating_sub(1));
    }
}
