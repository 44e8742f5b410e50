//! Where submissions come from: a person at a terminal, or lines of a file or pipe.

use super::editor::Editor;
use super::input::Input;
use super::lines::Lines;
use super::prompt::SessionPrompt;
use crate::net::interrupts::Interrupts;
use crate::session::AttachedSession;
use crate::trust::store::TrustStore;
use crate::ui::failure::CommandFailure;
use crate::ui::term;

/// A source of submissions.
pub(super) enum Source {
    /// A person at a terminal that a line editor can draw on.
    Editor(Box<Editor>),
    /// Lines: from a person at a dumb terminal, or from a file or pipe.
    Lines(Lines),
}

impl Source {
    /// The line editor if a person sits at a terminal that it can draw on, else stdin line by line.
    pub(super) fn open(store: &TrustStore) -> Self {
        match (term::is_interactive(), term::is_dumb()) {
            (true, false) => Self::Editor(Box::new(Editor::open(store))),
            (person, _) => Self::Lines(Lines::new(person)),
        }
    }

    /// Whether a person can answer questions.
    pub(super) fn is_interactive(&self) -> bool {
        match self {
            Self::Editor(_) => true,
            Self::Lines(lines) => lines.person,
        }
    }

    /// Whether the terminal is drawn on while a line is typed.
    pub(super) fn is_drawn(&self) -> bool {
        matches!(self, Self::Editor(_))
    }

    /// The line at which the last submission began, counted from 1, if it came from a file or pipe.
    pub(super) fn line(&self) -> Option<usize> {
        match self {
            Self::Lines(lines) if !lines.person => Some(lines.began),
            _ => None,
        }
    }

    /// The next submission. News of the process are printed as they come; a lost connection ends the wait.
    ///
    /// # Errors
    /// Stdin or the terminal cannot be read.
    pub(super) async fn next(
        &mut self,
        prompt: SessionPrompt,
        interrupts: &mut Interrupts,
        session: &mut AttachedSession,
    ) -> Result<Input, CommandFailure> {
        match self {
            // While a line is edited, Ctrl-C is an ordinary key.
            Self::Editor(editor) => editor.next(prompt, session).await,
            Self::Lines(lines) => lines.next(&prompt, interrupts, session).await,
        }
    }

    /// Decides what becomes of the last submission in the history: it stays only if the agent has recorded it.
    pub(super) fn settle(&self, recorded: bool) {
        if let Self::Editor(editor) = self {
            editor.settle(recorded);
        }
    }

    /// Asks for a one-line answer; `None` if there is none.
    pub(super) async fn ask(
        &mut self,
        question: &'static str,
        interrupts: &mut Interrupts,
    ) -> Option<String> {
        match self {
            Self::Editor(_) => Editor::ask(question).await,
            Self::Lines(lines) => lines.ask(question, interrupts).await,
        }
    }
}
