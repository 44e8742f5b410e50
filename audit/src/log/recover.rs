//! Opening a log: lock it, verify all of it, and only then repair what a crash left.

use std::fs::TryLockError;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{self, Appender, Files};
use super::store::{Current, NEW_CHECKPOINT, NEW_LEAVES, NEW_RECORDS, Store};
use super::{Index, OpenError, OpenedLog, Recovered, Shared, Torn};
use crate::checkpoint::Checkpoint;
use crate::note::SigningKey;
use crate::read::{self, LinePlace};
use crate::tree::HashTree;
use crate::verify::{self, CHECKPOINT, Examined, LEAVES, VerifyError};

/// The name of a copy of a torn line until it is complete.
const NEW_TORN: &str = "torn.new";

/// Opens or creates the log.
pub(super) fn open(files: Box<dyn Files>, key: SigningKey) -> Result<(Store, OpenedLog), OpenError> {
    let dir = files.dir().to_owned();
    let lock = take_lock(&dir)?;
    let mut found = examine(&dir, &key)?;
    // Everything verified; from here on the disk is changed.
    let fail = |what: &'static str| {
        let dir = dir.clone();
        move |source: io::Error| OpenError::Io {
            what,
            dir: dir.clone(),
            source,
        }
    };
    for leftover in [NEW_RECORDS, NEW_CHECKPOINT, NEW_LEAVES, NEW_TORN] {
        let _ = files.remove(leftover);
    }
    let torn = found.torn.take();
    let torn = torn
        .map(|at| move_aside(files.as_ref(), &at))
        .transpose()
        .map_err(fail("move a torn line aside"))?;
    let current = open_current(files.as_ref(), &found).map_err(fail("open the current file of records"))?;
    let (covered, size) = (found.covered, found.index.tree.size());
    if covered.is_none_or(|covered| covered < size) {
        let head = Checkpoint {
            origin: found.origin.clone(),
            size,
            root: found.index.tree.root(),
        };
        found.index.checkpoint = head.sign(&key).into();
        files
            .replace(
                NEW_CHECKPOINT,
                CHECKPOINT,
                found.index.checkpoint.as_bytes(),
                true,
            )
            .map_err(fail("write the checkpoint"))?;
    }
    let leaves = rebuild_leaves(files.as_ref(), &found.index.tree).ok();
    let covered = covered.unwrap_or(0);
    let recovered = (torn.is_some() || covered < size).then(|| Recovered {
        torn,
        covered,
        adopted: size - covered,
    });
    let opened = OpenedLog {
        origin: found.origin.clone(),
        size,
        fresh: size == 0,
        recovered,
    };
    let mut store = Store {
        files,
        shared: Arc::new(Shared::new(dir, found.origin, found.index)),
        key,
        current,
        pending: Vec::new(),
        reserve: false,
        checkpoint_stale: false,
        checkpoint_unsynced: false,
        spare: None,
        can_exchange: true,
        refused: None,
        leaves,
        leaves_written: size,
        _lock: lock,
    };
    // On a full disk the log opens nevertheless: it then takes terminal records only, and reports why.
    let _ = store.make_reserve();
    Ok((store, opened))
}

fn take_lock(dir: &Path) -> Result<std::fs::File, OpenError> {
    let fail = |source| OpenError::Io {
        what: "lock the folder",
        dir: dir.to_owned(),
        source,
    };
    let lock = files::open_lock(dir).map_err(fail)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::Held(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(fail(source)),
    }
}

/// What is on disk, verified and unchanged.
struct OnDisk {
    origin: String,
    index: Index,
    /// The number of records that the stored checkpoint covers; `None` if there is no checkpoint because the folder is empty.
    covered: Option<u64>,
    torn: Option<LinePlace>,
}

fn examine(dir: &Path, key: &SigningKey) -> Result<OnDisk, OpenError> {
    let broken = |source| OpenError::Broken {
        dir: dir.to_owned(),
        source,
    };
    let mut index = Index {
        tree: HashTree::new(),
        offsets: Vec::new(),
        files: Vec::new(),
        checkpoint: Arc::from(""),
    };
    let Some((note, checkpoint)) = verify::stored(dir, Some(key.verifier())).map_err(broken)? else {
        if !is_empty(dir).map_err(broken)? {
            return Err(broken(VerifyError::NoCheckpoint { dir: dir.to_owned() }));
        }
        let origin = format!("{}/{}", key.name(), log_id()?);
        return Ok(OnDisk {
            origin,
            index,
            covered: None,
            torn: None,
        });
    };
    let Examined { torn, .. } = verify::examine(dir, &checkpoint, &mut |at, leaf| {
        index.tree.append(leaf);
        index.offsets.push(at.offset);
    })
    .map_err(broken)?;
    let files = read::list(dir).map_err(|source| {
        broken(VerifyError::Io {
            path: dir.to_owned(),
            source,
        })
    })?;
    index.files = files
        .into_iter()
        .map(|(first, name)| (first, name.to_string()))
        .collect();
    index.checkpoint = note.into();
    Ok(OnDisk {
        origin: checkpoint.origin,
        index,
        covered: Some(checkpoint.size),
        torn,
    })
}

/// Whether no file of records has content.
fn is_empty(dir: &Path) -> Result<bool, VerifyError> {
    let io = |path: PathBuf| move |source| VerifyError::Io { path, source };
    for (first, name) in read::list(dir).map_err(io(dir.to_owned()))? {
        let path = dir.join(&*name);
        if first > 0
            || read::open_file(&path)
                .and_then(|file| file.metadata())
                .map_err(io(path))?
                .len()
                > 0
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// 8 random bytes in hex, so that the name of a future log cannot be guessed.
fn log_id() -> Result<String, OpenError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| OpenError::Random(error.to_string()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Copies the torn end of a file into its own file, then cuts it off. A crash in between leaves an extra copy.
fn move_aside(files: &dyn Files, at: &LinePlace) -> io::Result<Torn> {
    let mut source = read::open_file(&files.dir().join(&*at.place.file))?;
    source.seek(SeekFrom::Start(at.offset))?;
    let mut copy = files.create_over(NEW_TORN)?;
    let (mut buffer, mut bytes) = (vec![0; 64 * 1024], 0);
    loop {
        let count = source.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        copy.write(&buffer[..count])?;
        bytes += count as u64;
    }
    copy.sync()?;
    let moved_to = free_name(files, at.place.seq)?;
    files.rename(NEW_TORN, &moved_to)?;
    files.sync_dir()?;
    let mut records = files.append(&at.place.file)?;
    records.truncate(at.offset)?;
    records.sync()?;
    Ok(Torn {
        file: at.place.file.to_string(),
        moved_to,
        seq: at.place.seq,
        bytes,
    })
}

fn free_name(files: &dyn Files, seq: u64) -> io::Result<String> {
    for n in 0.. {
        let name = format!("torn-{seq}-{n}");
        match files.stat(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(name),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Opens the last file for appending and syncs it, so that its complete records may be signed.
fn open_current(files: &dyn Files, found: &OnDisk) -> io::Result<Option<Current>> {
    let Some((first, name)) = found.index.files.last().cloned() else {
        return Ok(None);
    };
    let mut handle = files.append(&name)?;
    if found.covered != Some(found.index.tree.size()) {
        handle.sync()?;
    }
    let stat = handle.stat()?;
    let (written, durable) = (stat.length, stat.length);
    let handle = Some(handle);
    Ok(Some(Current {
        name,
        first,
        device: stat.device,
        inode: stat.inode,
        written,
        durable,
        handle,
    }))
}

/// Updates the cache of leaf hashes and opens it for appending.
fn rebuild_leaves(files: &dyn Files, tree: &HashTree) -> io::Result<Box<dyn Appender>> {
    let right: Vec<u8> = (0..tree.size())
        .filter_map(|seq| tree.leaf(seq))
        .flatten()
        .collect();
    let path = files.dir().join(LEAVES);
    let stored = read::read_small(&path, right.len()).unwrap_or_default();
    if stored != right || right.is_empty() {
        files.replace(NEW_LEAVES, LEAVES, &right, false)?;
    }
    files.append(LEAVES)
}
