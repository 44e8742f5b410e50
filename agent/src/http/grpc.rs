//! Whether a gRPC call failed: its response is 200 all the same, and says so in `grpc-status`, in the headers if there is
//! nothing else to say, otherwise in the trailers.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use std::pin::Pin;
use std::task::{Context, Poll};

use ::http::HeaderMap;
use ::http::header::CONTENT_TYPE;
use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use http_body::{Frame, SizeHint};

use crate::points::Counted;

const STATUS: &str = "grpc-status";

/// Whether headers or trailers say that a call failed; nothing if they do not say how it ended.
pub(super) fn failed(headers: &HeaderMap) -> Option<bool> {
    headers.get(STATUS).map(|status| status.as_bytes() != b"0")
}

/// Counts a call that was answered: of a gRPC call that did not end with its headers, when its trailers are there.
pub(super) fn count(response: Response, counted: Counted) -> Response {
    let error = response.status().is_server_error() || failed(response.headers()) == Some(true);
    if error || failed(response.headers()).is_some() || !is_grpc(response.headers()) {
        counted.over(error);
        return response;
    }
    response.map(|body| Body::new(Counting { body, counted: Some(counted) }))
}

/// In the form with trailers; the one for browsers has them inside its body.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes());
    kind.and_then(|kind| kind.strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// A body whose trailers tell how the call ended. Dropped before, it was the client who left: that is no error.
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
                    // Without a status a call counts as failed, as clients see it.
                    self.over(failed(trailers).unwrap_or(true));
                }
            }
            Poll::Ready(Some(Err(_)) | None) => self.over(true),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        // Whoever asks may not poll again; the trailers must be seen.
        self.counted.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
