//! Rhai with bounds: the engines of evals and patches, their library, the conversion of values, and the parts of a script
//! that the agent keeps. The only crate that depends on the internals of Rhai.

pub mod convert;
pub mod copies;
pub mod engine;
pub mod frozen;
pub mod handed_out;
pub mod handle;
pub mod kinds;
pub mod library;
pub mod memory;
pub mod meter;
pub mod nesting;
pub mod results;
pub mod roots;
#[cfg(test)]
mod tests;
pub mod unfrozen;
pub mod values;
pub mod walk;
pub mod words;

/// What a function returns to a script: its value, or an error of the interpreter.
pub type ScriptResult<T> = Result<T, Box<rhai::EvalAltResult>>;
