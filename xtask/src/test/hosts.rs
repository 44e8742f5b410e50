//! Builds and runs the services of `tests/hosts`, each a workspace of its own, with and without the agent.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Checkout;
use crate::process::{POLL, PROGRAMS, Said, cargo, end_of, finish, pass_through, shown};
use crate::scratch::{Folder, free_address};

/// A service to which linking the agent must make no difference.
struct Host {
    name: &'static str,
    /// What must stay the same.
    about: &'static str,
    /// Whether it runs until its standard input ends, so that an agent in it can answer.
    lingers: bool,
}

const HOSTS: &[Host] = &[
    Host {
        name: "ring-only",
        about: "rustls finds its only provider",
        lingers: true,
    },
    Host {
        name: "forbid-unsafe",
        about: "points compile under forbid(unsafe_code) and behave",
        lingers: false,
    },
    Host {
        name: "sorted-json",
        about: "serde_json keeps its order and its numbers",
        lingers: false,
    },
    Host {
        name: "single-thread",
        about: "a service without a runtime answers",
        lingers: true,
    },
];

/// The time limit of a host: it answers one request or none.
const RUN_LIMIT: Duration = Duration::from_secs(30);

/// Checks the named hosts, or all; with `lock`, writes their lock files instead.
pub(crate) fn run_named(names: &[String], lock: bool) -> Result<(), String> {
    if let Some(name) = names
        .iter()
        .find(|name| !HOSTS.iter().any(|host| host.name == *name))
    {
        return Err(format!("no host is named `{name}`"));
    }
    let checkout = Checkout::find()?;
    let mut chosen = HOSTS
        .iter()
        .filter(|host| names.is_empty() || names.iter().any(|name| name == host.name));
    chosen.try_for_each(|host| {
        if lock {
            write_lock(&checkout, host)
        } else {
            check(&checkout, host)
        }
    })
}

pub(super) fn run_all(checkout: &Checkout) -> Result<(), String> {
    HOSTS.iter().try_for_each(|host| check(checkout, host))
}

/// Checks that a host's output is the same without the agent, with the agent inert, and with an agent that refuses to start
/// because its configuration does not exist.
fn check(checkout: &Checkout, host: &Host) -> Result<(), String> {
    println!("{}: {}", host.name, host.about);
    pass_through(&mut cargo_for(checkout, host.name, &["fmt", "--check"]))?;
    build(checkout, host.name, false)?;
    let without = run(checkout, host.name, |_| ())?;
    build(checkout, host.name, true)?;
    let inert = run(checkout, host.name, |_| ())?;
    let refused = run(checkout, host.name, |command| {
        command
            .env("DEBUG_AGENT", "1")
            .env("DEBUG_AGENT_CONFIG", "does-not-exist.toml");
    })?;
    let Host { name, .. } = host;
    let same = |what: &str, said: &Said| {
        let differs = || {
            format!(
                "{name} {what}: expected {:?} as without the agent, saw {:?}",
                without.out, said.out
            )
        };
        if said.out == without.out {
            Ok(())
        } else {
            Err(differs())
        }
    };
    same("with the agent inert", &inert)?;
    same("with the agent refused", &refused)?;
    println!("  the same without the agent, with the agent inert, and with one that refuses to start");
    if host.lingers {
        answers(checkout, host)
    } else {
        Ok(())
    }
}

/// The deadline for a host's agent to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// An eval and the expected output of `debugctl`.
const EVAL: (&str, &str) = ("6 * 7", "42\n");

/// Starts the agent in the last built host, with a set that `debugctl certs init` wrote, and evaluates code, so that the host's
/// TLS provider makes the handshake.
fn answers(checkout: &Checkout, host: &Host) -> Result<(), String> {
    pass_through(checkout.cargo(PROGRAMS).arg("--quiet"))?;
    let folder = Folder::new(false)?;
    let (set, address) = (folder.path.join("set"), free_address()?.to_string());
    let debugctl = |args: &[&str]| {
        let mut command = Command::new(checkout.target.join("debug/debugctl"));
        command
            .args(args)
            .env("HOME", &folder.path)
            .env_remove("XDG_STATE_HOME")
            .env("NO_COLOR", "1");
        command.env("DEBUGCTL_IDENTITY", set.join("operators/alice"));
        finish(&mut command, RUN_LIMIT)
    };
    let set_text = set.display().to_string();
    let init = [
        "certs",
        "init",
        &set_text,
        "--service",
        host.name,
        "--operator",
        "alice",
        "--role",
        "oncall",
    ];
    let said = debugctl(&[&init[..], &["--listen", &address]].concat())?;
    if said.code != Some(0) {
        return Err(said.all());
    }
    let mut command = program(checkout, host.name);
    command
        .env("DEBUG_AGENT", "1")
        .env("DEBUG_AGENT_CONFIG", set.join("agent/agent.toml"));
    let mut running = RunningHost(command.stdin(Stdio::piped()).spawn().map_err(|e| e.to_string())?);
    let start = Instant::now();
    loop {
        let said = debugctl(&["eval", &address, EVAL.0])?;
        if said.code == Some(0) && said.out == EVAL.1 {
            break;
        }
        if ANSWER_LIMIT <= start.elapsed() {
            return Err(format!(
                "expected {} to answer `{}`, saw: {}",
                host.name,
                EVAL.0,
                said.all()
            ));
        }
        thread::sleep(POLL);
    }
    drop(running.0.stdin.take());
    let code = end_of(&mut running.0, RUN_LIMIT).map_err(|e| e.to_string())?;
    if code != Some(Some(0)) {
        return Err(format!(
            "expected {} to end with exit code 0, saw {code:?}",
            host.name
        ));
    }
    println!("  the agent in it shook hands and answered `{}`", EVAL.0);
    Ok(())
}

/// A host, killed when dropped.
struct RunningHost(Child);

impl Drop for RunningHost {
    fn drop(&mut self) {
        // It may have ended since: then there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes the lock file of a host from ours, so that all hosts are built from the same versions.
fn write_lock(checkout: &Checkout, host: &Host) -> Result<(), String> {
    let lock = checkout
        .root
        .join("tests/hosts")
        .join(host.name)
        .join("Cargo.lock");
    fs::copy(checkout.root.join("Cargo.lock"), &lock)
        .map_err(|e| format!("cannot write {}: {e}", lock.display()))?;
    // Drops the packages that the host does not use.
    pass_through(&mut cargo_for(
        checkout,
        host.name,
        &["update", "--quiet", "--workspace"],
    ))
}

/// Builds a host into the folder of our workspace. Its profile is ours, too, which `.cargo/config.toml` has: so a package that both
/// use with the same features is built once.
pub(super) fn build(checkout: &Checkout, name: &str, agent: bool) -> Result<(), String> {
    let mut command = cargo_for(checkout, name, &["build", "--quiet", "--locked"]);
    command.arg("--target-dir").arg(&checkout.target);
    if agent {
        command.args(["--features", "agent"]);
    }
    pass_through(&mut command)
}

/// Cargo for the workspace of a host.
fn cargo_for(checkout: &Checkout, name: &str, args: &[&str]) -> Command {
    let mut command = cargo();
    let manifest = Path::new("tests/hosts").join(name).join("Cargo.toml");
    command
        .args(args)
        .arg("--manifest-path")
        .arg(manifest)
        .current_dir(&checkout.root);
    command
}

/// The program that was built last.
pub(super) fn program(checkout: &Checkout, name: &str) -> Command {
    let mut command = Command::new(checkout.target.join("debug").join(name));
    command.env_remove("DEBUG_AGENT").env_remove("DEBUG_AGENT_CONFIG");
    command
}

/// Runs the program that was built last and expects its `ok`.
fn run(checkout: &Checkout, name: &str, prepare: impl FnOnce(&mut Command)) -> Result<Said, String> {
    let mut command = program(checkout, name);
    prepare(&mut command);
    let said = finish(&mut command, RUN_LIMIT)?;
    is_ok(name, &said).then_some(()).ok_or_else(|| {
        format!(
            "expected {} to end with `ok {name}` and exit code 0, saw: {}",
            shown(&command),
            said.all()
        )
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
        let said = |code, out: &str| Said {
            code,
            out: out.into(),
            err: String::new(),
        };
        assert!(is_ok("a", &said(Some(0), "more\nok a\n")));
        assert!(!is_ok("a", &said(Some(0), "ok a\nmore\n")));
        assert!(!is_ok("a", &said(Some(0), "")));
        assert!(!is_ok("a", &said(Some(1), "ok a\n")));
        assert!(!is_ok("a", &said(None, "ok a\n")));
    }

    #[test]
    fn an_unknown_host_is_named() {
        assert_eq!(
            run_named(&["nobody".into()], false),
            Err("no host is named `nobody`".into())
        );
    }
}
