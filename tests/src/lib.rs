//! The test kit: real processes, real certificates, real sockets, and a client that can misbehave.
//!
//! The agent and `debugctl` run as programs; only the programs in `src/bin` link the agent.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a kit for tests: what fails here fails the test"
)]

pub mod certificates;
pub mod client;
pub mod dice;
pub mod halt;
pub mod process;
pub mod proxy;
pub mod serve;
pub mod set;
pub mod terminal;
pub mod wait;

pub use certificates::Certificates;
pub use client::{Client, Reply};
pub use debug_kit::http;
pub use dice::Dice;
pub use halt::Halted;
pub use process::{Ctl, Running, Service};
pub use proxy::Proxy;
pub use set::Set;
pub use terminal::Terminal;

/// The signature that Slack would send: `v0=` and the HMAC-SHA256 of `v0:<timestamp>:<body>` in hex.
pub fn slack_signature(secret: &str, timestamp: &str, body: &str) -> String {
    use hmac::{KeyInit as _, Mac as _};
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("v0:{timestamp}:{body}").as_bytes());
    let hex: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("v0={hex}")
}
