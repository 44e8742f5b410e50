//! Both ends of a connection for tests: an agent that records events, and clients of every kind.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use debug_wire::messages::{Call, FromAgent, Ready, Version};
use pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionStore, ResolvesClientCert, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, NamedGroup, SignatureScheme, StreamOwned,
};
use serde_json::{Value, json};

use super::authority::{Files, Leaf};
use crate::{Bounds, Client, Closed, Dispatch, Flow, NetHandle, Outbox, Refused, provider, start};

/// How long anything may take before a test fails; no test waits that long otherwise.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// An event that the agent recorded.
#[derive(Debug)]
pub(super) enum Event {
    Opened(Box<Client>),
    Called,
    Closed(String, Closed),
    Refused(SocketAddr, Refused),
}

pub(super) struct Recorder {
    events: Mutex<mpsc::Sender<Event>>,
    pub(super) displaceable: AtomicBool,
    pub(super) outboxes: Mutex<Vec<Outbox>>,
    pub(super) sent: AtomicUsize,
    pub(super) panicked: AtomicUsize,
    /// Whether `closed` and `refused` panic.
    pub(super) panics: AtomicBool,
    /// Whether `open` panics.
    pub(super) greeting_panics: AtomicBool,
}

pub(super) struct Session {
    operator: String,
    outbox: Outbox,
}

impl Recorder {
    fn tell(&self, event: Event) {
        // A test that has ended has dropped the receiver.
        let _ = self.events.lock().unwrap().send(event);
    }
}

impl Dispatch for Recorder {
    type Session = Session;

    fn open(&self, client: Client, outbox: Outbox) -> (Arc<Session>, Ready) {
        assert!(!self.greeting_panics.load(Ordering::SeqCst), "planted");
        let session = Session {
            operator: client.operator.name.clone(),
            outbox: outbox.clone(),
        };
        self.outboxes.lock().unwrap().push(outbox);
        self.tell(Event::Opened(Box::new(client)));
        let ready = Ready {
            protocol: debug_wire::PROTOCOL,
            version: "0".into(),
            service: "dienstplan".into(),
            instance: "1".into(),
            environment: "test".into(),
            origin: "demo.internal/dienstplan/1/0123456789abcdef".into(),
        };
        (Arc::new(session), ready)
    }

    fn panicked(&self) {
        self.panicked.fetch_add(1, Ordering::SeqCst);
    }

    fn call(&self, session: &Arc<Session>, call: Call) -> Flow {
        // The parameters say what the test wants: a call with an unknown method does not get here.
        let wanted = call
            .params
            .get("do")
            .and_then(Value::as_str)
            .unwrap_or(call.method.name())
            .to_owned();
        self.tell(Event::Called);
        match wanted.as_str() {
            "flood" => {
                while session.outbox.send(output(64 << 10)).is_ok() {
                    self.sent.fetch_add(1, Ordering::Relaxed);
                }
            }
            "panic" => panic!("as the test asked"),
            _ => {}
        }
        let size = call.params.get("size").and_then(Value::as_u64).unwrap_or(0);
        let result = json!({ "method": wanted, "filler": "x".repeat(usize::try_from(size).unwrap()) });
        let _ = session.outbox.send(FromAgent::Success {
            jsonrpc: Version::V2,
            id: call.id,
            result,
        });
        if wanted == "close" {
            Flow::Close
        } else {
            Flow::Continue
        }
    }

    fn closed(&self, session: &Arc<Session>, why: Closed) {
        assert!(!self.panics.load(Ordering::SeqCst), "planted");
        self.tell(Event::Closed(session.operator.clone(), why));
    }

    fn refused(&self, peer: SocketAddr, why: Refused) {
        assert!(!self.panics.load(Ordering::SeqCst), "planted");
        self.tell(Event::Refused(peer, why));
    }

    fn displaceable(&self, _: &Session) -> bool {
        self.displaceable.load(Ordering::Relaxed)
    }
}

pub(super) fn output(bytes: usize) -> FromAgent {
    let params = json!({ "id": 1, "text": "x".repeat(bytes) });
    FromAgent::Notification {
        jsonrpc: Version::V2,
        method: "output".into(),
        params,
    }
}

/// A running agent.
pub(super) struct Agent {
    pub(super) net: NetHandle,
    pub(super) recorder: Arc<Recorder>,
    pub(super) events: mpsc::Receiver<Event>,
}

impl Agent {
    pub(super) fn start(files: &Files, bounds: Bounds) -> Self {
        Self::start_at(files, bounds, UnixTime::now())
    }

    /// An agent that loaded its files at another time; the handshakes are now.
    pub(super) fn start_at(files: &Files, bounds: Bounds, loaded: UnixTime) -> Self {
        let (sender, events) = mpsc::channel();
        let recorder = Arc::new(Recorder {
            events: Mutex::new(sender),
            displaceable: AtomicBool::new(false),
            outboxes: Mutex::default(),
            sent: AtomicUsize::new(0),
            panicked: AtomicUsize::new(0),
            panics: AtomicBool::new(false),
            greeting_panics: AtomicBool::new(false),
        });
        let tls = files.load_at(loaded).unwrap();
        let listen = "127.0.0.1:0".parse().unwrap();
        let net = start(listen, tls, Arc::clone(&recorder), bounds).unwrap();
        Self {
            net,
            recorder,
            events,
        }
    }

    pub(super) fn next(&self) -> Event {
        self.events
            .recv_timeout(PATIENCE)
            .expect("something was to happen in the agent")
    }

    #[track_caller]
    pub(super) fn opened(&self) -> Client {
        match self.next() {
            Event::Opened(client) => *client,
            other => panic!("expected an opened session, got {other:?}"),
        }
    }

    /// Why the next session ends; earlier events of calls are skipped.
    #[track_caller]
    pub(super) fn closed(&self) -> Closed {
        self.closed_of().1
    }

    #[track_caller]
    pub(super) fn closed_of(&self) -> (String, Closed) {
        loop {
            match self.next() {
                Event::Closed(operator, why) => return (operator, why),
                Event::Called | Event::Opened(_) => {}
                Event::Refused(_, why) => panic!("expected a closed session, refused: {why:?}"),
            }
        }
    }

    #[track_caller]
    pub(super) fn refused(&self) -> Refused {
        match self.next() {
            Event::Refused(_, why) => why,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    pub(super) fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.net.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Attaches as that operator and reads `ready`.
    pub(super) fn attach(&self, leaf: &Leaf) -> Peer<TcpStream> {
        let mut peer = self.connect(client_config(leaf));
        assert_eq!(peer.message().unwrap()["method"], "ready");
        peer
    }

    pub(super) fn connect(&self, config: ClientConfig) -> Peer<TcpStream> {
        Peer::new(config, self.tcp())
    }
}

/// A client, with the bytes read of the next line.
pub(super) struct Peer<S: Read + Write> {
    pub(super) stream: StreamOwned<ClientConnection, S>,
    line: Vec<u8>,
}

impl<S: Read + Write> Peer<S> {
    pub(super) fn new(config: ClientConfig, socket: S) -> Self {
        let name = ServerName::try_from("agent.invalid").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        Self {
            stream: StreamOwned::new(connection, socket),
            line: Vec::new(),
        }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        self.stream.flush().unwrap();
    }

    /// Sends a call without reading the reply.
    pub(super) fn ask(&mut self, method: &str) {
        let call = if debug_wire::table::method(method).is_some() {
            json!({ "jsonrpc": "2.0", "id": 7, "method": method })
        } else {
            json!({ "jsonrpc": "2.0", "id": 7, "method": "cancel", "params": { "do": method } })
        };
        self.send(format!("{call}\n").as_bytes());
    }

    pub(super) fn call(&mut self, method: &str) -> Value {
        self.ask(method);
        self.message().unwrap()
    }

    pub(super) fn close_notify(&mut self) {
        self.stream.conn.send_close_notify();
        self.stream.flush().unwrap();
    }

    /// The next message; `UnexpectedEof` once the agent has closed.
    pub(super) fn message(&mut self) -> io::Result<Value> {
        let mut buffer = [0; 16 << 10];
        loop {
            if let Some(end) = self.line.iter().position(|b| *b == b'\n') {
                let rest = self.line.split_off(end + 1);
                let line = std::mem::replace(&mut self.line, rest);
                return Ok(serde_json::from_slice(&line).unwrap());
            }
            match self.stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.line.extend_from_slice(&buffer[..read]),
            }
        }
    }
}

/// A socket that sends each byte on its own.
pub(super) struct Trickle(pub(super) TcpStream);

impl Read for Trickle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Trickle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes.get(..1).unwrap_or_default())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A valid configuration of a client.
pub(super) fn client_config(leaf: &Leaf) -> ClientConfig {
    presenting(vec![leaf.certificate.clone()], leaf)
}

/// A client's configuration with another provider.
pub(super) fn client_config_with(provider: CryptoProvider, leaf: &Leaf) -> ClientConfig {
    let good = client_config(leaf);
    let mut config = anonymous_with(provider);
    config.client_auth_cert_resolver = Arc::clone(&good.client_auth_cert_resolver);
    config
}

/// A client's configuration that shows those certificates and signs with the key of `leaf`.
pub(super) fn presenting(chain: Vec<CertificateDer<'static>>, leaf: &Leaf) -> ClientConfig {
    let key = provider().key_provider.load_private_key(leaf.key_der()).unwrap();
    let resolver = Shows(Arc::new(CertifiedKey::new(chain, key)));
    let mut config = anonymous();
    config.client_auth_cert_resolver = Arc::new(resolver);
    config
}

/// A client's configuration without a certificate.
pub(super) fn anonymous() -> ClientConfig {
    anonymous_with(provider())
}

fn anonymous_with(provider: CryptoProvider) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_no_client_auth();
    config.alpn_protocols = vec![debug_wire::ALPN.to_vec()];
    config
}

/// Always shows its certificate and key, even if they do not match.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Accepts any agent: these tests are about what the agent accepts.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        unreachable!("TLS 1.3 only")
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Counts the tickets that a server sends.
#[derive(Debug, Default)]
pub(super) struct Tickets(pub(super) AtomicUsize);

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}
