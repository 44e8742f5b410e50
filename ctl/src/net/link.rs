//! Calls and replies over a stream: pairs replies with callers, passes on an eval's output, and detects the loss of the stream.

use debug_wire::table::MethodId;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use debug_wire::frame::{self, Decoder, FrameError};
use debug_wire::messages::{self, AGENT_STOPS, Call, FromAgent, NoParams, Output, PingResult};
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::client::TlsStream;

use crate::net::news::{InForceSince, News};

/// How often the client pings the agent. The agent drops a client after 30 s of silence.
const PING: Duration = Duration::from_secs(10);
/// The id that all pings share.
const PINGS: u64 = 0;
/// The silence after which the agent counts as lost: three unanswered pings.
const SILENCE: Duration = Duration::from_secs(30);
/// The deadline of an orderly close.
const GOODBYE: Duration = Duration::from_secs(2);
/// How many chunks of output (64 KiB at most each) may wait to be shown before reading from the agent pauses.
const OUTPUTS: usize = 16;
/// How much is read at once: the content of a TLS record.
const CHUNK: usize = 16 << 10;
/// How many calls may wait to be sent.
const CALLS: usize = 16;

/// A stream of messages in both directions, not in use yet.
pub(crate) struct Stream {
    incoming: Incoming,
    write: WriteHalf<TlsStream<TcpStream>>,
}

/// The incoming messages.
struct Incoming {
    read: ReadHalf<TlsStream<TcpStream>>,
    decoder: Decoder,
    buffer: Vec<u8>,
}

impl Stream {
    pub(crate) fn new(stream: TlsStream<TcpStream>) -> Self {
        let (read, write) = tokio::io::split(stream);
        let incoming = Incoming {
            read,
            decoder: Decoder::default(),
            buffer: vec![0; CHUNK],
        };
        Self { incoming, write }
    }

    /// The next message without its newline; `None` at the end.
    ///
    /// # Errors
    /// The stream fails, ends inside a message, or holds something that is not a message.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.incoming.next().await
    }
}

impl Incoming {
    /// Like [`Stream::next`]. Cancel safe: the future may be dropped and created again without loss.
    async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let invalid = |error: FrameError| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
        loop {
            if let Some(message) = self.decoder.next().map_err(invalid)? {
                return Ok(Some(message));
            }
            match self.read.read(&mut self.buffer).await? {
                0 => return self.decoder.finish().map(|()| None).map_err(invalid),
                read => self.decoder.push(self.buffer.get(..read).unwrap_or_default()),
            }
        }
    }
}

/// Why a connection was lost.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Loss(pub(crate) String);

/// What becomes of the leases of a session that ends while its agent goes on.
pub(crate) const GRACE: &str =
    "leases that were not confirmed revert 60 s after the session, unless you attach again";
/// What becomes of all leases when the agent stops.
const STOP: &str = "its stop reverts every change at once, also the confirmed ones";

impl Loss {
    /// What becomes of the leases of the lost session.
    pub(crate) fn outlook(&self) -> &'static str {
        if self.0 == AGENT_STOPS { STOP } else { GRACE }
    }
}

/// Why a call has no result.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The agent answered with a failure.
    Failed(messages::Failure),
    /// The connection was lost; whether the call was carried out is unknown.
    Lost(Loss),
}

/// The reply to a call.
pub(crate) type CallReply = Result<Value, messages::Failure>;

/// A connection in use.
pub(crate) struct Link {
    next_id: AtomicU64,
    calls: mpsc::Sender<Vec<u8>>,
    shared: Arc<LinkShared>,
    lost: watch::Receiver<Option<Loss>>,
    writer: JoinHandle<()>,
    others: [JoinHandle<()>; 2],
}

/// What the reading task shares with callers.
#[derive(Default)]
struct LinkShared {
    pending: Mutex<PendingCall>,
    /// Notified by each answer to a ping.
    told: Notify,
}

#[derive(Default)]
struct PendingCall {
    replies: HashMap<u64, oneshot::Sender<CallReply>>,
    /// The id and output channel of the running eval.
    output: Option<(u64, mpsc::Sender<String>)>,
    /// The news since the last [`Link::take_news`].
    news: News,
}

/// The limit on news kept until they are taken.
const MAX_ENDED: usize = 256;

impl LinkShared {
    fn pending(&self) -> MutexGuard<'_, PendingCall> {
        // No code panics while it holds the lock; if it did, the map would still be whole.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// Starts the tasks that read, write and ping.
    pub(crate) fn start(stream: Stream) -> Self {
        let shared = Arc::new(LinkShared::default());
        let (calls, queue) = mpsc::channel(CALLS);
        let (lose, lost) = watch::channel(None);
        let Stream { incoming, write } = stream;
        let writer = tokio::spawn(send(write, queue));
        let reader = tokio::spawn(receive(incoming, shared.clone(), lose));
        let pinger = tokio::spawn(ping(calls.downgrade()));
        // The id below is the pings'.
        Self {
            next_id: AtomicU64::new(1),
            calls,
            shared,
            lost,
            writer,
            others: [reader, pinger],
        }
    }

    /// Calls a method and waits for its result.
    ///
    /// # Errors
    /// The agent answers with a failure, or the connection is lost.
    pub(crate) async fn call(&self, method: MethodId, params: &impl Serialize) -> Result<Value, CallError> {
        let (_, reply) = self.begin(method, params, None).await.map_err(CallError::Lost)?;
        self.wait(reply).await
    }

    /// Sends a call. If it is an eval, its output goes to `output`.
    ///
    /// # Errors
    /// The connection is lost.
    pub(crate) async fn begin(
        &self,
        method: MethodId,
        params: &impl Serialize,
        output: Option<mpsc::Sender<String>>,
    ) -> Result<(u64, oneshot::Receiver<CallReply>), Loss> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, reply) = oneshot::channel();
        {
            let mut pending = self.shared.pending();
            pending.replies.insert(id, sender);
            if let Some(output) = output {
                pending.output = Some((id, output));
            }
        }
        // INVARIANT: the reader publishes the loss before it empties the map, so either the loss is seen here or the reader drops
        // the entry made above.
        if let Some(loss) = self.lost.borrow().clone() {
            return Err(loss);
        }
        let line = Call::new(id, method, params).and_then(|call| frame::encode(&call));
        let line = line.map_err(|error| Loss(error.to_string()))?;
        if self.calls.send(line).await.is_err() {
            return Err(self.loss().await);
        }
        Ok((id, reply))
    }

    /// Waits for a reply.
    ///
    /// # Errors
    /// As [`Link::call`].
    pub(crate) async fn wait(&self, reply: oneshot::Receiver<CallReply>) -> Result<Value, CallError> {
        match reply.await {
            Ok(reply) => reply.map_err(CallError::Failed),
            Err(_) => Err(CallError::Lost(self.loss().await)),
        }
    }

    /// Sends a ping; its answer brings [news](Link::take_news). If the queue of calls is full, none is sent.
    pub(crate) fn ask_news(&self) {
        if let Some(line) = ping_line() {
            let _ = self.calls.try_send(line);
        }
    }

    /// Waits for the answer to a ping.
    pub(crate) async fn news_came(&self) {
        self.shared.told.notified().await;
    }

    /// Takes the news since the last call.
    pub(crate) fn take_news(&self) -> News {
        std::mem::take(&mut self.shared.pending().news)
    }

    /// A channel for the output of an eval.
    pub(crate) fn output() -> (mpsc::Sender<String>, mpsc::Receiver<String>) {
        mpsc::channel(OUTPUTS)
    }

    /// Waits until the connection is lost and returns the reason.
    pub(crate) async fn loss(&self) -> Loss {
        let mut lost = self.lost.clone();
        let lost = lost.wait_for(Option::is_some).await;
        lost.ok()
            .and_then(|loss| loss.clone())
            .unwrap_or_else(|| Loss("the connection was closed".to_owned()))
    }

    /// Closes in order, so that the agent need not wait for a vanished client.
    pub(crate) async fn close(self) {
        let Self {
            calls,
            writer,
            others,
            ..
        } = self;
        drop(calls);
        let _ = timeout(GOODBYE, writer).await;
        for task in others {
            task.abort();
        }
    }
}

async fn send(mut write: WriteHalf<TlsStream<TcpStream>>, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(line) = queue.recv().await {
        // The reader sees the failure as well, and reports it.
        if write.write_all(&line).await.is_err() || write.flush().await.is_err() {
            return;
        }
    }
    let _ = write.shutdown().await;
}

async fn ping(calls: mpsc::WeakSender<Vec<u8>>) {
    let mut ticks = interval(PING);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let Some(line) = ping_line() else { return };
    loop {
        ticks.tick().await;
        let Some(calls) = calls.upgrade() else { return };
        if calls.send(line.clone()).await.is_err() {
            return;
        }
    }
}

/// A ping. All pings share an id, since what matters is that answers arrive.
fn ping_line() -> Option<Vec<u8>> {
    Call::new(PINGS, MethodId::Ping, &NoParams {})
        .and_then(|call| frame::encode(&call))
        .ok()
}

async fn receive(mut incoming: Incoming, shared: Arc<LinkShared>, lose: watch::Sender<Option<Loss>>) {
    // The last failure without a call tells why the agent closes the connection.
    let mut farewell = None;
    let why = loop {
        let message = match timeout(SILENCE, incoming.next()).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => break "the agent closed it".to_owned(),
            Ok(Err(error)) => break lost(&error),
            Err(_) => break format!("the agent was silent for {} s", SILENCE.as_secs()),
        };
        match FromAgent::parse(&message) {
            Ok(FromAgent::Success {
                id: PINGS, result, ..
            }) => heard(&shared, result),
            Ok(FromAgent::Success { id, result, .. }) => answer(&shared, id, Ok(result)),
            Ok(FromAgent::Failure {
                id: Some(id), error, ..
            }) => answer(&shared, id, Err(error)),
            Ok(FromAgent::Failure { id: None, error, .. }) => farewell = Some(error.message),
            Ok(FromAgent::Notification { method, params, .. }) if method == "output" => {
                pass_on(&shared, params).await;
            }
            // A newer agent may send notifications that this client does not know.
            Ok(FromAgent::Notification { .. }) => {}
            Err(error) => break format!("the agent sent what is no message: {error}"),
        }
    };
    let _ = lose.send(Some(Loss(farewell.unwrap_or(why))));
    *shared.pending() = PendingCall::default();
}

/// The reason in words. A cut stream is the most common case, and rustls' text for it is meant for programmers.
fn lost(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return "the agent vanished without a goodbye".to_owned();
    }
    error.to_string()
}

/// Keeps the news of a ping's answer until they are taken: the agent sends each only once.
fn heard(shared: &LinkShared, result: Value) {
    let Ok(PingResult {
        in_force,
        ended,
        failing,
    }) = serde_json::from_value(result)
    else {
        return;
    };
    {
        let news = &mut shared.pending().news;
        news.in_force = Some(InForceSince::told(in_force, Instant::now()));
        news.ended.extend(ended);
        let surplus = news.ended.len().saturating_sub(MAX_ENDED);
        news.ended.drain(..surplus);
        news.failing.extend(failing);
        let surplus = news.failing.len().saturating_sub(MAX_ENDED);
        news.failing.drain(..surplus);
    }
    shared.told.notify_one();
}

fn answer(shared: &LinkShared, id: u64, reply: CallReply) {
    let mut pending = shared.pending();
    if pending.output.as_ref().is_some_and(|(eval, _)| *eval == id) {
        pending.output = None;
    }
    if let Some(waiting) = pending.replies.remove(&id) {
        // The caller may have stopped waiting.
        let _ = waiting.send(reply);
    }
}

async fn pass_on(shared: &LinkShared, params: Value) {
    let Ok(Output { id, text }) = serde_json::from_value(params) else {
        return;
    };
    let output = shared
        .pending()
        .output
        .as_ref()
        .filter(|(eval, _)| *eval == id)
        .map(|(_, to)| to.clone());
    if let Some(output) = output {
        let _ = output.send(text).await;
    }
}
