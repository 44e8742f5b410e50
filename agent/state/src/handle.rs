use std::sync::Arc;

use tokio::sync::watch;

use crate::cell::{Cell, SharedCell};
use crate::live::Live;

/// A value shared by the agent and the service, for `Builder::state` and `Builder::state_mut`.
///
/// Accepted in an `Arc` or as a `&'static`:
///
/// - `std::sync::RwLock` and `Mutex`,
/// - `tokio::sync::RwLock` and `Mutex`,
/// - `parking_lot::RwLock` and `Mutex`, with the feature `parking_lot`,
/// - `arc_swap::ArcSwap`,
/// - `tokio::sync::watch::Sender`, also without an `Arc`,
/// - `AtomicBool` and the atomic integers,
/// - [`Live`], also without an `Arc`.
///
/// The agent holds a lock only to serialize, compare and swap, and waits at most 5 ms for it. To undo a change it waits
/// longer, on its own thread, as an ordinary writer. A service thread that takes a read lock twice at once may then deadlock,
/// as the documentation of the locks says.
///
/// A `watch` channel has no `try`: a write waits for it like any other sender. The channel stays open at least until the
/// agent is dropped.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is nothing that the agent can share with the service",
    note = "give it an `Arc` or a `&'static` of a lock, an `ArcSwap` or an atomic, a `watch::Sender`, or a `Live`"
)]
pub trait StateHandle: Sealed<Inner = <Self as StateHandle>::Value> {
    /// The service's type.
    type Value: Send + Sync + 'static;
}

/// Sealed: the agent supports only the types in this module.
pub trait Sealed {
    type Inner: Send + Sync + 'static;
    type Cell: Cell<Value = Self::Inner>;

    fn place(self) -> SharedCell<Self::Cell>;
}

impl<C: Cell> StateHandle for Arc<C> {
    type Value = C::Value;
}

impl<C: Cell> Sealed for Arc<C> {
    type Inner = C::Value;
    type Cell = C;

    fn place(self) -> SharedCell<C> {
        SharedCell::Shared(self)
    }
}

impl<C: Cell> StateHandle for &'static C {
    type Value = C::Value;
}

impl<C: Cell> Sealed for &'static C {
    type Inner = C::Value;
    type Cell = C;

    fn place(self) -> SharedCell<C> {
        SharedCell::Static(self)
    }
}

macro_rules! handles_by_themselves {
    ($($handle:ty),*) => {$(
        impl<T: Send + Sync + 'static> StateHandle for $handle {
            type Value = T;
        }

        impl<T: Send + Sync + 'static> Sealed for $handle {
            type Inner = T;
            type Cell = Self;

            fn place(self) -> SharedCell<Self> {
                SharedCell::Shared(Arc::new(self))
            }
        }
    )*};
}

handles_by_themselves!(Live<T>, watch::Sender<T>);
