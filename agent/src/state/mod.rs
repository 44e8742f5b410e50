//! States: values that the service registered, as trees that can be read, edited at a path and written back.

mod tree;

pub(crate) use tree::Tree;
