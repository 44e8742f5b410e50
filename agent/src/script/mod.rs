//! Rhai with bounds: the engines of evals and patches, their library, and the parts of a script that the agent keeps.

pub(crate) mod copies;
pub(crate) mod engine;
pub(crate) mod frozen;
pub(crate) mod library;
pub(crate) mod memory;
pub(crate) mod meter;
pub(crate) mod nesting;
pub(crate) mod results;
pub(crate) mod roots;
#[cfg(test)]
mod tests;
pub(crate) mod unfrozen;
pub(crate) mod walk;
pub(crate) mod words;
