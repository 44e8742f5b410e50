//! Which clients pass the handshake.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rcgen::{ExtendedKeyUsagePurpose, SanType};
use rustls::client::Resumption;
use rustls::{HandshakeKind, NamedGroup, ProtocolVersion};

use super::authority::{Ca, DAY, Files, HOUR, Leaf, moment, now_and};
use super::peer::{
    Agent, Event, Peer, Tickets, Trickle, anonymous, client_config, client_config_with, presenting,
};
use crate::connection::is_local;
use crate::{Bounds, Refused};

/// Starts an agent of that CA, connects with that configuration and returns why it was refused. The agent may have sent
/// only TLS alerts.
#[track_caller]
fn refusal(ca: &Ca, config: rustls::ClientConfig) -> Refused {
    let agent = Agent::start(&Files::new(ca), Bounds::default());
    refusal_by(&agent, config)
}

#[track_caller]
fn refusal_by(agent: &Agent, config: rustls::ClientConfig) -> Refused {
    let mut peer = agent.connect(config);
    let heard = peer.message();
    assert!(heard.is_err(), "the agent said {heard:?}");
    agent.refused()
}

#[track_caller]
fn refused_leaf(change: impl FnOnce(&mut rcgen::CertificateParams)) -> Refused {
    let ca = Ca::new("ca");
    let leaf = ca.leaf("spiffe://demo.internal/operator/alice", change);
    refusal(&ca, client_config(&leaf))
}

#[test]
fn a_verified_operator_is_greeted_first() {
    let ca = Ca::new("ca");
    let (agent, alice) = (
        Agent::start(&Files::new(&ca), Bounds::default()),
        ca.operator("alice"),
    );
    let mut peer = agent.connect(client_config(&alice));
    let ready = peer.message().unwrap();
    assert_eq!(ready["method"], "ready");
    assert_eq!(ready["params"]["service"], "dienstplan");

    let client = agent.opened();
    let conn = &peer.stream.conn;
    assert_eq!(
        client.operator.to_string(),
        "spiffe://demo.internal/operator/alice"
    );
    assert_eq!(client.operator.roles, ["oncall"]);
    assert_eq!(client.peer, peer.stream.sock.local_addr().unwrap());
    assert_eq!(client.certificate, alice.certificate);
    assert_eq!(client.not_after / 60, now_and(8 * HOUR).as_secs() / 60);
    let exporter = conn
        .export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b""))
        .unwrap();
    assert_eq!(client.exporter, exporter);
    assert_eq!(conn.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(conn.alpn_protocol(), Some(debug_wire::ALPN));
    assert_eq!(conn.peer_certificates().unwrap().len(), 1);
}

#[cfg(feature = "aws-lc-rs")]
#[test]
fn the_hybrid_key_exchange_is_used_with_a_client_that_offers_it_and_x25519_with_one_that_does_not() {
    let ca = Ca::new("ca");
    let (agent, alice) = (
        Agent::start(&Files::new(&ca), Bounds::default()),
        ca.operator("alice"),
    );
    let group = |config| {
        let mut peer = agent.connect(config);
        peer.message().unwrap();
        peer.stream.conn.negotiated_key_exchange_group().unwrap().name()
    };
    assert_eq!(group(client_config(&alice)), NamedGroup::X25519MLKEM768);
    let mut older = crate::provider();
    older.kx_groups.remove(0);
    assert_eq!(group(client_config_with(older, &alice)), NamedGroup::X25519);
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    assert_eq!(refusal(&Ca::new("ca"), anonymous()), Refused::NoCertificate);
}

#[test]
fn a_certificate_of_another_ca_is_refused() {
    let stranger = Ca::new("other").operator("alice");
    assert_eq!(
        refusal(&Ca::new("ca"), client_config(&stranger)),
        Refused::UnknownIssuer
    );
    // A CA with the same name but another key.
    let impostor = Ca::new("ca").operator("alice");
    let why = refusal(&Ca::new("ca"), client_config(&impostor));
    assert!(
        matches!(why, Refused::UnknownIssuer | Refused::Certificate(_)),
        "{why:?}"
    );
}

#[test]
fn a_certificate_without_its_key_is_refused() {
    let ca = Ca::new("ca");
    let (alice, mallory) = (ca.operator("alice"), ca.operator("mallory"));
    let why = refusal(&ca, presenting(vec![alice.certificate.clone()], &mallory));
    assert!(matches!(why, Refused::Certificate(_)), "{why:?}");
}

#[test]
fn a_certificate_out_of_its_time_is_refused() {
    let expired = refused_leaf(|p| p.not_after = moment!(-60));
    assert_eq!(expired, Refused::Expired);
    let early = refused_leaf(|p| p.not_before = moment!(HOUR));
    assert_eq!(early, Refused::NotYetValid);
}

#[test]
fn a_certificate_may_be_made_for_a_day_and_no_longer() {
    let ca = Ca::new("ca");
    let id = "spiffe://demo.internal/operator/alice";
    let agent = Agent::start(&Files::new(&ca), Bounds::default());
    // Backdated by an hour.
    agent.attach(&ca.leaf(id, |p| p.not_after = moment!(24 * HOUR - 60)));
    agent.opened();
    let long = refused_leaf(|p| p.not_after = moment!(24 * HOUR + 60));
    assert!(
        matches!(&long, Refused::Identity(why) if why.contains("24 h at most")),
        "{long:?}"
    );
}

#[test]
fn a_certificate_for_another_purpose_is_refused() {
    let none = refused_leaf(|p| p.extended_key_usages.clear());
    assert!(matches!(none, Refused::Identity(_)), "{none:?}");
    let any = refused_leaf(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]);
    assert!(matches!(any, Refused::Certificate(_)), "{any:?}");
    let server = refused_leaf(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert!(matches!(server, Refused::Certificate(_)), "{server:?}");
}

#[test]
fn a_certificate_that_does_not_name_exactly_one_operator_is_refused() {
    let uri = |id: &str| SanType::URI(id.try_into().unwrap());
    let two = refused_leaf(|p| {
        p.subject_alt_names
            .push(uri("spiffe://demo.internal/operator/bob"))
    });
    let names = |n| format!("the certificate has {n} subject alternative names; expected one URI");
    assert_eq!(two, Refused::Identity(names(2)));
    let none = refused_leaf(|p| p.subject_alt_names.clear());
    assert_eq!(none, Refused::Identity(names(0)));
    let elsewhere =
        refused_leaf(|p| p.subject_alt_names = vec![uri("spiffe://other.internal/operator/alice")]);
    assert!(matches!(elsewhere, Refused::Identity(_)), "{elsewhere:?}");

    let ca = Ca::new("ca");
    let agent = refusal(&ca, client_config(&ca.agent()));
    assert!(matches!(agent, Refused::Identity(_)), "{agent:?}");
}

#[test]
fn a_chain_of_more_than_one_certificate_is_refused() {
    let ca = Ca::new("ca");
    let alice = ca.operator("alice");
    let why = refusal(&ca, presenting(vec![alice.certificate.clone(), ca.der()], &alice));
    assert!(
        matches!(&why, Refused::Identity(reason) if reason.contains("1 certificates besides")),
        "{why:?}"
    );
}

#[test]
fn a_revoked_certificate_is_refused_as_the_first_connection_and_another_is_not() {
    let ca = Ca::new("ca");
    let (alice, bob) = (ca.operator("alice"), ca.operator("bob"));
    let files = Files::with(&ca.pem(), &ca.crl(&[&alice]), &ca.agent());
    let agent = Agent::start(&files, Bounds::default());
    assert_eq!(refusal_by(&agent, client_config(&alice)), Refused::Revoked);
    agent.attach(&bob);
}

#[test]
fn nobody_gets_in_once_the_revocation_list_has_expired() {
    let ca = Ca::new("ca");
    let files = Files::with(
        &ca.pem(),
        &ca.crl_until(-HOUR, &[]),
        &ca.leaf_agent_since(-2 * DAY),
    );
    let agent = Agent::start_at(&files, Bounds::default(), now_and(-HOUR - 60));
    let why = refusal_by(&agent, client_config(&ca.operator("alice")));
    assert_eq!((why.code(), why), ("crl-expired", Refused::CrlExpired));
}

#[test]
fn nobody_gets_in_once_the_ca_has_expired() {
    let ca = Ca::valid("ca", -3 * DAY, -HOUR);
    let files = Files::with(&ca.pem(), &ca.crl(&[]), &ca.leaf_agent_since(-2 * DAY));
    let agent = Agent::start_at(&files, Bounds::default(), now_and(-HOUR - 60));
    let why = refusal_by(&agent, client_config(&ca.operator("alice")));
    assert_eq!(
        why,
        Refused::Identity("the CA's own certificate has expired".into())
    );
}

#[test]
fn what_is_not_tls_gets_no_answer_but_an_alert() {
    let ca = Ca::new("ca");
    let agent = Agent::start(&Files::new(&ca), Bounds::default());
    let json = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n";
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        json,
        &[0; 64],
        &[0xff; 4096],
        b"PRI * HTTP/2.0",
    ] {
        let mut tcp = agent.tcp();
        tcp.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = tcp.read_to_end(&mut answer);
        // An alert is a record of type 21 with two bytes; a reset may overtake it.
        assert!(
            answer.is_empty() || (answer[0] == 21 && answer.len() == 7),
            "{answer:?}"
        );
        let why = agent.refused();
        assert!(matches!(why, Refused::NotTls(_)), "{why:?}");
    }
    agent.attach(&ca.operator("alice"));
}

#[test]
fn a_client_that_closes_during_the_handshake_is_forgotten() {
    let ca = Ca::new("ca");
    let agent = Agent::start(&Files::new(&ca), Bounds::default());
    drop(agent.tcp());
    assert_eq!(agent.refused(), Refused::Vanished);
    // The first bytes of an incomplete record.
    agent.tcp().write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
    assert_eq!(agent.refused(), Refused::Vanished);
}

#[test]
fn another_protocol_or_none_is_refused_even_with_a_certificate() {
    let ca = Ca::new("ca");
    let alice = ca.operator("alice");
    for protocols in [vec![b"h2".to_vec(), b"http/1.1".to_vec()], vec![]] {
        let mut config = client_config(&alice);
        config.alpn_protocols = protocols;
        assert_eq!(refusal(&ca, config), Refused::Protocol);
    }
}

#[test]
fn tls_1_2_is_refused() {
    let ca = Ca::new("ca");
    let agent = Agent::start(&Files::new(&ca), Bounds::default());
    let mut tcp = agent.tcp();
    tcp.write_all(&tls_1_2_hello()).unwrap();
    let why = agent.refused();
    assert!(matches!(why, Refused::Incompatible(_)), "{why:?}");
}

/// A ClientHello as an OpenSSL of 2014 would send it: ECDHE-ECDSA-AES128-GCM, P-256, no `supported_versions`.
fn tls_1_2_hello() -> Vec<u8> {
    let extensions: &[&[u8]] = &[
        &[0, 10, 0, 4, 0, 2, 0, 23], // supported_groups: secp256r1
        &[0, 11, 0, 2, 1, 0],        // ec_point_formats: uncompressed
        &[0, 13, 0, 4, 0, 2, 4, 3],  // signature_algorithms: ecdsa_secp256r1_sha256
        &[0, 23, 0, 0],              // extended_master_secret
    ];
    let extensions = extensions.concat();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([
        0,
        0,
        2,
        0xc0,
        0x2b,
        1,
        0,
        0,
        u8::try_from(extensions.len()).unwrap(),
    ]);
    body.extend(extensions);
    let length = u8::try_from(body.len()).unwrap();
    [vec![22, 3, 1, 0, length + 4, 1, 0, 0, length], body].concat()
}

#[test]
fn a_client_hello_in_single_bytes_and_tiny_records_meets_the_same_demand() {
    let ca = Ca::new("ca");
    let agent = Agent::start(&Files::new(&ca), Bounds::default());
    let mut config = client_config(&ca.operator("alice"));
    config.max_fragment_size = Some(32);
    let mut peer = Peer::new(config, Trickle(agent.tcp()));
    assert_eq!(peer.message().unwrap()["method"], "ready");
    agent.opened();

    let mut config = anonymous();
    config.max_fragment_size = Some(32);
    let mut peer = Peer::new(config, Trickle(agent.tcp()));
    assert!(peer.message().is_err());
    assert_eq!(agent.refused(), Refused::NoCertificate);
}

#[test]
fn no_ticket_is_ever_sent_and_every_handshake_is_a_full_one() {
    let ca = Ca::new("ca");
    let (agent, alice) = (
        Agent::start(&Files::new(&ca), Bounds::default()),
        ca.operator("alice"),
    );
    let tickets = Arc::new(Tickets::default());
    let mut config = client_config(&alice);
    config.enable_early_data = true;
    config.resumption =
        Resumption::store(Arc::clone(&tickets) as Arc<dyn rustls::client::ClientSessionStore>);
    for _ in 0..2 {
        let mut peer = agent.connect(config.clone());
        assert!(peer.stream.conn.early_data().is_none());
        assert_eq!(peer.message().unwrap()["method"], "ready");
        assert_eq!(peer.call("hello")["result"]["method"], "hello");
        assert_eq!(peer.stream.conn.handshake_kind(), Some(HandshakeKind::Full));
    }
    assert_eq!(tickets.0.load(Ordering::Relaxed), 0);
}

#[test]
fn the_oldest_of_too_many_unfinished_handshakes_makes_room() {
    let ca = Ca::new("ca");
    let agent = Agent::start(&Files::new(&ca), Bounds::default());
    let silent: Vec<_> = (0..33).map(|_| agent.tcp()).collect();
    match agent.next() {
        Event::Refused(peer, Refused::Displaced) => assert_eq!(peer, silent[0].local_addr().unwrap()),
        other => panic!("{other:?}"),
    }
    // Thirty-two of them are still connected, and an operator is accepted all the same.
    let mut peer = agent.connect(client_config(&ca.operator("alice")));
    assert_eq!(peer.message().unwrap()["method"], "ready");
}

#[test]
fn who_says_nothing_displaces_nobody_who_has_begun() {
    let ca = Ca::new("ca");
    let agent = Agent::start(&Files::new(&ca), Bounds::default());
    let mut begun = agent.tcp();
    begun.write_all(&[0x16, 3, 1]).unwrap();
    // When another handshake is finished, these bytes have been read.
    let mut peer = agent.connect(client_config(&ca.operator("alice")));
    assert_eq!(peer.message().unwrap()["method"], "ready");
    assert!(matches!(agent.next(), Event::Opened(..)));
    let silent: Vec<_> = (0..60).map(|_| agent.tcp()).collect();
    let silent: Vec<_> = silent.iter().map(|stream| stream.local_addr().unwrap()).collect();
    for _ in 0..60 - 31 {
        match agent.next() {
            Event::Refused(peer, Refused::Displaced) => assert!(silent.contains(&peer)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_handshake_that_is_not_finished_in_time_is_refused() {
    let ca = Ca::new("ca");
    let bounds = Bounds {
        handshake: Duration::from_millis(50),
        ..Bounds::default()
    };
    let agent = Agent::start(&Files::new(&ca), bounds);
    let _silent = agent.tcp();
    assert_eq!(agent.refused(), Refused::Timeout);
}

#[test]
fn peers_outside_loopback_are_dropped() {
    for local in ["127.0.0.1:1", "127.255.0.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert!(is_local(local.parse().unwrap()), "{local}");
    }
    for other in [
        "10.0.0.1:1",
        "0.0.0.0:1",
        "[::]:1",
        "[fe80::1]:1",
        "[::ffff:10.0.0.1]:1",
        "128.0.0.1:1",
    ] {
        assert!(!is_local(other.parse().unwrap()), "{other}");
    }
}

impl Ca {
    /// The agent's certificate, valid from that time.
    fn leaf_agent_since(&self, since: i64) -> Leaf {
        self.leaf("spiffe://demo.internal/agent/dienstplan/1", |p| {
            p.not_before = moment!(since)
        })
    }
}
