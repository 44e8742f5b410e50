//! Commands and flags that are planned and not part of this version. Without them, an error that suggests the nearest known name
//! would mislead.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::ui::failure::Failure;

/// Subcommands, each after its parent command.
const COMMANDS: &[&str] = &[
    "tail",
    "watch",
    "profile",
    "pending",
    "approve",
    "deny",
    "run",
    "policy",
    "config",
    "context",
    "doctor",
    "completions",
    "audit tail",
    "audit grep",
    "audit stats",
    "audit prove",
    "audit witness",
    "audit replay",
    "audit report",
    "audit review",
    "audit next",
    "certs request",
    "certs sign",
    "certs renew",
    "certs revoke",
    "certs lock",
    "certs list",
    "certs inspect",
];
/// Flags, each after its command.
const FLAGS: &[&str] = &["eval --request", "eval --break-glass", "attach --wait"];
/// `:` commands of the REPL, named like the subcommands.
const COLONS: &[&str] = &["tail", "watch", "profile", "pending", "approve", "deny", "run"];

/// The failure for a command line that clap refuses, if it asks for something planned. `command` is its first word.
pub(crate) fn of(error: &clap::Error, command: &str) -> Option<Failure> {
    let (kind, known) = match error.kind() {
        ErrorKind::InvalidSubcommand => (ContextKind::InvalidSubcommand, COMMANDS),
        ErrorKind::UnknownArgument => (ContextKind::InvalidArg, FLAGS),
        _ => return None,
    };
    let Some(ContextValue::String(word)) = error.get(kind) else {
        return None;
    };
    let whole = if word == command {
        word.clone()
    } else {
        format!("{command} {word}")
    };
    known
        .contains(&whole.as_str())
        .then(|| not_yet(&format!("debugctl {whole}")))
}

/// The failure for a `:` command, if it is planned.
pub(crate) fn colon(name: &str) -> Option<Failure> {
    COLONS.contains(&name).then(|| not_yet(&format!(":{name}")))
}

fn not_yet(what: &str) -> Failure {
    Failure::usage(format!("`{what}` is not part of this version"))
        .help("`debugctl --help` and, at the prompt, `help()` list what is")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use clap::Parser as _;

    #[track_caller]
    fn refused(line: &str) -> Option<String> {
        let words: Vec<&str> = line.split(' ').collect();
        let error = Cli::try_parse_from(&words).unwrap_err();
        of(&error, words[1]).map(|failure| failure.message)
    }

    #[test]
    fn what_is_planned_is_said_to_be() {
        for command in COMMANDS {
            let told = format!("`debugctl {command}` is not part of this version");
            assert_eq!(refused(&format!("debugctl {command}")), Some(told.clone()));
            assert_eq!(refused(&format!("debugctl {command} t:1 --json 3")), Some(told));
        }
        for flag in FLAGS {
            let (command, flag) = flag.split_once(' ').unwrap();
            let told = format!("`debugctl {command} {flag}` is not part of this version");
            assert_eq!(refused(&format!("debugctl {command} t:1 {flag}")), Some(told));
        }
        for name in COLONS {
            assert_eq!(
                colon(name).unwrap().message,
                format!("`:{name}` is not part of this version")
            );
        }
    }

    #[test]
    fn what_is_misspelt_is_left_to_clap() {
        for line in [
            "debugctl atach t:1",
            "debugctl audit lst d",
            "debugctl eval t:1 1 --jsn",
            "debugctl eval",
        ] {
            assert_eq!(refused(line), None, "{line}");
        }
        assert_eq!(colon("q"), None);
    }
}
