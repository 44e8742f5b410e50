//! Points: places of the service with behaviour that can be overridden.
//!
//! Invariant: in all circumstances the caller of a point gets an answer. It is the patch's if the patch gives a valid one,
//! otherwise the original's, which runs once with the caller's own arguments. An expired, ended or inherited (fork) layer
//! never runs.

mod breaker;
mod call;
#[cfg(test)]
mod every_order;
mod layer;
mod order;
pub mod probe;
mod registry;
mod slot;
#[cfg(test)]
pub(crate) mod tests;
mod values;
mod watch;
mod world;

pub(crate) use breaker::Tripped;
pub(crate) use call::PANIC_ABORTS;
#[cfg(feature = "http")]
pub(crate) use call::run;
pub use call::{Answer, Argument, Arguments, call};
pub(crate) use layer::{Failed, Layer, Observer, PatchCode, PatchFailure, Stats};
pub use probe::Probe;
pub(crate) use probe::{Makes, NO_ERR, NO_RESULT};
pub use registry::POINTS;
pub(crate) use registry::{LayerInfo, Point, PointInfo, Registry};
#[cfg(feature = "http")]
pub(crate) use registry::{distance, point_method};
pub(crate) use slot::Kind;
pub use slot::{Facts, Slot};
#[cfg(feature = "http")]
pub(crate) use values::encode;
pub use watch::Counted;
pub(crate) use watch::Watch;
