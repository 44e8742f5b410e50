//! What is written down: records of the audit log, events of the service's log, the marks of changes in force, notes.

pub(crate) mod emit;
pub(crate) mod marks;
pub(crate) mod notes;
pub(crate) mod records;
#[cfg(feature = "tracing")]
pub(crate) mod tracing_layer;
