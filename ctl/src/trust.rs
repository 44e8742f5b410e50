//! Who is who: the operator's identity, the agents that it pins, and what is remembered of their logs.

pub(crate) mod address;
pub(crate) mod identity;
mod pem;
pub(crate) mod pin;
pub(crate) mod provider;
pub(crate) mod store;
