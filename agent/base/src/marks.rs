//! How secrets are marked in what passes through serde, and what stands for them in what is shown.

/// Stands for a secret where its value must not appear. Never stored: writing it is an error.
pub const PLACEHOLDER: &str = "‹secret›";

/// The name by which a `Secret<T>` identifies itself to the agent's serializer and deserializer.
pub(crate) const SECRET_NAME: &str = "$debug_agent::Secret";

/// What `Secret<T>` says that it expects.
pub(crate) const EXPECTED_SECRET: &str = "a secret";
