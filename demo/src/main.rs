//! Starts the service.

use std::io::{self, IsTerminal, Write};
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use axum::Router;
use debug_agent::Agent;
use dienstplan::config::{Config, Mistakes};
use dienstplan::http::{self, Service};
use dienstplan::rota::Rota;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::signal;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;

/// How long requests may take to finish once we were asked to stop: 10 seconds, less than what service managers
/// usually wait before they kill.
const DRAIN: Duration = Duration::from_secs(10);

/// Why the service does not run.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("the environment has mistakes:\n{0}")]
    Config(#[from] Mistakes),
    #[error("cannot listen on port {port} of the loopback interface: {source}; choose another SERVER__PORT")]
    Listen { port: u16, source: io::Error },
    #[error("cannot serve: {0}")]
    Serve(#[from] io::Error),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do if standard error is closed.
            let _ = writeln!(io::stderr(), "dienstplan: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), StartError> {
    let config = Config::from_env()?;
    let (port, level) = (config.server.port, LevelFilter::from(config.server.loglevel));
    let config = Arc::new(RwLock::new(config));
    let rota = Arc::new(RwLock::new(Rota::example(Timestamp::now())));
    // Inert unless DEBUG_AGENT is set; never fails the service.
    let agent = Agent::builder("dienstplan")
        .state_mut("config", config.clone())
        .state_mut("rota", rota.clone())
        .start_from_env();
    let log = tracing_subscriber::fmt::layer().with_ansi(io::stdout().is_terminal());
    tracing_subscriber::registry().with(log.with_filter(level)).with(agent.tracing_layer()).init();

    let service = Service::new(config, rota);
    let routes = http::routes(service.clone()).layer(agent.http_layer());
    let app = http::access_log(routes, service);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(|source| StartError::Listen { port, source })?;
    tracing::info!("listening on {}", listener.local_addr()?);
    serve(listener, app).await?;
    tracing::info!("stopped");
    Ok(())
}

/// Serves until asked to stop; then finishes the requests in flight, for at most [`DRAIN`].
async fn serve(listener: TcpListener, app: Router) -> io::Result<()> {
    let drained = axum::serve(listener, app).with_graceful_shutdown(asked_to_stop());
    let overdue = async {
        asked_to_stop().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        result = drained => result,
        () = overdue => Ok(()),
    }
}

/// Returns at the first SIGTERM or Ctrl-C.
async fn asked_to_stop() {
    let terminated = async {
        match signal::unix::signal(signal::unix::SignalKind::terminate()) {
            Ok(mut signals) => signals.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = signal::ctrl_c() => {}
        _ = terminated => {}
    }
}
