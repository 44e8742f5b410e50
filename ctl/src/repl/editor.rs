//! A person at a terminal: the line editor, and the news printed above the line that is being typed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use reedline::{
    ColumnarMenu, Completer, CompletionResult, EditCommand, Emacs, KeyCode, KeyModifiers, MenuBuilder,
    Reedline, ReedlineEvent, ReedlineMenu, Signal, SimpleMatchHighlighter, Span, Suggestion,
    ValidationResult, Validator, default_emacs_keybindings,
};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};

use super::commands::{self, completions};
use super::history::{Dimmed, SubmittedLines};
use super::input::{Input, LOOK, tell};
use super::lexer::is_open;
use super::prompt::{Question, SessionPrompt};
use crate::net::link::Loss;
use crate::net::news::News;
use crate::session::AttachedSession;
use crate::trust::store::TrustStore;
use crate::ui::failure::CommandFailure;
use crate::ui::term;

/// The name of the completion menu, for its key binding.
const MENU: &str = "completions";

/// The line editor. Reading blocks, so it happens on a thread of its own.
pub(super) struct Editor {
    editor: Option<Reedline>,
    interrupt: Arc<AtomicBool>,
    /// The earlier submissions.
    history: SubmittedLines,
    /// A submission made at the moment when the connection was lost, with which the next line begins.
    typed: String,
}

/// An editor that is reading; it returns with the event that ended the reading.
type EditorThread = JoinHandle<(Reedline, io::Result<Signal>)>;
/// Makes the editor repaint its prompt.
type Repaint = Box<dyn Fn()>;

impl Editor {
    pub(super) fn open(store: &TrustStore) -> Self {
        let file = store.file("history").map_err(|failure| failure.message);
        let history = file.and_then(SubmittedLines::in_file).unwrap_or_else(|why| {
            term::note(&format!("warning: no history: {why}"));
            SubmittedLines::in_memory()
        });
        Self {
            editor: None,
            interrupt: Arc::default(),
            history,
            typed: String::new(),
        }
    }

    /// A new editor with an empty line. An editor at a wrong position on the screen is replaced, as its position cannot be
    /// set.
    fn fresh(&self) -> Reedline {
        let menu = ColumnarMenu::default()
            .with_name(MENU)
            .with_columns(1)
            .with_marker("");
        let mut keys = default_emacs_keybindings();
        let complete = vec![ReedlineEvent::Menu(MENU.to_owned()), ReedlineEvent::MenuNext];
        keys.add_binding(
            KeyModifiers::NONE,
            KeyCode::Tab,
            ReedlineEvent::UntilFound(complete),
        );
        Reedline::create()
            .with_validator(Box::new(WholeSubmissions))
            .with_completer(Box::new(NameCompleter))
            .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
            .with_edit_mode(Box::new(Emacs::new(keys)))
            .with_hinter(Box::new(Dimmed::default()))
            // In the editor's own choice of colours, all that is typed would be white and look suggested.
            .with_highlighter(Box::new(SimpleMatchHighlighter::default()))
            .with_ansi_colors(term::wants_colour())
            .with_history(Box::new(self.history.clone()))
            .with_break_signal(self.interrupt.clone())
    }

    /// Keeps the last submission in the history if the agent has recorded it, and drops it from there otherwise.
    pub(super) fn settle(&self, recorded: bool) {
        if !recorded {
            self.history.forget();
        } else if let Err(why) = self.history.keep() {
            term::note(&format!(
                "warning: this line is in the history of this session alone: {why}"
            ));
        }
    }

    /// The next submission.
    ///
    /// # Errors
    /// The terminal cannot be read.
    pub(super) async fn next(
        &mut self,
        prompt: SessionPrompt,
        session: &mut AttachedSession,
    ) -> Result<Input, CommandFailure> {
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

    /// Starts to read. The break signal is reset first: a raised one was meant for the previous reading.
    fn read(&self, mut editor: Reedline, prompt: &SessionPrompt) -> (EditorThread, Repaint) {
        self.interrupt.store(false, Ordering::Relaxed);
        let repaint = editor.repaint_signal();
        let prompt = prompt.clone();
        let reading = spawn_blocking(move || {
            let signal = editor.read_line(&prompt);
            (editor, signal)
        });
        (reading, Box::new(move || repaint.request_repaint()))
    }

    /// Prints the news in place of the line that is being typed, and shows that line again below, unchanged.
    async fn tell_above(
        &mut self,
        reading: EditorThread,
        prompt: &SessionPrompt,
        session: &AttachedSession,
        ended: &News,
    ) -> Result<Told, CommandFailure> {
        self.interrupt.store(true, Ordering::Relaxed);
        let (editor, signal) = reading.await.map_err(|_| gone())?;
        let Ok(Signal::ExternalBreak(typed)) = signal else {
            // The line was submitted at this moment: the news come below it.
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
                EditCommand::MoveToPosition {
                    position: at,
                    select: false,
                },
            ]);
        }
        Ok(Told::Above(Box::new(self.read(editor, prompt))))
    }

    /// Ends the reading, since the session is lost.
    async fn lost(&mut self, reading: EditorThread, loss: Loss) -> Result<Input, CommandFailure> {
        self.interrupt.store(true, Ordering::Relaxed);
        let (editor, signal) = reading.await.map_err(|_| gone())?;
        self.editor = Some(editor);
        // A line submitted at the same moment waits for the next session.
        if let Input::Text(text) = input(signal)? {
            self.typed = text;
            self.history.forget();
        }
        Ok(Input::Lost(loss))
    }

    /// Asks for a one-line answer; `None` if there is none.
    pub(super) async fn ask(question: &'static str) -> Option<String> {
        let asked = spawn_blocking(move || Reedline::create().read_line(&Question(question)));
        match asked.await {
            Ok(Ok(Signal::Success(answer))) => Some(answer.trim().to_lowercase()),
            _ => None,
        }
    }
}

/// Where news were printed.
enum Told {
    /// Above the line, which is still being read.
    Above(Box<(EditorThread, Repaint)>),
    /// Below the line submitted at that moment.
    Below(Input),
}

fn gone() -> CommandFailure {
    CommandFailure::local("the line editor is gone")
}

fn input(signal: io::Result<Signal>) -> Result<Input, CommandFailure> {
    Ok(match signal {
        Ok(Signal::Success(text)) => Input::Text(text),
        Ok(Signal::CtrlD) => Input::End,
        Ok(Signal::ExternalBreak(_)) => {
            // The editor keeps the typed text for its next reading; messages begin on a line of their own.
            term::note("");
            Input::Interrupted
        }
        Ok(_) => Input::Interrupted,
        Err(error) => {
            return Err(CommandFailure::local(format!(
                "cannot read the terminal: {error}"
            )));
        }
    })
}

/// The text between the prompt and the cursor, with the margin of each further line.
fn before(typed: &str, at: usize, margin: usize) -> String {
    term::prefix(typed, at).replace('\n', &format!("\n{}", " ".repeat(margin)))
}

/// The number of terminal rows above the last row of a text that begins in the first column. Each character counts as one column:
/// wide characters leave stale rows, but no row that is not the editor's is cleared.
fn rows_above(text: &str, columns: usize) -> usize {
    let rows = |line: &str| line.chars().count().saturating_sub(1) / columns;
    let lines = text.split('\n');
    lines.clone().count() - 1 + lines.map(rows).sum::<usize>()
}

/// Enter submits unless a bracket, string or comment is open.
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
struct NameCompleter;

impl Completer for NameCompleter {
    fn complete(&mut self, line: &str, at: usize) -> CompletionResult {
        let suggestion = |completion: commands::Completion| Suggestion {
            span: Span::new(completion.start, at.max(completion.start)),
            value: completion.value,
            description: Some(completion.about),
            ..Suggestion::default()
        };
        CompletionResult::fresh(
            completions(line, at)
                .into_iter()
                .map(suggestion)
                .collect::<Vec<_>>(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_as_a_terminal_wraps_them() {
        let above = |prompt: &str, typed: &str, at| {
            rows_above(
                &(prompt.to_owned() + &before(typed, at, prompt.chars().count())),
                10,
            )
        };
        assert_eq!(above("a› ", "", 0), 0);
        assert_eq!(above("a› ", "123456", 6), 0);
        // A full row wraps at the next character.
        assert_eq!(above("a› ", "1234567", 7), 0);
        assert_eq!(above("a› ", "12345678", 8), 1);
        assert_eq!(above("a› ", "12345678", 2), 0);
        assert_eq!(above("a› ", "[\n12345678\n]", 12), 3);
        assert_eq!(above("a› ", "[\n12345678\n]", 1), 0);
        assert_eq!(above("a› ", "[\n12345678\n]", 2), 1);
    }
}
