//! Verifies that the other end is the pinned agent.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use debug_certs::{AgentId, IdentityError};
use pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};

use crate::trust::identity::Validity;

/// Accepts exactly one agent, at any address: host names mean nothing here.
pub(crate) struct OnlyAgent {
    anchors: Vec<TrustAnchor<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
    id: AgentId,
    /// What is wrong with the validity period of a certificate that was accepted otherwise.
    out_of_time: OnceLock<String>,
}

/// Why the other end is not the pinned agent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Untrusted {
    /// The chain does not lead to the CA, or the certificate is outside its validity period or for another use.
    #[error("the agent's certificate is not vouched for by the CA: {0}")]
    Chain(String),
    /// The certificate does not have the form of an agent's in that trust domain; webpki, which verified the chain, does not
    /// check this.
    #[error("the agent's certificate is not an agent's: {0}")]
    Form(IdentityError),
    /// The certificate is another's.
    #[error("the other end is `{found}`, expected `{expected}`")]
    Other {
        /// The identity in the certificate.
        found: String,
        /// The pinned identity.
        expected: String,
    },
}

impl OnlyAgent {
    /// Accepts the agent `id` with a certificate that chains to one of `anchors`.
    ///
    /// # Errors
    /// An anchor is not a certificate.
    pub(crate) fn new(
        anchors: &[CertificateDer<'static>],
        provider: &CryptoProvider,
        id: &AgentId,
    ) -> Result<Self, webpki::Error> {
        let anchors: Result<Vec<_>, _> = anchors
            .iter()
            .map(|anchor| webpki::anchor_from_trusted_cert(anchor).map(|anchor| anchor.to_owned()))
            .collect();
        let algorithms = provider.signature_verification_algorithms;
        Ok(Self {
            anchors: anchors?,
            algorithms,
            id: id.clone(),
            out_of_time: OnceLock::new(),
        })
    }

    /// What this machine's clock says against the certificate of an agent that passes every other check. A wrong clock must not
    /// block the way back, so the connection stands; the session decides what may be sent over it.
    pub(crate) fn out_of_time(&self) -> Option<&str> {
        self.out_of_time.get().map(String::as_str)
    }

    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Untrusted> {
        let chain = |error: webpki::Error| Untrusted::Chain(error.to_string());
        let leaf = webpki::EndEntityCert::try_from(certificate).map_err(chain)?;
        let verify = |at: UnixTime| {
            let usage = webpki::KeyUsage::server_auth();
            let verified = leaf.verify_for_usage(
                self.algorithms.all,
                &self.anchors,
                intermediates,
                at,
                usage,
                None,
                None,
            );
            verified.map(drop)
        };
        let late = match verify(now) {
            Ok(()) => None,
            Err(error @ (webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. })) => {
                // All checks but the time must pass, as they did while the certificates were valid.
                let within = within(certificate, intermediates).ok_or_else(|| chain(error))?;
                verify(within).map_err(chain)?;
                Some(lateness(certificate, now))
            }
            Err(error) => return Err(chain(error)),
        };
        let found = debug_certs::agent(certificate, &self.id.trust_domain).map_err(Untrusted::Form)?;
        if found != self.id {
            return Err(Untrusted::Other {
                found: found.to_string(),
                expected: self.id.to_string(),
            });
        }
        if let Some(late) = late {
            self.out_of_time.get_or_init(|| late);
        }
        Ok(())
    }
}

/// A moment at which all certificates of a chain are valid, if there is one.
fn within(certificate: &[u8], intermediates: &[CertificateDer<'_>]) -> Option<UnixTime> {
    let all = std::iter::once(certificate).chain(intermediates.iter().map(|der| der.as_ref()));
    let all: Vec<Validity> = all.map(|der| Validity::of(der).ok()).collect::<Option<_>>()?;
    let from = all.iter().map(|validity| validity.not_before).max()?;
    let is_common = all.iter().all(|validity| validity.covers(from));
    let seconds = u64::try_from(from).ok().filter(|_| is_common)?;
    Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}

/// The clock's verdict on the agent's certificate.
fn lateness(certificate: &[u8], now: UnixTime) -> String {
    let shown = |seconds: i64| {
        jiff::Timestamp::from_second(seconds).map_or_else(|_| "?".to_owned(), |at| at.to_string())
    };
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let what = match Validity::of(certificate) {
        Ok(validity) if now < validity.not_before => {
            format!(
                "the agent's certificate is valid only from {} on",
                shown(validity.not_before)
            )
        }
        Ok(validity) if validity.not_after < now => {
            format!("the agent's certificate expired at {}", shown(validity.not_after))
        }
        // The agent's own certificate is valid, so the failing one is of a CA between it and ours.
        _ => "a CA's certificate between the agent's and the CA file is not within its time".to_owned(),
    };
    format!("by the clock of this machine it is {}, and {what}", shown(now))
}

impl ServerCertVerifier for OnlyAgent {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.check(end_entity, intermediates, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(why) => Err(CertificateError::Other(OtherError(Arc::new(why))).into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl fmt::Debug for OnlyAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OnlyAgent({})", self.id)
    }
}
