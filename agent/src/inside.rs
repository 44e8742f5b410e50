//! Whether a process ended inside a patched call: noted where it outlives the process, told by the log of the next one.
//!
//! A patch that overflows a stack or aborts takes the process with it, and nobody is left who could say so. Each patched call
//! therefore writes the number of its lease into a place of a small file before, and zero after it. The file is not synced: what
//! the page cache holds survives a process, though not a host that loses power. In memory (tmpfs) a note takes a microsecond; a
//! disk can keep the caller waiting, and then notes are left out for a while, which is noted, too.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::clock::BootTime;

/// The file, in the folder of the marks, which belongs to one process at a time.
const NAME: &str = "calls";
/// How many calls at once are noted; further ones are not.
const PLACES: usize = u64::BITS as usize;
/// The bytes of a place: the number of a lease, little-endian.
const PLACE: usize = size_of::<u64>();
/// Stands in the place behind the last one while notes are left out.
const UNKNOWN: u64 = u64::MAX;
/// How long a note may take: a service's thread waits for it.
const SLOW: Duration = Duration::from_millis(5);
/// So many that took longer within [`PAUSE`], and none are made for as long.
const MAX_SLOW: u64 = 3;
const PAUSE: Duration = Duration::from_secs(10);

/// The notes of this process.
pub(crate) struct Inside {
    file: Option<File>,
    /// A bit for each place that is in use.
    taken: AtomicU64,
    /// The first slow note of late, in nanoseconds on the boot-time clock, and how many there were since.
    slow_since: AtomicU64,
    slow: AtomicU64,
    /// Until when none are made; 0 if they are.
    paused: AtomicU64,
}

/// A note that was made, to be taken back.
#[derive(Debug)]
pub(crate) struct Place(usize);

/// What the process before this one left.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Found {
    /// The leases inside whose calls it ended.
    pub(crate) leases: BTreeSet<u64>,
    /// It made no notes at that time, so that there may be others.
    pub(crate) unknown: bool,
}

impl Inside {
    /// Opens the notes in a folder, and reads what stands there. On an error it notes nothing.
    pub(crate) fn begin(folder: &Path) -> (Self, io::Result<Found>) {
        let (file, found) = match begin(folder) {
            Ok((file, found)) => (Some(file), Ok(found)),
            Err(error) => (None, Err(error)),
        };
        let zero = || AtomicU64::new(0);
        (Self { file, taken: zero(), slow_since: zero(), slow: zero(), paused: zero() }, found)
    }

    /// Forgets what stood there, once it is told for good.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn clear(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), |file| file.write_all_at(&[0; (PLACES + 1) * PLACE], 0))
    }

    /// Notes that a call of a lease's patch begins. Nothing if there is no place left, or notes take too long.
    pub(crate) fn begins(&self, lease: u64) -> Option<Place> {
        let file = self.file.as_ref()?;
        if !self.resumed(file) {
            return None;
        }
        let free = |taken: u64| (taken != u64::MAX).then(|| taken | 1 << taken.trailing_ones());
        let Ok(before) = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free) else {
            self.pause(file, BootTime::now());
            return None;
        };
        let place = Place(before.trailing_ones() as usize);
        self.note(file, &place, lease);
        Some(place)
    }

    /// Takes the note back.
    pub(crate) fn ends(&self, place: Place) {
        if let Some(file) = &self.file {
            self.note(file, &place, 0);
        }
        self.taken.fetch_and(!(1 << place.0), Ordering::Relaxed);
    }

    /// Whether notes are made.
    pub(crate) fn works(&self) -> bool {
        self.file.is_some() && self.paused.load(Ordering::Relaxed) == 0
    }

    fn note(&self, file: &File, place: &Place, lease: u64) {
        let began = Instant::now();
        // What cannot be written is as if it were too slow: neither is tried for long.
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
            // If not even this can be written, what is known next time is too little; nobody can do more.
            let _ = write(file, PLACES, UNKNOWN);
        }
    }

    /// Whether notes are made, or made again.
    fn resumed(&self, file: &File) -> bool {
        let paused = self.paused.load(Ordering::Relaxed);
        if paused == 0 {
            return true;
        }
        let over = BootTime(paused) <= BootTime::now()
            && self.paused.compare_exchange(paused, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        // Of the calls that began meanwhile only those of the last 10 ms can still run; they stay without a note.
        over && write(file, PLACES, 0).is_ok()
    }
}

fn write(file: &File, place: usize, lease: u64) -> io::Result<()> {
    file.write_all_at(&lease.to_le_bytes(), (place * PLACE) as u64)
}

fn begin(folder: &Path) -> io::Result<(File, Found)> {
    // Whatever else stands there is neither followed nor waited for.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
    let file = options.open(folder.join(NAME))?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{NAME}` is no file")));
    }
    let mut bytes = Vec::new();
    (&file).take(((PLACES + 1) * PLACE) as u64).read_to_end(&mut bytes)?;
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
        let (inside, found) = Inside::begin(folder);
        inside.clear().unwrap();
        found.unwrap()
    }

    #[test]
    fn the_next_process_learns_inside_which_calls_the_last_one_ended() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, before) = Inside::begin(folder.path());
        assert_eq!(before.unwrap(), Found::default());
        let (first, _second) = (inside.begins(7).unwrap(), inside.begins(9).unwrap());
        inside.ends(first);
        // As if the process had ended here. What nobody was told of yet is still there.
        for _ in 0..2 {
            let (_, found) = Inside::begin(folder.path());
            assert_eq!(found.unwrap(), Found { leases: BTreeSet::from([9]), unknown: false });
        }
        assert_eq!(found(folder.path()).leases.len(), 1);
        assert_eq!(found(folder.path()), Found::default());
    }

    #[test]
    fn calls_beyond_the_places_are_not_noted_which_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, _) = Inside::begin(folder.path());
        let mut places: Vec<Place> = (1..=64).map(|lease| inside.begins(lease).unwrap()).collect();
        assert!(inside.works());
        assert!(inside.begins(65).is_none());
        assert!(!inside.works(), "for a while");
        places.drain(..).for_each(|place| inside.ends(place));
        assert_eq!(found(folder.path()), Found { leases: BTreeSet::new(), unknown: true });
        // The while is over.
        inside.paused.store(1, Ordering::Relaxed);
        inside.ends(inside.begins(66).unwrap());
        assert_eq!(found(folder.path()), Found::default());
    }

    #[test]
    fn a_few_slow_notes_at_once_end_them_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        // A file that cannot be written counts as one that takes too long.
        std::fs::write(folder.path().join(NAME), []).unwrap();
        let file = File::open(folder.path().join(NAME)).unwrap();
        let (inside, _) = Inside::begin(folder.path());
        let inside = Inside { file: Some(file), ..inside };
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
        let (inside, found) = Inside::begin(folder.path());
        found.unwrap_err();
        assert!(!inside.works() && inside.begins(1).is_none());
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "mine");
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        Inside::begin(folder.path()).1.unwrap_err();
        Inside::begin(&folder.path().join("not there")).1.unwrap_err();
    }
}
