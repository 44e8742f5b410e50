//! A tamper-evident log: append, recover, prove, verify.
//!
//! `FORMAT.md` beside this crate's `Cargo.toml` specifies the format on disk, byte for byte. Records are lines of JSON, the
//! leaves of an RFC 6962 hash tree ([`tree`]). Its head is signed as a C2SP checkpoint ([`Checkpoint`], [`note`]).
//! [`Log`] writes, [`Reader`] reads, [`verify`] checks a folder without changing it.
//!
//! Deliberately absent: tokio, TLS, operators' signatures, and the wall clock (callers put the time into their records).

mod checkpoint;
pub mod kinds;
mod line;
mod log;
pub mod note;
mod read;
pub mod tree;
mod verify;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use line::{BodyError, MAX_LINE, room};
pub use log::{
    AppendError, CloseError, Entry, HELD_MAX, Health, IDLE, Log, OpenError, OpenedLog, RESERVE, RETRY,
    Receipt, Recovered, Ticket, Torn, Until,
};
pub use note::{NoteError, SigningKey, VerifierKey};
pub use read::{Line, Place, ReadError, Reader};
pub use verify::{Verified, VerifyError, verify};

/// A SHA-256 hash: of a record (leaf), of a subtree (node), or of the whole log (root).
pub type Hash = [u8; 32];
