use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::de::TreeDeserializer;
use crate::marks::{EXPECTED_SECRET, PLACEHOLDER, SECRET_NAME};
use crate::scope::SecretScope;
use crate::ser::TreeSerializer;

mod plain;

/// A value protected from accidental disclosure: it prints and serializes as `‹secret›`.
///
/// The service reads it with [`expose`](Self::expose). An operator sees a fingerprint, unless policy allows a reveal, which
/// is recorded. Deserialization works as usual, from TOML, JSON or the environment. The placeholder itself is refused, so a
/// configuration that was written and read back cannot silently lose its secrets.
///
/// ```
/// # use debug_base as debug_agent;
/// use debug_agent::Secret;
/// # use serde::{Deserialize, Serialize};
///
/// #[derive(Deserialize, Serialize)]
/// struct Slack {
///     token: Secret<String>,
/// }
///
/// let slack: Slack = toml::from_str("token = 'not-a-real-one'")?;
/// assert_eq!(slack.token.expose(), "not-a-real-one");
/// assert_eq!(format!("{:?}", slack.token), "‹secret›");
///
/// let written = toml::to_string(&slack)?;
/// assert_eq!(written.trim(), r#"token = "‹secret›""#);
/// assert!(toml::from_str::<Slack>(&written).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps a value as secret.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value in the clear, for the service itself.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PLACEHOLDER)
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PLACEHOLDER)
    }
}

impl<T: Serialize> Serialize for Secret<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Both conditions are needed: the agent must be serializing, and into its own tree. A type of the service may write
        // JSON inside its own `Serialize`, on the same thread.
        if SecretScope::is_active() && TreeSerializer::is::<S>() {
            serializer.serialize_newtype_struct(SECRET_NAME, &self.0)
        } else {
            serializer.serialize_str(PLACEHOLDER)
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Secret<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !SecretScope::is_active() {
            return plain::deserialize(deserializer).map(Self);
        }
        let marked = Marked(PhantomData);
        if TreeDeserializer::is::<D>() {
            deserializer.deserialize_newtype_struct(SECRET_NAME, marked)
        } else {
            // serde's own buffer, for a flattened or untagged type: it kept the mark, but would accept any value if asked for
            // a newtype.
            deserializer.deserialize_any(marked)
        }
    }
}

/// Accepts only a marked secret.
struct Marked<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Marked<T> {
    type Value = Secret<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED_SECRET)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Secret<T>, D::Error> {
        T::deserialize(deserializer).map(Secret)
    }
}

#[cfg(test)]
mod tests;
