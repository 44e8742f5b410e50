//! Sessions between `ready` and their end.

use std::io;
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use debug_wire::MAX_MESSAGE;
use serde_json::json;

use super::authority::{Ca, Files, HOUR, moment};
use super::peer::{Agent, PATIENCE, Peer, Trickle, client_config, output};
use crate::{Bounds, Closed, ListenError, start};

fn attached(bounds: Bounds) -> (Agent, Peer<TcpStream>) {
    let ca = Ca::new("ca");
    let agent = Agent::start(&Files::new(&ca), bounds);
    let peer = agent.attach(&ca.operator("alice"));
    agent.opened();
    (agent, peer)
}

/// Sends bytes; expects one failure with that code, and the end.
#[track_caller]
fn refused_message(bytes: &[u8], reason: &str) {
    // Enough time to read what the client still sends, also on a busy host.
    let (agent, mut peer) = attached(Bounds {
        farewell: PATIENCE,
        ..Bounds::default()
    });
    peer.send(bytes);
    let failure = peer.message().unwrap();
    assert_eq!(failure["id"], serde_json::Value::Null, "{failure}");
    assert_eq!(failure["error"]["data"]["code"], "parse");
    assert!(
        failure["error"]["message"].as_str().unwrap().contains(reason),
        "{failure}"
    );
    assert!(!failure["error"]["data"]["help"].as_str().unwrap().is_empty());
    assert_eq!(peer.message().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    match agent.closed() {
        Closed::Protocol(why) => assert!(why.contains(reason), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn calls_are_answered_in_order_however_they_are_cut() {
    let (_agent, mut peer) = attached(Bounds::default());
    let one =
        |method: &str, id: u64| format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"{method}\"}}\n");
    peer.send(
        [&*one("ping", 1), &*one("hello", 2), "{\"jsonrpc\":\"2.0\","]
            .concat()
            .as_bytes(),
    );
    assert_eq!(peer.message().unwrap()["result"]["method"], "ping");
    assert_eq!(peer.message().unwrap()["result"]["method"], "hello");
    peer.send(b"\"id\":3,\"method\":\"cancel\"}\n");
    assert_eq!(peer.message().unwrap()["id"], 3);
}

#[test]
fn a_client_that_sends_single_bytes_is_served() {
    let ca = Ca::new("ca");
    let agent = Agent::start(&Files::new(&ca), Bounds::default());
    let mut peer = Peer::new(client_config(&ca.operator("alice")), Trickle(agent.tcp()));
    peer.message().unwrap();
    for byte in b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n" {
        peer.send(&[*byte]);
    }
    assert_eq!(peer.message().unwrap()["result"]["method"], "ping");
}

#[test]
fn a_message_may_be_as_long_as_the_bound_and_no_longer() {
    let (_agent, mut peer) = attached(Bounds::default());
    let call = |filler: &str| {
        format!(
            "{}\n",
            json!({ "jsonrpc": "2.0", "id": 1, "method": "cancel", "params": { "do": filler, "size": 1000 } })
        )
    };
    let largest = call(&"m".repeat(MAX_MESSAGE + 1 - call("").len()));
    assert_eq!(largest.len(), MAX_MESSAGE + 1);
    peer.send(largest.as_bytes());
    // The reply would exceed the limit of a message, so it is a failure.
    assert_eq!(peer.message().unwrap()["error"]["data"]["code"], "limit");

    refused_message(&vec![b'x'; MAX_MESSAGE + 1], "longer than 1048576 bytes");
}

#[test]
fn a_client_that_is_still_sending_learns_why_it_was_refused() {
    // A reset because of unread bytes would destroy the failure.
    refused_message(&vec![b'x'; 7 * MAX_MESSAGE], "longer than 1048576 bytes");
}

#[test]
fn what_is_no_call_is_answered_once_and_ends_the_session() {
    refused_message(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "control byte");
    refused_message(b"\xff\xfe\n", "not UTF-8");
    refused_message(b"[]\n", "batches");
    refused_message(b"\n", "empty");
}

#[test]
fn an_end_inside_a_message_is_a_protocol_error_and_one_between_messages_is_clean() {
    let (agent, mut peer) = attached(Bounds::default());
    peer.send(b"{\"jsonrpc\":");
    peer.close_notify();
    assert_eq!(
        agent.closed(),
        Closed::Protocol("the client closed inside a message".into())
    );

    let (agent, mut peer) = attached(Bounds::default());
    peer.call("hello");
    peer.close_notify();
    assert_eq!(agent.closed(), Closed::Clean);
    assert_eq!(peer.message().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_client_that_vanishes_is_lost_and_its_outbox_knows() {
    let (agent, peer) = attached(Bounds::default());
    let outbox = agent.recorder.outboxes.lock().unwrap()[0].clone();
    assert_eq!(outbox.closed(), None);
    drop(peer);
    let why = agent.closed();
    assert!(matches!(why, Closed::Lost(_)), "{why:?}");
    assert_eq!(outbox.closed(), Some(why.clone()));
    assert_eq!(outbox.send(output(1)), Err(why));
}

#[test]
fn the_agent_can_end_a_session_and_what_it_sent_arrives() {
    let (agent, mut peer) = attached(Bounds::default());
    assert_eq!(peer.call("close")["result"]["method"], "close");
    assert_eq!(peer.message().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(agent.closed(), Closed::Ended);

    let (agent, mut peer) = attached(Bounds::default());
    let outbox = agent.recorder.outboxes.lock().unwrap()[0].clone();
    outbox.send(output(100_000)).unwrap();
    outbox.close();
    assert_eq!(outbox.send(output(1)), Err(Closed::Ended));
    assert_eq!(peer.message().unwrap()["method"], "output");
    assert_eq!(peer.message().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(agent.closed(), Closed::Ended);
}

#[test]
fn a_client_that_does_not_read_is_lost() {
    let (agent, mut peer) = attached(Bounds::default());
    peer.ask("flood");
    assert_eq!(agent.closed(), Closed::SlowReader);
    // The queue held at most the bound.
    let sent = agent.recorder.sent.load(std::sync::atomic::Ordering::Relaxed);
    assert!(sent * (64 << 10) <= MAX_MESSAGE, "{sent} chunks");
}

#[test]
fn output_that_waits_for_room_reaches_a_client_that_reads() {
    let (agent, mut peer) = attached(Bounds::default());
    let outbox = agent.recorder.outboxes.lock().unwrap()[0].clone();
    let writer = std::thread::spawn(move || {
        for _ in 0..128 {
            outbox.send_patiently(output(64 << 10), PATIENCE)?;
        }
        Ok::<(), Closed>(())
    });
    for _ in 0..128 {
        assert_eq!(
            peer.message().unwrap()["params"]["text"].as_str().unwrap().len(),
            64 << 10
        );
    }
    writer.join().unwrap().unwrap();
}

#[test]
fn output_does_not_wait_for_ever() {
    let (agent, _peer) = attached(Bounds::default());
    let outbox = agent.recorder.outboxes.lock().unwrap()[0].clone();
    let patience = Duration::from_millis(20);
    let why =
        std::iter::repeat_with(|| outbox.send_patiently(output(64 << 10), patience)).find_map(Result::err);
    assert_eq!(why, Some(Closed::SlowReader));
    assert_eq!(agent.closed(), Closed::SlowReader);
}

#[test]
fn a_silent_client_is_lost() {
    let bounds = Bounds {
        silence: Duration::from_millis(100),
        ..Bounds::default()
    };
    let (agent, _peer) = attached(bounds);
    assert_eq!(agent.closed(), Closed::Lost("nothing came for 0 s".into()));
}

#[test]
fn pings_keep_a_session_alive_but_not_in_use() {
    let (silence, idle) = (Duration::from_secs(1), Duration::from_secs(2));
    let (agent, mut peer) = attached(Bounds {
        silence,
        idle,
        ..Bounds::default()
    });
    let begin = Instant::now();
    let last = loop {
        let message = peer.call("ping");
        if message["id"] != 7 {
            break message;
        }
        assert!(begin.elapsed() < PATIENCE, "the pings count as use");
    };
    // Longer than `silence` allows, so pings count there; no longer than `idle` allows, so they do not count there.
    assert!(begin.elapsed() > silence, "{:?}", begin.elapsed());
    assert_eq!(last["error"]["message"], "the session was idle for too long");
    assert_eq!(agent.closed(), Closed::Idle);
}

#[test]
fn a_session_ends_with_its_certificate() {
    let ca = Ca::new("ca");
    let agent = Agent::start(&Files::new(&ca), Bounds::default());
    let brief = ca.leaf("spiffe://demo.internal/operator/alice", |p| {
        p.not_after = moment!(3)
    });
    let mut peer = agent.attach(&brief);
    assert_eq!(
        peer.message().unwrap()["error"]["message"],
        "the certificate expired"
    );
    assert_eq!(agent.closed(), Closed::Lost("the certificate expired".into()));
    // An operator with a valid certificate is still accepted.
    agent.attach(&ca.leaf("spiffe://demo.internal/operator/bob", |p| {
        p.not_after = moment!(HOUR)
    }));
}

#[test]
fn a_failure_in_the_agent_ends_one_session_only() {
    let ca = Ca::new("ca");
    let agent = Agent::start(&Files::new(&ca), Bounds::default());
    let (mut alice, mut bob) = (
        agent.attach(&ca.operator("alice")),
        agent.attach(&ca.operator("bob")),
    );
    alice.ask("panic");
    assert_eq!(
        agent.closed_of(),
        (
            "alice".into(),
            Closed::Lost("the agent failed while serving it".into())
        )
    );
    assert!(alice.message().is_err());
    assert_eq!(bob.call("hello")["id"], 7);
    assert_eq!(agent.attach(&ca.operator("carol")).call("hello")["id"], 7);
    assert_eq!(
        agent.recorder.panicked.load(Ordering::SeqCst),
        1,
        "and it is told"
    );
}

/// `refused` and `closed` panic on the net thread; neither panic may end it.
#[test]
fn a_failure_in_the_agent_while_a_connection_comes_or_goes_keeps_nobody_out() {
    let ca = Ca::new("ca");
    let agent = Agent::start(&Files::new(&ca), Bounds::default());
    let panics = &agent.recorder.panics;
    panics.store(true, Ordering::SeqCst);
    // Not TLS: the connection is refused, and the report of that panics.
    drop(agent.tcp());
    wait_until(|| agent.recorder.panicked.load(Ordering::SeqCst) == 1);
    let alice = agent.attach(&ca.operator("alice"));
    agent.opened();
    drop(alice);
    wait_until(|| agent.recorder.panicked.load(Ordering::SeqCst) == 2);
    panics.store(false, Ordering::SeqCst);
    assert_eq!(agent.attach(&ca.operator("bob")).call("hello")["id"], 7);
}

/// Before there is a session no end is reported: the connection ends, and its place is free.
#[test]
fn a_failure_in_the_agent_while_a_client_is_greeted_costs_that_connection() {
    let ca = Ca::new("ca");
    let bounds = Bounds {
        sessions: 1,
        ..Bounds::default()
    };
    let agent = Agent::start(&Files::new(&ca), bounds);
    agent.recorder.greeting_panics.store(true, Ordering::SeqCst);
    assert!(
        agent
            .connect(client_config(&ca.operator("alice")))
            .message()
            .is_err()
    );
    wait_until(|| agent.recorder.panicked.load(Ordering::SeqCst) == 1);
    agent.recorder.greeting_panics.store(false, Ordering::SeqCst);
    assert_eq!(agent.attach(&ca.operator("bob")).call("hello")["id"], 7);
}

fn wait_until(holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(
            begin.elapsed() < Duration::from_secs(30),
            "it does not come to that"
        );
        std::thread::yield_now();
    }
}

#[test]
fn stopping_takes_less_than_a_second_and_tells_everybody() {
    let ca = Ca::new("ca");
    let agent = Agent::start(&Files::new(&ca), Bounds::default());
    let mut peer = agent.attach(&ca.operator("alice"));
    agent.opened();
    let (address, _silent) = (agent.net.address, agent.tcp());

    let begin = Instant::now();
    agent.net.shutdown();
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    match agent.events.recv_timeout(PATIENCE).unwrap() {
        super::peer::Event::Closed(_, Closed::Shutdown) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(peer.message().unwrap()["error"]["message"], "the agent stops");
    assert_eq!(peer.message().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn an_address_in_use_is_told_from_one_that_is_refused() {
    let ca = Ca::new("ca");
    let files = Files::new(&ca);
    let agent = Agent::start(&files, Bounds::default());
    let again = |address: &str| {
        let recorder = std::sync::Arc::clone(&agent.recorder);
        start(
            address.parse().unwrap(),
            files.load().unwrap(),
            recorder,
            Bounds::default(),
        )
    };
    assert!(
        matches!(again(&agent.net.address.to_string()), Err(ListenError::InUse(a)) if a == agent.net.address)
    );
    // An address for documentation (RFC 5737) that no host has.
    assert!(matches!(again("192.0.2.1:7777"), Err(ListenError::Listen { .. })));
}
