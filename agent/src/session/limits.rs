//! Bounds of an eval's output.

/// The most output of one eval, in bytes.
pub(crate) const MAX_OUTPUT: usize = 1 << 20;
/// The longest displayed result, in bytes.
pub(crate) const MAX_RESULT: usize = 256 << 10;

pub(crate) use debug_script::engine::{EVAL, PATCH};
