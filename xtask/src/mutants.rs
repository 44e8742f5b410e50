//! `cargo xtask mutants`: changes the code that decides, one place at a time, and tells which changes no test notices.
//!
//! Not part of `cargo xtask test`: it takes hours. Mutants that change nothing that can be seen are listed in
//! `.cargo/mutants.toml`, each with its reason.

use std::path::Path;

use crate::process::{self, cargo, pass_through};

/// The version of the tool.
const VERSION: &str = "27.1.0";

/// Code that decides, and the tests that hold it.
struct Area {
    name: &'static str,
    package: &'static str,
    files: &'static [&'static str],
    /// The runs of tests, the fastest first. What one run notices is not tried with the next.
    runs: &'static [Tests],
}

/// The tests of one run.
enum Tests {
    /// All tests of a package.
    Of(&'static str),
    /// Some of the tests with real processes.
    EndToEnd(&'static [&'static str]),
}

const AREAS: &[Area] = &[
    Area {
        name: "lease",
        package: "debug-lease",
        files: &["agent/lease/src/**"],
        runs: &[
            Tests::Of("debug-lease"),
            Tests::Of("debug-agent"),
            Tests::EndToEnd(&["lease", "undo", "moving", "layers", "overdue"]),
        ],
    },
    Area {
        name: "gate",
        package: "debug-agent",
        files: &["agent/src/gate.rs", "agent/src/gate/**"],
        runs: &[
            Tests::Of("debug-agent"),
            Tests::EndToEnd(&["gate", "planned", "plan"]),
            Tests::EndToEnd(&["eval", "patch", "lease", "undo", "layers", "history", "log"]),
        ],
    },
    Area {
        name: "policy",
        package: "debug-policy",
        files: &["policy/src/**"],
        runs: &[Tests::Of("debug-policy")],
    },
    Area {
        name: "audit",
        package: "debug-audit",
        files: &[
            "audit/src/checkpoint.rs",
            "audit/src/line.rs",
            "audit/src/note.rs",
            "audit/src/read.rs",
            "audit/src/tree.rs",
            "audit/src/verify.rs",
        ],
        runs: &[Tests::Of("debug-audit")],
    },
];

/// Tries the mutants of the named areas, or of all.
///
/// # Errors
/// A mutant survived, or the tool cannot be installed; the survivors are listed.
pub(crate) fn run(names: &[String]) -> Result<(), String> {
    let is_known = |name: &String| AREAS.iter().any(|area| area.name == name);
    if let Some(name) = names.iter().find(|name| !is_known(name)) {
        let known: Vec<&str> = AREAS.iter().map(|area| area.name).collect();
        return Err(format!(
            "no area is named `{name}`; there are {}",
            known.join(", ")
        ));
    }
    let root = process::root()?;
    let folder = process::target(&root)?.join("mutants");
    install(&folder)?;
    let chosen = AREAS
        .iter()
        .filter(|area| names.is_empty() || names.iter().any(|name| name == area.name));
    let survived: Vec<&str> = chosen
        .filter(|area| try_all(area, &root, &folder).is_err())
        .map(|area| area.name)
        .collect();
    if survived.is_empty() {
        return Ok(());
    }
    Err(format!(
        "mutants survived in {}: {}/<area>/mutants.out/missed.txt lists them",
        survived.join(", "),
        folder.display()
    ))
}

/// Installs the tool below `folder`; does nothing if this version is there.
fn install(folder: &Path) -> Result<(), String> {
    let mut command = cargo();
    command.args([
        "install",
        "cargo-mutants",
        "--version",
        VERSION,
        "--locked",
        "--root",
    ]);
    pass_through(command.arg(folder.join("tools")))
}

/// Tries the mutants of an area with one run of tests after the other.
fn try_all(area: &Area, root: &Path, folder: &Path) -> Result<(), String> {
    let mut last = Ok(());
    for (number, tests) in area.runs.iter().enumerate() {
        println!(
            "mutants of {}, run {} of {}",
            area.name,
            number + 1,
            area.runs.len()
        );
        let mut command = std::process::Command::new(folder.join("tools/bin/cargo-mutants"));
        command.arg("mutants").args(["--package", area.package]);
        area.files.iter().for_each(|file| {
            command.args(["--file", file]);
        });
        command.arg("--output").arg(folder.join(area.name));
        command.args(["--no-shuffle", "--colors", "never"]);
        if number > 0 {
            command.arg("--iterate");
        }
        // Without a limit of its own a mutant that loops would run as long as the slowest test times five.
        match tests {
            Tests::Of(package) => command.args(["--timeout", "120", "--test-package", package]),
            Tests::EndToEnd(names) => {
                command.args(["--timeout", "600", "--test-package", "debug-tests", "--"]);
                command.args(names.iter().flat_map(|name| ["--test", name]))
            }
        };
        last = pass_through(command.current_dir(root));
        if last.is_ok() {
            break;
        }
    }
    last
}
