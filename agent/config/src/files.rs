//! Reads files that decide about access: only from where no user but root and the service's can change them.
//!
//! `canonicalize` resolves the path, then it is walked from the root, one descriptor at a time, without following
//! links. The file that is checked is the file that is read, even if the names change in between.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat};
use zeroize::Zeroizing;

/// The largest file we read, in bytes: 1 MiB. Policies, certificates and revocation lists are far smaller.
pub(crate) const MAX_FILE: u64 = 1 << 20;

const GROUP_OR_OTHERS_WRITE: u32 = 0o022;
const GROUP_OR_OTHERS_ANY: u32 = 0o077;
const STICKY: u32 = 0o1000;

/// Why a file is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file or a folder above it does not exist, or is not readable.
    #[error("cannot read `{}`", .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file or a folder above it belongs to a user other than root and the service's.
    #[error("`{}` belongs to user {owner}, not to root or the service's user {user}", .path.display())]
    Owner {
        /// The file or folder.
        path: PathBuf,
        /// The user id it belongs to.
        owner: u32,
        /// The user id the service runs as.
        user: u32,
    },
    /// The file or a folder above it is writable by its group or by others.
    #[error("`{}` can be written by its group or by others (mode {mode:04o})", .path.display())]
    Writable {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A private key is readable by its group or by others.
    #[error("the private key `{}` can be read by its group or by others (mode {mode:04o})", .path.display())]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a regular file: a folder, a pipe, a device.
    #[error("`{}` is not a file", .path.display())]
    Kind {
        /// The path.
        path: PathBuf,
    },
    /// Larger than 1 MiB.
    #[error("`{}` is larger than {MAX_FILE} bytes", .path.display())]
    Size {
        /// The file.
        path: PathBuf,
    },
}

impl FileError {
    /// What to do about it.
    pub fn advice(&self) -> String {
        match self {
            Self::Read { source, .. } => {
                format!("{source}; check the path and that the service's user may read it")
            }
            Self::Owner { path, user, .. } => {
                format!("run `chown {user} '{}'`, or move the file", path.display())
            }
            Self::Writable { path, .. } => {
                format!(
                    "run `chmod go-w '{}'`: who can write it could change who gets in",
                    path.display()
                )
            }
            Self::Readable { path, .. } => {
                format!(
                    "run `chmod 600 '{}'` and replace the key if others could read it",
                    path.display()
                )
            }
            Self::Kind { .. } => "name a regular file".to_owned(),
            Self::Size { .. } => "check that it is the right file".to_owned(),
        }
    }
}

/// Reads a file that only root and the service's user can have changed: the file itself and every folder above it are
/// checked.
///
/// # Errors
/// The file is missing, too large, not a regular file, or writable by others.
pub fn trusted_file(path: &Path) -> Result<Vec<u8>, FileError> {
    let (resolved, file, stat) = open(path)?;
    let mut content = Vec::new();
    read_all(&resolved, file, &stat, &mut content)?;
    Ok(content)
}

/// Reads a private key: a [`trusted_file`] that only its owner can read. It is wiped when dropped.
///
/// # Errors
/// As [`trusted_file`], or the file is readable by others.
pub fn private_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let (resolved, file, stat) = open(path)?;
    if stat.st_mode & GROUP_OR_OTHERS_ANY != 0 {
        return Err(FileError::Readable {
            path: resolved,
            mode: stat.st_mode & 0o7777,
        });
    }
    let size = usize::try_from(stat.st_size).unwrap_or(0);
    // Reserve the whole size: a vector that grows leaves unwiped copies behind.
    let mut content = Zeroizing::new(Vec::with_capacity(size.min(MAX_FILE as usize) + 1));
    read_all(&resolved, file, &stat, &mut content)?;
    Ok(content)
}

/// Opens the file that `path` resolves to; checks it and every folder above it by their descriptors.
fn open(path: &Path) -> Result<(PathBuf, OwnedFd, Stat), FileError> {
    let unreadable = |path: &Path, source: io::Error| FileError::Read {
        path: path.to_owned(),
        source,
    };
    let resolved = path.canonicalize().map_err(|e| unreadable(path, e))?;
    let names: Vec<&OsStr> = resolved
        .components()
        .filter_map(|c| {
            if let Component::Normal(name) = c {
                Some(name)
            } else {
                None
            }
        })
        .collect();
    let Some((name, folders)) = names.split_last() else {
        return Err(FileError::Kind { path: resolved });
    };

    let mut at = PathBuf::from("/");
    let mut folder = open_folder(CWD, OsStr::new("/"), &at)?;
    for name in folders {
        at.push(name);
        folder = open_folder(folder.as_fd(), name, &at)?;
    }
    // Without NONBLOCK a pipe in the file's place would block the thread for ever.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(&folder, *name, flags, Mode::empty()).map_err(|e| unreadable(&resolved, e.into()))?;
    let stat = fstat(&file).map_err(|e| unreadable(&resolved, e.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(FileError::Kind { path: resolved });
    }
    check(&resolved, &stat, false)?;
    Ok((resolved, file, stat))
}

fn open_folder(parent: impl AsFd, name: &OsStr, path: &Path) -> Result<OwnedFd, FileError> {
    let unreadable = |e: rustix::io::Errno| FileError::Read {
        path: path.to_owned(),
        source: e.into(),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(parent, name, flags, Mode::empty()).map_err(unreadable)?;
    let stat = fstat(&folder).map_err(unreadable)?;
    check(path, &stat, true)?;
    Ok(folder)
}

/// Requires an owner that is root or the service's user, and no write access for group or others. Exception: a sticky
/// folder of root's, such as the system's temporary one, where users cannot replace each other's files.
fn check(path: &Path, stat: &Stat, folder: bool) -> Result<(), FileError> {
    let user = rustix::process::geteuid().as_raw();
    judge(path, stat.st_uid, stat.st_mode, folder, user)
}

pub(crate) fn judge(path: &Path, owner: u32, mode: u32, folder: bool, user: u32) -> Result<(), FileError> {
    if owner != 0 && owner != user {
        return Err(FileError::Owner {
            path: path.to_owned(),
            owner,
            user,
        });
    }
    let sticky = folder && owner == 0 && mode & STICKY != 0;
    if mode & GROUP_OR_OTHERS_WRITE != 0 && !sticky {
        return Err(FileError::Writable {
            path: path.to_owned(),
            mode: mode & 0o7777,
        });
    }
    Ok(())
}

/// Reads to the end, but at most one byte beyond the limit: the size that `fstat` reports may be wrong.
fn read_all(path: &Path, file: OwnedFd, stat: &Stat, content: &mut Vec<u8>) -> Result<(), FileError> {
    let too_large = || FileError::Size {
        path: path.to_owned(),
    };
    if u64::try_from(stat.st_size).unwrap_or(u64::MAX) > MAX_FILE {
        return Err(too_large());
    }
    let read = File::from(file).take(MAX_FILE + 1).read_to_end(content);
    read.map_err(|source| FileError::Read {
        path: path.to_owned(),
        source,
    })?;
    if content.len() as u64 > MAX_FILE {
        Err(too_large())
    } else {
        Ok(())
    }
}
