//! Whether the other end is the pinned agent.

use std::fmt;
use std::sync::Arc;

use debug_certs::{AgentId, IdentityError};
use pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};

/// Accepts exactly one agent, whatever address it answers at: names of hosts mean nothing here.
pub(crate) struct OnlyAgent {
    anchors: Vec<TrustAnchor<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
    id: AgentId,
}

/// Why the other end is not the pinned agent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Untrusted {
    /// The chain does not lead to the CA, or the certificate is out of its time or for another use.
    #[error("the agent's certificate is not vouched for by the CA: {0}")]
    Chain(String),
    /// The certificate is not one that an agent of that trust domain has; webpki, which has verified the chain, would
    /// let it pass.
    #[error("the agent's certificate is not an agent's: {0}")]
    Form(IdentityError),
    /// It is somebody else's.
    #[error("the other end is `{found}`, expected `{expected}`")]
    Other {
        /// Who it is.
        found: String,
        /// Who was pinned.
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
        Ok(Self { anchors: anchors?, algorithms: provider.signature_verification_algorithms, id: id.clone() })
    }

    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Untrusted> {
        let chain = |error: webpki::Error| Untrusted::Chain(error.to_string());
        let leaf = webpki::EndEntityCert::try_from(certificate).map_err(chain)?;
        let usage = webpki::KeyUsage::server_auth();
        leaf.verify_for_usage(self.algorithms.all, &self.anchors, intermediates, now, usage, None, None)
            .map_err(chain)?;
        let found = debug_certs::agent(certificate, &self.id.trust_domain).map_err(Untrusted::Form)?;
        if found != self.id {
            return Err(Untrusted::Other { found: found.to_string(), expected: self.id.to_string() });
        }
        Ok(())
    }
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
