//! What calling a patch takes from its surroundings: atomics, a lock, the list that readers do not wait for, a flag of each
//! thread, the clock and the stack. A check of every order in which threads can meet puts its own in place of these.

pub(super) use std::sync::Mutex;
pub(super) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

pub(super) use arc_swap::ArcSwapOption;

use crate::clock::BootTime;

/// A value that each thread has for itself.
macro_rules! of_each_thread {
    (static $name:ident: $kind:ty = $value:expr;) => {
        ::std::thread_local! {
            static $name: $kind = const { $value };
        }
    };
}
pub(super) use of_each_thread;

/// The moment at which a call begins or ends.
pub(super) fn now() -> BootTime {
    BootTime::now()
}

/// How much is left of the stack of this thread, in bytes; nothing if nobody can tell.
pub(super) fn remaining_stack() -> Option<usize> {
    stacker::remaining_stack()
}
