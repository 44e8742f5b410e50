//! The step `test`: every test of the workspace, each in a process of its own.
//!
//! Cargo builds the test programs and names them; they are run here, because libtest on a stable compiler does not tell how long
//! a test takes. A failure hides none of the others: all tests run, and the end names those that failed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{env, thread};

use serde_json::Value;

use super::{Checkout, seconds};
use crate::process::{PROGRAMS, end_of, finish, pass_through, shown};
use crate::scratch::Folder;

/// The limit on one test: far more than the longest takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(20 * 60);
/// The limit on a program that lists its tests.
const LIST_LIMIT: Duration = Duration::from_secs(60);
/// How many of the slowest tests are told.
const SLOWEST: usize = 10;
/// Tells the tests where the programs are that they would otherwise build.
const BUILT: &str = "DEBUG_TESTS_PROGRAMS";

/// A program with tests.
struct Program {
    /// Its package, and its own name where that differs: `debug-tests/eval`.
    name: String,
    package: String,
    executable: PathBuf,
    /// The folder of its package: cargo runs it there.
    folder: PathBuf,
    tests: Vec<String>,
}

/// A test that has run.
#[derive(Clone, Debug, PartialEq)]
struct SuiteOutcome {
    /// Program and test.
    name: String,
    time: Duration,
    /// What it said, if it failed.
    failure: Option<String>,
}

/// Builds and runs all tests, those in the documentation as well.
///
/// # Errors
/// Names every test that failed.
pub(super) fn run(checkout: &Checkout) -> Result<(), String> {
    let programs = build(checkout)?;
    pass_through(&mut checkout.cargo(PROGRAMS))?;
    let folder = Folder::new(false)?;
    let start = Instant::now();
    let outcomes = run_all(checkout, &programs, &folder.path);
    println!(
        "{} tests of {} programs in {}",
        outcomes.len(),
        programs.len(),
        seconds(start.elapsed())
    );
    print!("{}", slowest(&outcomes));
    let documented =
        pass_through(&mut checkout.cargo(&["test", "--workspace", "--doc", "--locked", "--no-fail-fast"]));
    verdict(&outcomes, documented.err())
}

/// Builds the test programs and asks each for its tests.
fn build(checkout: &Checkout) -> Result<Vec<Program>, String> {
    let mut command = checkout.cargo(&["test", "--workspace", "--locked", "--no-run"]);
    command
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit());
    println!("$ {}", shown(&command));
    let output = command
        .output()
        .map_err(|e| format!("cannot start {}: {e}", shown(&command)))?;
    if !output.status.success() {
        return Err(format!("{} ended with {}", shown(&command), output.status));
    }
    let mut programs = programs(&String::from_utf8_lossy(&output.stdout), &packages(checkout)?);
    if programs.is_empty() {
        return Err("cargo named no program with tests".into());
    }
    for program in &mut programs {
        program.tests = tests_of(program, checkout)?;
    }
    Ok(programs)
}

/// The packages of the workspace: their names, by their manifests.
fn packages(checkout: &Checkout) -> Result<BTreeMap<String, String>, String> {
    let mut command = checkout.cargo(&["metadata", "--format-version", "1", "--no-deps", "--locked"]);
    let said = finish(&mut command, Duration::MAX)?;
    let metadata: Value = serde_json::from_str(&said.out).map_err(|_| said.all())?;
    let packages = metadata["packages"].as_array().ok_or_else(|| said.all())?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let row = |package: &Value| Some((text(&package["manifest_path"])?, text(&package["name"])?));
    Ok(packages.iter().filter_map(row).collect())
}

/// The test programs among the artifacts that cargo reports, one JSON object a line. The last comes first: that is the demo,
/// whose tests take longest.
fn programs(messages: &str, packages: &BTreeMap<String, String>) -> Vec<Program> {
    let program = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let executable = message["executable"]
            .as_str()
            .filter(|_| message["profile"]["test"] == true)?;
        let manifest = message["manifest_path"].as_str()?;
        let package = packages.get(manifest)?.clone();
        let target = message["target"]["name"].as_str()?;
        let name = if target.replace('_', "-") == package {
            package.clone()
        } else {
            format!("{package}/{target}")
        };
        Some(Program {
            name,
            package,
            executable: executable.into(),
            folder: Path::new(manifest).parent()?.into(),
            tests: Vec::new(),
        })
    };
    messages.lines().rev().filter_map(program).collect()
}

/// A test program with the environment that cargo would give it.
fn command(program: &Program, checkout: &Checkout) -> Command {
    let mut command = Command::new(&program.executable);
    command
        .current_dir(&program.folder)
        .env("CARGO_MANIFEST_DIR", &program.folder)
        .env("CARGO_MANIFEST_PATH", program.folder.join("Cargo.toml"))
        .env("CARGO_PKG_NAME", &program.package)
        .env(BUILT, checkout.target.join("debug"));
    if checkout.long {
        command.env(super::LONG.0, super::LONG.1);
    }
    command
}

fn tests_of(program: &Program, checkout: &Checkout) -> Result<Vec<String>, String> {
    let mut command = command(program, checkout);
    let said = finish(command.args(["--list", "--format", "terse"]), LIST_LIMIT)?;
    if said.code != Some(0) {
        return Err(format!(
            "{} does not list its tests: {}",
            program.name,
            said.all()
        ));
    }
    let tests = said.out.lines().filter_map(|line| line.strip_suffix(": test"));
    Ok(tests.map(str::to_owned).collect())
}

/// Runs all tests, some at a time, and says how each program went when its last test ends.
fn run_all(checkout: &Checkout, programs: &[Program], scratch: &Path) -> Vec<SuiteOutcome> {
    let tests: Vec<(usize, &str)> = programs
        .iter()
        .enumerate()
        .flat_map(|(at, program)| program.tests.iter().map(move |test| (at, test.as_str())))
        .collect();
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(vec![Vec::new(); programs.len()]);
    let work = |worker: usize| {
        let file = scratch.join(format!("said-{worker}"));
        while let Some((at, test)) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
            let program = &programs[*at];
            let outcome = run_one(command(program, checkout), &program.name, test, &file);
            if let Some(said) = &outcome.failure {
                println!("FAILED {}, {}\n{said}", outcome.name, seconds(outcome.time));
            }
            let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
            outcomes[*at].push(outcome);
            if outcomes[*at].len() == program.tests.len() {
                println!("{}", line(&program.name, &outcomes[*at]));
            }
        }
    };
    thread::scope(|scope| {
        for worker in 0..threads() {
            scope.spawn(move || work(worker));
        }
    });
    outcomes
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .concat()
}

/// How many tests run at a time: two for each processor, since most of a test is waiting for deadlines and other processes. As
/// with libtest, the environment may say otherwise.
fn threads() -> usize {
    let chosen = env::var("RUST_TEST_THREADS")
        .ok()
        .and_then(|text| text.parse().ok());
    chosen
        .filter(|count| *count != 0)
        .unwrap_or_else(|| 2 * thread::available_parallelism().map_or(1, usize::from))
}

/// Runs a test. What it says goes to a file: a program that it left behind would keep a pipe open.
fn run_one(mut command: Command, program: &str, test: &str, file: &Path) -> SuiteOutcome {
    let start = Instant::now();
    let mut said = || -> Result<Option<String>, String> {
        let told = |e: std::io::Error| format!("cannot run it: {e}");
        let output = File::create(file).map_err(told)?;
        command
            .args([test, "--exact", "--nocapture"])
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(told)?)
            .stderr(output);
        let mut child = command.spawn().map_err(told)?;
        let code = end_of(&mut child, LIMIT).map_err(told)?;
        if code.is_none() {
            // It may have ended since: then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
        let said = String::from_utf8_lossy(&fs::read(file).map_err(told)?).into_owned();
        Ok(match code {
            Some(Some(0)) if said.contains("1 passed") || said.contains("1 ignored") => None,
            Some(Some(code)) => Some(format!("{said}(exit code {code})")),
            Some(None) => Some(format!("{said}(a signal)")),
            None => Some(format!("{said}(not ended within {LIMIT:?})")),
        })
    };
    let failure = said().unwrap_or_else(Some);
    SuiteOutcome {
        name: format!("{program} {test}"),
        time: start.elapsed(),
        failure,
    }
}

fn line(program: &str, outcomes: &[SuiteOutcome]) -> String {
    let failed = outcomes
        .iter()
        .filter(|outcome| outcome.failure.is_some())
        .count();
    let time = outcomes.iter().map(|outcome| outcome.time).sum();
    format!(
        "{program}: {} passed, {failed} failed, {} one after another",
        outcomes.len() - failed,
        seconds(time)
    )
}

fn slowest(outcomes: &[SuiteOutcome]) -> String {
    let mut outcomes: Vec<_> = outcomes.iter().collect();
    outcomes.sort_by_key(|outcome| std::cmp::Reverse(outcome.time));
    let rows = outcomes.iter().take(SLOWEST);
    let rows = rows.map(|outcome| format!("{:>9} {}\n", seconds(outcome.time), outcome.name));
    format!("the slowest:\n{}", rows.collect::<String>())
}

fn verdict(outcomes: &[SuiteOutcome], documented: Option<String>) -> Result<(), String> {
    let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some());
    let mut failed: Vec<_> = failed.map(|outcome| outcome.name.clone()).collect();
    failed.extend(documented);
    match (outcomes.len(), failed.as_slice()) {
        (0, _) => Err("no test ran".into()),
        (_, []) => Ok(()),
        (_, failed) => Err(format!("{} failed:\n  {}", failed.len(), failed.join("\n  "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(name: &str, millis: u64, failure: Option<&str>) -> SuiteOutcome {
        SuiteOutcome {
            name: name.into(),
            time: Duration::from_millis(millis),
            failure: failure.map(str::to_owned),
        }
    }

    /// A shell as the test program: its arguments are `test --exact --nocapture`, which it gets as `$0` and further.
    fn shell(script: &str) -> SuiteOutcome {
        let folder = Folder::new(false).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run_one(command, "p", "t", &folder.path.join("said"))
    }

    #[test]
    fn a_test_passes_if_its_program_says_so_and_ends_well() {
        assert_eq!(shell("echo 'ok. 1 passed'").failure, None);
        assert_eq!(shell("echo 'ok. 0 passed; 1 ignored'").failure, None);
        assert_eq!(
            shell("echo 'ok. 0 passed'").failure.as_deref(),
            Some("ok. 0 passed\n(exit code 0)")
        );
        assert_eq!(
            shell("echo '1 passed'; exit 3").failure.as_deref(),
            Some("1 passed\n(exit code 3)")
        );
        assert_eq!(
            shell("echo why >&2; kill -9 $$").failure.as_deref(),
            Some("why\n(a signal)")
        );
    }

    #[test]
    fn a_program_left_behind_delays_nothing() {
        let outcome = shell("sleep 600 & echo \"1 passed, $!\"; kill $!");
        assert_eq!((outcome.failure, outcome.name.as_str()), (None, "p t"));
    }

    #[test]
    fn all_that_failed_are_named() {
        let passed = outcome("a x", 1, None);
        assert_eq!(verdict(std::slice::from_ref(&passed), None), Ok(()));
        assert_eq!(verdict(&[], None), Err("no test ran".into()));
        let failed = [
            passed,
            outcome("a y", 1, Some("why")),
            outcome("b z", 1, Some("why")),
        ];
        assert_eq!(
            verdict(&failed, Some("cargo test --doc ended with 101".into())),
            Err("3 failed:\n  a y\n  b z\n  cargo test --doc ended with 101".into())
        );
    }

    #[test]
    fn the_slowest_come_first_and_are_ten() {
        let outcomes: Vec<_> = (1..=12)
            .map(|n| outcome(&format!("a {n}"), n * 1000, None))
            .collect();
        let told = slowest(&outcomes);
        assert_eq!(told.lines().count(), 1 + SLOWEST);
        assert_eq!(told.lines().nth(1), Some("   12.0 s a 12"));
    }

    #[test]
    fn only_programs_with_tests_are_taken_and_the_last_comes_first() {
        let message = |name: &str, test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/w/tests/Cargo.toml","target":{{"name":"{name}"}},"profile":{{"test":{test}}},"executable":"/t/{name}-1"}}"#
            )
        };
        let messages = [
            message("debug_tests", true),
            message("layers", false),
            message("eval", true),
        ]
        .join("\n");
        let packages = BTreeMap::from([("/w/tests/Cargo.toml".to_owned(), "debug-tests".to_owned())]);
        let programs = programs(&messages, &packages);
        let names: Vec<_> = programs.iter().map(|program| program.name.as_str()).collect();
        assert_eq!(names, ["debug-tests/eval", "debug-tests"]);
        assert_eq!(programs[0].folder, Path::new("/w/tests"));
    }

    #[test]
    fn a_program_is_told_with_its_tests() {
        let outcomes = [outcome("a x", 1500, None), outcome("a y", 500, Some("why"))];
        assert_eq!(
            line("a", &outcomes),
            "a: 1 passed, 1 failed, 2.0 s one after another"
        );
    }
}
