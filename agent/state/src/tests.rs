mod along;
mod cells;
mod digests;
mod fields;
mod handles;
mod live;
mod lossy;
mod marks;
mod unreadable;

use std::sync::{Arc, RwLock};

use serde::{Deserialize, Serialize};

use debug_base::{Limits, Orders, PLACEHOLDER, Path, Secret, Tree, Wait, from_tree, to_tree};

use super::*;

/// A typical configuration of a service.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Config {
    pub(super) app: App,
    pub(super) slack: Slack,
    pub(super) db: Db,
    pub(super) server: Server,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct App {
    pub(super) debug: bool,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Slack {
    pub(super) token: Secret<String>,
    pub(super) sign: String,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Db {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) password: String,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Server {
    pub(super) port: u16,
    pub(super) loglevel: String,
}

pub(super) fn config() -> Config {
    Config {
        app: App { debug: false },
        slack: Slack {
            token: Secret::new("CANARY-token".into()),
            sign: "CANARY-sign".into(),
        },
        db: Db {
            host: "localhost".into(),
            port: 5432,
            password: "CANARY-password".into(),
        },
        server: Server {
            port: 8080,
            loglevel: "info".into(),
        },
    }
}

pub(super) fn segments(path: &str) -> Vec<String> {
    if path.is_empty() {
        Vec::new()
    } else {
        path.parse::<Path>().unwrap().0
    }
}

pub(super) fn path(text: &str) -> Path {
    text.parse().unwrap()
}

pub(super) fn text(text: &str) -> Tree {
    Tree::Str(text.to_owned())
}

pub(super) fn shared<T>(value: T) -> Arc<RwLock<T>> {
    Arc::new(RwLock::new(value))
}

pub(super) fn tree<T: Serialize>(value: &T) -> Tree {
    to_tree(value, &Limits::COPY).unwrap()
}

/// A read-only state.
pub(super) fn read_only<H: StateHandle>(name: &str, handle: H) -> Arc<dyn State>
where
    H::Value: Serialize,
{
    crate::read_only(Path(vec![name.to_owned()]), handle.place())
}

/// A writable state.
pub(super) fn writable<H: StateHandle>(name: &str, handle: H) -> Arc<dyn State>
where
    H::Value: Serialize + serde::de::DeserializeOwned + PartialEq,
{
    crate::writable(Path(vec![name.to_owned()]), handle.place())
}

pub(super) trait Set {
    /// Writes without a schedule, for states that are not timed.
    fn set(&self, path: &[String], expect: &Tree, value: &Tree, wait: Wait) -> Result<(), StateError>;
}

impl Set for dyn State {
    fn set(&self, path: &[String], expect: &Tree, value: &Tree, wait: Wait) -> Result<(), StateError> {
        self.compare_and_set(path, expect, value, &|_, _| Vec::new(), wait)
    }
}
