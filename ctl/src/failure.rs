//! How a command ends when it does not end well: message, advice, exit code.

use std::process::ExitCode;

use debug_wire::messages::{self, Code, Ends};
use serde::Serialize;

use crate::term;

/// The exit codes, a promise to scripts. 0 is success; 2 is also what wrong arguments give.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    /// The eval failed.
    Evaluation = 1,
    /// The command line or a file that it names is wrong.
    Usage = 2,
    /// Policy refuses.
    Denied = 3,
    /// Policy would allow it with approvals.
    NeedsApproval = 4,
    /// No connection, or one side does not trust the other.
    Trust = 5,
    /// A log does not verify or is not proven to hold what was sent, or nothing can be written into it.
    Audit = 6,
}

/// The code of what does not verify.
const VERIFICATION: &str = "verification";

/// Why a command failed. Text of an agent may be in it: it is escaped where it is shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// The stable code: a failure code of the wire, or `usage`, `connection`, `trust`, `verification`.
    pub(crate) code: String,
    /// What was seen and what was expected.
    pub(crate) message: String,
    /// What to do next; empty if nothing is known to help.
    pub(crate) help: String,
    /// What became of the leases that a failed eval was to end.
    pub(crate) leases: Option<Box<Ends>>,
    /// Whether the result that was asked for is on stdout already, so that `--json` prints no second object there.
    pub(crate) answered: bool,
}

/// The object that `--json` prints for a failure.
#[derive(Serialize)]
struct Report<'a> {
    error: Members<'a>,
}

#[derive(Serialize)]
struct Members<'a> {
    code: &'a str,
    message: &'a str,
    help: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    leases: Option<&'a Ends>,
}

impl Failure {
    fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self {
            exit,
            code: code.to_owned(),
            message: message.into(),
            help: String::new(),
            leases: None,
            answered: false,
        }
    }

    /// The command line or a file that it names is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// There is no connection, or it was lost.
    pub(crate) fn connection(message: impl Into<String>) -> Self {
        Self::new(Exit::Trust, "connection", message)
    }

    /// Whether it is that nobody is there, which may pass by waiting.
    pub(crate) fn is_no_connection(&self) -> bool {
        self.exit == Exit::Trust && self.code == "connection"
    }

    /// The agent is not the pinned one, or it refuses the operator's certificate.
    pub(crate) fn trust(message: impl Into<String>) -> Self {
        Self::new(Exit::Trust, "trust", message)
    }

    /// A log or a proof does not hold, or is not there.
    pub(crate) fn verification(message: impl Into<String>) -> Self {
        Self::new(Exit::Audit, VERIFICATION, message)
    }

    /// Something else went wrong on this side.
    pub(crate) fn evaluation(message: impl Into<String>) -> Self {
        Self::new(Exit::Evaluation, "eval", message)
    }

    /// Adds what to do next.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// Says whether the result is on stdout already.
    pub(crate) fn answered(self, answered: bool) -> Self {
        Self { answered, ..self }
    }

    /// Prints it to stderr.
    pub(crate) fn print(&self) {
        term::note(&format!("error: {}", self.message));
        if !self.help.is_empty() {
            term::note(&format!("help: {}", self.help));
        }
    }

    /// Prints it to stdout as one object.
    pub(crate) fn print_json(&self) {
        let Self { code, message, help, leases, .. } = self;
        // Where stdout is gone the exit code still tells.
        let _ = term::json(&Report { error: Members { code, message, help, leases: leases.as_deref() } });
    }

    /// For the end of `main`.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }
}

/// How a command ends that did something and then closed its session. What the log does not hold outweighs the rest, as
/// nothing that the agent said can be relied on then; the rest is told first.
///
/// # Errors
/// One of the two did not end well.
pub(crate) fn ended(done: Result<(), Failure>, closed: Result<(), Failure>) -> Result<(), Failure> {
    match (done, closed) {
        (Err(failure), Err(worse)) if failure.code != VERIFICATION => {
            failure.print();
            Err(worse)
        }
        (done, closed) => done.and(closed),
    }
}

impl From<messages::Failure> for Failure {
    fn from(failure: messages::Failure) -> Self {
        let code = serde_json::to_value(failure.data.code);
        let code = code.ok().and_then(|code| code.as_str().map(str::to_owned)).unwrap_or_default();
        let exit = match failure.data.code {
            Code::Denied => Exit::Denied,
            Code::NeedsApproval => Exit::NeedsApproval,
            Code::Audit => Exit::Audit,
            Code::Signature => Exit::Trust,
            Code::Parse
            | Code::Method
            | Code::Params
            | Code::Order
            | Code::Eval
            | Code::Limit
            | Code::Cancelled
            | Code::State
            | Code::Internal => Exit::Evaluation,
        };
        let messages::FailureData { help, leases, .. } = failure.data;
        Self { exit, code, message: failure.message, help, leases, answered: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use debug_wire::messages::FailureData;

    #[test]
    fn the_agents_codes_give_the_promised_exit_codes() {
        for (code, name, exit) in [
            (Code::Denied, "denied", 3),
            (Code::NeedsApproval, "needs_approval", 4),
            (Code::Eval, "eval", 1),
            (Code::Limit, "limit", 1),
            (Code::Cancelled, "cancelled", 1),
            (Code::Signature, "signature", 5),
            (Code::Audit, "audit", 6),
        ] {
            let data = FailureData { code, help: "h".to_owned(), audit: None, leases: None };
            let failure =
                Failure::from(messages::Failure { code: code.number(), message: "m".to_owned(), data });
            assert_eq!((failure.code.as_str(), failure.exit as u8), (name, exit));
            assert_eq!(failure.exit_code(), ExitCode::from(exit));
        }
    }
}
