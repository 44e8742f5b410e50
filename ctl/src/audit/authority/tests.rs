use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::*;

const ORIGIN: &str = "example.internal/dienstplan/1/00";
const ALICE: &str = "spiffe://example.internal/operator/alice";
/// When certificates become valid, in seconds since 1970; they live 8 hours.
const BEGIN: i64 = 1_800_000_000;
const LIFE: i64 = 8 * 3600;
const BOTH: &[ExtendedKeyUsagePurpose] = &[
    ExtendedKeyUsagePurpose::ServerAuth,
    ExtendedKeyUsagePurpose::ClientAuth,
];

type Ca = CertifiedIssuer<'static, KeyPair>;

/// CAs of one name: only their keys differ.
fn ca() -> Ca {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "test CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn leaf(ca: &Ca, id: &str, usages: &[ExtendedKeyUsagePurpose]) -> Vec<u8> {
    let date = |at: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(at.try_into().unwrap());
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    params.distinguished_name.push(DnType::OrganizationName, "oncall");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages.to_vec();
    (params.not_before, params.not_after) = (date(BEGIN), date(BEGIN + LIFE));
    params
        .signed_by(&KeyPair::generate().unwrap(), ca)
        .unwrap()
        .der()
        .to_vec()
}

fn authority(pems: &[String]) -> IssuingCa {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pems.concat()).unwrap();
    IssuingCa::read(file.path()).unwrap()
}

#[track_caller]
fn refused(authority: &IssuingCa, certificate: &[u8], at: i64, why: &str) {
    let error = authority.vouches(certificate, at).unwrap_err();
    assert!(error.contains(why), "{error}");
}

#[test]
fn an_operator_of_the_ca_is_vouched_for_while_the_certificate_is_valid() {
    let (ca, other) = (ca(), ca());
    let certificate = leaf(&ca, ALICE, BOTH);
    let one = authority(&[ca.pem()]);
    for at in [BEGIN, BEGIN + LIFE] {
        assert_eq!(one.vouches(&certificate, at), Ok(()));
    }
    for at in [BEGIN - 1, BEGIN + LIFE + 1, -1] {
        refused(&one, &certificate, at, "it was not valid at the record's time");
    }
    assert_eq!(
        authority(&[other.pem(), ca.pem()]).vouches(&certificate, BEGIN),
        Ok(())
    );
}

#[test]
fn whom_the_ca_did_not_certify_for_tls_clients_is_refused() {
    let ca = ca();
    let authority = authority(&[ca.pem()]);
    refused(
        &authority,
        &leaf(&self::ca(), ALICE, BOTH),
        BEGIN,
        "did not issue it",
    );
    refused(
        &authority,
        &leaf(&ca, ALICE, &BOTH[..1]),
        BEGIN,
        "it is not for TLS clients",
    );
    refused(&authority, ca.der(), BEGIN, "does not verify with the CA");
    refused(&authority, b"none", BEGIN, "does not verify with the CA");
}

#[test]
fn only_an_operator_of_the_logs_trust_domain_is_one() {
    let ca = ca();
    assert_eq!(
        operator(&leaf(&ca, ALICE, BOTH), ORIGIN)
            .unwrap()
            .operator
            .to_string(),
        ALICE
    );
    for (certificate, why) in [
        (leaf(&ca, ALICE, &[]), "no extended key usage"),
        (leaf(&ca, ALICE, &BOTH[1..]), "are not serverAuth and clientAuth"),
        (
            leaf(&ca, "spiffe://example.internal/agent/dienstplan/1", BOTH),
            "is an agent, expected an operator",
        ),
        (
            leaf(&ca, "spiffe://example.org/operator/alice", BOTH),
            "is of the trust domain `example.org`",
        ),
        (ca.der().to_vec(), "key usage is not digital signature alone"),
        (b"none".to_vec(), "cannot be read"),
    ] {
        let error = operator(&certificate, ORIGIN).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    assert!(
        operator(&leaf(&ca, ALICE, BOTH), "Example/x")
            .unwrap_err()
            .contains("no trust domain")
    );
}

#[test]
fn a_ca_in_the_folder_of_the_log_is_not_found() {
    let set = tempfile::tempdir().unwrap();
    let (log, inventory) = (set.path().join("agent/audit"), set.path().join("inventory.json"));
    std::fs::create_dir_all(log.join("ca")).unwrap();
    std::fs::create_dir(set.path().join("ca")).unwrap();
    for file in [
        "ca/ca.pem",
        "ca.pem",
        "agent/audit/ca.pem",
        "agent/audit/ca/ca.pem",
    ] {
        std::fs::write(set.path().join(file), "").unwrap();
    }
    assert_eq!(beside(&inventory, &log), Some(set.path().join("ca/ca.pem")));
    assert_eq!(beside(&log.join("inventory.json"), &log), None);
    std::fs::remove_file(set.path().join("ca/ca.pem")).unwrap();
    assert_eq!(beside(&inventory, &log), Some(set.path().join("ca.pem")));
    std::fs::remove_file(set.path().join("ca.pem")).unwrap();
    assert_eq!(beside(&inventory, &log), None);
    std::os::unix::fs::symlink(log.join("ca.pem"), set.path().join("ca.pem")).unwrap();
    assert_eq!(beside(&inventory, &log), None);
}
