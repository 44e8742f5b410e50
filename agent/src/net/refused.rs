//! Why a connection became no session.

use std::io;

use rustls::{CertificateError, Error};

use super::verifier::IdentityRefused;

/// Why a connection became no session. The peer itself is told by a TLS alert at most, unless it proved who it is.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Refused {
    /// The peer's address is not loopback; dropped before the handshake.
    #[error("the peer is not on loopback")]
    Peer,
    /// The handshake took too long.
    #[error("the handshake was not finished in time")]
    Timeout,
    /// A newcomer took the place of the unfinished handshake.
    #[error("too many handshakes were unfinished, and this one was the oldest")]
    Displaced,
    /// The peer went away during the handshake.
    #[error("the connection ended during the handshake")]
    Vanished,
    /// What came was not TLS, or not as TLS wants it.
    #[error("not TLS: {0}")]
    NotTls(String),
    /// TLS of a kind that is not spoken here, such as TLS 1.2.
    #[error("no common ground: {0}")]
    Incompatible(String),
    /// The peer did not ask for our protocol by ALPN, but perhaps for HTTP.
    #[error("the peer did not ask for the protocol `debug-agent/1`")]
    Protocol,
    /// The peer refused our certificate, or gave up.
    #[error("the peer refused: {0}")]
    ByPeer(String),
    /// No certificate.
    #[error("the peer showed no certificate")]
    NoCertificate,
    /// A certificate of another CA.
    #[error("the certificate was not issued by the CA")]
    UnknownIssuer,
    /// Past its time.
    #[error("the certificate has expired")]
    Expired,
    /// Before its time.
    #[error("the certificate is not valid yet")]
    NotYetValid,
    /// On the revocation list.
    #[error("the certificate has been revoked")]
    Revoked,
    /// Our revocation list is out of date, so nobody gets in.
    #[error("the revocation list has expired")]
    CrlExpired,
    /// Wrong in another way.
    #[error("the certificate is refused: {0}")]
    Certificate(String),
    /// A certificate of our CA that names no operator of ours.
    #[error("the certificate names no operator: {0}")]
    Identity(String),
    /// The operator has as many sessions as one may have, none of which could make room.
    #[error("operator `{operator}` has {limit} sessions, and all are in use")]
    OperatorFull {
        /// The operator's SPIFFE id.
        operator: String,
        /// How many are allowed.
        limit: usize,
    },
    /// There are as many sessions as there may be, none of which could make room.
    #[error("there are {limit} sessions, and all are in use (refused: `{operator}`)")]
    AgentFull {
        /// The operator's SPIFFE id.
        operator: String,
        /// How many are allowed.
        limit: usize,
    },
}

impl Refused {
    /// Whether a certificate was shown and looked at. Without one a peer is nobody, and may be many.
    pub(crate) fn saw_certificate(&self) -> bool {
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

    /// The stable word for it, for records and counters.
    pub(crate) const fn code(&self) -> &'static str {
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

    /// What a failed handshake failed for.
    pub(super) fn from_handshake(error: &io::Error) -> Self {
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
