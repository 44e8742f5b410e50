//! What the agent and its clients say to each other: bytes in, values out.
//!
//! Newline-delimited JSON-RPC 2.0 without batches over a mutual TLS 1.3 stream. This crate opens no socket and
//! holds no session; it knows the messages, their bounds, the one table of functions and methods, and what an
//! operator signs.
//!
//! # On the stream
//! - A message is one line ([`frame`]): 1 to [`MAX_MESSAGE`] bytes of UTF-8 without control bytes, then `\n`.
//! - It is strict JSON ([`json`]): no equal keys, at most [`MAX_DEPTH`] deep ([`MAX_REPLY_DEPTH`] from the agent), no half
//!   surrogate pairs, no number that would be rounded to fit.
//! - Both sides refuse members that they do not know ([`messages`]).
//! - The agent speaks first: the notification `ready`. Then the client calls `hello`, then whatever else is in
//!   [`table::METHODS`].
//! - Every eval is signed over the bytes of its payload as they were sent ([`signature`]); nothing is serialized again.

pub mod frame;
pub mod json;
pub mod messages;
mod rpc;
pub mod signature;
pub mod table;

/// The protocol's version, in [`messages::Ready`].
pub const PROTOCOL: u32 = 1;
/// The ALPN protocol id; both ends refuse a connection without it.
pub const ALPN: &[u8] = b"debug-agent/1";
/// The longest message in bytes, its newline not counted: 1 MiB.
pub const MAX_MESSAGE: usize = 1 << 20;
/// How deeply arrays and objects of a call or payload may nest.
pub const MAX_DEPTH: usize = 16;
/// How deeply arrays and objects from the agent may nest: values of a service up to 64, and what wraps them.
pub const MAX_REPLY_DEPTH: usize = 80;
/// The longest code of an eval together with its arguments, in bytes: 32 KiB.
pub const MAX_CODE: usize = 32 << 10;
