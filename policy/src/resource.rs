use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an action is done to, in one spelling: `agent`, `state:<path>`, `point:<name>` or `lease:<operator>`.
///
/// - `agent`: the agent itself (attach, list, change, log).
/// - `state:config.db.host`: a state path; a segment that is no plain word is written `["…"]` (JSON string inside).
/// - `point:GET /api/healthcheck` (method and template) or `point:dienstplan::rota::next_on_duty` (function).
/// - `lease:alice`: a lease that belongs to operator `alice`; asked for in addition to the lease's own target.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Resource {
    /// The agent itself.
    Agent,
    /// A path of a state, from the state's name on; never empty.
    State(Vec<String>),
    /// The name of a point.
    Point(String),
    /// Leases of the operator named.
    Lease(String),
}
