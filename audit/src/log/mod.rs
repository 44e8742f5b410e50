//! Writing a log.
//!
//! All appends go through one queue. One writer at a time, the thread `debug-audit` or a caller that waits while that thread is
//! idle, numbers the queued records, hands them to the kernel in one write, syncs once for all that need it, and signs one head.
//! The writer's turns and decisions are in `thread`, the files and the order of their changes in `store`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

mod files;
mod recover;
mod shared;
mod store;
mod thread;
mod ticket;

#[cfg(test)]
mod tests;

use crate::note::SigningKey;
use crate::tree;
use crate::verify::VerifyError;
use crate::{Hash, line, read};
use files::{Disk, Files};
use shared::{Index, Shared};
pub use ticket::{AppendError, Receipt, Ticket};
use ticket::{Promise, WriteJob, lock};

/// The limit on bytes of records held in memory while the log cannot be written: room for thousands of reverts, and small enough
/// that a service with a full disk does not also run out of memory.
pub const HELD_MAX: usize = 4 * 1024 * 1024;
/// How often an unwritable log is retried, besides at each append.
pub const RETRY: Duration = Duration::from_secs(1);
/// After this time without work, records that were written without a sync are synced, and so is the file `checkpoint`.
pub const IDLE: Duration = Duration::from_millis(200);
/// The disk space reserved for terminal records on a full disk: room for some thousand of them.
pub const RESERVE: u64 = 1024 * 1024;

/// One record to be appended.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What happened, such as `eval`: 1 to 64 bytes of `a-z`, `0-9`, `.`, `_`, `-`.
    pub kind: &'static str,
    /// A JSON object on one line, without the members `v`, `seq`, `kind` and `origin`; logged byte for byte.
    pub body: String,
    /// Whether to hold the record in memory while the log cannot be written, instead of failing.
    pub keep: bool,
    /// Whether the record may use the reserve on a full disk: for the end of a lease.
    pub terminal: bool,
}

/// How far the records of an append get without a call on their [`Ticket`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Until {
    /// To the kernel: they cause no sync until the log is idle or a caller waits for [`Ticket::durable`].
    Written,
    /// To the disk: one sync serves all records that need one.
    Durable,
}

/// Whether the log can be written.
#[derive(Clone, Debug)]
pub enum Health {
    /// The last write succeeded.
    Ok,
    /// Records are refused, or held in memory.
    Failing {
        /// Since when, on the monotonic clock.
        since: Instant,
        /// The last reason.
        reason: String,
        /// The bytes of records held in memory.
        held: usize,
    },
}

/// The state of the log that [`Log::open`] opened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OpenedLog {
    /// The log's origin: `<key name>/<16 hex digits>`.
    pub origin: String,
    /// The number of its records; the checkpoint covers all of them.
    pub size: u64,
    /// Whether it has no records, so that the next must be of kind `boot`.
    pub fresh: bool,
    /// The repairs after a crash, for a record of kind `recovered`.
    pub recovered: Option<Recovered>,
}

/// What a crash left behind, and how it was repaired.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Recovered {
    /// The part of a line that was moved aside.
    pub torn: Option<Torn>,
    /// The number of records that the stored checkpoint covered.
    pub covered: u64,
    /// The number of complete records after those; they are signed now.
    pub adopted: u64,
}

/// A torn line, and where its bytes are now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Torn {
    /// The file it was cut from.
    pub file: String,
    /// The file its bytes were moved to.
    pub moved_to: String,
    /// The number that its record would have had.
    pub seq: u64,
    /// The length of the torn line, in bytes.
    pub bytes: u64,
}

/// Why a log cannot be opened. Nothing on disk was changed, except by [`OpenError::Io`] during recovery.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the log open.
    #[error("the log in `{}` is in use by another process", .0.display())]
    Held(PathBuf),
    /// A file or the folder cannot be made, read or written.
    #[error("cannot {what} in `{}`", .dir.display())]
    Io {
        /// The operation that failed.
        what: &'static str,
        /// The log's folder.
        dir: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The log does not verify; the error names the exact place.
    #[error("the log in `{}` does not verify", .dir.display())]
    Broken {
        /// The log's folder.
        dir: PathBuf,
        /// What is wrong, and where.
        source: VerifyError,
    },
    /// The system gives no random bytes for the new log's id.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

impl OpenError {
    /// What an operator can do next; printed after `help:`.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Held(_) => "give each instance a folder of its own",
            Self::Io { .. } => "the folder must be writable by the service's user, on a disk with room",
            Self::Broken { source, .. } => source.advice(),
            Self::Random(_) => "check `/dev/urandom`",
        }
    }
}

/// Why a log was not closed cleanly.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CloseError {
    /// The log cannot be written, and records were still held in memory.
    #[error("{bytes} bytes of records never got to the disk, because the audit log cannot be written")]
    Lost {
        /// The number of their bytes.
        bytes: usize,
    },
    /// The disk did not answer in time.
    #[error("the audit log was not closed in time")]
    Timeout,
}

/// A log open for appending. Clones share it; dropping the last one closes it.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
    _closer: Arc<Closer>,
}

impl Log {
    /// Opens the log in `dir`, or creates one there, and verifies all of it.
    ///
    /// A torn last line is moved aside if the stored checkpoint does not cover it; anything else that does not verify is an
    /// error. An open log needs 72 bytes of memory a record (hashes and offset).
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn open(dir: &Path, key: SigningKey) -> Result<(Self, OpenedLog), OpenError> {
        files::make_dir(dir).map_err(|source| OpenError::Io {
            what: "make the folder",
            dir: dir.to_owned(),
            source,
        })?;
        Self::open_with(Box::new(Disk::new(dir)), key)
    }

    fn open_with(files: Box<dyn Files>, key: SigningKey) -> Result<(Self, OpenedLog), OpenError> {
        let dir = files.dir().to_owned();
        let (store, opened) = recover::open(files, key)?;
        let shared = Arc::clone(store.shared());
        thread::spawn(store).map_err(|source| OpenError::Io {
            what: "start the thread for the log",
            dir,
            source,
        })?;
        Ok((
            Self {
                _closer: Arc::new(Closer(Arc::clone(&shared))),
                shared,
            },
            opened,
        ))
    }

    /// Appends records with consecutive numbers, all or none of them; never blocks.
    ///
    /// If one of them is to be kept while the log cannot be written, all are. Without entries the ticket waits for everything
    /// appended before; its receipt's `first` is then one past its `last`.
    pub fn append(&self, entries: Vec<Entry>, until: Until) -> Ticket {
        let promise = Arc::new(Promise::default());
        match self.tails(&entries) {
            Ok(tails) => self.shared.push(WriteJob {
                tails,
                first_kind: entries.first().map(|entry| entry.kind),
                until,
                keep: entries.iter().any(|entry| entry.keep),
                terminal: entries.iter().any(|entry| entry.terminal),
                promise: Arc::clone(&promise),
            }),
            Err(error) => promise.tell_error(&error),
        }
        Ticket {
            promise,
            shared: Arc::clone(&self.shared),
            until,
            seen_to: AtomicBool::new(false),
        }
    }

    fn tails(&self, entries: &[Entry]) -> Result<Vec<Vec<u8>>, AppendError> {
        let tail = |entry: &Entry| {
            let origin = (entry.kind == "boot").then_some(self.shared.origin.as_str());
            let max = line::room(entry.kind, origin);
            if entry.body.len() > max {
                return Err(AppendError::TooLong {
                    bytes: entry.body.len(),
                    max,
                });
            }
            Ok(line::tail(entry.kind, origin, &entry.body)?)
        };
        entries.iter().map(tail).collect()
    }

    /// The log's origin: `<key name>/<16 hex digits>`.
    pub fn origin(&self) -> &str {
        &self.shared.origin
    }

    /// The number of records that are on disk and covered by [`Log::checkpoint`].
    pub fn size(&self) -> u64 {
        self.shared.read(|index| index.tree.size())
    }

    /// The newest signed head, a C2SP note.
    pub fn checkpoint(&self) -> Arc<str> {
        self.shared.read(|index| Arc::clone(&index.checkpoint))
    }

    /// The proof that record `index` is in the log of `size` records; `None` if fewer are on disk.
    pub fn inclusion(&self, index: u64, size: u64) -> Option<Vec<Hash>> {
        self.shared.read(|shared| shared.tree.inclusion(index, size))
    }

    /// The proof that the log of `from` records is a prefix of the log of `to` records; `None` if fewer are on disk.
    pub fn consistency(&self, from: u64, to: u64) -> Option<Vec<Hash>> {
        self.shared.read(|index| index.tree.consistency(from, to))
    }

    /// The line of record `seq` without its newline; `None` if it is not on disk.
    ///
    /// # Errors
    /// It cannot be read, or is not what was written.
    pub fn record(&self, seq: u64) -> io::Result<Option<Vec<u8>>> {
        let Some((name, offset, leaf)) = self.shared.read(|index| index.find(seq)) else {
            return Ok(None);
        };
        let line = read::line_at(&self.shared.dir.join(&name), offset)?;
        match line.filter(|line| tree::leaf_hash(line) == leaf) {
            Some(line) => Ok(Some(line)),
            None => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("record {seq} in `{name}` is not what was written: the file was altered"),
            )),
        }
    }

    /// Whether the log can be written.
    pub fn health(&self) -> Health {
        lock(&self.shared.state).health.clone()
    }

    /// Whether the log is broken: a panic while writing ended it.
    pub fn is_broken(&self) -> bool {
        lock(&self.shared.queue).broken
    }

    /// Takes the messages about the log's files since the last call, for records of kind `alarm`.
    pub fn alarms(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.shared.state).alarms)
    }

    /// Writes and syncs the queue, ends the thread and releases the folder, for all clones.
    ///
    /// # Errors
    /// [`CloseError`]; after [`CloseError::Timeout`] the thread still runs to its end.
    pub fn close(self, timeout: Duration) -> Result<(), CloseError> {
        self.shared.ask_to_close();
        let queue = lock(&self.shared.queue);
        let (queue, _) = self
            .shared
            .stopped
            .wait_timeout_while(queue, timeout, |queue| !queue.stopped)
            .unwrap_or_else(PoisonError::into_inner);
        match (queue.stopped, queue.lost) {
            (false, _) => Err(CloseError::Timeout),
            (true, 0) => Ok(()),
            (true, bytes) => Err(CloseError::Lost { bytes }),
        }
    }
}

/// Asks the thread to end when the last clone of the log is dropped.
struct Closer(Arc<Shared>);

impl Drop for Closer {
    fn drop(&mut self) {
        self.0.ask_to_close();
    }
}
