//! `debugctl audit`: reading a log's folder, and never without verifying it.

mod anchor;
mod authority;
mod check;
mod leases;
mod list;
mod show;
mod signatures;
mod verify;

use std::io::ErrorKind;
use std::path::Path;

use crate::args::{Audit, List, ShowRecord, Verify};
use crate::failure::Failure;

/// Carries a command out.
///
/// # Errors
/// There is no log, it does not verify, or it cannot be read.
pub(crate) fn run(command: Audit) -> Result<(), Failure> {
    let (Audit::List(List { anchor, .. })
    | Audit::Show(ShowRecord { anchor, .. })
    | Audit::Verify(Verify { anchor, .. })) = &command;
    if is_target(&anchor.dir) {
        let what =
            format!("reading the log of the agent at `{}` is not part of this version", anchor.dir.display());
        return Err(Failure::usage(what)
            .help("give the log's folder or a copy of it: `audit.folder` in `agent.toml` says where it is"));
    }
    must_hold_a_log(&anchor.dir)?;
    match command {
        Audit::List(args) => list::run(&args),
        Audit::Show(args) => show::run(&args),
        Audit::Verify(args) => verify::run(&args),
    }
}

/// That a log lies there. Where none does nothing was found out about any: that is a mistake in the command, and no evidence.
fn must_hold_a_log(dir: &Path) -> Result<(), Failure> {
    let help = "give the log's folder or a copy of it: `audit.folder` in `agent.toml` says where it is, and \
                `debugctl certs init` makes it `agent/audit` in the working set";
    let entries = std::fs::read_dir(dir).map_err(|error| {
        Failure::usage(match error.kind() {
            ErrorKind::NotFound => format!("there is no folder `{}`", dir.display()),
            ErrorKind::NotADirectory => format!("`{}` is no folder", dir.display()),
            _ => format!("cannot read the folder `{}`: {error}", dir.display()),
        })
        .help(help)
    })?;
    // Any one of its files will do: where others are missing the log was tampered with, which the verifier tells.
    let is_of_a_log = |name: &str| name == "checkpoint" || name.starts_with("records-");
    let found = entries.flatten().any(|entry| entry.file_name().to_str().is_some_and(is_of_a_log));
    let none = || Failure::usage(format!("there is no log in `{}`", dir.display())).help(help);
    if found { Ok(()) } else { Err(none()) }
}

/// Whether it is an address and a port, and no folder.
fn is_target(dir: &Path) -> bool {
    let port = dir.to_str().and_then(|text| text.rsplit_once(':')).map(|(_, port)| port);
    port.is_some_and(|port| port.parse::<u16>().is_ok()) && !dir.exists()
}
