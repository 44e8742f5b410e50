//! The identities in certificates, as the socket needs them.

use std::fmt;
use std::sync::Arc;

use pki_types::CertificateDer;

/// An operator named by a certificate of the trust domain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Operator {
    /// The SPIFFE id: `spiffe://<trust domain>/operator/<name>`.
    pub id: String,
    /// The operator's name in the id.
    pub name: String,
    /// The roles in the certificate.
    pub roles: Vec<String>,
}

/// An agent named by a certificate of the trust domain: `spiffe://<trust domain>/agent/<service>/<instance>`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AgentName {
    /// The service.
    pub service: String,
    /// The instance of the service.
    pub instance: String,
}

/// Reads an identity from a certificate; the error says why it has none.
type Reader<T> = Arc<dyn Fn(&CertificateDer<'_>) -> Result<T, String> + Send + Sync>;

/// The identity rules of one trust domain. They are applied after chain and revocation were verified, and refuse a
/// certificate with anything but exactly one identity of the requested kind.
#[derive(Clone)]
pub struct Identify {
    /// Reads an operator.
    pub operator: Reader<Operator>,
    /// Reads an agent.
    pub agent: Reader<AgentName>,
}

impl fmt::Debug for Identify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identify(..)")
    }
}
