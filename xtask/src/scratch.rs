//! The resources of a run: a folder and a port.

use std::fs::{self, DirBuilder};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// An address of the loopback interface that was free a moment ago.
pub(crate) fn free_address() -> Result<SocketAddr, String> {
    let bound = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    bound.map_err(|e| format!("no free port on the loopback interface: {e}"))
}

/// A private folder; removed when dropped unless it is to be kept.
pub(crate) struct Folder {
    /// Its path.
    pub(crate) path: PathBuf,
    keep: bool,
}

impl Folder {
    /// A new folder among the temporary files.
    pub(crate) fn new(keep: bool) -> Result<Self, String> {
        // The counter is needed as well: the tests play several demos in one process.
        static MADE: AtomicU32 = AtomicU32::new(0);
        let count = MADE.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dienstplan-{}-{count}", std::process::id()));
        Self::at(path, keep)
    }

    /// The folder of that name, which must not exist yet: a folder that another process made is not used.
    fn at(path: PathBuf, keep: bool) -> Result<Self, String> {
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|e| format!("cannot make the folder {}: {e}", path.display()))?;
        Ok(Self { path, keep })
    }

    /// The folder that the next owner must remove; `None` if it is to be kept.
    pub(crate) fn removed_at_the_end(&self) -> Option<&Path> {
        (!self.keep).then_some(&self.path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.keep {
            println!("\nkept: {}", self.path.display());
        } else if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_ours_alone_and_goes_in_the_end() {
        use std::os::unix::fs::PermissionsExt;
        let folder = Folder::new(false).unwrap();
        let path = folder.path.clone();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(
            Folder::at(path.clone(), false).is_err(),
            "a folder that somebody else made is not used"
        );
        fs::write(path.join("file"), "").unwrap();
        drop(folder);
        assert!(!path.exists());
    }
}
