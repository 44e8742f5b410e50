use super::*;

fn ca() -> Ca {
    Ca::generate(&"a.internal".parse().unwrap(), Timestamp::now())
        .unwrap()
        .0
}

fn alice() -> Operator {
    Operator::new("a.internal".parse().unwrap(), "alice", ["oncall", "lead"]).unwrap()
}

#[test]
fn what_is_issued_reads_back_as_who_it_is_for() {
    let issued = ca().operator(&alice(), OPERATOR_LIFE, Timestamp::now()).unwrap();
    let der = pem(&issued.certificate);
    assert_eq!(
        crate::operator(&der, &"a.internal".parse().unwrap())
            .unwrap()
            .operator,
        alice()
    );
}

#[test]
fn an_agent_reads_back_as_an_agent() {
    let agent = AgentId::new("a.internal".parse().unwrap(), "dienstplan", "1").unwrap();
    let issued = ca().agent(&agent, Timestamp::now()).unwrap();
    assert_eq!(
        crate::agent(&pem(&issued.certificate), &agent.trust_domain).unwrap(),
        agent
    );
}

/// T24.
#[test]
fn an_operators_certificate_lives_a_day_at_most() {
    let hour = Duration::from_secs(3600);
    assert!(ca().operator(&alice(), 24 * hour, Timestamp::now()).is_ok());
    assert!(matches!(
        ca().operator(&alice(), 25 * hour, Timestamp::now()),
        Err(IssueError::TooLong)
    ));
    assert!(matches!(
        ca().operator(&alice(), Duration::ZERO, Timestamp::now()),
        Err(IssueError::TooShort)
    ));
}

#[test]
fn a_ca_that_was_stored_issues_what_it_did_before() {
    let (_, stored) = Ca::generate(&"a.internal".parse().unwrap(), Timestamp::now()).unwrap();
    let ca = Ca::load(&stored.certificate, &stored.key).unwrap();
    assert!(ca.operator(&alice(), OPERATOR_LIFE, Timestamp::now()).is_ok());
    assert!(
        ca.revocation_list(1, &[], Timestamp::now())
            .unwrap()
            .contains("X509 CRL")
    );
}

#[test]
fn a_revocation_list_is_read_back() {
    let at = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
    let revoked = vec![
        Revoked {
            serial: vec![0x7f, 1, 2],
            at,
        },
        Revoked { serial: vec![3], at },
    ];
    let list = ca().revocation_list(41, &revoked, at).unwrap();
    assert_eq!(read_list(&list).unwrap(), (41, revoked));
    for wrong in ["", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"] {
        assert!(matches!(read_list(wrong), Err(IssueError::List(_))), "{wrong}");
    }
}

#[test]
fn two_serial_numbers_differ() {
    let ca = ca();
    let serial = || {
        ca.operator(&alice(), OPERATOR_LIFE, Timestamp::now())
            .unwrap()
            .serial
    };
    assert_ne!(serial(), serial());
}

#[test]
fn debug_shows_no_key() {
    let issued = ca().operator(&alice(), OPERATOR_LIFE, Timestamp::now()).unwrap();
    assert!(!format!("{issued:?}").contains("PRIVATE"));
}

fn pem(text: &str) -> Vec<u8> {
    use pki_types::pem::PemObject as _;
    pki_types::CertificateDer::from_pem_slice(text.as_bytes())
        .unwrap()
        .to_vec()
}
