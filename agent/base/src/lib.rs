//! What all parts of the debug agent speak of: values as trees, paths into them, secrets' marks, the serde walk, and the
//! clock of deadlines. Knows no state, no point, no lease and no script.

mod align;
mod along;
mod canonical;
mod clock;
mod compare;
mod de;
mod error;
mod fence;
#[cfg(any(test, feature = "test-util"))]
pub mod for_test;
mod key;
mod known;
mod literal;
mod marks;
mod nearest;
mod non_empty;
mod orders;
mod path;
mod scope;
mod secret;
mod ser;
mod spelling;
#[cfg(test)]
mod tests;
mod text;
pub mod threads;
mod tree;
mod wait;

pub use align::{Basis, Doubt, Evidence, Trail, changed_places, follow, locate, reordered};
pub use along::{Found, Names, found_along};
pub use canonical::feed;
pub use clock::{BootTime, roughly};
pub use compare::Difference;
pub use de::{TreeDeserializer, from_tree};
pub use error::TreeError;
pub use fence::{Panicked, ServiceValue, fenced};
pub use known::{Look, looking, sought};
pub use literal::LiteralValue;
pub use marks::PLACEHOLDER;
pub use nearest::{distance, nearest};
pub use non_empty::NonEmpty;
pub use orders::{Here, Orders, alike, is_in_order};
pub use path::{InvalidPath, Path, PathError, index_of, known_clause, known_names};
pub use scope::SecretScope;
pub use secret::Secret;
pub use ser::{Kinds, Limits, TreeSerializer, kinds, to_tree};
pub use spelling::is_property;
pub use text::{base64, cut, escape, from_base64, hex, shortened};
pub use tree::{Tree, Unreadable, Wide, insert, is_container, leaves};
pub use wait::Wait;
