//! A service with crates that use `log`, and with a `tracing_log::LogTracer` that passes their events to its subscriber. Tests
//! start it as a program.
//!
//! HTTP on a port that the system chooses: each request emits an event of level DEBUG below `logged::old` and one below
//! `logged::other`, and answers with the maximum level of `log`. With `LOGGER=own` the logger is the service's own, which prints
//! everything.
#![allow(
    clippy::unwrap_used,
    reason = "a program for tests: what fails here fails the test"
)]

use std::io;

use debug_agent::Agent;
use debug_tests::serve::serve;
use log::LevelFilter;
use tracing_subscriber::filter::LevelFilter as Most;
use tracing_subscriber::prelude::*;

/// Prints every event.
struct Own;

impl log::Log for Own {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        tracing::info!("own logger: {}", record.args());
    }

    fn flush(&self) {}
}

fn main() -> io::Result<()> {
    let agent = Agent::builder("logged").start_from_env();
    match std::env::var("LOGGER").as_deref() {
        Ok("own") => {
            log::set_logger(&Own).unwrap();
            log::set_max_level(LevelFilter::Info);
        }
        _ => tracing_log::LogTracer::init_with_filter(LevelFilter::Info).unwrap(),
    }
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_filter(agent.log_filter(Most::INFO));
    let subscriber = tracing_subscriber::registry()
        .with(lines)
        .with(agent.tracing_layer());
    tracing::subscriber::set_global_default(subscriber).unwrap();
    serve(|path| {
        log::debug!(target: "logged::old", "old {path}");
        log::debug!(target: "logged::other", "other {path}");
        log::max_level().to_string()
    })
}
