//! How long the agent may have delayed the service: the time for which each thread waited for or held cells.

use std::cell::Cell;
use std::time::{Duration, Instant};

thread_local! {
    static ASKED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Runs `ask`, which waits for a cell's lock and holds it, and adds its duration.
pub(crate) fn counted<R>(ask: impl FnOnce() -> R) -> R {
    let began = Instant::now();
    let answer = ask();
    ASKED.set(ASKED.get().saturating_add(began.elapsed()));
    answer
}

/// Adds the time that another thread spent on cells for this one.
pub fn add_asked(spent: Duration) {
    ASKED.set(ASKED.get().saturating_add(spent));
}

/// Takes the time that this thread spent on cells since the last call.
pub fn take_asked() -> Duration {
    ASKED.take()
}
