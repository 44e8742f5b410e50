//! A line between client and agent that breaks where a test wants it to.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Nothing breaks.
const WHOLE: usize = usize::MAX;
/// More than any message of these tests, so that what is read at once is one message.
const CHUNK: usize = 64 << 10;

/// Passes on to an agent what arrives at `address`, and back.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    left: Arc<AtomicUsize>,
}

impl Proxy {
    /// Starts one, for any number of connections.
    pub fn start(agent: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let left = Arc::new(AtomicUsize::new(WHOLE));
        let shared = left.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, agent) = (client.unwrap(), TcpStream::connect(agent).unwrap());
                client.set_nodelay(true).unwrap();
                agent.set_nodelay(true).unwrap();
                let (from, to, left) =
                    (agent.try_clone().unwrap(), client.try_clone().unwrap(), shared.clone());
                std::thread::spawn(move || pass(&from, &to, || true));
                std::thread::spawn(move || pass(&client, &agent, || goes_through(&left)));
            }
        });
        Self { address, left }
    }

    /// Lets that many more messages of the client through, and breaks the connection in place of the next one. Later
    /// connections are whole again.
    pub fn break_after(&self, messages: usize) {
        self.left.store(messages, Ordering::SeqCst);
    }
}

fn goes_through(left: &AtomicUsize) -> bool {
    match left.load(Ordering::SeqCst) {
        WHOLE => true,
        0 => {
            left.store(WHOLE, Ordering::SeqCst);
            false
        }
        more => {
            left.store(more - 1, Ordering::SeqCst);
            true
        }
    }
}

/// Passes bytes on until one side ends or something must not go through; then both ends are closed.
fn pass(mut from: &TcpStream, mut to: &TcpStream, goes_through: impl Fn() -> bool) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(read) = from.read(&mut buffer) {
        if read == 0 || !goes_through() || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    for end in [from, to] {
        // The other direction may have closed it.
        let _ = end.shutdown(Shutdown::Both);
    }
}
