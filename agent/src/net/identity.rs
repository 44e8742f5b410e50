//! Who a certificate stands for, as the socket needs to know it.

use std::fmt;
use std::sync::Arc;

use pki_types::CertificateDer;

/// An operator, as a certificate of the trust domain names them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Operator {
    /// The SPIFFE id: `spiffe://<trust domain>/operator/<name>`.
    pub(crate) id: String,
    /// The name in it.
    pub(crate) name: String,
    /// The roles that the certificate gives.
    pub(crate) roles: Vec<String>,
}

/// An agent, as a certificate of the trust domain names it: `spiffe://<trust domain>/agent/<service>/<instance>`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct AgentName {
    /// The service.
    pub(crate) service: String,
    /// Which instance of it.
    pub(crate) instance: String,
}

/// Reads one side's identity from a certificate, or says why it has none.
type Reader<T> = Arc<dyn Fn(&CertificateDer<'_>) -> Result<T, String> + Send + Sync>;

/// The identity rules of one trust domain. They see a certificate after its chain and revocation were verified and
/// refuse everything that is not exactly one identity of the side asked for.
#[derive(Clone)]
pub(crate) struct Identify {
    /// Reads an operator.
    pub(crate) operator: Reader<Operator>,
    /// Reads an agent.
    pub(crate) agent: Reader<AgentName>,
}

impl fmt::Debug for Identify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identify(..)")
    }
}
