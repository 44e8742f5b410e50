use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::cell::{AccessError, Cell};
use crate::edit::Edit;
use debug_base::{BootTime, ServiceValue, Wait};

/// A value that checks the deadline of a change on each read.
///
/// A thread of the agent undoes a change of any other state. A change of a `Live` ends at its deadline even if every thread
/// of the agent is dead, or in a child of `fork`, which has none: [`load`](Self::load) then returns the value without the
/// change. While no change is in force, a read is one atomic load and one reference count, without a look at the clock.
///
/// Clones share the value. Pass one to `Builder::state_mut` or `Builder::state`.
///
/// ```
/// # use debug_state as debug_agent;
/// use debug_agent::Live;
///
/// let limit = Live::new(100_u32);
/// let of_the_agent = limit.clone();
/// limit.store(200);
/// assert_eq!(*of_the_agent.load(), 200);
/// ```
pub struct Live<T>(Arc<ArcSwap<LiveValue<T>>>);

/// The value in force and its schedule. Each value may be the last reference and drops behind a fence of its own: two panics
/// at once would abort the process.
struct LiveValue<T> {
    now: ServiceValue<Arc<T>>,
    later: Option<LiveSchedule<T>>,
}

struct LiveSchedule<T> {
    /// Id of the process that made the schedule. A forked child has no agent thread, so every change counts as ended there.
    process: u32,
    /// Values in the order of their deadlines.
    then: Vec<(BootTime, ServiceValue<Arc<T>>)>,
}

impl<T> Live<T> {
    /// Creates a `Live` with `value`.
    pub fn new(value: T) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(LiveValue::of(value))))
    }

    /// Returns the value in force now.
    pub fn load(&self) -> Arc<T> {
        self.0.load().value().clone()
    }

    /// Replaces the value. It wins over a change in force, which then ends as a conflict.
    ///
    /// A value computed from `load` while a change was in force contains that change but carries no deadline. The agent's
    /// thread then undoes the change, as in any other state.
    pub fn store(&self, value: T) {
        self.0.store(Arc::new(LiveValue::of(value)));
    }

    /// Simulates a child: the schedule of another process.
    #[cfg(any(test, feature = "test-util"))]
    pub fn in_process_for_test(&self, process: u32) {
        let found = self.0.load_full();
        let again = |(deadline, value): &(BootTime, ServiceValue<Arc<T>>)| (*deadline, shared(value));
        let later = found.later.as_ref().map(|later| LiveSchedule {
            process,
            then: later.then.iter().map(again).collect(),
        });
        self.0.store(Arc::new(LiveValue {
            now: shared(&found.now),
            later,
        }));
    }

    /// Whether a read checks the clock.
    #[cfg(any(test, feature = "test-util"))]
    pub fn has_schedule_for_test(&self) -> bool {
        self.0.load().later.is_some()
    }
}

fn shared<T>(value: &ServiceValue<Arc<T>>) -> ServiceValue<Arc<T>> {
    ServiceValue::new(value.get().clone())
}

impl<T> LiveValue<T> {
    fn of(value: T) -> Self {
        Self {
            now: ServiceValue::new(Arc::new(value)),
            later: None,
        }
    }

    fn value(&self) -> &Arc<T> {
        match &self.later {
            None => self.now.get(),
            Some(later) => later.in_force().unwrap_or_else(|| self.now.get()),
        }
    }
}

impl<T> LiveSchedule<T> {
    /// The value scheduled by now, if any.
    fn in_force(&self) -> Option<&Arc<T>> {
        if self.process != std::process::id() {
            return self.then.last().map(|(_, value)| value.get());
        }
        let now = BootTime::now();
        self.then
            .iter()
            .rev()
            .find(|(deadline, _)| *deadline <= now)
            .map(|(_, value)| value.get())
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Default> Default for Live<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for Live<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: fmt::Debug> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Live").field(&self.load()).finish()
    }
}

impl<T: Send + Sync + 'static> Cell for Live<T> {
    type Value = T;

    const TIMED: bool = true;

    fn look<R>(&self, _: Wait, look: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        // The agent's reference may be the last one: the value then drops here, behind the fence.
        let value = ServiceValue::new(self.load());
        Ok(look(value.get()))
    }

    fn swap(&self, _: Wait, edit: &mut Edit<T>) -> Result<(), AccessError> {
        let found = ServiceValue::new(self.0.load_full());
        let value = ServiceValue::new(found.get().value().clone());
        let now = if edit.keeps_value {
            edit.fits(value.get()).then(|| shared(&value))
        } else {
            edit.take_if_fits(value.get())
                .map(|new| ServiceValue::new(Arc::new(new)))
        };
        let Some(now) = now else { return Ok(()) };
        let then: Vec<_> = edit.later.iter_mut().filter_map(scheduled).collect();
        let later = (!then.is_empty()).then(|| LiveSchedule {
            process: std::process::id(),
            then,
        });
        // INVARIANT: value and schedule are swapped together, so no reader sees one without the other.
        let new = ServiceValue::new(Arc::new(LiveValue { now, later }));
        let seen = ServiceValue::new(Guard::into_inner(
            self.0.compare_and_swap(found.get(), new.get().clone()),
        ));
        edit.exchanged(Arc::ptr_eq(seen.get(), found.get()));
        Ok(())
    }
}

fn scheduled<T>(
    (deadline, value): &mut (BootTime, ServiceValue<T>),
) -> Option<(BootTime, ServiceValue<Arc<T>>)> {
    Some((*deadline, ServiceValue::new(Arc::new(value.take()?))))
}
