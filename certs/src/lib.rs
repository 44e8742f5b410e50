//! The identity that a certificate of the debug agent stands for; with the feature `issue`, the authority that makes them.
//!
//! Identities are SPIFFE ids in the only URI name of a certificate. Nothing here depends on host names, and callers must have
//! verified a certificate's chain before.

mod identity;
#[cfg(feature = "issue")]
pub mod issue;
mod spiffe;

pub use identity::{IdentityError, Presented, agent, operator};
pub use spiffe::{AgentId, InvalidId, Operator, TrustDomain};
