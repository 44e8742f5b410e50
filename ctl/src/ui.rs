//! What is shown: the terminal, tables, and how a command fails.

pub(crate) mod failure;
pub(crate) mod tables;
pub(crate) mod term;
