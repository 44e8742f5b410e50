//! Strict parsing of a certificate that webpki has verified: webpki accepts names and usages that we do not.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ExtendedKeyUsage, GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use crate::spiffe::{AgentId, InvalidId, Operator, Subject, TrustDomain};

/// Why a certificate does not identify an operator or agent.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Not the DER of exactly one certificate.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// Not X.509 version 3.
    #[error("the certificate is not of X.509 version 3")]
    Version,
    /// A repeated extension.
    #[error("the certificate has an extension twice")]
    DuplicateExtension,
    /// An unknown critical extension.
    #[error("the certificate has a critical extension that is not known: {0}")]
    UnknownCritical(String),
    /// An extension that cannot be parsed.
    #[error("an extension of the certificate cannot be read")]
    UnreadableExtension,
    /// It may issue certificates.
    #[error("the certificate is a CA's, not a person's or an agent's")]
    Authority,
    /// It may sign certificates or revocation lists, or may not sign at all.
    #[error("the certificate's key usage is not digital signature alone")]
    KeyUsage,
    /// No extended key usage.
    #[error("the certificate has no extended key usage; expected serverAuth and clientAuth")]
    NoExtendedKeyUsage,
    /// Other usages than the two.
    #[error("the certificate's extended key usages are not serverAuth and clientAuth")]
    ExtendedKeyUsage,
    /// Not exactly one name, or not a URI.
    #[error("the certificate has {0} subject alternative names; expected one URI")]
    Names(usize),
    /// A name that is not a URI.
    #[error("the certificate's subject alternative name is no URI")]
    NotUri,
    /// A SPIFFE id that is not one of ours.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// Of another trust domain.
    #[error("the certificate is of the trust domain `{seen}`, expected `{expected}`")]
    TrustDomain {
        /// The trust domain in the certificate.
        seen: TrustDomain,
        /// The expected trust domain.
        expected: TrustDomain,
    },
    /// An agent's certificate in place of an operator's.
    #[error("`{0}` is an agent, expected an operator")]
    IsAgent(AgentId),
    /// An operator's certificate in place of an agent's.
    #[error("`{0}` is an operator, expected an agent")]
    IsOperator(String),
    /// The subject gives no role.
    #[error("the certificate gives no role; `O` in its subject holds them")]
    NoRole,
    /// The subject cannot be parsed.
    #[error("the certificate's subject cannot be read")]
    Subject,
}

/// What a verified certificate of an operator says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Presented {
    /// Whom it identifies.
    pub operator: Operator,
    /// The name of its issuer, DER.
    pub issuer: Vec<u8>,
    /// When it begins to be valid, in seconds since 1970.
    pub not_before: i64,
    /// When it expires, in seconds since 1970.
    pub not_after: i64,
}

/// Reads a verified certificate of an operator of `trust_domain`, once for all that is asked of it.
///
/// Roles are the values of `O` in the subject; one value may hold several, separated by `+`.
///
/// # Errors
/// The first rule that the certificate breaks.
pub fn operator(der: &[u8], trust_domain: &TrustDomain) -> Result<Presented, IdentityError> {
    let certificate = read(der)?;
    match subject(&certificate, trust_domain)? {
        Subject::Agent(agent) => Err(IdentityError::IsAgent(agent)),
        Subject::Operator(domain, name) => {
            let roles = roles(&certificate)?;
            let validity = certificate.validity();
            Ok(Presented {
                operator: Operator::new(domain, &name, roles.iter().map(String::as_str))?,
                issuer: certificate.issuer().as_raw().to_vec(),
                not_before: validity.not_before.timestamp(),
                not_after: validity.not_after.timestamp(),
            })
        }
    }
}

/// The agent that a verified certificate identifies, in `trust_domain`.
///
/// # Errors
/// The first rule that the certificate breaks.
pub fn agent(der: &[u8], trust_domain: &TrustDomain) -> Result<AgentId, IdentityError> {
    let certificate = read(der)?;
    match subject(&certificate, trust_domain)? {
        Subject::Agent(agent) => Ok(agent),
        Subject::Operator(_, name) => Err(IdentityError::IsOperator(name)),
    }
}

fn read(der: &[u8]) -> Result<X509Certificate<'_>, IdentityError> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| IdentityError::Unreadable)?;
    if !rest.is_empty() {
        return Err(IdentityError::Unreadable);
    }
    if certificate.version() != X509Version::V3 {
        return Err(IdentityError::Version);
    }
    Ok(certificate)
}

fn subject(certificate: &X509Certificate<'_>, trust_domain: &TrustDomain) -> Result<Subject, IdentityError> {
    check_extensions(certificate)?;
    let subject: Subject = one_uri(certificate)?.parse()?;
    let seen = match &subject {
        Subject::Operator(domain, _) => domain,
        Subject::Agent(agent) => &agent.trust_domain,
    };
    if seen != trust_domain {
        return Err(IdentityError::TrustDomain {
            seen: seen.clone(),
            expected: trust_domain.clone(),
        });
    }
    Ok(subject)
}

/// Checks all extensions; a critical one must be known (RFC 5280, section 4.2).
fn check_extensions(certificate: &X509Certificate<'_>) -> Result<(), IdentityError> {
    certificate
        .extensions_map()
        .map_err(|_| IdentityError::DuplicateExtension)?;
    let (mut usage, mut extended) = (false, false);
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(constraints) if constraints.ca => {
                return Err(IdentityError::Authority);
            }
            ParsedExtension::KeyUsage(key) => {
                // The bits of RFC 5280, section 4.2.1.3; digital signature is the first.
                if key.flags != 1 {
                    return Err(IdentityError::KeyUsage);
                }
                usage = true;
            }
            ParsedExtension::ExtendedKeyUsage(usages) => {
                check_extended(usages)?;
                extended = true;
            }
            ParsedExtension::ParseError { .. } => return Err(IdentityError::UnreadableExtension),
            ParsedExtension::UnsupportedExtension { .. } | ParsedExtension::Unparsed
                if extension.critical =>
            {
                return Err(IdentityError::UnknownCritical(extension.oid.to_id_string()));
            }
            _ => {}
        }
    }
    match (usage, extended) {
        (_, false) => Err(IdentityError::NoExtendedKeyUsage),
        (false, true) => Err(IdentityError::KeyUsage),
        (true, true) => Ok(()),
    }
}

fn check_extended(usages: &ExtendedKeyUsage<'_>) -> Result<(), IdentityError> {
    let others = usages.any
        || usages.code_signing
        || usages.email_protection
        || usages.time_stamping
        || usages.ocsp_signing
        || !usages.other.is_empty();
    if others || !usages.server_auth || !usages.client_auth {
        Err(IdentityError::ExtendedKeyUsage)
    } else {
        Ok(())
    }
}

fn one_uri<'c>(certificate: &'c X509Certificate<'_>) -> Result<&'c str, IdentityError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| IdentityError::DuplicateExtension)?;
    let names = names
        .map(|extension| extension.value.general_names.as_slice())
        .unwrap_or_default();
    match names {
        [GeneralName::URI(uri)] => Ok(uri),
        [_] => Err(IdentityError::NotUri),
        others => Err(IdentityError::Names(others.len())),
    }
}

fn roles(certificate: &X509Certificate<'_>) -> Result<Vec<String>, IdentityError> {
    let mut roles = Vec::new();
    for organization in certificate.subject().iter_organization() {
        let value = organization.as_str().map_err(|_| IdentityError::Subject)?;
        roles.extend(value.split('+').map(str::to_owned));
    }
    if roles.is_empty() {
        Err(IdentityError::NoRole)
    } else {
        Ok(roles)
    }
}

#[cfg(all(test, feature = "issue"))]
mod tests;
