//! What is written down: records of the audit log, events of the service's log, the marks of changes in force, notes.

pub(crate) mod events;
pub(crate) mod marker;
pub(crate) mod notes;
pub(crate) mod records;
#[cfg(feature = "tracing")]
pub(crate) mod tracing_layer;

use debug_audit::{Entry, Log, Until};
use debug_base::Tree;
use debug_state::Keyed;
use serde_json::{Value, json};

use self::events::Emitter;

/// The audit log and the service's log.
pub(crate) struct Recorder {
    /// The audit log.
    pub(crate) log: Log,
    /// The queue of events for the service's log.
    pub(crate) emitter: Emitter,
    /// Makes keyed digests.
    pub(crate) keyed: Keyed,
}

impl Recorder {
    /// Appends records without waiting for the disk.
    pub(crate) fn append(&self, entries: Vec<Entry>) {
        drop(self.log.append(entries, Until::Written));
    }

    /// Keyed digest and length of a value, for records.
    pub(crate) fn digest(&self, value: &Tree) -> Value {
        json!({ "hmac": self.keyed.digest(value), "bytes": value.size() })
    }

    /// Keyed digest and length of the value at a path; `{"absent": true}` if there is none.
    pub(crate) fn digest_of(&self, value: Option<&Tree>) -> Value {
        value.map_or_else(|| json!({ "absent": true }), |value| self.digest(value))
    }
}
