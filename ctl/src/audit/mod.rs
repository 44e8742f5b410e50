//! `debugctl audit`: reading a log's folder, and never without verifying it.

mod anchor;
mod authority;
mod check;
mod leases;
mod list;
mod show;
mod signatures;
mod verify;

use std::path::Path;

use crate::args::{Audit, List, ShowRecord, Verify};
use crate::failure::Failure;

/// Carries a command out.
///
/// # Errors
/// The log does not verify, or cannot be read.
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
    match command {
        Audit::List(args) => list::run(&args),
        Audit::Show(args) => show::run(&args),
        Audit::Verify(args) => verify::run(&args),
    }
}

/// Whether it is an address and a port, and no folder.
fn is_target(dir: &Path) -> bool {
    let port = dir.to_str().and_then(|text| text.rsplit_once(':')).map(|(_, port)| port);
    port.is_some_and(|port| port.parse::<u16>().is_ok()) && !dir.exists()
}
