//! From a target to a stream on which the pinned agent has sent `ready`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use debug_wire::messages::{FromAgent, Ready};
use debug_wire::signature::EXPORTER_LABEL;
use pki_types::ServerName;
use rustls::client::Resumption;
use rustls::sign::SingleCertAndKey;
use rustls::{AlertDescription, CertificateError, ClientConfig, OtherError};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::net::link::Stream;
use crate::net::verifier::{OnlyAgent, Untrusted};
use crate::trust::identity::{Identity, now};
use crate::trust::pin::Pin;
use crate::trust::provider::provider;
use crate::ui::failure::CommandFailure;
use crate::ui::term;

/// The deadline of the connection, of the handshake and of the agent's first message, each: the same as the agent's own.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection to the pinned agent, which has accepted the operator's certificate.
pub(crate) struct Connected {
    pub(crate) stream: Stream,
    pub(crate) ready: Ready,
    /// The TLS exporter to which this connection's evals are bound.
    pub(crate) exporter: [u8; 32],
    /// What is wrong with the agent's certificate, if only its validity period is.
    pub(crate) out_of_time: Option<CommandFailure>,
}

/// Connects and waits until the agent is ready.
///
/// # Errors
/// Nothing listens there, the other end is not the pinned agent, or it refuses the operator's certificate.
pub(crate) async fn connect(
    address: SocketAddr,
    identity: &Identity,
    pin: &Pin,
) -> Result<Connected, CommandFailure> {
    let stream = match timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(unreachable(address, &error.to_string())),
        Err(_) => return Err(unreachable(address, "no answer within 5 s")),
    };
    // Without it each message waits for the other side's delayed acknowledgement, 40 ms.
    stream
        .set_nodelay(true)
        .map_err(|error| unreachable(address, &error.to_string()))?;
    let (stream, out_of_time) = handshake(stream, address, identity, pin).await?;
    let exporter = exporter(&stream)?;
    let mut stream = Stream::new(stream);
    let ready = ready(&mut stream, identity).await?;
    check_ready(&ready, pin)?;
    Ok(Connected {
        stream,
        ready,
        exporter,
        out_of_time,
    })
}

/// The failure for an agent's certificate outside its validity period.
fn late(why: &str) -> CommandFailure {
    CommandFailure::trust(why).help(
        "is that clock right? `date -u` shows it. If it is, the agent's certificate has to be renewed. Until then changes can \
         be ended and looked at, and nothing else",
    )
}

fn unreachable(address: SocketAddr, why: &str) -> CommandFailure {
    CommandFailure::connection(format!("cannot connect to {address}: {why}"))
        .help("is the service running with DEBUG_AGENT=on, and is this the agent's listen address?")
}

async fn handshake(
    stream: TcpStream,
    address: SocketAddr,
    identity: &Identity,
    pin: &Pin,
) -> Result<(TlsStream<TcpStream>, Option<CommandFailure>), CommandFailure> {
    let (config, verifier) = config(identity, pin)?;
    // Neither sent nor checked: the pinned id decides.
    let name = ServerName::IpAddress(address.ip().into());
    let connector = TlsConnector::from(Arc::new(config));
    let connecting = connector.connect_with(name, stream, |_| {});
    let stream = match timeout(PATIENCE, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(refused(&error, identity, pin)),
        Err(_) => {
            return Err(unreachable(
                address,
                "the TLS handshake was not finished within 5 s",
            ));
        }
    };
    if stream.get_ref().1.alpn_protocol() != Some(debug_wire::ALPN) {
        return Err(
            CommandFailure::trust("the other end does not speak `debug-agent/1`")
                .help("is this the address of a debug agent of the same version?"),
        );
    }
    Ok((stream, verifier.out_of_time().map(late)))
}

fn config(identity: &Identity, pin: &Pin) -> Result<(ClientConfig, Arc<OnlyAgent>), CommandFailure> {
    let provider = provider();
    let verifier = OnlyAgent::new(&identity.anchors, &provider, &pin.id).map_err(|error| {
        CommandFailure::usage(format!("the CA file holds what is not a certificate: {error}"))
    })?;
    let verifier = Arc::new(verifier);
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| CommandFailure::local(format!("TLS 1.3 is not available: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified.clone())));
    config.alpn_protocols = vec![debug_wire::ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok((config, verifier))
}

fn exporter(stream: &TlsStream<TcpStream>) -> Result<[u8; 32], CommandFailure> {
    let exported = stream
        .get_ref()
        .1
        .export_keying_material([0; 32], EXPORTER_LABEL, Some(b""));
    exported.map_err(|error| CommandFailure::connection(format!("the connection gives no binding: {error}")))
}

/// Awaits `ready`. In TLS 1.3 a client learns that its certificate is refused only when it first reads.
async fn ready(stream: &mut Stream, identity: &Identity) -> Result<Ready, CommandFailure> {
    let line = match timeout(PATIENCE, stream.next()).await {
        Ok(Ok(Some(line))) => line,
        Ok(Ok(None)) => return Err(refusal("it closed the connection without a word", identity)),
        Ok(Err(error)) => {
            return Err(match tls_error(&error) {
                Some(rustls::Error::AlertReceived(alert)) => refusal(alert_text(*alert), identity),
                _ if is_cut(&error) => refusal("it cut the connection", identity),
                _ => CommandFailure::connection(format!("the agent's first message cannot be read: {error}")),
            });
        }
        Err(_) => {
            return Err(CommandFailure::connection(
                "the agent was silent for 5 s after the handshake",
            ));
        }
    };
    let message = FromAgent::parse(&line);
    match message.map_err(|error| unexpected(&error.to_string()))? {
        FromAgent::Notification { method, params, .. } if method == "ready" => {
            serde_json::from_value(params).map_err(|error| unexpected(&error.to_string()))
        }
        // Such as too many sessions.
        FromAgent::Failure { error, .. } => Err(CommandFailure::connection(format!(
            "the agent refuses the session: {}",
            error.message
        ))
        .help(error.data.help)),
        FromAgent::Notification { .. } | FromAgent::Success { .. } => Err(unexpected("it is not `ready`")),
    }
}

fn unexpected(why: &str) -> CommandFailure {
    CommandFailure::connection(format!(
        "the agent's first message is not what it should be: {why}"
    ))
    .help("does the agent have the same version as this client?")
}

fn check_ready(ready: &Ready, pin: &Pin) -> Result<(), CommandFailure> {
    if ready.protocol != debug_wire::PROTOCOL {
        return Err(CommandFailure::connection(format!(
            "the agent speaks version {} of the protocol, this client version {}",
            ready.protocol,
            debug_wire::PROTOCOL
        ))
        .help("use the debugctl of the agent's release"));
    }
    let log = ready
        .origin
        .strip_prefix(pin.vkey.name())
        .and_then(|rest| rest.strip_prefix('/'));
    // What follows the name is displayed; a line break in it could pose as a line of ours.
    if log.is_none_or(|id| id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric())) {
        let origin = term::line(&ready.origin);
        let message = format!(
            "the agent's log is `{origin}`, expected one of `{}`",
            pin.vkey.name()
        );
        return Err(CommandFailure::trust(message)
            .help("an agent that renames its log wants to be taken for another: ask who runs it"));
    }
    Ok(())
}

/// The failure for an agent that refuses this operator's certificate.
fn refusal(why: &str, identity: &Identity) -> CommandFailure {
    let help = identity.validity.warning(now()).unwrap_or_else(|| {
        "the certificate is within its time: is it revoked, of another CA, or of another trust domain? \
         the agent's audit log tells"
            .to_owned()
    });
    CommandFailure::trust(format!("the agent refused this certificate: {why}")).help(help)
}

fn refused(error: &io::Error, identity: &Identity, pin: &Pin) -> CommandFailure {
    match tls_error(error) {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(other)))) => {
            let message = format!("this is not the agent `{}`: {other}", pin.id);
            let help = match other.downcast_ref::<Untrusted>() {
                Some(Untrusted::Other { .. }) => "check the address, or name the agent that is meant",
                _ => "check the CA file; if both are right, another agent answers at this address",
            };
            CommandFailure::trust(message).help(help)
        }
        Some(rustls::Error::AlertReceived(alert)) => refusal(alert_text(*alert), identity),
        Some(error) => CommandFailure::trust(format!("the TLS handshake failed: {error}"))
            .help("is this the address of a debug agent?"),
        None => CommandFailure::connection(format!("the connection was lost in the TLS handshake: {error}"))
            .help("is this the address of a debug agent?"),
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Whether the connection was cut, rather than carrying something wrong.
fn is_cut(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
    )
}

fn alert_text(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::CertificateExpired => "it says that the certificate expired",
        AlertDescription::CertificateRevoked => "it says that the certificate is revoked",
        AlertDescription::UnknownCA => "it does not know the CA of the certificate",
        AlertDescription::BadCertificate => "it says that the certificate is not of the right form",
        AlertDescription::AccessDenied => "it says that access is denied",
        AlertDescription::NoApplicationProtocol => "it does not speak `debug-agent/1`",
        AlertDescription::ProtocolVersion => "it does not speak TLS 1.3",
        _ => "it ended the handshake with a TLS alert",
    }
}
