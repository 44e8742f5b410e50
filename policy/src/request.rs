use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Action, Resource};

/// The mode of a session: it starts in `observe` and may enter `change` with a reason.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing of the service can be changed.
    #[default]
    Observe,
    /// Changes are possible, as leases.
    Change,
}

/// Everything that a decision rests on. It is recorded whole, so the decision can be made again later.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What would be done.
    pub action: Action,
    /// To what.
    pub resource: Resource,
    /// The operator's name, from the certificate.
    pub operator: String,
    /// The operator's roles, from the certificate.
    pub roles: Vec<String>,
    /// The agent's own environment, from its configuration; never from a client.
    pub environment: String,
    /// The mode of the session at this moment.
    pub mode: Mode,
    /// How long the lease would live from now, in milliseconds; only for changes.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "milliseconds")]
    pub ttl: Option<Duration>,
    /// How long the lease would have lived in total when `ttl` ends, since it was made; for a new lease equal to `ttl`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "milliseconds")]
    pub life: Option<Duration>,
    /// Why, in the operator's words: of this effect, else the reason that the mode `change` was entered with. Missing,
    /// or without a visible character, is no reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The answer of a policy to a request.
#[must_use = "a decision that nobody reads protects nothing"]
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// One rule holds in full.
    Allow(Allowed),
    /// No rule holds in full, or one denies.
    Deny(Denial),
}

/// Why a request is allowed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Allowed {
    /// The first rule in file order that holds in full.
    pub rule: String,
    /// The longest total life that this rule allows a lease, if it says.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "milliseconds")]
    pub max_life: Option<Duration>,
}

/// What was asked, which rules decided, and what would help.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Denial {
    /// What was asked for.
    pub action: Action,
    /// On what.
    pub resource: Resource,
    /// The rules that denied, or that matched but did not hold in full; none if no rule speaks of it.
    pub rules: Vec<RuleRef>,
    /// What would help: `allowed up to 30m`, `needs mode change`, `needs a reason`.
    pub help: String,
    /// The reason, if that is all that is lacking for one rule: `a reason`, or ``a reason like `INC-*` ``.
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

/// Durations as whole milliseconds, so that a recorded request reads back equal.
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
