//! Decodes calls and encodes messages. Only this module uses the framing and parsing of `debug_wire`.

use debug_wire::MAX_MESSAGE;
pub(crate) use debug_wire::frame::Decoder;
use debug_wire::messages::{Call, Code, Failure, FromAgent, Ready, Version};

/// A line that is not a call: the reply, and whether reading can go on.
#[derive(Debug)]
pub(crate) struct NoCall {
    /// The id for the reply, if the line had one.
    pub(crate) id: Option<u64>,
    /// The reply.
    pub(crate) failure: Failure,
    /// Whether the line was JSON-RPC, so that the next line may be a call.
    pub(crate) goes_on: bool,
}

/// The next call of a stream; `None` until more bytes arrive.
///
/// # Errors
/// The reply.
pub(crate) fn next(decoder: &mut Decoder) -> Result<Option<Call>, Box<NoCall>> {
    match decoder.next() {
        Ok(None) => Ok(None),
        Ok(Some(line)) => parse(&line).map(Some),
        Err(error) => {
            let help = "send one JSON-RPC 2.0 request a line, in UTF-8, without batches";
            let failure = Failure::new(Code::Parse, error.to_string(), help);
            Err(Box::new(NoCall {
                id: None,
                failure,
                goes_on: false,
            }))
        }
    }
}

/// Parses a line as a call.
///
/// # Errors
/// The reply.
pub(crate) fn parse(line: &[u8]) -> Result<Call, Box<NoCall>> {
    Call::parse(line).map_err(|failure| {
        let id = Call::id_of(line);
        let goes_on = id.is_some() && failure.data.code != Code::Parse;
        Box::new(NoCall { id, failure, goes_on })
    })
}

/// Encodes a message with its newline. A message over the limit is replaced by a failure with the same id, because the
/// client waits for a reply.
pub(crate) fn encode(message: &FromAgent) -> Vec<u8> {
    let line = to_line(message);
    if line.len() <= MAX_MESSAGE + 1 {
        return line;
    }
    let id = match message {
        FromAgent::Success { id, .. } => Some(*id),
        FromAgent::Failure { id, .. } => *id,
        FromAgent::Notification { .. } => None,
    };
    let message = format!(
        "the answer takes {} bytes, a message at most {MAX_MESSAGE}",
        line.len() - 1
    );
    let help = "ask for less at once, such as one part of the state";
    to_line(&FromAgent::failure(id, Code::Limit, message, help))
}

fn to_line(message: &FromAgent) -> Vec<u8> {
    // Cannot fail: no map of these types has keys other than strings. If it did, the client would get an empty line and
    // report a protocol error.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The notification `ready`.
pub(crate) fn ready(ready: &Ready) -> FromAgent {
    let params = serde_json::to_value(ready).unwrap_or_default();
    FromAgent::Notification {
        jsonrpc: Version::V2,
        method: "ready".to_owned(),
        params,
    }
}

/// A failure as a message.
pub(crate) fn failed(id: Option<u64>, error: Failure) -> FromAgent {
    FromAgent::Failure {
        jsonrpc: Version::V2,
        id,
        error,
    }
}
