//! A patched function, called by the service that contains it. Prints nanoseconds per call.
//!
//! The program starts itself again as a service with the agent on, attaches to it as an operator, applies a patch and then only
//! waits: the service notices that the patch is in force and measures itself.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the measurement")]

use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

use debug_agent::Agent;
use debug_bench::{PATCH, PATCHED_CALLS, WARM_CALLS};
use debug_tests::{Certificates, Client, Service, wait};
use tracing_subscriber::prelude::*;

/// The prefix of the number in the service's log.
const RESULT: &str = "nanoseconds per call: ";

#[debug_agent::patchable]
#[inline(never)]
fn price(amount: i64, customer: &str) -> i64 {
    if customer.is_empty() { 0 } else { amount }
}

fn main() {
    if std::env::var_os("DEBUG_AGENT").is_some() {
        serve()
    } else {
        operate()
    }
}

fn operate() {
    let certificates = Certificates::new();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .env("DEBUG_AGENT", "1")
        .env("DEBUG_AGENT_CONFIG", certificates.agent_config());
    let service = Service::spawn(command);
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    client.eval(r#"change("to measure a patched call")"#).ok();
    client
        .eval(&format!("patch(\"patched_call::price\", {PATCH})"))
        .ok();
    let line = service.wait_for_log(RESULT);
    println!("{}", line.trim_start_matches(RESULT));
}

fn serve() {
    let agent = Agent::builder("dienstplan").start_from_env();
    tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().with_ansi(false))
        .with(agent.tracing_layer())
        .init();
    // The line for which the test kit waits in a service's log; this service only serves the agent.
    println!("listening on 127.0.0.1:0");
    wait::until_true("the patch is in force", || price(1000, "anna") == 900);
    for _ in 0..WARM_CALLS {
        price(1000, "anna");
    }
    let started = Instant::now();
    for _ in 0..PATCHED_CALLS {
        // The original would return 1000: the patch answered each call.
        assert_eq!(price(black_box(1000), black_box("anna")), 900);
    }
    println!(
        "{RESULT}{:.1}",
        started.elapsed().as_secs_f64() * 1e9 / f64::from(PATCHED_CALLS)
    );
    // Until the operator has read the line and ends this process.
    wait::until_true("the operator goes", || false);
}
