//! Advice can be typed: code in texts for operators is code of the script language.

use std::path::Path;

use rhai::Engine;

use crate::host::MODULE;
use debug_script::engine;
use debug_script::words::WORDS;
use debug_wire::table::FUNCTIONS;

/// An engine that parses everything that an eval may contain.
fn parser() -> Engine {
    let mut engine = engine::for_eval();
    engine.register_global_module(MODULE.clone());
    engine
}

/// Beginnings of code in other languages (Rust, configuration, shell), which is for other readers.
const FOR_OTHERS: [&str; 9] = [
    "#[",
    ".with_filter(",
    "agent.",
    "panic = ",
    "version = ",
    "key = ",
    "allow = ",
    "x1 = [",
    "(umask ",
];

/// All texts in the code of a folder, without tests and comments, as operators see them.
fn texts(folder: &Path, all: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            texts(&path, all);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            let source = std::fs::read_to_string(&path).unwrap();
            let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let code: Vec<&str> = code
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect();
            all.extend(
                literals(&code.join("\n"))
                    .into_iter()
                    .map(|text| (name.clone(), text)),
            );
        }
    }
}

/// The texts between quotes in Rust code.
fn literals(code: &str) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), code);
    while let Some(at) = rest.find(['"', '\'']) {
        let before = &rest[..at];
        let behind = &rest[at + 1..];
        if rest[at..].starts_with('\'') {
            // A character literal may be a quote; a lifetime has no closing one.
            let escaped = behind.starts_with('\\');
            let width = behind
                .chars()
                .take(if escaped { 2 } else { 1 })
                .map(char::len_utf8)
                .sum::<usize>();
            rest = if behind[width..].starts_with('\'') {
                &behind[width + 1..]
            } else {
                behind
            };
            continue;
        }
        let hashes = before.len() - before.trim_end_matches('#').len();
        if before.trim_end_matches('#').ends_with('r') {
            let (text, after) = behind.split_once(&format!("\"{}", "#".repeat(hashes))).unwrap();
            found.push(text.to_owned());
            rest = after;
            continue;
        }
        let mut end = behind.len();
        let mut is_escaped = false;
        for (at, letter) in behind.char_indices() {
            if letter == '"' && !is_escaped {
                end = at;
                break;
            }
            is_escaped = letter == '\\' && !is_escaped;
        }
        found.push(unescaped(&behind[..end]));
        rest = behind.get(end + 1..).unwrap_or_default();
    }
    found
}

fn unescaped(text: &str) -> String {
    let mut lines = text.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let joined = lines.fold(first, |joined, line| joined + line.trim_start());
    joined
        .replace("\\\"", "\"")
        .replace("\\n", "\n")
        .replace("\\\\", "\\")
}

/// A text with a word in place of each placeholder: `{}`, `{0}`, `{name}`, `{ids:?}`.
fn filled(text: &str) -> String {
    let (mut filled, mut rest) = (String::new(), text);
    while let Some(letter) = rest.chars().next() {
        let behind = &rest[letter.len_utf8()..];
        let placeholder = behind.split_once('}').filter(|(inside, _)| {
            letter == '{'
                && inside
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_:?".contains(c))
        });
        let is_doubled = "{}".contains(letter) && behind.starts_with(letter);
        rest = match placeholder {
            _ if is_doubled => &behind[1..],
            Some((_, behind)) => behind,
            None => behind,
        };
        if placeholder.is_some() && !is_doubled {
            filled.push_str("x1");
        } else {
            filled.push(letter);
        }
    }
    filled
}

/// The spans between backticks that are more than a name.
fn code_in(text: &str) -> impl Iterator<Item = String> {
    let parts: Vec<&str> = text.split('`').collect();
    // A backtick without its partner begins no span.
    let pairs = (parts.len() - 1) / 2;
    let spans: Vec<String> = parts
        .iter()
        .skip(1)
        .step_by(2)
        .take(pairs)
        .map(|part| filled(part))
        .collect();
    let is_code = |span: &String| span.contains(['(', '|']) || span.contains(" = ") || span.starts_with("#{");
    let is_other = |span: &String| {
        span.starts_with("debugctl")
            || FOR_OTHERS.iter().any(|begins| span.starts_with(begins))
            || span.starts_with("| ")
    };
    spans
        .into_iter()
        .filter(move |span| is_code(span) && !is_other(span))
}

#[test]
fn code_in_every_text_that_an_operator_reads_parses() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    for folder in [
        "src",
        "base/src",
        "config/src",
        "http/src",
        "lease/src",
        "net/src",
        "points/src",
        "script/src",
        "state/src",
        "../ctl/src",
        "../wire/src",
        "../policy/src",
    ] {
        texts(&root.join(folder), &mut all);
    }
    let (engine, mut seen, mut wrong) = (parser(), 0, Vec::new());
    for (file, text) in &all {
        for code in code_in(text) {
            // This text names a function with an arbitrary argument.
            let code = code.replace("Err(..)", "Err(\"..\")");
            if engine.compile(&code).is_err() {
                wrong.push(format!("{file}: `{code}` in: {text}"));
            }
            seen += 1;
        }
    }
    assert!(wrong.is_empty(), "cannot be typed:\n{}", wrong.join("\n"));
    assert!(seen > 80, "{seen} are few");
}

#[test]
fn usages_and_examples_of_the_help_parse() {
    let engine = parser();
    let usages = WORDS
        .iter()
        .map(|word| word.usage)
        .filter(|usage| *usage != "throw x");
    for code in usages.chain(FUNCTIONS.iter().map(|function| function.example)) {
        assert!(engine.compile(code).is_ok(), "{code}");
    }
}
