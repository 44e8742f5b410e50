//! A service that moves, removes, fills and empties elements of its states. Tests start it as a program.
//!
//! HTTP on a port that the system chooses: `GET /state` shows everything as JSON. `/pop` removes the first backend, `/rotate`
//! moves it to the end, `/replace` replaces the second one, `/twin` gives the second of those with keys the key of the first,
//! `/swap` reverses these. `/turn` moves the first peer to the end, `/tell` writes the token of the peer `p1` where no secret is
//! expected.
#![allow(
    clippy::unwrap_used,
    reason = "a program for tests: what fails here fails the test"
)]

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::{Arc, RwLock};

use debug_agent::Agent;
use debug_tests::serve::serve;
use serde::{Deserialize, Serialize};
use tracing_subscriber::prelude::*;

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Backend {
    name: String,
    weight: u32,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Pool {
    backends: Vec<Backend>,
    ring: Vec<Backend>,
    tags: BTreeSet<String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Opt {
    rate: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    hosts: Vec<String>,
    on: HashMap<String, bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proxy: Option<String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Peer {
    host: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

fn peers() -> Vec<Peer> {
    let peer = |n: u32| Peer {
        host: format!("p{n}"),
        token: Some(format!("not-a-real-token-{n}")),
    };
    [1, 2].map(peer).to_vec()
}

fn backends() -> Vec<Backend> {
    let backend = |(name, weight): (&str, u32)| Backend {
        name: name.to_owned(),
        weight,
    };
    [("a", 1), ("b", 1), ("c", 0)].map(backend).to_vec()
}

fn main() -> io::Result<()> {
    let tags = BTreeSet::from(["new".to_owned(), "old".to_owned()]);
    let pool = Arc::new(RwLock::new(Pool {
        backends: backends(),
        ring: backends(),
        tags,
    }));
    let on = HashMap::from([("alpha".to_owned(), true)]);
    let opt = Arc::new(RwLock::new(Opt {
        rate: 1,
        hosts: vec!["h1".to_owned()],
        on,
        proxy: None,
    }));
    let peers = Arc::new(RwLock::new(peers()));
    let agent = Agent::builder("moving")
        .state_mut("pool", pool.clone())
        .state_mut("opt", opt.clone())
        .state_mut("peers", peers.clone())
        .key("pool.ring", "name")
        .key("pol.ring", "name")
        .start_from_env();
    let log = tracing_subscriber::fmt::layer().with_ansi(false);
    tracing_subscriber::registry()
        .with(log)
        .with(agent.tracing_layer())
        .init();
    serve(move |path| {
        let pool = &mut *pool.write().unwrap();
        match path {
            "/pop" => drop(pool.backends.remove(0)),
            "/rotate" => pool.backends.rotate_left(1),
            "/replace" => {
                pool.backends[1] = Backend {
                    name: "new".to_owned(),
                    weight: 0,
                }
            }
            "/twin" => pool.ring[1].name = pool.ring[0].name.clone(),
            "/swap" => pool.ring.reverse(),
            "/turn" => peers.write().unwrap().rotate_left(1),
            "/tell" => {
                let token = peers
                    .read()
                    .unwrap()
                    .iter()
                    .find(|peer| peer.host == "p1")
                    .unwrap()
                    .token
                    .clone();
                opt.write().unwrap().proxy = token;
            }
            _ => {}
        }
        serde_json::json!({ "pool": pool, "opt": &*opt.read().unwrap() }).to_string()
    })?;
    drop(agent);
    Ok(())
}
