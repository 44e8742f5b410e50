//! `cargo xtask mutants`: changes the code that decides, one place at a time, and tells which changes no test notices.
//!
//! Not part of `cargo xtask test`: it takes hours. Mutants that change nothing that can be seen are listed in
//! `.cargo/mutants.toml`, each with its reason.

use std::path::Path;

use crate::process::{self, cargo, pass_through};

/// The version of the tool.
const VERSION: &str = "27.1.0";

/// Code that decides, and the package with its tests.
struct Area {
    name: &'static str,
    package: &'static str,
    files: &'static [&'static str],
    /// The end-to-end tests that hold it, if its promises are kept there.
    end_to_end: &'static [&'static str],
}

const AREAS: &[Area] = &[
    Area {
        name: "lease",
        package: "debug-lease",
        files: &["agent/lease/src/**"],
        end_to_end: &[],
    },
    Area {
        name: "gate",
        package: "debug-agent",
        files: &["agent/src/gate.rs", "agent/src/gate/**"],
        end_to_end: &["gate", "eval", "patch", "lease", "plan", "undo"],
    },
    Area {
        name: "policy",
        package: "debug-policy",
        files: &["policy/src/**"],
        end_to_end: &[],
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
        end_to_end: &[],
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

fn try_all(area: &Area, root: &Path, folder: &Path) -> Result<(), String> {
    println!("mutants of {}", area.name);
    let mut command = std::process::Command::new(folder.join("tools/bin/cargo-mutants"));
    command.arg("mutants").args(["--package", area.package]);
    area.files.iter().for_each(|file| {
        command.args(["--file", file]);
    });
    command.arg("--output").arg(folder.join(area.name));
    // Without a limit of its own a mutant that loops would run as long as the slowest test times five.
    command.args(["--no-shuffle", "--colors", "never"]);
    if area.end_to_end.is_empty() {
        command.args(["--timeout", "120"]);
    } else {
        command.args(["--timeout", "600", "--test-package", "debug-tests", "--"]);
        area.end_to_end.iter().for_each(|test| {
            command.args(["--test", test]);
        });
    }
    pass_through(command.current_dir(root))
}
