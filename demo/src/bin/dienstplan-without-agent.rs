//! `dienstplan` without the debug agent: `main.rs` without the lines of the agent.
//!
//! Tests compare the two: a disabled agent must leave no trace.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::{Arc, RwLock};

use axum::middleware;
use dienstplan::config::Config;
use dienstplan::http::{self, Service};
use dienstplan::rota::Rota;
use dienstplan::serve::{self, StartError};
use jiff::Timestamp;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;

#[tokio::main]
async fn main() -> ExitCode {
    serve::exit(run().await)
}

async fn run() -> Result<(), StartError> {
    let config = Config::from_env()?;
    let (port, level) = (config.server.port, LevelFilter::from(config.server.loglevel));
    let config = Arc::new(RwLock::new(config));
    let rota = Arc::new(RwLock::new(Rota::example(Timestamp::now())));
    let level = EnvFilter::builder()
        .with_default_directive(level.into())
        .from_env_lossy();
    let log = tracing_subscriber::fmt::layer().with_ansi(io::stdout().is_terminal());
    tracing_subscriber::registry().with(log.with_filter(level)).init();

    let service = Service::new(config, rota);
    let signature = middleware::from_fn_with_state(service.clone(), http::signed_by_slack);
    let events = http::slack_routes(service.clone()).layer(signature);
    let routes = http::open_routes().merge(events);
    serve::serve(port, http::app(routes, service)).await
}
