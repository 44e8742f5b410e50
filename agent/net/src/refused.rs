//! Why a connection became no session.

use std::io;

use rustls::{CertificateError, Error};

use super::verifier::IdentityRefused;

/// Why a connection became no session. The peer itself gets at most a TLS alert, unless it is authenticated.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// The peer's address is not loopback; dropped before the handshake.
    #[error("the peer is not on loopback")]
    Peer,
    /// The handshake exceeded its deadline.
    #[error("the handshake was not finished in time")]
    Timeout,
    /// A newer handshake displaced this unfinished one.
    #[error("too many handshakes were unfinished, and this one was the oldest")]
    Displaced,
    /// The connection ended during the handshake.
    #[error("the connection ended during the handshake")]
    Vanished,
    /// The bytes received are not TLS, or violate it.
    #[error("not TLS: {0}")]
    NotTls(String),
    /// TLS of an unsupported kind, such as TLS 1.2.
    #[error("no common ground: {0}")]
    Incompatible(String),
    /// The peer did not offer the agent's protocol by ALPN; it may speak HTTP.
    #[error("the peer did not ask for the protocol `debug-agent/1`")]
    Protocol,
    /// The peer refused the agent's certificate, or aborted.
    #[error("the peer refused: {0}")]
    ByPeer(String),
    /// No certificate.
    #[error("the peer showed no certificate")]
    NoCertificate,
    /// A certificate of another CA.
    #[error("the certificate was not issued by the CA")]
    UnknownIssuer,
    /// After its validity.
    #[error("the certificate has expired")]
    Expired,
    /// Before its validity.
    #[error("the certificate is not valid yet")]
    NotYetValid,
    /// On the revocation list.
    #[error("the certificate has been revoked")]
    Revoked,
    /// The agent's revocation list has expired, so no client is accepted.
    #[error("the revocation list has expired")]
    CrlExpired,
    /// Refused for another reason.
    #[error("the certificate is refused: {0}")]
    Certificate(String),
    /// A certificate of the CA that names no operator.
    #[error("the certificate names no operator: {0}")]
    Identity(String),
    /// The operator has the most sessions allowed, and none can be displaced.
    #[error("operator `{operator}` has {limit} sessions, and all are in use")]
    OperatorFull {
        /// The operator's SPIFFE id.
        operator: String,
        /// The limit.
        limit: usize,
    },
    /// The agent has the most sessions allowed, and none can be displaced.
    #[error("there are {limit} sessions, and all are in use (refused: `{operator}`)")]
    AgentFull {
        /// The operator's SPIFFE id.
        operator: String,
        /// The limit.
        limit: usize,
    },
}

impl Refused {
    /// Whether the peer showed a certificate that was checked. Without one a peer is anonymous, and there may be many
    /// of them.
    pub fn saw_certificate(&self) -> bool {
        match self {
            Self::Peer
            | Self::Timeout
            | Self::Displaced
            | Self::Vanished
            | Self::NotTls(_)
            | Self::Incompatible(_)
            | Self::Protocol
            | Self::ByPeer(_)
            | Self::NoCertificate => false,
            Self::UnknownIssuer
            | Self::Expired
            | Self::NotYetValid
            | Self::Revoked
            | Self::CrlExpired
            | Self::Certificate(_)
            | Self::Identity(_)
            | Self::OperatorFull { .. }
            | Self::AgentFull { .. } => true,
        }
    }

    /// The stable code for records and counters.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Timeout => "timeout",
            Self::Displaced => "displaced",
            Self::Vanished => "vanished",
            Self::NotTls(_) => "not-tls",
            Self::Incompatible(_) => "incompatible",
            Self::Protocol => "protocol",
            Self::ByPeer(_) => "by-peer",
            Self::NoCertificate => "no-certificate",
            Self::UnknownIssuer => "unknown-issuer",
            Self::Expired => "expired",
            Self::NotYetValid => "not-yet-valid",
            Self::Revoked => "revoked",
            Self::CrlExpired => "crl-expired",
            Self::Certificate(_) => "certificate",
            Self::Identity(_) => "identity",
            Self::OperatorFull { .. } => "operator-full",
            Self::AgentFull { .. } => "agent-full",
        }
    }

    /// The reason of a failed handshake.
    pub(crate) fn from_handshake(error: &io::Error) -> Self {
        match error.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
            Some(Error::InvalidCertificate(why)) => Self::from_certificate(why),
            Some(Error::NoCertificatesPresented) => Self::NoCertificate,
            Some(Error::NoApplicationProtocol) => Self::Protocol,
            Some(Error::PeerIncompatible(why)) => Self::Incompatible(format!("{why:?}")),
            Some(Error::AlertReceived(why)) => Self::ByPeer(format!("{why:?}")),
            Some(other) => Self::NotTls(other.to_string()),
            None => Self::Vanished,
        }
    }

    fn from_certificate(why: &CertificateError) -> Self {
        match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::Revoked => Self::Revoked,
            CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => Self::CrlExpired,
            CertificateError::Other(other) => match other.0.downcast_ref::<IdentityRefused>() {
                Some(IdentityRefused(reason)) => Self::Identity(reason.clone()),
                None => Self::Certificate(other.to_string()),
            },
            other => Self::Certificate(other.to_string()),
        }
    }
}
