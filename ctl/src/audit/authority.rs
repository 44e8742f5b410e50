//! Who vouches for the operators of a log: their CA, the key of which the log's host does not hold.
//!
//! An attacker who holds the log's key can write sessions with certificates of their own making and sign evals with them. Only
//! the CA tells those from real ones.

use std::path::{Path, PathBuf};
use std::time::Duration;

use debug_certs::{Presented, TrustDomain};
use pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage};

use crate::trust::identity;
use crate::ui::failure::CommandFailure;
use crate::ui::term;

#[cfg(test)]
mod tests;

/// The CA that issued the operators' certificates.
#[derive(Debug)]
pub(super) struct IssuingCa {
    anchors: Vec<TrustAnchor<'static>>,
    algorithms: Vec<&'static dyn SignatureVerificationAlgorithm>,
    /// Where its certificate is, for people.
    pub(super) source: String,
}

impl IssuingCa {
    /// Reads a CA's certificate in PEM, or several certificates of one CA that was renewed.
    ///
    /// # Errors
    /// The file cannot be read or holds anything else.
    pub(super) fn read(path: &Path) -> Result<Self, CommandFailure> {
        let source = path.display().to_string();
        let anchors: Result<Vec<_>, _> = identity::certificates(path, "--ca")?.iter().map(anchor).collect();
        let anchors = anchors.map_err(|error| {
            CommandFailure::usage(format!(
                "cannot use `{source}`: it holds no certificate of a CA: {error}"
            ))
        })?;
        let algorithms = crate::trust::provider::provider()
            .signature_verification_algorithms
            .all
            .to_vec();
        Ok(Self {
            anchors,
            algorithms,
            source,
        })
    }

    /// Checks what the agent must have checked when the session was opened: that this CA issued the certificate, for TLS clients,
    /// and that it was valid at `at` (seconds since 1970). [`operator`] tells the operator it names.
    ///
    /// # Errors
    /// The check that failed, in words.
    pub(super) fn vouches(&self, certificate: &[u8], at: i64) -> Result<(), String> {
        let der = CertificateDer::from(certificate);
        let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at).unwrap_or_default()));
        let (usage, anchors) = (KeyUsage::client_auth(), &self.anchors);
        let refused = |error: Error| self.refusal(&error);
        let leaf = EndEntityCert::try_from(&der).map_err(refused)?;
        leaf.verify_for_usage(&self.algorithms, anchors, &[], time, usage, None, None)
            .map(drop)
            .map_err(refused)
    }

    fn refusal(&self, error: &Error) -> String {
        let source = term::line(&self.source);
        match error {
            Error::UnknownIssuer | Error::InvalidSignatureForPublicKey => {
                format!("the CA `{source}` did not issue it")
            }
            Error::CertExpired { .. } | Error::CertNotValidYet { .. } => {
                "it was not valid at the record's time".to_owned()
            }
            Error::RequiredEkuNotFoundContext(_) => {
                "it is not for TLS clients (extended key usage)".to_owned()
            }
            other => format!("it does not verify with the CA `{source}`: {other}"),
        }
    }
}

fn anchor(certificate: &CertificateDer<'static>) -> Result<TrustAnchor<'static>, Error> {
    webpki::anchor_from_trusted_cert(certificate).map(|anchor| anchor.to_owned())
}

/// What the certificate of an operator says, in the trust domain of the log with that origin. This matters because the log's host
/// holds an agent's certificate of the same CA, which must not pass for an operator's.
///
/// # Errors
/// In words: the certificate names no operator of that trust domain, or the origin does not begin with a trust domain.
pub(super) fn operator(certificate: &[u8], origin: &str) -> Result<Presented, String> {
    let domain: TrustDomain = origin
        .split('/')
        .next()
        .unwrap_or_default()
        .parse()
        .map_err(|error| format!("the log's name begins with no trust domain: {error}"))?;
    debug_certs::operator(certificate, &domain).map_err(|error| error.to_string())
}

/// The CA beside an inventory: `ca/ca.pem`, as `debugctl certs init` lays it out, or `ca.pem`, if both were copied. Never one in
/// the log's own folder `log`: anyone who can write the log could have put it there.
pub(super) fn beside(inventory: &Path, log: &Path) -> Option<PathBuf> {
    let (set, log) = (inventory.parent()?, log.canonicalize().ok()?);
    let outside = |path: &Path| path.canonicalize().is_ok_and(|path| !path.starts_with(&log));
    let candidates = ["ca/ca.pem", "ca.pem"].into_iter().map(|name| set.join(name));
    candidates
        .into_iter()
        .find(|path| path.is_file() && outside(path))
}
