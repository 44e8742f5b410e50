//! ActiveMarker a process with changes in force: a number that the service can read, an event in its log, and a file that
//! monitoring can read without attaching. None of them tells what was changed, by whom or why.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use debug_wire::messages::InForce;
use jiff::Timestamp;
use serde_json::json;

/// How often the file is rewritten while changes are in force. A much older file was left by a process that died.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(10);
/// The file's name.
const NAME: &str = "active.json";
/// Its name while it is being written. No other program may use it.
const NEW: &str = "active.json.new";

/// The marks of one process.
pub(crate) struct ActiveMarker {
    folder: PathBuf,
    inner: Mutex<MarkerState>,
}

#[derive(Default)]
struct MarkerState {
    /// The number reported last.
    told: u64,
    /// Whether the file exists.
    written: bool,
    /// The last write failed, and that was reported.
    failing: bool,
    /// The agent has stopped: the file is not written any more.
    over: bool,
}

impl ActiveMarker {
    /// Begins the marks in a folder. It creates the folder if needed, and removes the file of a process that died.
    ///
    /// # Errors
    /// The folder is not writable. The marks then work without a file.
    pub(crate) fn begin(folder: PathBuf) -> (Self, io::Result<()>) {
        let made = make(&folder).and_then(|()| remove(&folder));
        let inner = MarkerState {
            failing: made.is_err(),
            ..MarkerState::default()
        };
        (
            Self {
                folder,
                inner: Mutex::new(inner),
            },
            made,
        )
    }

    fn lock(&self) -> MutexGuard<'_, MarkerState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `tell` if the number of changes in force has changed.
    ///
    /// `now` is called under the lock, so that the last report is the current number.
    pub(crate) fn tell(&self, now: impl FnOnce() -> InForce, tell: impl FnOnce(InForce)) {
        let mut inner = self.lock();
        let now = now();
        if std::mem::replace(&mut inner.told, now.count) != now.count {
            tell(now);
        }
    }

    /// Writes the file, or removes it if no change is in force.
    ///
    /// # Errors
    /// The file cannot be written; reported only for the first failure in a row.
    pub(crate) fn write(&self, now: InForce) -> io::Result<()> {
        let mut inner = self.lock();
        let done = match now {
            _ if inner.over => Ok(()),
            InForce { count: 0, .. } if !inner.written => Ok(()),
            InForce { count: 0, .. } => remove(&self.folder),
            now => replace(&self.folder, &text(now, Timestamp::now())),
        };
        let failed_before = std::mem::replace(&mut inner.failing, done.is_err());
        if done.is_ok() {
            inner.written = now.count > 0;
        }
        if failed_before { Ok(()) } else { done }
    }

    /// Whether the file must be rewritten in time.
    pub(crate) fn beats(&self) -> bool {
        let inner = self.lock();
        (inner.written || inner.failing) && !inner.over
    }

    /// Removes the file and writes it no more. If a change could not be reverted, the file stays, and its heartbeat
    /// ends with the process.
    pub(crate) fn end(&self, now: InForce) {
        if now.count > 0 {
            drop(self.write(now));
        }
        let mut inner = self.lock();
        inner.over = true;
        if now.count == 0 && inner.written {
            // An error has no receiver any more; the next start removes the file.
            drop(remove(&self.folder));
        }
    }
}

/// The file's content. The deadline is given as wall-clock time for other programs; the agent does not use it.
fn text(now: InForce, at: Timestamp) -> String {
    let left = Duration::from_millis(now.shortest_ms.unwrap_or(0));
    let reverts = at.checked_add(left).unwrap_or(Timestamp::MAX);
    let body = json!({
        "version": 1, "pid": std::process::id(), "in_force": now.count,
        "shortest_deadline": format!("{reverts:.3}"), "heartbeat": format!("{at:.3}"),
    });
    format!("{body}\n")
}

fn make(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o755).create(folder) {
        // The service's umask may have removed bits that readers need.
        Ok(()) => fs::set_permissions(folder, fs::Permissions::from_mode(0o755)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    for name in [NEW, NAME] {
        match fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Replaces the file atomically: a reader sees the old text or the new one.
fn replace(folder: &Path, text: &str) -> io::Result<()> {
    make(folder)?;
    let new = folder.join(NEW);
    drop(fs::remove_file(&new));
    // Never write through a link in the file's place.
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&new)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())?;
    fs::rename(&new, folder.join(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks() -> (tempfile::TempDir, PathBuf, ActiveMarker) {
        let folder = tempfile::tempdir().unwrap();
        let active = folder.path().join("active");
        let (marks, made) = ActiveMarker::begin(active.clone());
        made.unwrap();
        (folder, active, marks)
    }

    const TWO: InForce = InForce {
        count: 2,
        shortest_ms: Some(60_000),
    };
    const NONE: InForce = InForce {
        count: 0,
        shortest_ms: None,
    };

    #[test]
    fn the_file_is_there_while_something_is_in_force() {
        let (_folder, active, marks) = marks();
        let file = active.join(NAME);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&active), 0o755);
        marks.write(NONE).unwrap();
        assert!(!file.exists() && !marks.beats());
        marks.write(TWO).unwrap();
        assert!(marks.beats());
        assert_eq!(mode(&file), 0o644);
        marks.write(NONE).unwrap();
        assert!(!file.exists() && !marks.beats());
        marks.write(TWO).unwrap();
        marks.end(NONE);
        assert!(!file.exists());
        // A write that raced with the end.
        marks.write(TWO).unwrap();
        assert!(!file.exists() && !marks.beats());
    }

    #[test]
    fn it_says_how_many_and_until_when_and_no_more() {
        let at = "2026-01-02T03:04:05.678Z".parse().unwrap();
        let pid = std::process::id();
        assert_eq!(
            text(TWO, at),
            format!(
                "{{\"heartbeat\":\"2026-01-02T03:04:05.678Z\",\"in_force\":2,\"pid\":{pid},\
                 \"shortest_deadline\":\"2026-01-02T03:05:05.678Z\",\"version\":1}}\n"
            )
        );
        let endless = InForce {
            count: 1,
            shortest_ms: Some(u64::MAX),
        };
        assert!(text(endless, at).contains("9999-12-30"));
    }

    #[test]
    fn what_a_dead_process_left_is_removed_and_what_remains_in_force_stays() {
        let (_folder, active, marks) = marks();
        marks.write(TWO).unwrap();
        marks.end(TWO);
        assert!(active.join(NAME).exists());
        ActiveMarker::begin(active.clone()).1.unwrap();
        assert!(!active.join(NAME).exists());
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let (folder, active, marks) = marks();
        let other = folder.path().join("other");
        fs::write(&other, "mine").unwrap();
        for name in [NAME, NEW] {
            std::os::unix::fs::symlink(&other, active.join(name)).unwrap();
        }
        marks.write(TWO).unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "mine");
        assert!(fs::symlink_metadata(active.join(NAME)).unwrap().is_file());
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_told_once_until_it_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("active");
        fs::write(&file, "in the way").unwrap();
        let (marks, made) = ActiveMarker::begin(file.clone());
        made.unwrap_err();
        assert!(marks.beats(), "it is tried again");
        marks.write(TWO).unwrap();
        fs::remove_file(&file).unwrap();
        marks.write(TWO).unwrap();
        assert!(file.join(NAME).exists());
        fs::remove_dir_all(&file).unwrap();
        fs::write(&file, "in the way").unwrap();
        marks.write(TWO).unwrap_err();
        marks.write(TWO).unwrap();
    }

    #[test]
    fn another_number_is_told_once() {
        let (_folder, _active, marks) = marks();
        let mut told = Vec::new();
        for now in [NONE, TWO, TWO, NONE, NONE] {
            marks.tell(|| now, |now| told.push(now.count));
        }
        assert_eq!(told, [2, 0]);
    }
}
