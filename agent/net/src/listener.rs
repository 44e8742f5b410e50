//! The listener, and the thread that runs this module.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{sleep, timeout};

use super::Dispatch;
use super::bounds::Bounds;
use super::connection::Accepted;
use super::hub::{HandshakeSlot, Hub};
use super::refused::Refused;
use super::session::serve;
use super::tls::Tls;
use debug_base::{Panicked, fenced};

/// The thread's name.
const THREAD: &str = "debug-net";
/// The wait after a failed accept: long enough not to spin while the service is out of file descriptors, short enough
/// not to delay clients noticeably afterwards.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How long connections may take to send their last messages when the agent stops. Together with joining the thread
/// this is under a second.
const LAST_WORDS: Duration = Duration::from_millis(600);
/// How long to wait for the thread before it is detached: it must not block the service's exit.
const JOIN: Duration = Duration::from_millis(900);

/// Why the agent does not listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process listens there, perhaps the previous one of this service; a retry may help.
    #[error("another process listens on `{0}`")]
    InUse(SocketAddr),
    /// The system refuses the address.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The system refuses a thread or a runtime.
    #[error("cannot start the thread `debug-net`")]
    Thread(#[from] io::Error),
}

/// The running listener; dropping it stops it.
#[derive(Debug)]
pub struct NetHandle {
    /// The address it listens on; with the port that the system chose if the configuration said 0.
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    ended: mpsc::Receiver<()>,
    thread: Option<JoinHandle<()>>,
    /// How long to wait for the thread on drop.
    patience: Duration,
}

impl NetHandle {
    /// Stops listening and ends every session with [`super::Closed::Shutdown`]; does not block.
    pub fn begin_shutdown(&self) {
        self.stop.send_replace(true);
    }

    /// As [`shutdown`](Self::shutdown), waiting at most `patience` for the thread.
    pub fn shutdown_within(mut self, patience: Duration) {
        self.patience = patience;
        drop(self);
    }

    /// Stops listening, ends every session with [`super::Closed::Shutdown`] and waits for the thread, less than 1 s.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for NetHandle {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let Some(thread) = self.thread.take() else { return };
        // The thread must not wait for itself.
        if thread.thread().id() == std::thread::current().id() {
            return;
        }
        // The thread sends no message: its end disconnects the channel.
        if self.ended.recv_timeout(self.patience) == Err(mpsc::RecvTimeoutError::Disconnected) {
            let _ = thread.join();
        }
    }
}

/// Listens on `listen` and serves on a thread of its own until the handle is dropped.
///
/// # Errors
/// The address is in use ([`ListenError::InUse`], a retry may help) or refused, or the system refuses a thread.
pub fn start<D: Dispatch>(
    listen: SocketAddr,
    tls: Tls,
    dispatch: Arc<D>,
    bounds: Bounds,
) -> Result<NetHandle, ListenError> {
    let refused = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse(listen),
        _ => ListenError::Listen {
            address: listen,
            source,
        },
    };
    let listener = TcpListener::bind(listen).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;

    let (stop, stopping) = watch::channel(false);
    let (alive, ended) = mpsc::channel();
    let (started, start) = mpsc::channel();
    let thread = std::thread::Builder::new()
        .name(THREAD.to_owned())
        .spawn(move || {
            let _alive: mpsc::Sender<()> = alive;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .enable_time()
                .build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(e) => return drop(started.send(Err(e))),
            };
            let bound = {
                let _entered = runtime.enter();
                tokio::net::TcpListener::from_std(listener)
            };
            match bound {
                Ok(listener) => {
                    let _ = started.send(Ok(()));
                    let hub = Rc::new(Hub::new(dispatch, tls, bounds, stopping));
                    serve_until_stopped(&runtime, listener, &hub);
                }
                Err(e) => drop(started.send(Err(e))),
            }
        })?;
    match start.recv() {
        Ok(Ok(())) => Ok(NetHandle {
            address,
            stop,
            ended,
            thread: Some(thread),
            patience: JOIN,
        }),
        Ok(Err(e)) => Err(e.into()),
        Err(_) => Err(io::Error::other("the thread ended at once").into()),
    }
}

/// Accepts connections until the agent stops. A panic of the accept loop ends the open connections; the loop then
/// starts again, otherwise no operator could attach.
fn serve_until_stopped<D: Dispatch>(
    runtime: &tokio::runtime::Runtime,
    listener: tokio::net::TcpListener,
    hub: &Rc<Hub<D>>,
) {
    let mut listener = Some(listener);
    while let Err(Panicked) =
        fenced(|| LocalSet::new().block_on(runtime, listen_on(&mut listener, Rc::clone(hub))))
    {
        hub.dispatch.panicked();
        std::thread::sleep(ACCEPT_RETRY);
    }
}

/// Accepts connections until the agent stops, then lets them send their last messages.
async fn listen_on<D: Dispatch>(listening: &mut Option<tokio::net::TcpListener>, hub: Rc<Hub<D>>) {
    let Some(listener) = listening.as_mut() else {
        return;
    };
    let mut stopping = hub.stopping.clone();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => break,
            // Finished connections are reaped here; a panic in one has ended only that one.
            Some(ended) = connections.join_next() => {
                if ended.is_err_and(|error| error.is_panic()) {
                    hub.dispatch.panicked();
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if let Some((accepted, turn)) = admit(&hub, stream, peer) {
                        connections.spawn_local(connect(Rc::clone(&hub), accepted, turn));
                    }
                }
                Err(_) => sleep(ACCEPT_RETRY).await,
            },
        }
    }
    // Close the listener before the last messages are sent, so that no new client enters.
    *listening = None;
    let _ = timeout(LAST_WORDS, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
}

fn admit<D: Dispatch>(
    hub: &Rc<Hub<D>>,
    stream: TcpStream,
    peer: SocketAddr,
) -> Option<(Accepted, HandshakeSlot<D>)> {
    match Accepted::new(stream, peer) {
        Ok(accepted) => Some((accepted, hub.begin_handshake())),
        Err(why) => {
            hub.dispatch.refused(peer, why);
            None
        }
    }
}

/// One connection: authenticates it, then serves it.
async fn connect<D: Dispatch>(hub: Rc<Hub<D>>, accepted: Accepted, mut turn: HandshakeSlot<D>) {
    let peer = accepted.peer();
    let mut stopping = hub.stopping.clone();
    let begun = turn.beginning();
    let authenticated = tokio::select! {
        biased;
        // The client is not authenticated, so it gets no last message.
        _ = stopping.wait_for(|stop| *stop) => return,
        () = turn.displaced() => Err(Refused::Displaced),
        authenticated = accepted.authenticate(&hub.tls, hub.bounds.handshake, begun) => authenticated,
    };
    drop(turn);
    match authenticated {
        Ok(authenticated) => serve(hub, authenticated).await,
        Err(why) => hub.dispatch.refused(peer, why),
    }
}
