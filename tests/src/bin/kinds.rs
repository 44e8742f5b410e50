//! A service with states of every kind of value. Tests start it as a program.
//!
//! HTTP on a port that the system chooses: every path shows the states as the service itself sees them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a program for tests: what fails here fails the test"
)]

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, RwLock};

use debug_agent::Agent;
use debug_tests::serve::serve;
use serde::{Deserialize, Serialize};
use tracing_subscriber::prelude::*;

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Kinds {
    text: String,
    integer: i64,
    float: f64,
    truth: bool,
    nothing: Option<u32>,
    letter: char,
    big: u64,
    hidden: debug_agent::Secret<String>,
    list: Vec<String>,
    empty: Vec<u32>,
    numbers: Vec<i64>,
    map: BTreeMap<String, u32>,
    rows: Vec<Row>,
    /// Reserved words of the language, and names that are no identifiers.
    #[serde(rename = "debug")]
    is_debug: bool,
    private: u32,
    import: u32,
    new: u32,
    r#type: u32,
    r#if: u32,
    #[serde(rename = "max-conn")]
    max_conn: u32,
    #[serde(rename = "2fast")]
    fast: u32,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Row {
    name: String,
    weight: u32,
}

fn kinds() -> Kinds {
    let row = |name: &str, weight| Row {
        name: name.to_owned(),
        weight,
    };
    Kinds {
        text: " some Text ".to_owned(),
        integer: 7,
        float: 1.5,
        truth: true,
        nothing: None,
        letter: 'x',
        big: u64::MAX,
        hidden: debug_agent::Secret::new("not-a-real-secret-9".to_owned()),
        list: ["anna", "ben", "chloe"].map(str::to_owned).into(),
        empty: Vec::new(),
        numbers: vec![3, 1, 2],
        map: [("one".to_owned(), 1), ("two".to_owned(), 2)].into(),
        rows: vec![row("a", 1), row("b", 2)],
        is_debug: true,
        private: 1,
        import: 2,
        new: 3,
        r#type: 4,
        r#if: 5,
        max_conn: 6,
        fast: 7,
    }
}

fn main() -> io::Result<()> {
    let kinds = Arc::new(RwLock::new(kinds()));
    let pause_ms = Arc::new(RwLock::new(10_u32));
    let hosts = Arc::new(RwLock::new(vec!["h1".to_owned()]));
    let agent = Agent::builder("kinds")
        .state_mut("kinds", kinds.clone())
        .state_mut("pause_ms", pause_ms.clone())
        .state_mut("hosts", hosts.clone())
        .start_from_env();
    let log = tracing_subscriber::fmt::layer().with_ansi(false);
    tracing_subscriber::registry()
        .with(log)
        .with(agent.tracing_layer())
        .init();
    serve(move |_| {
        let (kinds, pause_ms) = (kinds.read().unwrap(), pause_ms.read().unwrap());
        format!("{kinds:?} pause_ms={pause_ms} hosts={:?}", hosts.read().unwrap())
    })
}
