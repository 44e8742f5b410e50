//! Values that the tests of several crates read and change.
#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]

use serde::{Deserialize, Serialize};

use crate::{Limits, Path, Secret, Tree, to_tree};

/// A typical configuration of a service.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Config {
    /// Switches.
    pub app: App,
    /// Secrets.
    pub slack: Slack,
    /// A database.
    pub db: Db,
    /// A server.
    pub server: Server,
}

/// Its switches.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct App {
    /// A flag.
    pub debug: bool,
}

/// Secrets of both kinds: by type and by name.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Slack {
    /// Secret by its type.
    pub token: Secret<String>,
    /// Secret by its name.
    pub sign: String,
}

/// A secret between plain values.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Db {
    /// A host name.
    pub host: String,
    /// A port.
    pub port: u16,
    /// Secret by its name.
    pub password: String,
}

/// Plain values.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Server {
    /// A port.
    pub port: u16,
    /// A level.
    pub loglevel: String,
}

/// A configuration whose secrets begin with `CANARY`.
pub fn config() -> Config {
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

/// The segments of a path; none for an empty text.
///
/// # Panics
/// `path` is none.
pub fn segments(path: &str) -> Vec<String> {
    if path.is_empty() {
        Vec::new()
    } else {
        path.parse::<Path>().unwrap().0
    }
}

/// A text.
pub fn text(text: &str) -> Tree {
    Tree::Str(text.to_owned())
}

/// A value as a tree.
///
/// # Panics
/// The value cannot be serialized.
pub fn tree<T: Serialize>(value: &T) -> Tree {
    to_tree(value, &Limits::COPY).unwrap()
}

/// A type with errors that contain everything it reads.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Telltale(pub String);

impl TryFrom<String> for Telltale {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with("bad") {
            Err(format!("`{text}` is bad"))
        } else {
            Ok(Self(text))
        }
    }
}

impl From<Telltale> for String {
    fn from(value: Telltale) -> Self {
        value.0
    }
}
