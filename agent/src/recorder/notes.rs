//! The notes of `info()`, each with what an operator must be allowed to know to see it.

use debug_base::Path;

/// A note, and what it reveals beyond what every operator may list (points, layers, the agent itself).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Note {
    /// The text.
    pub(crate) text: String,
    /// Paths of states. An operator sees the note only if they could read something at or below each of them.
    pub(crate) paths: Vec<Path>,
    /// The id of a rule of the policy. Only operators to whom the rule applies see the note.
    pub(crate) rule: Option<String>,
}

impl Note {
    /// A note for every operator who may list.
    pub(crate) fn for_all(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            paths: Vec::new(),
            rule: None,
        }
    }

    /// A note about the values at these paths.
    pub(crate) fn about(paths: impl IntoIterator<Item = Path>, text: impl Into<String>) -> Self {
        Self {
            paths: paths.into_iter().collect(),
            ..Self::for_all(text)
        }
    }

    /// The same note, about a rule of the policy.
    pub(crate) fn in_rule(self, id: &str) -> Self {
        Self {
            rule: Some(id.to_owned()),
            ..self
        }
    }
}
