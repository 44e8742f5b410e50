use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Action, Resource};

/// The mode of a session: it starts in `observe` and may enter `change` with a reason.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The service cannot be changed.
    #[default]
    Observe,
    /// Changes are possible, as leases.
    Change,
}

/// Everything that a decision depends on. It is recorded completely, so that the decision can be replayed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The action.
    pub action: Action,
    /// The resource that it affects.
    pub resource: Resource,
    /// The operator's name, from the certificate.
    pub operator: String,
    /// The operator's roles, from the certificate.
    pub roles: Vec<String>,
    /// The agent's own environment, from its configuration; never from a client.
    pub environment: String,
    /// The current mode of the session.
    pub mode: Mode,
    /// The lease's time to live from now, in milliseconds; only for changes.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "milliseconds")]
    pub ttl: Option<Duration>,
    /// The lease's total life when `ttl` ends, since it was made; for a new lease equal to `ttl`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "milliseconds")]
    pub life: Option<Duration>,
    /// The operator's reason: of this effect, else the one with which the mode `change` was entered. A missing reason and one
    /// without a visible character do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The decision of a policy on a request.
#[must_use = "a decision that is not read protects nothing"]
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// A rule holds in full.
    Allow(Allowed),
    /// No rule holds in full, or a rule denies.
    Deny(Denial),
}

/// Why a request is allowed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Allowed {
    /// The first rule in file order that holds in full.
    pub rule: String,
    /// The total life to which this rule limits a lease, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "milliseconds")]
    pub max_life: Option<Duration>,
}

/// The denied request, the rules that decided, and what would help.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Denial {
    /// The requested action.
    pub action: Action,
    /// The requested resource.
    pub resource: Resource,
    /// The rules that denied, or that matched and did not hold in full; empty if no rule covers the request.
    pub rules: Vec<RuleRef>,
    /// What would help: `allowed up to 30m`, `needs mode change`, `needs a reason`.
    pub help: String,
    /// The reason, if one rule lacks nothing else: `a reason`, or ``a reason like `INC-*` ``.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted_reason: Option<String>,
}

/// A rule, as a denial names it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RuleRef {
    /// The rule's `id`.
    pub id: String,
    /// The rule's `why`.
    pub why: String,
}

/// Durations as whole milliseconds, so that a recorded request parses back equal.
mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Option<Duration>, out: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(duration) => out.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
            None => out.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(input)?.map(Duration::from_millis))
    }
}
