//! Whether the other end is the pinned agent.

use std::fmt;
use std::sync::Arc;

use pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

/// Accepts exactly one agent, whatever address it answers at: names of hosts mean nothing here.
pub(crate) struct OnlyAgent {
    anchors: Vec<TrustAnchor<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
    id: String,
}

/// Why the other end is not the pinned agent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Untrusted {
    /// The chain does not lead to the CA, or the certificate is out of its time or for another use.
    #[error("the agent's certificate is not vouched for by the CA: {0}")]
    Chain(String),
    /// The certificate is not one that an agent has.
    #[error("the agent's certificate is not an agent's: {0}")]
    Form(String),
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
        id: &str,
    ) -> Result<Self, webpki::Error> {
        let anchors: Result<Vec<_>, _> = anchors
            .iter()
            .map(|anchor| webpki::anchor_from_trusted_cert(anchor).map(|anchor| anchor.to_owned()))
            .collect();
        Ok(Self {
            anchors: anchors?,
            algorithms: provider.signature_verification_algorithms,
            id: id.to_owned(),
        })
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
        let found = id_of(certificate).map_err(Untrusted::Form)?;
        if found != self.id {
            return Err(Untrusted::Other { found, expected: self.id.clone() });
        }
        Ok(())
    }
}

/// The one name in a certificate; webpki, which has verified the chain, would let others pass beside it.
///
/// # Errors
/// It cannot be parsed, has no extended key usage, is a CA, or has not exactly one name, a SPIFFE id.
pub(crate) fn id_of(certificate: &[u8]) -> Result<String, String> {
    let (rest, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
    if !rest.is_empty() {
        return Err("something follows it".to_owned());
    }
    check_use(&parsed)?;
    let names = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
    match names.map(|names| names.value.general_names.as_slice()) {
        Some([GeneralName::URI(id)]) if id.starts_with("spiffe://") => Ok((*id).to_owned()),
        _ => Err("it does not have exactly one name, a SPIFFE id".to_owned()),
    }
}

fn check_use(parsed: &X509Certificate<'_>) -> Result<(), String> {
    if parsed.is_ca() {
        return Err("it is a CA's".to_owned());
    }
    match parsed.extended_key_usage().map_err(|error| error.to_string())? {
        Some(usage) if usage.value.server_auth => Ok(()),
        _ => Err("it is not for TLS servers (extended key usage)".to_owned()),
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
