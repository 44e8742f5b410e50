//! What is shown: the terminal, tables, failures, and what an agent tells while nothing is asked.

pub(crate) mod failure;
pub(crate) mod tables;
pub(crate) mod term;
pub(crate) mod watch;
