//! The protocol between the agent and its clients: bytes in, values out.
//!
//! Newline-delimited JSON-RPC 2.0 without batches over a mutual TLS 1.3 stream. This crate opens no socket and holds no session;
//! it defines the messages, their limits, the one table of functions and methods, and what an operator signs.
//!
//! # On the stream
//! - A message is one line ([`frame`]): 1 to [`MAX_MESSAGE`] bytes of UTF-8 without control bytes, then `\n`.
//! - It is strict JSON ([`json`]): no equal keys, at most [`MAX_DEPTH`] deep ([`MAX_REPLY_DEPTH`] from the agent), no half
//!   surrogate pairs, no number that would be rounded to fit.
//! - Both sides refuse unknown members ([`messages`]).
//! - The agent speaks first, with the notification `ready`. Then the client calls `hello`, then any other method in
//!   [`table::METHODS`].
//! - Every eval is signed over the bytes of its payload as they were sent ([`signature`]); the payload is never serialized again.

pub mod frame;
pub mod json;
pub mod messages;
pub mod records;
mod rpc;
pub mod signature;
pub mod table;

/// The protocol's version, in [`messages::Ready`].
pub const PROTOCOL: u32 = 1;
/// The ALPN protocol id; both ends refuse a connection without it.
pub const ALPN: &[u8] = b"debug-agent/1";
/// The limit on a message, in bytes without its newline: 1 MiB.
pub const MAX_MESSAGE: usize = 1 << 20;
/// The limit on the depth of arrays and objects in a call or payload.
pub const MAX_DEPTH: usize = 16;
/// The limit on the depth of arrays and objects from the agent: values of a service up to 64, and their wrapping.
pub const MAX_REPLY_DEPTH: usize = 80;
/// The limit on an eval's code and its arguments together, in bytes: 32 KiB.
pub const MAX_CODE: usize = 32 << 10;
