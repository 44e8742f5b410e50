//! A service with states and functions that are hard on a reader. Tests start it as a program.
//!
//! HTTP on a port that the system chooses: `GET /states` shows the states as the service itself sees them, `/doubled/N` and
//! `/greeting/NAME` call a function, and `/deep/KIB` calls `doubled(21)` on a thread of 2 MiB after using up that many KiB of its
//! stack.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a program for tests: what fails here fails the test"
)]

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::io;
use std::sync::{Arc, RwLock};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use debug_agent::Agent;
use debug_tests::serve::{block_on, serve};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tracing_subscriber::prelude::*;

/// Numbers at the limits of JSON and of scripts, beside ordinary ones.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Numbers {
    big: u64,
    small: u32,
    ratio: f32,
    mode: Mode,
    sealed: u32,
    by_id: HashMap<u32, String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
enum Mode {
    Off,
    Level(u8),
    Named { name: String },
}

/// `hits` is never serialized, but matters.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Skips {
    limit: u32,
    #[serde(skip)]
    hits: u64,
}

/// `hits` is serialized, but never deserialized.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Forgets {
    limit: u32,
    #[serde(skip_deserializing)]
    hits: u64,
}

/// A value that is not equal to itself.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Unequal {
    limit: u32,
    ratio: f64,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Fragile {
    level: Level,
}

/// Panics at 13.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Level(u32);

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let level = u32::deserialize(deserializer)?;
        assert_ne!(level, 13, "nobody wants this number");
        Ok(Self(level))
    }
}

/// Serializes slowly.
#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Slow(u32);

impl Serialize for Slow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        thread::sleep(Duration::from_micros(100));
        self.0.serialize(serializer)
    }
}

/// The states of the service.
struct States {
    numbers: Arc<RwLock<Numbers>>,
    skips: Arc<RwLock<Skips>>,
    forgets: Arc<RwLock<Forgets>>,
    unequal: Arc<RwLock<Unequal>>,
    fragile: Arc<RwLock<Fragile>>,
    slow: Arc<RwLock<Vec<Slow>>>,
    huge: Arc<RwLock<String>>,
    fixed: Arc<RwLock<u32>>,
    tenants: Arc<RwLock<Tenants>>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Tenants {
    api_keys: BTreeMap<String, String>,
    by_token: BTreeMap<String, u32>,
    known: debug_agent::Secret<String>,
    users: BTreeMap<String, u32>,
}

fn shared<T>(value: T) -> Arc<RwLock<T>> {
    Arc::new(RwLock::new(value))
}

impl States {
    fn new() -> Self {
        let by_id = [(7, "seven".to_owned()), (8, "eight".to_owned())].into();
        Self {
            numbers: shared(Numbers {
                big: u64::MAX,
                small: 1,
                ratio: 0.1,
                mode: Mode::Off,
                sealed: 1,
                by_id,
            }),
            skips: shared(Skips { limit: 1, hits: 7 }),
            forgets: shared(Forgets { limit: 1, hits: 7 }),
            unequal: shared(Unequal {
                limit: 1,
                ratio: f64::NAN,
            }),
            fragile: shared(Fragile { level: Level(1) }),
            slow: shared(vec![Slow(1); 1_000]),
            huge: shared("x".repeat((1 << 20) + 1)),
            fixed: shared(1),
            tenants: shared(Tenants {
                api_keys: [("sk_live_not_a_real_key".to_owned(), "acme".to_owned())].into(),
                by_token: [("not-a-real-secret-1".to_owned(), 7)].into(),
                known: debug_agent::Secret::new("not-a-real-secret-1".to_owned()),
                users: [
                    ("bob@example.org".to_owned(), 1),
                    ("eve@example.org".to_owned(), 2),
                ]
                .into(),
            }),
        }
    }

    fn agent(&self) -> Agent {
        Agent::builder("oddball")
            .state_mut("numbers", self.numbers.clone())
            .state_mut("skips", self.skips.clone())
            .state_mut("forgets", self.forgets.clone())
            .state_mut("unequal", self.unequal.clone())
            .state_mut("fragile", self.fragile.clone())
            .state_mut("slow", self.slow.clone())
            .state_mut("huge", self.huge.clone())
            .state("fixed", self.fixed.clone())
            .state("tenants", self.tenants.clone())
            .never_write("numbers.sealed")
            .start_from_env()
    }

    /// The states as the service sees them. Every lock is taken, so that a poisoned one is noticed.
    fn show(&self) -> String {
        let Numbers {
            big,
            small,
            ratio,
            mode,
            sealed,
            by_id,
        } = self.numbers.read().unwrap().clone();
        let by_id: BTreeMap<_, _> = by_id.into_iter().collect();
        let slow: Vec<_> = self
            .slow
            .read()
            .unwrap()
            .iter()
            .filter(|one| one.0 != 1)
            .cloned()
            .collect();
        format!(
            "big={big} small={small} ratio={ratio} mode={mode:?} sealed={sealed} by_id={by_id:?}\n{:?}\n{:?}\n{:?}\n{:?}\n\
             slow={slow:?} huge={} fixed={}\n",
            self.skips.read().unwrap(),
            self.forgets.read().unwrap(),
            self.unequal.read().unwrap(),
            self.fragile.read().unwrap(),
            self.huge.read().unwrap().len(),
            self.fixed.read().unwrap(),
        )
    }
}

#[debug_agent::patchable]
fn doubled(number: i64) -> i64 {
    number * 2
}

#[debug_agent::patchable]
async fn greeting(name: String) -> String {
    // Pending at the first poll.
    let mut waited = false;
    std::future::poll_fn(|context| {
        context.waker().wake_by_ref();
        if std::mem::replace(&mut waited, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    format!("hello {name}")
}

/// The stack of the threads of `/deep`, in bytes: Rust's default for a thread.
const STACK: usize = 2 << 20;

/// Calls `doubled(21)` with that many bytes of a small stack used up.
fn deep(bytes: usize) -> i64 {
    let run = move || {
        let top = 0_u8;
        descend((&raw const top).addr(), bytes)
    };
    thread::Builder::new()
        .stack_size(STACK)
        .spawn(run)
        .unwrap()
        .join()
        .unwrap()
}

fn descend(top: usize, bytes: usize) -> i64 {
    let frame = black_box([0_u8; 512]);
    if bytes <= top.saturating_sub((&raw const frame).addr()) {
        return doubled(21);
    }
    let answer = descend(top, bytes);
    // Used afterwards, so that no frame is optimized away.
    black_box(&frame);
    answer
}

fn answer(states: &States, path: &str) -> String {
    match path.trim_start_matches('/').split_once('/') {
        Some(("doubled", number)) => doubled(number.parse().unwrap()).to_string(),
        Some(("greeting", name)) => block_on(greeting(name.to_owned())),
        Some(("deep", kib)) => deep(kib.parse::<usize>().unwrap() << 10).to_string(),
        _ => states.show(),
    }
}

fn main() -> io::Result<()> {
    let states = States::new();
    let agent = states.agent();
    let log = tracing_subscriber::fmt::layer().with_ansi(false);
    tracing_subscriber::registry()
        .with(log)
        .with(agent.tracing_layer())
        .init();
    serve(move |path| answer(&states, path))
}
