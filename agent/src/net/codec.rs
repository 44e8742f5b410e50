//! From bytes to calls and from messages to bytes. The one place that knows how `debug_wire` frames and parses.

use debug_wire::MAX_MESSAGE;
use debug_wire::messages::{Call, Code, Failure, FailureData, FromAgent, Ready, Version};

/// Above how many bytes an emptied buffer is given back: a session that once sent a large message is as small as
/// any other afterwards.
const KEPT: usize = 64 << 10;

/// Cuts a stream of bytes into lines of at most [`MAX_MESSAGE`] bytes.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    buffer: Vec<u8>,
    /// How far `buffer` is known to hold no newline, so that bytes arriving one by one cost one look each.
    scanned: usize,
}

impl Decoder {
    /// Takes bytes in; the caller asks for every line before it pushes again, which bounds the buffer.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line, without its newline; `None` until more bytes come.
    ///
    /// # Errors
    /// A line is longer than a message may be.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let unseen = self.buffer.get(self.scanned..).unwrap_or_default();
        let Some(offset) = unseen.iter().position(|b| *b == b'\n') else {
            self.scanned = self.buffer.len();
            return if self.scanned > MAX_MESSAGE { Err(too_long()) } else { Ok(None) };
        };
        let end = self.scanned + offset;
        let rest = self.buffer.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.buffer, rest);
        line.truncate(end);
        self.scanned = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT {
            self.buffer = Vec::new();
        }
        if line.len() > MAX_MESSAGE { Err(too_long()) } else { Ok(Some(line)) }
    }

    /// Whether the stream may end here: not inside a message.
    pub(super) fn finish(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// Reads a line as a call.
///
/// # Errors
/// What to answer before closing: it is not JSON, or not a JSON-RPC 2.0 request.
pub(super) fn parse(line: &[u8]) -> Result<Call, Failure> {
    let text = std::str::from_utf8(line).map_err(|_| parse_failure("the message is not UTF-8".to_owned()))?;
    serde_json::from_str(text).map_err(|e| parse_failure(format!("the message is not a call: {e}")))
}

/// A message as it is sent, its newline included. One that is longer than a message may be becomes the failure that
/// says so, under the same id: the client waits for an answer.
pub(super) fn encode(message: &FromAgent) -> Vec<u8> {
    let line = to_line(message);
    if line.len() <= MAX_MESSAGE + 1 {
        return line;
    }
    let id = match message {
        FromAgent::Success { id, .. } => Some(*id),
        FromAgent::Failure { id, .. } => *id,
        FromAgent::Notification { .. } => None,
    };
    let message = format!("the answer takes {} bytes, a message at most {MAX_MESSAGE}", line.len() - 1);
    to_line(&failed(id, failure(Code::Limit, message, "ask for less at once, such as one part of the state")))
}

fn to_line(message: &FromAgent) -> Vec<u8> {
    // Cannot fail: no map of these types has keys that are not strings. Were it to, an empty line would tell the
    // client that we are broken, which is then the truth.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The notification `ready`.
pub(super) fn ready(ready: &Ready) -> FromAgent {
    let params = serde_json::to_value(ready).unwrap_or_default();
    FromAgent::Notification { jsonrpc: Version::V2, method: "ready".to_owned(), params }
}

/// A failure as a message.
pub(super) fn failed(id: Option<u64>, error: Failure) -> FromAgent {
    FromAgent::Failure { jsonrpc: Version::V2, id, error }
}

/// A failure of that code.
pub(super) fn failure(code: Code, message: String, help: &str) -> Failure {
    Failure { code: code.number(), message, data: FailureData { code, help: help.to_owned(), audit: None } }
}

fn too_long() -> Failure {
    parse_failure(format!("a message is longer than {MAX_MESSAGE} bytes"))
}

fn parse_failure(message: String) -> Failure {
    failure(Code::Parse, message, "send one JSON-RPC 2.0 request a line, in UTF-8, without batches")
}
