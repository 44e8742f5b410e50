//! Parsing and making the messages of [`crate::messages`].

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::frame::FrameError;
use crate::json::{self, JsonError, Problem, describe, shown};
use crate::messages::{Call, Code, EvalPayload, Failure, FailureData, FromAgent, Version};
use crate::table::{self, Function, MethodId};
use crate::{MAX_CODE, MAX_REPLY_DEPTH};

/// The members of a call.
const CALL: &[&str] = &["jsonrpc", "id", "method", "params"];
/// The advice for a line that is no call.
const CALL_HELP: &str = "send one JSON-RPC 2.0 request a line: an object with `jsonrpc`, `id`, `method` and, where needed, `params`";

impl Call {
    /// A call of a client. `params` of `()` is left out.
    ///
    /// # Errors
    /// The parameters cannot be written as JSON.
    pub fn new(id: u64, method: MethodId, params: &impl Serialize) -> Result<Self, FrameError> {
        let params =
            serde_json::to_value(params).map_err(|error| FrameError::Unwritable(error.to_string()))?;
        Ok(Self {
            jsonrpc: Version::V2,
            id,
            method,
            params,
        })
    }

    /// Parses a line, without its newline, as a call of a method of this version.
    ///
    /// # Errors
    /// The failure to answer with: [`Code::Parse`] if it is no JSON-RPC 2.0 request, [`Code::Method`] for an unknown method,
    /// [`Code::Params`] if the parameters are no object. [`Call::id_of`] returns the id for the answer.
    pub fn parse(line: &[u8]) -> Result<Self, Failure> {
        let mut members = members(line)?;
        if let Some(unknown) = members.keys().find(|name| !CALL.contains(&name.as_str())) {
            return Err(no_call(format!("unknown member `{}`", shown(unknown))));
        }
        if members.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return Err(no_call("the member `jsonrpc` is not `\"2.0\"`".to_owned()));
        }
        let Some(id) = members.get("id").and_then(Value::as_u64) else {
            return Err(no_call(
                "the member `id` is not a whole number of 64 bits".to_owned(),
            ));
        };
        let Some(name) = members.get("method").and_then(Value::as_str) else {
            return Err(no_call("the member `method` is not a string".to_owned()));
        };
        let Some(method) = table::method(name) else {
            let known: Vec<&str> = table::METHODS.iter().map(|method| method.name).collect();
            let help = format!("this version has the methods {}", known.join(", "));
            return Err(Failure::new(
                Code::Method,
                format!("unknown method `{}`", shown(name)),
                help,
            ));
        };
        let params = match members.remove("params") {
            None => Value::Null,
            Some(object @ Value::Object(_)) => object,
            Some(_) => {
                let message = format!("the parameters of `{}` are not an object", method.name);
                return Err(Failure::new(
                    Code::Params,
                    message,
                    "name each parameter, or leave `params` out",
                ));
            }
        };
        Ok(Self {
            jsonrpc: Version::V2,
            id,
            method: method.id,
            params,
        })
    }

    /// The id of a line that [`Call::parse`] refused, for the answer, if it has one.
    pub fn id_of(line: &[u8]) -> Option<u64> {
        members(line).ok()?.get("id")?.as_u64()
    }

    /// Parses the parameters into the method's type; missing ones are an empty object.
    ///
    /// # Errors
    /// [`Code::Params`]; the message names the member that is missing, unknown or of another type, and shows no value.
    pub fn params<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let read = match &self.params {
            Value::Null => T::deserialize(&Value::Object(Map::new())),
            params => T::deserialize(params),
        };
        read.map_err(|error| {
            let message = format!("parameters of `{}`: {}", self.method.name(), describe(&error));
            Failure::new(
                Code::Params,
                message,
                "the client and the agent may be of different versions",
            )
        })
    }
}

/// The members of a line, if it is an object.
fn members(line: &[u8]) -> Result<Map<String, Value>, Failure> {
    let text = std::str::from_utf8(line).map_err(|_| no_call("the message is not UTF-8".to_owned()))?;
    if text.trim_start().starts_with('[') {
        let message = "batches are not supported".to_owned();
        return Err(Failure::new(
            Code::Parse,
            message,
            "send each call as a line of its own",
        ));
    }
    match json::from_str(text) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(no_call("the message is not an object".to_owned())),
        Err(error) => Err(no_call(error.to_string())),
    }
}

fn no_call(message: String) -> Failure {
    Failure::new(Code::Parse, message, CALL_HELP)
}

impl EvalPayload {
    /// Parses the payload of an eval from the signed string.
    ///
    /// # Errors
    /// [`Code::Params`] if [`crate::json`] or this type rejects it, [`Code::Limit`] if code and arguments together exceed
    /// [`MAX_CODE`].
    pub fn parse(payload: &str) -> Result<Self, Failure> {
        let read: Self = json::from_str(payload).map_err(|error| {
            Failure::new(
                Code::Params,
                format!("payload: {error}"),
                "the client and the agent may be of different versions",
            )
        })?;
        let named = |(name, value): (&String, &Value)| name.len() + value.to_string().len();
        let size = read.code.len() + read.args.iter().map(named).sum::<usize>();
        if size > MAX_CODE {
            let message = format!("code and arguments take {size} bytes, at most {MAX_CODE} are allowed");
            return Err(Failure::new(Code::Limit, message, "send it in parts"));
        }
        Ok(read)
    }

    /// Parses a payload of at most 4 KiB, which is all that a single call takes; `None` for longer ones. So the thread that only
    /// has to know whether a payload is a single call spends no time on one that is none.
    pub fn parse_short(payload: &str) -> Option<Result<Self, Failure>> {
        (payload.len() <= MAX_SINGLE).then(|| Self::parse(payload))
    }

    /// The function, if the code is a single call of it with words, numbers and plain texts as arguments, and is no plan. Agent and
    /// client decide by this rule alone, and before anything is compiled: other code must not run on the thread on which changes
    /// are ended, nor without a record.
    pub fn single_call(&self) -> Option<&'static Function> {
        // A plan ends nothing, so it waits for the workspace like any other code.
        if self.dry {
            return None;
        }
        let code = self.code.trim();
        let code = code.strip_suffix(';').unwrap_or(code).trim_end();
        let (name, rest) = code.split_once('(')?;
        let arguments = rest.strip_suffix(')')?.trim();
        let plain = arguments.is_empty() || arguments.split(',').map(str::trim).all(is_plain);
        table::function(name.trim_end()).filter(|_| plain)
    }
}

/// The limit on the payload of a single call, in bytes: room for a name, an id and a duration.
const MAX_SINGLE: usize = 4 << 10;

/// Whether an argument is a word, a number, or a text of words and spaces.
fn is_plain(argument: &str) -> bool {
    let word = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let text = argument.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    text.map_or(!argument.is_empty() && word(argument), |text| {
        text.split(' ').all(word)
    })
}

impl Failure {
    /// A failure of that code.
    pub fn new(code: Code, message: impl Into<String>, help: impl Into<String>) -> Self {
        let data = FailureData {
            code,
            help: help.into(),
            audit: None,
            leases: None,
        };
        Self {
            code: code.number(),
            message: message.into(),
            data,
        }
    }
}

impl FromAgent {
    /// The reply to a successful call. The client waits for an answer, so a result that cannot be JSON becomes a failure; none of
    /// ours is.
    pub fn success(id: u64, result: &impl Serialize) -> Self {
        match serde_json::to_value(result) {
            Ok(result) => Self::Success {
                jsonrpc: Version::V2,
                id,
                result,
            },
            Err(error) => Self::failure(
                Some(id),
                Code::Internal,
                format!("the result is no JSON: {error}"),
                "",
            ),
        }
    }

    /// The reply to a failed call; `id` is `None` only if the call could not be parsed.
    pub fn failure(
        id: impl Into<Option<u64>>,
        code: Code,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self::Failure {
            jsonrpc: Version::V2,
            id: id.into(),
            error: Failure::new(code, message, help),
        }
    }

    /// A notification.
    ///
    /// # Errors
    /// The parameters cannot be JSON; ours always can.
    pub fn notification(method: &str, params: &impl Serialize) -> Result<Self, FrameError> {
        let params =
            serde_json::to_value(params).map_err(|error| FrameError::Unwritable(error.to_string()))?;
        Ok(Self::Notification {
            jsonrpc: Version::V2,
            method: method.to_owned(),
            params,
        })
    }

    /// Parses a line, without its newline.
    ///
    /// # Errors
    /// It is not exactly one of the three forms, or [`crate::json`] rejects it with the depth [`MAX_REPLY_DEPTH`].
    pub fn parse(line: &[u8]) -> Result<Self, JsonError> {
        let text = std::str::from_utf8(line).map_err(|error| JsonError {
            offset: error.valid_up_to(),
            problem: Problem::Syntax("the message is not UTF-8".to_owned()),
        })?;
        json::read(text, MAX_REPLY_DEPTH)
    }
}

/// All members of the agent's messages; their combination is checked afterwards.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IncomingMembers {
    jsonrpc: Version,
    #[serde(default, deserialize_with = "present")]
    id: Option<Option<u64>>,
    #[serde(default, deserialize_with = "present")]
    result: Option<Value>,
    error: Option<Failure>,
    method: Option<String>,
    #[serde(default, deserialize_with = "present")]
    params: Option<Value>,
}

/// Distinguishes a null member from a missing one.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(input: D) -> Result<Option<T>, D::Error> {
    T::deserialize(input).map(Some)
}

impl<'de> Deserialize<'de> for FromAgent {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        match IncomingMembers::deserialize(input)? {
            IncomingMembers {
                jsonrpc,
                id: Some(Some(id)),
                result: Some(result),
                error: None,
                method: None,
                params: None,
            } => Ok(Self::Success { jsonrpc, id, result }),
            IncomingMembers {
                jsonrpc,
                id: Some(id),
                result: None,
                error: Some(error),
                method: None,
                params: None,
            } => {
                if error.code != error.data.code.number() {
                    return Err(D::Error::custom(
                        "the number of the failure is not that of its code",
                    ));
                }
                Ok(Self::Failure { jsonrpc, id, error })
            }
            IncomingMembers {
                jsonrpc,
                id: None,
                result: None,
                error: None,
                method: Some(method),
                params: Some(params),
            } => Ok(Self::Notification {
                jsonrpc,
                method,
                params,
            }),
            _ => Err(D::Error::custom(
                "the message is neither a reply (`id` and one of `result` and `error`) nor a notification (`method` and `params`)",
            )),
        }
    }
}
