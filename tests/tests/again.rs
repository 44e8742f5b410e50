//! An attached operator is told that the process is another one, and leaving leaves. At a terminal.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use debug_tests::terminal::{CTRL_C, CTRL_D, ENTER, Terminal};
use debug_tests::{Certificates, Ctl, Proxy, Service, http};

const QUESTION: &str = "revert now, keep for 60 s more, or stay? [r/k/S]";

fn attach(certificates: &Certificates, address: SocketAddr) -> Terminal {
    let mut command = Ctl::command(certificates, "alice");
    command.args(["attach", &address.to_string()]);
    command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
    let terminal = Terminal::run(&command, 40, 200);
    terminal.prompt();
    terminal
}

#[track_caller]
fn shows(terminal: &Terminal, text: &str) {
    let screen = terminal.lines().join("\n");
    assert!(screen.contains(text), "`{text}` is not in:\n{screen}");
}

/// The service crashes and is started again at the same address.
#[test]
fn an_operator_is_told_that_the_process_is_another_one() {
    let certificates = Certificates::new();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let config = std::fs::read_to_string(certificates.agent_config()).unwrap();
    assert!(config.contains("127.0.0.1:0"), "{config}");
    std::fs::write(
        certificates.agent_config(),
        config.replace("127.0.0.1:0", &format!("127.0.0.1:{port}")),
    )
    .unwrap();
    let mut service = Service::start(&certificates);
    let terminal = attach(&certificates, service.agent());
    terminal.submit(":change INC-42 a test");
    terminal.submit("let v = 5; config.db.port = 1");
    service.kill();
    terminal.wait_for("Attaching again");
    let before = service.pid();
    let service = Service::start(&certificates);
    let (now, told) = (
        service.pid(),
        "the service was started anew meanwhile (its process is ",
    );
    terminal.wait_for(told);
    terminal.prompt();
    shows(
        &terminal,
        &format!("{told}{now}, before it was {before}): what you had changed in it is gone with it"),
    );
    terminal.press(CTRL_D);
    assert_eq!(terminal.exit_code(), 0);
}

/// The stop of an agent reverts at once, so that no grace is promised; all other ends of a session leave one.
#[test]
fn an_operator_is_told_what_a_stop_makes_of_changes() {
    let certificates = Certificates::new();
    let mut service = Service::start(&certificates);
    let terminal = attach(&certificates, service.agent());
    terminal.submit(":change INC-42 a test");
    terminal.submit("config.db.port = 1");
    terminal.submit("confirm(1, \"20m\")");
    service.terminate();
    terminal.wait_for("Ctrl-C gives up");
    shows(
        &terminal,
        "the agent stops; its stop reverts every change at once, also the confirmed ones.",
    );
    terminal.press(CTRL_C);
    assert_eq!(terminal.exit_code(), 5);
    shows(&terminal, "help: its stop reverts every change at once");
    let screen = terminal.lines().join("\n");
    assert!(!screen.contains("60 s"), "{screen}");
    for kind in ["lease.confirmed", "lease.shutdown"] {
        assert_eq!(certificates.records_of(kind).len(), 1, "{kind}");
    }
}

/// The connection breaks, but the process does not.
#[test]
fn an_operator_is_told_that_the_process_is_the_same_one() {
    let certificates = Certificates::new();
    let service = Service::start(&certificates);
    let proxy = Proxy::start(service.agent());
    let terminal = attach(&certificates, proxy.address);
    proxy.break_after(1);
    terminal.submit("20 + 1");
    terminal.wait_for("a new session of the same process: variables, functions and the mode");
    let screen = terminal.lines().join("\n");
    assert!(!screen.contains("started anew"), "{screen}");
    terminal.press(CTRL_D);
    terminal.exit_code();
}

/// One of two changes cannot be reverted: that is reported, the other is reverted, and the operator who wanted to leave has left.
#[test]
fn who_answers_that_all_is_to_be_reverted_has_left() {
    let certificates = Certificates::for_service("handles");
    let mut command = Command::new(env!("CARGO_BIN_EXE_handles"));
    command
        .env_clear()
        .env("DEBUG_AGENT", "1")
        .env("DEBUG_AGENT_CONFIG", certificates.agent_config());
    let service = Service::spawn(command);
    let says = |path: &str| http::get(service.http, path).unwrap().body;
    let terminal = attach(&certificates, service.agent());
    terminal.submit(":change INC-42 a test");
    terminal.submit("atomic = 2");
    terminal.submit("limits.mail.rate = 2");
    says("/refuse");
    terminal.press(CTRL_D);
    terminal.wait_for(QUESTION);
    terminal.press(&format!("r{ENTER}"));
    assert_eq!(terminal.exit_code(), 1);
    terminal.wait_for("error: lease 2 could not be reverted");
    shows(&terminal, "the disk is full");
    assert!(says("/states").contains("atomic=1;"), "{}", says("/states"));
    says("/heal");
}
