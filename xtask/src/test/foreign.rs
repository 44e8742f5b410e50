//! The checks that need tools besides cargo's.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Checkout, hosts};
use crate::process::{finish, in_path, pass_through};

/// A tool, its Debian package, and what it checks.
struct Tool {
    program: &'static str,
    package: &'static str,
    shows: &'static str,
}

const TOOLS: &[Tool] = &[
    Tool {
        program: "strace",
        package: "strace",
        shows: "which system calls linking the agent adds",
    },
    Tool {
        program: "c++",
        package: "g++",
        shows: "what a fuzzer finds, whose library is C++",
    },
];

/// The system programs that the end-to-end tests start, all of util-linux: for a disk that fills up, in a namespace of its own.
const OF_THE_SYSTEM: &[&str] = &["unshare", "nsenter", "mount"];

/// Checks for the system programs of the tests; every general Linux distribution has them.
///
/// # Errors
/// Names the missing ones.
pub(super) fn check_system() -> Result<(), String> {
    let missing: Vec<_> = OF_THE_SYSTEM
        .iter()
        .copied()
        .filter(|program| !in_path(program))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "missing {}; install the package util-linux",
        missing.join(", ")
    ))
}

/// Makes sure that every tool is there; installs missing ones if it may.
///
/// # Errors
/// Names the missing ones and how to get them.
pub(super) fn provide_tools() -> Result<(), String> {
    let mut missing = missing_tools();
    if !missing.is_empty() && is_root() && in_path("apt-get") {
        let apt = |args: &[&str]| {
            let mut command = Command::new("apt-get");
            pass_through(command.args(args).env("DEBIAN_FRONTEND", "noninteractive"))
        };
        apt(&["update", "-qq"])?;
        for tool in &missing {
            apt(&["install", "-qq", "--yes", "--no-install-recommends", tool.package])?;
        }
        missing = missing_tools();
    }
    for tool in TOOLS {
        println!("{}: {}", tool.program, tool.shows);
    }
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|tool| tool.package).collect();
    Err(format!(
        "missing tools; install the packages {}, or leave this part out with --core",
        names.join(", ")
    ))
}

fn missing_tools() -> Vec<&'static Tool> {
    TOOLS.iter().filter(|tool| !in_path(tool.program)).collect()
}

/// Whether we are root: the owner of `/proc/self` is the effective user.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// The system calls that would reveal a thread, a socket or an opened file.
const WATCHED: &[&str] = &[
    "openat",
    "socket",
    "bind",
    "listen",
    "clone",
    "clone3",
    "epoll_create1",
    "eventfd2",
];
/// The time limit of the host under strace.
const RUN_LIMIT: Duration = Duration::from_secs(60);

/// Checks that the single-threaded host makes the same calls whether or not it starts the agent, while the agent is inert.
pub(super) fn check_system_calls(checkout: &Checkout) -> Result<(), String> {
    let name = "single-thread";
    hosts::build(checkout, name, false)?;
    let without = traced(checkout, name)?;
    hosts::build(checkout, name, true)?;
    let with = traced(checkout, name)?;
    println!("{without:?}");
    if without.get("socket").is_none_or(|count| *count == 0) {
        return Err(format!(
            "expected strace to see the host's own socket, saw {without:?}"
        ));
    }
    if with == without {
        Ok(())
    } else {
        Err(format!("expected {without:?} as without the agent, saw {with:?}"))
    }
}

/// Traces the host from its start to the end of the only request that it answers.
fn traced(checkout: &Checkout, name: &str) -> Result<BTreeMap<&'static str, usize>, String> {
    let file = checkout.target.join("hosts-strace.txt");
    let host = hosts::program(checkout, name);
    let mut command = Command::new("strace");
    command
        .args(["-f", "-e", &format!("trace={}", WATCHED.join(",")), "-o"])
        .arg(&file)
        .arg(host.get_program());
    command.env_remove("DEBUG_AGENT").env_remove("DEBUG_AGENT_CONFIG");
    // Cargo sets it for its children; the loader would search cargo's folders for libraries first.
    command.env_remove("LD_LIBRARY_PATH");
    let said = finish(&mut command, RUN_LIMIT)?;
    if said.code != Some(0) {
        return Err(said.all());
    }
    let counts = count(&read(&file)?);
    fs::remove_file(&file).map_err(|e| format!("cannot remove {}: {e}", file.display()))?;
    Ok(counts)
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|e| format!("cannot read {}: {e}", file.display()))
}

/// Counts the watched calls in a trace; its lines begin with thread and call: `4711 socket(AF_INET, …) = 3`.
fn count(trace: &str) -> BTreeMap<&'static str, usize> {
    let calls = |call: &str| {
        let is_call = |line: &&str| {
            line.split_once(' ')
                .is_some_and(|(_, rest)| rest.trim_start().starts_with(call))
        };
        trace.lines().filter(is_call).count()
    };
    WATCHED
        .iter()
        .map(|call| (*call, calls(&format!("{call}("))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_their_whole_name() {
        let trace = "4711  clone3({flags=CLONE_VM}, 88 <unfinished ...>\n\
            4712 openat(AT_FDCWD, \"socket(\", O_RDONLY) = 3\n\
            4711 openat(AT_FDCWD, \"/lib/libm.so.6\", O_RDONLY) = 3\n\
            4711 socket(AF_INET, SOCK_STREAM, 0) = 4\n4711 +++ exited with 0 +++\n";
        let counts = count(trace);
        assert_eq!(
            (
                counts["clone3"],
                counts["clone"],
                counts["openat"],
                counts["socket"]
            ),
            (1, 0, 2, 1)
        );
        assert_eq!(counts.len(), WATCHED.len());
    }
}
