//! A service with layers of its own around the agent's, or inside of it. Tests start it as a program.
//!
//! HTTP on a port that the system chooses: `GET /admin` requires the header `authorization`, `GET /panic` panics, and `GET /grpc`
//! fails as gRPC calls do. With `ORDER=wrong` the layer that checks the header is inside the agent's. With `ORDER=refused` it is
//! too, and a layer between the two refuses the first request. With `ORDER=forgotten` the agent's layer is declared to be behind
//! it, but it is on no router.
#![forbid(unsafe_code)]
#![allow(clippy::panic, reason = "a program for tests: what fails here fails the test")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use debug_agent::Agent;
use tokio::net::TcpListener;
use tracing_subscriber::prelude::*;

async fn auth(request: Request, next: Next) -> Result<Response, StatusCode> {
    match request.headers().contains_key("authorization") {
        true => Ok(next.run(request).await),
        false => Err(StatusCode::UNAUTHORIZED),
    }
}

/// Like a limit that is reached for a moment.
async fn refuses_the_first(
    State(met): State<Arc<AtomicUsize>>,
    request: Request,
    next: Next,
) -> Result<Response, StatusCode> {
    match met.fetch_add(1, Ordering::Relaxed) {
        0 => Err(StatusCode::TOO_MANY_REQUESTS),
        _ => Ok(next.run(request).await),
    }
}

fn routes(agent: &Agent) -> Router {
    let admin = Router::new().route("/admin", get(async || "the admin's page"));
    let auth = agent.outside("auth", middleware::from_fn(auth));
    let admin = match std::env::var("ORDER").as_deref() {
        Ok("wrong") => admin.layer(auth).layer(agent.http_layer()),
        Ok("refused") => {
            let few = middleware::from_fn_with_state(Arc::new(AtomicUsize::new(0)), refuses_the_first);
            admin.layer(auth).layer(few).layer(agent.http_layer())
        }
        Ok("forgotten") => admin.layer(agent.http_layer().behind("auth")),
        _ => admin.layer(agent.http_layer().behind("auth")).layer(auth),
    };
    let open = Router::new()
        .route("/health", get(async || "well"))
        .route(
            "/panic",
            get(async || if true { panic!("as it does") } else { "never" }),
        )
        .route(
            "/grpc",
            get(async || [("content-type", "application/grpc"), ("grpc-status", "14")]),
        )
        .layer(agent.http_layer().beside("auth"));
    open.merge(admin)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let agent = Agent::builder("layers").start_from_env();
    let log = tracing_subscriber::fmt::layer().with_ansi(false);
    tracing_subscriber::registry()
        .with(log)
        .with(agent.tracing_layer())
        .init();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    tracing::info!("listening on {}", listener.local_addr()?);
    axum::serve(listener, routes(&agent)).await
}
