//! A process with changes in force is marked: a number that the service can read, an event in its log, and a file that
//! monitoring can read without attaching. None of it says what is changed, by whom or why.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use debug_wire::messages::InForce;
use jiff::Timestamp;
use serde_json::json;

/// How often the file is written anew while changes are in force. One that is much older is of a process that died.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(10);
/// The file.
const NAME: &str = "active.json";
/// It while it is written. The name is the agent's own.
const NEW: &str = "active.json.new";

/// The marks of one process.
pub(crate) struct Marks {
    folder: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The number that was told last.
    told: u64,
    /// Whether the file is there.
    written: bool,
    /// It could not be written, and that was told.
    failing: bool,
    /// The agent has stopped: there is nothing in force any more.
    over: bool,
}

impl Marks {
    /// Marks in a folder, which is made if it is not there; what a process that died left in it is removed.
    ///
    /// # Errors
    /// Nothing can be written there. The marks work all the same, without a file.
    pub(crate) fn begin(folder: PathBuf) -> (Self, io::Result<()>) {
        let made = make(&folder).and_then(|()| remove(&folder));
        let inner = Inner { failing: made.is_err(), ..Inner::default() };
        (Self { folder, inner: Mutex::new(inner) }, made)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `tell` if the number of changes in force is another than before.
    ///
    /// `now` is asked under a lock, so that what is told last is what is true.
    pub(crate) fn tell(&self, now: impl FnOnce() -> InForce, tell: impl FnOnce(InForce)) {
        let mut inner = self.lock();
        let now = now();
        if std::mem::replace(&mut inner.told, now.count) != now.count {
            tell(now);
        }
    }

    /// Writes the file, or removes it when nothing is in force.
    ///
    /// # Errors
    /// That it cannot be written; once, until it could be again.
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

    /// Whether the file is there and must be written again in time.
    pub(crate) fn beats(&self) -> bool {
        let inner = self.lock();
        (inner.written || inner.failing) && !inner.over
    }

    /// Removes the file for good, unless something is in force that could not be undone: then it stays, and its heartbeat
    /// ends with the process.
    pub(crate) fn end(&self, now: InForce) {
        if now.count > 0 {
            drop(self.write(now));
        }
        let mut inner = self.lock();
        inner.over = true;
        if now.count == 0 && inner.written {
            // Nobody is left to be told; the next start removes it.
            drop(remove(&self.folder));
        }
    }
}

/// What the file says. A time on the wall clock, which others have, too; the deadline itself does not depend on it.
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
        // The service's umask may have taken bits away that others need.
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

/// Whoever reads it sees the old text or the new one, whole.
fn replace(folder: &Path, text: &str) -> io::Result<()> {
    make(folder)?;
    let new = folder.join(NEW);
    drop(fs::remove_file(&new));
    // Never through a link that somebody else put there.
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())?;
    fs::rename(&new, folder.join(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks() -> (tempfile::TempDir, PathBuf, Marks) {
        let folder = tempfile::tempdir().unwrap();
        let active = folder.path().join("active");
        let (marks, made) = Marks::begin(active.clone());
        made.unwrap();
        (folder, active, marks)
    }

    const TWO: InForce = InForce { count: 2, shortest_ms: Some(60_000) };
    const NONE: InForce = InForce { count: 0, shortest_ms: None };

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
        // One that was on its way.
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
        let endless = InForce { count: 1, shortest_ms: Some(u64::MAX) };
        assert!(text(endless, at).contains("9999-12-30"));
    }

    #[test]
    fn what_a_dead_process_left_is_removed_and_what_remains_in_force_stays() {
        let (_folder, active, marks) = marks();
        marks.write(TWO).unwrap();
        marks.end(TWO);
        assert!(active.join(NAME).exists());
        Marks::begin(active.clone()).1.unwrap();
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
        let (marks, made) = Marks::begin(file.clone());
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
