//! A level as a change under a lease.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use debug_policy::Resource;
#[cfg(feature = "tracing")]
use tracing::Level;
use tracing::level_filters::LevelFilter;

use super::apply::Hidden;
use super::{Levels, SetLevel};
use debug_base::{BootTime, Wait};
use debug_lease::{Begun, Change, ChangeError, Rearmed, Stands, Undone};

/// Usually a sign of a misspelt target. An event is known to exist if its callsite was reached and not disabled for all
/// subscribers.
const UNSEEN: &str = "no event of this target has been seen so far; if none comes, is it spelt right? (what was switched off \
                      until now, and what comes by the `log` crate, is not seen)";
/// The warning for TRACE.
const WARNING: &str = "events of other crates may print secrets";

/// A level for a target.
pub(crate) struct LevelChange {
    resource: Resource,
    target: String,
    level: LevelFilter,
    levels: Arc<Levels>,
    made: Mutex<Option<Arc<SetLevel>>>,
}

impl LevelChange {
    /// `level` for `target` and everything below it.
    pub(crate) fn new(levels: Arc<Levels>, target: String, level: LevelFilter) -> Self {
        Self {
            resource: Resource::Target(target.clone()),
            target,
            level,
            levels,
            made: Mutex::default(),
        }
    }

    fn refused(&self, hidden: Hidden) -> ChangeError {
        ChangeError::Refused(format!(
            "`{}` was not set to {}: {hidden}",
            self.target,
            name(self.level)
        ))
    }

    /// Removes the level, restores the maximum of the `log` crate and rebuilds the caches.
    fn take(&self, lease: u64) -> Option<u64> {
        let covered_by = self.levels.take(lease);
        #[cfg(feature = "tracing")]
        self.levels.follow_ceiling();
        Levels::tell();
        covered_by
    }
}

impl Change for LevelChange {
    fn target(&self) -> &Resource {
        &self.resource
    }

    fn make(&self, begun: Begun, deadline: BootTime, _: &[u64]) -> Result<(), ChangeError> {
        let level = Arc::new(SetLevel {
            lease: begun.lease(),
            target: self.target.clone(),
            level: self.level,
            deadline: AtomicU64::new(deadline.0),
            process: std::process::id(),
            seen: AtomicBool::new(false),
            #[cfg(feature = "tracing")]
            through_log: AtomicBool::new(false),
        });
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Some(level.clone());
        self.levels.put(level.clone());
        self.levels.apply(level).map_err(|hidden| {
            self.take(begun.lease());
            self.refused(hidden)
        })
    }

    fn could_be_made(&self) -> Result<(), ChangeError> {
        Levels::subscriber().map_err(|hidden| self.refused(hidden))
    }

    fn ends_by_itself(&self) -> bool {
        true
    }

    fn rearm(&self, _lease: u64, until: BootTime) -> Rearmed {
        if let Some(level) = &*self.made.lock().unwrap_or_else(PoisonError::into_inner) {
            level.deadline.store(until.0, Ordering::Relaxed);
        }
        Rearmed::InForce
    }

    fn undo(&self, lease: u64, _wait: Wait) -> Result<Undone, ChangeError> {
        let covered_by = self.take(lease);
        let stands = Some(Stands::Layers(self.levels.layers(&self.target)));
        Ok(Undone {
            covered_by,
            stands,
            ..Undone::default()
        })
    }

    fn force(&self, _wait: Wait) -> Result<bool, ChangeError> {
        Ok(true)
    }

    fn done(&self) -> String {
        format!("at {}", name(self.level))
    }

    fn warning(&self) -> Option<String> {
        let secrets = (self.level == LevelFilter::TRACE).then(|| WARNING.to_owned());
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let unseen = made
            .as_ref()
            .is_some_and(|level| !level.seen.load(Ordering::Relaxed));
        let unseen = unseen.then(|| UNSEEN.to_owned());
        let said: Vec<String> = unseen
            .into_iter()
            .chain(secrets)
            .chain(through_log(self.level))
            .collect();
        (!said.is_empty()).then(|| said.join("; "))
    }
}

/// A warning about events that stay hidden because the `log` crate's maximum excludes them and cannot be raised: its
/// logger does not ask this agent's filters.
#[cfg(feature = "tracing")]
fn through_log(level: LevelFilter) -> Option<String> {
    hidden_in_log(log::max_level().min(log::STATIC_MAX_LEVEL), level)
}

/// Without the `tracing` feature no level is ever set.
#[cfg(not(feature = "tracing"))]
const fn through_log(_: LevelFilter) -> Option<String> {
    None
}

#[cfg(feature = "tracing")]
pub(super) fn hidden_in_log(most: log::LevelFilter, level: LevelFilter) -> Option<String> {
    // Without a logger there are no records to hide.
    let level = level.into_level().filter(|_| most != log::LevelFilter::Off)?;
    let hidden = most.to_level().is_some_and(|most| as_log(level) > most);
    hidden.then(|| {
        format!(
            "events of the `log` crate stay hidden above {most}, which the service fixed at its start; its author lets them in \
             with `tracing_log::LogTracer` as the logger, or with `log::set_max_level` behind one that has a filter of its own"
        )
    })
}

#[cfg(feature = "tracing")]
pub(super) const fn as_log(level: Level) -> log::Level {
    match level {
        Level::ERROR => log::Level::Error,
        Level::WARN => log::Level::Warn,
        Level::INFO => log::Level::Info,
        Level::DEBUG => log::Level::Debug,
        Level::TRACE => log::Level::Trace,
    }
}

/// The name of a level as logs show it.
pub(crate) fn name(level: LevelFilter) -> String {
    level.to_string().to_uppercase()
}
