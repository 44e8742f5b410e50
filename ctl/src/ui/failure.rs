//! How a failed command ends: message, advice, exit code.

use std::io;
use std::process::ExitCode;

use debug_wire::messages::{self, Code, Ends};
use serde::Serialize;

use crate::ui::term::{self, Unwritten};

/// The exit codes, a promise to scripts: each has one meaning, decided by what failed. 0 is success.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    /// The agent ran the eval, and it failed there: faulty code, a limit, or a state that does not allow it.
    Evaluation = 1,
    /// Nothing was sent to an agent, or its answer could not be printed: the command line, a file that it names, or a resource of
    /// this machine (stdout, a terminal) is unusable.
    Usage = 2,
    /// Denied by policy.
    Denied = 3,
    /// Allowed by policy only with approvals.
    NeedsApproval = 4,
    /// No connection, or one side does not trust the other.
    Trust = 5,
    /// A log does not verify, is not proven to hold what was sent, could not be remembered, or cannot be written.
    Audit = 6,
    /// The reader of stdout closed it. The code is what a shell reports for a program that `SIGPIPE` ended; nothing is printed.
    Pipe = 141,
}

/// The exit codes as help and README print them.
pub(crate) const EXITS: &[(u8, &str)] = &[
    (0, "it is done; for `audit`, the log is verified"),
    (
        Exit::Evaluation as u8,
        "the eval failed in the agent; its changes are undone",
    ),
    (
        Exit::Usage as u8,
        "usage: the command line, a file that it names, stdout or the terminal",
    ),
    (Exit::Denied as u8, "denied by policy"),
    (Exit::NeedsApproval as u8, "needs approval"),
    (
        Exit::Trust as u8,
        "cannot connect, or one side does not trust the other",
    ),
    (
        Exit::Audit as u8,
        "the audit log does not verify, or what was done is not proven or not remembered",
    ),
    (
        Exit::Pipe as u8,
        "who read stdout stopped reading, as in `| head -1`",
    ),
];

/// [`EXITS`], one a line.
pub(crate) fn exits() -> String {
    EXITS
        .iter()
        .map(|(code, about)| format!("  {code:>3}  {about}\n"))
        .collect()
}

/// The code of a failed verification.
const VERIFICATION: &str = "verification";

/// Why a command failed. It may contain text of an agent, which is escaped when it is printed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct CommandFailure {
    pub(crate) exit: Exit,
    /// The stable code: a failure code of the wire, or `usage`, `local`, `connection`, `trust`, `verification`, `memory`.
    pub(crate) code: String,
    /// What was seen and what was expected.
    pub(crate) message: String,
    /// What to do next; empty if nothing is known to help.
    pub(crate) help: String,
    /// The result of ending a failed eval's leases.
    pub(crate) leases: Option<Box<Ends>>,
    /// Whether the agent has recorded the code that failed. It records none in which it finds a secret.
    pub(crate) recorded: bool,
    /// Whether the result is already on stdout, so that `--json` prints no second object there.
    pub(crate) answered: bool,
    /// Whether it was printed already or must not be printed: then only the exit code is left.
    pub(crate) told: bool,
}

/// The object that `--json` prints for a failure.
#[derive(Serialize)]
struct FailureReport<'a> {
    error: ErrorMembers<'a>,
}

#[derive(Serialize)]
struct ErrorMembers<'a> {
    code: &'a str,
    message: &'a str,
    help: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    leases: Option<&'a Ends>,
}

impl CommandFailure {
    fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        let (message, help) = (message.into(), String::new());
        let (leases, recorded, answered, told) = (None, false, false, false);
        Self {
            exit,
            code: code.to_owned(),
            message,
            help,
            leases,
            recorded,
            answered,
            told,
        }
    }

    /// The failure for a wrong command line, or a wrong file that it names.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// The failure for a connection that cannot be made or was lost.
    pub(crate) fn connection(message: impl Into<String>) -> Self {
        Self::new(Exit::Trust, "connection", message)
    }

    /// Whether there is no connection, which waiting may cure.
    pub(crate) fn is_no_connection(&self) -> bool {
        self.exit == Exit::Trust && self.code == "connection"
    }

    /// The failure for an agent that is not the pinned one, or that refuses the operator's certificate.
    pub(crate) fn trust(message: impl Into<String>) -> Self {
        Self::new(Exit::Trust, "trust", message)
    }

    /// The failure for a log or a proof that does not verify or is missing.
    pub(crate) fn verification(message: impl Into<String>) -> Self {
        Self::new(Exit::Audit, VERIFICATION, message)
    }

    /// The failure for a checkpoint that cannot be remembered, so that a later rewrite of the log could not be detected.
    pub(crate) fn memory(message: impl Into<String>) -> Self {
        Self::new(Exit::Audit, "memory", message)
    }

    /// The failure for a resource that this machine lacks.
    pub(crate) fn local(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "local", message)
    }

    /// The failure for a valid request that the agent could not carry out.
    pub(crate) fn not_done(message: impl Into<String>) -> Self {
        Self::new(Exit::Evaluation, "state", message)
    }

    /// The failure for a closed stdout: it is not printed.
    pub(crate) fn pipe() -> Self {
        let failure = Self::new(Exit::Pipe, "pipe", "who read stdout has stopped reading");
        Self {
            answered: true,
            told: true,
            ..failure
        }
    }

    /// Adds what to do next.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// Sets whether the result is already on stdout.
    pub(crate) fn answered(self, answered: bool) -> Self {
        Self { answered, ..self }
    }

    /// The same failure, marked as printed: only the exit code is left.
    pub(crate) fn told(self) -> Self {
        Self { told: true, ..self }
    }

    /// Prints it to stderr, unless it was printed.
    pub(crate) fn print(&self) {
        if self.told {
            return;
        }
        term::note(&format!("error: {}", self.message));
        if !self.help.is_empty() {
            term::note(&format!("help: {}", self.help));
        }
    }

    /// Prints it to stdout as one JSON object.
    pub(crate) fn print_json(&self) {
        let Self {
            code,
            message,
            help,
            leases,
            ..
        } = self;
        // If stdout is gone, the exit code still tells.
        let _ = term::json(&FailureReport {
            error: ErrorMembers {
                code,
                message,
                help,
                leases: leases.as_deref(),
            },
        });
    }

    /// The exit code, for the end of `main`.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }
}

/// The result of a command that did something and then closed its session. If both failed, the close's failure is returned and
/// the command's is printed first: without its proofs, nothing that the agent said can be relied on. The command's failure is
/// returned if it is itself one of verification, or if the close's was printed before the session did anything.
///
/// # Errors
/// The command or the close failed.
pub(crate) fn ended(
    done: Result<(), CommandFailure>,
    closed: Result<(), CommandFailure>,
) -> Result<(), CommandFailure> {
    match (done, closed) {
        (Err(failure), Err(known)) if known.told && failure.exit != Exit::Pipe => Err(failure),
        (Err(failure), Err(worse)) if failure.code != VERIFICATION => {
            failure.print();
            Err(worse)
        }
        (done, closed) => done.and(closed),
    }
}

impl From<Unwritten> for CommandFailure {
    fn from(unwritten: Unwritten) -> Self {
        match unwritten {
            Unwritten::Json(error) => Self::local(format!("the result cannot be written as JSON: {error}")),
            Unwritten::Stdout(error) if error.kind() == io::ErrorKind::BrokenPipe => Self::pipe(),
            Unwritten::Stdout(error) => Self::local(format!("cannot write to stdout: {error}"))
                .help("what was asked for may have been done all the same: the audit log tells"),
        }
    }
}

impl From<messages::Failure> for CommandFailure {
    fn from(failure: messages::Failure) -> Self {
        let code = serde_json::to_value(failure.data.code);
        let code = code
            .ok()
            .and_then(|code| code.as_str().map(str::to_owned))
            .unwrap_or_default();
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
        let messages::FailureData {
            help, leases, audit, ..
        } = failure.data;
        let recorded = audit.is_some();
        Self {
            exit,
            code,
            message: failure.message,
            help,
            leases,
            recorded,
            answered: false,
            told: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use debug_wire::messages::FailureData;

    /// Each variant is listed, each code once, in the help and in the README.
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
        let readme = include_str!("../../../README.md");
        for (code, about) in EXITS {
            let row = format!("| {code} | {about} |");
            assert!(readme.contains(&row), "the README lacks `{row}`");
        }
    }

    #[test]
    fn what_was_told_before_does_not_outweigh_what_is_news() {
        let known = || Err(CommandFailure::memory("full").told());
        let denied = CommandFailure {
            exit: Exit::Denied,
            ..CommandFailure::usage("denied")
        };
        assert_eq!(ended(Err(denied.clone()), known()), Err(denied));
        assert_eq!(ended(Ok(()), known()), known());
        assert_eq!(ended(Err(CommandFailure::pipe()), known()), known());
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
            let data = FailureData {
                code,
                help: "h".to_owned(),
                audit: None,
                leases: None,
            };
            let failure = CommandFailure::from(messages::Failure {
                code: code.number(),
                message: "m".to_owned(),
                data,
            });
            assert_eq!((failure.code.as_str(), failure.exit as u8), (name, exit));
            assert_eq!(failure.exit_code(), ExitCode::from(exit));
        }
    }
}
