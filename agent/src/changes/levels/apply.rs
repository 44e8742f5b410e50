//! Makes the service's subscriber apply changed levels, and checks the effect.
//!
//! Both happen on a short-lived thread: the per-thread data that a subscriber keeps for other threads stays untouched,
//! and a subscriber that hangs blocks no other thread.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::callsite::{self, Callsite, Identifier};
use tracing::field::FieldSet;
use tracing::level_filters::LevelFilter;
use tracing::metadata::Kind;
use tracing::subscriber::{Interest, NoSubscriber};
use tracing::{Dispatch, Level, Metadata, dispatcher};

use super::{Levels, SetLevel};

/// How long the service's subscriber may take to apply a change. It is asked about each callsite, which takes
/// microseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Held while the process-wide interest cache is rebuilt, so that the last rebuild sees the newest levels.
static TELLING: Mutex<()> = Mutex::new(());

/// Why a level would show nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Hidden {
    #[error("the service has no `tracing` subscriber yet; nothing was set")]
    NoSubscriber,
    #[error(
        "no filter of this agent is installed in the service's subscriber: nothing would change; the service's author adds \
         it with `.with_filter(agent.log_filter(..))`"
    )]
    NoFilter,
    #[error(
        "a filter of the whole subscriber hides events of `{level}`: nothing would change; the service's author puts \
         that filter on a layer instead, as `.with_filter(agent.log_filter(..))`"
    )]
    Global { level: LevelFilter },
    #[error("the service's subscriber has not answered for {} s; nothing was set", PATIENCE.as_secs())]
    Silent,
    #[error("no thread to tell the service's subscriber on, or it panicked; nothing was set")]
    Failed,
}

impl Levels {
    /// Rebuilds the interest cache, and blocks until it is known whether events of the level and target could pass.
    ///
    /// # Errors
    /// Why they could not.
    pub(super) fn apply(self: &Arc<Self>, level: Arc<SetLevel>) -> Result<(), Hidden> {
        let (said, heard) = sync_channel(1);
        let levels = self.clone();
        let spawned = on_own_thread(move |dispatch| {
            let passes = levels.look_through(dispatch, &level.target, level.level);
            #[cfg(feature = "tracing")]
            if passes.is_ok() {
                levels.raise_ceiling(&level);
            }
            // After a timeout there is no receiver.
            let _ = said.send(passes);
        });
        if !spawned {
            return Err(Hidden::Failed);
        }
        heard.recv_timeout(PATIENCE).unwrap_or_else(|error| {
            Err(match error {
                RecvTimeoutError::Timeout => Hidden::Silent,
                RecvTimeoutError::Disconnected => Hidden::Failed,
            })
        })
    }

    /// Checks that there is a subscriber.
    ///
    /// # Errors
    /// There is none yet.
    pub(super) fn subscriber() -> Result<(), Hidden> {
        match dispatcher::get_default(|dispatch| dispatch.is::<NoSubscriber>()) {
            true => Err(Hidden::NoSubscriber),
            false => Ok(()),
        }
    }

    /// Rebuilds the interest cache after a level was removed. It does not block: lookups do not use the level any more.
    pub(super) fn tell() {
        // If no thread starts, the cache stays as it is: some callsites are then evaluated for each event without need.
        on_own_thread(|dispatch| {
            if !dispatch.is::<NoSubscriber>() {
                Self::rebuild();
            }
        });
    }

    fn rebuild() {
        let _the_newest_last = TELLING.lock().unwrap_or_else(PoisonError::into_inner);
        callsite::rebuild_interest_cache();
    }

    fn look_through(&self, dispatch: &Dispatch, target: &str, level: LevelFilter) -> Result<(), Hidden> {
        // Without a subscriber on this thread, a rebuild could silence one that another thread has for itself.
        if dispatch.is::<NoSubscriber>() {
            return Err(Hidden::NoSubscriber);
        }
        let asked = || self.asked.load(std::sync::atomic::Ordering::Relaxed);
        let before = asked();
        Self::rebuild();
        if asked() == before {
            return Err(Hidden::NoFilter);
        }
        match level.into_level() {
            Some(lowest) if LevelFilter::current() < level || !passes(dispatch, target, lowest) => {
                Err(Hidden::Global { level })
            }
            _ => Ok(()),
        }
    }
}

/// Runs `work` on a new thread with this thread's subscriber; false if no thread starts.
fn on_own_thread(work: impl FnOnce(&Dispatch) + Send + 'static) -> bool {
    let dispatch = dispatcher::get_default(Dispatch::clone);
    let run = move || dispatcher::with_default(&dispatch, || work(&dispatch));
    std::thread::Builder::new()
        .name("debug-levels".to_owned())
        .spawn(run)
        .is_ok()
}

/// Whether the filters of the whole subscriber would let an event pass. Filters of single layers have no say here.
fn passes(dispatch: &Dispatch, target: &str, level: Level) -> bool {
    let fields = FieldSet::new(&[], Identifier(&Asking));
    let event = Metadata::new(
        "level",
        target,
        level,
        None,
        None,
        Some(target),
        fields,
        Kind::EVENT,
    );
    dispatch.enabled(&event)
}

/// The callsite of an event that is only tested.
struct Asking;

impl Callsite for Asking {
    fn set_interest(&self, _: Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        static METADATA: Metadata<'static> = Metadata::new(
            "level",
            super::OWN,
            Level::ERROR,
            None,
            None,
            None,
            FieldSet::new(&[], Identifier(&Asking)),
            Kind::EVENT,
        );
        &METADATA
    }
}
