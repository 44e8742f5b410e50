//! The reverts that wait for a lock of the service.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a revert may wait for a lock of the service before it is reported.
pub(crate) const LONG_WAIT: Duration = Duration::from_secs(1);

/// The states with a revert that waits for their lock, each with the start of the wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waits(Arc<Mutex<BTreeMap<String, Instant>>>);

impl Waits {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a wait for the lock of a state; it ends when the guard is dropped.
    pub(crate) fn begin(&self, state: &str) -> Waiting {
        self.lock().insert(state.to_owned(), Instant::now());
        Waiting {
            waits: self.clone(),
            state: state.to_owned(),
        }
    }

    /// The states whose waits take more than 1 s, and how long each has waited; the longest last.
    pub(crate) fn long(&self) -> Vec<(String, Duration)> {
        let mut long: Vec<(String, Duration)> = self
            .lock()
            .iter()
            .map(|(state, since)| (state.clone(), since.elapsed()))
            .filter(|(_, waited)| LONG_WAIT < *waited)
            .collect();
        long.sort_by_key(|(_, waited)| *waited);
        long
    }

    /// Moves the start of every wait back by `by`.
    #[cfg(test)]
    pub(crate) fn age_for_test(&self, by: Duration) {
        self.lock()
            .values_mut()
            .for_each(|since| *since = since.checked_sub(by).unwrap_or(*since));
    }
}

/// A long wait, in words.
pub(crate) fn sentence(state: &str, waited: Duration) -> String {
    let waited = waited.as_secs();
    format!("undoing a change has waited {waited} s for the lock or setter of state `{state}`")
}

/// A wait in progress.
#[derive(Debug)]
pub(crate) struct Waiting {
    waits: Waits,
    state: String,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.waits.lock().remove(&self.state);
    }
}
