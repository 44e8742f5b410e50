//! Detects that a process ended inside a patched call: notes in a file survive the process, and the next process
//! reports them.
//!
//! A patch that overflows the stack or aborts ends the process, which then cannot report it. Each patched call
//! therefore writes the number of its lease into a slot of a small file before it runs, and zero afterwards. The file
//! is not synced: the page cache survives the process, though not a host that loses power. In memory (tmpfs) a note
//! takes a microsecond. A disk can delay the caller; then notes pause, and the pause is noted, too.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use debug_base::BootTime;

/// The file, in the folder of `active.json`, which belongs to one process at a time.
const NAME: &str = "calls";
/// The most concurrent calls that are noted.
const PLACES: usize = u64::BITS as usize;
/// The bytes of a slot: the number of a lease, little-endian.
const PLACE: usize = size_of::<u64>();
/// The value in the slot after the last one while notes are paused.
const UNKNOWN: u64 = u64::MAX;
/// How long a note may take: a thread of the service waits for it.
const SLOW: Duration = Duration::from_millis(5);
/// This many slow notes within [`PAUSE`] pause the notes for [`PAUSE`].
const MAX_SLOW: u64 = 3;
const PAUSE: Duration = Duration::from_secs(10);

/// The notes of this process.
pub struct CrashNotes {
    file: Option<File>,
    /// One bit for each slot in use.
    taken: AtomicU64,
    /// The first slow note of the current window, in nanoseconds on the boot-time clock; and the number of slow notes
    /// since.
    slow_since: AtomicU64,
    slow: AtomicU64,
    /// The end of the pause on the boot-time clock, in nanoseconds; 0 while notes are written.
    paused: AtomicU64,
}

/// A written note, to be cleared.
#[derive(Debug)]
pub struct Note(usize);

/// The notes that the previous process left.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Found {
    /// The leases of the calls that it ended in.
    pub leases: BTreeSet<u64>,
    /// Its notes were paused, so there may be more leases.
    pub unknown: bool,
}

impl CrashNotes {
    /// Opens the file in a folder and reads the previous notes. On an error, nothing is noted from then on.
    pub fn begin(folder: &Path) -> (Self, io::Result<Found>) {
        let (file, found) = match begin(folder) {
            Ok((file, found)) => (Some(file), Ok(found)),
            Err(error) => (None, Err(error)),
        };
        let zero = || AtomicU64::new(0);
        (
            Self {
                file,
                taken: zero(),
                slow_since: zero(),
                slow: zero(),
                paused: zero(),
            },
            found,
        )
    }

    /// Clears the previous notes, once they are in the audit log.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn clear(&self) -> io::Result<()> {
        self.file
            .as_ref()
            .map_or(Ok(()), |file| file.write_all_at(&[0; (PLACES + 1) * PLACE], 0))
    }

    /// Notes that a call of a lease's patch begins. `None` if all slots are in use or notes are paused.
    pub fn begins(&self, lease: u64) -> Option<Note> {
        let file = self.file.as_ref()?;
        if !self.resumed(file) {
            return None;
        }
        let free = |taken: u64| (taken != u64::MAX).then(|| taken | 1 << taken.trailing_ones());
        let Ok(before) = self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, free)
        else {
            self.pause(file, BootTime::now());
            return None;
        };
        let place = Note(before.trailing_ones() as usize);
        self.note(file, &place, lease);
        Some(place)
    }

    /// Clears the note.
    pub fn ends(&self, place: Note) {
        if let Some(file) = &self.file {
            self.note(file, &place, 0);
        }
        self.taken.fetch_and(!(1 << place.0), Ordering::Relaxed);
    }

    /// Whether notes are written.
    pub fn works(&self) -> bool {
        self.file.is_some() && self.paused.load(Ordering::Relaxed) == 0
    }

    fn note(&self, file: &File, place: &Note, lease: u64) {
        let began = Instant::now();
        // A failed write counts as a slow one: either leads to a pause.
        let written = write(file, place.0, lease).is_ok();
        if written && began.elapsed() <= SLOW {
            return;
        }
        let now = BootTime::now();
        let since = self.slow_since.load(Ordering::Relaxed);
        if PAUSE < now.since(BootTime(since)) {
            self.slow_since.store(now.0, Ordering::Relaxed);
            self.slow.store(1, Ordering::Relaxed);
        } else if MAX_SLOW <= self.slow.fetch_add(1, Ordering::Relaxed) + 1 {
            self.pause(file, now);
        }
    }

    fn pause(&self, file: &File, now: BootTime) {
        if self.paused.swap(now.after(PAUSE).0, Ordering::Relaxed) == 0 {
            // If this write fails, too, the next process does not learn of the pause. Nothing can be done about that.
            let _ = write(file, PLACES, UNKNOWN);
        }
    }

    /// Whether notes are written; ends a pause that is over.
    fn resumed(&self, file: &File) -> bool {
        let paused = self.paused.load(Ordering::Relaxed);
        if paused == 0 {
            return true;
        }
        let over = BootTime(paused) <= BootTime::now()
            && self
                .paused
                .compare_exchange(paused, 0, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        // Calls that began during the pause have no note. Only those of the last 10 ms can still run.
        over && write(file, PLACES, 0).is_ok()
    }
}

fn write(file: &File, place: usize, lease: u64) -> io::Result<()> {
    file.write_all_at(&lease.to_le_bytes(), (place * PLACE) as u64)
}

fn begin(folder: &Path) -> io::Result<(File, Found)> {
    // Do not follow a link and do not block on a pipe in the file's place.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags);
    let file = options.open(folder.join(NAME))?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("`{NAME}` is no file"),
        ));
    }
    let mut bytes = Vec::new();
    (&file)
        .take(((PLACES + 1) * PLACE) as u64)
        .read_to_end(&mut bytes)?;
    let (numbers, _) = bytes.as_chunks::<PLACE>();
    let mut numbers: Vec<u64> = numbers.iter().map(|number| u64::from_le_bytes(*number)).collect();
    let unknown = numbers.len() > PLACES && numbers.pop() == Some(UNKNOWN);
    let leases = numbers.into_iter().filter(|lease| *lease != 0).collect();
    Ok((file, Found { leases, unknown }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(folder: &Path) -> Found {
        let (inside, found) = CrashNotes::begin(folder);
        inside.clear().unwrap();
        found.unwrap()
    }

    #[test]
    fn the_next_process_learns_inside_which_calls_the_last_one_ended() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, before) = CrashNotes::begin(folder.path());
        assert_eq!(before.unwrap(), Found::default());
        let (first, _second) = (inside.begins(7).unwrap(), inside.begins(9).unwrap());
        inside.ends(first);
        // As if the process had ended here. Notes stay until they are cleared.
        for _ in 0..2 {
            let (_, found) = CrashNotes::begin(folder.path());
            assert_eq!(
                found.unwrap(),
                Found {
                    leases: BTreeSet::from([9]),
                    unknown: false
                }
            );
        }
        assert_eq!(found(folder.path()).leases.len(), 1);
        assert_eq!(found(folder.path()), Found::default());
    }

    #[test]
    fn calls_beyond_the_places_are_not_noted_which_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, _) = CrashNotes::begin(folder.path());
        let mut places: Vec<Note> = (1..=64).map(|lease| inside.begins(lease).unwrap()).collect();
        assert!(inside.works());
        assert!(inside.begins(65).is_none());
        assert!(!inside.works(), "for a while");
        places.drain(..).for_each(|place| inside.ends(place));
        assert_eq!(
            found(folder.path()),
            Found {
                leases: BTreeSet::new(),
                unknown: true
            }
        );
        // The pause is over.
        inside.paused.store(1, Ordering::Relaxed);
        inside.ends(inside.begins(66).unwrap());
        assert_eq!(found(folder.path()), Found::default());
    }

    #[test]
    fn a_few_slow_notes_at_once_end_them_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        // A file that cannot be written counts as a slow one.
        std::fs::write(folder.path().join(NAME), []).unwrap();
        let file = File::open(folder.path().join(NAME)).unwrap();
        let (inside, _) = CrashNotes::begin(folder.path());
        let inside = CrashNotes {
            file: Some(file),
            ..inside
        };
        inside.ends(inside.begins(1).unwrap());
        assert!(inside.works());
        assert!(inside.begins(1).is_some());
        assert!(!inside.works());
        assert!(inside.begins(1).is_none());
    }

    #[test]
    fn what_is_no_file_of_notes_harms_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        std::fs::write(&path, [1; 11]).unwrap();
        assert_eq!(found(folder.path()).leases.len(), 1);
        std::fs::remove_file(&path).unwrap();
        let other = folder.path().join("other");
        std::fs::write(&other, "mine").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        let (inside, found) = CrashNotes::begin(folder.path());
        found.unwrap_err();
        assert!(!inside.works() && inside.begins(1).is_none());
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "mine");
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        CrashNotes::begin(folder.path()).1.unwrap_err();
        CrashNotes::begin(&folder.path().join("not there")).1.unwrap_err();
    }
}
