//! Points: places of the service with behaviour that can be overridden.
//!
//! Invariant: in all circumstances the caller of a point gets an answer. It is the patch's if the patch gives a valid one,
//! otherwise the original's, which runs once with the caller's own arguments. An expired, ended or inherited (fork) layer
//! never runs.

mod breaker;
mod call;
mod crash_notes;
#[cfg(test)]
mod every_order;
#[cfg(any(test, feature = "test-util"))]
pub mod for_test;
mod layer;
mod layers;
mod order;
pub mod probe;
mod registry;
mod slot;
#[cfg(test)]
mod tests;
mod values;
mod watch;
mod world;

pub use breaker::Tripped;
pub use call::PANIC_ABORTS;
pub use call::run;
pub use call::{Arguments, call};
pub use crash_notes::{CallNote, CrashNotes, FoundAfterCrash, SWEEP_EVERY};
pub use layer::{Failed, Layer, Observer, PatchCode, PatchFailure, Stats};
pub use probe::Probe;
pub use probe::{Makes, NO_ERR, NO_RESULT};
pub use registry::POINTS;
pub use registry::point_method;
pub use registry::{LayerInfo, Point, PointInfo, Registry};
pub use slot::Kind;
pub use slot::{Facts, Slot};
pub use values::{Answer, Argument, encode};
pub use watch::Counted;
pub use watch::Watch;
