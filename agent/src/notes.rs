//! Sentences that `info()` tells, each with what an operator must be allowed to know of to be told.

use crate::core::Core;
use crate::gate;
use crate::run::Run;
use crate::state::Path;

/// A sentence, and what it gives away beside what every operator may list (points, layers, the agent itself).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Note {
    /// The sentence.
    pub(crate) text: String,
    /// Paths of states. Who could read nothing at or below one of them is not told.
    paths: Vec<Path>,
    /// The id of a rule of the policy, which those are told of whom it speaks.
    rule: Option<String>,
}

impl Note {
    /// For all who may list.
    pub(crate) fn for_all(text: impl Into<String>) -> Self {
        Self { text: text.into(), paths: Vec::new(), rule: None }
    }

    /// About what stands at these paths.
    pub(crate) fn about(paths: impl IntoIterator<Item = Path>, text: impl Into<String>) -> Self {
        Self { paths: paths.into_iter().collect(), ..Self::for_all(text) }
    }

    /// The same, in a rule of the policy.
    pub(crate) fn in_rule(self, id: &str) -> Self {
        Self { rule: Some(id.to_owned()), ..self }
    }

    /// Whether this operator may be told.
    pub(crate) fn is_for(&self, core: &Core, run: &Run) -> bool {
        self.paths.iter().all(|path| gate::could_read(core, run, path))
            && self.rule.as_ref().is_none_or(|id| gate::speaks_of(core, run, id))
    }
}
