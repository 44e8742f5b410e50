//! The lines of earlier submissions, which the editor brings back and suggests.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reedline::{
    DefaultHinter, FileBackedHistory, Hinter, History, HistoryItem, HistoryItemId, HistorySessionId,
    Result as EditorResult, SearchQuery,
};

/// How many submissions the history keeps.
const MOST: usize = 10_000;

/// The history of an operator. Its clones share their lines, since the editor is replaced whenever news are printed.
///
/// A submitted line waits until the agent has answered, and is kept only if the agent has recorded it. A line that the agent
/// refused because it holds a secret would otherwise stand on the disk of the operator's machine, and be suggested at the next
/// prompt.
#[derive(Clone, Debug)]
pub(super) struct SubmittedLines(Arc<Mutex<HistoryLines>>);

#[derive(Debug)]
struct HistoryLines {
    kept: FileBackedHistory,
    /// The last submitted line, whose fate is open.
    waiting: Option<HistoryItem>,
}

impl SubmittedLines {
    /// The history in a file, readable only by its owner.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub(super) fn in_file(path: PathBuf) -> Result<Self, String> {
        let made = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path);
        made.map_err(|error| format!("cannot write `{}`: {error}", path.display()))?;
        FileBackedHistory::with_file(MOST, path)
            .map(Self::of)
            .map_err(|error| error.to_string())
    }

    /// A history of this session alone.
    pub(super) fn in_memory() -> Self {
        Self::of(FileBackedHistory::default())
    }

    fn of(kept: FileBackedHistory) -> Self {
        Self(Arc::new(Mutex::new(HistoryLines { kept, waiting: None })))
    }

    /// Keeps the waiting line, in the file, too.
    ///
    /// # Errors
    /// The file cannot be written; the line is kept in memory.
    pub(super) fn keep(&self) -> Result<(), String> {
        let mut lines = self.lines();
        let Some(line) = lines.waiting.take() else {
            return Ok(());
        };
        lines.kept.save(line).map_err(|error| error.to_string())?;
        lines.kept.sync().map_err(|error| error.to_string())
    }

    /// Drops the waiting line.
    pub(super) fn forget(&self) {
        self.lines().waiting = None;
    }

    fn lines(&self) -> MutexGuard<'_, HistoryLines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History for SubmittedLines {
    /// Lets the line wait for its fate. A line that begins with a space is never kept.
    fn save(&mut self, line: HistoryItem) -> EditorResult<HistoryItem> {
        let is_kept = !line.command_line.starts_with(' ');
        self.lines().waiting = is_kept.then(|| line.clone());
        Ok(line)
    }

    fn load(&self, id: HistoryItemId) -> EditorResult<HistoryItem> {
        self.lines().kept.load(id)
    }

    fn count(&self, query: SearchQuery) -> EditorResult<i64> {
        self.lines().kept.count(query)
    }

    fn search(&self, query: SearchQuery) -> EditorResult<Vec<HistoryItem>> {
        self.lines().kept.search(query)
    }

    fn update(
        &mut self,
        id: HistoryItemId,
        updater: &dyn Fn(HistoryItem) -> HistoryItem,
    ) -> EditorResult<()> {
        self.lines().kept.update(id, updater)
    }

    fn clear(&mut self) -> EditorResult<()> {
        self.lines().kept.clear()
    }

    fn delete(&mut self, id: HistoryItemId) -> EditorResult<()> {
        self.lines().kept.delete(id)
    }

    fn sync(&mut self) -> std::io::Result<()> {
        self.lines().kept.sync()
    }

    fn session(&self) -> Option<HistorySessionId> {
        self.lines().kept.session()
    }
}

/// Suggests the rest of an earlier line, dimmed. Without colours it suggests nothing: the rest could not be told from what was
/// typed.
#[derive(Default)]
pub(super) struct Dimmed {
    hinter: DefaultHinter,
    shows: bool,
}

impl Hinter for Dimmed {
    fn handle(
        &mut self,
        line: &str,
        at: usize,
        history: &dyn History,
        colours: bool,
        folder: &str,
    ) -> String {
        self.shows = colours;
        let rest = self.hinter.handle(line, at, history, false, folder);
        if rest.is_empty() || !colours {
            String::new()
        } else {
            format!("\x1b[2m{rest}\x1b[0m")
        }
    }

    fn complete_hint(&self) -> String {
        if self.shows {
            self.hinter.complete_hint()
        } else {
            String::new()
        }
    }

    fn next_hint_token(&self) -> String {
        if self.shows {
            self.hinter.next_hint_token()
        } else {
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reedline::SearchDirection;

    fn submit(history: &mut SubmittedLines, line: &str) {
        history.save(HistoryItem::from_command_line(line)).unwrap();
    }

    fn lines(history: &SubmittedLines) -> Vec<String> {
        let all = SearchQuery::everything(SearchDirection::Forward, None);
        history
            .search(all)
            .unwrap()
            .into_iter()
            .map(|line| line.command_line)
            .collect()
    }

    #[test]
    fn only_a_line_whose_outcome_allows_it_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        let mut history = SubmittedLines::in_file(path.clone()).unwrap();
        submit(&mut history, "refused()");
        assert_eq!(lines(&history), [""; 0]);
        history.forget();
        history.keep().unwrap();
        submit(&mut history, "of unknown outcome()");
        submit(&mut history, "recorded()");
        history.keep().unwrap();
        submit(&mut history, " after a space()");
        history.keep().unwrap();
        assert_eq!(lines(&history), ["recorded()"]);
        // It is on the disk at once, so that a killed client loses no line that was kept.
        assert_eq!(std::fs::read_to_string(path).unwrap(), "recorded()\n");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_told_and_the_line_stays_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        let mut history = SubmittedLines::in_file(path.clone()).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        submit(&mut history, "recorded()");
        history.keep().unwrap_err();
        assert_eq!(lines(&history), ["recorded()"]);
    }

    #[test]
    fn a_suggestion_is_dimmed_and_without_colours_there_is_none() {
        let mut history = SubmittedLines::in_memory();
        submit(&mut history, "config.db.host");
        history.keep().unwrap();
        let mut hinter = Dimmed::default();
        assert_eq!(
            hinter.handle("config", 6, &history, true, ""),
            "\x1b[2m.db.host\x1b[0m"
        );
        assert_eq!(hinter.complete_hint(), ".db.host");
        assert_eq!(hinter.handle("nothing", 7, &history, true, ""), "");
        assert_eq!(hinter.handle("config", 6, &history, false, ""), "");
        assert_eq!(
            (hinter.complete_hint(), hinter.next_hint_token()),
            (String::new(), String::new())
        );
    }
}
