//! How a command ends when it does not end well: message, advice, exit code.

use std::process::ExitCode;

use debug_wire::messages::{self, Code, Ends};
use serde::Serialize;

use crate::term;

/// The exit codes, a promise to scripts: each means one thing, and what failed decides which. 0 is success.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    /// The agent ran the eval, and it failed there: code, limits, a state that is not as it must be.
    Evaluation = 1,
    /// Nothing was asked of an agent, or its answer could not be written down: the command line, a file that it names, or
    /// what this machine gives (stdout, a terminal) is not as it must be.
    Usage = 2,
    /// Policy refuses.
    Denied = 3,
    /// Policy would allow it with approvals.
    NeedsApproval = 4,
    /// No connection, or one side does not trust the other.
    Trust = 5,
    /// A log does not verify, is not proven to hold what was sent, could not be remembered, or cannot be written.
    Audit = 6,
    /// Who read stdout has had enough. It is what a shell shows of a program that `SIGPIPE` ended, and as quiet.
    Pipe = 141,
}

/// The exit codes as help and README tell them.
pub(crate) const EXITS: &[(u8, &str)] = &[
    (0, "it is done; for `audit`, the log is verified"),
    (Exit::Evaluation as u8, "the eval failed in the agent; its changes are undone"),
    (Exit::Usage as u8, "usage: the command line, a file that it names, stdout or the terminal"),
    (Exit::Denied as u8, "denied by policy"),
    (Exit::NeedsApproval as u8, "needs approval"),
    (Exit::Trust as u8, "cannot connect, or one side does not trust the other"),
    (Exit::Audit as u8, "the audit log does not verify, or what was done is not proven or not remembered"),
    (Exit::Pipe as u8, "who read stdout stopped reading, as in `| head -1`"),
];

/// [`EXITS`], a line for each.
pub(crate) fn exits() -> String {
    EXITS.iter().map(|(code, about)| format!("  {code:>3}  {about}\n")).collect()
}

/// The code of what does not verify.
const VERIFICATION: &str = "verification";

/// Why a command failed. Text of an agent may be in it: it is escaped where it is shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// The stable code: a failure code of the wire, or `usage`, `local`, `connection`, `trust`, `verification`, `memory`.
    pub(crate) code: String,
    /// What was seen and what was expected.
    pub(crate) message: String,
    /// What to do next; empty if nothing is known to help.
    pub(crate) help: String,
    /// What became of the leases that a failed eval was to end.
    pub(crate) leases: Option<Box<Ends>>,
    /// Whether the result that was asked for is on stdout already, so that `--json` prints no second object there.
    pub(crate) answered: bool,
    /// Whether it was told already, or is not to be told at all: then it is an exit code and no more.
    pub(crate) told: bool,
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
        let (message, help) = (message.into(), String::new());
        let (leases, answered, told) = (None, false, false);
        Self { exit, code: code.to_owned(), message, help, leases, answered, told }
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

    /// What the agent said cannot be remembered, so that a log that is rewritten afterwards could not be told.
    pub(crate) fn memory(message: impl Into<String>) -> Self {
        Self::new(Exit::Audit, "memory", message)
    }

    /// This machine does not give what is needed.
    pub(crate) fn local(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "local", message)
    }

    /// The agent could not do what was asked for, though nothing is wrong with how it was asked.
    pub(crate) fn not_done(message: impl Into<String>) -> Self {
        Self::new(Exit::Evaluation, "state", message)
    }

    /// Who read stdout has stopped: nobody is to be told.
    pub(crate) fn pipe() -> Self {
        let failure = Self::new(Exit::Pipe, "pipe", "who read stdout has stopped reading");
        Self { answered: true, told: true, ..failure }
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

    /// The same once it was told: what is left of it is the exit code.
    pub(crate) fn told(self) -> Self {
        Self { told: true, ..self }
    }

    /// Prints it to stderr, unless it was told.
    pub(crate) fn print(&self) {
        if self.told {
            return;
        }
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
/// nothing that the agent said can be relied on then; the rest is told first. What was known and told before the session did
/// anything does not: then it is the rest that is news.
///
/// # Errors
/// One of the two did not end well.
pub(crate) fn ended(done: Result<(), Failure>, closed: Result<(), Failure>) -> Result<(), Failure> {
    match (done, closed) {
        (Err(failure), Err(known)) if known.told && failure.exit != Exit::Pipe => Err(failure),
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
        Self { exit, code, message: failure.message, help, leases, answered: false, told: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use debug_wire::messages::FailureData;

    /// Each variant is listed, each code once, and in the README as in the help.
    #[test]
    fn each_exit_code_is_told_once_and_in_the_readme() {
        let known = [
            Exit::Evaluation,
            Exit::Usage,
            Exit::Denied,
            Exit::NeedsApproval,
            Exit::Trust,
            Exit::Audit,
            Exit::Pipe,
        ];
        let codes: Vec<u8> = EXITS.iter().map(|(code, _)| *code).collect();
        let expected: Vec<u8> = [0].into_iter().chain(known.map(|exit| exit as u8)).collect();
        assert_eq!(codes, expected);
        let readme = include_str!("../../README.md");
        for (code, about) in EXITS {
            let row = format!("| {code} | {about} |");
            assert!(readme.contains(&row), "the README lacks `{row}`");
        }
    }

    #[test]
    fn what_was_told_before_does_not_outweigh_what_is_news() {
        let known = || Err(Failure::memory("full").told());
        let denied = Failure { exit: Exit::Denied, ..Failure::usage("denied") };
        assert_eq!(ended(Err(denied.clone()), known()), Err(denied));
        assert_eq!(ended(Ok(()), known()), known());
        assert_eq!(ended(Err(Failure::pipe()), known()), known());
    }

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
