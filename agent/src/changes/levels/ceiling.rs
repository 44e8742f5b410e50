//! The maximum level of the `log` crate: one for the whole process, above which the crate makes no records. A
//! subscriber that receives records of that crate sets it once, when it is installed. The agent raises it while a level
//! above it is in force, and restores it.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use log::LevelFilter as Most;
use tracing::level_filters::LevelFilter;

use super::change::as_log;
use super::{DECIDED, Levels, SetLevel};

/// A target that no service has.
const ELSEWHERE: &str = "debug_agent_elsewhere";

/// A raised maximum.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Raised {
    /// The service's value.
    before: Most,
    /// The agent's value.
    ours: Most,
}

impl Levels {
    /// Records whether events of the `log` crate under a level's target reach the service's subscriber, and raises the
    /// maximum if they do. It runs the service's logger, so call it on a short-lived thread.
    pub(super) fn raise_ceiling(&self, level: &SetLevel) {
        level
            .through_log
            .store(self.comes_through(log::logger(), level), Ordering::Relaxed);
        self.follow_ceiling();
    }

    /// Sets the maximum to what the current levels need, or back to the service's value.
    pub(super) fn follow_ceiling(&self) {
        let mut raised = self.ceiling.lock().unwrap_or_else(PoisonError::into_inner);
        let set = self.set.load();
        let through = set
            .iter()
            .filter(|level| level.through_log.load(Ordering::Relaxed));
        let wanted = through.map(|level| most(level.level)).max().unwrap_or(Most::Off);
        let now = log::max_level();
        let (ceiling, remembered) = next(*raised, now, wanted.min(log::STATIC_MAX_LEVEL));
        if ceiling != now {
            log::set_max_level(ceiling);
        }
        *raised = remembered;
    }
}

impl Levels {
    /// Whether a logger passes events of the level's target to this agent's filters, and only those events: a logger
    /// that does not filter would show the events of every crate.
    ///
    /// If each layer has its own filter, `tracing-subscriber` reports every event as enabled. Then one of the agent's
    /// filters must have been asked, and nothing else may take events of so verbose a level.
    fn comes_through(&self, logger: &dyn log::Log, level: &SetLevel) -> bool {
        let Some(lowest) = level.level.into_level() else {
            return false;
        };
        let enabled = |target: &str| {
            logger.enabled(
                &log::Metadata::builder()
                    .level(as_log(lowest))
                    .target(target)
                    .build(),
            )
        };
        let before = DECIDED.get();
        let is_shown = enabled(&level.target);
        let asks_us = DECIDED.get() != before;
        is_shown && (!enabled(ELSEWHERE) || asks_us && self.are_the_lowest())
    }

    /// Whether the operators' levels are the most verbose of all, as far as that can be known. At TRACE it cannot be
    /// known: a layer that takes everything looks the same.
    fn are_the_lowest(&self) -> bool {
        let most = self.most();
        most < LevelFilter::TRACE && LevelFilter::current() <= most
    }
}

/// The new maximum, and what to remember of it. A value that the service has set in between wins, and then there is
/// nothing to restore. Without a logger the maximum is `Off`, and stays.
fn next(raised: Option<Raised>, now: Most, wanted: Most) -> (Most, Option<Raised>) {
    let before = raised
        .filter(|raised| raised.ours == now)
        .map_or(now, |raised| raised.before);
    if before == Most::Off || wanted <= before {
        return (before, None);
    }
    (wanted, Some(Raised { before, ours: wanted }))
}

fn most(level: LevelFilter) -> Most {
    level
        .into_level()
        .map_or(Most::Off, |level| as_log(level).to_level_filter())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64};

    use super::*;

    #[test]
    fn the_ceiling_follows_the_levels_and_what_the_service_sets_itself_stays() {
        let (info, debug, trace) = (Most::Info, Most::Debug, Most::Trace);
        let raised = |before, ours| Some(Raised { before, ours });
        for (before, now, wanted, expected) in [
            (None, info, debug, (debug, raised(info, debug))),
            (None, info, Most::Off, (info, None)),
            (None, debug, debug, (debug, None)),
            (None, Most::Off, trace, (Most::Off, None)),
            (raised(info, debug), debug, trace, (trace, raised(info, trace))),
            (raised(info, trace), trace, debug, (debug, raised(info, debug))),
            (raised(info, debug), debug, Most::Off, (info, None)),
            // The service has set another value in between.
            (raised(info, debug), Most::Warn, Most::Off, (Most::Warn, None)),
            (raised(info, debug), trace, Most::Off, (trace, None)),
            (
                raised(info, debug),
                Most::Warn,
                debug,
                (debug, raised(Most::Warn, debug)),
            ),
        ] {
            assert_eq!(next(before, now, wanted), expected, "{before:?} {now} {wanted}");
        }
    }

    struct Logger(fn(&str) -> bool);

    impl log::Log for Logger {
        fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
            (self.0)(metadata.target())
        }

        fn log(&self, _: &log::Record<'_>) {}

        fn flush(&self) {}
    }

    #[test]
    fn only_a_logger_that_asks_the_filters_lets_the_ceiling_be_raised() {
        let levels = Levels::default();
        let level = SetLevel {
            lease: 1,
            target: "a::b".to_owned(),
            level: LevelFilter::DEBUG,
            deadline: AtomicU64::new(u64::MAX),
            process: std::process::id(),
            seen: AtomicBool::new(false),
            through_log: AtomicBool::new(false),
        };
        assert!(levels.comes_through(&Logger(|target| target == "a::b"), &level));
        assert!(
            !levels.comes_through(&Logger(|_| true), &level),
            "it would show every crate"
        );
        assert!(
            !levels.comes_through(&Logger(|_| false), &level),
            "it would show nothing"
        );
    }
}
