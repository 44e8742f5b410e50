//! A person at a terminal: the line editor, and what is told above the line while it is typed.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reedline::{
    ColumnarMenu, Completer, CompletionResult, DefaultHinter, EditCommand, Emacs, FileBackedHistory, KeyCode,
    KeyModifiers, MenuBuilder, Reedline, ReedlineEvent, ReedlineMenu, Signal, Span, Suggestion,
    ValidationResult, Validator, default_emacs_keybindings,
};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};

use super::commands::{self, completions};
use super::input::{Input, tell};
use super::lexer::is_open;
use super::prompt::{Question, SessionPrompt};
use crate::failure::Failure;
use crate::link::{Loss, News};
use crate::session::Session;
use crate::term;
use crate::trust::Store;

/// How often the agent is asked what has happened while a line is typed, and the prompt counts down: what happens is told
/// within about a second.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// How many submissions the history keeps.
const HISTORY: usize = 10_000;
/// The name of the menu of completions, for the key that opens it.
const MENU: &str = "completions";

/// The line editor. It blocks, so it lives on a thread while it reads.
pub(super) struct Editor {
    editor: Option<Reedline>,
    interrupt: Arc<AtomicBool>,
    /// Where the history is kept, if it can be.
    history: Option<PathBuf>,
    /// What was submitted in the moment in which the connection was lost, to go on with.
    typed: String,
}

/// An editor that reads, and comes back with what ended that.
type Reading = JoinHandle<(Reedline, io::Result<Signal>)>;
/// Has the editor show its prompt anew.
type Repaint = Box<dyn Fn()>;

impl Editor {
    pub(super) fn open(store: &Store) -> Self {
        let usable = |path: PathBuf| history(path.clone()).map(|_| path);
        let history = match store.file("history").map_err(|failure| failure.message).and_then(usable) {
            Ok(path) => Some(path),
            Err(why) => {
                term::note(&format!("warning: no history: {why}"));
                None
            }
        };
        Self { editor: None, interrupt: Arc::default(), history, typed: String::new() }
    }

    /// A new one with nothing typed. One whose place on the screen is no longer right is replaced, as it cannot be told.
    fn fresh(&self) -> Reedline {
        let menu = ColumnarMenu::default().with_name(MENU).with_columns(1).with_marker("");
        let mut keys = default_emacs_keybindings();
        let complete = vec![ReedlineEvent::Menu(MENU.to_owned()), ReedlineEvent::MenuNext];
        keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, ReedlineEvent::UntilFound(complete));
        let editor = Reedline::create()
            .with_validator(Box::new(WholeSubmissions))
            .with_completer(Box::new(Names))
            .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
            .with_edit_mode(Box::new(Emacs::new(keys)))
            .with_hinter(Box::new(DefaultHinter::default()))
            .with_ansi_colors(term::wants_colour())
            .with_history_exclusion_prefix(Some(" ".to_owned()))
            .with_break_signal(self.interrupt.clone());
        // That there is none was told at the start; one that has gone since is no reason to stop.
        match self.history.clone().and_then(|path| history(path).ok()) {
            Some(history) => editor.with_history(Box::new(history)),
            None => editor,
        }
    }

    /// The next submission.
    ///
    /// # Errors
    /// The terminal cannot be read.
    pub(super) async fn next(
        &mut self,
        prompt: SessionPrompt,
        session: &mut Session,
    ) -> Result<Input, Failure> {
        let mut editor = self.editor.take().unwrap_or_else(|| self.fresh());
        if !self.typed.is_empty() {
            editor.run_edit_commands(&[EditCommand::InsertString(std::mem::take(&mut self.typed))]);
        }
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looks.tick().await;
        let (mut reading, mut repaint) = self.read(editor, &prompt);
        loop {
            tokio::select! {
                read = &mut reading => {
                    let (editor, signal) = read.map_err(|_| gone())?;
                    self.editor = Some(editor);
                    return input(signal);
                }
                loss = session.loss() => return self.lost(reading, loss).await,
                _ = looks.tick() => {
                    session.ask_news();
                    if prompt.renew(session.in_force, Instant::now()) {
                        repaint();
                    }
                }
                () = session.news_came() => {
                    let ended = session.take_news();
                    if ended.is_empty() {
                        if prompt.renew(session.in_force, Instant::now()) {
                            repaint();
                        }
                        continue;
                    }
                    match self.tell_above(reading, &prompt, session, &ended).await? {
                        Told::Above(again) => (reading, repaint) = *again,
                        Told::Below(input) => return Ok(input),
                    }
                }
            }
        }
    }

    /// Begins to read. The terminal's break signal is lowered first: a raised one meant what was read before.
    fn read(&self, mut editor: Reedline, prompt: &SessionPrompt) -> (Reading, Repaint) {
        self.interrupt.store(false, Ordering::Relaxed);
        let repaint = editor.repaint_signal();
        let prompt = prompt.clone();
        let reading = spawn_blocking(move || {
            let signal = editor.read_line(&prompt);
            (editor, signal)
        });
        (reading, Box::new(move || repaint.request_repaint()))
    }

    /// Tells of ends in the place of the line that is being typed, and shows that again below, as it was.
    async fn tell_above(
        &mut self,
        reading: Reading,
        prompt: &SessionPrompt,
        session: &Session,
        ended: &News,
    ) -> Result<Told, Failure> {
        self.interrupt.store(true, Ordering::Relaxed);
        let (editor, signal) = reading.await.map_err(|_| gone())?;
        let Ok(Signal::ExternalBreak(typed)) = signal else {
            // It was submitted in this moment: what is told comes below it.
            self.editor = Some(editor);
            tell(ended);
            return input(signal).map(Told::Below);
        };
        let at = editor.current_insertion_point();
        drop(editor);
        let shown = prompt.text() + &before(&typed, at, prompt.text().chars().count());
        term::clear_up(rows_above(&shown, term::columns()));
        tell(ended);
        prompt.renew(session.in_force, Instant::now());
        let mut editor = self.fresh();
        if !typed.is_empty() {
            editor.run_edit_commands(&[
                EditCommand::InsertString(typed),
                EditCommand::MoveToPosition { position: at, select: false },
            ]);
        }
        Ok(Told::Above(Box::new(self.read(editor, prompt))))
    }

    /// Ends the reading, as there is no session any more.
    async fn lost(&mut self, reading: Reading, loss: Loss) -> Result<Input, Failure> {
        self.interrupt.store(true, Ordering::Relaxed);
        let (editor, signal) = reading.await.map_err(|_| gone())?;
        self.editor = Some(editor);
        // What was submitted in the same moment waits to be sent to the next session.
        if let Input::Text(text) = input(signal)? {
            self.typed = text;
        }
        Ok(Input::Lost(loss))
    }

    /// A one-line answer; `None` if there is none.
    pub(super) async fn ask(question: &'static str) -> Option<String> {
        let asked = spawn_blocking(move || Reedline::create().read_line(&Question(question)));
        match asked.await {
            Ok(Ok(Signal::Success(answer))) => Some(answer.trim().to_lowercase()),
            _ => None,
        }
    }
}

/// How the end of a lease was told.
enum Told {
    /// Above the line, which is read on.
    Above(Box<(Reading, Repaint)>),
    /// Below what came in at that moment.
    Below(Input),
}

fn gone() -> Failure {
    Failure::local("the line editor is gone")
}

fn input(signal: io::Result<Signal>) -> Result<Input, Failure> {
    Ok(match signal {
        Ok(Signal::Success(text)) => Input::Text(text),
        Ok(Signal::CtrlD) => Input::End,
        Ok(Signal::ExternalBreak(_)) => {
            // The editor keeps what is typed and goes on with it; what is told now begins on a line of its own.
            term::note("");
            Input::Interrupted
        }
        Ok(_) => Input::Interrupted,
        Err(error) => return Err(Failure::local(format!("cannot read the terminal: {error}"))),
    })
}

/// What stands between the prompt and the cursor, with the margin that each further line has.
fn before(typed: &str, at: usize, margin: usize) -> String {
    term::prefix(typed, at).replace('\n', &format!("\n{}", " ".repeat(margin)))
}

/// How many rows of a terminal lie above the one in which a text ends that began in its first column. Each character counts as
/// one column: where some take two, rows are left standing, and none is cleared that is not the editor's.
fn rows_above(text: &str, columns: usize) -> usize {
    let rows = |line: &str| line.chars().count().saturating_sub(1) / columns;
    let lines = text.split('\n');
    lines.clone().count() - 1 + lines.map(rows).sum::<usize>()
}

/// The history file, which only its owner may read: code can hold what it should not.
fn history(path: PathBuf) -> Result<FileBackedHistory, String> {
    let made = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    made.map_err(|error| format!("cannot write `{}`: {error}", path.display()))?;
    FileBackedHistory::with_file(HISTORY, path).map_err(|error| error.to_string())
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

    #[test]
    fn rows_are_counted_as_a_terminal_wraps_them() {
        let above = |prompt: &str, typed: &str, at| {
            rows_above(&(prompt.to_owned() + &before(typed, at, prompt.chars().count())), 10)
        };
        assert_eq!(above("a› ", "", 0), 0);
        assert_eq!(above("a› ", "123456", 6), 0);
        // A full line wraps with its next character.
        assert_eq!(above("a› ", "1234567", 7), 0);
        assert_eq!(above("a› ", "12345678", 8), 1);
        assert_eq!(above("a› ", "12345678", 2), 0);
        assert_eq!(above("a› ", "[\n12345678\n]", 12), 3);
        assert_eq!(above("a› ", "[\n12345678\n]", 1), 0);
        assert_eq!(above("a› ", "[\n12345678\n]", 2), 1);
    }
}
