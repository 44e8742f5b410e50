//! Decides whether an operator may have an effect, and says what would help if not.
//!
//! Invariant: deciding reads no clock, file or socket, so a denial in last year's log replays with the same result.

mod action;
mod duration;
mod resource;
mod request;

pub use action::{Action, UnknownAction};
pub use duration::{InvalidDuration, format_duration, parse_duration};
pub use request::{Allowed, Decision, Denial, Mode, Request, RuleRef};
pub use resource::{InvalidResource, Resource};
