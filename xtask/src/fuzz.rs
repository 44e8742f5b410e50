//! `cargo xtask fuzz`: runs the targets of `fuzz/` for a limited time each, on a stable compiler.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::process::{self, cargo, finish, pass_through};

/// The default time of each target, in seconds.
pub(crate) const DEFAULT_SECONDS: u64 = 60;
/// The limit on an input, in bytes: longer than every bound that is small enough to be reached.
const MAX_INPUT: &str = "-max_len=40000";
/// The options that instrument code for libFuzzer, from the documentation of LLVM's SanitizerCoverage.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Runs the named targets, or all, for `seconds` each.
///
/// # Errors
/// A target does not build, or fails on an input; then the file with that input is named.
pub(crate) fn run(names: &[String], seconds: u64) -> Result<(), String> {
    let root = process::root()?;
    let known = targets(&root)?;
    if let Some(name) = names.iter().find(|name| !known.contains(name)) {
        return Err(format!(
            "fuzz failed: no target is named `{name}`; there are {}",
            known.join(", ")
        ));
    }
    let folder = process::target(&root)?.join("fuzz");
    let host = host()?;
    build(&root, &folder, &host)?;
    for name in known
        .iter()
        .filter(|name| names.is_empty() || names.contains(name))
    {
        fuzz(
            &root,
            &folder,
            &folder.join(&host).join("release").join(name),
            name,
            seconds,
        )?;
    }
    Ok(())
}

/// The targets: the files of `fuzz/targets`.
fn targets(root: &Path) -> Result<Vec<String>, String> {
    let folder = root.join("fuzz/targets");
    let entries = fs::read_dir(&folder).map_err(|e| format!("cannot read {}: {e}", folder.display()))?;
    let name = |entry: fs::DirEntry| Some(Path::new(&entry.file_name()).file_stem()?.to_str()?.to_owned());
    let mut names: Vec<_> = entries.filter_map(Result::ok).filter_map(name).collect();
    names.sort();
    Ok(names)
}

/// The host's target, such as `x86_64-unknown-linux-gnu`. The build names it, so that build scripts are not instrumented.
fn host() -> Result<String, String> {
    let said = finish(Command::new("rustc").arg("-vV"), Duration::from_secs(60))?;
    let host = said.out.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| said.all())
}

fn build(root: &Path, folder: &Path, host: &str) -> Result<(), String> {
    let fuzz = root.join("fuzz");
    pass_through(cargo().args(["fmt", "--check"]).current_dir(&fuzz))?;
    let mut command = cargo();
    command
        .args(["build", "--release", "--locked", "--target", host, "--target-dir"])
        .arg(folder);
    pass_through(command.current_dir(&fuzz).env("RUSTFLAGS", COVERAGE))
}

fn fuzz(root: &Path, folder: &Path, program: &Path, name: &str, seconds: u64) -> Result<(), String> {
    let corpus = folder.join("corpus").join(name);
    let seeds = root.join("fuzz/seeds").join(name);
    fs::create_dir_all(&corpus).map_err(|e| format!("cannot make {}: {e}", corpus.display()))?;
    let found = folder.join(format!("found-{name}-"));
    let mut command = Command::new(program);
    command
        .arg(&corpus)
        .arg(&seeds)
        .arg(format!("-max_total_time={seconds}"));
    command.args([MAX_INPUT, "-timeout=10", "-rss_limit_mb=1024"]);
    command.arg(format!("-artifact_prefix={}", found.display()));
    println!("{name}, {seconds} s");
    let said = finish(&mut command, Duration::from_secs(seconds + 60))?;
    if said.code == Some(0) {
        println!(
            "  {}",
            said.err
                .lines()
                .rev()
                .find(|line| line.starts_with("Done "))
                .unwrap_or("no figures")
        );
        return Ok(());
    }
    Err(format!(
        "fuzz failed: `{name}` found an input that makes it fail\n{}",
        said.all()
    ))
}
