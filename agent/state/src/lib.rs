//! States: values registered by the service, as trees that can be read, edited at a path and written back.

mod cell;
mod digest;
mod edit;
mod error;
mod field;
mod handle;
mod held;
mod keys;
mod live;
mod lossy;
mod origin;
mod redact;
mod registry;
mod scrub;
mod shapes;
mod spelling;
#[cfg(test)]
mod tests;
mod typed;
mod worker;

pub use cell::SharedCell;
pub use digest::{Keyed, same_in_constant_time};
pub use error::StateError;
pub use field::{FieldCell, ReadCell};
pub use handle::StateHandle;
pub use held::{add_asked, take_asked};
pub use live::Live;
pub use origin::Origin;
pub use redact::Redactor;
pub use registry::States;
pub use scrub::{Scrubber, Shown};
pub use shapes::has_secret_shape;
pub use typed::Change as Edited;
pub use typed::{Check, Checked, Later, State, add_checks, add_keys, read_only, writable};
