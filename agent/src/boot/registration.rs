//! What the service's author registered.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use debug_state::State;

use crate::changes::guards::Gauge;
use crate::recorder::notes::Note;

/// All that the builder was given.
#[derive(Default)]
pub(crate) struct Registration {
    pub(crate) service: String,
    pub(crate) states: Vec<Arc<dyn State>>,
    /// The [`Check`](debug_state::Check) of a state's type, with the state's path as its author wrote it.
    pub(crate) checks: Vec<(String, Box<dyn Any + Send>)>,
    /// Faults in single names; each disables only that name.
    pub(crate) faults: Vec<Note>,
    /// The path of a list, and the field that identifies its elements.
    pub(crate) keys: Vec<(String, String)>,
    pub(crate) never_patch: Vec<String>,
    pub(crate) never_write: Vec<String>,
    pub(crate) routes: Vec<String>,
    pub(crate) gauges: BTreeMap<String, Gauge>,
}
