//! The sessions in the README are what the programs print.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use std::io::Write as _;
use std::process::Stdio;

use debug_tests::{Certificates, Ctl, Service};

/// The blocks of the section `The scenario`: the session, the request, the viewer and the officer, the changed byte.
fn blocks() -> Vec<&'static str> {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("\n## The scenario\n").unwrap();
    let (section, _) = rest.split_once("\n## ").unwrap();
    section
        .split("```")
        .skip(1)
        .step_by(2)
        .map(|block| block.strip_prefix("text\n").unwrap())
        .collect()
}

/// A line without the values of numbers, durations and ids, and without column widths.
fn shape(line: &str) -> String {
    let mut words = Vec::new();
    for word in line.split_whitespace() {
        let mut shaped = String::new();
        let mut run = String::new();
        for c in word.chars().chain(['\0']) {
            if c.is_ascii_alphanumeric() {
                run.push(c);
                continue;
            }
            shaped += if run.contains(|c: char| c.is_ascii_digit()) {
                "#"
            } else {
                &run
            };
            run.clear();
            if c != '\0' {
                shaped.push(c);
            }
        }
        words.push(shaped);
    }
    words.join(" ")
}

fn shapes(text: &str) -> Vec<String> {
    text.lines().map(shape).collect()
}

/// The lines typed at the prompt, and the output.
fn session(block: &str) -> (String, String) {
    let (mut typed, mut printed) = (String::new(), String::new());
    for line in block.lines() {
        let prompt = line
            .split_once("› ")
            .filter(|(before, _)| before.starts_with("dienstplan("));
        let more = line
            .trim_start()
            .strip_prefix("... ")
            .filter(|_| line.starts_with(' '));
        match (prompt, more) {
            (Some((_, code)), _) | (None, Some(code)) => typed += &format!("{code}\n"),
            (None, None) => printed += &format!("{line}\n"),
        }
    }
    (typed, printed)
}

/// Runs `debugctl` in the folder that contains the working set as `set`.
fn debugctl(certificates: &Certificates, operator: &str, args: &[&str], input: &str) -> Ctl {
    let mut command = Ctl::command(certificates, operator);
    command.args(args).current_dir(certificates.scratch());
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    Ctl::from(child.wait_with_output().unwrap())
}

#[test]
fn the_scenario_prints_what_the_readme_says() {
    let certificates = Certificates::new();
    let mut service = Service::start(&certificates);
    service.health();
    let target = service.agent().to_string();
    let blocks = blocks();
    let [console, request, commands, tampered] = blocks[..] else {
        panic!("{blocks:?}")
    };

    let (typed, printed) = session(console);
    let ctl = debugctl(&certificates, "alice", &["attach", &target], &typed);
    assert_eq!((ctl.code, shapes(&ctl.out)), (0, shapes(&printed)), "{}", ctl.err);

    // The session is lost, and the change stays for another minute.
    let answer = service.health();
    let (head, body) = request
        .trim_end()
        .split_once('\n')
        .unwrap()
        .1
        .split_once('\n')
        .unwrap();
    assert!(
        head.starts_with(&format!("HTTP/1.1 {} ", answer.status)),
        "{head}"
    );
    assert_eq!(body, answer.body);

    let (viewer, officer) = commands.split_once("$ debugctl audit").unwrap();
    let (command, printed) = viewer.split_once('\n').unwrap();
    assert_eq!(
        command,
        "$ debugctl eval 127.0.0.1:7777 --change --reason 'INC-42' --persist 'config.db.port = 1'"
    );
    let args = [
        "eval",
        &target,
        "--change",
        "--reason",
        "INC-42",
        "--persist",
        "config.db.port = 1",
    ];
    let ctl = debugctl(&certificates, "vera", &args, "");
    assert_eq!((ctl.code, shapes(&(ctl.out + &ctl.err))), (3, shapes(printed)));

    service.terminate();
    let (command, printed) = officer.split_once('\n').unwrap();
    assert_eq!(command, " verify set/agent/audit --inventory set/inventory.json");
    let args = [
        "audit",
        "verify",
        "set/agent/audit",
        "--inventory",
        "set/inventory.json",
    ];
    let ctl = debugctl(&certificates, "alice", &args, "");
    assert_eq!((ctl.code, shapes(&(ctl.out + &ctl.err))), (0, shapes(printed)));

    let file = certificates.audit().join("records-0.jsonl");
    let text = certificates.records();
    std::fs::write(&file, text.replacen("INC-42", "INC-43", 1)).unwrap();
    let ctl = debugctl(&certificates, "alice", &args, "");
    assert_eq!((ctl.code, shapes(&(ctl.out + &ctl.err))), (6, shapes(tampered)));
}

#[test]
fn shapes_tell_words_apart_and_not_numbers() {
    assert_eq!(shape("lease 1: reverts  in 4m59s"), "lease #: reverts in #");
    assert_eq!(shape("‹secret 3ded7a7b…, `a/1`›"), "‹secret #…, `a/#`›");
    assert_ne!(shape("record 1 was altered"), shape("record 1 is missing"));
}
