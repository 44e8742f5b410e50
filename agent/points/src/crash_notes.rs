//! Detects that a process ended inside a patched call: notes in a file survive the process, and the next process
//! reports them.
//!
//! A patch that overflows the stack or aborts ends the process, which then cannot report it. The first patched call of
//! a lease therefore writes the lease's number into a slot of a small file before it runs. Later calls find it there
//! and write nothing. A thread of the agent clears the slot once no call of the lease runs, so a note may be up to
//! [`SWEEP_EVERY`] older than its last call. The file is not synced: the page cache survives the process, though not a
//! host that loses power. A disk can delay the caller; then notes pause, and the pause is noted, too.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use debug_base::BootTime;

/// The file, in the folder of `active.json`, which belongs to one process at a time.
const NAME: &str = "calls";
/// The most leases that are noted at a time.
const PLACES: usize = 64;
/// The bytes of a slot: the number of a lease, little-endian.
const PLACE: usize = size_of::<u64>();
/// The value in the slot after the last one while notes are paused.
const UNKNOWN: u64 = u64::MAX;
/// How long a note may take: a thread of the service waits for it.
const SLOW: Duration = Duration::from_millis(5);
/// This many slow notes within [`PAUSE`] pause the notes for [`PAUSE`].
const MAX_SLOW: u64 = 3;
const PAUSE: Duration = Duration::from_secs(10);

/// How often notes of finished calls are cleared.
pub const SWEEP_EVERY: Duration = Duration::from_millis(250);

/// The notes of this process.
pub struct CrashNotes {
    file: Option<File>,
    slots: [NoteSlot; PLACES],
    /// The first slow note of the current window, in nanoseconds on the boot-time clock; and the number of slow notes
    /// since.
    slow_since: AtomicU64,
    slow: AtomicU64,
    /// The end of the pause on the boot-time clock, in nanoseconds; 0 while notes are written.
    paused: AtomicU64,
    /// The calls that run without a note.
    unnoted: AtomicU64,
}

/// The slot of a lease.
#[derive(Default)]
struct NoteSlot {
    /// 0 if no lease has it.
    lease: AtomicU64,
    /// The number of its calls that run, with [`WRITTEN`] and [`CLEARING`].
    state: AtomicU32,
}

/// The note is in the file.
const WRITTEN: u32 = 1 << 31;
/// The note is being cleared.
const CLEARING: u32 = 1 << 30;

/// A call, to be ended.
#[derive(Debug)]
pub struct CallNote {
    /// `None`: it runs without a note.
    slot: Option<usize>,
    /// Whether the call wrote the note, so that it must be cleared later.
    pub is_new: bool,
}

/// The notes that the previous process left.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct FoundAfterCrash {
    /// The leases of the calls that it ended in, or shortly after.
    pub leases: BTreeSet<u64>,
    /// Its notes were paused, so there may be more leases.
    pub unknown: bool,
}

impl CrashNotes {
    /// Opens the file in a folder and reads the previous notes. On an error, nothing is noted from then on.
    pub fn begin(folder: &Path) -> (Self, io::Result<FoundAfterCrash>) {
        let (file, found) = match begin(folder) {
            Ok((file, found)) => (Some(file), Ok(found)),
            Err(error) => (None, Err(error)),
        };
        let zero = || AtomicU64::new(0);
        (
            Self {
                file,
                slots: std::array::from_fn(|_| NoteSlot::default()),
                slow_since: zero(),
                slow: zero(),
                paused: zero(),
                unnoted: zero(),
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

    /// Notes that a call of a lease's patch begins. `None` if there is no file. While all slots are in use, notes are paused or a
    /// note cannot be written, the file says that calls run without one.
    pub fn begins(&self, lease: u64) -> Option<CallNote> {
        let file = self.file.as_ref()?;
        loop {
            if self.resumed(file) {
                match self.noted(file, lease) {
                    Some(note) => return Some(note),
                    None => self.pause(file, BootTime::now()),
                }
            }
            self.unnoted.fetch_add(1, Ordering::SeqCst);
            // A thread that ended the pause meanwhile may have looked before this call was counted.
            if self.paused.load(Ordering::SeqCst) != 0 {
                return Some(CallNote {
                    slot: None,
                    is_new: false,
                });
            }
            self.unnoted.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Notes a call. `None` if all slots are in use or the note cannot be written.
    fn noted(&self, file: &File, lease: u64) -> Option<CallNote> {
        let slot = self.slot_of(lease)?;
        let state = &self.slots[slot].state;
        let is_written = state.fetch_add(1, Ordering::AcqRel) & WRITTEN != 0;
        if !is_written {
            if !self.note(file, slot, lease) {
                state.fetch_sub(1, Ordering::AcqRel);
                return None;
            }
            state.fetch_or(WRITTEN, Ordering::AcqRel);
        }
        Some(CallNote {
            slot: Some(slot),
            is_new: !is_written,
        })
    }

    /// Ends a call.
    pub fn ends(&self, note: CallNote) {
        match note.slot {
            Some(slot) => drop(self.slots[slot].state.fetch_sub(1, Ordering::AcqRel)),
            None => drop(self.unnoted.fetch_sub(1, Ordering::SeqCst)),
        }
    }

    /// Clears the notes of leases of which no call runs. Returns whether others stand.
    pub fn sweep(&self) -> bool {
        let Some(file) = &self.file else { return false };
        for slot in 0..PLACES {
            self.clear_slot(file, slot);
        }
        let stands = |slot: &NoteSlot| slot.state.load(Ordering::Acquire) & WRITTEN != 0;
        self.slots.iter().any(stands)
    }

    /// Frees the slot of a lease of which no call will begin any more.
    pub fn forget(&self, lease: u64) {
        let Some(file) = &self.file else { return };
        let has = |slot: &NoteSlot| slot.lease.load(Ordering::Acquire) == lease;
        if let Some(slot) = self.slots.iter().position(has) {
            self.clear_slot(file, slot);
            self.slots[slot].lease.store(0, Ordering::Release);
        }
    }

    /// The slot of a lease; takes a free one if it has none.
    fn slot_of(&self, lease: u64) -> Option<usize> {
        let has = |slot: &NoteSlot| slot.lease.load(Ordering::Acquire) == lease;
        let take = |slot: &NoteSlot| {
            let taken = slot
                .lease
                .compare_exchange(0, lease, Ordering::AcqRel, Ordering::Acquire);
            // Another call of the same lease may have been first.
            taken.is_ok() || taken == Err(lease)
        };
        let known = self.slots.iter().position(has);
        known.or_else(|| self.slots.iter().position(take))
    }

    fn clear_slot(&self, file: &File, slot: usize) {
        let NoteSlot { lease, state } = &self.slots[slot];
        let idle = state.compare_exchange(WRITTEN, CLEARING, Ordering::AcqRel, Ordering::Acquire);
        if idle.is_err() {
            return;
        }
        self.note(file, slot, 0);
        // A call that began since may have written its note before it was cleared here.
        if state.fetch_and(!CLEARING, Ordering::AcqRel) != CLEARING
            && self.note(file, slot, lease.load(Ordering::Acquire))
        {
            state.fetch_or(WRITTEN, Ordering::AcqRel);
        }
    }

    /// Whether notes are written.
    pub fn works(&self) -> bool {
        self.file.is_some() && self.paused.load(Ordering::Relaxed) == 0
    }

    /// Writes a note; returns whether it is in the file.
    fn note(&self, file: &File, slot: usize, lease: u64) -> bool {
        let began = Instant::now();
        // A failed write counts as a slow one: either leads to a pause.
        let written = write(file, slot, lease).is_ok();
        if !written || SLOW < began.elapsed() {
            self.was_slow(file);
        }
        written
    }

    fn was_slow(&self, file: &File) {
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
        if self.paused.swap(now.after(PAUSE).0, Ordering::SeqCst) == 0 {
            // If this write fails, too, the next process does not learn of the pause. Nothing can be done about that.
            let _ = write(file, PLACES, UNKNOWN);
        }
    }

    /// Whether notes are written; ends a pause that is over.
    fn resumed(&self, file: &File) -> bool {
        let paused = self.paused.load(Ordering::SeqCst);
        if paused == 0 {
            return true;
        }
        let now = BootTime::now();
        // The file says that calls run without a note for as long as one does.
        if now < BootTime(paused) || self.unnoted.load(Ordering::SeqCst) != 0 {
            return false;
        }
        let ended = self
            .paused
            .compare_exchange(paused, 0, Ordering::SeqCst, Ordering::SeqCst);
        if ended.is_err() {
            return false;
        }
        if self.unnoted.load(Ordering::SeqCst) == 0 {
            return write(file, PLACES, 0).is_ok();
        }
        // One has begun since.
        self.paused.store(now.after(PAUSE).0, Ordering::SeqCst);
        false
    }
}

fn write(file: &File, place: usize, lease: u64) -> io::Result<()> {
    file.write_all_at(&lease.to_le_bytes(), (place * PLACE) as u64)
}

fn begin(folder: &Path) -> io::Result<(File, FoundAfterCrash)> {
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
    Ok((file, FoundAfterCrash { leases, unknown }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(folder: &Path) -> FoundAfterCrash {
        let (inside, found) = CrashNotes::begin(folder);
        inside.clear().unwrap();
        found.unwrap()
    }

    fn leases(folder: &Path) -> Vec<u64> {
        let (_, found) = CrashNotes::begin(folder);
        found.unwrap().leases.into_iter().collect()
    }

    #[test]
    fn the_next_process_learns_inside_which_calls_the_last_one_ended() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, before) = CrashNotes::begin(folder.path());
        assert_eq!(before.unwrap(), FoundAfterCrash::default());
        let (first, second) = (inside.begins(7).unwrap(), inside.begins(9).unwrap());
        inside.ends(first);
        assert!(inside.sweep(), "a call of lease 9 runs");
        // As if the process had ended here. Notes stay until they are cleared.
        assert_eq!(leases(folder.path()), [9]);
        assert_eq!(leases(folder.path()), [9]);
        inside.ends(second);
        assert!(!inside.sweep());
        assert_eq!(found(folder.path()), FoundAfterCrash::default());
    }

    #[test]
    fn a_hot_call_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, _) = CrashNotes::begin(folder.path());
        let outer = inside.begins(7).unwrap();
        assert!(outer.is_new);
        std::fs::write(folder.path().join(NAME), []).unwrap();
        for _ in 0..1_000 {
            let note = inside.begins(7).unwrap();
            assert!(!note.is_new);
            inside.ends(note);
        }
        inside.ends(outer);
        assert_eq!(std::fs::metadata(folder.path().join(NAME)).unwrap().len(), 0);
        // Also if no call runs at times, until the notes are swept.
        let note = inside.begins(7).unwrap();
        assert!(!note.is_new);
        inside.ends(note);
        assert!(!inside.sweep());
        assert!(inside.begins(7).unwrap().is_new);
        assert_eq!(leases(folder.path()), [7]);
    }

    /// A call of the lease runs whenever the process could end.
    #[test]
    fn a_note_stands_while_a_call_runs_however_often_notes_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, _) = CrashNotes::begin(folder.path());
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    inside.sweep();
                }
            });
            for _ in 0..2_000 {
                let note = inside.begins(7).unwrap();
                std::thread::yield_now();
                // A sweep that had begun before the call may restore the note a moment later.
                let stands = (0..1_000_000).any(|_| leases(folder.path()) == [7]);
                assert!(stands);
                inside.ends(note);
            }
            is_over.store(true, Ordering::Relaxed);
        });
        inside.sweep();
        assert_eq!(found(folder.path()), FoundAfterCrash::default());
    }

    #[test]
    fn leases_beyond_the_places_are_not_noted_which_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, _) = CrashNotes::begin(folder.path());
        let places: Vec<CallNote> = (1..=64).map(|lease| inside.begins(lease).unwrap()).collect();
        assert!(inside.works());
        let beyond = inside.begins(65).unwrap();
        assert!(!inside.works(), "for a while");
        places.into_iter().for_each(|place| inside.ends(place));
        inside.sweep();
        let now = || CrashNotes::begin(folder.path()).1.unwrap();
        let unknown = FoundAfterCrash {
            leases: BTreeSet::new(),
            unknown: true,
        };
        assert_eq!(now(), unknown);
        // The pause is over, and a lease is gone; the call without a note still runs.
        inside.paused.store(1, Ordering::Relaxed);
        inside.forget(3);
        inside.ends(inside.begins(66).unwrap());
        assert_eq!(now(), unknown, "the process may end inside that call");
        inside.ends(beyond);
        inside.paused.store(1, Ordering::Relaxed);
        inside.ends(inside.begins(66).unwrap());
        assert_eq!(leases(folder.path()), [66]);
        assert!(!now().unknown);
        inside.forget(66);
        assert_eq!(found(folder.path()), FoundAfterCrash::default());
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
        assert!(!inside.begins(1).unwrap().is_new);
        assert!(!inside.works(), "a call without a note runs");
        assert_eq!(inside.unnoted.load(Ordering::SeqCst), 1);
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
