//! A `debugctl attach` with an open standard input, as if a person typed into it.

use std::process::Command;
use std::time::Duration;

use debug_kit::Program;

/// The deadline of an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// The deadline for the client to leave once its input has ended.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);

/// An attached client, detached when dropped.
pub(super) struct AttachedTerminal(Program);

impl AttachedTerminal {
    /// Starts the client.
    pub(super) fn start(command: &mut Command) -> Result<Self, String> {
        let client = Program::start_typing(command).map_err(|e| format!("cannot start debugctl: {e}"))?;
        Ok(Self(client.ends_within(LEAVE_LIMIT)))
    }

    /// Types a line, then waits until the output since then satisfies `wanted`. Prints both.
    ///
    /// # Errors
    /// The output since then, if the client has left or the deadline has passed.
    pub(super) fn ask(&mut self, line: &str, wanted: impl Fn(&str) -> bool) -> Result<String, String> {
        println!("› {line}");
        let before = self.0.said().len();
        self.0
            .type_line(line)
            .map_err(|e| format!("{e}: {}", self.0.said()))?;
        let since = |said: &str| said.get(before..).unwrap_or_default().to_owned();
        let answer = self
            .0
            .wait_within(ANSWER_LIMIT, |said| Some(since(said)).filter(|said| wanted(said)));
        let answer = answer.map_err(|said| since(&said))?;
        print!("{answer}");
        Ok(answer)
    }
}

/// The number in the first `lease 12:` of a text.
pub(super) fn lease_number(text: &str) -> Option<u64> {
    let after = |(index, word): (usize, &str)| {
        let (number, _) = text.get(index + word.len()..)?.split_once(':')?;
        number.parse().ok()
    };
    text.match_indices("lease ").find_map(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> AttachedTerminal {
        AttachedTerminal::start(Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn an_answer_is_what_was_said_after_the_question() {
        let mut session = sh("while read line; do echo got $line; done");
        assert_eq!(
            session.ask("one", |said| said.contains("got")),
            Ok("got one\n".into())
        );
        assert_eq!(
            session.ask("two", |said| said.contains("got")),
            Ok("got two\n".into())
        );
    }

    #[test]
    fn a_client_that_leaves_gives_what_it_said() {
        let mut session = sh("read line; echo denied >&2");
        assert_eq!(
            session.ask("one", |said| said.contains("lease")),
            Err("denied\n".into())
        );
    }

    #[test]
    fn a_lease_is_known_by_its_number() {
        let line = "lease 12: GET /api/healthcheck patched, reverts in 5s unless confirmed";
        assert_eq!(lease_number(line), Some(12));
        assert_eq!(lease_number("a lease: no. lease x: no. lease 3: yes"), Some(3));
        assert_eq!(lease_number("no lease "), None);
    }
}
