//! States: values registered by the service, as trees that can be read, edited at a path and written back.

mod align;
mod along;
mod aside;
mod cell;
mod compare;
mod de;
mod digest;
mod edit;
mod error;
mod fence;
mod field;
mod handle;
mod held;
mod key;
mod keys;
mod known;
mod live;
mod lossy;
mod origin;
mod path;
mod redact;
mod registry;
mod scope;
mod scrub;
mod ser;
mod shapes;
mod source;
mod spelling;
#[cfg(test)]
mod tests;
mod tree;
mod unreadable;

pub(crate) use align::{Basis, Doubt, Evidence, Trail, changed_places, follow, locate, reordered};
pub(crate) use cell::{Place, Wait};
pub(crate) use de::{TreeDeserializer, from_tree};
pub(crate) use digest::{Keyed, same_in_constant_time};
pub(crate) use error::StateError;
pub(crate) use field::{FieldCell, ReadCell};
pub(crate) use handle::Change as Edited;
pub(crate) use handle::{Check, Checked, Later, Orders, State, add_checks, add_keys, read_only, writable};
pub(crate) use held::take_asked;
pub use live::Live;
pub(crate) use origin::Origin;
pub(crate) use path::{InvalidPath, Path, PathError, known_names, nearest};
pub(crate) use redact::Redactor;
pub(crate) use registry::States;
pub(crate) use scope::SecretScope;
pub(crate) use scrub::{Scrubber, Shown};
pub(crate) use ser::{Limits, TreeSerializer, to_tree};
pub(crate) use shapes::has_secret_shape;
pub use source::StateHandle;
pub(crate) use tree::{Tree, insert};
pub(crate) use unreadable::Unreadable;

/// Stands for a secret where its value must not appear. Never stored: writing it is an error.
pub(crate) const PLACEHOLDER: &str = "‹secret›";

/// The name by which a `Secret<T>` identifies itself to the agent's serializer and deserializer.
pub(crate) const SECRET_NAME: &str = "$debug_agent::Secret";

/// What `Secret<T>` says that it expects.
pub(crate) const EXPECTED_SECRET: &str = "a secret";
