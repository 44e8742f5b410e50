//! A `debugctl attach` with an open standard input, as if a person typed into it.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::process::{POLL, end_of};

/// The deadline of an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// The deadline for the client to leave once its input has ended.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);

/// An attached client, detached when dropped.
pub(super) struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    seen: Arc<Mutex<String>>,
}

impl Session {
    /// Starts the client.
    pub(super) fn start(command: &mut Command) -> Result<Self, String> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|e| format!("cannot start debugctl: {e}"))?;
        let seen = Arc::new(Mutex::new(String::new()));
        collect(child.stdout.take(), seen.clone());
        collect(child.stderr.take(), seen.clone());
        Ok(Self {
            stdin: child.stdin.take(),
            child,
            seen,
        })
    }

    /// Types a line, then waits until the output since then satisfies `wanted`. Prints both.
    ///
    /// # Errors
    /// The output since then, if the client has left or the deadline has passed.
    pub(super) fn ask(&mut self, line: &str, wanted: impl Fn(&str) -> bool) -> Result<String, String> {
        println!("› {line}");
        let before = self.seen().len();
        let stdin = self.stdin.as_mut().ok_or("the session's input has ended")?;
        writeln!(stdin, "{line}")
            .and_then(|()| stdin.flush())
            .map_err(|e| format!("{e}: {}", self.seen()))?;
        let start = Instant::now();
        loop {
            let gone = !matches!(self.child.try_wait(), Ok(None));
            let said = self.seen().split_off(before);
            if wanted(&said) {
                print!("{said}");
                return Ok(said);
            }
            if gone || ANSWER_LIMIT <= start.elapsed() {
                return Err(said);
            }
            thread::sleep(POLL);
        }
    }

    fn seen(&self) -> String {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The end of its input makes the client leave in order.
        drop(self.stdin.take());
        let _ = end_of(&mut self.child, LEAVE_LIMIT);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Collects complete lines, so that a partial answer never passes for a complete one.
fn collect(stream: Option<impl Read + Send + 'static>, seen: Arc<Mutex<String>>) {
    thread::spawn(move || {
        let Some(stream) = stream else { return };
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push_str(&line);
            seen.push('\n');
        }
    });
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

    fn sh(script: &str) -> Session {
        Session::start(Command::new("sh").args(["-c", script])).unwrap()
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
