//! The bodies of the records in the audit log: the agent writes them, clients and the next process read them. FORMAT.md,
//! section 9, describes each kind.
//!
//! Readers ignore members that they do not know, and take words that they do not know as text, so that a log of a later version
//! can be read.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::messages::{After, Code};

/// A body, and the kind of its record.
pub trait Record: Serialize {
    /// The kind.
    const KIND: &'static str;
}

macro_rules! kinds {
    ($($body:ident = $kind:literal),+ $(,)?) => {
        $(impl Record for $body {
            const KIND: &'static str = $kind;
        })+
        /// All kinds with a body of their own type, except those that end a lease.
        pub const KINDS: &[&str] = &[$($kind),+];
    };
}

kinds! {
    Boot = "boot",
    RecoveredRecord = "recovered",
    ConfigLoaded = "config.loaded",
    PolicyLoaded = "policy.loaded",
    ListsLoaded = "crl.loaded",
    Armed = "armed",
    SessionOpen = "session.open",
    SessionRefused = "session.refused",
    SessionClose = "session.close",
    EvalPart = "eval.part",
    Eval = "eval",
    EvalRefused = "eval.refused",
    EffectPart = "effect.part",
    EffectRecord = "effect",
    LeaseMade = "lease.made",
    LeaseSettled = "lease.settled",
    Outcome = "outcome",
    Alarm = "alarm",
    Shutdown = "shutdown",
}

/// The kind of a record that confirms a lease; its body is [`LeaseRenewed`].
pub const LEASE_CONFIRMED: &str = "lease.confirmed";
/// The kind of a record that gives a lease another deadline.
pub const LEASE_EXTENDED: &str = "lease.extended";
/// The kind of a record that gives a lease another owner.
pub const LEASE_ADOPTED: &str = "lease.adopted";

/// A word of a list that later versions may extend.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(untagged)]
pub enum OrLater<T> {
    /// This version knows it.
    Known(T),
    /// A word of a later version.
    Later(String),
}

impl<T> From<T> for OrLater<T> {
    fn from(word: T) -> Self {
        Self::Known(word)
    }
}

impl<T: Serialize> fmt::Display for OrLater<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(word) => word.serialize(f),
            Self::Later(text) => f.write_str(text),
        }
    }
}

/// When a record was made. Each record has this member beside its body.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Made {
    /// The wall-clock time in UTC (RFC 3339).
    #[serde(default)]
    pub time: String,
}

/// To whom a record belongs. Members of many bodies, for readers of all kinds.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Belongs {
    /// The session.
    #[serde(default)]
    pub session: Option<u64>,
    /// The SPIFFE id of the operator.
    #[serde(default)]
    pub operator: Option<String>,
}

/// A process began.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Boot {
    /// The name of the service.
    pub service: String,
    /// The instance of the service.
    pub instance: String,
    /// The environment that policy knows.
    pub environment: String,
    /// The version of the agent.
    pub agent: String,
    /// The id of the process.
    pub pid: u32,
    /// The variables that the environment set.
    pub from_environment: Value,
    /// Faults found at start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
    /// The leases in whose patched calls the process before ended, or less than a second after them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended_inside: Vec<u64>,
    /// Whether the process before may have ended inside a call that it did not note.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ended_inside_unknown: bool,
}

/// What a crash left behind, and how it was repaired.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct RecoveredRecord {
    /// The records that the checkpoint covers.
    pub covered: u64,
    /// The records beyond the checkpoint that were kept.
    pub adopted: u64,
    /// A line that a crash cut.
    pub torn: Option<TornRecord>,
}

/// A line that a crash cut.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct TornRecord {
    /// The file that it was in.
    pub file: String,
    /// The file that holds it now.
    pub moved_to: String,
    /// The number that the record would have had.
    pub seq: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// The configuration was read.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct ConfigLoaded {
    /// The file.
    pub file: String,
    /// The address to listen on.
    pub listen: String,
}

/// The policy was read.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct PolicyLoaded {
    /// The file.
    pub file: String,
    /// SHA-256 of the file, hex.
    pub sha256: String,
}

/// The revocation lists were read.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct ListsLoaded {
    /// The file.
    pub file: String,
    /// The lists in it.
    pub lists: Vec<List>,
}

/// The agent listens.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Armed {
    /// The address.
    pub listen: String,
}

/// A revocation list.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct List {
    /// SHA-256 of the DER of the CA's subject, hex.
    pub ca: String,
    /// The number of the list, hex without leading zeros.
    pub number: String,
    /// When the next list is due, in seconds since 1970.
    pub next_update: Value,
}

/// An operator attached.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct SessionOpen {
    /// The session.
    pub session: u64,
    /// The SPIFFE id of the operator.
    pub operator: String,
    /// The roles of the operator.
    #[serde(default)]
    pub roles: Vec<String>,
    /// The certificate of the operator, DER in base64.
    pub certificate: String,
    /// The exporter of the TLS connection, hex.
    pub exporter: String,
    /// The address of the client.
    #[serde(default)]
    pub peer: String,
    /// The version of the client, as it said.
    #[serde(default)]
    pub client: String,
    /// SHA-256 of the policy, hex.
    #[serde(default)]
    pub policy: String,
    /// The leases of a lost session that this one took over.
    #[serde(default)]
    pub resumed: Vec<u64>,
}

/// A connection was refused.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct SessionRefused {
    /// The address of the client.
    pub peer: String,
    /// Why, as a word.
    pub code: String,
    /// Why, as a sentence.
    pub why: String,
    /// The number of refused connections since the last record that have none of their own.
    pub unrecorded: u64,
}

/// A session ended.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct SessionClose {
    /// The session.
    pub session: u64,
    /// The SPIFFE id of the operator.
    #[serde(default)]
    pub operator: String,
    /// Why it ended.
    #[serde(default)]
    pub why: String,
}

/// A part of a long text; the record that it belongs to follows its last part.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Part {
    /// Its place among the parts, from 0.
    pub part: u64,
    /// The text.
    pub text: String,
    /// The member of the record that the parts make up.
    #[serde(default)]
    pub member: String,
}

/// A part of an eval's payload.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct EvalPart {
    /// The session.
    pub session: Option<u64>,
    /// The SPIFFE id of the operator.
    #[serde(default)]
    pub operator: String,
    /// The part.
    #[serde(flatten)]
    pub part: Part,
}

/// A part of a long member of an `effect` or `lease.made`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct EffectPart {
    /// The part.
    #[serde(flatten)]
    pub part: Part,
}

/// An eval is about to run.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Eval {
    /// The session.
    pub session: u64,
    /// The SPIFFE id of the operator.
    #[serde(default)]
    pub operator: String,
    /// Its number in the session.
    pub counter: u64,
    /// The signature of the operator, base64.
    pub sig: String,
    /// The signed bytes, if they are short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// The number of records that hold the signed bytes, if they are long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<u64>,
}

/// An eval was refused before it ran, and its code was not recorded.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct EvalRefused {
    /// The session.
    pub session: u64,
    /// The SPIFFE id of the operator.
    pub operator: String,
    /// Its number in the session.
    pub counter: u64,
    /// Why.
    pub refused: String,
    /// Keyed digest and length of the payload.
    pub payload: Value,
}

/// An effect was decided about; or a patch failed.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct EffectRecord {
    /// The number of the eval's record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval: Option<u64>,
    /// The session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<u64>,
    /// The SPIFFE id of the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The host function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The method of the wire, if it was denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Value>,
    /// The lease whose patch failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<u64>,
    /// The number of the call in which it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<u64>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch_failed: Option<String>,
    /// What each function records of its effect.
    #[serde(flatten)]
    pub detail: Map<String, Value>,
}

/// A lease begins; its change is made after this record is on disk.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LeaseMade {
    /// The number of the eval's record.
    #[serde(default)]
    pub eval: Option<u64>,
    /// The session.
    #[serde(default)]
    pub session: Option<u64>,
    /// The SPIFFE id of the operator.
    #[serde(default)]
    pub operator: String,
    /// The host function.
    #[serde(default)]
    pub function: String,
    /// The decision.
    #[serde(default)]
    pub gate: Value,
    /// The lease.
    pub lease: Terms,
    /// Keyed digest and length of the value there before, or the layers of the point.
    #[serde(default)]
    pub before: Option<Value>,
    /// The same of the value after.
    #[serde(default)]
    pub after: Option<Value>,
    /// What else the function records of its effect.
    #[serde(flatten)]
    pub detail: Map<String, Value>,
}

/// The terms of a lease.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Terms {
    /// Its id.
    pub id: u64,
    /// What it changes.
    pub target: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// What happens to it when its session is lost.
    #[serde(default = "reverts")]
    pub after: OrLater<After>,
    /// Its time to live in milliseconds.
    #[serde(default)]
    pub ttl_ms: u64,
    /// Its deadline, in nanoseconds on the boot-time clock.
    #[serde(default)]
    pub deadline_boot_ns: u64,
}

/// A lease has other terms.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LeaseRenewed {
    /// The lease.
    pub lease: u64,
    /// What it changes.
    #[serde(default)]
    pub target: String,
    /// The name of its owner.
    #[serde(default)]
    pub owner: String,
    /// Who gave them.
    #[serde(default)]
    pub by: String,
    /// The number of the eval's record.
    #[serde(default)]
    pub eval: Option<u64>,
    /// Its deadline, in nanoseconds on the boot-time clock.
    #[serde(default)]
    pub deadline_boot_ns: u64,
    /// Why it has its former terms again.
    pub undone: Option<String>,
}

/// A lease ended; each lease has one such record, of a kind that ends leases.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LeaseEnded {
    /// The lease.
    pub lease: u64,
    /// What it changed.
    #[serde(default)]
    pub target: String,
    /// The name of its owner.
    #[serde(default)]
    pub owner: String,
    /// The session that held it.
    #[serde(default)]
    pub session: Option<u64>,
    /// Who ended it.
    #[serde(default)]
    pub by: String,
    /// Why a part of the change was kept.
    #[serde(default)]
    pub conflict: Option<ConflictRecord>,
    /// The lease above that covers the change.
    #[serde(default)]
    pub covered_by: Option<u64>,
    /// Keyed digest and length of the value there now, or the layers of the point.
    #[serde(default)]
    pub restored: Option<Value>,
    /// The same of the value that the end of the lease above will restore.
    #[serde(default)]
    pub base: Option<Value>,
    /// Whether the service wrote there in between; its value was kept.
    #[serde(default)]
    pub foreign: bool,
    /// Where the changed element was found, if not at the target.
    #[serde(default)]
    pub found: Option<String>,
    /// What was compared to find it.
    #[serde(default)]
    pub compared: Vec<String>,
    /// What else is known of the end.
    #[serde(default)]
    pub detail: Option<Value>,
}

/// Why a part of a change was kept.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ConflictRecord {
    /// Why.
    pub why: String,
    /// The kind of record that its end would have had without a conflict.
    pub ended_as: String,
}

/// A lease of an earlier process ended with that process.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LeaseRestarted {
    /// The lease.
    pub lease: u64,
    /// What it changed.
    pub target: String,
    /// Always the agent.
    pub by: String,
    /// How the process ended.
    pub detail: String,
}

/// A conflict was settled. The lease had ended before.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LeaseSettled {
    /// The lease.
    pub lease: u64,
    /// What it changed.
    #[serde(default)]
    pub target: String,
    /// The name of its owner.
    #[serde(default)]
    pub owner: String,
    /// Who settled it.
    #[serde(default)]
    pub by: String,
    /// `keep` or `force`.
    #[serde(default)]
    pub how: String,
    /// Keyed digest and length of the value there now.
    #[serde(default)]
    pub restored: Option<Value>,
    /// Why it was settled without an operator.
    #[serde(default)]
    pub detail: Option<Value>,
}

/// An eval has run, and no reply leaves before this record is on disk.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Outcome {
    /// The number of the eval's record.
    pub eval: Option<u64>,
    /// The session.
    #[serde(default)]
    pub session: u64,
    /// The SPIFFE id of the operator.
    #[serde(default)]
    pub operator: String,
    /// How long it ran, in microseconds.
    #[serde(default)]
    pub micros: u64,
    /// Containers of states that it looked at, and how often.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub looked: Vec<Looked>,
    /// The number of looks at further ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_elsewhere: Option<u64>,
    /// Keyed digest and length of the displayed result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<OutcomeError>,
    /// The leases that were undone because it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone: Option<Vec<u64>>,
}

/// Why an eval failed.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct OutcomeError {
    /// As a word.
    pub code: OrLater<Code>,
    /// As a sentence, without secrets.
    pub message: String,
}

/// Looks at a container of a state.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Looked {
    /// Its path.
    pub path: String,
    /// How often.
    pub times: u64,
}

/// Something that an operator of the service should know. The members that are there tell what.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Alarm {
    /// The lease that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<u64>,
    /// Why its change could not be undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revert_failed: Option<String>,
    /// The session that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<u64>,
    /// The SPIFFE id of the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The number of the eval in the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counter: Option<u64>,
    /// What is wrong with its signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad_signature: Option<String>,
    /// The number of the eval's record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval: Option<u64>,
    /// Where a secret was found that the eval had not revealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_in: Option<String>,
    /// What panicked inside the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panicked: Option<String>,
    /// How often, by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// What happened to the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// What was found out about a point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub points: Option<String>,
    /// A fault of the agent itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// The agent stopped in order.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Shutdown {}

fn is_false(value: &bool) -> bool {
    !value
}

fn reverts() -> OrLater<After> {
    After::Revert.into()
}

#[cfg(test)]
mod tests;
