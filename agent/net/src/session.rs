//! An open session: lines in, lines out, until one of several ends.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use debug_wire::messages::{Call, Code, FromAgent};
use debug_wire::table::MethodId;
use pki_types::UnixTime;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};

use super::Dispatch;
use super::bounds::{Bounds, LOOK};
use super::closed::{Closed, EXPIRED};
use super::codec::{self, Decoder, NoCall};
use super::connection::{Authenticated, lost};
use super::hub::{Activity, Hub, OpenSession};
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
        () = OpenSession::<D>::displaced(&mut displaced) => Closed::Displaced,
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
async fn receive<D: Dispatch>(
    read: &mut (impl AsyncRead + Unpin),
    hub: &Hub<D>,
    open: &OpenSession<D>,
) -> Closed {
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

fn take<D: Dispatch>(hub: &Hub<D>, open: &OpenSession<D>, call: Call) -> Flow {
    // A ping shows that the client is alive, not that it is in use.
    if call.method != MethodId::Ping {
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
