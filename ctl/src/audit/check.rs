//! The complete check of a log: its form and signed root, every operator's certificate and signature, the end of every lease, and
//! the checkpoint that this client remembers.

use std::collections::BTreeSet;
use std::path::Path;

use debug_audit::tree::{HashTree, leaf_hash};
use debug_audit::{Line, Reader, Verified};
use debug_wire::records::Belongs;

use super::anchor::{self, Anchors, Vouched};
use super::leases::{LeaseCheck, Tally};
use super::signatures::{Signatures, Wrong};
use crate::args::AnchorArgs;
use crate::trust::store::TrustStore;
use crate::ui::failure::CommandFailure;
use crate::ui::term;

/// A record, as the check hands it out.
pub(super) struct CheckedRecord<'a> {
    pub(super) seq: u64,
    pub(super) kind: &'a str,
    /// The line as on disk.
    pub(super) text: &'a str,
    /// The operator who opened the record's session.
    pub(super) operator: Option<&'a str>,
    /// Whether a verified checkpoint covers it. Anyone who can write the folder may have written an uncovered record.
    pub(super) covered: bool,
}

/// What was found.
pub(super) struct Report {
    pub(super) verified: Verified,
    /// Where the key came from; `None` if the log is not vouched for.
    pub(super) vouched: Option<Vouched>,
    pub(super) evals: u64,
    pub(super) leases: Tally,
    pub(super) certificates: usize,
    /// How many of the certificates the inventory does not hold, if it holds any.
    pub(super) unlisted: usize,
    /// The path of the CA that issued the certificate of every session; `None` if the operators are not vouched for.
    pub(super) authority: Option<String>,
    pub(super) witness: Option<Witness>,
}

/// A checkpoint that this client remembers of the log.
pub(super) struct Witness {
    pub(super) size: u64,
    /// When it was remembered, for people.
    pub(super) seen: String,
}

/// Checks a log and hands out each record, also of a log that fails the check: its reader must see them.
///
/// # Errors
/// The first check that failed, once all records were handed out.
pub(super) fn check(
    anchor: &AnchorArgs,
    visit: &mut dyn FnMut(&CheckedRecord<'_>),
) -> Result<Report, CommandFailure> {
    let found = anchor::find(anchor).and_then(|anchors| {
        let key = anchors.vouched.as_ref().map(|vouched| &vouched.key);
        let verified = debug_audit::verify(&anchor.dir, key).map_err(|error| broken(&error))?;
        Ok((anchors, verified))
    });
    let origin = found
        .as_ref()
        .map(|(_, verified)| verified.origin.clone())
        .unwrap_or_default();
    let covered = found.as_ref().map_or(0, |(_, verified)| verified.covered);
    let authority = found
        .as_ref()
        .ok()
        .and_then(|(anchors, _)| anchors.authority.as_ref());
    let joined = join(&anchor.dir, Signatures::new(origin, authority), covered, visit);
    // Faults of the log itself come first: signatures in a log that was altered prove nothing.
    let (Anchors { vouched, authority }, verified) = found?;
    let Joined {
        tree,
        evals,
        leases,
        certificates,
    } = joined?;
    if tree.root_at(verified.covered) != Some(verified.root) {
        return Err(
            CommandFailure::verification("the log was changed while it was read").help("verify it again"),
        );
    }
    let witness = vouched
        .as_ref()
        .map(|vouched| witness(vouched, &verified, &tree))
        .transpose()?
        .flatten();
    let listed = vouched
        .as_ref()
        .map(|vouched| vouched.certificates.as_slice())
        .unwrap_or_default();
    let unknown = |hash: &&String| !listed.is_empty() && !listed.contains(hash);
    let unlisted = certificates.iter().filter(unknown).count();
    let (certificates, authority) = (certificates.len(), authority.map(|authority| authority.source));
    Ok(Report {
        verified,
        vouched,
        evals,
        leases,
        certificates,
        unlisted,
        authority,
        witness,
    })
}

fn broken(error: &debug_audit::VerifyError) -> CommandFailure {
    let mut message = format!("the log does not verify: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        message.push_str(&format!(": {error}"));
        cause = error.source();
    }
    CommandFailure::verification(message).help(error.advice())
}

/// The covered records as a tree, with their evals, leases and certificates.
struct Joined {
    tree: HashTree,
    evals: u64,
    leases: Tally,
    certificates: BTreeSet<String>,
}

/// Reads the log a second time, now for the content of the records. The tree proves that they are the verified ones.
fn join(
    dir: &Path,
    mut signatures: Signatures<'_>,
    covered: u64,
    visit: &mut dyn FnMut(&CheckedRecord<'_>),
) -> Result<Joined, CommandFailure> {
    let mut tree = HashTree::new();
    let mut leases = LeaseCheck::default();
    let mut failed = None;
    let reader = Reader::open(dir).map_err(|error| unreadable(&error))?;
    for line in reader {
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                // After the covered records, a torn line is a write in progress.
                if tree.size() < covered || covered == 0 {
                    failed.get_or_insert(unreadable(&error));
                }
                continue;
            }
        };
        if line.seq < covered {
            tree.append(leaf_hash(&line.bytes));
        }
        let is_covered = line.seq < covered;
        (signatures.counts, leases.counts) = (is_covered, is_covered);
        if let Err(failure) = record(&line, is_covered, &mut signatures, &mut leases, visit) {
            failed.get_or_insert(failure);
        }
    }
    if let Err(Wrong { why, help }) = leases.finish() {
        let failure = CommandFailure::verification(format!("the log does not verify: {why}")).help(help);
        failed.get_or_insert(failure);
    }
    let Signatures {
        evals, certificates, ..
    } = signatures;
    failed.map_or(
        Ok(Joined {
            tree,
            evals,
            leases: leases.tally,
            certificates,
        }),
        Err,
    )
}

fn record(
    line: &Line,
    covered: bool,
    signatures: &mut Signatures<'_>,
    leases: &mut LeaseCheck,
    visit: &mut dyn FnMut(&CheckedRecord<'_>),
) -> Result<(), CommandFailure> {
    let Line {
        seq,
        file,
        line: number,
        ..
    } = line;
    let wrong = |Wrong { why, help }: Wrong| {
        CommandFailure::verification(format!(
            "record {seq} (`{file}`, line {number}) does not verify: {why}"
        ))
        .help(help)
    };
    let text = std::str::from_utf8(&line.bytes).map_err(|_| wrong("it is not UTF-8".into()))?;
    let kind = kind(text);
    // A record that closes a session still belongs to it.
    let Belongs {
        session,
        operator: named,
    } = serde_json::from_str(text).unwrap_or_default();
    let operator = session.and_then(|id| signatures.operator(id)).map(str::to_owned);
    let taken = signatures.take(kind, text).and(leases.take(*seq, kind, text));
    let operator = operator
        .as_deref()
        .or_else(|| session.and_then(|id| signatures.operator(id)));
    let taken = taken.and(is_of(operator, named.as_deref())).map_err(wrong);
    visit(&CheckedRecord {
        seq: *seq,
        kind,
        text,
        operator,
        covered,
    });
    taken
}

/// The kind of a record, in the form that the reader has checked: `{"v":1,"seq":N,"kind":"…"`.
fn kind(text: &str) -> &str {
    let kind = text
        .split_once(r#","kind":""#)
        .and_then(|(_, rest)| rest.split_once('"'));
    kind.map(|(kind, _)| kind).unwrap_or_default()
}

/// Checks that a record names the operator of its session, if it names one.
fn is_of(operator: Option<&str>, named: Option<&str>) -> Result<(), Wrong> {
    match (operator, named) {
        (Some(operator), Some(named)) if operator != named => Err(format!(
            "it names `{}`, and its session is that of `{}`",
            term::line(named),
            term::line(operator)
        )
        .into()),
        _ => Ok(()),
    }
}

fn unreadable(error: &debug_audit::ReadError) -> CommandFailure {
    CommandFailure::verification(format!("the log cannot be read: {error}"))
        .help("check that the folder is the log's and that you may read its files")
}

/// Compares the log with the checkpoint that this client remembers of it.
fn witness(
    vouched: &Vouched,
    verified: &Verified,
    tree: &HashTree,
) -> Result<Option<Witness>, CommandFailure> {
    let store = TrustStore::open();
    // Without a store there is nothing to compare with.
    let Ok(path) = store.path(&verified.origin) else {
        return Ok(None);
    };
    let Some(known) = store.remembered(&verified.origin, &vouched.key)? else {
        return Ok(None);
    };
    let size = known.head.size;
    let evidence = format!(
        "keep the folder and `{}`: together they are the evidence",
        path.display()
    );
    if size > verified.covered {
        return Err(CommandFailure::verification(format!(
            "the log was cut: {} records are signed, this client has seen {size}",
            verified.covered
        ))
        .help(evidence));
    }
    if tree.root_at(size) != Some(known.head.root) {
        return Err(CommandFailure::verification(format!(
            "the log was rewritten: its first {size} records are not those that this client has seen"
        ))
        .help(evidence));
    }
    let modified = std::fs::metadata(&path).and_then(|meta| meta.modified()).ok();
    let seen = modified.and_then(|time| jiff::Timestamp::try_from(time).ok());
    let seen = seen.and_then(|time| time.round(jiff::Unit::Second).ok());
    Ok(Some(Witness {
        size,
        seen: seen.map_or_else(|| "at a time unknown".to_owned(), |time| time.to_string()),
    }))
}
