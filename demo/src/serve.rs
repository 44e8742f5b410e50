//! Listening, serving and stopping: the same with and without the debug agent.

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::signal;

use crate::config::Mistakes;

/// The time that requests have to finish once the service was asked to stop: 10 seconds, less than service managers usually wait
/// before they kill.
const DRAIN: Duration = Duration::from_secs(10);

/// Why the service does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A wrong configuration.
    #[error("the environment has mistakes:\n{0}")]
    Config(#[from] Mistakes),
    /// The port cannot be used.
    #[error("cannot listen on port {port} of the loopback interface: {source}; choose another SERVER__PORT")]
    Listen {
        /// The configured port.
        port: u16,
        /// The system's error.
        source: io::Error,
    },
    /// A later failure.
    #[error("cannot serve: {0}")]
    Serve(#[from] io::Error),
}

/// Serves on a port of the loopback interface (0: the system chooses) until asked to stop; then finishes the requests in flight,
/// for at most 10 seconds.
///
/// # Errors
/// The port is taken, or listening fails later.
pub async fn serve(port: u16, app: Router) -> Result<(), StartError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(|source| StartError::Listen { port, source })?;
    tracing::info!("listening on {}", listener.local_addr()?);
    let drained = axum::serve(listener, app).with_graceful_shutdown(asked_to_stop());
    let overdue = async {
        asked_to_stop().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        result = drained => result?,
        () = overdue => {}
    }
    tracing::info!("stopped");
    Ok(())
}

/// The exit code; prints the failure to standard error.
pub fn exit(result: Result<(), StartError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is closed there is nothing left to do.
            let _ = writeln!(io::stderr(), "dienstplan: {error}");
            ExitCode::FAILURE
        }
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
