//! A tamper-evident log: append, recover, prove, verify.
//!
//! The format on disk, byte for byte, is `FORMAT.md` beside this crate's `Cargo.toml`. Records are lines of JSON; they are the
//! leaves of an RFC 6962 hash tree ([`tree`]), whose head is signed as a C2SP checkpoint ([`Checkpoint`], [`note`]).
//! [`Log`] writes, [`Reader`] reads, [`verify`] checks a folder without changing it.
//!
//! Deliberately absent: tokio, TLS, operators' signatures, and the wall clock (records bring their own times).

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
    AppendError, CloseError, Entry, HELD_MAX, Health, IDLE, Log, OpenError, Opened, RESERVE, RETRY, Receipt,
    Recovered, Ticket, Torn, Until,
};
pub use note::{NoteError, SigningKey, VerifierKey};
pub use read::{Line, Place, ReadError, Reader};
pub use verify::{Verified, VerifyError, verify};

/// A SHA-256 hash: of a record (leaf), of a subtree (node), or of the whole log (root).
pub type Hash = [u8; 32];
