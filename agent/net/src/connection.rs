//! A connection before it is a session, in its two states.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::refused::Refused;
use super::tls::Tls;
use super::verifier::OperatorVerifier;
use debug_certs::Operator;

/// The exporter's label, RFC 9266; its context is empty.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// A connection from a client that is not authenticated.
#[derive(Debug)]
pub(crate) struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
}

/// A connection from a client that holds the key of an operator's certificate issued by the CA.
#[derive(Debug)]
pub(crate) struct Authenticated {
    pub(crate) stream: TlsStream<TcpStream>,
    pub(crate) client: Client,
}

/// The client, as the handshake authenticated it.
#[derive(Clone, Debug)]
pub struct Client {
    /// The operator.
    pub operator: Operator,
    /// The address of the client.
    pub peer: SocketAddr,
    /// The operator's certificate, DER; its key signs evals.
    pub certificate: CertificateDer<'static>,
    /// Binds signatures to this connection: `EXPORTER-Channel-Binding` of RFC 9266.
    pub exporter: [u8; 32],
    /// When the certificate expires, and the session with it, in seconds since 1970.
    pub not_after: u64,
}

impl Accepted {
    /// Accepts a connection from this host; others are dropped before anything is read. (Packets from other hosts for
    /// loopback addresses arrive here if `route_localnet` is set.)
    pub(crate) fn new(stream: TcpStream, peer: SocketAddr) -> Result<Self, Refused> {
        if !is_local(peer) {
            return Err(Refused::Peer);
        }
        // Nagle's algorithm and delayed acknowledgements together cost 40 ms per message.
        stream.set_nodelay(true).map_err(|_| Refused::Vanished)?;
        Ok(Self { stream, peer })
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Performs the handshake in at most `within`, and authenticates the client. Calls `begun` when the client's first
    /// bytes arrive.
    pub(crate) async fn authenticate(
        self,
        tls: &Tls,
        within: Duration,
        begun: impl FnOnce(),
    ) -> Result<Authenticated, Refused> {
        let (config, verifier) = tls
            .handshake()
            .map_err(|e| Refused::Incompatible(e.to_string()))?;
        let handshake = async {
            // An error of the stream comes up again when it is read.
            drop(self.stream.peek(&mut [0]).await);
            begun();
            TlsAcceptor::from(Arc::new(config)).accept(self.stream).await
        };
        let stream = match tokio::time::timeout(within, handshake).await {
            Err(_) => return Err(Refused::Timeout),
            Ok(Err(e)) => return Err(Refused::from_handshake(&e)),
            Ok(Ok(stream)) => stream,
        };
        let client = client(&stream, self.peer, &verifier)?;
        Ok(Authenticated { stream, client })
    }
}

/// The client of a finished handshake.
fn client(
    stream: &TlsStream<TcpStream>,
    peer: SocketAddr,
    verifier: &OperatorVerifier,
) -> Result<Client, Refused> {
    let (_, connection) = stream.get_ref();
    // A client that offers no protocol at all passes the handshake.
    if connection.alpn_protocol() != Some(debug_wire::ALPN) {
        return Err(Refused::Protocol);
    }
    let certificate = connection
        .peer_certificates()
        .and_then(<[_]>::first)
        .ok_or(Refused::NoCertificate)?;
    let presented = verifier.verified().ok_or(Refused::NoCertificate)?;
    let exporter = connection
        .export_keying_material([0; 32], EXPORTER_LABEL, Some(b""))
        .map_err(|e| Refused::Incompatible(e.to_string()))?;
    Ok(Client {
        operator: presented.operator.clone(),
        peer,
        certificate: certificate.clone().into_owned(),
        exporter,
        // Before 1970 nothing was valid.
        not_after: u64::try_from(presented.not_after).unwrap_or_default(),
    })
}

pub(crate) fn is_local(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

/// An error of a connection, for people: whether the other end closed, broke TLS or vanished.
pub(crate) fn lost(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the connection ended without saying so".to_owned(),
        _ => format!("the connection broke: {error}"),
    }
}
