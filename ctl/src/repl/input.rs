//! Where submissions come from: a person at a terminal, or lines of a file or pipe.

use std::fs::OpenOptions;
use std::io::{BufRead, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use debug_wire::MAX_CODE;
use reedline::{
    ColumnarMenu, Completer, CompletionResult, DefaultHinter, EditCommand, Emacs, FileBackedHistory, KeyCode,
    KeyModifiers, MenuBuilder, Reedline, ReedlineEvent, ReedlineMenu, Signal, Span, Suggestion,
    ValidationResult, Validator, default_emacs_keybindings,
};
use tokio::task::spawn_blocking;

use super::commands::{self, completions};
use super::lexer::is_open;
use super::prompt::{Question, SessionPrompt};
use crate::failure::Failure;
use crate::interrupts::Interrupts;
use crate::link::Loss;
use crate::term;
use crate::trust::Store;

/// How many submissions the history keeps.
const HISTORY: usize = 10_000;
/// The name of the menu of completions, for the key that opens it.
const MENU: &str = "completions";

/// What came in.
#[derive(Debug)]
pub(super) enum Input {
    /// A submission, of one or more lines.
    Text(String),
    /// Ctrl-C: the line is discarded.
    Interrupted,
    /// Ctrl-D, or the end of the file.
    End,
    /// Nothing: the connection was lost meanwhile.
    Lost(Loss),
}

/// A source of submissions.
pub(super) enum Source {
    Terminal(Box<Terminal>),
    Piped,
}

impl Source {
    /// The terminal if a person sits there, else stdin line by line.
    pub(super) fn open(store: &Store) -> Self {
        if term::is_interactive() { Self::Terminal(Box::new(Terminal::open(store))) } else { Self::Piped }
    }

    /// Whether a person can answer questions.
    pub(super) fn is_interactive(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// The next submission. `loss` completes when the connection is lost, which ends the waiting.
    ///
    /// # Errors
    /// Stdin cannot be read.
    pub(super) async fn next(
        &mut self,
        prompt: SessionPrompt,
        interrupts: &mut Interrupts,
        loss: impl Future<Output = Loss>,
    ) -> Result<Input, Failure> {
        match self {
            // While a line is edited Ctrl-C is a key like others.
            Self::Terminal(terminal) => terminal.next(prompt, loss).await,
            Self::Piped => tokio::select! {
                input = piped() => input,
                loss = loss => Ok(Input::Lost(loss)),
                () = interrupts.next() => Ok(Input::End),
            },
        }
    }

    /// A one-line answer; `None` if there is none.
    pub(super) async fn ask(&mut self, question: &'static str) -> Option<String> {
        let asked = spawn_blocking(move || Reedline::create().read_line(&Question(question)));
        match asked.await {
            Ok(Ok(Signal::Success(answer))) => Some(answer.trim().to_lowercase()),
            _ => None,
        }
    }
}

/// The line editor. It blocks, so it lives on a thread while it reads.
pub(super) struct Terminal {
    editor: Option<Reedline>,
    interrupt: Arc<AtomicBool>,
    /// What was submitted in the moment in which the connection was lost, to go on with.
    typed: String,
}

impl Terminal {
    fn open(store: &Store) -> Self {
        let interrupt = Arc::new(AtomicBool::new(false));
        let menu = ColumnarMenu::default().with_name(MENU).with_columns(1).with_marker("");
        let mut keys = default_emacs_keybindings();
        let complete = vec![ReedlineEvent::Menu(MENU.to_owned()), ReedlineEvent::MenuNext];
        keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, ReedlineEvent::UntilFound(complete));
        let mut editor = Reedline::create()
            .with_validator(Box::new(WholeSubmissions))
            .with_completer(Box::new(Names))
            .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
            .with_edit_mode(Box::new(Emacs::new(keys)))
            .with_hinter(Box::new(DefaultHinter::default()))
            .with_ansi_colors(term::wants_colour())
            .with_history_exclusion_prefix(Some(" ".to_owned()))
            .with_break_signal(interrupt.clone());
        match history(store.file("history")) {
            Ok(history) => editor = editor.with_history(Box::new(history)),
            Err(error) => term::note(&format!("warning: no history: {error}")),
        }
        Self { editor: Some(editor), interrupt, typed: String::new() }
    }

    async fn next(
        &mut self,
        prompt: SessionPrompt,
        loss: impl Future<Output = Loss>,
    ) -> Result<Input, Failure> {
        let gone = || Failure::evaluation("the line editor is gone");
        let mut editor = self.editor.take().ok_or_else(gone)?;
        if !self.typed.is_empty() {
            editor.run_edit_commands(&[EditCommand::InsertString(std::mem::take(&mut self.typed))]);
        }
        self.interrupt.store(false, Ordering::Relaxed);
        let mut reading = spawn_blocking(move || {
            let signal = editor.read_line(&prompt);
            (editor, signal)
        });
        let mut lost = None;
        let (editor, signal) = tokio::select! {
            read = &mut reading => read.map_err(|_| gone())?,
            loss = loss => {
                lost = Some(loss);
                self.interrupt.store(true, Ordering::Relaxed);
                reading.await.map_err(|_| gone())?
            }
        };
        self.editor = Some(editor);
        let input = match signal {
            Ok(Signal::Success(text)) => Input::Text(text),
            Ok(Signal::CtrlC) => Input::Interrupted,
            Ok(Signal::CtrlD) => Input::End,
            Ok(Signal::ExternalBreak(_)) => {
                // The editor keeps what is typed and goes on with it; what is told now begins on a line of its own.
                term::note("");
                Input::Interrupted
            }
            Ok(_) => Input::Interrupted,
            Err(error) => return Err(Failure::evaluation(format!("cannot read the terminal: {error}"))),
        };
        Ok(match lost {
            // What was submitted in the same moment waits to be sent to the next session.
            Some(loss) => {
                if let Input::Text(text) = input {
                    self.typed = text;
                }
                Input::Lost(loss)
            }
            None => input,
        })
    }
}

/// The history file, which only its owner may read: code can hold what it should not.
fn history(path: PathBuf) -> Result<FileBackedHistory, String> {
    let made = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    made.map_err(|error| error.to_string())?;
    FileBackedHistory::with_file(HISTORY, path).map_err(|error| error.to_string())
}

/// Reads lines of stdin until they are a whole submission.
async fn piped() -> Result<Input, Failure> {
    let reading = spawn_blocking(|| submission(&mut std::io::stdin().lock()));
    reading.await.map_err(|_| Failure::evaluation("reading stdin failed"))?
}

fn submission(lines: &mut impl BufRead) -> Result<Input, Failure> {
    let mut text = String::new();
    loop {
        let before = text.len();
        let read = Read::take(&mut *lines, MAX_CODE as u64 + 1).read_line(&mut text);
        let read = read.map_err(|error| Failure::usage(format!("cannot read stdin: {error}")))?;
        if text.len() > MAX_CODE {
            return Err(Failure::usage(format!("a submission is longer than {MAX_CODE} bytes")));
        }
        if read == 0 {
            // What is open at the end goes to the agent, which tells what is missing.
            return Ok(if before == 0 { Input::End } else { Input::Text(text) });
        }
        if !is_open(&text) {
            return Ok(Input::Text(text));
        }
    }
}

/// Enter ends a submission where nothing is open.
struct WholeSubmissions;

impl Validator for WholeSubmissions {
    fn validate(&self, line: &str) -> ValidationResult {
        if !line.starts_with(':') && is_open(line) {
            ValidationResult::Incomplete
        } else {
            ValidationResult::Complete
        }
    }
}

/// Completes `:` commands and host functions.
struct Names;

impl Completer for Names {
    fn complete(&mut self, line: &str, at: usize) -> CompletionResult {
        let suggestion = |completion: commands::Completion| Suggestion {
            span: Span::new(completion.start, at.max(completion.start)),
            value: completion.value,
            description: Some(completion.about),
            ..Suggestion::default()
        };
        CompletionResult::fresh(completions(line, at).into_iter().map(suggestion).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submissions(text: &str) -> Vec<String> {
        let mut lines = text.as_bytes();
        std::iter::from_fn(|| match submission(&mut lines).unwrap() {
            Input::Text(text) => Some(text),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn lines_are_joined_while_something_is_open() {
        assert_eq!(submissions("1\nf(\n 2)\n:help\n3"), ["1\n", "f(\n 2)\n", ":help\n", "3"]);
        assert_eq!(submissions("f("), ["f("]);
        assert_eq!(submissions(""), Vec::<String>::new());
    }

    #[test]
    fn a_submission_without_end_is_refused() {
        let endless = "(".repeat(MAX_CODE + 2);
        assert!(submission(&mut endless.as_bytes()).is_err());
        let endless = "(\n".repeat(MAX_CODE);
        assert!(submission(&mut endless.as_bytes()).is_err());
    }
}
