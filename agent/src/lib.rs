//! The agent.

mod clock;
mod config;
#[allow(dead_code, unused_imports, reason = "used by the parts that are joined next")]
mod convert;
mod net;
mod points;
mod secret;
#[allow(dead_code, unused_imports, reason = "used by the parts that are joined next")]
mod state;

pub use secret::Secret;
