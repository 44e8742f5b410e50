//! The prompt: the service, the operator and above all the mode, with the number of changes in force and their next deadline.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use debug_policy::Mode;
use reedline::{Color, Prompt, PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus};

use crate::net::news::InForceSince;
use crate::session::AttachedSession;
use crate::ui::term;

/// The prompt of a session. Its clones share one text, which is updated while a line is typed after it.
#[derive(Clone, Debug)]
pub(super) struct SessionPrompt {
    /// `dienstplan(production) alice[oncall] `.
    who: String,
    mode: Mode,
    shown: Arc<Mutex<String>>,
}

impl SessionPrompt {
    pub(super) fn new(session: &AttachedSession) -> Self {
        let ready = &session.ready;
        let who = who(&ready.service, &ready.environment, session.name(), &session.roles);
        let prompt = Self {
            who,
            mode: session.mode,
            shown: Arc::default(),
        };
        prompt.renew(session.in_force, Instant::now());
        prompt
    }

    /// Updates the text for the moment `now`. Returns whether it changed.
    pub(super) fn renew(&self, in_force: InForceSince, now: Instant) -> bool {
        let text = self.made(in_force, now);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = *shown != text;
        *shown = text;
        is_new
    }

    /// `dienstplan(production) alice[oncall] CHANGE[2, 4m59s]› ` at a moment. The mode is part of the text and not an indicator:
    /// an open menu replaces the indicator, and the mode must always be visible.
    fn made(&self, standing: InForceSince, now: Instant) -> String {
        let mode = match self.mode {
            Mode::Observe => "observe",
            Mode::Change => "CHANGE",
        };
        format!("{}{mode}{}› ", self.who, in_force(standing.at(now)))
    }

    /// The current text.
    pub(super) fn text(&self) -> String {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn who(service: &str, environment: &str, name: &str, roles: &[String]) -> String {
    let (service, environment) = (term::line(service), term::line(environment));
    let roles = roles.join(",");
    let (name, roles) = (term::line(name), term::line(&roles));
    format!("{service}({environment}) {name}[{roles}] ")
}

/// `[2, 4m59s]`: the number of changes in force in the process, and the time until the first reverts. `[2?]` once that time has
/// passed: then only the agent knows how many are left. Empty without changes.
fn in_force((count, left): (u64, Option<Duration>)) -> String {
    match (count, left) {
        (0, _) => String::new(),
        (count, Some(left)) => format!("[{count}, {}]", term::in_seconds(left)),
        (count, None) => format!("[{count}?]"),
    }
}

impl Prompt for SessionPrompt {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Owned(self.text())
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        let width = self.text().chars().count();
        Cow::Owned(format!("{:>width$}", "... "))
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

/// A question that is answered with a letter.
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
    use debug_wire::messages::InForce;

    fn prompt(mode: Mode, in_force: InForce) -> SessionPrompt {
        let roles = ["oncall".to_owned(), "lead".to_owned()];
        let who = who("dienstplan", "production", "alice", &roles);
        let prompt = SessionPrompt {
            who,
            mode,
            shown: Arc::default(),
        };
        let now = Instant::now();
        assert!(prompt.renew(InForceSince::told(in_force, now), now));
        prompt
    }

    #[test]
    fn the_prompt_names_service_environment_operator_roles_and_mode() {
        let prompt = |mode| prompt(mode, InForce::default());
        let text = |prompt: &SessionPrompt| prompt.render_prompt_left().into_owned();
        assert_eq!(
            text(&prompt(Mode::Observe)),
            "dienstplan(production) alice[oncall,lead] observe› "
        );
        assert_eq!(
            text(&prompt(Mode::Change)),
            "dienstplan(production) alice[oncall,lead] CHANGE› "
        );
        let continued = prompt(Mode::Change)
            .render_prompt_multiline_indicator()
            .into_owned();
        assert_eq!(
            continued.chars().count(),
            text(&prompt(Mode::Change)).chars().count()
        );
        assert!(continued.ends_with("... "));
    }

    #[test]
    fn the_prompt_counts_down_what_is_in_force() {
        let told = InForce {
            count: 2,
            shortest_ms: Some(299_000),
        };
        let now = Instant::now();
        let after = |mode, seconds| {
            let (prompt, standing) = (prompt(mode, told), InForceSince::told(told, now));
            prompt.renew(standing, now + Duration::from_secs(seconds));
            // `renew` reports a change once.
            assert!(!prompt.renew(standing, now + Duration::from_secs(seconds)));
            prompt.clone().text()
        };
        let who = "dienstplan(production) alice[oncall,lead] ";
        assert_eq!(after(Mode::Change, 0), format!("{who}CHANGE[2, 4m59s]› "));
        assert_eq!(after(Mode::Change, 290), format!("{who}CHANGE[2, 9s]› "));
        assert_eq!(after(Mode::Observe, 290), format!("{who}observe[2, 9s]› "));
        assert_eq!(after(Mode::Observe, 300), format!("{who}observe[2?]› "));
        let endless = prompt(
            Mode::Change,
            InForce {
                count: u64::MAX,
                shortest_ms: Some(u64::MAX),
            },
        );
        assert!(
            endless
                .text()
                .starts_with(&format!("{who}CHANGE[18446744073709551615, "))
        );
        let continued = prompt(Mode::Change, told)
            .render_prompt_multiline_indicator()
            .into_owned();
        assert_eq!(continued.chars().count(), after(Mode::Change, 0).chars().count());
    }

    /// T46.
    #[test]
    fn an_agent_cannot_forge_its_prompt() {
        let who = who("a\u{1b}[2K\rb", "staging\n", "x\u{202e}", &[]);
        let prompt = SessionPrompt {
            who,
            mode: Mode::Observe,
            shown: Arc::default(),
        };
        prompt.renew(
            InForceSince::told(InForce::default(), Instant::now()),
            Instant::now(),
        );
        assert_eq!(
            prompt.text(),
            r"a\u{1b}[2K\u{d}b(staging\u{a}) x\u{202e}[] observe› "
        );
    }
}
