//! Starts the service, with the debug agent in it.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::{Arc, RwLock};

use axum::middleware;
use debug_agent::Agent;
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
    // Inert unless DEBUG_AGENT is set; never makes the service fail.
    let agent = Agent::builder("dienstplan")
        .state_mut("config", config.clone())
        .state_mut("rota", rota.clone())
        .start_from_env();
    let level = EnvFilter::builder()
        .with_default_directive(level.into())
        .from_env_lossy();
    let log = tracing_subscriber::fmt::layer().with_ansi(io::stdout().is_terminal());
    // Operators raise the level of single targets for a while: `log_level("dienstplan::rota", "debug")`.
    let log = log.with_filter(agent.log_filter(level));
    tracing_subscriber::registry()
        .with(log)
        .with(agent.tracing_layer())
        .init();

    let service = Service::new(config, rota);
    // The agent's layer is inside all others, because they are added after it: a patch of `POST /api/events` only answers
    // requests that Slack has signed.
    let signature = middleware::from_fn_with_state(service.clone(), http::signed_by_slack);
    let events = http::slack_routes(service.clone())
        .layer(agent.http_layer().behind("slack"))
        .layer(agent.outside("slack", signature));
    let routes = http::open_routes()
        .layer(agent.http_layer().beside("slack"))
        .merge(events);
    serve::serve(port, http::app(routes, service)).await
}
