//! The agent's standing threads: each goes on after a panic, which is reported.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::fence::{Panicked, fenced};

/// The pause after a turn that panicked, doubled for each one in a row up to [`LONGEST_PAUSE`]: a turn that always
/// panics must not use up a processor.
const PAUSE: Duration = Duration::from_millis(10);
/// Short enough that an operator does not notice the delay of the next turn.
const LONGEST_PAUSE: Duration = Duration::from_millis(640);

/// Whether a standing thread takes another turn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// It does.
    Turn,
    /// It ends.
    End,
}

/// Called on a panic with what panicked, and how often so far.
type Hears = Box<dyn Fn(&str, u64) + Send + Sync>;

/// The panics inside the agent so far.
#[derive(Clone, Default)]
pub struct Faults(Arc<Inner>);

#[derive(Default)]
struct Inner {
    seen: Mutex<BTreeMap<String, u64>>,
    hears: OnceLock<Hears>,
}

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Faults").field(&self.0.seen).finish()
    }
}

impl Faults {
    /// Sets the function to call on a panic: for the first of each kind, the second, the fourth and so on, so that a
    /// repeated panic does not fill the log.
    pub fn tell(&self, hears: impl Fn(&str, u64) + Send + Sync + 'static) {
        // Only the first call counts: there is one core.
        drop(self.0.hears.set(Box::new(hears)));
    }

    /// Counts and reports a panic of a part of the agent that goes on, such as a thread, by its name.
    pub fn panicked(&self, what: &str) {
        let times = {
            let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let times = seen.entry(what.to_owned()).or_default();
            *times += 1;
            *times
        };
        if let Some(hears) = self.0.hears.get().filter(|_| times.is_power_of_two()) {
            // Contain a panic of the report itself.
            drop(fenced(|| hears(what, times)));
        }
    }

    /// Whether this part has panicked before.
    pub fn knows(&self, what: &str) -> bool {
        self.0
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(what)
    }

    /// What has panicked, and how often.
    pub fn seen(&self) -> BTreeMap<String, u64> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The panics in one sentence; `None` without any.
    pub fn sentence(&self) -> Option<String> {
        let seen = self.seen();
        let each: Vec<(&str, u64)> = seen.iter().map(|(what, times)| (what.as_str(), *times)).collect();
        (!each.is_empty()).then(|| sentence(&each))
    }
}

/// Panics in one sentence, for `status()` and `info()`: what, and how often.
pub fn sentence(seen: &[(&str, u64)]) -> String {
    let each: Vec<String> = seen
        .iter()
        .map(|(what, times)| format!("{what} ({times} times)"))
        .collect();
    format!("the agent panicked inside and goes on: {}", each.join(", "))
}

/// Starts a thread that takes turns until one returns [`Next::End`]. A panic in a turn is reported, and the next turn
/// follows.
///
/// # Errors
/// The system starts no thread.
pub fn spawn(
    name: &'static str,
    stack: Option<usize>,
    faults: Faults,
    turn: impl FnMut() -> Next + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let builder = Builder::new().name(name.to_owned());
    let builder = match stack {
        Some(bytes) => builder.stack_size(bytes),
        None => builder,
    };
    builder.spawn(move || stand(name, &faults, turn))
}

/// Takes turns on this thread.
pub fn stand(name: &str, faults: &Faults, mut turn: impl FnMut() -> Next) {
    let mut pause = PAUSE;
    loop {
        match fenced(&mut turn) {
            Ok(Next::Turn) => pause = PAUSE,
            Ok(Next::End) => return,
            Err(Panicked) => {
                faults.panicked(name);
                std::thread::sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_thread_whose_turn_panics_takes_the_next_one_and_it_is_told() {
        let (faults, (told, heard), (done, seen)) = (Faults::default(), channel(), channel());
        faults.tell(move |what, times| told.send((what.to_owned(), times)).unwrap());
        let mut turns = 0;
        let turn = move || {
            turns += 1;
            match turns {
                1..=3 => panic!("planted"),
                4 => done.send(turns).unwrap(),
                _ => return Next::End,
            }
            Next::Turn
        };
        spawn("debug-test", None, faults.clone(), turn)
            .unwrap()
            .join()
            .unwrap();
        assert_eq!(seen.recv().unwrap(), 4);
        let told: Vec<_> = heard.try_iter().collect();
        assert_eq!(told, [("debug-test".to_owned(), 1), ("debug-test".to_owned(), 2)]);
        let sentence = faults.sentence().unwrap();
        assert_eq!(
            sentence,
            "the agent panicked inside and goes on: debug-test (3 times)"
        );
    }

    #[test]
    fn a_panic_of_what_hears_of_panics_ends_there() {
        let faults = Faults::default();
        assert_eq!(faults.sentence(), None);
        faults.tell(|_, _| panic!("planted"));
        faults.panicked("this");
        faults.panicked("that");
        assert_eq!(
            faults.sentence().unwrap(),
            "the agent panicked inside and goes on: that (1 times), this (1 times)"
        );
    }

    /// The payload of a panic may panic when it is dropped.
    #[test]
    fn a_panic_whose_payload_panics_is_one() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("planted");
            }
        }
        let faults = Faults::default();
        let mut turns = 0;
        stand("debug-test", &faults, || {
            turns += 1;
            if turns == 1 {
                std::panic::panic_any(Bomb);
            }
            Next::End
        });
        assert_eq!(turns, 2);
        assert!(faults.sentence().unwrap().contains("debug-test"));
    }
}
