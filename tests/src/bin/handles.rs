//! A service with its states in every kind of handle that the agent supports. Tests start it as a program.
//!
//! HTTP on a port that the system chooses: `GET /states` shows the states as the service itself sees them, `/answer` calls a
//! function that can be patched, `/hold` takes the lock of `mutex` and keeps it until `/release`. `/refuse`, `/panic`, `/ignore`
//! and `/hang` decide what happens to the next values of the field `limits.mail.rate`, until `/heal`. `/moody` makes the
//! subscriber and the gauge panic until `/calm`. `/stop` drops the agent.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a program for tests: what fails here fails the test"
)]

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, RwLock, mpsc};
use std::thread;

use arc_swap::ArcSwap;
use debug_agent::{Agent, Live, patchable};
use debug_tests::serve::{block_on, serve};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing_subscriber::prelude::*;

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Limit {
    most: u32,
}

static ATOMIC: AtomicU32 = AtomicU32::new(1);
static FIELD: AtomicU32 = AtomicU32::new(1);
static BURST: AtomicU32 = AtomicU32::new(1);
/// Whether the service's subscriber, gauge and refusal text panic.
static MOODY: AtomicBool = AtomicBool::new(false);
static SETTING: Setting = Setting {
    how: Mutex::new(Set::Stores),
    changed: Condvar::new(),
};

/// What happens to a value that is written to the field.
#[derive(Clone, Copy, PartialEq)]
enum Set {
    Stores,
    Refuses,
    Panics,
    /// Claims to have stored the value.
    Ignores,
    /// Hangs until another behaviour is set.
    Hangs,
}

struct Setting {
    how: Mutex<Set>,
    changed: Condvar,
}

impl Setting {
    fn change(&self, how: Set) {
        *self.how.lock().unwrap() = how;
        self.changed.notify_all();
    }

    /// The next behaviour, once it is not to hang.
    fn wait(&self) -> Set {
        let hangs = |how: &mut Set| *how == Set::Hangs;
        *self.changed.wait_while(self.how.lock().unwrap(), hangs).unwrap()
    }
}

/// The states of the service, beside the two above.
struct States {
    rwlock: Arc<RwLock<Limit>>,
    mutex: Arc<Mutex<Limit>>,
    tokio_rwlock: Arc<tokio::sync::RwLock<Limit>>,
    tokio_mutex: Arc<tokio::sync::Mutex<Limit>>,
    parking_rwlock: Arc<parking_lot::RwLock<Limit>>,
    parking_mutex: Arc<parking_lot::Mutex<Limit>>,
    swap: Arc<ArcSwap<Limit>>,
    watched: watch::Receiver<Limit>,
    live: Live<Limit>,
}

#[debug_agent::patchable]
fn doubled(n: u32) -> u32 {
    n * 2
}

fn set_burst(value: u32) -> Result<(), String> {
    BURST.store(value, Ordering::SeqCst);
    Ok(())
}

fn set_field(value: u32) -> Result<(), String> {
    if 100 < value {
        return Err(format!("{value} is more than 100"));
    }
    match SETTING.wait() {
        Set::Stores => FIELD.store(value, Ordering::SeqCst),
        Set::Refuses => return Err("the disk is full".to_owned()),
        Set::Panics => panic!("nobody expected this"),
        Set::Ignores | Set::Hangs => {}
    }
    Ok(())
}

/// A layer of the subscriber that panics on the agent's events.
struct Moody;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Moody {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let ours = event.metadata().target().starts_with("debug_agent");
        assert!(!(ours && MOODY.load(Ordering::SeqCst)), "the subscriber is moody");
    }
}

/// The payload of a gauge's panic; panics again when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(thread::panicking(), "the payload is moody");
    }
}

fn mood() -> f64 {
    if MOODY.load(Ordering::SeqCst) {
        std::panic::panic_any(Bomb);
    }
    1.0
}

/// The reason of a refusal, with a text that cannot be read.
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("the words are moody")
    }
}

/// A function that can be patched.
#[patchable]
fn answer() -> u32 {
    42
}

impl States {
    fn new() -> (Self, Agent) {
        let limit = || Limit { most: 1 };
        let (watch, watched) = watch::channel(limit());
        let states = Self {
            rwlock: Arc::new(RwLock::new(limit())),
            mutex: Arc::new(Mutex::new(limit())),
            tokio_rwlock: Arc::new(tokio::sync::RwLock::new(limit())),
            tokio_mutex: Arc::new(tokio::sync::Mutex::new(limit())),
            parking_rwlock: Arc::new(parking_lot::RwLock::new(limit())),
            parking_mutex: Arc::new(parking_lot::Mutex::new(limit())),
            swap: Arc::new(ArcSwap::from_pointee(limit())),
            watched,
            live: Live::new(limit()),
        };
        let agent = Agent::builder("handles")
            .state_mut("rwlock", states.rwlock.clone())
            .state_mut("mutex", states.mutex.clone())
            .state_mut("tokio_rwlock", states.tokio_rwlock.clone())
            .state_mut("tokio_mutex", states.tokio_mutex.clone())
            .state_mut("parking_rwlock", states.parking_rwlock.clone())
            .state_mut("parking_mutex", states.parking_mutex.clone())
            .state_mut("swap", states.swap.clone())
            .state_mut("watched", watch)
            .state_mut("live", states.live.clone())
            .state_mut("atomic", &ATOMIC)
            .field("limits.mail.burst", || BURST.load(Ordering::SeqCst), set_burst)
            .field("unspeakable", || 1_u32, |_: u32| Err(Unspeakable))
            .gauge("mood", mood)
            .field("limits.mail.rate", || FIELD.load(Ordering::SeqCst), set_field)
            .validate("rwlock", |limit: &Limit| match limit.most {
                0 => Err("nothing at all is too little"),
                _ => Ok(()),
            })
            .start_from_env();
        (states, agent)
    }

    fn show(&self) -> String {
        let limits = [
            ("rwlock", self.rwlock.read().unwrap().most),
            ("mutex", self.mutex.try_lock().map_or(0, |limit| limit.most)),
            ("tokio_rwlock", block_on(self.tokio_rwlock.read()).most),
            ("tokio_mutex", block_on(self.tokio_mutex.lock()).most),
            ("parking_rwlock", self.parking_rwlock.read().most),
            ("parking_mutex", self.parking_mutex.lock().most),
            ("swap", self.swap.load().most),
            ("watched", self.watched.borrow().most),
            ("live", self.live.load().most),
            ("atomic", ATOMIC.load(Ordering::SeqCst)),
            ("field", FIELD.load(Ordering::SeqCst)),
        ];
        limits.map(|(name, most)| format!("{name}={most};")).concat()
    }
}

/// Holds the lock until the returned sender is dropped.
fn hold(lock: Arc<Mutex<Limit>>) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel::<()>();
    let (told, held) = mpsc::channel();
    thread::spawn(move || {
        let guard = lock.lock().unwrap();
        told.send(()).unwrap();
        // Returns once the other end is dropped.
        let _ = released.recv();
        drop(guard);
    });
    held.recv().unwrap();
    release
}

/// What a child process sees that was forked while changes are in force, and that it may drop its agent.
fn forked(states: &States, agent: &Mutex<Option<Agent>>) -> io::Result<String> {
    let (mut report, mut child) = io::pipe()?;
    match fork::fork()? {
        fork::Fork::Child => {
            let status = agent
                .lock()
                .unwrap()
                .as_ref()
                .map(|agent| agent.status().to_string());
            drop(agent.lock().unwrap().take());
            let seen = format!(
                "doubled={} live={} then {status:?}",
                doubled(4),
                states.live.load().most
            );
            let told = child.write_all(seen.as_bytes());
            std::process::exit(i32::from(told.is_err()));
        }
        fork::Fork::Parent(id) => {
            drop(child);
            let mut seen = String::new();
            report.read_to_string(&mut seen)?;
            let status = fork::waitpid(id)?;
            Ok(format!("{seen}, exit {status:?}"))
        }
    }
}

fn main() -> io::Result<()> {
    let (states, agent) = States::new();
    let log = tracing_subscriber::fmt::layer().with_ansi(false);
    tracing_subscriber::registry()
        .with(log)
        .with(Moody)
        .with(agent.tracing_layer())
        .init();
    let (holding, agent) = (Mutex::new(None), Mutex::new(Some(agent)));
    let set = |how, word: &str| {
        SETTING.change(how);
        word.to_owned()
    };
    serve(move |path| match path {
        "/answer" => answer().to_string(),
        "/moody" | "/calm" => {
            MOODY.store(path == "/moody", Ordering::SeqCst);
            path.to_owned()
        }
        "/refuse" => set(Set::Refuses, "refuses"),
        "/panic" => set(Set::Panics, "panics"),
        "/ignore" => set(Set::Ignores, "ignores"),
        "/hang" => set(Set::Hangs, "hangs"),
        "/heal" => set(Set::Stores, "stores"),
        "/hold" => {
            *holding.lock().unwrap() = Some(hold(states.mutex.clone()));
            "held".to_owned()
        }
        "/release" => {
            drop(holding.lock().unwrap().take());
            "released".to_owned()
        }
        "/doubled" => doubled(4).to_string(),
        "/stop" => {
            let stopping = agent.lock().unwrap().take();
            let left = stopping.map(Agent::shutdown).unwrap_or_default();
            let left = left
                .iter()
                .map(|left| format!("; lease {} stays at {}", left.lease, left.target));
            left.fold("stopped".to_owned(), |text, left| text + &*left)
        }
        "/status" => agent.lock().unwrap().as_ref().unwrap().status().to_string(),
        "/fork" => forked(&states, &agent).unwrap(),
        _ => states.show(),
    })
}
