//! Why an effect does not happen.

use debug_audit::AppendError;
use debug_policy::Denial;

/// Why the gate refused.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    /// Policy denies it.
    Denied(Box<Denial>),
    /// The log cannot be written.
    Log(AppendError),
    /// The target does not exist or is in another state.
    State {
        /// What the agent found.
        message: String,
        /// What to do.
        help: String,
    },
}

impl Refusal {
    /// A refusal because of the state of the target.
    pub(crate) fn state(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::State {
            message: message.into(),
            help: help.into(),
        }
    }

    /// The reason in one line.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Denied(denial) => format!("denied: {} {}", denial.action, denial.resource),
            Self::Log(error) => error.to_string(),
            Self::State { message, .. } => message.clone(),
        }
    }
}
