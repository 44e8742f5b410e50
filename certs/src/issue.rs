//! The authority: makes a CA, certificates of operators and agents, and revocation lists.
//!
//! A certificate depends only on the identity and a lifetime; nothing of a request is copied into it.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber,
};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::{AgentId, Operator, TrustDomain};

/// The lifetime of a CA: 2 years.
pub const CA_LIFE: Duration = Duration::from_secs(2 * 365 * 24 * 3600);
/// The lifetime of an agent's certificate: 90 days.
pub const AGENT_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// The lifetime of a revocation list: 30 days.
pub const CRL_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// The default lifetime of an operator's certificate: 8 hours, a working day.
pub const OPERATOR_LIFE: Duration = Duration::from_secs(8 * 3600);
/// The limit on the lifetime of an operator's certificate: 24 hours. Agents refuse longer ones.
pub const OPERATOR_LIFE_MAX: Duration = Duration::from_secs(24 * 3600);
/// How far certificates are backdated, for hosts with slow clocks: 5 minutes.
const BACKDATED: Duration = Duration::from_secs(5 * 60);

/// Why nothing was issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// A lifetime that agents would refuse.
    #[error("an operator's certificate lives 24 hours at most")]
    TooLong,
    /// A lifetime of zero.
    #[error("a certificate that lives no time is of no use")]
    TooShort,
    /// A moment outside the range of dates.
    #[error("the date is out of range")]
    Date,
    /// The CA's certificate and key do not belong together or cannot be parsed.
    #[error("the CA's certificate or key cannot be used")]
    Ca(#[source] rcgen::Error),
    /// The certificate cannot be made.
    #[error("the certificate cannot be made")]
    Certificate(#[source] rcgen::Error),
    /// A revocation list that cannot be parsed or has no usable number.
    #[error("the revocation list {0}")]
    List(&'static str),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

/// A revoked certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Revoked {
    /// Its serial number, big-endian.
    pub serial: Vec<u8>,
    /// The time of its revocation.
    pub at: Timestamp,
}

/// A certificate and its key, as PEM.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its private key (PKCS #8).
    pub key: String,
    /// Its serial number in hex.
    pub serial: String,
    /// The start of its validity.
    pub not_before: Timestamp,
    /// The end of its validity.
    pub not_after: Timestamp,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued")
            .field("serial", &self.serial)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// A certificate authority of one trust domain.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ca(..)")
    }
}

impl Ca {
    /// Makes a CA with a P-256 key.
    ///
    /// # Errors
    /// See [`IssueError`].
    pub fn generate(trust_domain: &TrustDomain, now: Timestamp) -> Result<(Self, Issued), IssueError> {
        let mut params = CertificateParams::default();
        // The common name contains the domain, so that CAs of two domains never share a subject: revocation lists are found by
        // it.
        params.distinguished_name = common_name(&format!("debug agent CA of {trust_domain}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.key_identifier_method = KeyIdMethod::Sha256;
        let (serial, life) = prepare(&mut params, now, CA_LIFE)?;
        let key = KeyPair::generate().map_err(IssueError::Certificate)?;
        let certificate = params.self_signed(&key).map_err(IssueError::Certificate)?;
        let issued = issued(certificate.pem(), key.serialize_pem(), serial, life);
        Ok((
            Self {
                issuer: Issuer::new(params, key),
            },
            issued,
        ))
    }

    /// Loads a CA from its PEM files.
    ///
    /// # Errors
    /// They cannot be parsed.
    pub fn load(certificate: &str, key: &str) -> Result<Self, IssueError> {
        let key = KeyPair::from_pem(key).map_err(IssueError::Ca)?;
        Ok(Self {
            issuer: Issuer::from_ca_cert_pem(certificate, key).map_err(IssueError::Ca)?,
        })
    }

    /// Issues a certificate for an operator. Roles go into one `O`, separated by `+`.
    ///
    /// # Errors
    /// The lifetime exceeds 24 hours; see [`IssueError`].
    pub fn operator(
        &self,
        operator: &Operator,
        life: Duration,
        now: Timestamp,
    ) -> Result<Issued, IssueError> {
        if life > OPERATOR_LIFE_MAX {
            return Err(IssueError::TooLong);
        }
        if life.is_zero() {
            return Err(IssueError::TooShort);
        }
        let mut name = common_name(&operator.name);
        name.push(DnType::OrganizationName, operator.roles.join("+"));
        // The lifetime counts from now: with the backdating, 24 hours would exceed what agents accept.
        self.issue(name, &operator.to_string(), life, now)
    }

    /// Issues a certificate for an agent.
    ///
    /// # Errors
    /// See [`IssueError`].
    pub fn agent(&self, agent: &AgentId, now: Timestamp) -> Result<Issued, IssueError> {
        self.issue(common_name(&agent.service), &agent.to_string(), AGENT_LIFE, now)
    }

    fn issue(
        &self,
        name: DistinguishedName,
        id: &str,
        life: Duration,
        now: Timestamp,
    ) -> Result<Issued, IssueError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = name;
        params.subject_alt_names = vec![SanType::URI(id.try_into().map_err(IssueError::Certificate)?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let (serial, life) = prepare(&mut params, now, life)?;
        let key = KeyPair::generate().map_err(IssueError::Certificate)?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(IssueError::Certificate)?;
        Ok(issued(certificate.pem(), key.serialize_pem(), serial, life))
    }

    /// Makes a revocation list, PEM. Its number must rise from list to list.
    ///
    /// # Errors
    /// See [`IssueError`].
    pub fn revocation_list(
        &self,
        number: u64,
        revoked: &[Revoked],
        now: Timestamp,
    ) -> Result<String, IssueError> {
        let params = CertificateRevocationListParams {
            this_update: date(back(now)?)?,
            next_update: date(later(now, CRL_LIFE)?)?,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect::<Result<_, _>>()?,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).map_err(IssueError::Certificate)?;
        list.pem().map_err(IssueError::Certificate)
    }
}

/// Parses a revocation list (PEM): its number and the revoked certificates. Reasons are dropped, as agents do not use them.
///
/// The CA's signature is not verified: agents do that.
///
/// # Errors
/// It is no list, has no number, or has a number that can no longer rise.
pub fn read_list(pem: &str) -> Result<(u64, Vec<Revoked>), IssueError> {
    let unreadable = || IssueError::List("cannot be read");
    let (_, pem) = parse_x509_pem(pem.as_bytes()).map_err(|_| unreadable())?;
    let (_, list) = CertificateRevocationList::from_der(&pem.contents).map_err(|_| unreadable())?;
    let number = list.crl_number().ok_or(IssueError::List("has no number"))?;
    let number = u64::try_from(number).map_err(|_| IssueError::List("has a number that is too large"))?;
    let revoked = list.iter_revoked_certificates().map(|entry| {
        let at = Timestamp::from_second(entry.revocation_date.timestamp()).map_err(|_| IssueError::Date)?;
        Ok(Revoked {
            serial: entry.raw_serial().to_vec(),
            at,
        })
    });
    Ok((number, revoked.collect::<Result<_, IssueError>>()?))
}

fn entry(revoked: &Revoked) -> Result<RevokedCertParams, IssueError> {
    Ok(RevokedCertParams {
        serial_number: SerialNumber::from(revoked.serial.clone()),
        revocation_time: date(revoked.at)?,
        reason_code: None,
        invalidity_date: None,
    })
}

/// The start and end of a validity.
type Life = (Timestamp, Timestamp);

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

/// Sets a random serial number of 127 bits (RFC 5280, section 4.1.2.2: positive, at most 20 bytes) and the validity.
fn prepare(
    params: &mut CertificateParams,
    now: Timestamp,
    life: Duration,
) -> Result<(String, Life), IssueError> {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(|_| IssueError::Random)?;
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from(serial.to_vec()));
    let (from, until) = (back(now)?, later(now, life)?);
    params.not_before = date(from)?;
    params.not_after = date(until)?;
    Ok((
        serial.iter().map(|byte| format!("{byte:02x}")).collect(),
        (from, until),
    ))
}

fn back(now: Timestamp) -> Result<Timestamp, IssueError> {
    now.checked_sub(BACKDATED).map_err(|_| IssueError::Date)
}

fn later(now: Timestamp, life: Duration) -> Result<Timestamp, IssueError> {
    now.checked_add(life).map_err(|_| IssueError::Date)
}

/// The date type of rcgen.
fn date(moment: Timestamp) -> Result<time::OffsetDateTime, IssueError> {
    time::OffsetDateTime::from_unix_timestamp(moment.as_second()).map_err(|_| IssueError::Date)
}

fn issued(certificate: String, key: String, serial: String, (not_before, not_after): Life) -> Issued {
    Issued {
        certificate,
        key,
        serial,
        not_before,
        not_after,
    }
}

#[cfg(test)]
mod tests;
