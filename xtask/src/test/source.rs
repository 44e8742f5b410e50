//! Words that our sources must not contain, and features that our dependencies must not enable.

use std::path::{Path, PathBuf};
use std::{env, fs};

use super::Checkout;
use crate::process::{cargo, finish, shown};

/// A forbidden word.
struct ForbiddenWord {
    /// The whole word, outside comments.
    word: &'static str,
    /// Why it is forbidden.
    why: &'static str,
}

/// The forbidden words. `xtask` and `tests` may contain them, since they have to name them.
const WORDS: &[ForbiddenWord] = &[
    ForbiddenWord {
        word: "unsafe",
        why: "nothing we do needs it, and a service that forbids it can use all of the agent",
    },
    ForbiddenWord {
        word: "allow_unknown_revocation_status",
        why: "a certificate that no CRL speaks about would pass as not revoked",
    },
    ForbiddenWord {
        word: "tls12",
        why: "TLS 1.3 only: 1.2 would bring renegotiation, resumption and weaker suites",
    },
];

/// A feature of a dependency that must be off in a build of our workspace.
struct Feature {
    package: &'static str,
    feature: &'static str,
    why: &'static str,
}

const FEATURES: &[Feature] = &[
    Feature {
        package: "serde_json",
        feature: "preserve_order",
        why: "it would change the order of every map in a service that links the agent",
    },
    Feature {
        package: "serde_json",
        feature: "arbitrary_precision",
        why: "it would change how a service that links the agent reads and writes numbers",
    },
    Feature {
        package: "rustls",
        feature: "tls12",
        why: "as for the word",
    },
];

/// Our crates to check.
const CRATES: &[&str] = &[
    "agent",
    "agent/base",
    "agent/config",
    "agent/http",
    "agent/lease",
    "agent/macros",
    "agent/net",
    "agent/points",
    "agent/script",
    "agent/state",
    "audit",
    "bench",
    "certs",
    "ctl",
    "demo",
    "policy",
    "wire",
];
/// The limit on a source file, in bytes; longer files are skipped.
const MAX_SOURCE: u64 = 1024 * 1024;
/// Folders without sources of ours.
const SKIPPED: &[&str] = &["target", ".git"];

/// Searches our crates for the words, and all files for paths of this machine.
///
/// # Errors
/// Names each occurrence: file, line and reason.
pub(super) fn check_words(checkout: &Checkout) -> Result<(), String> {
    let mut found = Vec::new();
    let mut count = 0;
    for name in CRATES {
        let folder = checkout.root.join(name);
        let mut files = files_below(&folder.join("src"))?;
        files.push(folder.join("Cargo.toml"));
        for file in files
            .iter()
            .filter(|f| f.extension().is_some_and(|e| e == "rs" || e == "toml"))
        {
            count += 1;
            let is_rust = file.extension().is_some_and(|e| e == "rs");
            let words = forbidden_words(&read(file)?, if is_rust { rust_code } else { toml_code });
            found.extend(words.into_iter().map(|told| at(checkout, file, &told)));
        }
    }
    for file in files_below(&checkout.root)? {
        found.extend(
            machine_paths(checkout, &read(&file)?)
                .into_iter()
                .map(|told| at(checkout, &file, &told)),
        );
    }
    println!("{count} files of ours, {} words", WORDS.len());
    // A check of no files has shown nothing.
    if count < CRATES.len() {
        found.push(format!(
            "expected at least a source in each of {} crates, saw {count} files",
            CRATES.len()
        ));
    }
    if found.is_empty() {
        Ok(())
    } else {
        Err(found.join("\n"))
    }
}

/// Asks cargo which features of our dependencies are on, for all targets and all dependencies.
///
/// # Errors
/// Names each feature that is on, and why it must be off.
pub(super) fn check_features(checkout: &Checkout) -> Result<(), String> {
    let mut found = Vec::new();
    for Feature {
        package,
        feature,
        why,
    } in FEATURES
    {
        let mut command = cargo();
        command.args([
            "tree",
            "--workspace",
            "--locked",
            "--target",
            "all",
            "-e",
            "features",
            "--prefix",
            "none",
        ]);
        let said = finish(
            command.args(["-i", package]).current_dir(&checkout.root),
            std::time::Duration::MAX,
        )?;
        // If nothing uses the package, cargo exits with another code: then the table is out of date.
        if said.code != Some(0) {
            return Err(format!("{}: {}", shown(&command), said.all()));
        }
        println!("{package}: {feature} is off");
        if has_feature(&said.out, package, feature) {
            found.push(format!("{package} has the feature {feature} on: {why}"));
        }
    }
    if found.is_empty() {
        Ok(())
    } else {
        Err(found.join("\n"))
    }
}

fn has_feature(tree: &str, package: &str, feature: &str) -> bool {
    let line = format!("{package} feature \"{feature}\"");
    tree.lines().any(|l| l.trim_end_matches(" (*)") == line)
}

fn at(checkout: &Checkout, file: &Path, told: &str) -> String {
    format!(
        "{}: {told}",
        file.strip_prefix(&checkout.root).unwrap_or(file).display()
    )
}

fn forbidden_words(source: &str, code_of: fn(&str) -> String) -> Vec<String> {
    let mut found = Vec::new();
    for (index, line) in source.lines().enumerate() {
        let code = code_of(line);
        for ForbiddenWord { word, why } in WORDS.iter().filter(|w| has_word(&code, w.word)) {
            found.push(format!("line {}: `{word}`: {why}", index + 1));
        }
    }
    found
}

/// The line without strings and comments. This is a guess, which multi-line strings can fool; the compiler itself forbids the
/// first of the words, and cannot be fooled.
pub(super) fn rust_code(line: &str) -> String {
    let line = line.replace("\\\"", "");
    let outside: Vec<_> = line.split('"').step_by(2).collect();
    let code = outside.join(" ");
    code.split_once("//")
        .map_or(code.as_str(), |(code, _)| code)
        .to_owned()
}

/// The line without its comment.
fn toml_code(line: &str) -> String {
    line.split_once("# ").map_or(line, |(code, _)| code).to_owned()
}

pub(super) fn has_word(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.split(|c| !is_part(c)).any(|w| w == word)
}

/// Occurrences of paths that only exist on this machine: those of the workspace and of the home folder.
fn machine_paths(checkout: &Checkout, text: &str) -> Vec<String> {
    let home = env::var_os("HOME")
        .map(PathBuf::from)
        .filter(|home| home.components().count() > 1);
    let paths = [Some(checkout.root.clone()), home].into_iter().flatten();
    let mut found = Vec::new();
    for path in paths.map(|path| format!("{}/", path.display())) {
        for (index, _) in text.lines().enumerate().filter(|(_, line)| has_path(line, &path)) {
            found.push(format!("line {}: a path of this machine", index + 1));
        }
    }
    found
}

/// Whether a line contains the path from its root, and not as the end of a longer one such as `spiffe://a/root/`.
fn has_path(line: &str, path: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || "._-".contains(c);
    line.match_indices(path)
        .any(|(index, _)| !line[..index].ends_with(inside))
}

/// All our files below a folder.
pub(super) fn files_below(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let told = |e: std::io::Error| format!("cannot read the folder {}: {e}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(told)? {
        let entry = entry.map_err(told)?;
        let kind = entry.file_type().map_err(told)?;
        if kind.is_dir() && !SKIPPED.iter().any(|name| entry.file_name() == *name) {
            files.extend(files_below(&entry.path())?);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

pub(super) fn read(file: &Path) -> Result<String, String> {
    let told = |e: std::io::Error| format!("cannot read {}: {e}", file.display());
    if MAX_SOURCE < fs::metadata(file).map_err(told)?.len() {
        return Ok(String::new());
    }
    Ok(String::from_utf8_lossy(&fs::read(file).map_err(told)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_word_is_found_with_its_line_and_reason() {
        let found = forbidden_words("fn a() {}\nlet b = unsafe { c(\"d\") };\n", rust_code);
        let why = "nothing we do needs it, and a service that forbids it can use all of the agent";
        assert_eq!(found, [format!("line 2: `unsafe`: {why}")]);
        assert_eq!(
            forbidden_words("    .allow_unknown_revocation_status()\n", rust_code).len(),
            1
        );
        assert_eq!(forbidden_words(r#"a("b\"", unsafe { c })"#, rust_code).len(), 1);
        assert_eq!(
            forbidden_words(r#"rustls = { features = ["std", "tls12"] }"#, toml_code).len(),
            1
        );
    }

    #[test]
    fn parts_of_words_strings_and_comments_are_no_words() {
        for line in [
            "#![forbid(unsafe_code)]",
            "/// Nothing unsafe.",
            "let a = 1; // unsafe",
            r#"a("an `unsafe fn`")"#,
        ] {
            assert!(forbidden_words(line, rust_code).is_empty(), "{line}");
        }
        assert!(forbidden_words("a = 1   # tls12 is off", toml_code).is_empty());
    }

    #[test]
    fn a_feature_counts_whether_or_not_cargo_shows_it_for_the_first_time() {
        let tree =
            "serde_json v1.0.1\nserde_json feature \"std\"\nserde_json feature \"preserve_order\" (*)\n";
        assert!(has_feature(tree, "serde_json", "preserve_order"));
        assert!(has_feature(tree, "serde_json", "std"));
        assert!(!has_feature(tree, "serde_json", "arbitrary_precision"));
    }

    #[test]
    fn a_path_of_this_machine_is_found() {
        let checkout = Checkout {
            root: "/somewhere/else".into(),
            target: PathBuf::new(),
            long: false,
        };
        assert_eq!(
            machine_paths(&checkout, "a\nsee /somewhere/else/agent\n"),
            ["line 2: a path of this machine"]
        );
        assert_eq!(machine_paths(&checkout, "file:///somewhere/else/agent").len(), 1);
        assert!(machine_paths(&checkout, "/somewhere/elsewhere").is_empty());
        assert!(machine_paths(&checkout, "spiffe://a/somewhere/else/x").is_empty());
    }
}
