//! From a stream of bytes to messages, and from messages to lines. Performs no input or output.

use std::io;

use serde::Serialize;

use crate::MAX_MESSAGE;

/// Splits a stream of bytes into messages, each ended by one `
/// `.
///
/// A message is 1 to [`MAX_MESSAGE`] bytes without control bytes (below 0x20): JSON needs none, and a line ended by `\r
/// ` would be a second spelling. An error is final: every later call returns it, and no more bytes are kept.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// The start of the first message that was not returned yet.
    start: usize,
    /// The end of the part of `buffer` that was searched for the end of that message.
    searched: usize,
    failed: Option<FrameError>,
}

impl Decoder {
    /// Takes bytes from the stream.
    ///
    /// Call [`Decoder::next`] until it returns `None` before pushing more: then at most one unfinished message and the bytes of
    /// one push are held.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        // One byte over the limit is enough to detect an unfinished message that is too long.
        let held = self.buffer.len() - self.searched;
        let unfinished = if held == 0 { self.searched } else { 0 };
        let end = bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len());
        let room = (MAX_MESSAGE + 1).saturating_sub(unfinished);
        let kept = if end > room {
            bytes.get(..room).unwrap_or(bytes)
        } else {
            bytes
        };
        self.buffer.extend_from_slice(kept);
    }

    /// The next complete message without its newline, or `None` until more bytes come.
    ///
    /// # Errors
    /// The stream holds something that is not a message.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would end at the first `None`; this one goes on"
    )]
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let unseen = self.buffer.get(self.searched..).unwrap_or_default();
        let found = unseen.iter().position(|b| *b == b'\n');
        let end = self.searched + found.unwrap_or(unseen.len());
        let message = self.buffer.get(self.start..end).unwrap_or_default();
        let fresh = self.buffer.get(self.searched..end).unwrap_or_default();
        let error = match fresh.iter().find(|b| **b < 0x20) {
            _ if message.len() > MAX_MESSAGE => Some(FrameError::TooLong),
            Some(control) => Some(FrameError::Control(*control)),
            None if found.is_some() && message.is_empty() => Some(FrameError::Empty),
            None => None,
        };
        if let Some(error) = error {
            *self = Self {
                failed: Some(error.clone()),
                ..Self::default()
            };
            return Err(error);
        }
        if found.is_none() {
            self.searched = end;
            return Ok(None);
        }
        let message = message.to_vec();
        self.start = end + 1;
        self.searched = self.start;
        Ok(Some(message))
    }

    /// Checks that the stream may end here.
    ///
    /// # Errors
    /// It ends inside a message, or it failed before.
    pub fn finish(&self) -> Result<(), FrameError> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None if self.buffer.len() > self.start => Err(FrameError::Half(self.buffer.len() - self.start)),
            None => Ok(()),
        }
    }
}

/// Encodes a message as one line of compact JSON with its newline.
///
/// # Errors
/// It is longer than [`MAX_MESSAGE`], detected before more than that is written, or it cannot be JSON.
pub fn encode(message: &impl Serialize) -> Result<Vec<u8>, FrameError> {
    let mut line = Bounded(Vec::new());
    match serde_json::to_writer(&mut line, message) {
        Ok(()) => {
            line.0.push(b'\n');
            Ok(line.0)
        }
        Err(error) if error.is_io() => Err(FrameError::TooLong),
        Err(error) => Err(FrameError::Unwritable(error.to_string())),
    }
}

/// A line that cannot grow over the limit.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_MESSAGE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why bytes are no messages, or why a value is none.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FrameError {
    /// A message is over the limit.
    #[error("a message is longer than {MAX_MESSAGE} bytes")]
    TooLong,
    /// A byte that no message may contain.
    #[error("a message holds the control byte 0x{0:02x}: expected JSON on one line, ended by `\\n` alone")]
    Control(u8),
    /// A line is empty: two newlines follow each other.
    #[error("a line is empty: expected one JSON message a line")]
    Empty,
    /// The stream ended inside a message, after this number of its bytes.
    #[error("the stream ended {0} bytes into a message")]
    Half(usize),
    /// The value cannot be written as JSON.
    #[error("the message cannot be written as JSON: {0}")]
    Unwritable(String),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(decoder: &mut Decoder) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut messages = Vec::new();
        while let Some(message) = decoder.next()? {
            messages.push(message);
        }
        Ok(messages)
    }

    #[track_caller]
    fn refused(bytes: &[u8], error: &FrameError) {
        for size in [1, 7, bytes.len()] {
            let mut decoder = Decoder::default();
            let seen = bytes.chunks(size).find_map(|chunk| {
                decoder.push(chunk);
                drain(&mut decoder).err()
            });
            assert_eq!(seen.as_ref(), Some(error));
            decoder.push(b"{}\n");
            assert_eq!(decoder.next().as_ref(), Err(error), "an error is final");
            assert_eq!(decoder.finish().as_ref(), Err(error));
        }
    }

    #[test]
    fn a_message_ends_with_one_newline_and_holds_no_control_byte() {
        refused(b"{}\r\n", &FrameError::Control(b'\r'));
        refused(b"{\0}\n", &FrameError::Control(0));
        refused(b"{\t}\n", &FrameError::Control(b'\t'));
        refused(b"\n", &FrameError::Empty);
        refused(b"{}\n\n", &FrameError::Empty);
        // The error does not wait for the end of the line.
        refused(b"{}\r", &FrameError::Control(b'\r'));
    }

    #[test]
    fn a_message_of_the_longest_length_passes_and_one_byte_more_does_not() {
        let mut longest = vec![b'x'; MAX_MESSAGE];
        longest.push(b'\n');
        for size in [1 << 10, 1 << 16, longest.len()] {
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for chunk in longest.chunks(size) {
                decoder.push(chunk);
                seen.extend(drain(&mut decoder).unwrap());
            }
            assert_eq!(seen.len(), 1);
            assert_eq!(seen[0].len(), MAX_MESSAGE);
            assert_eq!(decoder.finish(), Ok(()));

            let mut decoder = Decoder::default();
            let mut over = vec![b'x'; MAX_MESSAGE + 1];
            over.push(b'\n');
            let failed = over.chunks(size).find_map(|chunk| {
                decoder.push(chunk);
                drain(&mut decoder).err()
            });
            assert_eq!(failed, Some(FrameError::TooLong));
        }
    }

    #[test]
    fn nothing_over_the_bound_is_kept() {
        let mut decoder = Decoder::default();
        decoder.push(&vec![b'x'; 8 * MAX_MESSAGE]);
        assert!(decoder.buffer.len() <= MAX_MESSAGE + 1);
        assert_eq!(decoder.next(), Err(FrameError::TooLong));
        assert_eq!(decoder.buffer.capacity(), 0);
        let mut decoder = Decoder::default();
        for _ in 0..8 {
            decoder.push(&vec![b'x'; MAX_MESSAGE / 4]);
            if decoder.next().is_err() {
                return;
            }
            assert!(decoder.buffer.len() <= MAX_MESSAGE);
        }
        panic!("nothing was refused");
    }

    #[test]
    fn a_stream_that_ends_inside_a_message_tells() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.finish(), Ok(()));
        decoder.push(b"{}\n{");
        assert_eq!(decoder.next(), Ok(Some(b"{}".to_vec())));
        assert_eq!(decoder.next(), Ok(None));
        assert_eq!(decoder.finish(), Err(FrameError::Half(1)));
        decoder.push(b"}\n");
        assert_eq!(decoder.next(), Ok(Some(b"{}".to_vec())));
        assert_eq!(decoder.finish(), Ok(()));
    }

    #[test]
    fn what_is_written_is_one_line_within_the_bound() {
        assert_eq!(encode(&"a\nb\r\0").unwrap(), b"\"a\\nb\\r\\u0000\"\n");
        assert_eq!(
            encode(&"x".repeat(MAX_MESSAGE - 2)).unwrap().len(),
            MAX_MESSAGE + 1
        );
        assert_eq!(encode(&"x".repeat(MAX_MESSAGE - 1)), Err(FrameError::TooLong));
        let no_json = std::collections::BTreeMap::from([((1, 2), 3)]);
        assert!(matches!(encode(&no_json), Err(FrameError::Unwritable(_))));
    }

    proptest! {
        #[test]
        fn the_cuts_of_the_stream_do_not_matter(
            messages in proptest::collection::vec("[ -~]{1,30}", 0..10),
            cuts in proptest::collection::vec(1..40_usize, 1..60),
        ) {
            let stream: Vec<u8> = messages.iter().flat_map(|m| format!("{m}\n").into_bytes()).collect();
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            let mut rest = stream.as_slice();
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() { break; }
                let (now, later) = rest.split_at(cut.min(rest.len()));
                decoder.push(now);
                seen.extend(drain(&mut decoder).unwrap());
                rest = later;
            }
            let expected: Vec<Vec<u8>> = messages.into_iter().map(String::into_bytes).collect();
            prop_assert_eq!(seen, expected);
            prop_assert_eq!(decoder.finish(), Ok(()));
        }

        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            let _ = drain(&mut decoder);
            let _ = decoder.finish();
        }
    }
}
