//! Who may finish a handshake.

use std::sync::Arc;

use pki_types::{CertificateDer, UnixTime};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use x509_parser::parse_x509_certificate;

use super::identity::Identify;
use super::tls::Authority;

/// How long an operator's certificate may be made for, in seconds: a day, and an hour by which a CA may have set its
/// beginning back for hosts whose clocks are slow. What is lost or stolen is worthless by tomorrow.
const MAX_LIFETIME: i64 = 25 * 3600;

/// A certificate that the CA vouches for and that names no operator of ours; the reason travels in the handshake's
/// error, the peer gets an alert only.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct IdentityRefused(pub(super) String);

/// Webpki's checks (chain, times, purpose, revocation), then ours: one certificate, an authority still in force, and
/// exactly one operator's identity.
#[derive(Debug)]
pub(super) struct OperatorVerifier {
    pub(super) webpki: Arc<dyn ClientCertVerifier>,
    pub(super) authorities: Vec<Authority>,
    pub(super) identify: Identify,
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
        // Who it is comes before how long it lives: of an agent's certificate its name is the thing to say.
        (self.identify.operator)(end_entity).map_err(refuse)?;
        self.times(end_entity, now).map_err(refuse)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // Never asked: TLS 1.3 is the only version there is.
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
        // Whom we trust is nobody's business before they have shown a certificate.
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
    /// What webpki does not ask of times: it takes an authority as given for ever, and any lifetime.
    fn times(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), String> {
        let (_, parsed) =
            parse_x509_certificate(certificate).map_err(|_| "the certificate cannot be parsed".to_owned())?;
        let issuer = parsed.issuer().as_raw();
        if self.authorities.iter().any(|a| a.subject == issuer && a.not_after < now.as_secs()) {
            return Err("the CA's own certificate has expired".to_owned());
        }
        let validity = parsed.validity();
        let lifetime = validity.not_after.timestamp().saturating_sub(validity.not_before.timestamp());
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
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(IdentityRefused(reason)))))
}
