//! States: values registered by the service, as trees that can be read, edited at a path and written back.

mod attach;
mod cell;
mod digest;
mod edit;
mod error;
mod field;
mod handle;
mod held;
mod kept;
mod keys;
mod live;
mod lossy;
mod orders;
mod origin;
mod read_only;
mod read_write;
mod redact;
mod registry;
mod scrub;
mod shapes;
mod spelling;
#[cfg(test)]
mod tests;
mod typed;
mod worker;
mod writable;

pub use attach::{add_checks, add_keys};
pub use cell::SharedCell;
pub use digest::{Keyed, same_in_constant_time};
pub use error::StateError;
pub use field::{FieldCell, ReadCell};
pub use handle::StateHandle;
pub use held::{add_asked, take_asked};
pub use live::Live;
pub use origin::Origin;
pub use read_only::read_only;
pub use read_write::writable;
pub use redact::Redactor;
pub use registry::States;
pub use scrub::{Scrubber, Shown};
pub use shapes::has_secret_shape;
pub use typed::EditFn as Edited;
pub use typed::{Check, Checked, Later, State};
