//! A service that counts how often reading its state runs its own code. Tests start it as a program.
//!
//! HTTP on a port that the system chooses: `GET /count` returns the number of calls of `Serialize`, `Deserialize`, `PartialEq`,
//! `Clone` and of the check of a state so far; `GET /healthcheck` is answered by a function that can be patched.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a program for tests: what fails here fails the test"
)]

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use debug_agent::Agent;
use debug_tests::serve::serve;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tracing_subscriber::prelude::*;

static CALLS: AtomicU64 = AtomicU64::new(0);

fn count() {
    CALLS.fetch_add(1, Ordering::SeqCst);
}

/// A value that counts its uses.
#[derive(Debug)]
struct Counted<T>(T);

impl<T: Clone> Clone for Counted<T> {
    fn clone(&self) -> Self {
        count();
        Self(self.0.clone())
    }
}

impl<T: PartialEq> PartialEq for Counted<T> {
    fn eq(&self, other: &Self) -> bool {
        count();
        self.0 == other.0
    }
}

impl<T: Serialize> Serialize for Counted<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        count();
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Counted<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        count();
        T::deserialize(deserializer).map(Self)
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Config {
    db: Counted<Db>,
    server: Counted<Server>,
    slack: Counted<Slack>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Db {
    host: String,
    port: u16,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Server {
    port: u16,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Slack {
    token: String,
}

#[debug_agent::patchable]
fn healthcheck() -> u32 {
    200
}

fn main() -> io::Result<()> {
    let config = Config {
        db: Counted(Db {
            host: "localhost".to_owned(),
            port: 1,
        }),
        server: Counted(Server { port: 2 }),
        slack: Counted(Slack {
            token: "nothing secret here".to_owned(),
        }),
    };
    let agent = Agent::builder("dienstplan")
        .state_mut("config", Arc::new(RwLock::new(config.clone())))
        .state_mut("held", Arc::new(Mutex::new(config)))
        .validate("config", |_: &Config| {
            count();
            Ok::<(), String>(())
        })
        .field(
            "fields.rate",
            || {
                count();
                1_u32
            },
            |_: u32| {
                count();
                Ok::<(), String>(())
            },
        )
        .start_from_env();
    let log = tracing_subscriber::fmt::layer().with_ansi(false);
    tracing_subscriber::registry()
        .with(log)
        .with(agent.tracing_layer())
        .init();
    serve(|path| match path {
        "/healthcheck" => healthcheck().to_string(),
        _ => CALLS.load(Ordering::SeqCst).to_string(),
    })
}
