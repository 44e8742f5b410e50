//! How long the service may have been held up: the time in which its cells were asked on a thread.

use std::cell::Cell;
use std::time::{Duration, Instant};

thread_local! {
    static ASKED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Runs what asks a cell: waits for its lock, and holds it.
pub(super) fn counted<R>(ask: impl FnOnce() -> R) -> R {
    let began = Instant::now();
    let answer = ask();
    ASKED.set(ASKED.get().saturating_add(began.elapsed()));
    answer
}

/// How long cells have been asked on this thread since it began.
pub(crate) fn asked() -> Duration {
    ASKED.get()
}
