//! `DEBUG_AGENT`: whether there is an agent at all.

use std::ffi::OsStr;

use super::error::{ConfigError, ConfigPlace, quoted};

/// The environment variable that switches the agent on.
pub const FLAG: &str = "DEBUG_AGENT";

/// What the environment says about the agent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flag {
    /// No thread, no socket, no file.
    Off,
    /// Start.
    On,
}

impl Flag {
    /// Reads the value of [`FLAG`]: unset, empty, `0` and `off` are off, `1` and `on` are on, as written.
    ///
    /// # Errors
    /// Any other value. It does not start the agent (a typing mistake must not open a port), and it is not silently off
    /// either: an operator who meant to switch the agent on learns why nothing listens.
    pub fn from_env(value: Option<&OsStr>) -> Result<Self, ConfigError> {
        let Some(value) = value else { return Ok(Self::Off) };
        match value.to_str() {
            Some("" | "0" | "off") => Ok(Self::Off),
            Some("1" | "on") => Ok(Self::On),
            Some("standby") => Err(refusal("`standby` is not part of this version".to_owned())),
            _ => Err(refusal(format!(
                "{} is neither on nor off",
                quoted(&value.to_string_lossy())
            ))),
        }
    }
}

fn refusal(message: String) -> ConfigError {
    let help = "set it to `1` or `on` (small letters) to start the agent, to `0` or `off` to leave it out";
    ConfigError {
        place: ConfigPlace::Variable(FLAG.to_owned()),
        message,
        help: help.to_owned(),
    }
}
