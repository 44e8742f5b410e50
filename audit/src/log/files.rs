//! The file operations that the log writes with, behind a trait so that tests can make each one fail.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FallocateFlags, OFlags, RenameFlags};

/// A file's identity and length.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stat {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) length: u64,
}

/// Operations on the files of one folder, by name.
pub(crate) trait Files: Send {
    fn dir(&self) -> &Path;
    /// Creates a file for appending; an error if the name is taken.
    fn create(&self, name: &str) -> io::Result<Box<dyn Appender>>;
    /// Opens an existing file for appending.
    fn append(&self, name: &str) -> io::Result<Box<dyn Appender>>;
    /// The status of the name itself: links are not followed.
    fn stat(&self, name: &str) -> io::Result<Stat>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Exchanges two names atomically.
    fn exchange(&self, one: &str, other: &str) -> io::Result<()>;
    /// Overwrites an existing file of the same length in place.
    fn overwrite(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes created, renamed and removed names survive a power loss.
    fn sync_dir(&self) -> io::Result<()>;
    /// Creates a file of that many bytes for which the disk has reserved space.
    fn allocate(&self, name: &str, bytes: u64) -> io::Result<()>;
}

/// An open file that can only be written at its end.
pub(crate) trait Appender: Send {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// `fdatasync`: contents and length survive a power loss.
    fn sync(&mut self) -> io::Result<()>;
    fn stat(&self) -> io::Result<Stat>;
    fn truncate(&mut self, length: u64) -> io::Result<()>;
}

impl dyn Files + '_ {
    /// Creates a file under a name that an earlier attempt may have left behind.
    pub(crate) fn create_over(&self, name: &str) -> io::Result<Box<dyn Appender>> {
        match self.create(name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.remove(name)?;
                self.create(name)
            }
            other => other,
        }
    }

    /// Replaces the file `name` atomically, by way of `temporary`.
    pub(crate) fn replace(&self, temporary: &str, name: &str, bytes: &[u8], sync: bool) -> io::Result<()> {
        let mut file = self.create_over(temporary)?;
        file.write(bytes)?;
        if sync {
            file.sync()?;
        }
        self.rename(temporary, name)?;
        if sync { self.sync_dir() } else { Ok(()) }
    }
}

/// The real disk. Files are made with mode 0600, opened for appending only, and never through a link.
pub(crate) struct Disk {
    dir: PathBuf,
}

impl Disk {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }
}

/// Makes the folder with mode 0700 unless it exists.
pub(crate) fn make_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    // A new folder's name must survive a power loss as the files in it do.
    match dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Opens or makes the file that is locked while the log is in use.
pub(crate) fn open_lock(dir: &Path) -> io::Result<File> {
    options().write(true).create(true).open(dir.join("lock"))
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .mode(0o600)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    options
}

fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
}

fn stat_of(metadata: &fs::Metadata) -> Stat {
    Stat {
        device: metadata.dev(),
        inode: metadata.ino(),
        length: metadata.len(),
    }
}

impl Files for Disk {
    fn dir(&self) -> &Path {
        &self.dir
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Appender>> {
        Ok(Box::new(
            options()
                .append(true)
                .create_new(true)
                .open(self.dir.join(name))?,
        ))
    }

    fn append(&self, name: &str) -> io::Result<Box<dyn Appender>> {
        Ok(Box::new(regular(
            options().append(true).open(self.dir.join(name))?,
        )?))
    }

    fn stat(&self, name: &str) -> io::Result<Stat> {
        fs::symlink_metadata(self.dir.join(name)).map(|metadata| stat_of(&metadata))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn exchange(&self, one: &str, other: &str) -> io::Result<()> {
        let (one, other) = (self.dir.join(one), self.dir.join(other));
        Ok(rustix::fs::renameat_with(
            CWD,
            one,
            CWD,
            other,
            RenameFlags::EXCHANGE,
        )?)
    }

    fn overwrite(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        regular(options().write(true).open(self.dir.join(name))?)?.write_all(bytes)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    fn allocate(&self, name: &str, bytes: u64) -> io::Result<()> {
        let file = options().write(true).create_new(true).open(self.dir.join(name))?;
        let allocated = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes);
        if let Err(error) = allocated {
            // A half-sized reserve would pass for a full one; the error returned is the disk's.
            let _ = self.remove(name);
            return Err(error.into());
        }
        Ok(())
    }
}

impl Appender for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn stat(&self) -> io::Result<Stat> {
        self.metadata().map(|metadata| stat_of(&metadata))
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}
