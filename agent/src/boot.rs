//! Starts and stops the agent: first every check, then the log, then the socket.

mod complain;
mod error;
mod history;
mod names;
mod notices;
mod prepare;
mod registration;
pub(crate) mod status;
pub(crate) mod watchdog;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use debug_audit::kinds::LEASE_RESTART;
use debug_audit::{Log, OpenError, Opened, Until};
use debug_policy::Resource;
use debug_wire::records::{
    Armed, Boot, ConfigLoaded, LeaseRestarted, List, ListsLoaded, PolicyLoaded, Recovered, Shutdown, Torn,
};
use serde_json::json;

pub use self::error::{Mistake, StartError};
pub(crate) use self::prepare::{Prepared, prepare};
pub(crate) use self::registration::Registration;
use crate::boot::status::{Shared, Status};
use crate::changes::Changes;
use crate::changes::Writes;
use crate::changes::exposed::Exposed;
use crate::changes::guards::Guards;
use crate::changes::observer::PatchObserver;
use crate::changes::snapshot::Snapshots;
use crate::changes::workers::{RevertWorkers, Turn};
use crate::core::{Core, RateLimit};
use crate::eval::queue::Queue;
use crate::gate;
use crate::gate::Rules;
use crate::methods::Methods;
use crate::recorder::Recorder;
use crate::recorder::events::Emitter;
use crate::recorder::marker::ActiveMarker;
use crate::recorder::notes::Note;
use crate::recorder::records::{self, record};
use debug_base::threads::{Faults, Next};
use debug_base::{BootTime, Panicked, Path, Wait, fenced, threads};
use debug_config as config;
use debug_config::Config;
use debug_lease::{Cause, Lease, Leases, Stuck, lock_soon};
use debug_net as net;
use debug_net::{Bounds, NetHandle, Tls};
use debug_points::{CrashNotes, Found};
use debug_state::{Keyed, Scrubber};
use history::{History, digest, history};

/// How often a port or folder that another process holds is retried: a rolling restart takes seconds.
const RETRY: Duration = Duration::from_secs(1);
/// The stack of eval threads, in bytes; only touched pages cost memory.
const EVAL_STACK: usize = 16 << 20;
/// The nice value of the threads that run evals: under load a thread of the service gets about three times as much. The
/// thread that ends changes keeps the service's priority.
const BEHIND_THE_SERVICE: i32 = 5;
/// How long stopping may take in total: under a second, with some milliseconds to spare.
const STOP: Duration = Duration::from_millis(900);
/// The part of [`STOP`] for the first step, reverting changes.
const REVERTING: Duration = Duration::from_millis(500);
/// The part of [`STOP`] reserved for the last step, closing the log.
const CLOSING: Duration = Duration::from_millis(250);

/// Reports that the agent does not start: once on stderr, and in the service's log once it has a subscriber.
pub(crate) fn refuse_start(why: &str) {
    let what = format!("the debug agent does not start, the service goes on without it: {why}");
    complain::complain(&what);
    let lines: Vec<&str> = what.lines().map(str::trim).collect();
    crate::recorder::events::refused(&lines.join("; "));
}

/// A running agent's threads.
pub(crate) struct Running {
    /// The process that has the threads. A forked child has a copy of everything else.
    process: u32,
    shared: Arc<Machinery>,
    boot: Option<JoinHandle<()>>,
}

/// The state that the threads share before the core exists, which needs the open log.
struct Machinery {
    status: Shared,
    stopping: AtomicBool,
    up: Mutex<Option<Up>>,
}

/// What runs once the socket is open.
struct Up {
    core: Arc<Core>,
    queue: Arc<Queue>,
    net: NetHandle,
    threads: Vec<JoinHandle<()>>,
}

/// Starts the agent's first thread, which does the rest.
///
/// # Errors
/// The system starts no thread.
pub(crate) fn launch(prepared: Prepared, status: Shared) -> Result<Running, StartError> {
    let shared = Arc::new(Machinery {
        status,
        stopping: AtomicBool::new(false),
        up: Mutex::new(None),
    });
    let machinery = shared.clone();
    let boot = std::thread::Builder::new()
        .name(REVERT.to_owned())
        .spawn(move || {
            if let Err(Panicked) = fenced(|| boot(prepared, &machinery)) {
                machinery.refuse("the agent panicked while it started".to_owned());
            }
        })
        .map_err(|e| StartError::Thread(Mistake::new(format!("no thread for the agent: {e}"), "")))?;
    Ok(Running {
        process: std::process::id(),
        shared,
        boot: Some(boot),
    })
}

impl Machinery {
    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Waits for something that another process holds.
    fn wait(&self, why: String) {
        if self.status.set(Status::Waiting(why.clone())) {
            complain::complain(&format!("waiting: {why}"));
        }
        std::thread::park_timeout(RETRY);
    }

    fn refuse(&self, why: String) {
        refuse_start(&why);
        self.status.set(Status::Refused(why));
    }
}

/// Runs the first thread: opens the log, then the socket, then serves as the revert thread.
fn boot(prepared: Prepared, machinery: &Arc<Machinery>) {
    let Some((log, opened)) = open_log(&prepared, machinery) else {
        return;
    };
    let core = match build(prepared, log, &opened, &machinery.status) {
        Ok(core) => core,
        Err(why) => return machinery.refuse(why),
    };
    let (core, tls, listen) = core;
    let Some(()) = listen_and_serve(&core, tls, listen, machinery) else {
        return;
    };
    threads::stand(REVERT, &core.faults, || {
        let Some(due) = core.changes.leases.wait_due() else {
            return Next::End;
        };
        due.into_iter().for_each(|(id, cause)| end_due(&core, id, &cause));
        Next::Turn
    });
}

/// The name of the first thread, which becomes the revert thread.
const REVERT: &str = "debug-revert";

/// Ends a lease that is due. If that panics, the lease is tried again later, and the thread goes on with the other due
/// leases.
fn end_due(core: &Arc<Core>, id: u64, cause: &Cause) {
    if let Err(Panicked) = fenced(|| revert(core, id, cause.clone())) {
        core.changes.leases.postpone(id, cause);
        core.panicked(REVERT);
    }
}

/// Ends a lease that is due. An error is recorded as an alarm where it happens, and the lease is tried again.
fn revert(core: &Arc<Core>, id: u64, cause: Cause) {
    let Ok(lease) = core.changes.leases.find(id) else {
        return;
    };
    let aside = |path: &[String]| lease.failing.is_some() || core.exposed.states.waits(&Path(path.to_vec()));
    let Resource::State(path) = lease.target().clone() else {
        drop(core.end_lease(id, &cause, "agent", Wait::AGENT));
        return;
    };
    if !aside(&path) {
        drop(core.end_lease(id, &cause, "agent", Wait::AGENT));
        return;
    }
    // The service keeps taking the state's lock, or its setter is slow. Queue for the lock as an ordinary writer, on
    // the state's own thread, so that it does not delay reverts of other states.
    core.changes.leases.postpone(id, &cause);
    let state = path.first().map(String::as_str).unwrap_or_default();
    let waiting = core.clone();
    let for_the_helper = cause.clone();
    // The first attempt has a time limit: if it hangs, that must be reported.
    let wait = if lease.failing.as_ref().is_some_and(|failing| failing.tried) {
        Wait::Until
    } else {
        Wait::AGENT
    };
    let undo = move || drop(waiting.end_lease(id, &for_the_helper, "agent", wait));
    match core.changes.helpers.undo(state, id, undo) {
        Ok(Turn::Next) => {}
        // The state's thread may be blocked by another job, or dead. Try here, too, without blocking, because other
        // leases are due.
        Ok(Turn::Queued) => drop(core.end_lease(id, &cause, "agent", Wait::Try)),
        Err(error) => core
            .recorder
            .emitter
            .alarm(&format!("no thread to undo lease {id} on: {error}")),
    }
}

fn open_log(prepared: &Prepared, machinery: &Machinery) -> Option<(Log, Opened)> {
    loop {
        if machinery.stopping() {
            return None;
        }
        match Log::open(&prepared.config.audit.folder, prepared.key.clone()) {
            Ok(opened) => return Some(opened),
            Err(OpenError::Held { .. }) => {
                machinery.wait(format!(
                    "another process holds the audit folder `{}`",
                    prepared.config.audit.folder.display()
                ));
            }
            Err(error) => {
                machinery.refuse(format!("{}\nhelp: {}", prepare::whole(&error), error.advice()));
                return None;
            }
        }
    }
}

/// Builds the core and writes the records of the start.
fn build(
    prepared: Prepared,
    log: Log,
    opened: &Opened,
    status: &Shared,
) -> Result<(Arc<Core>, Tls, std::net::SocketAddr), String> {
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
    let history = if opened.fresh {
        History::default()
    } else {
        history(&config)?
    };
    history.check_lists(&config, &tls)?;
    let keyed = Keyed::new(digest_key(&config.audit.folder)?).map_err(|e| format!("no randomness: {e}"))?;
    let (emitter, emitting) = Emitter::new();
    threads::spawn("debug-emit", None, status.faults(), emitting).map_err(|e| e.to_string())?;
    let scrubber = Scrubber::default();
    let shown = states
        .list()
        .map(|(name, _)| name)
        .chain([config.service.as_str(), opened.origin.as_str()]);
    scrubber.protect_identifiers(shown);
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
        recorder: Recorder { log, keyed, emitter },
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
            states,
            points: registry,
            redactor,
            scrubber,
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
    let told = Arc::downgrade(&core);
    core.faults.tell(move |what, times| {
        if let Some(core) = told.upgrade() {
            core.tell_panic(what, times);
        }
    });
    core.exposed.learn_all();
    core.exposed.find_alike();
    let mut notices = notices;
    for (path, what) in core.exposed.states.keys_of_nothing(&keys) {
        notices.add_note(Note::about([path], what));
    }
    names.tell(&core, notices);
    let (marks, made) = ActiveMarker::begin(config.active.clone());
    if let Err(error) = made {
        let folder = config.active.display();
        let what =
            format!("changes in force cannot be marked in `{folder}`: {error}; `info()` tells of them");
        core.recorder.emitter.alarm(&what);
        core.note(what);
    }
    let (inside, found) = CrashNotes::begin(&config.active);
    let mut found = found.unwrap_or_else(|error| {
        core.recorder.emitter.alarm(&format!(
            "whether this process ends inside a patched call cannot be noted: {error}"
        ));
        Found::default()
    });
    // A user who can write that file could invent lease ids.
    found.leases.retain(|lease| *lease <= history.highest);
    boot_records(&core, &config, opened, &history, &found, &tls)?;
    if let Err(error) = inside.clear() {
        core.recorder.emitter.alarm(&format!(
            "what stands in `calls` of the folder of marks cannot be cleared: {error}"
        ));
    }
    let (observing, events) = PatchObserver::new(marks, inside);
    watchdog::start(&core, events, observing.marks().clone()).map_err(|e| format!("no thread: {e}"))?;
    let observing = Arc::new(observing);
    // A weak reference: the points outlive the agent in the layers of the service's router.
    let bell = Arc::downgrade(&observing);
    core.exposed.points.on_news(move || {
        if let Some(observing) = bell.upgrade() {
            observing.news();
        }
    });
    // Report the news from before the start.
    observing.news();
    drop(core.changes.observing.set(observing));
    Ok((core, tls, config.listen))
}

fn boot_records(
    core: &Core,
    config: &Config,
    opened: &Opened,
    history: &History,
    found: &Found,
    tls: &Tls,
) -> Result<(), String> {
    let boot = Boot {
        service: core.service.clone(),
        instance: core.instance.clone(),
        environment: core.rules.environment.clone(),
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        from_environment: json!(config.from_environment),
        notices: core.at_start().iter().map(|note| note.text.clone()).collect(),
        ended_inside: found.leases.iter().copied().collect(),
        ended_inside_unknown: found.unknown,
    };
    let tell = |what: String| {
        core.recorder.emitter.alarm(&what);
        core.note(what);
    };
    if !found.leases.is_empty() {
        let leases: Vec<String> = found.leases.iter().map(u64::to_string).collect();
        tell(format!(
            "the process before this one ended inside a patched call, or less than a second after it, of lease {}",
            leases.join(", ")
        ));
    }
    if found.unknown {
        tell(
            "the process before this one may have ended inside a patched call: it noted none at the time"
                .to_owned(),
        );
    }
    let mut entries = vec![record(&boot)];
    if let Some(recovered) = &opened.recovered {
        entries.push(record(&recovery(recovered)));
    }
    entries.push(record(&ConfigLoaded {
        file: config.file.display().to_string(),
        listen: config.listen.to_string(),
    }));
    entries.push(record(&PolicyLoaded {
        file: config.policy.display().to_string(),
        sha256: core.rules.policy_digest.clone(),
    }));
    let list = |authority: &debug_net::Authority| List {
        ca: digest(&authority.subject),
        number: authority.crl_number.clone(),
        next_update: json!(authority.next_update),
    };
    entries.push(record(&ListsLoaded {
        file: config.trust.crl.display().to_string(),
        lists: tls.authorities.iter().map(list).collect(),
    }));
    for (lease, target) in &history.open {
        let how = match found.leases.contains(lease) {
            true => {
                "the process that held it ended inside a call of this patch, or less than a second after it"
            }
            false => "the process that held it ended",
        };
        let body = LeaseRestarted {
            lease: *lease,
            target: target.clone(),
            by: "agent".to_owned(),
            detail: how.to_owned(),
        };
        entries.push(records::entry(LEASE_RESTART, &body));
    }
    core.recorder
        .log
        .append(entries, Until::Durable)
        .durable()
        .map(drop)
        .map_err(|e| format!("the audit log cannot be written: {}", prepare::whole(&e)))
}

/// What a crash left behind, and how it was repaired.
fn recovery(recovered: &debug_audit::Recovered) -> Recovered {
    let torn = recovered.torn.as_ref().map(|torn| Torn {
        file: torn.file.clone(),
        moved_to: torn.moved_to.clone(),
        seq: torn.seq,
        bytes: torn.bytes,
    });
    Recovered {
        covered: recovered.covered,
        adopted: recovered.adopted,
        torn,
    }
}

/// The key of the log's digests, stored beside the log: 32 random bytes, generated with it.
fn digest_key(folder: &std::path::Path) -> Result<[u8; 32], String> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = folder.join("digest.key");
    if path.exists() {
        let bytes = config::private_file(&path).map_err(|e| format!("{e}\nhelp: {}", e.advice()))?;
        return bytes
            .as_slice()
            .try_into()
            .map_err(|_| format!("`{}` does not hold 32 bytes", path.display()));
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|e| format!("no randomness: {e}"))?;
    // Atomic: a crash in between must not leave an empty key that is refused for ever. Only this process uses the
    // folder.
    let new = folder.join("digest.key.new");
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&key)?;
        file.sync_all()?;
        std::fs::rename(&new, &path)?;
        std::fs::File::open(folder)?.sync_all()
    };
    write().map_err(|e| format!("cannot write `{}`: {e}", path.display()))?;
    Ok(key)
}

/// Opens the socket and starts the eval threads.
fn listen_and_serve(
    core: &Arc<Core>,
    tls: Tls,
    listen: std::net::SocketAddr,
    machinery: &Arc<Machinery>,
) -> Option<()> {
    let queue = Arc::new(Queue::default());
    let desk = Arc::new(Methods::new(core.clone(), queue.clone()));
    let net = loop {
        if machinery.stopping() {
            return None;
        }
        match net::start(listen, tls.clone(), desk.clone(), Bounds::default()) {
            Ok(net) => break net,
            Err(net::StartError::InUse(address)) => {
                machinery.wait(format!("another process listens on `{address}`"))
            }
            Err(error) => {
                machinery.refuse(prepare::whole(&error));
                return None;
            }
        }
    };
    let threads = match eval_threads(&queue, &core.faults) {
        Ok(threads) => threads,
        Err(error) => {
            // The threads that did start wait for work that never comes.
            queue.stop();
            machinery.refuse(format!("no threads for evals: {error}"));
            return None;
        }
    };
    let mut up = machinery.up.lock().unwrap_or_else(PoisonError::into_inner);
    if machinery.stopping() {
        // The thread that stops the agent has found nothing to stop, and will not look again.
        drop(up);
        net.shutdown();
        queue.stop();
        return None;
    }
    core.recorder.append(vec![record(&Armed {
        listen: net.address.to_string(),
    })]);
    core.recorder.emitter.info(&format!(
        "the debug agent listens on {}; log {}",
        net.address, core.origin
    ));
    machinery.status.set(Status::Running);
    *up = Some(Up {
        core: core.clone(),
        queue,
        net,
        threads,
    });
    Some(())
}

fn eval_threads(queue: &Arc<Queue>, faults: &Faults) -> std::io::Result<Vec<JoinHandle<()>>> {
    let evals = |name| {
        let (queue, mut nice) = (queue.clone(), false);
        threads::spawn(name, Some(EVAL_STACK), faults.clone(), move || {
            if !std::mem::replace(&mut nice, true) {
                // On Linux this affects only the calling thread (setpriority(2)). If it fails, evals compete with the
                // service at equal priority.
                let _ = rustix::process::nice(BEHIND_THE_SERVICE);
            }
            queue.work()
        })
    };
    let reserved = queue.clone();
    Ok(vec![
        evals("debug-eval-1")?,
        evals("debug-eval-2")?,
        threads::spawn("debug-eval-r", Some(EVAL_STACK), faults.clone(), move || {
            reserved.work_reserved()
        })?,
    ])
}

impl Running {
    /// The core of an agent that listens; `None` before that. Waits at most 5 ms. Do not call it in a forked child,
    /// where the holder of a lock may not exist.
    ///
    /// # Errors
    /// `Stuck` if the lock is held for 5 ms.
    fn core(&self) -> Result<Option<Arc<Core>>, Stuck> {
        let up = lock_soon(&self.shared.up).ok_or(Stuck)?;
        Ok(up.as_ref().map(|up| up.core.clone()))
    }

    /// The state of the agent.
    pub(crate) fn status(&self) -> Status {
        if self.process != std::process::id() {
            return Status::Stopped;
        }
        let status = &self.shared.status;
        match self.core() {
            Ok(None) => status.now(),
            Ok(Some(core)) => status.with_leases(&core.changes.leases),
            Err(Stuck) => Status::stuck(),
        }
    }

    /// The number of leases in force; 0 also if it cannot be read within milliseconds.
    pub(crate) fn leases_in_force(&self) -> usize {
        if self.process != std::process::id() {
            return 0;
        }
        let core = self.core().ok().flatten();
        core.and_then(|core| core.changes.leases.glance(BootTime::now()).ok())
            .map_or(0, |(count, _)| count)
    }

    /// Reverts everything, writes `shutdown` and ends the threads, within 1 s in total even if something hangs: each
    /// step gets what is left of the time, and none blocks on what blocks another.
    /// Returns what could not be reverted.
    pub(crate) fn stop(mut self) -> Vec<NotUndone> {
        if self.process != std::process::id() {
            // The log, the socket and the changes belong to the parent, and this process has no threads. Release none
            // of it.
            std::mem::forget(self);
            return Vec::new();
        }
        self.shared.stopping.store(true, Ordering::Release);
        let up = self
            .shared
            .up
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(boot) = &self.boot {
            boot.thread().unpark();
        }
        let Some(Up {
            core,
            queue,
            net,
            threads,
        }) = up
        else {
            // The agent is not up yet: the boot thread checks `stopping` before its next step.
            return Vec::new();
        };
        let begun = Instant::now();
        // Running evals are cancelled as their sessions end, while changes are reverted.
        net.begin_shutdown();
        queue.stop();
        revert_all(&core, begun + REVERTING);
        let (until, last) = (begun + STOP - CLOSING, begun + STOP);
        net.shutdown_within(until.saturating_duration_since(Instant::now()));
        // Before the log is closed: these threads write the outcomes of their evals.
        threads.into_iter().for_each(|thread| join(thread, until));
        if let Some(observing) = core.observer() {
            observing
                .marks()
                .end(core.changes.leases.in_force(BootTime::now()));
        }
        core.changes.leases.stop();
        core.recorder.append(vec![records::kept(&Shutdown {})]);
        if let Err(error) = core
            .recorder
            .log
            .clone()
            .close(last.saturating_duration_since(Instant::now()))
        {
            complain::complain(&format!("the audit log was not closed: {error}"));
        }
        if let Some(boot) = self.boot.take() {
            join(boot, last);
        }
        core.changes.leases.list().iter().map(NotUndone::of).collect()
    }
}

/// A change that the agent could not undo before it stopped.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct NotUndone {
    /// The number of its lease, as in the audit log.
    pub lease: u64,
    /// What is still changed: `state:limits.mail.rate`, `point:GET /health`.
    pub target: String,
    /// Why it could not be undone, if that was seen.
    pub why: Option<String>,
}

impl NotUndone {
    fn of(lease: &Lease) -> Self {
        let why = lease.failing.as_ref().map(|failing| failing.why.clone());
        Self {
            lease: lease.id,
            target: lease.target().to_string(),
            why,
        }
    }
}

/// Ends every lease, newest first; retries failed reverts until `until`.
fn revert_all(core: &Arc<Core>, until: Instant) {
    core.changes.leases.close();
    loop {
        let mut leases = core.changes.leases.list();
        leases.reverse();
        if leases.is_empty() {
            return;
        }
        for lease in leases {
            end_at_stop(core, &lease);
        }
        if Instant::now() > until {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// Ends a lease as the agent stops. A write is reverted on its state's thread, so that a blocked state delays no other
/// revert.
fn end_at_stop(core: &Arc<Core>, lease: &Lease) {
    let (id, ending) = (lease.id, core.clone());
    let end = move || ending.see_to_end(id, &Cause::Shutdown, Wait::AGENT);
    match lease.target() {
        Resource::State(path) => {
            let state = path.first().map(String::as_str).unwrap_or_default();
            if core.changes.helpers.undo(state, id, end).is_err() {
                core.see_to_end(id, &Cause::Shutdown, Wait::Try);
            }
        }
        _ => end(),
    }
}

/// Waits for a thread to end, until `until`; a thread that hangs in the service's code is detached.
fn join(thread: JoinHandle<()>, until: Instant) {
    while !thread.is_finished() && Instant::now() < until {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    if thread.is_finished() {
        drop(thread.join());
    }
}
