mod paths;
mod trees;

use serde::{Deserialize, Serialize};

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

pub(super) fn text(text: &str) -> Tree {
    Tree::Str(text.to_owned())
}

pub(super) fn tree<T: Serialize>(value: &T) -> Tree {
    to_tree(value, &Limits::COPY).unwrap()
}
