//! What the agent and its clients say to each other: bytes in, values out.
//!
//! Newline-delimited JSON-RPC 2.0 without batches over a mutual TLS 1.3 stream. This crate opens no socket and
//! holds no session; it knows the messages, their bounds, the one table of functions and methods, and what an
//! operator signs.

pub mod messages;
pub mod table;

/// The protocol's version, in [`messages::Ready`].
pub const PROTOCOL: u32 = 1;
/// The ALPN protocol id; both ends refuse a connection without it.
pub const ALPN: &[u8] = b"debug-agent/1";
/// The longest message in bytes, its newline not counted: 1 MiB.
pub const MAX_MESSAGE: usize = 1 << 20;
/// How deeply arrays and objects of a message or payload may nest.
pub const MAX_DEPTH: usize = 16;
/// The longest code of an eval together with its arguments, in bytes: 32 KiB.
pub const MAX_CODE: usize = 32 << 10;
