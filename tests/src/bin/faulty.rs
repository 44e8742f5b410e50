//! A service with faulty states and names; a fault must affect only itself. Tests start it as a program.
//!
//! HTTP on a port that the system chooses: `GET /states` shows the writable states as the service itself sees them, and `GET
//! /bring` gives `opt` the name that `brought` makes of the password, as a client or a patch could guess it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a program for tests: what fails here fails the test"
)]

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use debug_agent::Agent;
use debug_tests::serve::serve;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use tracing_subscriber::prelude::*;

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Backend {
    name: String,
    weight: u32,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Wide {
    limit: u32,
    id: u128,
}

/// Values that cannot be shown for other reasons, beside one that can.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Broken {
    limit: u32,
    refuses: Refuses,
    panics: Panics,
    by_pair: BTreeMap<(u8, u8), u8>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Refuses;

impl Serialize for Refuses {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom("not today"))
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Panics;

impl Serialize for Panics {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("a type that panics where it is written out")
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Opt {
    rate: u32,
    name: String,
    span: Span,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proxy: Option<String>,
    on: BTreeMap<String, bool>,
}

/// A time that serializes as seconds below a minute and as minutes and seconds above, and deserializes from either.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span(u64);

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.0 / 60, self.0 % 60) {
            (0, seconds) => serializer.collect_str(&format_args!("PT{seconds}S")),
            (minutes, seconds) => serializer.collect_str(&format_args!("PT{minutes}M{seconds}S")),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || de::Error::custom("no span such as PT1M30S");
        let rest = text
            .strip_prefix("PT")
            .and_then(|rest| rest.strip_suffix('S'))
            .ok_or_else(wrong)?;
        let (minutes, seconds) = rest.split_once('M').unwrap_or(("0", rest));
        let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        Ok(Self(number(minutes)? * 60 + number(seconds)?))
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Flat {
    limit: u32,
    #[serde(flatten)]
    inner: Inner,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Inner {
    by_id: BTreeMap<u32, String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Nested {
    limit: u32,
    dd: Option<Option<u32>>,
}

/// Serialization leaves `hits` out, and deserialization requires it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Wants {
    limit: u32,
    #[serde(skip_serializing)]
    hits: u64,
}

/// Like [`Wants`], with a default that differs from the value.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Defaults {
    limit: u32,
    #[serde(default, skip_serializing)]
    hits: u64,
}

/// Deserializes as its first variant, independent of the value.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Guesses {
    limit: u32,
    one: Guess,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
enum Guess {
    Float(f64),
    Integer(u32),
}

/// Serializes under another name than it deserializes.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Renamed {
    limit: u32,
    #[serde(rename(serialize = "written", deserialize = "read"))]
    field: u32,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Login {
    host: String,
    password: String,
}

struct States {
    wide: Arc<RwLock<Wide>>,
    broken: Arc<RwLock<Broken>>,
    jobs: Arc<RwLock<HashMap<u64, Backend>>>,
    opt: Arc<RwLock<Opt>>,
    flat: Arc<RwLock<Flat>>,
    dd: Arc<RwLock<Nested>>,
    wants: Arc<RwLock<Wants>>,
    defaults: Arc<RwLock<Defaults>>,
    guesses: Arc<RwLock<Guesses>>,
    renamed: Arc<RwLock<Renamed>>,
    login: Arc<RwLock<Login>>,
}

static SENT: AtomicU64 = AtomicU64::new(7);

fn shared<T>(value: T) -> Arc<RwLock<T>> {
    Arc::new(RwLock::new(value))
}

impl States {
    fn new() -> Self {
        let job = |id: u64| {
            (
                id,
                Backend {
                    name: format!("job {id}"),
                    weight: 1,
                },
            )
        };
        Self {
            wide: shared(Wide {
                limit: 1,
                id: u128::MAX,
            }),
            broken: shared(Broken {
                limit: 1,
                refuses: Refuses,
                panics: Panics,
                by_pair: [((1, 2), 3)].into(),
            }),
            jobs: shared((0..20_000).map(job).collect()),
            opt: shared(Opt {
                rate: 1,
                name: "x".to_owned(),
                span: Span(30),
                proxy: None,
                on: BTreeMap::new(),
            }),
            flat: shared(Flat {
                limit: 1,
                inner: Inner {
                    by_id: [(7, "seven".to_owned())].into(),
                },
            }),
            dd: shared(Nested {
                limit: 1,
                dd: Some(None),
            }),
            wants: shared(Wants { limit: 1, hits: 7 }),
            defaults: shared(Defaults { limit: 1, hits: 7 }),
            guesses: shared(Guesses {
                limit: 1,
                one: Guess::Integer(3),
            }),
            renamed: shared(Renamed { limit: 1, field: 7 }),
            login: shared(Login {
                host: "not-a-real-host".to_owned(),
                password: "not-a-real-host".to_owned(),
            }),
        }
    }

    fn agent(&self) -> Agent {
        Agent::builder("faulty")
            .state_mut("wide", self.wide.clone())
            .state_mut("broken", self.broken.clone())
            .state_mut("jobs", self.jobs.clone())
            .state_mut("opt", self.opt.clone())
            .state_mut("flat", self.flat.clone())
            .state_mut("dd", self.dd.clone())
            .state_mut("wants", self.wants.clone())
            .state_mut("defaults", self.defaults.clone())
            .state_mut("guesses", self.guesses.clone())
            .state_mut("renamed", self.renamed.clone())
            .state("login", self.login.clone())
            // One name for two states.
            .state_mut("double", shared(1_u32))
            .state("double", shared(2_u32))
            .field("limits.rate", || 1_u32, |_| Err("never"))
            .field("limits.rate.burst", || 1_u32, |_| Err("never"))
            .field("limits..mail", || 1_u32, |_| Err("never"))
            .read("mail.sent", || SENT.load(Ordering::Relaxed))
            .read("mail.broken", || -> u64 { panic!("a getter that panics") })
            .validate("opt2", |_: &Opt| Ok::<_, String>(()))
            .state_mut("checked", shared(1_u32))
            .validate("checked", |_: &Opt| Ok::<_, String>(()))
            .never_write("opt.naem")
            .never_write("opt.proxy")
            .never_write("nosuch.path")
            .never_write("login..id")
            .never_patch(["faulty::nosuch", "POST /api/login"])
            .gauge("queue", || 1.0)
            .gauge("queue", || 2.0)
            .routes(["GET /api/healthcheck", "healthcheck"])
            .start_from_env()
    }

    /// The states as the service sees them.
    fn show(&self) -> String {
        format!(
            "{:?}\n{:?}\n{:?}\n",
            self.wide.read().unwrap(),
            self.opt.read().unwrap(),
            self.flat.read().unwrap().limit
        )
    }
}

#[debug_agent::patchable]
fn brought(name: String) -> String {
    name
}

fn main() -> io::Result<()> {
    let states = States::new();
    let agent = states.agent();
    let log = tracing_subscriber::fmt::layer().with_ansi(false);
    tracing_subscriber::registry()
        .with(log)
        .with(agent.tracing_layer())
        .init();
    serve(move |path| {
        if path == "/bring" {
            let name = brought(states.login.read().unwrap().password.clone());
            states.opt.write().unwrap().name = name;
        }
        states.show()
    })
}
