//! `debugctl certs`: makes and renews a working set of certificates without any other tool.

mod crl;
mod files;
mod init;
mod inventory;
mod issue;

use crate::args::certs::Certs;
use crate::ui::failure::CommandFailure;
use crate::ui::term;

/// Runs a subcommand of `certs`.
///
/// # Errors
/// The command failed. A failed `init` leaves nothing behind; a failed `issue` or `crl` leaves the files that were there.
pub(crate) fn run(command: &Certs) -> Result<(), CommandFailure> {
    let report = match command {
        Certs::Init(args) => init::init(args)?,
        Certs::Issue(args) => issue::issue(args)?,
        Certs::Crl(args) => crl::renew(args)?,
    };
    term::note(&report);
    Ok(())
}
