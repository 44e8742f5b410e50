//! Faults in the author's code or in the policy that disable only themselves: a name used twice, an invalid path, a
//! protection that protects nothing. The agent starts in spite of them.
//!
//! To add one, call `notices.add(..)` in [`super::prepare`], or `add_note` if it names a state's path or a rule. The
//! sentence names the thing, says what is wrong and what follows. All are reported once, when the log is open: on
//! stderr, in the service's log and in the `boot` record, and from then on in `info().notes`.

use crate::core::Core;
use crate::recorder::notes::Note;

/// The most notices on stderr; the others are only in `info()`.
const MAX_ON_STDERR: usize = 20;

/// The most notices kept: the `boot` record holds them, and `info()` shows them.
const MAX_KEPT: usize = 100;
/// The longest notice kept, in characters.
const MAX_LINE: usize = 400;

/// The notices so far.
#[derive(Debug, Default)]
pub(crate) struct Notices(Vec<Note>);

impl Notices {
    /// Starts with known notices.
    pub(crate) fn of(notices: Vec<Note>) -> Self {
        Self(notices)
    }

    /// Adds a notice, one sentence, that names no state and no rule.
    pub(crate) fn add(&mut self, notice: impl Into<String>) {
        self.0.push(Note::for_all(notice));
    }

    /// Adds a notice for the operators who may know its paths and its rule.
    pub(crate) fn add_note(&mut self, note: Note) {
        self.0.push(note);
    }

    /// Reports all notices and keeps them.
    pub(super) fn tell(mut self, core: &Core) {
        let more = self.0.len().saturating_sub(MAX_KEPT);
        self.0.truncate(MAX_KEPT);
        self.0
            .iter_mut()
            .for_each(|note| note.text = note.text.chars().take(MAX_LINE).collect());
        if more > 0 {
            self.add(format!("{more} more faults of these kinds were found at start"));
        }
        for (number, note) in self.0.iter().enumerate() {
            core.recorder.emitter.warning(&note.text);
            if number < MAX_ON_STDERR {
                super::complain::complain(&note.text);
            }
        }
        if let Some(more @ 1..) = self.0.len().checked_sub(MAX_ON_STDERR) {
            super::complain::complain(&format!("{more} more of the kind stand in the notes of `info()`"));
        }
        drop(core.at_start.set(self.0));
    }
}

/// `; did you mean `x`?`, or an empty text without a near name.
pub(crate) fn guess(near: Option<&str>) -> String {
    near.map(|near| format!("; did you mean `{near}`?"))
        .unwrap_or_default()
}
