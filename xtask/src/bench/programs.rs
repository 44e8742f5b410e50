//! The programs of a row: built for release and run; their output is parsed as a number.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::process::{self, cargo, finish, in_path, pass_through, shown};

/// The limit on a single run: ten times what a run should take.
const RUN_LIMIT: Duration = Duration::from_secs(100);

/// The numbers of calls in the two runs that are subtracted: far enough apart that start-up, which varies a little between runs,
/// does not change the first decimal.
const CALLS: [u32; 2] = [10_000, 110_000];

/// The paths of the programs.
#[derive(Default)]
pub(super) struct Programs {
    executables: BTreeMap<String, PathBuf>,
    /// The files of both sides of a row: on the disk of the build, as the system's temporary folder may be in memory, where a
    /// sync costs nothing.
    scratch: PathBuf,
}

impl Programs {
    /// Builds all programs.
    ///
    /// # Errors
    /// They do not build.
    pub(super) fn build() -> Result<Self, String> {
        let root = process::root()?;
        let scratch = process::target(&root)?.join("bench");
        fs::create_dir_all(&scratch).map_err(|e| format!("cannot make {}: {e}", scratch.display()))?;
        let services = [
            "build",
            "--release",
            "--locked",
            "-p",
            "dienstplan",
            "-p",
            "debugctl",
        ];
        pass_through(cargo().args(services).current_dir(&root))?;
        Ok(Self {
            executables: build_benches(&root)?,
            scratch,
        })
    }

    /// The number on the last line of a program's output.
    pub(super) fn number(&self, name: &str) -> Result<f64, String> {
        number_of(Command::new(self.executable(name)?).env("TMPDIR", &self.scratch))
    }

    /// The instructions of one call, counted by valgrind: the difference of two runs, divided by the difference of their calls.
    pub(super) fn instructions(&self, name: &str) -> Result<f64, String> {
        if !in_path("valgrind") {
            return Err(
                "instructions are counted by valgrind, which is not in the path; install the package valgrind, \
                 or name the other rows"
                    .into(),
            );
        }
        let [few, many] = CALLS;
        let executable = self.executable(name)?;
        let difference = instructions_of(executable, many)? - instructions_of(executable, few)?;
        // Start-ups differ by up to some thousand instructions between runs, which are no part of a call.
        Ok((difference / f64::from(many - few) * 10.0).round() / 10.0)
    }

    fn executable(&self, name: &str) -> Result<&Path, String> {
        let path = self.executables.get(name).map(PathBuf::as_path);
        path.ok_or_else(|| format!("expected cargo to build the bench `{name}`, saw no such program"))
    }
}

fn build_benches(root: &Path) -> Result<BTreeMap<String, PathBuf>, String> {
    let mut command = cargo();
    command.args(["bench", "--no-run", "--locked", "-p", "debug-bench"]);
    command
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(root)
        .stderr(Stdio::inherit());
    println!("$ {}", shown(&command));
    let output = command
        .output()
        .map_err(|e| format!("cannot start {}: {e}", shown(&command)))?;
    if !output.status.success() {
        return Err(format!("{} ended with {}", shown(&command), output.status));
    }
    Ok(executables(&String::from_utf8_lossy(&output.stdout)))
}

/// The benches among the artifacts that cargo reports, one JSON object a line.
fn executables(messages: &str) -> BTreeMap<String, PathBuf> {
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let bench = |message: Value| {
        let is_bench = message["target"]["kind"][0] == "bench";
        let name = message["target"]["name"].as_str().filter(|_| is_bench)?;
        Some((name.to_owned(), message["executable"].as_str()?.into()))
    };
    messages.filter_map(bench).collect()
}

fn instructions_of(executable: &Path, calls: u32) -> Result<f64, String> {
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(executable);
    let said = finish(command.arg(calls.to_string()), RUN_LIMIT)?;
    let count = collected(&said.err).filter(|_| said.code == Some(0));
    count.ok_or_else(|| format!("expected valgrind to tell what it collected, saw: {}", said.all()))
}

/// `==4711== Collected : 123456`
fn collected(said: &str) -> Option<f64> {
    let mut lines = said.lines().filter_map(|line| line.split_once("Collected :"));
    lines.next()?.1.trim().parse().ok()
}

/// Runs a program and parses the last line of its output as the number.
fn number_of(command: &mut Command) -> Result<f64, String> {
    let said = finish(command, RUN_LIMIT)?;
    let number = said
        .out
        .lines()
        .last()
        .and_then(|line| line.trim().parse::<f64>().ok());
    let expected = || {
        format!(
            "expected {} to end with a number, saw: {}",
            shown(command),
            said.all()
        )
    };
    number
        .filter(|n| said.code == Some(0) && n.is_finite())
        .ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_gives_the_number_of_its_last_line() {
        let sh = |script: &str| number_of(Command::new("sh").args(["-c", script]));
        assert_eq!(sh("echo warming up; echo 12.5"), Ok(12.5));
        assert!(sh("echo 12.5; exit 1").is_err());
        assert!(sh("echo fast").is_err());
        assert!(sh("echo inf").is_err());
    }

    #[test]
    fn what_valgrind_collected_is_read() {
        let said = "==7== Events    : Ir\n==7== Collected : 181374\n==7== \n==7== I   refs:      181,374\n";
        assert_eq!(collected(said), Some(181_374.0));
        assert_eq!(collected("==7== Events    : Ir\n"), None);
    }

    #[test]
    fn only_benches_are_taken_from_what_cargo_built() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"kind":["bench"],"name":"a"},"executable":"/t/a-1"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"b"},"executable":null}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(
            executables(messages),
            BTreeMap::from([("a".to_owned(), PathBuf::from("/t/a-1"))])
        );
    }

    #[test]
    fn a_bench_that_was_not_built_is_named() {
        let error = Programs::default().number("speed").unwrap_err();
        assert!(error.contains("`speed`"), "{error}");
    }
}
