use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use super::cell::{Cell, Held, Wait};
use super::edit::Edit;
use super::fence::Outside;
use crate::clock::BootTime;

/// A value of the service that looks at the deadline of a change where it is read.
///
/// A change of any other state is undone by a thread of the agent. An expired change of a `Live` is over even if every
/// thread of the agent is dead, or in a child of `fork`, which has none: [`load`](Self::load) then answers what it will be
/// without the change. While nothing is changed a read is one load of a pointer and one count, and looks at no clock.
///
/// Clones are the same value. Give one to [`Builder::state_mut`](crate::Builder::state_mut) or
/// [`Builder::state`](crate::Builder::state).
///
/// ```
/// use debug_agent::{Agent, Live};
///
/// let limit = Live::new(100_u32);
/// let agent = Agent::builder("shop").state_mut("limit", limit.clone()).start_from_env();
/// assert_eq!(*limit.load(), 100);
///
/// limit.store(200);
/// assert_eq!(*limit.load(), 200);
/// # drop(agent);
/// ```
pub struct Live<T>(Arc<ArcSwap<InForce<T>>>);

/// The value as it is now, and what it will be. Each may be the last one, and each drops behind a fence of its own: two
/// panics at once would end the process.
struct InForce<T> {
    now: Outside<Arc<T>>,
    later: Option<Schedule<T>>,
}

struct Schedule<T> {
    /// Of the process that made it: after a fork the child has nobody who could end it.
    process: u32,
    /// In the order of their deadlines.
    then: Vec<(BootTime, Outside<Arc<T>>)>,
}

impl<T> Live<T> {
    /// Holds `value`.
    pub fn new(value: T) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(InForce::of(value))))
    }

    /// The value in force now.
    pub fn load(&self) -> Arc<T> {
        self.0.load().value().clone()
    }

    /// Puts another value in place. It wins over a change in force, which then ends as a conflict.
    ///
    /// A value that was made from what was loaded while a change was in force holds that change, and no deadline: then the
    /// agent's thread ends it, as in any other state.
    pub fn store(&self, value: T) {
        self.0.store(Arc::new(InForce::of(value)));
    }

    /// The same value as a child of `process` would see it.
    #[cfg(test)]
    pub(crate) fn in_process_for_test(&self, process: u32) {
        let found = self.0.load_full();
        let again = |(deadline, value): &(BootTime, Outside<Arc<T>>)| (*deadline, shared(value));
        let later = found
            .later
            .as_ref()
            .map(|later| Schedule { process, then: later.then.iter().map(again).collect() });
        self.0.store(Arc::new(InForce { now: shared(&found.now), later }));
    }

    /// Whether a read looks at the clock.
    #[cfg(test)]
    pub(crate) fn has_schedule_for_test(&self) -> bool {
        self.0.load().later.is_some()
    }
}

fn shared<T>(value: &Outside<Arc<T>>) -> Outside<Arc<T>> {
    Outside::new(value.get().clone())
}

impl<T> InForce<T> {
    fn of(value: T) -> Self {
        Self { now: Outside::new(Arc::new(value)), later: None }
    }

    fn value(&self) -> &Arc<T> {
        match &self.later {
            None => self.now.get(),
            Some(later) => later.in_force().unwrap_or_else(|| self.now.get()),
        }
    }
}

impl<T> Schedule<T> {
    /// What stands in place of the value, if anything does by now.
    fn in_force(&self) -> Option<&Arc<T>> {
        if self.process != std::process::id() {
            return self.then.last().map(|(_, value)| value.get());
        }
        let now = BootTime::now();
        self.then.iter().rev().find(|(deadline, _)| *deadline <= now).map(|(_, value)| value.get())
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

    fn look<R>(&self, _: Wait, look: impl FnOnce(&T) -> R) -> Result<R, Held> {
        // Ours may be the last one: then it drops here, behind the fence.
        let value = Outside::new(self.load());
        Ok(look(value.get()))
    }

    fn swap(&self, _: Wait, edit: &mut Edit<T>) -> Result<(), Held> {
        let found = Outside::new(self.0.load_full());
        let value = Outside::new(found.get().value().clone());
        let now = if edit.keeps_value {
            edit.fits(value.get()).then(|| shared(&value))
        } else {
            edit.take_if_fits(value.get()).map(|new| Outside::new(Arc::new(new)))
        };
        let Some(now) = now else { return Ok(()) };
        let then: Vec<_> = edit.later.iter_mut().filter_map(scheduled).collect();
        let later = (!then.is_empty()).then(|| Schedule { process: std::process::id(), then });
        // INVARIANT: value and deadlines come in place at once, so that no reader sees one without the other.
        let new = Outside::new(Arc::new(InForce { now, later }));
        let seen = Outside::new(Guard::into_inner(self.0.compare_and_swap(found.get(), new.get().clone())));
        edit.exchanged(Arc::ptr_eq(seen.get(), found.get()));
        Ok(())
    }
}

fn scheduled<T>((deadline, value): &mut (BootTime, Outside<T>)) -> Option<(BootTime, Outside<Arc<T>>)> {
    Some((*deadline, Outside::new(Arc::new(value.take()?))))
}
