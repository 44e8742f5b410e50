#![allow(clippy::unwrap_used, reason = "what fails in a test fails the test")]

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};

use super::*;

fn domain() -> TrustDomain {
    "a.internal".parse().unwrap()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// A certificate as the CA issues it, with a change.
fn certificate(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "alice");
    params
        .distinguished_name
        .push(DnType::OrganizationName, "lead+oncall");
    params.subject_alt_names = vec![uri("spiffe://a.internal/operator/alice")];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    change(&mut params);
    params
        .self_signed(&KeyPair::generate().unwrap())
        .unwrap()
        .der()
        .to_vec()
}

#[track_caller]
fn refused(change: impl FnOnce(&mut CertificateParams), expected: IdentityError) {
    assert_eq!(operator(&certificate(change), &domain()), Err(expected));
}

#[test]
fn an_operator_is_read_with_roles() {
    let presented = operator(&certificate(|_| {}), &domain()).unwrap();
    let lifetime = presented.not_after - presented.not_before;
    assert!(0 < lifetime, "{presented:?}");
    let operator = presented.operator;
    assert_eq!(
        (operator.name.as_str(), operator.roles),
        ("alice", vec!["lead".to_owned(), "oncall".to_owned()])
    );
}

#[test]
fn two_names_are_refused() {
    refused(
        |p| p.subject_alt_names.push(uri("spiffe://a.internal/operator/root")),
        IdentityError::Names(2),
    );
    refused(
        |p| {
            p.subject_alt_names
                .push(SanType::DnsName("a.internal".try_into().unwrap()))
        },
        IdentityError::Names(2),
    );
}

#[test]
fn no_name_or_another_kind_is_refused() {
    refused(|p| p.subject_alt_names.clear(), IdentityError::Names(0));
    refused(
        |p| p.subject_alt_names = vec![SanType::DnsName("a.internal".try_into().unwrap())],
        IdentityError::NotUri,
    );
}

/// T14.
#[test]
fn other_usages_are_refused() {
    refused(
        |p| p.extended_key_usages.clear(),
        IdentityError::NoExtendedKeyUsage,
    );
    for usages in [
        vec![ExtendedKeyUsagePurpose::ClientAuth],
        vec![ExtendedKeyUsagePurpose::ServerAuth],
        vec![ExtendedKeyUsagePurpose::Any],
        vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::CodeSigning,
        ],
    ] {
        refused(
            |p| p.extended_key_usages = usages,
            IdentityError::ExtendedKeyUsage,
        );
    }
    refused(
        |p| p.key_usages.push(KeyUsagePurpose::KeyCertSign),
        IdentityError::KeyUsage,
    );
    refused(|p| p.key_usages.clear(), IdentityError::KeyUsage);
}

/// T13.
#[test]
fn an_authority_is_refused() {
    refused(
        |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)),
        IdentityError::Authority,
    );
}

#[test]
fn another_trust_domain_is_refused() {
    let expected = IdentityError::TrustDomain {
        seen: "b.internal".parse().unwrap(),
        expected: domain(),
    };
    refused(
        |p| p.subject_alt_names = vec![uri("spiffe://b.internal/operator/alice")],
        expected,
    );
}

#[test]
fn each_side_takes_only_its_own() {
    let agents = certificate(|p| p.subject_alt_names = vec![uri("spiffe://a.internal/agent/dienstplan/1")]);
    assert!(matches!(
        operator(&agents, &domain()),
        Err(IdentityError::IsAgent(_))
    ));
    assert_eq!(agent(&agents, &domain()).unwrap().service, "dienstplan");
    assert!(matches!(
        agent(&certificate(|_| {}), &domain()),
        Err(IdentityError::IsOperator(_))
    ));
}

/// T12: only the URI is an identity, and only `O` gives roles.
#[test]
fn the_common_name_means_nothing() {
    let der = certificate(|p| {
        p.distinguished_name
            .push(DnType::CommonName, "spiffe://a.internal/operator/root")
    });
    assert_eq!(operator(&der, &domain()).unwrap().operator.name, "alice");
}

#[test]
fn no_role_or_a_malformed_one_is_refused() {
    refused(
        |p| p.distinguished_name = rcgen::DistinguishedName::new(),
        IdentityError::NoRole,
    );
    let der = certificate(|p| p.distinguished_name.push(DnType::OrganizationName, "On Call"));
    assert!(matches!(operator(&der, &domain()), Err(IdentityError::Id(_))));
}

#[test]
fn bytes_after_the_certificate_are_refused() {
    let mut der = certificate(|_| {});
    der.push(0);
    assert_eq!(operator(&der, &domain()), Err(IdentityError::Unreadable));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(operator(&bytes, &domain()).is_err());
    }
}

#[test]
fn no_damaged_certificate_makes_it_panic_or_become_somebody_else() {
    let der = certificate(|_| {});
    for at in 0..der.len() {
        for bit in 0..8 {
            let mut damaged = der.clone();
            damaged[at] ^= 1 << bit;
            // The signature is not verified here, so a damaged name in the same form may pass; webpki refuses it. Here it only
            // matters that nothing panics and that names keep their form.
            if let Ok(presented) = operator(&damaged, &domain()) {
                prop_check(&presented.operator);
            }
        }
    }
}

fn prop_check(operator: &Operator) {
    assert!(
        operator.name.bytes().all(|b| b.is_ascii_graphic()),
        "{operator:?}"
    );
    assert!(!operator.roles.is_empty());
}
