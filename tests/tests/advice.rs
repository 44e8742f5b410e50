//! Advice that names a command or flags can be followed as it is printed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use debug_tests::terminal::{CTRL_D, ENTER, Terminal};
use debug_tests::{Certificates, Ctl, Service, wait};

/// Wider than every line of these tests.
const WIDE: (u16, u16) = (40, 240);

/// Runs `debugctl eval` and returns all that it printed.
#[track_caller]
fn eval(certificates: &Certificates, service: &Service, args: &[&str], code: i32) -> String {
    let at = service.agent().to_string();
    let ended = Ctl::run(
        certificates,
        "alice",
        &[&["eval", &at, "config.db.port = 1"], args].concat(),
    );
    assert_eq!(ended.code, code, "{}{}", ended.out, ended.err);
    ended.out + &ended.err
}

#[test]
fn the_command_that_keeps_a_change_can_be_run() {
    let certificates = Certificates::new();
    let service = Service::start(&certificates);
    let mut command = Ctl::command(&certificates, "alice");
    command
        .args(["attach", &service.agent().to_string()])
        .env("TERM", "xterm-256color");
    let terminal = Terminal::run(&command, WIDE.0, WIDE.1);
    terminal.prompt();
    terminal.submit(":change INC-42 a test");
    terminal.submit("config.db.port = 1; config.db.host = \"other\"");
    terminal.press(CTRL_D);
    terminal.wait_for("[r/k/S]");
    terminal.press(&format!("k{ENTER}"));
    assert_eq!(terminal.exit_code(), 0);
    let lines = terminal.lines();
    let advised: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("  debugctl "))
        .collect();
    assert_eq!(advised.len(), 2, "{lines:?}");
    for (line, id) in advised.into_iter().zip(["1", "2"]) {
        assert!(line.contains("--identity"), "{line}");
        let words: Vec<&str> = line.split(' ').map(|word| word.trim_matches('\'')).collect();
        assert!(words.contains(&id), "{line}");
        // Only the advised words say who asks.
        let mut ctl = Ctl::command(&certificates, "alice");
        ctl.env_remove("DEBUGCTL_IDENTITY").args(words);
        let ended = ctl.output().unwrap();
        assert!(
            ended.status.success(),
            "{}",
            String::from_utf8_lossy(&ended.stderr)
        );
    }
    wait::until_true("both are confirmed", || {
        certificates.records_of("lease.confirmed").len() == 2
    });
}

#[test]
fn a_denied_eval_names_flags_and_no_command_of_the_prompt() {
    let certificates = Certificates::new();
    let service = Service::start(&certificates);
    let flags = "`--change --reason TEXT` with `--persist` or `--hold`";
    for (args, code) in [(vec![], 3), (vec!["--json"], 3), (vec!["--plan"], 0)] {
        let told = eval(&certificates, &service, &args, code);
        assert!(
            told.contains(flags) && !told.contains(":change"),
            "{args:?}: {told}"
        );
    }
    eval(
        &certificates,
        &service,
        &["--change", "--reason", "TEXT", "--persist"],
        0,
    );
}

#[test]
fn the_prompt_names_its_own_command() {
    let certificates = Certificates::new();
    let service = Service::start(&certificates);
    let mut command = Ctl::command(&certificates, "alice");
    command
        .args(["attach", &service.agent().to_string()])
        .env("TERM", "xterm-256color");
    let terminal = Terminal::run(&command, WIDE.0, WIDE.1);
    terminal.prompt();
    let denied = terminal.submit("config.db.port = 1");
    assert!(denied.contains("`:change REASON`"), "{denied}");
}
