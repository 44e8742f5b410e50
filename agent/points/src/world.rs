//! Dependencies of the call path: atomics, a lock, a list with lock-free readers, thread-local flags, the clock and the
//! stack. The model checker's tests replace them.

pub(crate) use std::sync::Mutex;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

pub(crate) use arc_swap::ArcSwapOption;

use debug_base::BootTime;

/// Declares a thread-local value.
macro_rules! of_each_thread {
    (static $name:ident: $kind:ty = $value:expr;) => {
        ::std::thread_local! {
            static $name: $kind = const { $value };
        }
    };
}
pub(crate) use of_each_thread;

/// The time at which a call begins or ends.
pub(crate) fn now() -> BootTime {
    BootTime::now()
}

/// Remaining stack of this thread in bytes; `None` if unknown.
pub(crate) fn remaining_stack() -> Option<usize> {
    stacker::remaining_stack()
}
