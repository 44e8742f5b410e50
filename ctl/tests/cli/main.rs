//! The binary against a test agent: real sockets, real certificates, real proofs, and lies where a test needs them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agent;
mod attach;
mod audit;
mod authority;
mod evals;
mod keys;
mod leaving;
mod trust;
mod way_back;
mod world;
