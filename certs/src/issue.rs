//! The authority: makes a CA, certificates of operators and agents, and revocation lists.
//!
//! What is issued follows from the identity and a lifetime alone; nothing that a requester wrote is copied.

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

/// How long a CA lives: 2 years.
pub const CA_LIFE: Duration = Duration::from_secs(2 * 365 * 24 * 3600);
/// How long an agent's certificate lives: 90 days.
pub const AGENT_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// How long a revocation list is current: 30 days.
pub const CRL_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long an operator's certificate lives when nobody says: 8 hours, a working day.
pub const OPERATOR_LIFE: Duration = Duration::from_secs(8 * 3600);
/// The longest life of an operator's certificate: 24 hours. Agents refuse longer ones.
pub const OPERATOR_LIFE_MAX: Duration = Duration::from_secs(24 * 3600);
/// How far certificates are dated back, for hosts whose clocks are slow: 5 minutes.
const BACKDATED: Duration = Duration::from_secs(5 * 60);

/// Why nothing was issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// A lifetime that agents would refuse.
    #[error("an operator's certificate lives 24 hours at most")]
    TooLong,
    /// No life at all.
    #[error("a certificate that lives no time is of no use")]
    TooShort,
    /// A moment that dates cannot hold.
    #[error("the date is out of range")]
    Date,
    /// The CA's files do not belong together or cannot be read.
    #[error("the CA's certificate or key cannot be used")]
    Ca(#[source] rcgen::Error),
    /// The certificate cannot be made.
    #[error("the certificate cannot be made")]
    Certificate(#[source] rcgen::Error),
    /// A revocation list that cannot be read, or that is not this CA's.
    #[error("the revocation list {0}")]
    List(&'static str),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

/// A certificate that is no longer accepted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Revoked {
    /// Its serial number, big-endian.
    pub serial: Vec<u8>,
    /// Since when.
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
    /// From when.
    pub not_before: Timestamp,
    /// Until when.
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
        // The common name carries the domain, so that two CAs never have one subject: revocation lists are found by it.
        params.distinguished_name = common_name(&format!("debug agent CA of {trust_domain}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.key_identifier_method = KeyIdMethod::Sha256;
        let (serial, life) = prepare(&mut params, now, CA_LIFE)?;
        let key = KeyPair::generate().map_err(IssueError::Certificate)?;
        let certificate = params.self_signed(&key).map_err(IssueError::Certificate)?;
        let issued = issued(certificate.pem(), key.serialize_pem(), serial, life);
        Ok((Self { issuer: Issuer::new(params, key) }, issued))
    }

    /// Takes a CA from its PEM files.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn load(certificate: &str, key: &str) -> Result<Self, IssueError> {
        let key = KeyPair::from_pem(key).map_err(IssueError::Ca)?;
        Ok(Self { issuer: Issuer::from_ca_cert_pem(certificate, key).map_err(IssueError::Ca)? })
    }

    /// Issues for an operator. Roles go into one `O` with `+` between them.
    ///
    /// # Errors
    /// A lifetime beyond 24 hours; see [`IssueError`].
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
        // The life counts from now, the backdating included would make 24 hours more than agents accept.
        self.issue(name, &operator.to_string(), life, now)
    }

    /// Issues for an agent.
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
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let (serial, life) = prepare(&mut params, now, life)?;
        let key = KeyPair::generate().map_err(IssueError::Certificate)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(IssueError::Certificate)?;
        Ok(issued(certificate.pem(), key.serialize_pem(), serial, life))
    }

    /// A revocation list, PEM. Its number must rise from list to list.
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

/// Reads a revocation list (PEM) back: its number, and whom it names. Reasons are left out; agents do not ask for them.
///
/// Whether the CA signed it is not looked at: agents do that.
///
/// # Errors
/// It is no list, has no number, or one that no longer can rise.
pub fn read_list(pem: &str) -> Result<(u64, Vec<Revoked>), IssueError> {
    let unreadable = || IssueError::List("cannot be read");
    let (_, pem) = parse_x509_pem(pem.as_bytes()).map_err(|_| unreadable())?;
    let (_, list) = CertificateRevocationList::from_der(&pem.contents).map_err(|_| unreadable())?;
    let number = list.crl_number().ok_or(IssueError::List("has no number"))?;
    let number = u64::try_from(number).map_err(|_| IssueError::List("has a number that is too large"))?;
    let revoked = list.iter_revoked_certificates().map(|entry| {
        let at = Timestamp::from_second(entry.revocation_date.timestamp()).map_err(|_| IssueError::Date)?;
        Ok(Revoked { serial: entry.raw_serial().to_vec(), at })
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

/// From when and until when.
type Life = (Timestamp, Timestamp);

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

/// A random serial number of 127 bits (RFC 5280, section 4.1.2.2: positive, at most 20 bytes), and the dates.
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
    Ok((serial.iter().map(|byte| format!("{byte:02x}")).collect(), (from, until)))
}

fn back(now: Timestamp) -> Result<Timestamp, IssueError> {
    now.checked_sub(BACKDATED).map_err(|_| IssueError::Date)
}

fn later(now: Timestamp, life: Duration) -> Result<Timestamp, IssueError> {
    now.checked_add(life).map_err(|_| IssueError::Date)
}

/// The type of dates that rcgen takes.
fn date(moment: Timestamp) -> Result<time::OffsetDateTime, IssueError> {
    time::OffsetDateTime::from_unix_timestamp(moment.as_second()).map_err(|_| IssueError::Date)
}

fn issued(certificate: String, key: String, serial: String, (not_before, not_after): Life) -> Issued {
    Issued { certificate, key, serial, not_before, not_after }
}

#[cfg(test)]
mod tests;
