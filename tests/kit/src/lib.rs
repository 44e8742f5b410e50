//! What the end-to-end tests and the demo share: programs as processes, and an HTTP client. It uses the standard library only, so
//! that `cargo xtask` builds at once.

pub mod http;
mod program;

pub use program::{LIMIT, POLL, Program, end_of, listening_on};

/// The Slack token of the demo's service; not a real one.
pub const SLACK_TOKEN: &str = "not-a-real-slack-token";
/// The Slack signing secret of the demo's service; not a real one.
pub const SLACK_SIGN: &str = "not-a-real-signing-secret";
