//! A CA for tests, and identity rules that are strict enough for them.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    RevokedCertParams, SanType, SerialNumber,
};

use crate::Tls;
use crate::tls::TlsError;
use debug_config::Trust;

pub(super) const DOMAIN: &str = "demo.internal";
pub(super) const HOUR: i64 = 3600;
pub(super) const DAY: i64 = 24 * HOUR;

pub(super) struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

pub(super) struct Leaf {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) pem: String,
    pub(super) key: KeyPair,
    pub(super) serial: SerialNumber,
}

/// The moment that many seconds from now, as `rcgen` takes it.
macro_rules! moment {
    ($seconds:expr) => {
        rcgen::date_time_ymd(1970, 1, 1)
            + std::time::Duration::from_secs($crate::tests::authority::now_and($seconds).as_secs())
    };
}
pub(super) use moment;

impl Ca {
    pub(super) fn new(name: &str) -> Self {
        Self::valid(name, -DAY, 30 * DAY)
    }

    pub(super) fn valid(name: &str, from: i64, to: i64) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = (moment!(from), moment!(to));
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    pub(super) fn pem(&self) -> String {
        self.issuer.as_ref().pem()
    }

    pub(super) fn der(&self) -> CertificateDer<'static> {
        self.issuer.as_ref().der().clone()
    }

    pub(super) fn operator(&self, name: &str) -> Leaf {
        self.leaf(&format!("spiffe://{DOMAIN}/operator/{name}"), |_| {})
    }

    pub(super) fn agent(&self) -> Leaf {
        self.leaf(&format!("spiffe://{DOMAIN}/agent/dienstplan/1"), |_| {})
    }

    /// A valid certificate, then changed by `change`.
    pub(super) fn leaf(&self, id: &str, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "oncall");
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        (params.not_before, params.not_after) = (moment!(-HOUR), moment!(8 * HOUR));
        let mut serial = [0; 16];
        getrandom::fill(&mut serial).unwrap();
        serial[0] = serial[0] & 0x7f | 1;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        change(&mut params);
        let serial = params.serial_number.clone().unwrap();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            key,
            serial,
        }
    }

    pub(super) fn crl(&self, revoked: &[&Leaf]) -> String {
        self.crl_until(30 * DAY, revoked)
    }

    pub(super) fn crl_until(&self, until: i64, revoked: &[&Leaf]) -> String {
        let revoked_certs = revoked.iter().map(|leaf| RevokedCertParams {
            serial_number: leaf.serial.clone(),
            revocation_time: moment!(-HOUR),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: moment!(-2 * DAY),
            next_update: moment!(until),
            crl_number: SerialNumber::from(26_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

impl Leaf {
    pub(super) fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }
}

/// A folder with the agent's files.
pub(super) struct Files {
    pub(super) folder: tempfile::TempDir,
    pub(super) trust: Trust,
}

impl Files {
    pub(super) fn new(ca: &Ca) -> Self {
        Self::with(&ca.pem(), &ca.crl(&[]), &ca.agent())
    }

    pub(super) fn with(ca: &str, crl: &str, agent: &Leaf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let trust = Trust {
            domain: DOMAIN.into(),
            ca: path("ca.pem"),
            crl: path("crl.pem"),
            certificate: path("agent.pem"),
            key: path("agent.key"),
        };
        let files = Self { folder, trust };
        files.write("ca.pem", ca, 0o644);
        files.write("crl.pem", crl, 0o644);
        files.write("agent.pem", &agent.pem, 0o644);
        files.write("agent.key", &agent.key.serialize_pem(), 0o600);
        files
    }

    pub(super) fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        write(&self.folder.path().join(name), text.as_bytes(), mode)
    }

    pub(super) fn load(&self) -> Result<Tls, TlsError> {
        self.load_at(UnixTime::now())
    }

    pub(super) fn load_at(&self, now: UnixTime) -> Result<Tls, TlsError> {
        Tls::load(&self.trust, "dienstplan", "1", DOMAIN.parse().unwrap(), now)
    }
}

pub(super) fn write(path: &Path, text: &[u8], mode: u32) -> PathBuf {
    let _ = std::fs::remove_file(path);
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .unwrap();
    std::io::Write::write_all(&mut file, text).unwrap();
    path.to_owned()
}

pub(super) fn now_and(seconds: i64) -> UnixTime {
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap();
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now + seconds).unwrap()))
}
