use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;

/// The most of a request's body that a patch gets, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// The error of a patch for a request with a body longer than [`MAX_BODY`].
pub(crate) const TOO_LONG: &str = "the request's body is over 64 KiB";

/// A request's body of which a part may have been read, and which can be passed on whole.
pub(crate) struct Reading {
    /// The frames read, as they came.
    frames: VecDeque<Result<Frame<Bytes>, axum::Error>>,
    /// The part not read.
    rest: Body,
    end: BodyEnd,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum BodyEnd {
    NotYet,
    Whole,
    TooLong,
    Broken,
}

impl Reading {
    pub(crate) fn new(body: Body) -> Self {
        Self {
            frames: VecDeque::new(),
            rest: body,
            end: BodyEnd::NotYet,
        }
    }

    /// Whether reading is done.
    pub(crate) fn has_ended(&self) -> bool {
        self.end != BodyEnd::NotYet
    }

    /// Whether the client's transfer failed.
    pub(crate) fn is_broken(&self) -> bool {
        self.end == BodyEnd::Broken
    }

    /// Reads up to the end, [`MAX_BODY`] or an error. A body that declares a greater length is not read.
    pub(crate) async fn read(&mut self) {
        let mut left = MAX_BODY;
        if u64::try_from(MAX_BODY).is_ok_and(|most| most < self.rest.size_hint().lower()) {
            self.end = BodyEnd::TooLong;
        }
        while self.end == BodyEnd::NotYet {
            let Some(frame) = self.rest.frame().await else {
                self.end = BodyEnd::Whole;
                return;
            };
            let length = frame
                .as_ref()
                .ok()
                .and_then(Frame::data_ref)
                .map_or(0, Bytes::len);
            match left.checked_sub(length) {
                _ if frame.is_err() => self.end = BodyEnd::Broken,
                Some(less) => left = less,
                None => self.end = BodyEnd::TooLong,
            }
            // Empty frames do not count towards the limit, so they are dropped: they must not fill memory.
            let is_empty = frame
                .as_ref()
                .ok()
                .and_then(Frame::data_ref)
                .is_some_and(Bytes::is_empty);
            if !is_empty {
                self.frames.push_back(frame);
            }
        }
    }

    /// All bytes, if the whole body was read.
    pub(crate) fn whole(&self) -> Option<Vec<u8>> {
        let data = self
            .frames
            .iter()
            .filter_map(|frame| frame.as_ref().ok()?.data_ref());
        (self.end == BodyEnd::Whole).then(|| data.flatten().copied().collect())
    }

    /// The body as it came.
    pub(crate) fn replay(self) -> Body {
        match self.end {
            BodyEnd::NotYet => self.rest,
            BodyEnd::Whole | BodyEnd::TooLong | BodyEnd::Broken => Body::new(Replay {
                frames: self.frames,
                rest: self.rest,
            }),
        }
    }
}

/// The frames read, then the rest.
struct Replay {
    frames: VecDeque<Result<Frame<Bytes>, axum::Error>>,
    rest: Body,
}

impl HttpBody for Replay {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match self.frames.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => Pin::new(&mut self.rest).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let lengths = self
            .frames
            .iter()
            .filter_map(|frame| frame.as_ref().ok()?.data_ref());
        let buffered = lengths
            .map(|data| u64::try_from(data.len()).unwrap_or(u64::MAX))
            .fold(0, u64::saturating_add);
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(buffered));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(buffered));
        }
        hint
    }
}
