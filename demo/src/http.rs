//! The routes.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::config::{Config, expose};
use crate::rota::{self, Rota};
use crate::slack::{self, Command, Envelope, Event, Message, Unsigned};

/// The limit on a body, in bytes. Slack's events are a few KiB.
pub const MAX_BODY: usize = 256 * 1024;

/// The state that the handlers share.
#[derive(Clone)]
pub struct Service {
    config: Arc<RwLock<Config>>,
    rota: Arc<RwLock<Rota>>,
}

impl Service {
    /// A service; its configuration and rota may be changed from outside while requests are served.
    #[must_use]
    pub fn new(config: Arc<RwLock<Config>>, rota: Arc<RwLock<Rota>>) -> Self {
        Self { config, rota }
    }

    fn with_config<T>(&self, read: impl FnOnce(&Config) -> T) -> T {
        read(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn check_signature(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Unsigned> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let (timestamp, signature) = (header(slack::TIMESTAMP_HEADER), header(slack::SIGNATURE_HEADER));
        self.with_config(|config| {
            slack::verify(
                expose(&config.slack.sign),
                timestamp,
                signature,
                body,
                Timestamp::now(),
            )
        })
    }

    fn answer(&self, command: &Command) -> String {
        let now = Timestamp::now();
        // The next person is chosen on a copy: under the write lock there is only a swap.
        let rota = self.rota.read().unwrap_or_else(PoisonError::into_inner).clone();
        match command {
            Command::Who => rota::who(&rota, now),
            Command::Rotate => {
                let rotated = rota::rotated(&rota, now);
                let answer = rota::who(&rotated, now);
                *self.rota.write().unwrap_or_else(PoisonError::into_inner) = rotated;
                answer
            }
            Command::Unknown => "I know `who` and `rotate`".into(),
        }
    }
}

/// The routes that need no signature.
pub fn open_routes() -> Router {
    Router::new().route("/api/healthcheck", get(healthcheck))
}

/// The routes that only Slack may call; they belong behind [`signed_by_slack`].
pub fn slack_routes(service: Service) -> Router {
    Router::new()
        .route("/api/events", post(events))
        .with_state(service)
}

/// All routes, with their common layers: the limit on bodies, a log line for each request while `server.access_log` is on, and
/// the answers to unknown routes and methods.
pub fn app(routes: Router, service: Service) -> Router {
    routes
        .fallback(|| async { message(StatusCode::NOT_FOUND, "Page not found") })
        .method_not_allowed_fallback(|| async {
            message(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(service, log_request))
}

/// Lets a request through if Slack signed it.
pub async fn signed_by_slack(
    State(service): State<Service>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    // The limit on the body is stored in the parts.
    let body = Bytes::from_request(Request::from_parts(parts.clone(), body), &()).await?;
    service.check_signature(&parts.headers, &body)?;
    Ok(next.run(Request::from_parts(parts, Body::from(body))).await)
}

async fn log_request(State(service): State<Service>, request: Request, next: Next) -> Response {
    if !service.with_config(|config| config.server.access_log) {
        return next.run(request).await;
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let start = Instant::now();
    let response = next.run(request).await;
    // An axum path is a valid URI path, which contains no control characters.
    tracing::info!(
        "{method} {path} {} in {} µs",
        response.status().as_u16(),
        start.elapsed().as_micros()
    );
    response
}

async fn healthcheck() -> Json<Value> {
    tracing::debug!("the health check is asked for");
    Json(json!({ "status": "ok" }))
}

async fn events(
    State(service): State<Service>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Refusal> {
    let body = body?;
    Ok(Json(match serde_json::from_slice(&body)? {
        Envelope::UrlVerification { challenge } => json!({ "challenge": challenge }),
        Envelope::EventCallback {
            event: Event::AppMention { text, channel },
        } => {
            if service.with_config(|config| config.application.debug) {
                tracing::info!(?channel, ?text, "mentioned");
            }
            let message = Message {
                channel,
                text: service.answer(&Command::parse(&text)),
            };
            // Debug formatting, as Slack users choose the channel and text, and operators may choose parts of them.
            tracing::info!(channel = ?message.channel, text = ?message.text, "would post to Slack");
            json!({ "ok": true, "message": message })
        }
        Envelope::EventCallback { event: Event::Other } | Envelope::Other => json!({ "ok": true }),
    }))
}

/// Why an event was not handled.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The client broke off, or the body is too long.
    #[error("the body cannot be read: {0}")]
    Body(#[from] BytesRejection),
    /// Slack did not sign it.
    #[error("not signed by Slack: {0}")]
    Unsigned(#[from] Unsigned),
    /// It is no event of Slack's.
    #[error("not an event: {0}")]
    Malformed(#[from] serde_json::Error),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Body(rejection) => rejection.status(),
            Self::Unsigned(_) => StatusCode::UNAUTHORIZED,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
        };
        message(status, &self.to_string())
    }
}

fn message(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "message": text }))).into_response()
}
