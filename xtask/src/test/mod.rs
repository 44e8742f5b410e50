//! `cargo xtask test`: the only check.

mod circles;
mod crates;
mod floors;
mod foreign;
pub(crate) mod hosts;
mod source;
mod suite;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::{self, cargo, pass_through};

/// A named part of the check.
struct TestStep {
    name: &'static str,
    run: fn(&Checkout) -> Result<(), String>,
}

/// Where the check runs.
pub(crate) struct Checkout {
    /// The folder of our workspace.
    pub(crate) root: PathBuf,
    /// The folder into which cargo builds.
    pub(crate) target: PathBuf,
    /// Whether random tests run longer.
    pub(crate) long: bool,
}

/// The environment variable and its value for a long run of random lease histories; the tests read it.
const LONG: (&str, &str) = ("DEBUG_TESTS_HISTORIES", "10000");

impl Checkout {
    pub(crate) fn find() -> Result<Self, String> {
        let root = process::root()?;
        Ok(Self {
            target: process::target(&root)?,
            root,
            long: false,
        })
    }

    fn cargo(&self, args: &[&str]) -> Command {
        let mut command = cargo();
        command.args(args).current_dir(&self.root);
        if self.long {
            command.env(LONG.0, LONG.1);
        }
        command
    }
}

/// The checks that need only cargo, a C compiler and the programs of every Linux.
const CORE: &[TestStep] = &[
    TestStep {
        name: "system",
        run: |_| foreign::check_system(),
    },
    TestStep {
        name: "fmt",
        run: |checkout| pass_through(&mut checkout.cargo(&["fmt", "--all", "--check"])),
    },
    TestStep {
        name: "source",
        run: source::check_words,
    },
    TestStep {
        name: "floors",
        run: floors::check,
    },
    TestStep {
        name: "features",
        run: source::check_features,
    },
    TestStep {
        name: "clippy",
        run: |checkout| {
            let args = [
                "clippy",
                "--workspace",
                "--all-targets",
                "--locked",
                "--",
                "-D",
                "warnings",
            ];
            pass_through(&mut checkout.cargo(&args))
        },
    },
    TestStep {
        name: "without",
        run: check_without_features,
    },
    TestStep {
        name: "doc",
        run: |checkout| {
            let mut command = checkout.cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
            pass_through(command.env("RUSTDOCFLAGS", "-D warnings"))
        },
    },
    TestStep {
        name: "test",
        run: suite::run,
    },
    TestStep {
        name: "hosts",
        run: hosts::run_all,
    },
];

/// Feature sets of the library: with single features off, and with all optional ones off.
const FEWER: [&str; 4] = [
    "aws-lc-rs,macros,tracing",
    "aws-lc-rs,http,macros",
    "aws-lc-rs,macros",
    "aws-lc-rs",
];

/// Checks the library with fewer features than the workspace uses: a disabled feature may cause no warning.
fn check_without_features(checkout: &Checkout) -> Result<(), String> {
    FEWER.iter().try_for_each(|features| {
        let package = [
            "clippy",
            "-p",
            "debug-agent",
            "--lib",
            "--locked",
            "--no-default-features",
        ];
        let mut command = checkout.cargo(&package);
        pass_through(command.args(["--features", features, "--", "-D", "warnings"]))
    })
}

/// The checks with tools besides cargo's.
const FOREIGN: &[TestStep] = &[
    TestStep {
        name: "tools",
        run: |_| foreign::provide_tools(),
    },
    TestStep {
        name: "strace",
        run: foreign::check_system_calls,
    },
    // A short run: it checks that the targets pass on known inputs. A search for new faults takes longer.
    TestStep {
        name: "fuzz",
        run: |_| crate::fuzz::run(&[], 5),
    },
];

/// Runs the steps in order, up to the first failure: all, without the foreign part, or only the named ones.
///
/// # Errors
/// Names the step and its failure.
pub(crate) fn run(names: &[String], core: bool, long: bool) -> Result<(), String> {
    let all = || CORE.iter().chain(FOREIGN);
    if let Some(name) = names.iter().find(|name| !all().any(|step| step.name == *name)) {
        return Err(format!("no step is named `{name}`"));
    }
    let checkout = Checkout {
        long,
        ..Checkout::find()?
    };
    let chosen = CORE.iter().chain(FOREIGN.iter().filter(|_| !core));
    let chosen = chosen.filter(|step| names.is_empty() || names.iter().any(|name| name == step.name));
    let times = play(chosen, &checkout)?;
    let partly = if core || !names.is_empty() {
        "; others were left out"
    } else {
        ""
    };
    println!("\n{times}these steps passed{partly}");
    Ok(())
}

fn play<'a>(steps: impl Iterator<Item = &'a TestStep>, checkout: &Checkout) -> Result<String, String> {
    let mut times = String::new();
    for step in steps {
        println!("\n== {}", step.name);
        let start = Instant::now();
        let result = (step.run)(checkout);
        let line = format!("{:<9} {:>7}\n", step.name, seconds(start.elapsed()));
        print!("== {line}");
        result.map_err(|e| format!("test failed at step \"{}\": {e}", step.name))?;
        times += &line;
    }
    Ok(times)
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: TestStep = TestStep {
        name: "good",
        run: |_| Ok(()),
    };
    const BAD: TestStep = TestStep {
        name: "bad",
        run: |_| Err("expected 1, saw 2".into()),
    };
    const UNREACHED: TestStep = TestStep {
        name: "unreached",
        run: |_| Err("reached".into()),
    };

    fn check(steps: &[TestStep]) -> Result<String, String> {
        play(
            steps.iter(),
            &Checkout {
                root: PathBuf::new(),
                target: PathBuf::new(),
                long: false,
            },
        )
    }

    #[test]
    fn the_first_step_that_fails_is_named_and_ends_the_check() {
        assert_eq!(
            check(&[GOOD, BAD, UNREACHED]),
            Err("test failed at step \"bad\": expected 1, saw 2".into())
        );
    }

    #[test]
    fn each_step_that_passes_has_its_time() {
        assert_eq!(check(&[GOOD, GOOD]).unwrap().lines().count(), 2);
    }

    #[test]
    fn an_unknown_step_is_named() {
        assert_eq!(
            run(&["everything".into()], false, false),
            Err("no step is named `everything`".into())
        );
    }

    #[test]
    fn no_two_steps_share_a_name() {
        let mut names: Vec<_> = CORE.iter().chain(FOREIGN).map(|step| step.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CORE.len() + FOREIGN.len());
    }
}
