//! `debugctl audit`: reads a log's folder, and always verifies it.

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

use crate::args::{AuditCommand, ListArgs, ShowRecord, Verify};
use crate::ui::failure::CommandFailure;

/// Runs a subcommand of `audit`.
///
/// # Errors
/// There is no log, it does not verify, or it cannot be read.
pub(crate) fn run(command: AuditCommand) -> Result<(), CommandFailure> {
    let (AuditCommand::List(ListArgs { anchor, .. })
    | AuditCommand::Show(ShowRecord { anchor, .. })
    | AuditCommand::Verify(Verify { anchor, .. })) = &command;
    if is_target(&anchor.dir) {
        let what = format!(
            "reading the log of the agent at `{}` is not part of this version",
            anchor.dir.display()
        );
        return Err(CommandFailure::usage(what)
            .help("give the log's folder or a copy of it: `audit.folder` in `agent.toml` says where it is"));
    }
    must_hold_a_log(&anchor.dir)?;
    match command {
        AuditCommand::List(args) => list::run(&args),
        AuditCommand::Show(args) => show::run(&args),
        AuditCommand::Verify(args) => verify::run(&args),
    }
}

/// Checks that a folder holds a log. If it holds none, nothing was learned about any log: that is a usage error, and no evidence.
fn must_hold_a_log(dir: &Path) -> Result<(), CommandFailure> {
    let help = "give the log's folder or a copy of it: `audit.folder` in `agent.toml` says where it is, and \
                `debugctl certs init` makes it `agent/audit` in the working set";
    let entries = std::fs::read_dir(dir).map_err(|error| {
        CommandFailure::usage(match error.kind() {
            ErrorKind::NotFound => format!("there is no folder `{}`", dir.display()),
            ErrorKind::NotADirectory => format!("`{}` is no folder", dir.display()),
            _ => format!("cannot read the folder `{}`: {error}", dir.display()),
        })
        .help(help)
    })?;
    // Any one of its files is enough: missing others mean tampering, which the verifier reports.
    let is_of_a_log = |name: &str| name == "checkpoint" || name.starts_with("records-");
    let found = entries
        .flatten()
        .any(|entry| entry.file_name().to_str().is_some_and(is_of_a_log));
    let none = || CommandFailure::usage(format!("there is no log in `{}`", dir.display())).help(help);
    if found { Ok(()) } else { Err(none()) }
}

/// Whether the argument is an address and port rather than a folder.
fn is_target(dir: &Path) -> bool {
    let port = dir
        .to_str()
        .and_then(|text| text.rsplit_once(':'))
        .map(|(_, port)| port);
    port.is_some_and(|port| port.parse::<u16>().is_ok()) && !dir.exists()
}
