//! Decides who may finish a handshake.

use std::sync::{Arc, OnceLock};

use pki_types::{CertificateDer, UnixTime};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use debug_certs::{Presented, TrustDomain};

/// The longest validity of an operator's certificate, in seconds: a day, and an hour by which a CA may backdate it for
/// hosts with slow clocks. A stolen certificate is useless the next day.
const MAX_LIFETIME: i64 = 25 * 3600;

/// A trusted authority and its revocation list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Authority {
    /// Its subject, DER.
    pub subject: Vec<u8>,
    /// When its certificate expires, in seconds since 1970.
    pub not_after: u64,
    /// The number of its revocation list, hex.
    pub crl_number: String,
    /// The expiry of that list, in seconds since 1970; afterwards no client is accepted.
    pub next_update: u64,
}

/// A certificate of the CA that names no operator. The reason is in the handshake's error; the peer gets only an alert.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct IdentityRefused(pub(crate) String);

/// Decides about the client of one handshake. Applies webpki's checks (chain, times, purpose, revocation), then the agent's own:
/// a single certificate, an authority that is still valid, and exactly one operator's identity.
#[derive(Debug)]
pub(crate) struct OperatorVerifier {
    webpki: Arc<dyn ClientCertVerifier>,
    authorities: Arc<[Authority]>,
    domain: TrustDomain,
    verified: OnceLock<Presented>,
}

impl ClientCertVerifier for OperatorVerifier {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if !intermediates.is_empty() {
            return Err(refuse(format!(
                "{} certificates besides its own were sent, and operators are issued by the CA itself",
                intermediates.len()
            )));
        }
        let verified = self.webpki.verify_client_cert(end_entity, &[], now)?;
        // Check the identity before the lifetime: an agent's certificate must be refused for its name.
        let presented = debug_certs::operator(end_entity, &self.domain).map_err(|e| refuse(e.to_string()))?;
        self.times(&presented, now).map_err(refuse)?;
        // TLS 1.3 verifies a client's certificate once in a handshake.
        self.verified
            .set(presented)
            .map_err(|_| refuse("a second certificate was sent".to_owned()))?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // Never called: TLS 1.3 is the only version enabled.
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Do not reveal the trusted authorities to a peer that has shown no certificate.
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn offer_client_auth(&self) -> bool {
        true
    }
}

impl OperatorVerifier {
    pub(crate) fn new(
        webpki: Arc<dyn ClientCertVerifier>,
        authorities: Arc<[Authority]>,
        domain: TrustDomain,
    ) -> Self {
        Self {
            webpki,
            authorities,
            domain,
            verified: OnceLock::new(),
        }
    }

    /// What the certificate of the client says, once it was accepted.
    pub(crate) fn verified(&self) -> Option<&Presented> {
        self.verified.get()
    }

    /// Checks what webpki does not: that the authority has not expired, and the length of the validity.
    fn times(&self, presented: &Presented, now: UnixTime) -> Result<(), String> {
        let expired = |authority: &Authority| {
            authority.subject == presented.issuer && authority.not_after < now.as_secs()
        };
        if self.authorities.iter().any(expired) {
            return Err("the CA's own certificate has expired".to_owned());
        }
        let lifetime = presented.not_after.saturating_sub(presented.not_before);
        if lifetime > MAX_LIFETIME {
            return Err(format!(
                "the certificate is made for {} h, and operators get 24 h at most",
                lifetime / 3600
            ));
        }
        Ok(())
    }
}

fn refuse(reason: String) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(IdentityRefused(
        reason,
    )))))
}
