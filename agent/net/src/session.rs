//! An open session: lines in, lines out, until one of several ends.

use std::fmt;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use debug_wire::messages::{AGENT_STOPS, Call, Code, FromAgent};
use pki_types::UnixTime;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};

use super::Dispatch;
use super::bounds::{Bounds, LOOK};
use super::codec::{self, Decoder, NoCall};
use super::connection::{Authenticated, lost};
use super::hub::{Activity, Hub, Open};
use super::outbox::Outbox;

/// The bytes per read: the size of a TLS record.
const CHUNK: usize = 16 << 10;
/// The most bytes read from a client after its session has ended, eight of the largest messages. Without reading them,
/// closing could destroy the message that says why.
const LINGER: usize = 8 << 20;

/// Whether a session goes on after a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flow {
    /// It goes on.
    Continue,
    /// It ends once what was sent has reached the client.
    Close,
}

/// Why a session ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Closed {
    /// The client closed the connection properly (TLS `close_notify`).
    Clean,
    /// The client vanished, or may be gone; the reason.
    Lost(String),
    /// No call other than `ping` for too long.
    Idle,
    /// A newer session displaced it.
    Displaced,
    /// The client sent something that is not a call; the reason.
    Protocol(String),
    /// The client does not read its messages.
    SlowReader,
    /// The agent ended the session, by [`Flow::Close`] or [`Outbox::close`].
    Ended,
    /// The agent stops.
    Shutdown,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean => f.write_str("closed by the client"),
            Self::Lost(reason) => write!(f, "lost: {reason}"),
            Self::Idle => f.write_str("idle for too long"),
            Self::Displaced => f.write_str("displaced by a newer session"),
            Self::Protocol(reason) => write!(f, "protocol error: {reason}"),
            Self::SlowReader => f.write_str("the client does not read"),
            Self::Ended => f.write_str("ended by the agent"),
            Self::Shutdown => f.write_str(AGENT_STOPS),
        }
    }
}

impl Closed {
    /// The last message to the client: none if the client knows the reason or no longer reads.
    fn farewell(&self) -> Option<FromAgent> {
        let (code, message, help) = match self {
            Self::Idle => (Code::Limit, "the session was idle for too long", "attach again"),
            Self::Displaced => (
                Code::Limit,
                "a newer session took the place of this one",
                "attach again; close what is not needed",
            ),
            Self::Shutdown => (Code::State, AGENT_STOPS, "attach again once the service is back"),
            Self::Lost(reason) if reason == EXPIRED => (
                Code::Limit,
                "the certificate expired",
                "get a new certificate and attach again",
            ),
            Self::Clean | Self::Lost(_) | Self::Protocol(_) | Self::SlowReader | Self::Ended => return None,
        };
        Some(FromAgent::failure(None, code, message, help))
    }

    /// Whether the client may still be reading.
    fn reachable(&self) -> bool {
        match self {
            Self::Idle | Self::Displaced | Self::Protocol(_) | Self::Ended | Self::Shutdown | Self::Clean => {
                true
            }
            Self::Lost(reason) => reason == EXPIRED,
            Self::SlowReader => false,
        }
    }
}

const EXPIRED: &str = "the certificate expired";

/// Serves an authenticated client from its first message to its last.
pub(crate) async fn serve<D: Dispatch>(hub: Rc<Hub<D>>, authenticated: Authenticated) {
    let Authenticated { stream, client } = authenticated;
    let (peer, not_after) = (client.peer, client.not_after);
    let (mut read, write) = tokio::io::split(stream);
    let mut open = match hub.open(client) {
        Ok(open) => open,
        Err(why) => {
            let help = "close a session that is not needed, or wait until one ends";
            let message = FromAgent::failure(None, Code::Limit, why.to_string(), help);
            hub.dispatch.refused(peer, why);
            let outbox = Outbox::new(hub.bounds.outgoing);
            outbox.finish(Closed::Ended, Some(message));
            let _ = timeout(hub.bounds.farewell, hang_up(transmit(write, &outbox), &mut read)).await;
            return;
        }
    };

    let outbox = open.outbox.clone();
    let mut displaced = open.displacement();
    let mut stopping = hub.stopping.clone();
    let mut transmitting = pin!(transmit(write, &outbox));
    let mut sent = None;
    let why = tokio::select! {
        biased;
        _ = stopping.wait_for(|stop| *stop) => Closed::Shutdown,
        () = Open::<D>::displaced(&mut displaced) => Closed::Displaced,
        () = outbox.overrun() => Closed::SlowReader,
        why = watch(&open.activity, &hub.bounds, not_after) => why,
        why = &mut transmitting => sent.insert(why).clone(),
        why = receive(&mut read, &hub, &open) => why,
    };

    outbox.finish(why.clone(), why.farewell());
    open.end(why.clone());
    if why.reachable() && sent.is_none() {
        let _ = timeout(hub.bounds.farewell, hang_up(transmitting, &mut read)).await;
    } else if why.reachable() {
        let _ = timeout(hub.bounds.farewell, linger(&mut read)).await;
    }
    outbox.abandon(why);
}

/// Sends the queued messages, then reads until the client has closed its side.
async fn hang_up(transmitting: impl Future<Output = Closed>, read: &mut (impl AsyncRead + Unpin)) {
    tokio::join!(transmitting, linger(read));
}

/// Reads and discards. Closing a socket with unread bytes resets the connection, and the reset can overtake the last
/// message.
async fn linger(read: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = vec![0; CHUNK];
    let mut left = LINGER;
    while let Ok(read @ 1..) = read.read(&mut buffer).await {
        left = left.saturating_sub(read);
        if left == 0 {
            return;
        }
    }
}

/// Reads calls and dispatches them, until the client leaves or sends something that is not a call.
async fn receive<D: Dispatch>(read: &mut (impl AsyncRead + Unpin), hub: &Hub<D>, open: &Open<D>) -> Closed {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; CHUNK];
    loop {
        let bytes = match read.read(&mut buffer).await {
            Ok(0) if decoder.finish().is_ok() => return Closed::Clean,
            Ok(0) => return Closed::Protocol("the client closed inside a message".to_owned()),
            Ok(read) => buffer.get(..read).unwrap_or_default(),
            Err(e) => return Closed::Lost(lost(&e)),
        };
        open.activity.heard.set(Instant::now());
        decoder.push(bytes);
        loop {
            match codec::next(&mut decoder) {
                Ok(None) => break,
                Ok(Some(call)) => match take(hub, open, call) {
                    Flow::Continue => {}
                    Flow::Close => return Closed::Ended,
                },
                Err(no_call) => {
                    let NoCall { id, failure, goes_on } = *no_call;
                    let why = Closed::Protocol(failure.message.clone());
                    let answer = codec::failed(id, failure);
                    if !goes_on {
                        open.outbox.finish(why.clone(), Some(answer));
                        return why;
                    }
                    // If the outbox is closed, `transmit` ends the session.
                    let _ = open.outbox.send(answer);
                }
            }
            // Yield, so that a client with many small calls does not delay others.
            tokio::task::coop::consume_budget().await;
        }
    }
}

fn take<D: Dispatch>(hub: &Hub<D>, open: &Open<D>, call: Call) -> Flow {
    // A ping shows that the client is alive, not that it is in use.
    if call.method != "ping" {
        open.activity.called.set(Instant::now());
    }
    hub.dispatch.call(&open.session, call)
}

/// Sends lines until there will be no more, then closes the stream.
async fn transmit(mut write: impl AsyncWrite + Unpin, outbox: &Outbox) -> Closed {
    while let Some(line) = outbox.next().await {
        let sent = async {
            write.write_all(&line).await?;
            write.flush().await
        };
        if let Err(e) = sent.await {
            return Closed::Lost(lost(&e));
        }
    }
    let _ = write.shutdown().await;
    outbox.closed().unwrap_or(Closed::Ended)
}

/// Waits until the client has been silent or idle for too long, or its certificate has expired.
async fn watch(activity: &Activity, bounds: &Bounds, not_after: u64) -> Closed {
    loop {
        let now = Instant::now();
        let (silent, idle) = (
            activity.heard.get() + bounds.silence,
            activity.called.get() + bounds.idle,
        );
        if silent <= now {
            return Closed::Lost(format!("nothing came for {}", seconds(bounds.silence)));
        }
        if idle <= now {
            return Closed::Idle;
        }
        if not_after < UnixTime::now().as_secs() {
            return Closed::Lost(EXPIRED.to_owned());
        }
        sleep_until(silent.min(idle).min(now + LOOK)).await;
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}
