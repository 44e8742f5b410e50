//! `debugctl audit verify`.

use super::check::{Report, check};
use crate::args::Verify;
use crate::ui::failure::{CommandFailure, ended};
use crate::ui::term;

/// Verifies a log and prints what that shows.
///
/// # Errors
/// The log does not verify, or is not vouched for.
pub(super) fn run(args: &Verify) -> Result<(), CommandFailure> {
    let report = check(&args.anchor, &mut |_| ())?;
    match vouched(&report) {
        Ok(()) => Ok(term::out(&text(&report))?),
        Err(failure) => {
            // Stdout holds the word `verified` only if the exit code is 0.
            match term::out(&format!("consistent in itself: {}", counts(&report))) {
                Ok(()) => Err(failure),
                // A finding outweighs a failed write to stdout.
                Err(unwritten) => ended(Err(unwritten.into()), Err(failure)),
            }
        }
    }
}

/// Checks that an authority other than the log's host vouches for the log.
///
/// # Errors
/// No authority does.
pub(super) fn vouched(report: &Report) -> Result<(), CommandFailure> {
    if report.unlisted > 0 {
        let count = report.unlisted;
        return Err(CommandFailure::verification(format!(
            "evals in the log were signed with {count} certificate{} that the inventory does not hold",
            if count == 1 { "" } else { "s" }
        ))
        .help(
            "use the inventory of the CA as it is now; if it does not hold them either, a holder of the log's key made \
             up the operators",
        ));
    }
    if report.vouched.is_some() {
        return Ok(());
    }
    Err(
        CommandFailure::verification("the log is consistent in itself; nobody vouches for it").help(
            "give the key of the log with `--vkey`, or the inventory of the CA with `--inventory`: \
         a program that can write the folder can also sign it with a key of its own",
        ),
    )
}

/// The full report, for stdout.
fn text(report: &Report) -> String {
    let verified = &report.verified;
    let source = report
        .vouched
        .as_ref()
        .map(|vouched| vouched.source.as_str())
        .unwrap_or_default();
    let mut lines = vec![
        format!("verified: {}", counts(report)),
        format!("vouched for by {source}"),
    ];
    lines.push(operators(report));
    lines.push(report.leases.text());
    lines.push(match &report.witness {
        Some(witness) => format!(
            "witnessed up to {} (by this client, {}); {} records after it rest on the host alone",
            witness.size,
            witness.seen,
            verified.covered - witness.size
        ),
        None => format!(
            "witnessed by nobody; all {} records rest on the host alone",
            verified.covered
        ),
    });
    if verified.total > verified.covered {
        lines.push(match verified.total - verified.covered {
            1 => "1 more record follows the checkpoint; nothing is proven about it".to_owned(),
            more => format!("{more} more records follow the checkpoint; nothing is proven about them"),
        });
    }
    if verified.torn {
        lines.push("a torn line is at the end: a write in progress, or one that a crash cut".to_owned());
    }
    lines.join("\n")
}

/// Which authority vouches for the operators' certificates.
pub(super) fn operators(report: &Report) -> String {
    let listed = report
        .vouched
        .as_ref()
        .is_some_and(|vouched| !vouched.certificates.is_empty());
    match (&report.authority, listed) {
        (Some(ca), _) => format!("the operators' certificates were issued by the CA `{ca}`"),
        (None, true) => {
            "the operators' certificates were compared with the inventory alone: give their CA with `--ca`"
                .to_owned()
        }
        (None, false) => {
            "the operators' certificates were compared with nothing: give their CA with `--ca`".to_owned()
        }
    }
}

/// `41 records of `…`, 7 evals signed with 2 certificates`.
pub(super) fn counts(report: &Report) -> String {
    let count = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    format!(
        "{} of `{}`, {} signed with {}",
        count(report.verified.covered, "record"),
        term::line(&report.verified.origin),
        count(report.evals, "eval"),
        count(report.certificates as u64, "certificate"),
    )
}
