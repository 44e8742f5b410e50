//! Waiting for the thing itself, bounded.

use std::time::{Duration, Instant};

/// The longest that anything is waited for: a loaded machine is slow, a broken promise is for ever.
pub const LIMIT: Duration = Duration::from_secs(30);
/// How often is looked.
const LOOK: Duration = Duration::from_millis(5);
/// How often is looked for what takes a minute or more.
const SELDOM: Duration = Duration::from_millis(200);

/// Waits until `seen` gives something.
///
/// # Panics
/// After [`LIMIT`], with what was waited for.
#[track_caller]
pub fn until<T>(what: &str, seen: impl FnMut() -> Option<T>) -> T {
    within(LIMIT, what, seen)
}

/// As [`until`], for what takes its time by design.
///
/// # Panics
/// After `limit`, with what was waited for.
#[track_caller]
pub fn within<T>(limit: Duration, what: &str, seen: impl FnMut() -> Option<T>) -> T {
    look(LOOK, limit, what, seen)
}

/// As [`within`], looking seldom: many tests that look at files for a minute keep each other from running.
///
/// # Panics
/// After `limit`, with what was waited for.
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

/// Waits until `holds`.
///
/// # Panics
/// After [`LIMIT`], with what was waited for.
#[track_caller]
pub fn until_true(what: &str, mut holds: impl FnMut() -> bool) {
    until(what, || holds().then_some(()));
}
