//! The configuration, read once from environment variables.
//!
//! | variable | default | path |
//! | --- | --- | --- |
//! | `APP__DEBUG` | `false` | `application.debug` |
//! | `SLACK__TOKEN`, `SLACK__SIGN` | empty | `slack.token`, `slack.sign` |
//! | `ALERTS__SENTRY_DSN` | empty | `alerts.sentry` |
//! | `SERVER__PORT`, `SERVER__LOGLEVEL` | `8080`, `INFO` | `server.port`, `server.loglevel` |
//! | `DB__SERVER_NAME`, `DB__PORT_NUMBER` | `localhost`, `5432` | `db.host`, `db.port` |
//! | `DB__DATABASE_NAME` or `DB__DATABASE` | `dienstplan` | `db.dbname` |
//! | `DB__USERNAME`, `DB__PASSWORD` | `dienstplan`, empty | `db.username`, `db.password` |
//!
//! A variable that is empty counts as unset. `RUST_LOG`, if set, overrides the level of single targets, in the syntax of
//! `tracing_subscriber::EnvFilter`; `SERVER__LOGLEVEL` applies to the others.

use std::env;
use std::ffi::OsString;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::LevelFilter;

/// A text that must not be read by accident: it serializes and prints as a placeholder.
pub type SecretText = debug_agent::Secret<String>;

/// Makes a secret of a text.
fn secret(text: String) -> SecretText {
    SecretText::new(text)
}

/// The secret in the clear, for code that needs it.
#[must_use]
pub fn expose(secret: &SecretText) -> &str {
    secret.expose()
}

/// The configuration.
#[derive(Clone, Deserialize, PartialEq, Serialize)]
pub struct Config {
    /// The application itself.
    pub application: Application,
    /// Our side of the Slack app.
    pub slack: Slack,
    /// Where alerts go.
    pub alerts: Alerts,
    /// The HTTP server.
    pub server: Server,
    /// The database.
    pub db: Db,
}

/// The application itself.
#[derive(Clone, Deserialize, PartialEq, Serialize)]
pub struct Application {
    /// Always `dienstplan`.
    pub name: String,
    /// The version, such as `0.1.0`.
    pub version: String,
    /// Whether the log also holds the text of each mention.
    pub debug: bool,
}

/// Our side of the Slack app.
#[derive(Clone, Deserialize, PartialEq, Serialize)]
pub struct Slack {
    /// The bot's token; unused, as the demo never calls Slack.
    pub token: SecretText,
    /// The signing secret. While it is empty every event is refused.
    pub sign: SecretText,
}

/// Where alerts go.
#[derive(Clone, Deserialize, PartialEq, Serialize)]
pub struct Alerts {
    /// Sentry's address, which holds a key; unused in the demo.
    pub sentry: SecretText,
}

/// The HTTP server.
#[derive(Clone, Deserialize, PartialEq, Serialize)]
pub struct Server {
    /// The TCP port on the loopback interface; 0 lets the system choose. Read at start only.
    pub port: u16,
    /// The log level. Read at start only.
    pub loglevel: LogLevel,
    /// Whether each request is logged; read at each request.
    pub access_log: bool,
}

/// The database, which the demo does not have. Times are in milliseconds.
#[derive(Clone, Deserialize, PartialEq, Serialize)]
pub struct Db {
    /// Always `postgres`.
    pub dbtype: String,
    /// The server's name.
    pub host: String,
    /// The server's port.
    pub port: u16,
    /// The database's name.
    pub dbname: String,
    /// The database user.
    pub username: String,
    /// The user's password.
    pub password: SecretText,
    /// The limit on connections in the pool.
    pub maximum_pool_size: u32,
    /// The minimum of idle connections in the pool.
    pub minimum_idle: u32,
    /// The timeout for a connection from the pool.
    pub connection_timeout: u64,
    /// The maximum lifetime of a connection.
    pub max_lifetime: u64,
}

/// The least severe level that is logged.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// Warnings as well.
    Warn,
    /// Ordinary operation as well.
    Info,
    /// Development details as well.
    Debug,
    /// Everything else as well.
    Trace,
}

impl FromStr for LogLevel {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let all = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];
        let named = |level: &Self| text.eq_ignore_ascii_case(LevelFilter::from(*level).to_string().as_str());
        all.into_iter().find(named).ok_or(())
    }
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// All mistakes in the environment, one a line.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Mistakes(Vec<String>);

impl Config {
    /// Reads the process's environment.
    ///
    /// # Errors
    /// All mistakes at once, each with the variable, its value and what was expected.
    pub fn from_env() -> Result<Self, Mistakes> {
        Self::from_lookup(|name| env::var_os(name))
    }

    /// Reads the variables through `lookup`.
    ///
    /// # Errors
    /// As [`Config::from_env`].
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, Mistakes> {
        let mut vars = Variables {
            lookup,
            mistakes: Vec::new(),
        };
        let config = Self {
            application: Application {
                name: env!("CARGO_PKG_NAME").into(),
                version: env!("CARGO_PKG_VERSION").into(),
                debug: vars.parsed("APP__DEBUG", "`true` or `false`", false),
            },
            slack: Slack {
                token: secret(vars.text("SLACK__TOKEN", "")),
                sign: secret(vars.text("SLACK__SIGN", "")),
            },
            alerts: Alerts {
                sentry: secret(vars.text("ALERTS__SENTRY_DSN", "")),
            },
            server: Server {
                port: vars.parsed("SERVER__PORT", A_PORT, 8080),
                loglevel: vars.parsed(
                    "SERVER__LOGLEVEL",
                    "`ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`",
                    LogLevel::Info,
                ),
                access_log: true,
            },
            db: Db {
                dbtype: "postgres".into(),
                host: vars.text("DB__SERVER_NAME", "localhost"),
                port: vars.parsed("DB__PORT_NUMBER", A_PORT, 5432),
                dbname: vars.either("DB__DATABASE_NAME", "DB__DATABASE", "dienstplan"),
                username: vars.text("DB__USERNAME", "dienstplan"),
                password: secret(vars.text("DB__PASSWORD", "")),
                maximum_pool_size: 20,
                minimum_idle: 20,
                connection_timeout: 10_000,
                max_lifetime: 1_800_000,
            },
        };
        if vars.mistakes.is_empty() {
            Ok(config)
        } else {
            Err(Mistakes(vars.mistakes))
        }
    }
}

/// The expected form of a port.
const A_PORT: &str = "a port from 0 to 65535";

/// The environment, and its mistakes so far.
struct Variables<F> {
    lookup: F,
    mistakes: Vec<String>,
}

impl<F: Fn(&str) -> Option<OsString>> Variables<F> {
    fn optional(&mut self, name: &str) -> Option<String> {
        let value = (self.lookup)(name)?;
        match value.into_string() {
            Ok(text) => Some(text).filter(|t| !t.is_empty()),
            // The value is not shown: it may be a secret.
            Err(_) => {
                self.mistakes.push(format!("{name} is not UTF-8; expected text"));
                None
            }
        }
    }

    fn text(&mut self, name: &str, default: &str) -> String {
        self.optional(name).unwrap_or_else(|| default.into())
    }

    fn parsed<T: FromStr>(&mut self, name: &str, expected: &str, default: T) -> T {
        let Some(text) = self.optional(name) else {
            return default;
        };
        text.parse().unwrap_or_else(|_| {
            self.mistakes.push(format!(
                "{name} is `{}`; expected {expected}",
                text.escape_debug()
            ));
            default
        })
    }

    /// One setting with two names: both may be set if they agree.
    fn either(&mut self, name: &str, other: &str, default: &str) -> String {
        match (self.optional(name), self.optional(other)) {
            (Some(a), Some(b)) if a != b => {
                self.mistakes.push(format!(
                    "{name} and {other} differ; expected one of them, or equal values"
                ));
                a
            }
            (Some(text), _) | (None, Some(text)) => text,
            (None, None) => default.into(),
        }
    }
}

#[cfg(test)]
mod tests;
