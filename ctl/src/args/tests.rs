//! The command line as typed, and as the texts of the program tell people to type it.

use super::*;
use clap::CommandFactory;

fn parses(line: &str) -> bool {
    Cli::try_parse_from(words(line)).is_ok()
}

/// The words of a command line as a shell splits it, with single quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), String::new(), false);
    for character in line.chars() {
        match character {
            '\'' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(std::mem::take(&mut word)),
            character => word.push(character),
        }
    }
    words.push(word);
    words
}

#[test]
fn the_command_line_is_consistent_in_itself() {
    Cli::command().debug_assert();
}

/// The texts of this program, and the README.
fn texts(dir: &std::path::Path, all: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            texts(&path, all);
        } else {
            all.push(joined(&std::fs::read_to_string(path).unwrap()));
        }
    }
}

/// Texts of the code as they are printed: a literal continued over several lines is one text.
fn joined(code: &str) -> String {
    let mut lines = code.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |joined, line| joined + line.trim_start())
}

/// Every command and flag that an error, a help text or the README tells people to type must exist.
#[test]
fn each_command_that_a_text_names_is_known() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = vec![std::fs::read_to_string(root.join("../README.md")).unwrap()];
    for folder in ["src", "../agent/src"] {
        texts(&root.join(folder), &mut all);
    }
    let (cli, mut found, mut wrong) = (Cli::command(), 0, Vec::new());
    for text in &all {
        // Inside prose the name says what this program does, and is no command line.
        for before in ["`", "\n  ", "\n$ ", "\n"] {
            let begins = format!("{before}{} ", cli.get_name());
            for (at, _) in text.match_indices(&begins) {
                let line = text[at + begins.len()..]
                    .split(['`', '\n', '|', '<', '#'])
                    .next()
                    .unwrap();
                if line.starts_with('{') {
                    continue;
                }
                known(&cli, line);
                if before == "`" && is_whole(&cli, line) && !parses(&filled(line)) {
                    wrong.push(filled(line));
                }
                found += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "cannot be typed: {wrong:#?}");
    assert!(found > 40, "{found} commands are few");
}

/// Whether a line holds more than the name of a command, and so is a command line to type.
fn is_whole(cli: &clap::Command, line: &str) -> bool {
    let mut command = cli;
    for word in line.split_whitespace() {
        match command.find_subcommand(word) {
            Some(below) => command = below,
            None => return !word.starts_with("--"),
        }
    }
    false
}

/// A command line with values in place of its placeholders.
fn filled(line: &str) -> String {
    let value = |word: &str| {
        match word {
            "AT" => "127.0.0.1:7777",
            "ID" => "3",
            "TTL" => "20m",
            "name=@FILE" => "name=@file",
            word if word.starts_with('{') => "t:1",
            word => word,
        }
        .to_owned()
    };
    let words: Vec<String> = line.split_whitespace().map(value).collect();
    format!("debugctl {}", words.join(" "))
}

#[track_caller]
fn known(cli: &clap::Command, line: &str) {
    let mut command = cli;
    let is_flag = |word: &&str| word.starts_with("--");
    for word in line.split_whitespace().take_while(|word| !is_flag(word)) {
        let Some(below) = command.find_subcommand(word) else {
            break;
        };
        command = below;
    }
    assert!(
        command.get_name() != "debugctl" || line.starts_with("--help"),
        "`debugctl {line}`"
    );
    for flag in line.split_whitespace().filter(is_flag) {
        let name = flag.trim_start_matches("--").split('=').next().unwrap();
        let is_known = |arg: &clap::Arg| arg.get_long() == Some(name);
        assert!(
            name == "help" || command.get_arguments().any(is_known),
            "{flag}: `debugctl {line}`"
        );
    }
}

#[test]
fn what_belongs_together_is_demanded_together() {
    for good in [
        "debugctl attach t:1",
        "debugctl attach t:1 --change --reason x",
        "debugctl attach t:1 --keep-going",
        "debugctl revert-all t:1",
        "debugctl revert_all t:1",
        "debugctl eval t:1 1+1 --arg a=1 --arg b=x=y",
        "debugctl eval t:1 - --json",
        "debugctl eval t:1 --file f --change --reason x --persist",
        "debugctl confirm t:1 3 20m --reason x",
        "debugctl leases t:1 --watch",
        "debugctl adopt t:1 3 --reason x",
        "debugctl settle t:1 3 keep --reason x",
        "debugctl settle t:1 3 force --reason x",
        "debugctl audit verify d --vkey k --ca c",
        "debugctl audit verify d --inventory i --ca c",
    ] {
        assert!(parses(good), "{good}");
    }
    for bad in [
        "debugctl attach t:1 --change",
        "debugctl attach t:1 --reason x",
        "debugctl eval t:1",
        "debugctl eval t:1 1 --file f",
        "debugctl eval t:1 1 --persist",
        "debugctl eval t:1 1 --change --reason x --persist --hold",
        "debugctl eval t:1 1 --arg a",
        "debugctl eval t:1 1 --arg 1a=2",
        "debugctl eval t:1 1 --arg-secret a=b",
        "debugctl confirm t:1 3 20m",
        "debugctl revert t:1 x",
        "debugctl leases t:1 --watch --json",
        "debugctl points t:1 --watch",
        "debugctl adopt t:1 3",
        "debugctl adopt t:1 --reason x",
        "debugctl settle t:1 3 keep",
        "debugctl settle t:1 3 --reason x",
        "debugctl settle t:1 3 undo --reason x",
        "debugctl audit verify d --vkey k --inventory i",
    ] {
        assert!(!parses(bad), "{bad}");
    }
}

#[test]
fn what_is_misspelt_or_not_there_is_named_with_what_is_near_it() {
    for (line, named, near) in [
        ("debugctl atach t:1", "'atach'", "'attach'"),
        ("debugctl audit lst d", "'lst'", "'list'"),
        ("debugctl certs ini d", "'ini'", "'init'"),
        ("debugctl eval t:1 1 --jsn", "'--jsn'", "'--json'"),
        ("debugctl audit tail t:1", "'tail'", "--help"),
        ("debugctl eval t:1 1 --request", "'--request'", "--help"),
    ] {
        let error = Cli::try_parse_from(words(line)).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(text.contains(named) && text.contains(near), "{line}: {text}");
    }
}

/// What the error names suffices, also for who gave the first flag alone.
#[test]
fn a_change_without_its_other_flags_is_told_all_of_them() {
    for line in [
        "--change",
        "--reason x",
        "--persist",
        "--hold",
        "--change --persist",
    ] {
        let words = format!("debugctl eval t:1 1 {line}");
        let error = Cli::try_parse_from(words.split_whitespace())
            .unwrap_err()
            .to_string();
        for flag in ["--change", "--reason", "--persist", "--hold"] {
            assert!(error.contains(flag), "{line}: {error}");
        }
    }
}

#[test]
fn the_words_of_a_connection_can_be_typed_again() {
    let words = |line: &[&str]| match Cli::try_parse_from(line).unwrap().command {
        Command::RevertAll(at) => at.words(),
        other => panic!("{other:?}"),
    };
    assert_eq!(words(&["debugctl", "revert-all", "t:1"]), "t:1");
    let odd = [
        "debugctl",
        "revert-all",
        "[::1]:7",
        "--identity",
        "it's mine",
        "--agent-id",
        "spiffe://a/b",
    ];
    assert_eq!(
        words(&odd),
        r"'[::1]:7' --identity 'it'\''s mine' --agent-id spiffe://a/b"
    );
    assert_eq!(
        confirm("t:1 --identity a", 3),
        "debugctl confirm t:1 --identity a 3 10m --reason 'WHY'"
    );
}
