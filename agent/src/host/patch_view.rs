//! What a patch sees of the service, with its author's permissions.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use debug_policy::{Action, Request, Resource};
use rhai::Dynamic;

use crate::core::Core;
use crate::execute::script_log;
use crate::gate::{self};
use crate::session::context::EvalContext;
use crate::session::overlay::Overlay;
use debug_base::{Path, Tree, Wait};
use debug_script::convert;
use debug_script::frozen::PatchHost;
use debug_state::StateError;

/// What a patch sees of the service. The gate decides about its literal reads when the patch is made. Leaves may appear
/// later, so every leaf that it reads is decided again, by its author's request of that time.
pub(crate) struct PatchView {
    core: Arc<Core>,
    author: Request,
    /// The planned values, while a plan is being made.
    planned: Option<Overlay>,
    permitted: RwLock<BTreeSet<Path>>,
}

/// The most permitted leaves that are cached; policy decides about further ones each time.
const MAX_PERMITTED: usize = 10_000;

impl PatchView {
    /// The view of a patch of this eval's operator. The gate decides about its literal reads as part of the change.
    pub(crate) fn new(core: &Arc<Core>, run: &EvalContext) -> Self {
        let author = run.request(Action::Read, Resource::Agent);
        Self {
            core: core.clone(),
            author,
            planned: run.overlay(),
            permitted: RwLock::default(),
        }
    }

    fn is_permitted(&self, leaf: Path) -> bool {
        if self
            .permitted
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&leaf)
        {
            return true;
        }
        if !gate::may_read(self.core.door(), &self.author, &leaf) {
            return false;
        }
        let mut permitted = self.permitted.write().unwrap_or_else(PoisonError::into_inner);
        if permitted.len() < MAX_PERMITTED {
            permitted.insert(leaf);
        }
        true
    }
}

impl PatchView {
    /// The error with the nearest name, of those that the author may know.
    fn told(&self, error: &StateError) -> StateError {
        let StateError::NoSuchPath(missing) = error else {
            return error.knowing(&[]);
        };
        let above = missing.path.0.split_last().map(|(_, above)| Path(above.to_vec()));
        let above = above.filter(|above| gate::might_read(self.core.door(), &self.author, above));
        let known = above.and_then(|above| {
            let Ok(Tree::Map(entries)) = self.core.exposed.read(&above, Wait::Try) else {
                return None;
            };
            let may_know = |(name, value): &(String, Tree)| {
                let mut leaves = debug_base::leaves(&above.child(name), value)
                    .into_vec()
                    .into_iter();
                leaves.all(|leaf| self.is_permitted(leaf))
            };
            Some(
                entries
                    .into_iter()
                    .filter(may_know)
                    .map(|(name, _)| name)
                    .collect::<Vec<_>>(),
            )
        });
        error.knowing(&known.unwrap_or_default())
    }
}

impl PatchHost for PatchView {
    fn read(&self, path: &str) -> Result<Dynamic, String> {
        let path = path.parse::<Path>().map_err(|e| e.to_string())?;
        // Do not name the leaf that is not permitted: the service's log may have readers who must not know of it.
        let unread = || {
            Err(format!(
                "policy does not let the patch's author read all that is at `{path}` now"
            ))
        };
        if !gate::might_read(self.core.door(), &self.author, &path) {
            return unread();
        }
        let planned = self
            .planned
            .as_ref()
            .and_then(|planned| planned.look(&self.core.exposed, &path));
        let tree = planned.unwrap_or_else(|| self.core.exposed.read(&path, Wait::Try));
        let tree = tree.map_err(|e| self.told(&e).to_string())?;
        if !debug_base::leaves(&path, &tree)
            .into_vec()
            .into_iter()
            .all(|leaf| self.is_permitted(leaf))
        {
            return unread();
        }
        Ok(convert::to_dynamic(&tree, &path, &self.core.recorder.keyed))
    }

    fn log(&self, lease: u64, warn: bool, text: &str) {
        if self.planned.is_some() {
            return;
        }
        let owner = self
            .core
            .changes
            .leases
            .find(lease)
            .map(|l| l.owner)
            .unwrap_or_default();
        script_log(&owner, Some(lease), None, warn, &self.core.exposed.scrub(text));
    }
}
