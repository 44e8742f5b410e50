//! The messages, as they stand in JSON. Unknown members are errors on both sides.

use std::collections::BTreeMap;

use debug_policy::Mode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A request of a client. `id` is chosen by the client, rises within a session and comes back in the reply.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Always `2.0`.
    pub jsonrpc: Version,
    /// Returned with the reply.
    pub id: u64,
    /// A name of [`crate::table::METHODS`].
    pub method: String,
    /// An object, or null for none, which is not written; what is in it depends on the method.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub params: Value,
}

/// What the agent sends: the reply to a call, or a notification. Read by [`FromAgent::parse`], which takes exactly the
/// members of one of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum FromAgent {
    /// The call succeeded.
    Success {
        /// Always `2.0`.
        jsonrpc: Version,
        /// The call's.
        id: u64,
        /// What depends on the method.
        result: Value,
    },
    /// The call failed. `id` is null only where the call could not be read.
    Failure {
        /// Always `2.0`.
        jsonrpc: Version,
        /// The call's.
        id: Option<u64>,
        /// Why.
        error: Failure,
    },
    /// Nobody asked for it.
    Notification {
        /// Always `2.0`.
        jsonrpc: Version,
        /// `ready` or `output`.
        method: String,
        /// What depends on the method.
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
    /// What happened and where, in one line.
    pub message: String,
    /// The stable code and the advice.
    pub data: FailureData,
}

/// The part of a failure that JSON-RPC leaves to us.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FailureData {
    /// The stable code.
    pub code: Code,
    /// What to do next; empty if nothing is known to help.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub help: String,
    /// For a failed eval: where its records are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditRange>,
    /// For a failed eval that ended leases, or should have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leases: Option<Box<Ends>>,
}

/// What became of the leases that a failed eval was to end.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ends {
    /// Those that it ended. That is not undone.
    pub reverted: Vec<u64>,
    /// Those that it could not end. Each is tried again until it has ended.
    pub standing: Vec<Standing>,
}

/// A lease that could not be ended yet.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// Its id.
    pub id: u64,
    /// What it changed: `point:…`, `state:…` or `target:…`.
    pub target: String,
    /// What stood in the way.
    pub why: String,
}

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
    /// Policy refuses.
    Denied,
    /// Policy would allow it with approvals.
    NeedsApproval,
    /// The code failed by itself: syntax, types, an unknown name, a `throw`.
    Eval,
    /// A limit ended it.
    Limit,
    /// The operator cancelled it.
    Cancelled,
    /// The audit log cannot be written, so nothing runs.
    Audit,
    /// What was asked for does not exist or is in another state: an unknown point, a stacked change, a wrong type.
    State,
    /// The agent is at fault.
    Internal,
}

impl Code {
    /// The JSON-RPC error number; those the specification defines are used as it defines them.
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

/// `ready`: the first thing the agent says, once it has verified the client.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// [`crate::PROTOCOL`].
    pub protocol: u32,
    /// The agent's version.
    pub version: String,
    /// The service's name.
    pub service: String,
    /// Which instance of it.
    pub instance: String,
    /// Such as `production`.
    pub environment: String,
    /// The origin line of the audit log; evals are signed for it.
    pub origin: String,
}

/// `output`: what a running eval printed, in chunks of at most 64 KiB.
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
    /// What is in force in the process.
    pub in_force: InForce,
    /// The leases of this session that have ended since the last `ping`, the oldest first; of very many the newest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<EndedLease>,
    /// The patches of this session that have failed for the first time since the last `ping`; likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<FailingPatch>,
}

/// A patch that failed in a call, so that the original answered.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FailingPatch {
    /// Its lease.
    pub id: u64,
    /// What is patched: `point:…`.
    pub target: String,
    /// In which of its calls it was, from 1 on.
    pub call: u64,
    /// Why, with the line of the code where that is known.
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
    /// What was seen, where the word alone does not say it.
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
    /// Whether a person attaches who goes on with what a lost session left: its leases are taken over. Who only looks takes
    /// nothing over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attach: bool,
}

/// Result of `hello`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HelloResult {
    /// The signed checkpoint, a note.
    pub checkpoint: String,
    /// Proof that the log only grew since the client's size, standard base64; empty for size 0 or an equal size.
    pub consistency: Vec<String>,
    /// Who the agent takes the client for: the SPIFFE id.
    pub operator: String,
    /// The roles it acts with.
    pub roles: Vec<String>,
    /// The number of this session.
    pub session: u64,
    /// Leases of this operator that an earlier, lost session left in grace, now taken over; none unless that was asked for.
    pub resumed: Vec<LeaseSummary>,
    /// What is in force in the process.
    pub in_force: InForce,
    /// Which process it is.
    pub process: Process,
}

/// One process of a service: another one has another of these, also where it has the same process id, as in containers.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// When the agent in it began, in nanoseconds on the host's clock since boot.
    pub began: u64,
}

/// Parameters of `eval`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EvalParams {
    /// JSON of an [`EvalPayload`], whose bytes are what is signed, hashed and recorded.
    pub payload: String,
    /// The operator's signature, standard base64.
    pub sig: String,
    /// Values bound as secret: name to value and salt. The payload holds `SHA-256(salt || value)`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretArgument>,
}

/// A value bound as secret.
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

/// What an eval asks for; travels as a string inside [`EvalParams`].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EvalPayload {
    /// Rhai.
    pub code: String,
    /// Values bound by name before the code runs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, Value>,
    /// Commitments of the values bound as secret, by name: `SHA-256(salt || value)` in hex.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_args: BTreeMap<String, String>,
    /// Whether it is a plan: nothing happens, and the result lists what would.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry: bool,
    /// Why, for a plan: as if the mode `change` had been entered with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What becomes of the leases of this eval when the session ends; no lease is made without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
}

/// What becomes of the leases of an eval when the session that made them ends.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// Losing the session starts a grace of 60 s, then they revert.
    Revert,
    /// They keep their deadline.
    Persist,
    /// As `Revert`; the client stays connected until they end.
    Hold,
}

/// Result of `eval`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EvalResult {
    /// The value as JSON; what JSON cannot say (a function, an opaque secret) is its display text.
    pub value: Value,
    /// The value as the REPL shows it.
    pub display: String,
    /// The leases that this eval made or changed.
    pub leases: Vec<LeaseSummary>,
    /// What is in force in the process after it.
    pub in_force: InForce,
    /// The mode of the session after it.
    pub mode: Mode,
    /// Where its records are; missing while the log cannot be written.
    pub audit: Option<AuditRange>,
    /// Warnings for the operator, such as `not yet on disk`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The changes in force in a process, whosever they are.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct InForce {
    /// How many.
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

/// Parameters of `audit.proof`: either that record `index` is in the tree of `size`, or, with `from`, that the tree
/// of `size` only grew from the tree of `from`.
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
    /// For an inclusion proof of one's own record: its line, so that the client can hash it itself.
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
