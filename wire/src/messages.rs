//! The messages, as in JSON. Unknown members are errors on both sides.

use std::collections::BTreeMap;

use debug_policy::Mode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::table::MethodId;

/// A request of a client. The client chooses `id`; it rises within a session and is returned in the reply.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Always `2.0`.
    pub jsonrpc: Version,
    /// Returned in the reply.
    pub id: u64,
    /// The method.
    pub method: MethodId,
    /// An object that depends on the method; null for none, which is not serialized.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub params: Value,
}

/// A message of the agent: the reply to a call, or a notification. [`FromAgent::parse`] reads it and accepts exactly the members
/// of one of the three forms.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum FromAgent {
    /// The call succeeded.
    Success {
        /// Always `2.0`.
        jsonrpc: Version,
        /// The call's id.
        id: u64,
        /// The result, which depends on the method.
        result: Value,
    },
    /// The call failed. `id` is null only if the call could not be parsed.
    Failure {
        /// Always `2.0`.
        jsonrpc: Version,
        /// The call's id.
        id: Option<u64>,
        /// The failure.
        error: Failure,
    },
    /// A message without a call.
    Notification {
        /// Always `2.0`.
        jsonrpc: Version,
        /// `ready` or `output`.
        method: String,
        /// Its content, which depends on the method.
        params: Value,
    },
}

/// The constant `"2.0"`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Version {
    /// JSON-RPC 2.0.
    #[default]
    #[serde(rename = "2.0")]
    V2,
}

/// Why a call failed: a stable code for programs, a message for people and logs, advice for people.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// The JSON-RPC number: [`Code::number`].
    pub code: i32,
    /// What failed and where, in one line.
    pub message: String,
    /// The stable code and the advice.
    pub data: FailureData,
}

/// The part of a failure that JSON-RPC leaves open.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FailureData {
    /// The stable code.
    pub code: Code,
    /// What to do next; empty if nothing is known to help.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub help: String,
    /// The position of its records, for a failed eval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditRange>,
    /// The ends of leases, for a failed eval that ended some or should have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leases: Option<Box<Ends>>,
}

/// The result of ending a failed eval's leases.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ends {
    /// The leases that it ended. Their end is not undone.
    pub reverted: Vec<u64>,
    /// The leases that it could not end. The agent retries each until it has ended.
    pub standing: Vec<NotEnded>,
}

/// A lease that could not be ended yet.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NotEnded {
    /// Its id.
    pub id: u64,
    /// What it changed: `point:…`, `state:…` or `target:…`.
    pub target: String,
    /// Why it could not be ended.
    pub why: String,
}

/// The last message of an agent that stops. Its stop reverts every change at once, also a confirmed one; after any other end of a
/// session its changes wait for the operator to come back.
pub const AGENT_STOPS: &str = "the agent stops";

/// The stable codes of failures.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Not JSON, or not JSON-RPC 2.0.
    Parse,
    /// A method that this agent does not have.
    Method,
    /// Members missing, unknown or of the wrong type.
    Params,
    /// The signature is missing, wrong, replayed or skipped; the session ends.
    Signature,
    /// A call out of order, such as before `hello`, or an eval while one runs.
    Order,
    /// Denied by policy.
    Denied,
    /// Allowed by policy only with approvals.
    NeedsApproval,
    /// The code itself failed: syntax, types, an unknown name, a `throw`.
    Eval,
    /// A limit ended the eval.
    Limit,
    /// The operator cancelled the eval.
    Cancelled,
    /// The audit log cannot be written, so nothing runs.
    Audit,
    /// The requested thing does not exist or is in another state: an unknown point, a stacked change, a wrong type.
    State,
    /// The agent is at fault.
    Internal,
}

impl Code {
    /// The JSON-RPC error number; numbers that the specification defines have its meaning.
    pub const fn number(self) -> i32 {
        match self {
            Self::Parse => -32700,
            Self::Method => -32601,
            Self::Params => -32602,
            Self::Internal => -32603,
            Self::Signature => -32001,
            Self::Order => -32002,
            Self::Denied => -32003,
            Self::NeedsApproval => -32004,
            Self::Eval => -32005,
            Self::Limit => -32006,
            Self::Cancelled => -32007,
            Self::Audit => -32008,
            Self::State => -32009,
        }
    }
}

/// `ready`: the agent's first message, once it has verified the client.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// [`crate::PROTOCOL`].
    pub protocol: u32,
    /// The agent's version.
    pub version: String,
    /// The service's name.
    pub service: String,
    /// The instance of the service.
    pub instance: String,
    /// The environment, such as `production`.
    pub environment: String,
    /// The origin line of the audit log; evals are signed for it.
    pub origin: String,
}

/// `output`: the output of a running eval, in chunks of at most 64 KiB.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The id of the `eval` call.
    pub id: u64,
    /// The text.
    pub text: String,
}

/// Parameters of `ping` and `audit.checkpoint`: none.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

/// Result of `ping`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PingResult {
    /// The changes in force in the process.
    pub in_force: InForce,
    /// The leases of this session that ended since the last `ping`, the oldest first; of too many only the newest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<EndedLease>,
    /// The patches of this session that failed for the first time since the last `ping`, in the same way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<FailingPatch>,
}

/// A patch that failed in a call, so that the original function answered it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FailingPatch {
    /// Its lease.
    pub id: u64,
    /// What is patched: `point:…`.
    pub target: String,
    /// The number of the failed call, counted from 1.
    pub call: u64,
    /// The reason, with the line of the code if it is known.
    pub why: String,
}

/// A lease that has ended.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EndedLease {
    /// Its id.
    pub id: u64,
    /// What it changed: `point:…`, `state:…` or `target:…`.
    pub target: String,
    /// The word of its terminal record: `expired`, `guard-failed`.
    pub how: String,
    /// The reason, unless the word alone tells it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// Parameters of `hello`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HelloParams {
    /// The client's version, for the record.
    pub version: String,
    /// The size of the newest checkpoint that the client remembers of this origin; 0 if it knows none.
    pub checkpoint: u64,
    /// Whether to take over the leases of a lost session, as an operator does who attaches to continue it. A client that only
    /// looks takes over nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attach: bool,
}

/// Result of `hello`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HelloResult {
    /// The signed checkpoint, a note.
    pub checkpoint: String,
    /// The proof that the log only grew since the client's size, in standard base64; empty for size 0 or an equal size.
    pub consistency: Vec<String>,
    /// The operator's SPIFFE id, as the agent verified it.
    pub operator: String,
    /// The operator's roles.
    pub roles: Vec<String>,
    /// The number of this session.
    pub session: u64,
    /// The leases of a lost session in grace that this session took over; empty unless `attach` asked for it.
    pub resumed: Vec<LeaseSummary>,
    /// The changes in force in the process.
    pub in_force: InForce,
    /// The agent's process.
    pub process: Process,
}

/// A process of a service. Two processes always differ in one of these, even with the same process id, as in containers.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// The process id.
    pub pid: u32,
    /// When the agent in it started, in nanoseconds of the host's clock since boot.
    pub began: u64,
}

/// Parameters of `eval`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EvalParams {
    /// The JSON of an [`EvalPayload`]; exactly these bytes are signed, hashed and recorded.
    pub payload: String,
    /// The operator's signature, standard base64.
    pub sig: String,
    /// The values bound as secrets: name to value and salt. The payload holds `SHA-256(salt || value)`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretArgument>,
}

/// A value bound as a secret.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SecretArgument {
    /// The value.
    pub value: String,
    /// 32 random bytes, standard base64.
    pub salt: String,
}

impl std::fmt::Debug for SecretArgument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretArgument(..)")
    }
}

/// The content of an eval, sent as a string inside [`EvalParams`].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EvalPayload {
    /// The code, in Rhai.
    pub code: String,
    /// Values bound by name before the code runs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, Value>,
    /// The commitments of the values bound as secrets, by name: `SHA-256(salt || value)` in hex.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_args: BTreeMap<String, String>,
    /// Whether it is a plan: it has no effect, and the result lists the effects that it would have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry: bool,
    /// The reason, for a plan: as if it had been given on entering the mode `change`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What happens to the leases of this eval when the session ends; without it no lease can be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
}

/// What happens to the leases of an eval when their session ends.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// They revert 60 s after the session is lost.
    Revert,
    /// They keep their deadline.
    Persist,
    /// Like `Revert`; the client stays connected until they end.
    Hold,
}

/// Result of `eval`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EvalResult {
    /// The value as JSON. What JSON cannot express (a function, an opaque secret) is its display text.
    pub value: Value,
    /// The value as the REPL shows it.
    pub display: String,
    /// The leases that this eval made or changed.
    pub leases: Vec<LeaseSummary>,
    /// The changes in force in the process after the eval.
    pub in_force: InForce,
    /// The mode of the session after the eval.
    pub mode: Mode,
    /// The position of the eval's records; missing while the log cannot be written.
    pub audit: Option<AuditRange>,
    /// Warnings for the operator, such as `not yet on disk`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The changes in force in a process, of all operators.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct InForce {
    /// The number of changes.
    pub count: u64,
    /// Milliseconds until the first of them reverts; null if there is none.
    pub shortest_ms: Option<u64>,
}

/// A lease, in a reply.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseSummary {
    /// Its id.
    pub id: u64,
    /// What it changed: `point:…` or `state:…`.
    pub target: String,
    /// Its state: `provisional`, `confirmed`, or the word of its terminal record.
    pub state: String,
    /// Milliseconds until it reverts; 0 once ended.
    pub remaining_ms: u64,
}

/// The records of an eval.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRange {
    /// The number of its `eval` record.
    pub eval: u64,
    /// Its first record.
    pub first: u64,
    /// Its last record.
    pub last: u64,
    /// A signed checkpoint that covers them.
    pub checkpoint: String,
}

/// Parameters of `cancel`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CancelParams {
    /// The id of the `eval` call to end.
    pub id: u64,
}

/// Parameters of `audit.proof`. With `index`: the proof that this record is in the tree of `size`. With `from`: the proof that
/// the tree of `size` only grew from the tree of `from`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProofParams {
    /// A record's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// An earlier size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// The size of a checkpoint.
    pub size: u64,
}

/// Result of `audit.proof`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProofResult {
    /// RFC 6962 audit path or consistency proof, each hash in standard base64.
    pub hashes: Vec<String>,
    /// For an inclusion proof of the client's own record: its line, for the client to hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
}

/// Result of `audit.checkpoint`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointResult {
    /// The signed checkpoint, a note.
    pub checkpoint: String,
}

#[cfg(test)]
mod tests;
