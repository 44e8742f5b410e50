//! The socket: mutual TLS on loopback, framing, sessions and their bounds.
//!
//! Everything here runs on one thread of the agent's own, `debug-net`, with its own runtime; what a call means is
//! decided behind [`Dispatch`], which must not block it. Before a client's certificate is verified nothing is said but
//! TLS; no decision uses a host name, SNI or DNS.

mod bounds;
mod codec;
mod connection;
mod hub;
mod identity;
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

pub(crate) use bounds::Bounds;
pub(crate) use connection::Client;
pub(crate) use identity::{AgentName, Identify, Operator};
pub(crate) use listener::{NetHandle, StartError, start};
pub(crate) use outbox::Outbox;
pub(crate) use refused::Refused;
pub(crate) use session::{Closed, Flow};
pub(crate) use tls::{Tls, provider};

/// What the rest of the agent is to the socket. Every method runs on `debug-net` and must not block it.
pub(crate) trait Dispatch: Send + Sync + 'static {
    /// What the agent keeps of an open session.
    type Session: Send + Sync + 'static;

    /// A verified client that found a place. Its first message is the `ready` returned here.
    fn open(&self, client: Client, outbox: Outbox) -> (Arc<Self::Session>, Ready);

    /// One well-formed call. Answers go through the session's outbox, now or later, from any thread.
    fn call(&self, session: &Arc<Self::Session>, call: Call) -> Flow;

    /// The session ended. Called exactly once for each session opened, before the last bytes are sent.
    fn closed(&self, session: &Arc<Self::Session>, why: Closed);

    /// A connection that became no session. Not rate-limited: whoever can connect can cause these.
    fn refused(&self, peer: SocketAddr, why: Refused);

    /// What runs on `debug-net`, or for it, has panicked; the thread goes on.
    fn panicked(&self);

    /// Whether a newcomer may take this session's place: it holds no leases and runs nothing.
    fn displaceable(&self, session: &Self::Session) -> bool;
}
