//! A connection between client and agent that breaks, or falls silent, where a test wants it to.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The count with which nothing breaks.
const WHOLE: usize = usize::MAX;
/// More than any message of these tests, so that each read returns one message.
const CHUNK: usize = 64 << 10;

/// Passes on to an agent what arrives at `address`, and back.
#[derive(Debug)]
pub struct Proxy {
    /// Its address.
    pub address: SocketAddr,
    line: Arc<Line>,
}

/// The state shared by all connections.
#[derive(Debug)]
struct Line {
    /// The number of client messages that still get through.
    left: AtomicUsize,
    silent: AtomicBool,
    /// Both ends of connections that would be closed if the line were not silent.
    kept: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Starts a proxy for any number of connections.
    pub fn start(agent: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let line = Arc::new(Line {
            left: AtomicUsize::new(WHOLE),
            silent: AtomicBool::new(false),
            kept: Mutex::default(),
        });
        let shared = line.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, agent) = (client.unwrap(), TcpStream::connect(agent).unwrap());
                client.set_nodelay(true).unwrap();
                agent.set_nodelay(true).unwrap();
                let (from, to) = (agent.try_clone().unwrap(), client.try_clone().unwrap());
                let (back, forth) = (shared.clone(), shared.clone());
                std::thread::spawn(move || back.pass(from, to, || true));
                std::thread::spawn(move || forth.pass(client, agent, || goes_through(&forth.left)));
            }
        });
        Self { address, line }
    }

    /// Lets that many more messages of the client through, and breaks the connection in place of the next one. Later connections
    /// are not broken.
    pub fn break_after(&self, messages: usize) {
        self.line.left.store(messages, Ordering::SeqCst);
    }

    /// From now on nothing gets through in either direction, and nothing is closed: as with a pulled cable, or a machine in
    /// between that forgets the connection.
    pub fn fall_silent(&self) {
        self.line.silent.store(true, Ordering::SeqCst);
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

impl Line {
    fn is_silent(&self) -> bool {
        self.silent.load(Ordering::SeqCst)
    }

    /// Passes bytes on until one side ends or a message must not get through; then closes both ends. On a silent line bytes are
    /// dropped, and so is the end.
    fn pass(&self, mut from: TcpStream, mut to: TcpStream, goes_through: impl Fn() -> bool) {
        let mut buffer = vec![0; CHUNK];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let passed = self.is_silent() || (goes_through() && to.write_all(&buffer[..read]).is_ok());
            if !passed {
                break;
            }
        }
        if self.is_silent() {
            self.kept
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend([from, to]);
            return;
        }
        for end in [from, to] {
            // The other direction may have closed it.
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Both ends of a connection through a proxy.
    fn ends() -> (Proxy, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap());
        let client = TcpStream::connect(proxy.address).unwrap();
        let (agent, _) = listener.accept().unwrap();
        for end in [&client, &agent] {
            end.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        }
        (proxy, client, agent)
    }

    #[test]
    fn on_a_silent_line_neither_bytes_nor_ends_arrive() {
        let (proxy, mut client, mut agent) = ends();
        let mut byte = [0];
        client.write_all(b"1").unwrap();
        agent.read_exact(&mut byte).unwrap();
        agent.write_all(b"2").unwrap();
        client.read_exact(&mut byte).unwrap();
        proxy.fall_silent();
        client.write_all(b"3").unwrap();
        assert!(agent.read(&mut byte).is_err(), "a byte or an end arrived");
        drop(agent);
        assert!(client.read(&mut byte).is_err(), "the end arrived");
        client.write_all(b"4").unwrap();
    }

    /// The counterpart.
    #[test]
    fn on_a_whole_line_the_end_arrives() {
        let (_proxy, mut client, agent) = ends();
        drop(agent);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
}
