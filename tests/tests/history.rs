//! The history of the prompt: what is brought back and suggested, and what is kept where.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use debug_tests::process::SLACK_TOKEN;
use debug_tests::terminal::{CTRL_C, CTRL_D, Look, Terminal, UP};
use debug_tests::{Certificates, Ctl, Service, wait};

/// Wider than every line of these tests.
const WIDE: (u16, u16) = (40, 160);
const OBSERVE: &str = "dienstplan(development) alice[oncall] observe›";
const CHANGE: &str = "dienstplan(development) alice[oncall] CHANGE›";

struct Set {
    certificates: Certificates,
    service: Service,
}

impl Set {
    fn new() -> Self {
        let certificates = Certificates::new();
        let service = Service::start(&certificates);
        Self {
            certificates,
            service,
        }
    }

    /// Attaches `alice`, in colours, and waits for her prompt.
    fn attach(&self) -> Terminal {
        self.attach_with("")
    }

    /// Like [`Set::attach`], with `NO_COLOR` of this value.
    fn attach_with(&self, no_color: &str) -> Terminal {
        let mut command = Ctl::command(&self.certificates, "alice");
        command.args(["attach", &self.service.agent().to_string()]);
        command.env("TERM", "xterm-256color").env("NO_COLOR", no_color);
        let terminal = Terminal::run(&command, WIDE.0, WIDE.1);
        assert_eq!(terminal.prompt(), OBSERVE);
        terminal
    }

    /// The history file of `alice`.
    fn file(&self) -> String {
        std::fs::read_to_string(self.certificates.folder().join("state/debugctl/history")).unwrap()
    }
}

#[track_caller]
fn shows(screen: &str, text: &str) {
    assert!(screen.contains(text), "`{text}` is not in:\n{screen}");
}

/// Leaves without changes in force.
#[track_caller]
fn leave(terminal: &Terminal) {
    terminal.press(CTRL_D);
    assert_eq!(terminal.exit_code(), 0);
}

#[test]
fn the_history_brings_back_lines_also_of_the_last_session() {
    let set = Set::new();
    let terminal = set.attach();
    terminal.submit("20 + 1");
    terminal.submit("20 + 2");
    terminal.press(UP);
    terminal.wait_for(&format!("{OBSERVE} 20 + 2"));
    terminal.press(UP);
    wait::until_true("the line before it is there", || {
        terminal
            .lines()
            .last()
            .is_some_and(|line| *line == format!("{OBSERVE} 20 + 1"))
    });
    shows(&terminal.submit_rest("00"), "20 + 100\n120");
    leave(&terminal);

    let terminal = set.attach();
    terminal.press(UP);
    terminal.wait_for(&format!("{OBSERVE} 20 + 100"));
    shows(&terminal.submit_rest(""), "\n120");
}

/// A refused line, one of unknown outcome and one that no agent has seen leave nothing in the file, and are neither brought back
/// nor suggested.
#[test]
fn a_line_that_was_not_recorded_is_not_in_the_history() {
    const SECRET: &str = "xoxb-123456789012-abcdefghijkl";
    let set = Set::new();
    let terminal = set.attach();
    terminal.submit("20 + 1");
    shows(
        &terminal.submit(&format!("let s = \"{SECRET}\"")),
        "it was neither run nor recorded",
    );
    shows(
        &terminal.submit(&format!(":change for {SLACK_TOKEN}")),
        "it was neither run nor recorded",
    );
    shows(
        &terminal.submit(&format!(":chnage {SECRET}")),
        "error: there is no command `:chnage`",
    );
    shows(
        &terminal.submit(&format!(" \"{SECRET}\"")),
        "it was neither run nor recorded",
    );
    terminal.press(UP);
    wait::until_true("the line before the refused ones is there", || {
        terminal
            .lines()
            .last()
            .is_some_and(|line| *line == format!("{OBSERVE} 20 + 1"))
    });
    terminal.press_below(CTRL_C);
    // Errors of the code are recorded, and can be mended.
    shows(&terminal.submit("config.db.hots"), "error: no such path");
    let file = set.file();
    assert_eq!(file, "20 + 1\nconfig.db.hots\n");
    leave(&terminal);
    assert_eq!(set.file(), file);
}

#[test]
fn a_suggestion_looks_unlike_what_is_typed() {
    let set = Set::new();
    let terminal = set.attach();
    terminal.submit("config.db.host");
    terminal.submit(":change INC-42 a test");
    terminal.press("config");
    terminal.wait_for(&format!("{CHANGE} config.db.host"));
    let typed = CHANGE.chars().count() + 1;
    assert_eq!(
        terminal.look(typed),
        Look {
            coloured: false,
            dim: false
        }
    );
    assert_eq!(
        terminal.look(typed + "config".len()),
        Look {
            coloured: false,
            dim: true
        }
    );
    terminal.press_below(CTRL_C);
    leave(&terminal);
}

/// Without colours a suggestion could not be told from what is typed.
#[test]
fn without_colours_nothing_is_suggested() {
    let set = Set::new();
    let terminal = set.attach_with("1");
    terminal.submit("[20, 1]");
    let before = terminal.bytes().len();
    terminal.press("[20");
    wait::until_true("this is shown", || {
        terminal
            .lines()
            .last()
            .is_some_and(|line| line.starts_with(&format!("{OBSERVE} [20")))
    });
    shows(&terminal.submit_rest(", 2]"), "[20, 2]");
    let drawn = String::from_utf8_lossy(&terminal.bytes()[before..]).into_owned();
    assert!(!drawn.contains(", 1]"), "{drawn:?}");
    leave(&terminal);
}
