//! Calls and replies over a stream: who waits for which reply, what an eval prints meanwhile, and when it is over.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use debug_wire::MAX_MESSAGE;
use debug_wire::messages::{self, Call, FromAgent, Output, Version};
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::client::TlsStream;

use crate::contract;

/// How often the agent is told that this client is alive. The agent gives up on one after 30 s of silence.
const PING: Duration = Duration::from_secs(10);
/// After how much silence the agent counts as gone: three pings without an answer.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);
/// How many chunks of output (64 KiB at most each) wait to be shown before the agent is no longer read.
const OUTPUTS: usize = 16;
/// How many calls wait to be sent.
const CALLS: usize = 16;

/// Lines of a stream, each bounded, and the way back.
pub(crate) struct Lines {
    read: BufReader<ReadHalf<TlsStream<TcpStream>>>,
    write: WriteHalf<TlsStream<TcpStream>>,
    line: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(stream: TlsStream<TcpStream>) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self { read: BufReader::new(read), write, line: Vec::new() }
    }

    /// The next line without its newline; `None` at the end.
    ///
    /// # Errors
    /// The stream fails, ends inside a line, or a line is longer than [`MAX_MESSAGE`].
    pub(crate) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        next_line(&mut self.read, &mut self.line).await
    }
}

/// Reads a line; what was read of it so far stays in `line`, so the future may be dropped and begun again.
async fn next_line(
    read: &mut (impl AsyncBufReadExt + Unpin),
    line: &mut Vec<u8>,
) -> io::Result<Option<Vec<u8>>> {
    loop {
        let buffer = read.fill_buf().await?;
        if buffer.is_empty() {
            let inside = io::Error::new(io::ErrorKind::UnexpectedEof, "it ends inside a message");
            return if line.is_empty() { Ok(None) } else { Err(inside) };
        }
        let newline = buffer.iter().position(|b| *b == b'\n');
        let end = newline.unwrap_or(buffer.len());
        if line.len() + end > MAX_MESSAGE {
            let message = format!("a message is longer than {MAX_MESSAGE} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        line.extend_from_slice(buffer.get(..end).unwrap_or_default());
        read.consume(newline.map_or(end, |at| at + 1));
        if newline.is_some() {
            return Ok(Some(std::mem::take(line)));
        }
    }
}

/// Why a connection is over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Loss(pub(crate) String);

/// Why a call has no result.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The agent answered with a failure.
    Failed(messages::Failure),
    /// The connection is over; whether the call was carried out is not known.
    Lost(Loss),
}

/// The reply to a call.
pub(crate) type Reply = Result<Value, messages::Failure>;

/// A connection in use.
pub(crate) struct Link {
    next_id: AtomicU64,
    calls: mpsc::Sender<Vec<u8>>,
    shared: Arc<Shared>,
    lost: watch::Receiver<Option<Loss>>,
    writer: JoinHandle<()>,
    others: [JoinHandle<()>; 2],
}

/// What the task that reads shares with callers.
#[derive(Default)]
struct Shared {
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    replies: HashMap<u64, oneshot::Sender<Reply>>,
    /// Where the output of the running eval goes.
    output: Option<(u64, mpsc::Sender<String>)>,
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        // Nothing panics while it is held; were it to, the map would still be whole.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// Takes the stream over.
    pub(crate) fn start(lines: Lines) -> Self {
        let shared = Arc::new(Shared::default());
        let (calls, queue) = mpsc::channel(CALLS);
        let (lose, lost) = watch::channel(None);
        let Lines { read, write, line } = lines;
        let writer = tokio::spawn(send(write, queue));
        let reader = tokio::spawn(receive(read, line, shared.clone(), lose));
        let pinger = tokio::spawn(ping(calls.downgrade()));
        // The ids below are the pings'.
        Self { next_id: AtomicU64::new(1), calls, shared, lost, writer, others: [reader, pinger] }
    }

    /// Calls a method and waits for its result.
    ///
    /// # Errors
    /// The agent answers with a failure, or the connection is lost.
    pub(crate) async fn call(&self, method: &str, params: &impl Serialize) -> Result<Value, CallError> {
        let (_, reply) = self.begin(method, params, None).await.map_err(CallError::Lost)?;
        self.wait(reply).await
    }

    /// Sends a call; its output, if it is an eval, goes to `output`.
    ///
    /// # Errors
    /// The connection is lost.
    pub(crate) async fn begin(
        &self,
        method: &str,
        params: &impl Serialize,
        output: Option<mpsc::Sender<String>>,
    ) -> Result<(u64, oneshot::Receiver<Reply>), Loss> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, reply) = oneshot::channel();
        {
            let mut pending = self.shared.pending();
            pending.replies.insert(id, sender);
            if let Some(output) = output {
                pending.output = Some((id, output));
            }
        }
        // INVARIANT: the reader tells the loss before it empties the map, so either the loss is seen here or the
        // entry made above is dropped by the reader.
        if let Some(loss) = self.lost.borrow().clone() {
            return Err(loss);
        }
        let params = serde_json::to_value(params).map_err(|error| Loss(error.to_string()))?;
        let call = Call { jsonrpc: Version::V2, id, method: method.to_owned(), params };
        if self.calls.send(to_line(&call)).await.is_err() {
            return Err(self.loss().await);
        }
        Ok((id, reply))
    }

    /// Waits for a reply.
    ///
    /// # Errors
    /// As [`Link::call`].
    pub(crate) async fn wait(&self, reply: oneshot::Receiver<Reply>) -> Result<Value, CallError> {
        match reply.await {
            Ok(reply) => reply.map_err(CallError::Failed),
            Err(_) => Err(CallError::Lost(self.loss().await)),
        }
    }

    /// A channel for the output of an eval.
    pub(crate) fn output() -> (mpsc::Sender<String>, mpsc::Receiver<String>) {
        mpsc::channel(OUTPUTS)
    }

    /// Waits until the connection is lost and tells why.
    pub(crate) async fn loss(&self) -> Loss {
        let mut lost = self.lost.clone();
        let lost = lost.wait_for(Option::is_some).await;
        lost.ok().and_then(|loss| loss.clone()).unwrap_or_else(|| Loss("the connection was closed".to_owned()))
    }

    /// Says goodbye, so that the agent need not wait for a vanished client.
    pub(crate) async fn close(self) {
        let Self { calls, writer, others, .. } = self;
        drop(calls);
        let _ = timeout(GOODBYE, writer).await;
        for task in others {
            task.abort();
        }
    }
}

/// A call as it is sent, its newline included.
fn to_line(call: &Call) -> Vec<u8> {
    // Cannot fail: the params are a value already.
    let mut line = serde_json::to_vec(call).unwrap_or_default();
    line.push(b'\n');
    line
}

async fn send(mut write: WriteHalf<TlsStream<TcpStream>>, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(line) = queue.recv().await {
        // A failure shows where the stream is read, too; there it is told.
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
    // Nobody waits for the answers: that there are any is what counts, so all pings share the id 0.
    let call = Call { jsonrpc: Version::V2, id: 0, method: "ping".to_owned(), params: serde_json::json!({}) };
    let line = to_line(&call);
    loop {
        ticks.tick().await;
        let Some(calls) = calls.upgrade() else { return };
        if calls.send(line.clone()).await.is_err() {
            return;
        }
    }
}

async fn receive(
    mut read: BufReader<ReadHalf<TlsStream<TcpStream>>>,
    mut line: Vec<u8>,
    shared: Arc<Shared>,
    lose: watch::Sender<Option<Loss>>,
) {
    // The last failure that answers no call tells why the agent closes the connection.
    let mut farewell = None;
    let why = loop {
        let message = match timeout(SILENCE, next_line(&mut read, &mut line)).await {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) => break "the agent closed it".to_owned(),
            Ok(Err(error)) => break error.to_string(),
            Err(_) => break format!("the agent was silent for {} s", SILENCE.as_secs()),
        };
        match contract::parse(&message) {
            Ok(FromAgent::Success { id, result, .. }) => answer(&shared, id, Ok(result)),
            Ok(FromAgent::Failure { id: Some(id), error, .. }) => answer(&shared, id, Err(error)),
            Ok(FromAgent::Failure { id: None, error, .. }) => farewell = Some(error.message),
            Ok(FromAgent::Notification { method, params, .. }) if method == "output" => {
                pass_on(&shared, params).await;
            }
            // A newer agent may tell more than this client knows.
            Ok(FromAgent::Notification { .. }) => {}
            Err(error) => break format!("the agent sent what is no message: {error}"),
        }
    };
    let _ = lose.send(Some(Loss(farewell.unwrap_or(why))));
    *shared.pending() = Pending::default();
}

fn answer(shared: &Shared, id: u64, reply: Reply) {
    let mut pending = shared.pending();
    if pending.output.as_ref().is_some_and(|(eval, _)| *eval == id) {
        pending.output = None;
    }
    if let Some(waiting) = pending.replies.remove(&id) {
        // Whoever has stopped waiting does not care.
        let _ = waiting.send(reply);
    }
}

async fn pass_on(shared: &Shared, params: Value) {
    let Ok(Output { id, text }) = serde_json::from_value(params) else { return };
    let output = shared.pending().output.as_ref().filter(|(eval, _)| *eval == id).map(|(_, to)| to.clone());
    if let Some(output) = output {
        let _ = output.send(text).await;
    }
}
