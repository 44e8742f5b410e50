//! `debugctl certs`.

use clap::Subcommand;

use crate::failure::Failure;

/// What can be done with certificates.
#[derive(Debug, Subcommand)]
pub(crate) enum Certs {}

/// Carries a command out.
///
/// # Errors
/// As the command says.
pub(crate) fn run(command: &Certs) -> Result<(), Failure> {
    match *command {}
}
