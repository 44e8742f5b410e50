//! The socket: mutual TLS on loopback, framing, sessions and their bounds.
//!
//! Everything here runs on one thread of the agent, `debug-net`, with its own runtime. [`Dispatch`] decides what a call
//! means, and must not block that thread. Before a client's certificate is verified the agent sends nothing but TLS; no
//! decision uses a host name, SNI or DNS.

mod bounds;
mod closed;
mod codec;
mod connection;
pub mod expiry;
mod hub;
mod listener;
mod outbox;
mod pem;
mod refused;
mod session;
mod tls;
mod verifier;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use debug_wire::messages::{Call, Ready};

pub use bounds::Bounds;
pub use closed::Closed;
pub use connection::Client;
pub use listener::{ListenError, NetHandle, start};
pub use outbox::Outbox;
pub use refused::Refused;
pub use session::Flow;
pub use tls::{Tls, provider};
pub use verifier::Authority;

/// The interface of the rest of the agent to the socket. Every method runs on `debug-net` and must not block it.
pub trait Dispatch: Send + Sync + 'static {
    /// The agent's state of an open session.
    type Session: Send + Sync + 'static;

    /// Opens the session of an authenticated client. The returned `ready` is its first message.
    fn open(&self, client: Client, outbox: Outbox) -> (Arc<Self::Session>, Ready);

    /// Handles one well-formed call. Replies go through the session's outbox, now or later, from any thread.
    fn call(&self, session: &Arc<Self::Session>, call: Call) -> Flow;

    /// Ends a session. Called exactly once for each opened session, before the last bytes are sent.
    fn closed(&self, session: &Arc<Self::Session>, why: Closed);

    /// Reports a connection that became no session. Any local process can cause these, so this must limit the rate of what it writes.
    fn refused(&self, peer: SocketAddr, why: Refused);

    /// Reports a panic on `debug-net`, or in work for it; the thread goes on.
    fn panicked(&self);

    /// Whether a new session may displace this one: it holds no leases and runs nothing.
    fn displaceable(&self, session: &Self::Session) -> bool;
}
