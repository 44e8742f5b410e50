//! The levels that operators set for targets of the service's log: one list for each agent, which all its filters
//! share.
//!
//! A level for `a::b` covers `a::b` and everything below it, such as `a::b::c`, but not `a::bc`. Where several levels
//! cover a target, the longest target wins; of several for one target the newest wins. A level expires at its deadline
//! even if no thread removes it, because every lookup checks the deadline. In a forked child no level is in force.

mod apply;
#[cfg(feature = "tracing")]
mod ceiling;
mod change;
#[cfg(feature = "tracing")]
mod filter;
#[cfg(test)]
#[cfg(feature = "tracing")]
mod tests;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tracing::level_filters::LevelFilter;

use debug_base::BootTime;

pub(crate) use change::{LevelChange, name as level_name};
#[cfg(feature = "tracing")]
pub use filter::LogFilter;

/// The target of the agent's own events, with everything below it.
pub(crate) const OWN: &str = "debug_agent";

thread_local! {
    /// How often a level decided on this thread: shows whether a logger asks one of the agent's filters.
    static DECIDED: Cell<u64> = const { Cell::new(0) };
}

/// The levels in force.
#[derive(Default)]
pub(crate) struct Levels {
    /// Whether any level is set. While none is, an event costs one relaxed load of it.
    any: AtomicBool,
    /// Longest target first, then newest lease first: the first entry that covers an event and is in force decides.
    set: ArcSwap<Vec<Arc<SetLevel>>>,
    /// Held while the list is replaced.
    changing: Mutex<()>,
    /// The number of filters.
    filters: AtomicUsize,
    /// How often a filter was asked for its maximum level. Only the filters of a subscriber in use are asked.
    asked: AtomicU64,
    /// The ceiling of the `log` crate, while it is raised.
    #[cfg(feature = "tracing")]
    ceiling: Mutex<Option<ceiling::Raised>>,
}

/// One level for one target.
#[derive(Debug)]
pub(crate) struct SetLevel {
    lease: u64,
    target: String,
    level: LevelFilter,
    /// In nanoseconds on the boot-time clock.
    deadline: AtomicU64,
    /// The process in which it was set.
    process: u32,
    /// Whether an event's callsite under its target has been reached.
    seen: AtomicBool,
    /// Whether events of the `log` crate under its target reach the service's subscriber.
    #[cfg(feature = "tracing")]
    through_log: AtomicBool,
}

impl SetLevel {
    fn covers(&self, target: &str) -> bool {
        is_inside(target, &self.target)
    }

    fn is_over(&self, now: BootTime) -> bool {
        BootTime(self.deadline.load(Ordering::Relaxed)) <= now
    }
}

/// Whether `target` is `outer` or below it.
pub(crate) fn is_inside(target: &str, outer: &str) -> bool {
    target
        .strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

impl Levels {
    /// The level in force for a target; `None` if the service's own filter decides.
    #[inline]
    pub(crate) fn of(&self, target: &str) -> Option<LevelFilter> {
        if self.any.load(Ordering::Relaxed) {
            self.look(target)
        } else {
            None
        }
    }

    #[cold]
    fn look(&self, target: &str) -> Option<LevelFilter> {
        let set = self.set.load();
        let mut covering = set.iter().filter(|level| level.covers(target)).peekable();
        // Read the clock and the process id only if an entry covers the target.
        covering.peek()?;
        let (now, process) = (BootTime::now(), std::process::id());
        let found = covering.find(|level| level.process == process && !level.is_over(now))?;
        DECIDED.set(DECIDED.get().wrapping_add(1));
        Some(found.level)
    }

    /// Whether a level is set for the target of a callsite, in force or expired. Called when a level is set and when a
    /// callsite is reached for the first time, so it costs events nothing. It also records which targets have
    /// callsites.
    #[cfg(feature = "tracing")]
    fn mentions(&self, place: &tracing::Metadata<'_>) -> bool {
        if !self.any.load(Ordering::Relaxed) {
            return false;
        }
        let set = self.set.load();
        let mut covering = set.iter().filter(|level| level.covers(place.target())).peekable();
        let mentioned = covering.peek().is_some();
        if place.is_event() {
            covering.for_each(|level| level.seen.store(true, Ordering::Relaxed));
        }
        mentioned
    }

    /// The most verbose of all levels.
    fn most(&self) -> LevelFilter {
        self.set
            .load()
            .iter()
            .map(|level| level.level)
            .max()
            .unwrap_or(LevelFilter::OFF)
    }

    /// The number of this agent's filters.
    pub(crate) fn filters(&self) -> usize {
        self.filters.load(Ordering::Relaxed)
    }

    /// The number of levels set for exactly this target.
    pub(crate) fn layers(&self, target: &str) -> usize {
        self.set
            .load()
            .iter()
            .filter(|level| level.target == target)
            .count()
    }

    /// The levels in force: lease, target and level.
    pub(crate) fn list(&self) -> Vec<(u64, String, LevelFilter)> {
        let now = BootTime::now();
        let set = self.set.load();
        let in_force = set.iter().filter(|level| !level.is_over(now));
        in_force
            .map(|level| (level.lease, level.target.clone(), level.level))
            .collect()
    }

    /// Adds a level. Every lookup from now on sees it; caches must be rebuilt.
    fn put(&self, level: Arc<SetLevel>) {
        self.replace(|set| {
            set.push(level);
            set.sort_by(|a, b| b.target.len().cmp(&a.target.len()).then(b.lease.cmp(&a.lease)));
        });
    }

    /// Removes a lease's level; returns the lease of a newer level in force for the same target.
    fn take(&self, lease: u64) -> Option<u64> {
        let mut above = None;
        self.replace(|set| {
            let now = BootTime::now();
            let Some(ended) = set.iter().find(|level| level.lease == lease).cloned() else {
                return;
            };
            set.retain(|level| level.lease != lease);
            let stands = set
                .iter()
                .find(|level| level.target == ended.target && !level.is_over(now));
            above = stands.map(|level| level.lease).filter(|newest| *newest > lease);
        });
        above
    }

    fn replace(&self, change: impl FnOnce(&mut Vec<Arc<SetLevel>>)) {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut set = Vec::clone(&self.set.load());
        change(&mut set);
        let any = !set.is_empty();
        self.set.store(Arc::new(set));
        self.any.store(any, Ordering::Relaxed);
    }
}
