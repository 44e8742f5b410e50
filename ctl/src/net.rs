//! The connection to an agent: TLS, the agent's certificate, messages, interrupts of a call.

pub(crate) mod connect;
pub(crate) mod interrupts;
pub(crate) mod link;
pub(crate) mod news;
mod verifier;
