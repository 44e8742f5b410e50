//! Telling the service's subscriber that other levels hold, and seeing what it makes of them.
//!
//! Both happen on a thread of the agent's own that ends with it: what a subscriber keeps for each thread stays untouched,
//! and a subscriber that hangs holds up nobody.

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

/// How long the service's subscriber may take to hear of a change: each place in the code that logs is asked about, which
/// takes microseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Held while everybody who caches is told: who is told last must be told the newest. What is cached is the process's.
static TELLING: Mutex<()> = Mutex::new(());

/// Why a level that was set would show nothing.
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
    /// Tells who caches, and waits until it is seen whether a target's events of a level could pass.
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
            // Nobody listens any more if it took too long.
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

    /// That there is a subscriber to tell.
    ///
    /// # Errors
    /// There is none yet.
    pub(super) fn subscriber() -> Result<(), Hidden> {
        match dispatcher::get_default(|dispatch| dispatch.is::<NoSubscriber>()) {
            true => Err(Hidden::NoSubscriber),
            false => Ok(()),
        }
    }

    /// Tells who caches that a level is gone, and waits for nobody: whoever is asked knows already.
    pub(super) fn tell() {
        // Without a thread to spare the caches ask a little more often than they have to.
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
        // Without a subscriber on this thread, rebuilding could silence one that another thread has for itself.
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

/// Runs something on a thread of its own, in the subscriber of this one.
fn on_own_thread(work: impl FnOnce(&Dispatch) + Send + 'static) -> bool {
    let dispatch = dispatcher::get_default(Dispatch::clone);
    let run = move || dispatcher::with_default(&dispatch, || work(&dispatch));
    std::thread::Builder::new().name("debug-levels".to_owned()).spawn(run).is_ok()
}

/// Whether a filter of the whole subscriber would let an event pass. Those of single layers say nothing here.
fn passes(dispatch: &Dispatch, target: &str, level: Level) -> bool {
    let fields = FieldSet::new(&[], Identifier(&Asking));
    let event = Metadata::new("level", target, level, None, None, Some(target), fields, Kind::EVENT);
    dispatch.enabled(&event)
}

/// The place in the code of an event that is only asked about.
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
