//! Writing files that only their owner can write, and replacing them so that they are never seen half-written.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::ui::failure::CommandFailure;

/// The limit on files that are read, in bytes.
const MAX_READ: u64 = 8 << 20;

/// Makes a folder that only its owner can enter.
pub(super) fn folder(path: &Path) -> Result<(), CommandFailure> {
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(|error| failed("make the folder", path, &error))
}

/// Writes a new file that all users may read.
pub(super) fn public(path: &Path, text: &str) -> Result<(), CommandFailure> {
    create(path, text, 0o644)
}

/// Writes a new file that only its owner may read.
pub(super) fn private(path: &Path, text: &str) -> Result<(), CommandFailure> {
    create(path, text, 0o600)
}

fn create(path: &Path, text: &str, mode: u32) -> Result<(), CommandFailure> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| failed("write", path, &error))
}

/// Replaces a file atomically.
pub(super) fn replace(path: &Path, text: &str, mode: u32) -> Result<(), CommandFailure> {
    let fresh = path.with_extension("new");
    // An interrupted command left it behind; it holds nothing of value.
    if let Err(error) = std::fs::remove_file(&fresh)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(failed("remove", &fresh, &error));
    }
    create(&fresh, text, mode)?;
    std::fs::rename(&fresh, path).map_err(|error| failed("replace", path, &error))
}

/// Reads a text file.
pub(super) fn read(path: &Path) -> Result<String, CommandFailure> {
    let read = || -> io::Result<String> {
        let file = File::open(path)?;
        let mut text = String::new();
        io::Read::read_to_string(&mut io::Read::take(file, MAX_READ), &mut text)?;
        Ok(text)
    };
    read().map_err(|error| {
        failed("read", path, &error).help("give the folder that `debugctl certs init` wrote")
    })
}

pub(super) fn failed(what: &str, path: &Path, error: &io::Error) -> CommandFailure {
    CommandFailure::usage(format!("cannot {what} `{}`: {error}", path.display()))
}
