//! Decides whether an operator may have an effect, and tells what would help if not.
//!
//! Invariant: a decision reads no clock, file or socket, so that a denial in last year's log replays with the same result.
//!
//! # The policy
//! A text in TOML: `version = 1` and one or more `[[rule]]`. What no rule allows is denied; a rule that denies wins.
//! [`DEFAULT`] is one to start from, with comments.
//!
//! | key | in | meaning |
//! | --- | --- | --- |
//! | `id` | every rule | its name in denials and records: 1 to 64 of `a-z 0-9 -`, unique |
//! | `why` | every rule | one line for people, at most 200 characters |
//! | `allow` or `deny` | every rule | the actions it speaks of ([`Action`]) |
//! | `roles`, `operators`, `environments` | any | names, of which one must fit; left out: all |
//! | `on` | any | patterns of resources, of which one must fit; left out: the kinds `agent`, `state`, `point`, `target` |
//! | `except` | any | patterns of resources of which none may fit |
//! | `max_ttl`, `max_life` | allow | the longest deadline, and total life, of a lease |
//! | `reason` | allow | a pattern that the whole reason must fit, such as `"INC-*"`; `"*"` asks for any reason |
//!
//! A rule without `on` does not cover leases: they may belong to other operators, so it must name them (`lease:*`).
//!
//! Patterns name their kind. `*` is any run of characters in one segment, `**` any number of segments, none included; segments
//! split at `.` in `state:config.**` (which covers `config`), at `/` in `point:* /api/**` (the method is exact or `*`), at `::`
//! in `point:billing::**`. `point:**` covers every point, `lease:*` the leases of all operators. In a state pattern, `["…"]`
//! holds a segment that is no plain word, and a `*` in it is a `*`.
//!
//! `target:…` is a target of the service's log events, split at `::` as well. A level set for a target holds for every target
//! below it, so an allow rule must name that target, and a `deny` or an `except` that names anything below it counts.
//!
//! # The order of a decision
//! 1. A resource outside its bounds is denied, and so is an action that needs the mode `change` in the mode `observe`.
//! 2. If any matching rule denies, the request is denied, and those rules are named.
//! 3. Each matching allow rule is an alternative: the first in file order that holds in full allows. Conditions of
//!    different rules are never mixed.
//! 4. Otherwise it is denied, with what the matching rules would ask for.
//!
//! A denial only names rules that cover this operator's roles, this action and this resource.
//!
//! # Another operator's lease
//! Reverting one's own lease needs no policy. Confirming or extending one's own makes one request: the action on the target of
//! the lease (`state:…`, `point:…` or `target:…`). For a lease of another operator two requests are made, the action on the
//! target and the action on `lease:<owner>`, and both must be allowed.

mod action;
mod duration;
mod error;
mod names;
mod parse;
mod pattern;
mod policy;
mod request;
mod resource;
mod rule;
mod text;

pub use action::{Action, UnknownAction};
pub use duration::{InvalidDuration, MAX_DURATION, format_duration, parse_duration};
pub use error::PolicyError;
pub use names::NamedResource;
pub use parse::{MAX_LIST, MAX_POLICY, MAX_RULES};
pub use policy::Policy;
pub use request::{Allowed, Decision, Denial, Mode, Request, RuleRef};
pub use resource::{
    InvalidResource, MAX_OPERATOR, MAX_POINT, MAX_SEGMENT, MAX_SEGMENTS, MAX_TARGET, Resource, format_path,
    parse_path,
};
pub use text::is_hidden;

/// The command of `debugctl attach` that enters the mode in which changes are possible, as advice names it. A client with other
/// ways to enter that mode replaces it.
pub const ENTER_CHANGE: &str = "`:change REASON`";

/// The shipped policy, for the roles viewer, on-call engineer and lead.
pub const DEFAULT: &str = include_str!("../default.toml");
