//! Builds and runs the services of `tests/hosts`: each a workspace of its own, with and without the agent.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::Place;
use crate::process::{Said, cargo, finish, pass_through, shown};

/// A service that shows that linking the agent changes nothing else.
struct Host {
    name: &'static str,
    /// What must be the same.
    about: &'static str,
}

const HOSTS: &[Host] = &[
    Host { name: "ring-only", about: "rustls finds its only provider" },
    Host { name: "forbid-unsafe", about: "points compile under forbid(unsafe_code) and behave" },
    Host { name: "sorted-json", about: "serde_json keeps its order and its numbers" },
    Host { name: "single-thread", about: "a service without a runtime answers" },
];

/// How long a host may run: they answer one request or none.
const RUN_LIMIT: Duration = Duration::from_secs(30);

/// Checks those named, or all; with `lock`, writes their lock files instead.
pub(crate) fn run_named(names: &[String], lock: bool) -> Result<(), String> {
    if let Some(name) = names.iter().find(|name| !HOSTS.iter().any(|host| host.name == *name)) {
        return Err(format!("no host is named `{name}`"));
    }
    let place = Place::find()?;
    let mut chosen =
        HOSTS.iter().filter(|host| names.is_empty() || names.iter().any(|name| name == host.name));
    chosen.try_for_each(|host| if lock { write_lock(&place, host) } else { check(&place, host) })
}

pub(super) fn run_all(place: &Place) -> Result<(), String> {
    HOSTS.iter().try_for_each(|host| check(place, host))
}

/// Its output must be the same without the agent, with the agent inert, and with an agent that refuses to start
/// because its configuration does not exist.
fn check(place: &Place, host: &Host) -> Result<(), String> {
    println!("{}: {}", host.name, host.about);
    pass_through(&mut cargo_for(place, host.name, &["fmt", "--check"]))?;
    build(place, host.name, false)?;
    let without = run(place, host.name, |_| ())?;
    build(place, host.name, true)?;
    let inert = run(place, host.name, |_| ())?;
    let refused = run(place, host.name, |command| {
        command.env("DEBUG_AGENT", "1").env("DEBUG_AGENT_CONFIG", "does-not-exist.toml");
    })?;
    let Host { name, .. } = host;
    let same = |what: &str, said: &Said| {
        let differs =
            || format!("{name} {what}: expected {:?} as without the agent, saw {:?}", without.out, said.out);
        if said.out == without.out { Ok(()) } else { Err(differs()) }
    };
    same("with the agent inert", &inert)?;
    same("with the agent refused", &refused)?;
    println!("  the same without the agent, with the agent inert, and with one that refuses to start");
    Ok(())
}

/// Writes the lock file of a host from ours, so that all are built from the same versions.
fn write_lock(place: &Place, host: &Host) -> Result<(), String> {
    let lock = place.root.join("tests/hosts").join(host.name).join("Cargo.lock");
    fs::copy(place.root.join("Cargo.lock"), &lock)
        .map_err(|e| format!("cannot write {}: {e}", lock.display()))?;
    // Drops what the host does not use.
    pass_through(&mut cargo_for(place, host.name, &["update", "--quiet", "--workspace"]))
}

/// Builds a host into the folder that all hosts share, so that what they have in common is built once.
pub(super) fn build(place: &Place, name: &str, agent: bool) -> Result<(), String> {
    let mut command =
        cargo_for(place, name, &["build", "--quiet", "--locked", "--target-dir", "target/hosts"]);
    if agent {
        command.args(["--features", "agent"]);
    }
    pass_through(&mut command)
}

/// Cargo for the workspace of a host.
fn cargo_for(place: &Place, name: &str, args: &[&str]) -> Command {
    let mut command = cargo();
    let manifest = Path::new("tests/hosts").join(name).join("Cargo.toml");
    command.args(args).arg("--manifest-path").arg(manifest).current_dir(&place.root);
    command
}

/// The program that was built last.
pub(super) fn program(place: &Place, name: &str) -> Command {
    let mut command = Command::new(place.root.join("target/hosts/debug").join(name));
    command.env_remove("DEBUG_AGENT").env_remove("DEBUG_AGENT_CONFIG");
    command
}

/// Runs the program that was built last and demands its `ok`.
fn run(place: &Place, name: &str, prepare: impl FnOnce(&mut Command)) -> Result<Said, String> {
    let mut command = program(place, name);
    prepare(&mut command);
    let said = finish(&mut command, RUN_LIMIT)?;
    is_ok(name, &said).then_some(()).ok_or_else(|| {
        format!("expected {} to end with `ok {name}` and exit code 0, saw: {}", shown(&command), said.all())
    })?;
    Ok(said)
}

fn is_ok(name: &str, said: &Said) -> bool {
    said.code == Some(0) && said.out.lines().last() == Some(&format!("ok {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_host_that_there_is() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/hosts");
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut there: Vec<_> = fs::read_dir(folder).unwrap().map(name).collect();
        let mut table: Vec<_> = HOSTS.iter().map(|host| host.name.to_owned()).collect();
        there.sort();
        table.sort();
        assert_eq!(table, there);
    }

    #[test]
    fn only_ok_as_the_last_line_and_exit_code_0_pass() {
        let said = |code, out: &str| Said { code, out: out.into(), err: String::new() };
        assert!(is_ok("a", &said(Some(0), "more\nok a\n")));
        assert!(!is_ok("a", &said(Some(0), "ok a\nmore\n")));
        assert!(!is_ok("a", &said(Some(0), "")));
        assert!(!is_ok("a", &said(Some(1), "ok a\n")));
        assert!(!is_ok("a", &said(None, "ok a\n")));
    }

    #[test]
    fn an_unknown_host_is_named() {
        assert_eq!(run_named(&["nobody".into()], false), Err("no host is named `nobody`".into()));
    }
}
