use std::sync::Arc;

use ::http::{Request, StatusCode};
use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams};
use axum::response::{IntoResponse, Response};
use tower_service::Service;

use super::body::{Reading, TOO_LONG};
use super::cell::{Lesson, RouteCell};
use super::{grpc, request, response};
use debug_base::BootTime;
use debug_points::{Counted, PatchFailure, Slot, run};

/// Passes the request on and makes its route a point when the call ends, also if the call is dropped. Exception: a 405
/// of the router, otherwise any client could make points by trying methods.
pub(crate) async fn learning<S>(
    mut lesson: Lesson,
    request: Request<Body>,
    mut inner: S,
) -> Result<Response, S::Error>
where
    S: Service<Request<Body>>,
    S::Response: IntoResponse,
{
    let answered = inner.call(request).await.map(S::Response::into_response);
    if answered
        .as_ref()
        .is_ok_and(|response| response.status() == StatusCode::METHOD_NOT_ALLOWED)
    {
        lesson.forget();
    }
    count(answered, lesson.counted())
}

fn count<E>(answered: Result<Response, E>, counted: Option<Counted>) -> Result<Response, E> {
    match (answered, counted) {
        (Ok(response), Some(counted)) => Ok(grpc::count(response, counted)),
        (answered, counted) => {
            if let Some(counted) = counted {
                counted.over(true);
            }
            answered
        }
    }
}

/// Answers by the newest layer in force. Without a layer, or without a cell, the original answers the unchanged
/// request.
pub(crate) async fn patched<S>(
    slot: Arc<Slot>,
    cell: Option<Arc<RouteCell>>,
    request: Request<Body>,
    mut inner: S,
) -> Result<Response, S::Error>
where
    S: Service<Request<Body>>,
    S::Response: IntoResponse,
{
    let counted = slot.count();
    let (mut parts, body) = request.into_parts();
    let mut reading = Reading::new(body);
    // A closed route may be armed only to count calls for a guard.
    let answer = match cell.filter(|_| !slot.is_closed()) {
        Some(cell) => answer(&slot, &cell, &mut parts, &mut reading).await,
        None => None,
    };
    let answered = match answer {
        Some(response) => Ok(response),
        None => inner
            .call(Request::from_parts(parts, reading.replay()))
            .await
            .map(S::Response::into_response),
    };
    count(answered, counted)
}

async fn answer(
    slot: &Slot,
    cell: &RouteCell,
    parts: &mut ::http::request::Parts,
    reading: &mut Reading,
) -> Option<Response> {
    // Reading may take long, so the layer is chosen again afterwards: an expired one must not run.
    let (layer, now) = loop {
        let now = BootTime::now();
        let layer = slot.in_force(now)?;
        if reading.has_ended() || !layer.code().mentions_body() {
            break (layer, now);
        }
        reading.read().await;
    };
    if reading.is_broken() {
        return None; // The client's fault, not the patch's: the original sees the same error.
    }
    let params = RawPathParams::from_request_parts(parts, &()).await.ok();
    let response = run(&layer, now, |began| {
        let body = match layer.code().mentions_body() {
            true => Some(reading.whole().ok_or(PatchFailure::Limit(TOO_LONG))?),
            false => None,
        };
        let request = request::tree(parts, params.as_ref(), body.as_deref(), |name| {
            cell.routes().is_opaque(name)
        });
        response::from_tree(layer.code().call(layer.lease(), began, vec![request])?)
            .map_err(PatchFailure::Shape)
    })?;
    if response.status().is_server_error() || grpc::failed(response.headers()) == Some(true) {
        layer.count_error();
    }
    Some(response)
}
