//! What the service shows: its states and points, and what must not be shown of them.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use debug_base::{Path, Tree, Wait};
use debug_points::Registry;
use debug_state::{Origin, Redactor, Scrubber, StateError, States};

/// The service's states and points.
pub(crate) struct Exposed {
    /// The states that the service registered.
    pub(crate) states: Arc<States>,
    /// The points.
    pub(crate) points: Arc<Registry>,
    /// Decides which values are secret.
    pub(crate) redactor: Arc<Redactor>,
    /// Removes known secrets from everything that leaves the agent.
    pub(crate) scrubber: Scrubber,
    /// Texts that contain a secret of another path, by their own paths, as found at start; set once.
    pub(crate) alike: OnceLock<BTreeMap<Path, Vec<(Origin, bool)>>>,
}

impl Exposed {
    /// The text without the secrets known now.
    pub(crate) fn scrub(&self, text: &str) -> String {
        self.scrubber.scrub(text).into_owned()
    }

    /// Whether a text holds a secret known now.
    pub(crate) fn holds_secret(&self, text: &str) -> bool {
        self.scrubber.find(text)
    }

    /// Reads a path with its secrets marked. The scrubber learns them before any caller sees the value.
    ///
    /// # Errors
    /// The path does not exist, or the service's lock is not free in time.
    pub(crate) fn read(&self, path: &Path, wait: Wait) -> Result<Tree, StateError> {
        let tree = self.states.read(path, wait)?;
        self.scrubber.learn(path, &tree);
        // Also mark texts that contain a secret: a script could take such a text apart and so get the secret past the
        // scrubber.
        Ok(self.scrubber.mark(tree))
    }

    /// Makes the scrubber learn the secrets of every state, also of those that no eval has read yet.
    pub(crate) fn learn_all(&self) {
        for (name, _) in self.states.list() {
            // A state that is not readable now is learnt when it is read.
            drop(self.read(&Path(vec![name.to_owned()]), Wait::AGENT));
        }
    }

    /// Finds the texts that contain secrets of other paths. It runs at start only: a text that an operator wrote later
    /// could be a guess, and the answer would tell whether the guess was right.
    pub(crate) fn find_alike(&self) {
        let mut alike = BTreeMap::new();
        for (name, _) in self.states.list() {
            let state = Path(vec![name.to_owned()]);
            let Ok(tree) = self.read(&state, Wait::AGENT) else {
                continue;
            };
            for (below, leaf) in tree.leaves() {
                let Tree::Str(text) = leaf.without_mark() else {
                    continue;
                };
                let path = state.join(&below.0);
                let secrets = self.scrubber.alike(&path, text);
                if !secrets.is_empty() {
                    alike.insert(path, secrets);
                }
            }
        }
        drop(self.alike.set(alike));
    }

    /// The secrets that the text at a path contained at start; true for each that was the whole text.
    pub(crate) fn alike(&self, path: &Path) -> &[(Origin, bool)] {
        self.alike
            .get()
            .and_then(|alike| alike.get(path))
            .map(Vec::as_slice)
            .unwrap_or_default()
    }
}
