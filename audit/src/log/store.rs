//! The files of an open log, and the order in which they change.
//!
//! INVARIANT: a line is signed only once it is durable under its file's final name, and the tree only grows. So no two roots are
//! ever signed for one size, and a signed head never covers a record that a crash could lose.

use std::io;
use std::sync::{Arc, PoisonError};

use super::files::{Appender, Files, Stat};
use super::{RESERVE, Shared};
use crate::checkpoint::Checkpoint;
use crate::note::SigningKey;
use crate::read::{self, LogEnd};
use crate::tree;
use crate::verify::CHECKPOINT;

/// The name of a new file of records until it is complete.
pub(super) const NEW_RECORDS: &str = "records.new";
/// The name of a new checkpoint until it replaces the old one.
pub(super) const NEW_CHECKPOINT: &str = "checkpoint.new";
/// The name of new leaf hashes until they replace the old ones.
pub(super) const NEW_LEAVES: &str = "leaves.new";
/// The file that reserves disk space for terminal records.
pub(super) const RESERVE_FILE: &str = "reserve";

/// Why the log cannot be written.
#[derive(Clone, Debug)]
pub(super) struct WriteFailure {
    pub(super) reason: String,
    /// Whether the disk or the quota is full, so that the reserve may help.
    pub(super) full: bool,
}

impl WriteFailure {
    fn of(what: &str, error: &io::Error) -> Self {
        let full = matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        );
        Self {
            reason: format!("cannot {what}: {error}"),
            full,
        }
    }
}

/// The file of records that is appended to.
pub(super) struct Current {
    pub(super) name: String,
    /// The number of its first record.
    pub(super) first: u64,
    pub(super) device: u64,
    pub(super) inode: u64,
    /// The length that we wrote.
    pub(super) written: u64,
    /// The length that is durable.
    pub(super) durable: u64,
    /// `None` after an error: what a failed write or sync left is unknown, so the file is never written again.
    pub(super) handle: Option<Box<dyn Appender>>,
}

/// A numbered line that is not yet known to be durable.
pub(super) struct Pending {
    line: Vec<u8>,
    offset: u64,
}

pub(super) struct Store {
    pub(super) files: Box<dyn Files>,
    pub(super) shared: Arc<Shared>,
    pub(super) key: SigningKey,
    pub(super) current: Option<Current>,
    pub(super) pending: Vec<Pending>,
    /// Whether the reserve exists, or the file system does not support it.
    pub(super) reserve: bool,
    /// Whether the file `checkpoint` is older than [`super::Index::checkpoint`].
    pub(super) checkpoint_stale: bool,
    /// Whether the file `checkpoint` was replaced since its last sync.
    pub(super) checkpoint_unsynced: bool,
    /// The length of the note in [`NEW_CHECKPOINT`], if that is on disk and the file system can exchange names.
    pub(super) spare: Option<usize>,
    pub(super) can_exchange: bool,
    /// The last changed file that was found not to hold what we signed.
    pub(super) refused: Option<Stat>,
    /// `None` once a write failed: a gap would invalidate the whole cache.
    pub(super) leaves: Option<Box<dyn Appender>>,
    pub(super) leaves_written: u64,
    /// Held while the log is open; closing the file releases the lock.
    pub(super) _lock: std::fs::File,
}

impl Store {
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The number of the next new line.
    pub(super) fn next(&self) -> u64 {
        self.durable() + self.pending.len() as u64
    }

    pub(super) fn pending_bytes(&self) -> usize {
        self.pending.iter().map(|pending| pending.line.len()).sum()
    }

    fn durable(&self) -> u64 {
        self.shared.read(|index| index.tree.size())
    }

    /// Hands `lines` (numbered from [`Store::next`], with newlines) to the kernel. Returns whether they are durable as well.
    ///
    /// On an error none of them is kept here, and their numbers are free again.
    pub(super) fn put(&mut self, lines: Vec<Vec<u8>>) -> Result<bool, WriteFailure> {
        self.check()?;
        let at = self.pending.len();
        let mut offset = self.current.as_ref().map_or(0, |current| current.written);
        for line in lines {
            let length = line.len() as u64;
            self.pending.push(Pending { line, offset });
            offset += length;
        }
        let done = self.write_from(at);
        if done.is_err() {
            self.pending.truncate(at);
        }
        done
    }

    fn write_from(&mut self, at: usize) -> Result<bool, WriteFailure> {
        let bytes = self.pending[at..]
            .iter()
            .map(|pending| pending.line.as_slice())
            .collect::<Vec<_>>()
            .concat();
        if let Some(current) = &mut self.current
            && let Some(handle) = &mut current.handle
        {
            if bytes.is_empty() {
                return Ok(false);
            }
            match handle.write(&bytes) {
                Ok(()) => {
                    current.written += bytes.len() as u64;
                    return Ok(false);
                }
                Err(error) => self.give_up(&WriteFailure::of("write", &error)),
            }
        }
        self.rotate()?;
        Ok(true)
    }

    /// Makes all pending lines durable.
    pub(super) fn sync(&mut self) -> Result<(), WriteFailure> {
        if let Some(current) = &mut self.current
            && let Some(handle) = &mut current.handle
        {
            match handle.sync() {
                Ok(()) => {
                    current.durable = current.written;
                    return Ok(());
                }
                Err(error) => self.give_up(&WriteFailure::of("sync", &error)),
            }
        }
        self.rotate()
    }

    /// Closes the current file permanently.
    fn give_up(&mut self, failure: &WriteFailure) {
        if let Some(current) = &mut self.current {
            current.handle = None;
            self.shared.alarm(format!(
                "`{}` was closed and is not written again: {}",
                current.name, failure.reason
            ));
        }
    }

    /// Starts a new file with all lines that are not durable, and so makes them durable.
    ///
    /// The file gets its name only when it is complete. If the last file held nothing durable, the new one has the same name and
    /// replaces it, with the same lines and more.
    fn rotate(&mut self) -> Result<(), WriteFailure> {
        let first = self.durable();
        let name = read::file_name(first);
        let mut bytes = Vec::new();
        for pending in &mut self.pending {
            pending.offset = bytes.len() as u64;
            bytes.extend_from_slice(&pending.line);
        }
        let (handle, stat) = self.new_file(&name, &bytes).map_err(|error| {
            // Best effort: on a full disk it frees space, and the next attempt replaces the file anyway.
            let _ = self.files.remove(NEW_RECORDS);
            WriteFailure::of(&format!("write a new file `{name}`"), &error)
        })?;
        if self.current.is_some() {
            self.shared.alarm(format!("the log goes on in `{name}`"));
        }
        let Stat {
            device,
            inode,
            length,
        } = stat;
        let current = Current {
            name: name.clone(),
            first,
            device,
            inode,
            written: length,
            durable: length,
            handle,
        };
        self.current = Some(current);
        let mut index = self.shared.index.write().unwrap_or_else(PoisonError::into_inner);
        if index.files.last().is_none_or(|(last, _)| *last < first) {
            index.files.push((first, name));
        }
        Ok(())
    }

    fn new_file(&self, name: &str, bytes: &[u8]) -> io::Result<(Option<Box<dyn Appender>>, Stat)> {
        let mut handle = self.files.create_over(NEW_RECORDS)?;
        handle.write(bytes)?;
        handle.sync()?;
        let stat = handle.stat()?;
        self.files.rename(NEW_RECORDS, name)?;
        self.files.sync_dir()?;
        Ok((Some(handle), stat))
    }

    /// Checks whether the file was truncated, extended or replaced. If the signed records are intact, starts a new file.
    fn check(&mut self) -> Result<(), WriteFailure> {
        let Some(current) = &self.current else {
            return Ok(());
        };
        if current.handle.is_none() && current.durable == 0 {
            return Ok(()); // None of its content is durable.
        }
        let seen = self
            .files
            .stat(&current.name)
            .map_err(|error| WriteFailure::of("find the current file", &error))?;
        let same = (seen.device, seen.inode) == (current.device, current.inode);
        let fits = match current.handle {
            Some(_) => seen.length == current.written,
            // A failed write may have left more.
            None => seen.length >= current.durable,
        };
        if same && fits {
            return Ok(());
        }
        let name = current.name.clone();
        let changed = format!("`{name}` was changed by another program");
        if self.refused != Some(seen) && self.is_intact() {
            self.give_up(&WriteFailure {
                reason: format!("{changed}; the signed records in it are intact"),
                full: false,
            });
            if let Some(current) = &mut self.current {
                (current.device, current.inode) = (seen.device, seen.inode);
            }
            return Ok(());
        }
        if self.refused.replace(seen) != Some(seen) {
            self.shared
                .alarm(format!("{changed}, and it no longer holds the signed records"));
        }
        Err(WriteFailure {
            reason: format!("{changed}, and it no longer holds the signed records"),
            full: false,
        })
    }

    /// Whether the current file's name leads to the signed lines.
    fn is_intact(&self) -> bool {
        let Some(current) = &self.current else { return true };
        let Ok(file) = read::open_file(&self.files.dir().join(&current.name)) else {
            return false;
        };
        let (mut reader, mut bytes) = (io::BufReader::new(file), Vec::new());
        (current.first..self.durable()).all(|seq| {
            let whole = matches!(
                read::read_line(&mut reader, &mut bytes),
                Ok(Some((LogEnd::Newline, _)))
            );
            whole && self.shared.read(|index| index.tree.leaf(seq)) == Some(tree::leaf_hash(&bytes))
        })
    }

    /// Signs a head over the pending lines, which are durable, and puts it in place.
    pub(super) fn publish(&mut self) -> Arc<str> {
        let mut index = self.shared.index.write().unwrap_or_else(PoisonError::into_inner);
        for pending in self.pending.drain(..) {
            let line = pending.line.strip_suffix(b"\n").unwrap_or(&pending.line);
            index.tree.append(tree::leaf_hash(line));
            index.offsets.push(pending.offset);
        }
        let (size, root) = (index.tree.size(), index.tree.root());
        let note: Arc<str> = Checkpoint {
            origin: self.shared.origin.clone(),
            size,
            root,
        }
        .sign(&self.key)
        .into();
        index.checkpoint = Arc::clone(&note);
        drop(index);
        if let Err(error) = self.put_checkpoint(note.as_bytes()) {
            // The records are on disk, and the next start signs again; but this must succeed before new records are taken.
            self.shared
                .alarm(format!("cannot replace `{CHECKPOINT}`: {error}"));
            self.checkpoint_stale = true;
        } else {
            self.checkpoint_stale = false;
            self.checkpoint_unsynced = true;
        }
        note
    }

    /// Replaces the file `checkpoint` atomically.
    ///
    /// A rename over an existing file makes ext4 write the new file at once and lengthens the journal that the next `fdatasync`
    /// waits for: a batch then took three times as long (370 against 120 µs). Exchanging two files costs 25 µs.
    fn put_checkpoint(&mut self, note: &[u8]) -> io::Result<()> {
        // Only over a note of the same length: then a power loss leaves a complete note, this one or an older one.
        if self.spare == Some(note.len()) {
            let written = self.files.overwrite(NEW_CHECKPOINT, note);
            if written
                .and_then(|()| self.files.exchange(NEW_CHECKPOINT, CHECKPOINT))
                .is_ok()
            {
                return Ok(());
            }
            self.can_exchange = false;
        }
        self.spare = None;
        self.files.replace(NEW_CHECKPOINT, CHECKPOINT, note, false)?;
        if self.can_exchange {
            self.spare = self.make_spare(note).ok().map(|()| note.len());
        }
        Ok(())
    }

    /// Writes and syncs the spare, so that its blocks are on disk before it is ever named `checkpoint`.
    fn make_spare(&self, note: &[u8]) -> io::Result<()> {
        let mut file = self.files.create_over(NEW_CHECKPOINT)?;
        file.write(note)?;
        file.sync()
    }

    /// Removes the files that only an open log needs.
    pub(super) fn tidy(&mut self) {
        if self.spare.take().is_some() {
            let _ = self.files.remove(NEW_CHECKPOINT);
        }
    }

    /// Retries what failed without losing a record; no record is taken until it succeeds.
    pub(super) fn prepare(&mut self) -> Result<(), WriteFailure> {
        if !self.reserve {
            self.make_reserve()?;
        }
        if self.checkpoint_stale {
            let note = self.shared.read(|index| Arc::clone(&index.checkpoint));
            self.put_checkpoint(note.as_bytes())
                .map_err(|error| WriteFailure::of("replace the checkpoint", &error))?;
            (self.checkpoint_stale, self.checkpoint_unsynced) = (false, true);
        }
        Ok(())
    }

    pub(super) fn make_reserve(&mut self) -> Result<(), WriteFailure> {
        match self.files.allocate(RESERVE_FILE, RESERVE) {
            // A file system that cannot reserve space has none to release either.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(WriteFailure::of("set the reserve aside", &error)),
            Ok(()) => {}
        }
        self.reserve = true;
        Ok(())
    }

    /// Releases the reserve to the disk. Until it exists again only terminal records are written.
    pub(super) fn release_reserve(&mut self) {
        self.reserve = false;
        if self.files.remove(RESERVE_FILE).is_ok() {
            self.shared
                .alarm("the disk is full: the reserve is used for the ends of leases".to_owned());
        }
    }

    /// Appends the leaf hashes of durable records to the cache. It only serves to name the record that was altered.
    pub(super) fn cache_leaves(&mut self) {
        let Some(file) = &mut self.leaves else { return };
        let written = self.leaves_written;
        let new: Vec<u8> = self.shared.read(|index| {
            (written..index.tree.size())
                .filter_map(|seq| index.tree.leaf(seq))
                .flatten()
                .collect()
        });
        if new.is_empty() {
            return;
        }
        match file.write(&new) {
            Ok(()) => self.leaves_written += new.len() as u64 / 32,
            Err(_) => self.leaves = None,
        }
    }

    /// Makes the file `checkpoint` survive a power loss, so that the next start need not sign again.
    pub(super) fn sync_checkpoint(&mut self) {
        if self.checkpoint_unsynced {
            // If it fails, a power loss may restore an older checkpoint, which is valid too.
            let _ = self.files.append(CHECKPOINT).and_then(|mut file| file.sync());
            let _ = self.files.sync_dir();
            self.checkpoint_unsynced = false;
        }
    }
}
