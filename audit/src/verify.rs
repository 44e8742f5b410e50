//! Verifies a log folder from its first record to its last; changes nothing.

use std::fmt;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::note::{self, MAX_NOTE, VerifierKey};
use crate::read::{self, LinePlace, LogEnd, Place, Raw, RawLines, ReadError};
use crate::tree::{self, Edge};
use crate::{Hash, line};

#[cfg(test)]
mod tests;

/// The newest signed head.
pub(crate) const CHECKPOINT: &str = "checkpoint";
/// The leaf hashes, 32 bytes each: an untrusted cache, used to name the record that was altered.
pub(crate) const LEAVES: &str = "leaves";

/// A log that verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verified {
    /// The log's origin.
    pub origin: String,
    /// The number of records that the checkpoint covers. Nothing is proven about later records.
    pub covered: u64,
    /// The number of complete, well-formed records.
    pub total: u64,
    /// The root over the covered records.
    pub root: Hash,
    /// Whether the checkpoint's signature was verified with a key; if not, the log is only consistent in itself.
    pub vouched: bool,
    /// Whether an incomplete record follows the last one: a write in progress, or one that a crash cut.
    pub torn: bool,
}

/// Why a log does not verify.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file or the folder cannot be read.
    #[error("cannot read `{}`", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// There is no checkpoint.
    #[error("there is no `{CHECKPOINT}` in `{}`", .dir.display())]
    NoCheckpoint {
        /// The log's folder.
        dir: PathBuf,
    },
    /// The checkpoint does not verify.
    #[error("the file `{CHECKPOINT}` does not hold")]
    Note(#[source] CheckpointError),
    /// The first record has another origin than the checkpoint.
    #[error("{place} is of the log {}, the checkpoint of `{}`", OriginText(.record), .checkpoint.escape_debug())]
    Origin {
        /// The place of record 0.
        place: Place,
        /// The origin in the first record; `None` if that is no `boot` record with an origin.
        record: Option<String>,
        /// The signed origin.
        checkpoint: String,
    },
    /// This covered record is not the one that was signed, according to the leaf hashes beside the log.
    #[error("{place} was altered: it is not what was signed")]
    Altered {
        /// The record's place.
        place: Place,
    },
    /// A line in a form that no log writes.
    #[error("{place} is broken: {reason}")]
    Broken {
        /// The line's place.
        place: Place,
        /// Why it is rejected.
        reason: String,
    },
    /// A covered record was cut.
    #[error("{place} is torn: its line has no end; the checkpoint covers {covered} records")]
    Torn {
        /// The record's place.
        place: Place,
        /// The number of signed records.
        covered: u64,
    },
    /// Records in the middle or at the end are missing.
    #[error("the records {first} to {last} are missing")]
    Missing {
        /// The first missing record.
        first: u64,
        /// The last missing record.
        last: u64,
    },
    /// A covered record was altered; it is unknown which.
    #[error(
        "the {covered} records do not lead to the signed root hash; \
         which of them was altered cannot be told, because the file `{LEAVES}` {leaves}"
    )]
    Root {
        /// The number of signed records.
        covered: u64,
        /// Why the leaf hashes cannot tell which.
        leaves: &'static str,
    },
}

struct OriginText<'a>(&'a Option<String>);

impl fmt::Display for OriginText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(origin) => write!(f, "`{}`", origin.escape_debug()),
            None => write!(f, "of no `boot` record"),
        }
    }
}

impl VerifyError {
    /// The exact place, if there is one.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::Origin { place, .. }
            | Self::Altered { place }
            | Self::Broken { place, .. }
            | Self::Torn { place, .. } => Some(place),
            Self::Io { .. }
            | Self::NoCheckpoint { .. }
            | Self::Note(_)
            | Self::Missing { .. }
            | Self::Root { .. } => None,
        }
    }

    /// What an operator can do next; printed after `help:`.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Io { .. } => "check that the folder is the log's and that you may read its files",
            Self::NoCheckpoint { .. } => {
                "put the checkpoint back from a copy of the folder; without it nothing tells what was signed. \
                 To go on without it, keep this folder as evidence and begin a new log in an empty one"
            }
            Self::Note(CheckpointError::Note(note::NoteError::UnknownKey(_))) => {
                "use the key that signed this log: compare the key file's name and hash with the inventory"
            }
            Self::Note(_) | Self::Origin { .. } => {
                "put the checkpoint back from a copy of the folder, or keep the folder as evidence and begin a new log"
            }
            Self::Altered { .. } | Self::Broken { .. } | Self::Root { .. } => {
                "keep the folder as evidence; compare it with a copy and with the checkpoints that operators hold"
            }
            Self::Torn { .. } | Self::Missing { .. } => {
                "signed records are gone: keep the folder as evidence and look for them in a copy"
            }
        }
    }
}

impl From<ReadError> for VerifyError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io { path, source } => Self::Io { path, source },
            ReadError::Broken { place, reason } => Self::Broken { place, reason },
            ReadError::Torn { place } => Self::Torn { place, covered: 0 },
            ReadError::Missing { first, last, .. } => Self::Missing { first, last },
        }
    }
}

/// Verifies the log in `dir`: the form and number of each line, and the root over the covered ones against the checkpoint.
///
/// Only reads and takes no lock, so the log may be live or a copy. Needs memory for one line and 64 hashes. With `key` the
/// checkpoint must be signed by it and belong to a log of its name.
///
/// # Errors
/// [`VerifyError`], with the exact place if it is known.
pub fn verify(dir: &Path, key: Option<&VerifierKey>) -> Result<Verified, VerifyError> {
    // The checkpoint is read first: the records that it covers were on disk before it was written, also in a live log.
    let (_, checkpoint) =
        stored(dir, key)?.ok_or_else(|| VerifyError::NoCheckpoint { dir: dir.to_owned() })?;
    let examined = examine(dir, &checkpoint, &mut |_, _| ())?;
    let Checkpoint {
        origin,
        size: covered,
        root,
    } = checkpoint;
    Ok(Verified {
        origin,
        covered,
        total: examined.total,
        root,
        vouched: key.is_some(),
        torn: examined.torn.is_some(),
    })
}

/// The stored checkpoint and its note; `None` if there is no such file.
pub(crate) fn stored(
    dir: &Path,
    key: Option<&VerifierKey>,
) -> Result<Option<(String, Checkpoint)>, VerifyError> {
    let path = dir.join(CHECKPOINT);
    let bytes = match read::read_small(&path, MAX_NOTE) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(VerifyError::Io { path, source }),
    };
    let note = String::from_utf8(bytes)
        .map_err(|_| VerifyError::Note(CheckpointError::Note(note::NoteError::Form("it is not UTF-8"))))?;
    let checkpoint = match key {
        Some(key) => Checkpoint::open(&note, key),
        None => note::dangerous_text_of(&note)
            .map_err(CheckpointError::from)
            .and_then(Checkpoint::parse),
    };
    Ok(Some((note, checkpoint.map_err(VerifyError::Note)?)))
}

/// The extent of a log with a covered part that verifies.
pub(crate) struct Examined {
    pub(crate) total: u64,
    /// Where the complete records end, if anything follows them: only in the last file, and never covered.
    pub(crate) torn: Option<LinePlace>,
}

/// Verifies all lines against `checkpoint` and hands each valid one to `sink`, with its leaf hash.
pub(crate) fn examine(
    dir: &Path,
    checkpoint: &Checkpoint,
    sink: &mut dyn FnMut(&LinePlace, Hash),
) -> Result<Examined, VerifyError> {
    let error = match examine_lines(dir, checkpoint, sink) {
        Ok(examined) => return Ok(examined),
        Err(error) => error,
    };
    let covered = checkpoint.size;
    match &error {
        VerifyError::Root { .. } => {}
        // A broken covered line was altered, and perhaps is not the first such line.
        VerifyError::Broken { place, .. } | VerifyError::Origin { place, .. } if place.seq < covered => {}
        _ => return Err(error),
    }
    match (locate(dir, checkpoint), error) {
        (Ok(place), _) => Err(VerifyError::Altered { place }),
        (Err(leaves), VerifyError::Root { .. }) => Err(VerifyError::Root { covered, leaves }),
        (Err(_), error) => Err(error),
    }
}

fn examine_lines(
    dir: &Path,
    checkpoint: &Checkpoint,
    sink: &mut dyn FnMut(&LinePlace, Hash),
) -> Result<Examined, VerifyError> {
    let covered = checkpoint.size;
    let (mut raw, mut bytes, mut edge, mut torn) = (RawLines::open(dir)?, Vec::new(), Edge::default(), None);
    check_root(&edge, checkpoint)?;
    while let Some(next) = raw.next(&mut bytes)? {
        let at = match next {
            Raw::Line(at) => at,
            Raw::Gap { first, last, .. } => return Err(VerifyError::Missing { first, last }),
        };
        if at.place.seq >= covered && is_torn(&at, &bytes) {
            torn = Some(at);
            break;
        }
        read::checked(&at, &bytes).map_err(|error| with_covered(error.into(), covered))?;
        check_origin(&at, &bytes, checkpoint)?;
        let leaf = tree::leaf_hash(&bytes);
        edge.append(leaf);
        check_root(&edge, checkpoint)?;
        sink(&at, leaf);
    }
    if edge.size() < covered {
        return Err(VerifyError::Missing {
            first: edge.size(),
            last: covered - 1,
        });
    }
    Ok(Examined {
        total: edge.size(),
        torn,
    })
}

/// Whether a crash may have left this line: it has no newline, or holds bytes that never reached the disk and read as zeros.
fn is_torn(at: &LinePlace, bytes: &[u8]) -> bool {
    at.last_file && (at.end == LogEnd::Torn || bytes.contains(&0))
}

fn with_covered(error: VerifyError, covered: u64) -> VerifyError {
    match error {
        VerifyError::Torn { place, .. } => VerifyError::Torn { place, covered },
        other => other,
    }
}

fn check_origin(at: &LinePlace, bytes: &[u8], checkpoint: &Checkpoint) -> Result<(), VerifyError> {
    if at.place.seq != 0 {
        return Ok(());
    }
    let record = line::origin_of(bytes);
    if record.as_deref() == Some(checkpoint.origin.as_str()) {
        return Ok(());
    }
    Err(VerifyError::Origin {
        place: at.place.clone(),
        record,
        checkpoint: checkpoint.origin.clone(),
    })
}

fn check_root(edge: &Edge, checkpoint: &Checkpoint) -> Result<(), VerifyError> {
    if edge.size() == checkpoint.size && edge.root() != checkpoint.root {
        return Err(VerifyError::Root {
            covered: checkpoint.size,
            leaves: "was not looked at",
        });
    }
    Ok(())
}

/// Finds the first covered record that differs from the signed one.
///
/// The leaf hashes prove themselves: lines are compared with them only if they lead to the signed root.
///
/// # Errors
/// Why the leaf hashes cannot be used.
fn locate(dir: &Path, checkpoint: &Checkpoint) -> Result<Place, &'static str> {
    let unreadable = |_| "cannot be read";
    let mut edge = Edge::default();
    let mut leaves = leaves(dir).map_err(unreadable)?;
    while edge.size() < checkpoint.size {
        edge.append(next_leaf(&mut leaves).map_err(|_| "is missing or too short")?);
    }
    if edge.root() != checkpoint.root {
        return Err("does not lead to the signed root hash either");
    }
    let mut leaves = self::leaves(dir).map_err(unreadable)?;
    let mut raw = RawLines::open(dir).map_err(|_| "cannot be compared")?;
    let mut bytes = Vec::new();
    for _ in 0..checkpoint.size {
        let Ok(Some(Raw::Line(at))) = raw.next(&mut bytes) else {
            break;
        };
        let signed = next_leaf(&mut leaves).map_err(unreadable)?;
        if at.end != LogEnd::Newline || tree::leaf_hash(&bytes) != signed {
            return Ok(at.place);
        }
    }
    Err("fits every record that is there")
}

fn leaves(dir: &Path) -> io::Result<BufReader<std::fs::File>> {
    read::open_file(&dir.join(LEAVES)).map(BufReader::new)
}

fn next_leaf(leaves: &mut impl Read) -> io::Result<Hash> {
    let mut leaf = [0; 32];
    leaves.read_exact(&mut leaf)?;
    Ok(leaf)
}
