//! The parts are put together, from what was prepared and the open log.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};

use debug_audit::{Log, OpenedLog};

use super::error::StartError;
use super::history::{History, history};
use super::prepare::Prepared;
use super::status::SharedStatus;
use super::{log, no_thread, watchdog};
use crate::changes::exposed::Exposed;
use crate::changes::guards::Guards;
use crate::changes::observer::PatchObserver;
use crate::changes::snapshot::Snapshots;
use crate::changes::workers::RevertWorkers;
use crate::changes::{Changes, Writes};
use crate::core::{Core, RateLimit};
use crate::gate::{self, Rules};
use crate::recorder::Recorder;
use crate::recorder::events::Emitter;
use crate::recorder::marker::ActiveMarker;
use crate::recorder::notes::Note;
use debug_base::{BootTime, threads};
use debug_config::Config;
use debug_lease::Leases;
use debug_net as net;
use debug_net::Tls;
use debug_points::{CrashNotes, FoundAfterCrash};
use debug_state::{Keyed, Scrubber, States};

/// Puts the core together and writes the records of the start. Returns what the socket needs, too.
///
/// # Errors
/// Why the agent does not start.
pub(super) fn assemble(
    prepared: Prepared,
    log: Log,
    opened: &OpenedLog,
    status: &SharedStatus,
) -> Result<(Arc<Core>, Tls, SocketAddr), StartError> {
    let Prepared {
        config,
        policy,
        tls,
        registry,
        levels,
        states,
        redactor,
        gauges,
        names,
        notices,
        keys,
        ..
    } = prepared;
    let history = match opened.fresh {
        true => History::default(),
        false => history(&config)?,
    };
    history.check_lists(&config, &tls)?;
    let recorder = recorder(&config, log, status)?;
    let core = Arc::new(Core {
        service: config.service.clone(),
        instance: config.instance.clone(),
        origin: opened.origin.clone(),
        rules: Rules {
            environment: config.environment.clone(),
            policy_digest: gate::digest_of(&policy),
            policy,
            permits: AtomicU64::new(0),
        },
        recorder,
        changes: Changes {
            leases: Arc::new(Leases::after(history.highest)),
            guards: Guards::new(gauges),
            snapshots: Snapshots::default(),
            writes: Arc::new(Writes::new(states.clone())),
            helpers: RevertWorkers::new(status.waits(), status.faults()),
            waits: status.waits(),
            levels,
            observing: OnceLock::new(),
        },
        exposed: Exposed {
            scrubber: scrubber(&states, [&config.service, &opened.origin]),
            states,
            points: registry,
            redactor,
            alike: OnceLock::new(),
        },
        notes: Mutex::default(),
        at_start: OnceLock::new(),
        unmatched: OnceLock::new(),
        faults: status.faults(),
        started: BootTime::now(),
        lifetimes: tls.lifetimes.clone(),
        noise: RateLimit::default(),
        refusals: RateLimit::default(),
        algorithms: net::provider().signature_verification_algorithms.all,
        sessions: Mutex::new(BTreeMap::new()),
        next_session: AtomicU64::new(history.sessions + 1),
    });
    tell_panics(&core);
    core.exposed.learn_all();
    core.exposed.find_alike();
    let mut notices = notices;
    for (path, what) in core.exposed.states.keys_of_nothing(&keys) {
        notices.add_note(Note::about([path], what));
    }
    names.tell(&core, notices);
    let marker = marker(&core, &config);
    let (notes, found) = crash_notes(&core, &config, &history);
    log::begin(&core, &config, opened, &history, &found, &tls)?;
    // Only now is it on disk what the process before left in them.
    if let Err(error) = notes.clear() {
        core.recorder.emitter.alarm(&format!(
            "what stands in `calls` of the folder of marks cannot be cleared: {error}"
        ));
    }
    observe(&core, marker, notes)?;
    Ok((core, tls, config.listen))
}

fn recorder(config: &Config, log: Log, status: &SharedStatus) -> Result<Recorder, StartError> {
    let key = log::digest_key(&config.audit.folder)?;
    let keyed = Keyed::new(key).map_err(log::no_randomness)?;
    let (emitter, emitting) = Emitter::new();
    threads::spawn("debug-emit", None, status.faults(), emitting).map_err(|e| no_thread(&e))?;
    Ok(Recorder { log, keyed, emitter })
}

/// A scrubber that takes no name of a state, and none of the given ones, for a secret.
fn scrubber(states: &States, names: [&str; 2]) -> Scrubber {
    let scrubber = Scrubber::default();
    scrubber.protect_identifiers(states.list().map(|(name, _)| name).chain(names));
    scrubber
}

/// Reports panics of the agent's threads in the log and to the service.
fn tell_panics(core: &Arc<Core>) {
    let told = Arc::downgrade(core);
    core.faults.tell(move |what, times| {
        if let Some(core) = told.upgrade() {
            core.tell_panic(what, times);
        }
    });
}

fn marker(core: &Core, config: &Config) -> ActiveMarker {
    let (marker, made) = ActiveMarker::begin(config.active.clone());
    if let Err(error) = made {
        let folder = config.active.display();
        let what =
            format!("changes in force cannot be marked in `{folder}`: {error}; `info()` tells of them");
        core.recorder.emitter.alarm(&what);
        core.note(what);
    }
    marker
}

/// The notes about patched calls, and what the process before left in them.
fn crash_notes(core: &Core, config: &Config, history: &History) -> (CrashNotes, FoundAfterCrash) {
    let (notes, found) = CrashNotes::begin(&config.active);
    let mut found = found.unwrap_or_else(|error| {
        core.recorder.emitter.alarm(&format!(
            "whether this process ends inside a patched call cannot be noted: {error}"
        ));
        FoundAfterCrash::default()
    });
    // A user who can write that file could invent lease ids.
    found.leases.retain(|lease| *lease <= history.highest);
    (notes, found)
}

/// Starts `debug-guard`, and has points tell it what happens.
fn observe(core: &Arc<Core>, marker: ActiveMarker, notes: CrashNotes) -> Result<(), StartError> {
    let (observer, events) = PatchObserver::new(marker, notes);
    watchdog::start(core, events, observer.marks().clone()).map_err(|e| no_thread(&e))?;
    let observer = Arc::new(observer);
    // A weak reference: the points outlive the agent in the layers of the service's router.
    let bell = Arc::downgrade(&observer);
    core.exposed.points.on_news(move || {
        if let Some(observer) = bell.upgrade() {
            observer.news();
        }
    });
    // Report the news from before the start.
    observer.news();
    drop(core.changes.observing.set(observer));
    Ok(())
}
