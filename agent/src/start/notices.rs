//! What is wrong in the author's code or in the policy and costs only itself: one name used twice, one path that is none, a
//! protection that protects nothing. The agent starts all the same.
//!
//! To add to it: `notices.add(..)` in [`super::prepare`], or `add_note` where a path of a state or a rule is named, with a
//! sentence that names the thing, says what is wrong, and what follows. All are told once, when the log is open: on stderr, in the service's log, in the `boot` record, and from then on in
//! `info().notes`.

use crate::core::Core;
use crate::notes::Note;

/// How many lines of these a start is worth on stderr; the rest stands in `info()`.
const MAX_ON_STDERR: usize = 20;

/// How many are kept: the record of the start holds them, and `info()` shows them.
const MAX_KEPT: usize = 100;
/// The longest of one that is kept, in characters.
const MAX_LINE: usize = 400;

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Notices(Vec<Note>);

impl Notices {
    /// Those that are known already.
    pub(crate) fn of(notices: Vec<Note>) -> Self {
        Self(notices)
    }

    /// Adds one, in one sentence, that says nothing of states and rules.
    pub(crate) fn add(&mut self, notice: impl Into<String>) {
        self.0.push(Note::for_all(notice));
    }

    /// Adds one that is not for all.
    pub(crate) fn add_note(&mut self, note: Note) {
        self.0.push(note);
    }

    /// Tells of all, and keeps them.
    pub(super) fn tell(mut self, core: &Core) {
        let more = self.0.len().saturating_sub(MAX_KEPT);
        self.0.truncate(MAX_KEPT);
        self.0.iter_mut().for_each(|note| note.text = note.text.chars().take(MAX_LINE).collect());
        if more > 0 {
            self.add(format!("{more} more faults of these kinds were found at start"));
        }
        for (number, note) in self.0.iter().enumerate() {
            core.emitter.warning(&note.text);
            if number < MAX_ON_STDERR {
                super::complain(&note.text);
            }
        }
        if let Some(more @ 1..) = self.0.len().checked_sub(MAX_ON_STDERR) {
            super::complain(&format!("{more} more of the kind stand in the notes of `info()`"));
        }
        drop(core.at_start.set(self.0));
    }
}

/// `; did you mean `x`?`, or nothing where no name is near.
pub(crate) fn guess(near: Option<&str>) -> String {
    near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}
