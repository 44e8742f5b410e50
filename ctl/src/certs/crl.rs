//! `certs crl`.

use debug_certs::issue::{CRL_LIFE, Ca, read_list};
use debug_policy::format_duration;
use jiff::Timestamp;

use super::files;
use super::issue::{inventory, issuing};
use crate::args::certs::Renew;
use crate::ui::failure::CommandFailure;

/// Replaces the revocation list with a fresh one under a higher number. Returns the text to print.
pub(super) fn renew(args: &Renew) -> Result<String, CommandFailure> {
    let (dir, now) = (&args.dir, Timestamp::now());
    let mut inventory = inventory(dir)?;
    let path = dir.join("agent/crl.pem");
    // Every revoked certificate stays on the list.
    let (last, revoked) = read_list(&files::read(&path)?)
        .map_err(|error| issuing(&error).help(format!("put the last list into `{}`", path.display())))?;
    let number = last.max(inventory.crl.number).checked_add(1);
    let number =
        number.ok_or_else(|| CommandFailure::usage("the number of the revocation list cannot rise"))?;
    let ca = Ca::load(
        &files::read(&dir.join("ca/ca.pem"))?,
        &files::read(&dir.join("ca/ca.key"))?,
    )
    .map_err(|error| issuing(&error))?;
    let list = ca
        .revocation_list(number, &revoked, now)
        .map_err(|error| issuing(&error))?;

    // The inventory first: a number used twice would be worse than one never used.
    inventory.crl.number = number;
    let text = inventory
        .text()
        .map_err(|e| CommandFailure::local(format!("the inventory: {e}")))?;
    files::replace(&dir.join("inventory.json"), &text, 0o644)?;
    files::replace(&path, &list, 0o644)?;
    Ok(format!(
        "wrote the revocation list {number} with {} revoked, current for {}, to `{}`\n\
         put it in the place of the agent's list and restart the service: it reads the list at its start",
        revoked.len(),
        format_duration(CRL_LIFE),
        path.display()
    ))
}
