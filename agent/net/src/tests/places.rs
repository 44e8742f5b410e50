//! The number of sessions, and which one is displaced.

use std::net::TcpStream;
use std::sync::atomic::Ordering;

use super::authority::{Ca, Files};
use super::peer::{Agent, Peer, client_config};
use crate::{Bounds, Closed, Refused};

/// An agent with all places taken: four operators with four sessions each.
fn full(ca: &Ca) -> (Agent, Vec<Peer<TcpStream>>) {
    let agent = Agent::start(&Files::new(ca), Bounds::default());
    let operators: Vec<_> = (0..4).map(|n| ca.operator(&format!("operator-{n}"))).collect();
    let mut peers = Vec::new();
    for _ in 0..4 {
        for operator in &operators {
            peers.push(agent.attach(operator));
            agent.opened();
        }
    }
    (agent, peers)
}

#[test]
fn a_seventeenth_session_is_told_that_all_places_are_in_use() {
    let ca = Ca::new("ca");
    let (agent, mut peers) = full(&ca);
    let mut late = agent.connect(client_config(&ca.operator("late")));
    let failure = late.message().unwrap();
    assert_eq!(failure["error"]["data"]["code"], "limit");
    assert!(
        failure["error"]["message"]
            .as_str()
            .unwrap()
            .starts_with("there are 16 sessions"),
        "{failure}"
    );
    assert!(late.message().is_err());
    let operator = "spiffe://demo.internal/operator/late".to_owned();
    assert_eq!(agent.refused(), Refused::AgentFull { operator, limit: 16 });

    // One session ends, and its place is free.
    peers.remove(3).close_notify();
    assert_eq!(agent.closed(), Closed::Clean);
    agent.attach(&ca.operator("late"));
}

#[test]
fn a_seventeenth_session_displaces_the_longest_idle_of_those_that_hold_nothing() {
    let ca = Ca::new("ca");
    let (agent, mut peers) = full(&ca);
    // All sessions are in use again but the second and third; pings do not count as use.
    for (n, peer) in peers.iter_mut().enumerate() {
        peer.call(if n == 1 || n == 2 { "ping" } else { "hello" });
        assert!(matches!(agent.next(), super::peer::Event::Called));
    }
    agent.recorder.displaceable.store(true, Ordering::Relaxed);
    let mut late = agent.attach(&ca.operator("late"));
    assert_eq!(agent.closed_of(), ("operator-1".into(), Closed::Displaced));
    let farewell = peers[1].message().unwrap();
    assert_eq!(
        farewell["error"]["message"],
        "a newer session took the place of this one"
    );
    assert!(peers[1].message().is_err());
    assert_eq!(late.call("hello")["id"], 7);
}

#[test]
fn a_fifth_session_of_an_operator_displaces_one_of_their_own_only() {
    let ca = Ca::new("ca");
    let agent = Agent::start(&Files::new(&ca), Bounds::default());
    let (alice, bob) = (ca.operator("alice"), ca.operator("bob"));
    let mut oldest = agent.attach(&bob);
    let mut own: Vec<_> = (0..4).map(|_| agent.attach(&alice)).collect();
    for _ in 0..5 {
        agent.opened();
    }

    let mut fifth = agent.connect(client_config(&alice));
    let failure = fifth.message().unwrap();
    assert_eq!(
        failure["error"]["message"],
        "operator `spiffe://demo.internal/operator/alice` has 4 sessions, and all are in use"
    );
    assert!(matches!(agent.refused(), Refused::OperatorFull { limit: 4, .. }));

    agent.recorder.displaceable.store(true, Ordering::Relaxed);
    let mut fifth = agent.attach(&alice);
    assert_eq!(agent.closed_of(), ("alice".into(), Closed::Displaced));
    assert!(own[0].message().unwrap()["error"].is_object());
    assert_eq!(oldest.call("hello")["id"], 7);
    assert_eq!(own[1].call("hello")["id"], 7);
    assert_eq!(fifth.call("hello")["id"], 7);
}
