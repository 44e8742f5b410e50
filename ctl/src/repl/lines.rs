//! Submissions line by line: from a file, a pipe, or a person at a dumb terminal.

use std::io::{BufRead, Read};

use debug_wire::MAX_CODE;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};

use super::input::{Input, LOOK, tell};
use super::lexer::is_open;
use super::prompt::SessionPrompt;
use crate::net::interrupts::Interrupts;
use crate::session::AttachedSession;
use crate::ui::failure::CommandFailure;
use crate::ui::term;

/// Stdin, line by line.
pub(super) struct Lines {
    /// Whether a person types them.
    pub(super) person: bool,
    /// The line in which the last submission began, counted from 1.
    pub(super) began: usize,
    /// The number of lines read.
    read: usize,
    /// The pending read of a submission. It cannot be cancelled; the next caller takes its result.
    reading: Option<JoinHandle<Result<MaybeText, CommandFailure>>>,
}

/// A submission and its number of lines; `None` at the end.
type MaybeText = Option<(String, usize)>;

impl Lines {
    pub(super) fn new(person: bool) -> Self {
        Self {
            person,
            began: 0,
            read: 0,
            reading: None,
        }
    }

    /// The next submission. A person sees the prompt before it, and again below any news.
    ///
    /// # Errors
    /// Stdin cannot be read.
    pub(super) async fn next(
        &mut self,
        prompt: &SessionPrompt,
        interrupts: &mut Interrupts,
        session: &mut AttachedSession,
    ) -> Result<Input, CommandFailure> {
        let person = self.person;
        let ask = || {
            if person {
                term::unfinished(&prompt.text());
            }
        };
        ask();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looks.tick().await;
        loop {
            tokio::select! {
                input = self.submission() => return input,
                loss = session.loss() => return Ok(Input::Lost(loss)),
                () = interrupts.next() => {
                    if person {
                        term::note("");
                    }
                    return Ok(if person { Input::Interrupted } else { Input::End });
                }
                _ = looks.tick() => session.ask_news(),
                () = session.news_came() => {
                    let ended = session.take_news();
                    if ended.is_empty() {
                        continue;
                    }
                    if person {
                        term::note("");
                    }
                    tell(&ended);
                    prompt.renew(session.in_force, std::time::Instant::now());
                    ask();
                }
            }
        }
    }

    /// Continues the read that an earlier caller abandoned. Cancel safe: the future may be dropped and created again.
    async fn submission(&mut self) -> Result<Input, CommandFailure> {
        let reading = self
            .reading
            .get_or_insert_with(|| spawn_blocking(|| submission(&mut std::io::stdin().lock())));
        let read = reading.await;
        self.reading = None;
        let Some((text, lines)) = read.map_err(|_| CommandFailure::local("reading stdin failed"))?? else {
            return Ok(Input::End);
        };
        self.began = self.read + 1;
        self.read += lines;
        Ok(Input::Text(text))
    }

    /// A one-line answer of a person; `None` if there is none.
    pub(super) async fn ask(&mut self, question: &str, interrupts: &mut Interrupts) -> Option<String> {
        term::unfinished(&format!("{question} "));
        tokio::select! {
            input = self.submission() => match input {
                Ok(Input::Text(answer)) => Some(answer.trim().to_lowercase()),
                _ => None,
            },
            () = interrupts.next() => {
                term::note("");
                None
            }
        }
    }
}

fn submission(lines: &mut impl BufRead) -> Result<MaybeText, CommandFailure> {
    let (mut text, mut count) = (String::new(), 0);
    loop {
        let before = text.len();
        let read = Read::take(&mut *lines, MAX_CODE as u64 + 1).read_line(&mut text);
        let read = read.map_err(|error| CommandFailure::usage(format!("cannot read stdin: {error}")))?;
        count += usize::from(read > 0);
        if text.len() > MAX_CODE {
            return Err(CommandFailure::usage(format!(
                "a submission is longer than {MAX_CODE} bytes"
            )));
        }
        if read == 0 {
            // A submission that is still open at the end goes to the agent, which reports what is missing.
            return Ok(if before == 0 { None } else { Some((text, count)) });
        }
        if text.starts_with(':') || !is_open(&text) {
            return Ok(Some((text, count)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submissions(text: &str) -> Vec<(String, usize)> {
        let mut lines = text.as_bytes();
        std::iter::from_fn(|| submission(&mut lines).unwrap()).collect()
    }

    #[test]
    fn lines_are_joined_while_something_is_open() {
        let all = submissions("1\nf(\n 2)\n:help\n:change it's (open\n3");
        let texts: Vec<&str> = all.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(
            texts,
            ["1\n", "f(\n 2)\n", ":help\n", ":change it's (open\n", "3"]
        );
        let lines: Vec<usize> = all.iter().map(|(_, lines)| *lines).collect();
        assert_eq!(lines, [1, 2, 1, 1, 1]);
        assert_eq!(submissions("f("), [("f(".to_owned(), 1)]);
        assert_eq!(submissions(""), []);
    }

    #[test]
    fn a_submission_without_end_is_refused() {
        let endless = "(".repeat(MAX_CODE + 2);
        assert!(submission(&mut endless.as_bytes()).is_err());
        let endless = "(\n".repeat(MAX_CODE);
        assert!(submission(&mut endless.as_bytes()).is_err());
    }
}
