//! Detects failed gRPC calls. Their response has status 200; `grpc-status` tells the outcome: in the headers of a
//! response without a body, otherwise in the trailers.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use std::pin::Pin;
use std::task::{Context, Poll};

use ::http::HeaderMap;
use ::http::header::CONTENT_TYPE;
use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use http_body::{Frame, SizeHint};

use debug_points::Counted;

const STATUS: &str = "grpc-status";

/// Whether headers or trailers report a failed call; `None` without a `grpc-status`.
pub(crate) fn failed(headers: &HeaderMap) -> Option<bool> {
    headers.get(STATUS).map(|status| status.as_bytes() != b"0")
}

/// Counts an answered call. A gRPC call without the outcome in its headers is counted when its trailers arrive.
pub(crate) fn count(response: Response, counted: Counted) -> Response {
    let error = response.status().is_server_error() || failed(response.headers()) == Some(true);
    if error || failed(response.headers()).is_some() || !is_grpc(response.headers()) {
        counted.over(error);
        return response;
    }
    response.map(|body| {
        Body::new(Counting {
            body,
            counted: Some(counted),
        })
    })
}

/// Whether it is gRPC with trailers; gRPC-Web has them inside the body.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes());
    kind.and_then(|kind| kind.strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// A body with the outcome in its trailers. If it is dropped before, the client left, which is no error.
struct Counting {
    body: Body,
    counted: Option<Counted>,
}

impl Counting {
    fn over(&mut self, error: bool) {
        if let Some(counted) = self.counted.take() {
            counted.over(error);
        }
    }
}

impl HttpBody for Counting {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    // Without a status the call counts as failed, as clients see it.
                    self.over(failed(trailers).unwrap_or(true));
                }
            }
            Poll::Ready(Some(Err(_)) | None) => self.over(true),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        // A caller that gets `true` may stop polling, and the trailers would not be seen.
        self.counted.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
