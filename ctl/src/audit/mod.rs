//! `debugctl audit`: reading a log's folder, and never without verifying it.

mod anchor;
mod authority;
mod check;
mod leases;
mod list;
mod show;
mod signatures;
mod verify;

use crate::args::Audit;
use crate::failure::Failure;

/// Carries a command out.
///
/// # Errors
/// The log does not verify, or cannot be read.
pub(crate) fn run(command: Audit) -> Result<(), Failure> {
    match command {
        Audit::List(args) => list::run(&args),
        Audit::Show(args) => show::run(&args),
        Audit::Verify(args) => verify::run(&args),
    }
}
