//! Who may attach: only an operator with a certificate of this CA, for this trust domain, that identifies one operator and is
//! valid now.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use debug_tests::client::Identity;
use debug_tests::{Certificates, Client, Service, wait};
use pki_types::PrivateKeyDer;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};

/// In seconds.
const HOUR: i64 = 3600;

/// A certificate that our CA would never issue, signed with its key.
fn forged(certificates: &Certificates, change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let (params, key) = operator(change);
    let certificate = params.signed_by(&key, &certificates.issuer()).unwrap();
    Identity {
        chain: vec![certificate.der().clone()],
        key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
    }
}

/// The certificate that `certs issue` writes for an operator, with a change.
fn operator(change: impl FnOnce(&mut CertificateParams)) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "mallory");
    params.distinguished_name.push(DnType::OrganizationName, "oncall");
    params.subject_alt_names = vec![SanType::URI(
        "spiffe://dienstplan.internal/operator/mallory"
            .try_into()
            .unwrap(),
    )];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.is_ca = IsCa::ExplicitNoCa;
    params.serial_number = Some(rcgen::SerialNumber::from(vec![0x12, 0x34, 0x56]));
    params.use_authority_key_identifier_extension = true;
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 2);
    let hour = |hours: i64| time_from_now(hours);
    params.not_before = hour(-1);
    params.not_after = hour(1);
    change(&mut params);
    (params, KeyPair::generate().unwrap())
}

/// The moment `hours` from now, in rcgen's type.
fn time_from_now(hours: i64) -> time::OffsetDateTime {
    time::OffsetDateTime::now_utc() + time::Duration::hours(hours)
}

/// The agent refuses the handshake and logs why, and the service continues.
#[track_caller]
fn refused(change: impl FnOnce(&mut CertificateParams), why: &str) {
    let certificates = Certificates::new();
    let service = Service::start(&certificates);
    let identity = forged(&certificates, change);
    check_refused(&certificates, &service, Some(identity), why);
}

#[track_caller]
fn check_refused(certificates: &Certificates, service: &Service, identity: Option<Identity>, why: &str) {
    let error = Client::connect(service.agent(), identity).expect_err("the agent let it in");
    // A TLS alert or an end, and not one byte of ours before the certificate is verified.
    let text = error.to_string();
    assert!(
        text.contains("fatal alert") || error.kind() == std::io::ErrorKind::UnexpectedEof,
        "{text}"
    );
    let record = refusal(certificates, why);
    assert!(record.contains("\"peer\":\"127.0.0.1:"), "{record}");
    assert_eq!(service.health().status, 200);
}

/// Waits for a record of a refused handshake with that reason.
#[track_caller]
fn refusal(certificates: &Certificates, why: &str) -> String {
    wait::until(
        &format!("a record says `{why}`:\n{}", certificates.records()),
        || {
            let records = certificates.records();
            records
                .lines()
                .find(|line| line.contains("session.refused") && line.contains(why))
                .map(str::to_owned)
        },
    )
}

#[test]
fn a_certificate_that_certs_issue_wrote_is_let_in() {
    let certificates = Certificates::new();
    let service = Service::start(&certificates);
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    assert_eq!(client.eval("1 + 1").display(), "2");
}

/// The counterpart of the forgeries below: the change makes them fail, not the forging.
#[test]
fn a_forged_certificate_without_a_fault_is_let_in() {
    let certificates = Certificates::new();
    let service = Service::start(&certificates);
    Client::connect(service.agent(), Some(forged(&certificates, |_| {}))).unwrap();
}

/// T01.
#[test]
fn no_certificate_is_refused() {
    let certificates = Certificates::new();
    let service = Service::start(&certificates);
    check_refused(&certificates, &service, None, "no certificate");
}

#[test]
fn a_certificate_of_another_ca_is_refused() {
    let certificates = Certificates::new();
    let service = Service::start(&certificates);
    // A CA with another name, and a CA with the name of ours and another key.
    let others = [Certificates::for_service("pager"), Certificates::new()];
    for (other, why) in others
        .iter()
        .zip(["\"code\":\"unknown-issuer\"", "refused: BadSignature"])
    {
        let stranger = Identity::read(&other.operator("alice"));
        check_refused(&certificates, &service, Some(stranger), why);
    }
}

#[test]
fn an_expired_certificate_is_refused() {
    refused(
        |p| (p.not_before, p.not_after) = (time_from_now(-3), time_from_now(-1)),
        "expired",
    );
}

#[test]
fn a_certificate_that_lives_longer_than_a_day_is_refused() {
    refused(|p| p.not_after = time_from_now(48), "24");
}

/// T14.
#[test]
fn a_certificate_without_extended_key_usage_is_refused() {
    refused(
        |p| p.extended_key_usages.clear(),
        "the certificate has no extended key usage",
    );
}

/// T14.
#[test]
fn a_certificate_for_clients_only_is_refused() {
    refused(
        |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
        "extended key usages are not serverAuth and clientAuth",
    );
}

/// T13.
#[test]
fn two_uri_names_are_refused() {
    let second = || SanType::URI("spiffe://dienstplan.internal/operator/root".try_into().unwrap());
    refused(
        |p| p.subject_alt_names.push(second()),
        "the certificate has 2 subject alternative names",
    );
}

/// T13.
#[test]
fn a_ca_certificate_is_refused() {
    refused(
        |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)),
        "CaUsedAsEndEntity",
    );
}

#[test]
fn another_trust_domain_is_refused() {
    let other = || SanType::URI("spiffe://elsewhere.internal/operator/mallory".try_into().unwrap());
    refused(|p| p.subject_alt_names = vec![other()], "trust domain");
}

#[test]
fn no_role_is_refused() {
    refused(|p| p.distinguished_name = rcgen::DistinguishedName::new(), "role");
}

/// T22, from the other side.
#[test]
fn an_agents_certificate_does_not_attach() {
    let certificates = Certificates::new();
    let service = Service::start(&certificates);
    let folder = certificates.folder().join("agent");
    let agent = Identity::from_files(&folder.join("agent.pem"), &folder.join("agent.key"));
    check_refused(&certificates, &service, Some(agent), "agent");
}

/// The answer to anything but TLS: a TLS alert at most, nothing of ours.
#[track_caller]
fn speak(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The agent may close while we still write.
    drop(stream.write_all(bytes));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    answer
}

/// T17, T28.
#[test]
fn plain_text_http_and_garbage_get_nothing() {
    let certificates = Certificates::new();
    let service = Service::start(&certificates);
    let garbage: Vec<u8> = (0..4096_u32)
        .map(|i| u8::try_from(i.wrapping_mul(2_654_435_761) >> 24).unwrap())
        .collect();
    for bytes in [
        &b"hello\n"[..],
        b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        &garbage,
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hello\"}\n",
    ] {
        let answer = speak(service.agent(), bytes);
        // RFC 8446, section 5.1: content type 21 is an alert, 7 bytes in total.
        assert!(
            answer.is_empty() || (answer.len() == 7 && answer[0] == 21),
            "{answer:?}"
        );
    }
    refusal(&certificates, "TLS");
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    assert_eq!(client.eval("40 + 2").display(), "42");
    assert_eq!(service.health().status, 200);
}

/// T81.
#[test]
fn without_the_flag_nothing_listens() {
    for flag in ["", "0", "off"] {
        let certificates = Certificates::new();
        let service = Service::start_with(&certificates, &[("DEBUG_AGENT", flag)]);
        assert_eq!(service.health().status, 200);
        assert!(!service.log().contains("listens on 127"), "{}", service.log());
        let files: Vec<_> = std::fs::read_dir(certificates.audit()).unwrap().collect();
        assert!(files.is_empty(), "{files:?}");
    }
}

/// T81.
#[test]
fn a_flag_that_is_not_understood_is_refused_by_name_and_the_service_runs() {
    let certificates = Certificates::new();
    for (flag, names) in [("true", "true"), ("ON", "ON"), ("standby", "standby")] {
        let service = Service::start_with(&certificates, &[("DEBUG_AGENT", flag)]);
        let line = service.wait_for_log("debug-agent:");
        assert!(line.contains(names), "{line}");
        assert_eq!(service.health().status, 200);
    }
}

/// T05, T15: if something is missing at the start, the agent does not listen, instead of checking less.
#[test]
fn a_missing_revocation_list_or_ca_keeps_the_agent_closed_and_the_service_open() {
    for file in ["crl.pem", "ca.pem", "policy.toml", "agent.key"] {
        let certificates = Certificates::new();
        std::fs::remove_file(certificates.folder().join("agent").join(file)).unwrap();
        let service = Service::start_with(&certificates, &[("DEBUG_AGENT", "1")]);
        let line = service.wait_for_log("debug-agent:");
        assert!(line.contains(file), "{line}");
        assert_eq!(service.health().status, 200);
    }
}

/// A revocation list older than a revocation would let the revoked operator in again.
#[test]
fn a_revocation_list_older_than_the_last_is_refused_at_the_start() {
    let certificates = Certificates::new();
    let file = certificates.revocation_list();
    let first = std::fs::read_to_string(&file).unwrap();
    certificates.write_revocation_list(0x1b, -HOUR, 24 * HOUR);
    let mut service = Service::start(&certificates);
    assert!(service.terminate().success());
    std::fs::write(&file, &first).unwrap();
    let mut service = Service::start_with(&certificates, &[("DEBUG_AGENT", "1")]);
    let line = service.wait_for_log("debug-agent:");
    assert!(
        line.contains("crl.pem") && line.contains("number 1 ") && line.contains("seen 1b"),
        "{line}"
    );
    assert!(
        service.log().contains("put the newest list back"),
        "{}",
        service.log()
    );
    assert_eq!(service.health().status, 200);
    service.terminate();
    certificates.write_revocation_list(0x100, -HOUR, 24 * HOUR);
    Service::start(&certificates);
}
