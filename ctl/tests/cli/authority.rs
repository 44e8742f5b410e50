//! A CA and the certificates of a test.

use std::time::Duration;

use pki_types::{CertificateDer, PrivateKeyDer};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SanType, SignatureAlgorithm,
};

pub(crate) const AGENT_ID: &str = "spiffe://example.internal/agent/dienstplan/1";
pub(crate) const OPERATOR_ID: &str = "spiffe://example.internal/operator/alice";
const HOUR: u64 = 3600;

pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

pub(crate) struct Leaf {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) pem: String,
    pub(crate) key: KeyPair,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.as_ref().pem()
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.issuer.as_ref().der().clone()
    }

    /// A leaf for that id, valid from 6 hours ago, for that many hours.
    pub(crate) fn leaf(&self, id: &str, hours: u64, algorithm: &'static SignatureAlgorithm) -> Leaf {
        self.leaf_from(id, -6, hours, algorithm)
    }

    /// Like [`Authority::leaf`], valid from `from` hours from now.
    pub(crate) fn leaf_from(
        &self,
        id: &str,
        from: i64,
        hours: u64,
        algorithm: &'static SignatureAlgorithm,
    ) -> Leaf {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let at = |seconds: u64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        params.distinguished_name.push(DnType::OrganizationName, "oncall");
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let from = now.checked_add_signed(from * HOUR.cast_signed()).unwrap();
        params.not_before = at(from);
        params.not_after = at(from + hours * HOUR);
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            key,
        }
    }

    pub(crate) fn agent(&self) -> Leaf {
        self.leaf(AGENT_ID, 24, &PKCS_ECDSA_P256_SHA256)
    }

    pub(crate) fn operator(&self) -> Leaf {
        self.leaf(OPERATOR_ID, 24, &PKCS_ED25519)
    }
}

impl Leaf {
    pub(crate) fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }
}
