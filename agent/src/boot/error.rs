//! Why the agent does not start.

use std::fmt;

/// Why the agent did not start. The service runs on without it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// `DEBUG_AGENT` is set to a text that means neither on nor off.
    #[error("the debug agent does not start: {0}")]
    Flag(Mistake),
    /// The configuration is missing, cannot be read, or is that of another service.
    #[error("the debug agent does not start: {0}")]
    Config(Mistake),
    /// The policy cannot be read or has a mistake.
    #[error("the debug agent does not start: {0}")]
    Policy(Mistake),
    /// A certificate, an authority or a revocation list cannot be used.
    #[error("the debug agent does not start: {0}")]
    Trust(Mistake),
    /// The key of the audit log cannot be used.
    #[error("the debug agent does not start: {0}")]
    LogKey(Mistake),
    /// A limit on scripts does not hold in this build of the service.
    #[error("the debug agent does not start: {0}")]
    Build(Mistake),
    /// The audit log cannot be opened or written, or goes on from another state of the files than there is.
    #[error("the debug agent does not start: {0}")]
    Log(Mistake),
    /// The address cannot be listened on.
    #[error("the debug agent does not start: {0}")]
    Listen(Mistake),
    /// The system gives no thread or no randomness.
    #[error("the debug agent does not start: {0}")]
    System(Mistake),
    /// The agent panicked while it started; this is a fault of the agent.
    #[error("the debug agent does not start: it panicked while it started")]
    Panicked,
}

impl StartError {
    fn mistake(&self) -> Option<&Mistake> {
        match self {
            Self::Flag(mistake)
            | Self::Config(mistake)
            | Self::Policy(mistake)
            | Self::Trust(mistake)
            | Self::LogKey(mistake)
            | Self::Build(mistake)
            | Self::Log(mistake)
            | Self::Listen(mistake)
            | Self::System(mistake) => Some(mistake),
            Self::Panicked => None,
        }
    }

    /// What to do about it, if there is more to say than the error does.
    pub fn advice(&self) -> Option<&str> {
        self.mistake()
            .map(|mistake| mistake.help.as_str())
            .filter(|help| !help.is_empty())
    }

    /// What is wrong and what to do, for stderr and the service's log.
    pub(crate) fn why(&self) -> String {
        self.mistake().map_or_else(
            || "the agent panicked while it started".to_owned(),
            Mistake::to_string,
        )
    }
}

/// What is wrong, and what to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mistake {
    what: String,
    help: String,
}

impl Mistake {
    pub(crate) fn new(what: impl Into<String>, help: &str) -> Self {
        Self {
            what: what.into(),
            help: help.to_owned(),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.help.is_empty() {
            Ok(())
        } else {
            write!(f, "\nhelp: {}", self.help)
        }
    }
}
