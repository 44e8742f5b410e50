//! Whether a process ended inside a patched call: noted where it outlives the process, told by the log of the next one.
//!
//! A patch that overflows a stack or aborts takes the process with it, and nobody is left who could say so. Each patched call
//! therefore writes the number of its lease into a place of a small file before, and zero after it. The file is not synced: what
//! the page cache holds survives a process, though not a host that loses power.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The file, in the audit folder, which belongs to one process at a time.
const NAME: &str = "calls";
/// How many calls at once are noted; further ones are not.
const PLACES: u32 = u64::BITS;
/// The bytes of a place: the number of a lease, little-endian.
const PLACE: usize = size_of::<u64>();
/// How long a note may take: a service's thread waits for it.
const SLOW: Duration = Duration::from_millis(5);
/// So many that took longer, and no more are made: the file is on a disk that keeps the service waiting.
const MAX_SLOW: u32 = 3;

/// The notes of this process.
pub(crate) struct Inside {
    file: Option<File>,
    /// A bit for each place that is in use.
    taken: AtomicU64,
    slow: AtomicU32,
}

/// A note that was made, to be taken back.
#[derive(Debug)]
pub(crate) struct Place(u32);

impl Inside {
    /// Begins anew in a folder; the leases inside whose calls the process before this one ended. On an error it notes nothing.
    pub(crate) fn begin(folder: &Path) -> (Self, io::Result<BTreeSet<u64>>) {
        let (file, found) = match begin(folder) {
            Ok((file, found)) => (Some(file), Ok(found)),
            Err(error) => (None, Err(error)),
        };
        (Self { file, taken: AtomicU64::new(0), slow: AtomicU32::new(0) }, found)
    }

    /// Notes that a call of a lease's patch begins. Nothing if there is no place left, or notes take too long.
    pub(crate) fn begins(&self, lease: u64) -> Option<Place> {
        let file = self.file.as_ref()?;
        if MAX_SLOW <= self.slow.load(Ordering::Relaxed) {
            return None;
        }
        let free = |taken: u64| (taken != u64::MAX).then(|| taken | 1 << taken.trailing_ones());
        let before = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        let place = Place(before.trailing_ones());
        self.write(file, &place, lease);
        Some(place)
    }

    /// Takes the note back.
    pub(crate) fn ends(&self, place: Place) {
        if let Some(file) = &self.file {
            self.write(file, &place, 0);
        }
        self.taken.fetch_and(!(1 << place.0), Ordering::Relaxed);
    }

    /// Whether notes are made.
    pub(crate) fn works(&self) -> bool {
        self.file.is_some() && self.slow.load(Ordering::Relaxed) < MAX_SLOW
    }

    fn write(&self, file: &File, place: &Place, lease: u64) {
        let began = Instant::now();
        let at = u64::from(place.0) * PLACE as u64;
        // What cannot be written is as if it were too slow: neither is tried for long.
        let written = file.write_all_at(&lease.to_le_bytes(), at).is_ok();
        if !written || SLOW < began.elapsed() {
            self.slow.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn begin(folder: &Path) -> io::Result<(File, BTreeSet<u64>)> {
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(folder.join(NAME))?;
    let mut bytes = Vec::new();
    let length = PLACES as usize * PLACE;
    (&mut file).take(length as u64).read_to_end(&mut bytes)?;
    let (numbers, _) = bytes.as_chunks::<PLACE>();
    let found =
        numbers.iter().map(|number| u64::from_le_bytes(*number)).filter(|lease| *lease != 0).collect();
    file.write_all_at(&vec![0; length], 0)?;
    Ok((file, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_process_learns_inside_which_calls_the_last_one_ended() {
        let folder = tempfile::tempdir().unwrap();
        let begin = || Inside::begin(folder.path());
        let (inside, found) = begin();
        assert!(found.unwrap().is_empty());
        let (first, second) = (inside.begins(7).unwrap(), inside.begins(9).unwrap());
        inside.ends(first);
        // As if the process had ended here.
        let (again, found) = begin();
        assert_eq!(found.unwrap(), BTreeSet::from([9]));
        drop(again);
        inside.ends(second);
        assert!(begin().1.unwrap().is_empty());
    }

    #[test]
    fn calls_beyond_the_places_are_not_noted_and_places_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, _) = Inside::begin(folder.path());
        let mut places: Vec<Place> = (1..=64).map(|lease| inside.begins(lease).unwrap()).collect();
        assert!(inside.begins(65).is_none());
        inside.ends(places.pop().unwrap());
        assert_eq!(inside.begins(66).unwrap().0, 63);
    }

    #[test]
    fn a_file_that_makes_no_sense_or_cannot_be_had_harms_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(NAME), [1; 11]).unwrap();
        let (inside, found) = Inside::begin(folder.path());
        assert_eq!(found.unwrap().len(), 1);
        assert!(inside.works());
        let (inside, found) = Inside::begin(&folder.path().join("not there"));
        found.unwrap_err();
        assert!(!inside.works() && inside.begins(1).is_none());
    }
}
