//! Waiting for a condition itself, with a limit.

use std::time::{Duration, Instant};

/// The limit of a wait: long enough for a loaded machine.
pub const LIMIT: Duration = Duration::from_secs(30);
/// The interval of checks.
const LOOK: Duration = Duration::from_millis(5);
/// The interval of checks for conditions that take a minute or more.
const SELDOM: Duration = Duration::from_millis(200);

/// Waits until `seen` returns a value.
///
/// # Panics
/// After [`LIMIT`], with the text `what`.
#[track_caller]
pub fn until<T>(what: &str, seen: impl FnMut() -> Option<T>) -> T {
    within(LIMIT, what, seen)
}

/// Like [`until`], for conditions that take long by design.
///
/// # Panics
/// After `limit`, with the text `what`.
#[track_caller]
pub fn within<T>(limit: Duration, what: &str, seen: impl FnMut() -> Option<T>) -> T {
    look(LOOK, limit, what, seen)
}

/// Like [`within`], with rare checks: many tests that read files for a minute would slow each other down.
///
/// # Panics
/// After `limit`, with the text `what`.
#[track_caller]
pub fn patiently<T>(limit: Duration, what: &str, seen: impl FnMut() -> Option<T>) -> T {
    look(SELDOM, limit, what, seen)
}

#[track_caller]
fn look<T>(every: Duration, limit: Duration, what: &str, mut seen: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = seen() {
            return found;
        }
        assert!(Instant::now() < end, "waited {limit:?} in vain until {what}");
        std::thread::park_timeout(every);
    }
}

/// Waits until `holds` returns true.
///
/// # Panics
/// After [`LIMIT`], with the text `what`.
#[track_caller]
pub fn until_true(what: &str, mut holds: impl FnMut() -> bool) {
    until(what, || holds().then_some(()));
}
