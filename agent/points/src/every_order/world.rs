//! Replacements for the check: every atomic, lock and list is visible to the checker, and only a test thread moves the clock.

use std::ops::Deref;
use std::sync::{Arc, LockResult, Mutex as Store, OnceLock, PoisonError};

use loom::sync::MutexGuard;
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64};
use loom::sync::atomic::{AtomicUsize, Ordering};

use debug_base::BootTime;

macro_rules! of_each_thread {
    (static $name:ident: $kind:ty = $value:expr;) => {
        ::loom::thread_local! {
            static $name: $kind = $value;
        }
    };
}
pub(crate) use of_each_thread;

loom::lazy_static! {
    static ref CLOCK: AtomicU64 = AtomicU64::new(0);
}

pub(crate) fn now() -> BootTime {
    BootTime(CLOCK.load(Ordering::Relaxed))
}

/// Moves the clock.
pub(crate) fn set_clock(now: BootTime) {
    CLOCK.store(now.0, Ordering::Relaxed);
}

/// The checker's threads have small stacks; behaviour on small stacks is tested elsewhere.
pub(crate) fn remaining_stack() -> Option<usize> {
    Some(usize::MAX)
}

/// Created on first use, because the checker's type has no const constructor.
pub(crate) struct AtomicBool {
    first: bool,
    inner: OnceLock<loom::sync::atomic::AtomicBool>,
}

impl AtomicBool {
    pub(crate) const fn new(first: bool) -> Self {
        Self {
            first,
            inner: OnceLock::new(),
        }
    }
}

impl Deref for AtomicBool {
    type Target = loom::sync::atomic::AtomicBool;

    fn deref(&self) -> &Self::Target {
        self.inner
            .get_or_init(|| loom::sync::atomic::AtomicBool::new(self.first))
    }
}

/// Created on first use, like `AtomicBool`.
pub(crate) struct Mutex<T>(OnceLock<loom::sync::Mutex<T>>);

impl<T: Default> Mutex<T> {
    pub(crate) const fn new((): ()) -> Self {
        Self(OnceLock::new())
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        self.0.get_or_init(loom::sync::Mutex::default).lock()
    }
}

/// Guarantees only what `arc_swap` does: a store releases, a load acquires, and neither blocks the other. All stored values
/// are kept, so the checker chooses which one a load sees.
pub(crate) struct ArcSwapOption<T> {
    seen: Store<Vec<Option<Arc<T>>>>,
    newest: OnceLock<AtomicUsize>,
}

impl<T> ArcSwapOption<T> {
    pub(crate) const fn const_empty() -> Self {
        Self {
            seen: Store::new(Vec::new()),
            newest: OnceLock::new(),
        }
    }

    fn newest(&self) -> &AtomicUsize {
        self.newest.get_or_init(|| AtomicUsize::new(0))
    }

    pub(crate) fn load(&self) -> Option<Arc<T>> {
        let newest = self.newest().load(Ordering::Acquire);
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Place 0 is the initial `None`.
        newest.checked_sub(1).and_then(|at| seen[at].clone())
    }

    pub(crate) fn store(&self, value: Option<Arc<T>>) {
        let place = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push(value);
            seen.len()
        };
        self.newest().store(place, Ordering::Release);
    }
}
