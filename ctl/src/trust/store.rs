//! What this client remembers of an agent: the checkpoints of its log, and the evidence if one does not continue another.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use debug_audit::{Checkpoint, Hash, VerifierKey, note, tree};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::trust::pin::Pin;
use crate::ui::failure::CommandFailure;

#[cfg(test)]
mod tests;

/// The file extension of remembered checkpoints.
const REMEMBERED: &str = "checkpoint";
/// The limit on files of the folder searched for other logs of an instance.
const MAX_REMEMBERED: usize = 10_000;
/// How long to wait for the folder's lock. Another client holds it for one write; a client that was stopped during that write
/// must not keep a change from being ended.
const LOCK_LIMIT: Duration = Duration::from_secs(2);
/// How often the lock is tried.
const LOCK_EVERY: Duration = Duration::from_millis(20);

/// A checkpoint that the pinned key signed, with its note.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Signed {
    pub(crate) note: String,
    pub(crate) head: Checkpoint,
}

impl Signed {
    /// Verifies a note.
    ///
    /// # Errors
    /// It is not a checkpoint signed by `key`.
    pub(crate) fn open(note: &str, key: &VerifierKey) -> Result<Self, String> {
        let head = Checkpoint::open(note, key).map_err(|error| error.to_string())?;
        Ok(Self {
            note: note.to_owned(),
            head,
        })
    }

    /// Checks that this head only grew from the older one.
    ///
    /// # Errors
    /// The check that failed.
    pub(crate) fn grew_from(&self, older: &Self, proof: &[Hash]) -> Result<(), String> {
        if self.head.origin != older.head.origin {
            return Err(format!("it is of the log `{}`", self.head.origin));
        }
        let (from, to) = (&older.head, &self.head);
        if to.size < from.size {
            return Err(format!(
                "it has {} records, fewer than the {} known before",
                to.size, from.size
            ));
        }
        tree::verify_consistency(from.size, to.size, &from.root, &to.root, proof)
            .map_err(|error| error.to_string())
    }
}

/// Decodes the hashes of a message.
///
/// # Errors
/// One is not 32 bytes of standard base64.
pub(crate) fn hashes(texts: &[String]) -> Result<Vec<Hash>, String> {
    let hash = |text: &String| {
        let bytes = BASE64_STANDARD.decode(text).ok();
        bytes
            .and_then(|bytes| Hash::try_from(bytes).ok())
            .ok_or("a hash is not 32 bytes of base64".to_owned())
    };
    texts.iter().map(hash).collect()
}

/// The folder of this client's memory, or why there is none; a missing folder must not keep a change from being ended.
#[derive(Clone, Debug)]
pub(crate) struct TrustStore {
    dir: Result<PathBuf, CommandFailure>,
}

/// The evidence kept when an agent shows another log than before.
#[derive(Serialize)]
struct ForkEvidence<'a> {
    what: &'a str,
    seen: String,
    agent: &'a str,
    vkey: String,
    remembered: &'a str,
    offered: &'a str,
    proof: &'a [String],
}

impl TrustStore {
    /// The user's folder: `$XDG_STATE_HOME/debugctl`, else `~/.local/state/debugctl`, made if it is missing. If neither variable
    /// is set or the folder cannot be made, every use of the store fails with that reason.
    pub(crate) fn open() -> Self {
        // The XDG specification asks to ignore a relative path.
        let absolute = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let base =
            absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
        let nowhere = || {
            CommandFailure::memory("there is no place to remember checkpoints in: HOME is not set")
                .help("set XDG_STATE_HOME to a folder that is kept, such as `$HOME/.local/state`")
        };
        base.map_or_else(
            || Self { dir: Err(nowhere()) },
            |base| Self::at(base.join("debugctl")),
        )
    }

    /// The folder `dir`, made if it is missing.
    pub(crate) fn at(dir: PathBuf) -> Self {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        let failed = |error: io::Error| {
            CommandFailure::memory(format!(
                "there is no place to remember checkpoints in: cannot make the folder `{}`: {error}",
                dir.display()
            ))
            .help(
                "make room or give back the rights, or set XDG_STATE_HOME to a folder of yours that is kept",
            )
        };
        Self {
            dir: made.map_err(failed).map(|()| dir),
        }
    }

    /// The path of a file in the folder.
    ///
    /// # Errors
    /// There is no folder.
    pub(crate) fn file(&self, name: &str) -> Result<PathBuf, CommandFailure> {
        self.dir.as_ref().map(|dir| dir.join(name)).map_err(Clone::clone)
    }

    /// The path of an origin's remembered checkpoint.
    ///
    /// # Errors
    /// There is no folder.
    pub(crate) fn path(&self, origin: &str) -> Result<PathBuf, CommandFailure> {
        self.file(&format!("{}.{REMEMBERED}", hex(&Sha256::digest(origin))))
    }

    /// The remembered checkpoint of an origin.
    ///
    /// # Errors
    /// It cannot be read or does not verify. Without it a rewritten log could not be detected, so the session then only ends and
    /// lists changes.
    pub(crate) fn remembered(
        &self,
        origin: &str,
        key: &VerifierKey,
    ) -> Result<Option<Signed>, CommandFailure> {
        let path = self.path(origin)?;
        let broken = |why: String| {
            CommandFailure::verification(format!(
                "the remembered checkpoint `{}` does not hold: {why}",
                path.display()
            ))
            .help("if the log's key was replaced on purpose, move this file away; it is evidence")
        };
        let note = match read(&path) {
            Ok(bytes) => String::from_utf8(bytes).map_err(|_| broken("it is not UTF-8".to_owned()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(broken(error.to_string())),
        };
        let signed = Signed::open(&note, key).map_err(broken)?;
        if signed.head.origin != origin {
            return Err(broken(format!("it is of the log `{}`", signed.head.origin)));
        }
        Ok(Some(signed))
    }

    /// Remembers a checkpoint, unless a larger one is already remembered.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn keep(&self, signed: &Signed, key: &VerifierKey) -> Result<(), CommandFailure> {
        let path = self.path(&signed.head.origin)?;
        let failed = |error: io::Error| {
            let folder = path.parent().unwrap_or(&path).display();
            CommandFailure::memory(format!("cannot remember a checkpoint in `{folder}`: {error}"))
                .help("make room or give back the rights; without it a rewritten log cannot be told")
        };
        // Other clients may run at the same time: the lock makes the comparison and the replacement atomic.
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(self.file("lock")?);
        let lock = lock.map_err(failed)?;
        hold(&lock).map_err(failed)?;
        if let Some(known) = self.remembered(&signed.head.origin, key)?
            && known.head.size >= signed.head.size
        {
            return Ok(());
        }
        replace(&path, signed.note.as_bytes()).map_err(failed)
    }

    /// The origins of other remembered logs of the same instance.
    pub(crate) fn other_logs(&self, origin: &str, key: &VerifierKey) -> Vec<String> {
        let Some(files) = self.dir.as_ref().ok().and_then(|dir| fs::read_dir(dir).ok()) else {
            return Vec::new();
        };
        let mut origins: Vec<String> = files
            .take(MAX_REMEMBERED)
            .filter_map(|file| {
                let path = file.ok()?.path();
                let note = read(&path).ok().filter(|bytes| bytes.len() <= note::MAX_NOTE)?;
                let origin = Checkpoint::open(std::str::from_utf8(&note).ok()?, key)
                    .ok()?
                    .origin;
                Some(origin)
            })
            .filter(|other| other != origin)
            .collect();
        origins.sort_unstable();
        origins
    }

    /// Keeps both heads and the proof that fails to connect them, and tells where.
    pub(crate) fn keep_evidence(
        &self,
        what: &str,
        pin: &Pin,
        remembered: &Signed,
        offered: &str,
        proof: &[String],
    ) -> String {
        let seen = jiff::Timestamp::now().to_string();
        let vkey = pin.vkey.to_string();
        let remembered = remembered.note.as_str();
        let evidence = ForkEvidence {
            what,
            seen: seen.clone(),
            agent: &pin.id.to_string(),
            vkey,
            remembered,
            offered,
            proof,
        };
        let text = serde_json::to_string_pretty(&evidence).unwrap_or_default();
        let digest = hex(&Sha256::digest(&text));
        let kept = self.file(&format!(
            "evidence-{}-{}.json",
            seen.replace(':', ""),
            &digest[..8]
        ));
        let kept = kept.map_err(|failure| failure.message).and_then(|path| {
            let written = replace(&path, text.as_bytes());
            written
                .map_err(|error| format!("`{}`: {error}", path.display()))
                .map(|()| path)
        });
        match kept {
            Ok(path) => format!("both checkpoints and the proof are kept in `{}`", path.display()),
            Err(why) => format!("the evidence could not be kept: {why}:\n{text}"),
        }
    }
}

/// Takes the folder's lock within [`LOCK_LIMIT`].
fn hold(lock: &File) -> io::Result<()> {
    let end = Instant::now() + LOCK_LIMIT;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if end <= Instant::now() => {
                let why = "another debugctl has held its lock for 2 s";
                return Err(io::Error::new(io::ErrorKind::WouldBlock, why));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_EVERY),
        }
    }
}

/// Reads a file of the folder, up to one byte more than a checkpoint can have. Anything but a regular file is refused, since
/// reading it could block.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(note::MAX_NOTE as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Replaces a file atomically: it holds either the old or the new content. A failed attempt leaves nothing behind.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = PathBuf::from(name);
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&new)))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
