//! The kinds of changes in force: patches of points and writes of states.

pub(crate) mod guards;
mod layers;
#[cfg_attr(not(feature = "tracing"), allow(dead_code, reason = "without the filter nobody asks for levels"))]
pub(crate) mod levels;
#[cfg(test)]
mod model;
pub(crate) mod observer;
mod patch;
mod rehearsal;
pub(crate) mod snapshot;
#[cfg(test)]
mod tests;
pub(crate) mod waits;
pub(crate) mod workers;
mod write;

pub(crate) use patch::PatchChange;
pub(crate) use rehearsal::Rehearsal;
pub(crate) use write::{WriteChange, Writes, failed, only_because_of};
