//! What stands before the cursor: which service, who, and above all in which mode.

use std::borrow::Cow;

use debug_policy::Mode;
use reedline::{Color, Prompt, PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus};

use crate::session::Session;
use crate::term;

/// The prompt of a session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct SessionPrompt {
    /// `dienstplan(production) alice[oncall] observe› `: the mode is a part of it, and no indicator beside it, because
    /// an open menu takes the indicator's place and the mode must always be seen.
    text: String,
    mode: Mode,
    continuation: String,
}

impl SessionPrompt {
    pub(super) fn new(session: &Session) -> Self {
        let ready = &session.ready;
        Self::of(&ready.service, &ready.environment, session.name(), &session.roles, session.mode)
    }

    fn of(service: &str, environment: &str, name: &str, roles: &[String], mode: Mode) -> Self {
        let (service, environment) = (term::line(service), term::line(environment));
        let roles = roles.join(",");
        let (name, roles) = (term::line(name), term::line(&roles));
        let text = format!("{service}({environment}) {name}[{roles}] {}", mode_text(mode));
        let width = text.chars().count();
        Self { text, mode, continuation: format!("{:>width$}", "... ") }
    }
}

fn mode_text(mode: Mode) -> &'static str {
    match mode {
        Mode::Observe => "observe› ",
        Mode::Change => "CHANGE› ",
    }
}

impl Prompt for SessionPrompt {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.text)
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.continuation)
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let failing = matches!(search.status, PromptHistorySearchStatus::Failing);
        let failing = if failing { "nothing found for" } else { "search" };
        Cow::Owned(format!("({failing} `{}`) ", term::line(&search.term)))
    }

    fn get_prompt_color(&self) -> Color {
        match self.mode {
            Mode::Observe => Color::Default,
            Mode::Change => Color::Red,
        }
    }

    fn get_prompt_multiline_color(&self) -> Color {
        Color::Default
    }
}

/// A question in the middle of something, answered with a letter.
pub(super) struct Question(pub(super) &'static str);

impl Prompt for Question {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.0)
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed(" ")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_history_search_indicator(&self, _: PromptHistorySearch) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn get_prompt_color(&self) -> Color {
        Color::Default
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompt_names_service_environment_operator_roles_and_mode() {
        let roles = ["oncall".to_owned(), "lead".to_owned()];
        let prompt = |mode| SessionPrompt::of("dienstplan", "production", "alice", &roles, mode);
        let text = |prompt: &SessionPrompt| prompt.render_prompt_left().into_owned();
        assert_eq!(text(&prompt(Mode::Observe)), "dienstplan(production) alice[oncall,lead] observe› ");
        assert_eq!(text(&prompt(Mode::Change)), "dienstplan(production) alice[oncall,lead] CHANGE› ");
        let continued = prompt(Mode::Change).render_prompt_multiline_indicator().into_owned();
        assert_eq!(continued.chars().count(), text(&prompt(Mode::Change)).chars().count());
        assert!(continued.ends_with("... "));
    }

    /// T46.
    #[test]
    fn an_agent_cannot_forge_its_prompt() {
        let prompt = SessionPrompt::of("a\u{1b}[2K\rb", "staging\n", "x\u{202e}", &[], Mode::Observe);
        assert_eq!(prompt.text, r"a\u{1b}[2K\u{d}b(staging\u{a}) x\u{202e}[] observe› ");
    }
}
