//! The `:` commands. Each is an eval of a host function with bound arguments; arguments are never pasted into code.

use debug_wire::table;

use crate::session::EvalRequest;
use crate::ui::failure::CommandFailure;

/// A `:` command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Colon {
    pub(super) name: &'static str,
    pub(super) usage: &'static str,
    pub(super) about: &'static str,
}

/// All `:` commands, in the order of the help.
pub(super) const COLONS: &[Colon] = &[
    Colon {
        name: "change",
        usage: ":change REASON",
        about: "enter the mode in which changes are possible",
    },
    Colon {
        name: "observe",
        usage: ":observe",
        about: "leave it",
    },
    Colon {
        name: "plan",
        usage: ":plan CODE",
        about: "list what code would do, without doing it",
    },
    Colon {
        name: "leases",
        usage: ":leases",
        about: "the changes in force and when they revert",
    },
    Colon {
        name: "points",
        usage: ":points",
        about: "what can be patched, and what is",
    },
    Colon {
        name: "sessions",
        usage: ":sessions",
        about: "who is attached",
    },
    Colon {
        name: "revert",
        usage: ":revert ID",
        about: "end a change now",
    },
    Colon {
        name: "revert_all",
        usage: ":revert_all",
        about: "end all changes that you may end now",
    },
    Colon {
        name: "confirm",
        usage: ":confirm ID TTL",
        about: "keep a change past its first deadline",
    },
    Colon {
        name: "extend",
        usage: ":extend ID TTL",
        about: "give a change another deadline, from now",
    },
    Colon {
        name: "adopt",
        usage: ":adopt ID",
        about: "make another operator's change your own",
    },
    Colon {
        name: "settle",
        usage: ":settle ID keep|force",
        about: "what becomes of a change that ended as a conflict",
    },
    Colon {
        name: "info",
        usage: ":info",
        about: "the service, the agent and its limits",
    },
    Colon {
        name: "help",
        usage: ":help [NAME]",
        about: "this list, or a function explained",
    },
    Colon {
        name: "quit",
        usage: ":quit",
        about: "leave; also Ctrl-D, `:q`, `exit`, `quit` and `q`",
    },
];

/// Other words that people type to leave.
const GOODBYES: &[&str] = &["exit", "quit", "q"];

/// Whether code is a word with which people leave other programs. It may also be a name in the session or the service.
pub(super) fn is_goodbye(code: &str) -> bool {
    let word = code.trim().trim_end_matches(';').trim_end();
    let word = word.strip_suffix("()").unwrap_or(word);
    GOODBYES.contains(&word)
}

/// What a `:` line requests.
#[derive(Debug)]
pub(super) enum PromptCommand {
    /// Run this and print its display text.
    Run(EvalRequest),
    /// Run this and print the list under that name as a table.
    Table(&'static str),
    /// Print the commands, then the agent's own help.
    Help,
    Quit,
}

/// Parses a line that begins with `:`.
///
/// # Errors
/// There is no such command, or its arguments are wrong.
pub(super) fn parse(line: &str) -> Result<PromptCommand, CommandFailure> {
    let line = line.trim().trim_start_matches(':');
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let plain = name.strip_suffix("()").unwrap_or(name);
    let plain = if GOODBYES.contains(&plain) { "quit" } else { plain };
    let plain = if plain == "revert-all" {
        "revert_all"
    } else {
        plain
    };
    let colon = COLONS
        .iter()
        .find(|colon| colon.name == plain)
        .ok_or_else(|| unknown(name))?;
    let wrong = || wrong_use(colon);
    let without = |command| {
        if rest.is_empty() {
            Ok(command)
        } else {
            Err(wrong())
        }
    };
    let id = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    match colon.name {
        "change" if rest.is_empty() => Err(wrong()),
        "change" => Ok(PromptCommand::Run(
            EvalRequest::code("change(reason)").bind("reason", rest),
        )),
        "observe" => without(PromptCommand::Run(EvalRequest::code("observe()"))),
        "plan" if rest.is_empty() => Err(wrong()),
        "plan" => Ok(PromptCommand::Run(EvalRequest::code(rest).dry(None))),
        "leases" | "points" | "sessions" => without(PromptCommand::Table(colon.name)),
        "revert_all" => without(PromptCommand::Run(EvalRequest::code("revert_all()"))),
        "revert" => Ok(PromptCommand::Run(
            EvalRequest::code("revert(id)").bind("id", id(rest)?),
        )),
        "confirm" | "extend" => {
            let (number, ttl) = rest.split_once(char::is_whitespace).ok_or_else(wrong)?;
            let code = format!("{}(id, ttl)", colon.name);
            Ok(PromptCommand::Run(
                EvalRequest::code(code)
                    .bind("id", id(number)?)
                    .bind("ttl", ttl.trim()),
            ))
        }
        "adopt" => Ok(PromptCommand::Run(
            EvalRequest::code("adopt(id)").bind("id", id(rest)?),
        )),
        "settle" => {
            let (number, how) = rest.split_once(char::is_whitespace).ok_or_else(wrong)?;
            let how = Some(how.trim())
                .filter(|how| matches!(*how, "keep" | "force"))
                .ok_or_else(wrong)?;
            Ok(PromptCommand::Run(
                EvalRequest::code("settle(id, how)")
                    .bind("id", id(number)?)
                    .bind("how", how),
            ))
        }
        "info" => without(PromptCommand::Run(EvalRequest::code("info()"))),
        "help" if rest.is_empty() => Ok(PromptCommand::Help),
        "help" => Ok(PromptCommand::Run(
            EvalRequest::code("help(name)").bind("name", rest),
        )),
        _ => without(PromptCommand::Quit),
    }
}

/// The failure for a command whose arguments are missing or wrong.
fn wrong_use(colon: &Colon) -> CommandFailure {
    let Colon { name, usage, about } = colon;
    let how = match *name {
        "change" => "; REASON says why, for the audit log",
        _ if usage.contains(" ID") => "; `:leases` lists the ids",
        _ => "",
    };
    CommandFailure::usage(format!("expected `{usage}`")).help(format!("usage: `{usage}`: {about}{how}"))
}

fn unknown(name: &str) -> CommandFailure {
    let mut known = COLONS.iter().map(|colon| colon.name);
    let near = known
        .find(|known| is_near(name, known))
        .map(|known| format!("; did you mean `:{known}`?"))
        .unwrap_or_default();
    CommandFailure::usage(format!("there is no command `:{name}`{near}"))
        .help("`:help` lists them; code has no `:` before it; Ctrl-D leaves")
}

/// Whether a word may be a typo of another: one letter added, missing, wrong or swapped for every five.
fn is_near(word: &str, known: &str) -> bool {
    let (word, known): (Vec<char>, Vec<char>) = (word.chars().collect(), known.chars().collect());
    let most = known.len().div_ceil(5);
    if word.len().abs_diff(known.len()) > most {
        return false;
    }
    // The rows of Levenshtein's table, with a swap of neighbours counted as one edit.
    let (mut above, mut row) = (Vec::new(), (0..=known.len()).collect::<Vec<_>>());
    for (i, a) in word.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in known.iter().enumerate() {
            let mut least = (row[j] + usize::from(a != b))
                .min(row[j + 1] + 1)
                .min(next[j] + 1);
            if i > 0 && j > 0 && *a == known[j - 1] && word[i - 1] == *b {
                least = least.min(above_at(&above, j - 1) + 1);
            }
            next.push(least);
        }
        above = std::mem::replace(&mut row, next);
    }
    row.last().is_some_and(|slips| *slips <= most)
}

fn above_at(row: &[usize], at: usize) -> usize {
    row.get(at).copied().unwrap_or(usize::MAX - 1)
}

/// The list of commands, for `:help`.
pub(super) fn help() -> String {
    let lines: Vec<_> = COLONS
        .iter()
        .map(|colon| vec![colon.usage.to_owned(), colon.about.to_owned()])
        .collect();
    crate::ui::tables::aligned(&lines)
}

/// A completion: where the word begins, its replacement, and a description.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Completion {
    pub(super) start: usize,
    pub(super) value: String,
    pub(super) about: String,
}

/// The completions of the word before byte `at` of `text`: a `:` command at the beginning, a host function elsewhere.
pub(super) fn completions(text: &str, at: usize) -> Vec<Completion> {
    let before = crate::ui::term::prefix(text, at);
    if let Some(word) = before.strip_prefix(':') {
        let matching = COLONS.iter().filter(|colon| colon.name.starts_with(word));
        let completion = |colon: &Colon| Completion {
            start: 1,
            value: colon.name.to_owned(),
            about: format!("{}  {}", colon.usage, colon.about),
        };
        return matching.map(completion).collect();
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let start = before.trim_end_matches(is_word).len();
    let word = &before[start..];
    // After a dot comes a member of a value, which only the agent knows.
    if word.is_empty() || before[..start].ends_with('.') {
        return Vec::new();
    }
    let matching = table::FUNCTIONS
        .iter()
        .filter(|function| function.name.starts_with(word));
    let completion = |function: &table::Function| Completion {
        start,
        value: function.name.to_owned(),
        about: format!("{}  {}", function.usage, function.about),
    };
    matching.map(completion).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn runs(line: &str, code: &str, args: serde_json::Value) {
        let Ok(PromptCommand::Run(submission)) = parse(line) else {
            panic!("{line}")
        };
        assert_eq!(submission.code, code);
        assert_eq!(json!(submission.args), args);
    }

    #[test]
    fn arguments_are_bound_and_never_pasted() {
        runs(":revert 3", "revert(id)", json!({ "id": 3 }));
        runs(
            ":confirm 3 20m",
            "confirm(id, ttl)",
            json!({ "id": 3, "ttl": "20m" }),
        );
        runs(
            ":extend 3 5m); reveal(1",
            "extend(id, ttl)",
            json!({ "id": 3, "ttl": "5m); reveal(1" }),
        );
        runs(":adopt 3", "adopt(id)", json!({ "id": 3 }));
        runs(
            ":settle 3  force",
            "settle(id, how)",
            json!({ "id": 3, "how": "force" }),
        );
        runs(":change \"); x", "change(reason)", json!({ "reason": "\"); x" }));
        runs(":help patch", "help(name)", json!({ "name": "patch" }));
        runs(": observe".replace(": ", ":").as_str(), "observe()", json!({}));
    }

    #[test]
    fn mistakes_name_the_usage() {
        for (line, message) in [
            (":revert x", "expected `:revert ID`"),
            (":revert", "expected `:revert ID`"),
            (":confirm 3", "expected `:confirm ID TTL`"),
            (":adopt", "expected `:adopt ID`"),
            (":settle 3", "expected `:settle ID keep|force`"),
            (":settle 3 undo", "expected `:settle ID keep|force`"),
            (":change", "expected `:change REASON`"),
            (":leases 3", "expected `:leases`"),
            (
                ":laeses",
                "there is no command `:laeses`; did you mean `:leases`?",
            ),
            (
                ":rever 3",
                "there is no command `:rever`; did you mean `:revert`?",
            ),
            (":banana", "there is no command `:banana`"),
            (":x", "there is no command `:x`"),
            (":", "there is no command `:`"),
            (":watch x", "there is no command `:watch`"),
        ] {
            assert_eq!(parse(line).unwrap_err().message, message);
        }
    }

    #[test]
    fn a_command_typed_alone_is_told_its_usage() {
        for colon in COLONS {
            let Err(failure) = parse(&format!(":{}", colon.name)) else {
                continue;
            };
            let usage = format!("usage: `{}`: {}", colon.usage, colon.about);
            assert!(
                failure.help.starts_with(&usage),
                "{}: {}",
                colon.name,
                failure.help
            );
        }
        let help = |line| parse(line).unwrap_err().help;
        assert!(help(":revert").starts_with("usage: `:revert ID`"));
        assert!(help(":plan").starts_with("usage: `:plan CODE`"));
        assert!(help(":change").ends_with("REASON says why, for the audit log"));
        assert!(help(":confirm x 5m").ends_with("`:leases` lists the ids"));
    }

    #[test]
    fn all_ways_to_leave_are_known() {
        for line in [
            ":quit",
            ":q",
            ":exit",
            ":quit()",
            ": q".replace(": ", ":").as_str(),
        ] {
            assert!(matches!(parse(line), Ok(PromptCommand::Quit)), "{line}");
        }
        for code in ["exit", "quit", "q", "exit()", "q();", " quit ;\n"] {
            assert!(is_goodbye(code), "{code}");
        }
        for code in ["", "q1", "q + 1", "exit(1)", "quit.x", "\"q\""] {
            assert!(!is_goodbye(code), "{code}");
        }
    }

    #[test]
    fn every_command_that_help_lists_is_known() {
        for colon in COLONS {
            let line = colon
                .usage
                .replace("[NAME]", "")
                .replace("CODE", "1")
                .replace("ID", "1")
                .replace("TTL", "5m")
                .replace("keep|force", "keep");
            assert!(parse(&line).is_ok(), "{line}");
        }
    }

    #[test]
    fn completion_knows_commands_and_functions() {
        let values = |text: &str| -> Vec<String> {
            completions(text, text.len())
                .into_iter()
                .map(|completion| completion.value)
                .collect()
        };
        assert_eq!(values(":re"), ["revert", "revert_all"]);
        assert_eq!(values("rever"), ["revert", "revert_all"]);
        assert_eq!(values("let x = pat"), ["patch"]);
        assert_eq!(
            completions("f(pat", 5).first().map(|completion| completion.start),
            Some(2)
        );
        assert_eq!(values("config.pat"), Vec::<String>::new());
        assert_eq!(values(""), Vec::<String>::new());
        assert_eq!(values("é"), Vec::<String>::new());
    }
}
