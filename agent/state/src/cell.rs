//! Containers of a service's value: locks, swaps, channels, atomics. Each implements two operations: show the value, and
//! replace it.

use std::future::Future;
use std::ops::Deref;
use std::pin::pin;
use std::sync::atomic::{
    AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16, AtomicU32,
    AtomicU64, AtomicUsize, Ordering,
};
use std::sync::{Arc, Mutex, RwLock, TryLockError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use crate::edit::Edit;
use debug_base::{ServiceValue, Wait, fenced};

/// Poll interval of a bounded wait: long enough to cost nothing, short enough for a bound of 5 ms.
pub(crate) const BETWEEN_TRIES: Duration = Duration::from_micros(50);

/// Why a cell could not be read or written.
#[derive(Debug)]
pub enum AccessError {
    /// It was not free in time.
    Busy,
    /// The lock is poisoned: a service thread panicked while it held the lock for writing.
    Poisoned,
    /// Service code panicked during this operation.
    Panicked(&'static str),
    /// The service's own `set` refused the value; the text is its error.
    Refused(String),
    /// The service's own `set` stored another value.
    NotStored,
}

/// A container of a service's value.
///
/// Closures given to it are fenced: they do not panic.
#[diagnostic::on_unimplemented(
    message = "the agent does not know how to read `{Self}` and put another value in it",
    note = "`debug_agent::StateHandle` lists what it knows; `Builder::field` takes closures"
)]
pub trait Cell: Send + Sync + 'static {
    /// The service's type.
    type Value: Send + Sync + 'static;

    /// Whether it can only be read by waiting without a bound. The agent then asks on a separate thread, with
    /// [`Wait::Until`]; the caller abandons the request when its own bound is reached.
    const WAITS: bool = false;

    /// Whether the service's reads check the clock.
    const TIMED: bool = false;

    /// Calls `look` with the value.
    fn look<R>(&self, wait: Wait, look: impl FnOnce(&Self::Value) -> R) -> Result<R, AccessError>;

    /// Stores the edit's value if it fits. The replaced value is in the edit afterwards and drops outside any lock.
    fn swap(&self, wait: Wait, edit: &mut Edit<Self::Value>) -> Result<(), AccessError>;
}

/// How the agent shares a cell with the service.
#[derive(Debug)]
pub enum SharedCell<C: 'static> {
    /// In an `Arc`.
    Shared(Arc<C>),
    /// As a `static` of the service.
    Static(&'static C),
}

impl<C> Clone for SharedCell<C> {
    fn clone(&self) -> Self {
        match self {
            Self::Shared(cell) => Self::Shared(cell.clone()),
            Self::Static(cell) => Self::Static(cell),
        }
    }
}

impl<C> Deref for SharedCell<C> {
    type Target = C;

    fn deref(&self) -> &C {
        match self {
            Self::Shared(cell) => cell,
            Self::Static(cell) => cell,
        }
    }
}

/// Polls for a guard within `wait`.
fn tried<G>(wait: Wait, mut attempt: impl FnMut() -> Result<G, AccessError>) -> Result<G, AccessError> {
    let began = Instant::now();
    loop {
        match attempt() {
            Err(AccessError::Busy) => {}
            other => return other,
        }
        match wait {
            Wait::Bounded(longest) if began.elapsed() < longest => thread::sleep(BETWEEN_TRIES),
            _ => return Err(AccessError::Busy),
        }
    }
}

impl<G> From<TryLockError<G>> for AccessError {
    fn from(error: TryLockError<G>) -> Self {
        match error {
            TryLockError::Poisoned(_) => Self::Poisoned,
            TryLockError::WouldBlock => Self::Busy,
        }
    }
}

impl<T: Send + Sync + 'static> Cell for RwLock<T> {
    type Value = T;

    fn look<R>(&self, wait: Wait, look: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let guard = match wait {
            Wait::Until => self.read().map_err(|_| AccessError::Poisoned)?,
            wait => tried(wait, || Ok(self.try_read()?))?,
        };
        Ok(look(&guard))
    }

    fn swap(&self, wait: Wait, edit: &mut Edit<T>) -> Result<(), AccessError> {
        let mut guard = match wait {
            Wait::Until => self.write().map_err(|_| AccessError::Poisoned)?,
            wait => tried(wait, || Ok(self.try_write()?))?,
        };
        edit.put_into(&mut guard);
        Ok(())
    }
}

impl<T: Send + Sync + 'static> Cell for Mutex<T> {
    type Value = T;

    fn look<R>(&self, wait: Wait, look: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let guard = match wait {
            Wait::Until => self.lock().map_err(|_| AccessError::Poisoned)?,
            wait => tried(wait, || Ok(self.try_lock()?))?,
        };
        Ok(look(&guard))
    }

    fn swap(&self, wait: Wait, edit: &mut Edit<T>) -> Result<(), AccessError> {
        let mut guard = match wait {
            Wait::Until => self.lock().map_err(|_| AccessError::Poisoned)?,
            wait => tried(wait, || Ok(self.try_lock()?))?,
        };
        edit.put_into(&mut guard);
        Ok(())
    }
}

impl<T: Send + Sync + 'static> Cell for tokio::sync::RwLock<T> {
    type Value = T;

    fn look<R>(&self, wait: Wait, look: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let guard = match wait {
            Wait::Until => wait_for(self.read()),
            wait => tried(wait, || self.try_read().map_err(|_| AccessError::Busy))?,
        };
        Ok(look(&guard))
    }

    fn swap(&self, wait: Wait, edit: &mut Edit<T>) -> Result<(), AccessError> {
        let mut guard = match wait {
            Wait::Until => wait_for(self.write()),
            wait => tried(wait, || self.try_write().map_err(|_| AccessError::Busy))?,
        };
        edit.put_into(&mut guard);
        Ok(())
    }
}

impl<T: Send + Sync + 'static> Cell for tokio::sync::Mutex<T> {
    type Value = T;

    fn look<R>(&self, wait: Wait, look: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let guard = match wait {
            Wait::Until => wait_for(self.lock()),
            wait => tried(wait, || self.try_lock().map_err(|_| AccessError::Busy))?,
        };
        Ok(look(&guard))
    }

    fn swap(&self, wait: Wait, edit: &mut Edit<T>) -> Result<(), AccessError> {
        let mut guard = match wait {
            Wait::Until => wait_for(self.lock()),
            wait => tried(wait, || self.try_lock().map_err(|_| AccessError::Busy))?,
        };
        edit.put_into(&mut guard);
        Ok(())
    }
}

#[cfg(feature = "parking_lot")]
impl<T: Send + Sync + 'static> Cell for parking_lot::RwLock<T> {
    type Value = T;

    fn look<R>(&self, wait: Wait, look: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let guard = match wait {
            Wait::Until => self.read(),
            wait => tried(wait, || self.try_read().ok_or(AccessError::Busy))?,
        };
        Ok(look(&guard))
    }

    fn swap(&self, wait: Wait, edit: &mut Edit<T>) -> Result<(), AccessError> {
        let mut guard = match wait {
            Wait::Until => self.write(),
            wait => tried(wait, || self.try_write().ok_or(AccessError::Busy))?,
        };
        edit.put_into(&mut guard);
        Ok(())
    }
}

#[cfg(feature = "parking_lot")]
impl<T: Send + Sync + 'static> Cell for parking_lot::Mutex<T> {
    type Value = T;

    fn look<R>(&self, wait: Wait, look: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let guard = match wait {
            Wait::Until => self.lock(),
            wait => tried(wait, || self.try_lock().ok_or(AccessError::Busy))?,
        };
        Ok(look(&guard))
    }

    fn swap(&self, wait: Wait, edit: &mut Edit<T>) -> Result<(), AccessError> {
        let mut guard = match wait {
            Wait::Until => self.lock(),
            wait => tried(wait, || self.try_lock().ok_or(AccessError::Busy))?,
        };
        edit.put_into(&mut guard);
        Ok(())
    }
}

// No waiting here: the first to swap wins, and the other starts again.
impl<T: Send + Sync + 'static> Cell for ArcSwap<T> {
    type Value = T;

    fn look<R>(&self, _: Wait, look: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        // The agent's reference may be the last one: the value then drops here, behind the fence.
        let value = ServiceValue::new(self.load_full());
        Ok(look(value.get()))
    }

    fn swap(&self, _: Wait, edit: &mut Edit<T>) -> Result<(), AccessError> {
        let live = ServiceValue::new(self.load_full());
        if let Some(new) = edit.take_if_fits(live.get()) {
            let new = ServiceValue::new(Arc::new(new));
            // INVARIANT: `live` is held, so that no other value can be at its address.
            let found = ServiceValue::new(Guard::into_inner(
                self.compare_and_swap(live.get(), new.get().clone()),
            ));
            edit.exchanged(Arc::ptr_eq(found.get(), live.get()));
        }
        Ok(())
    }
}

// A channel has no `try`: tokio's own lock protects it. Written like by any other sender, so that receivers are notified.
impl<T: Send + Sync + 'static> Cell for watch::Sender<T> {
    type Value = T;

    const WAITS: bool = true;

    fn look<R>(&self, _: Wait, look: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        Ok(look(&self.borrow()))
    }

    fn swap(&self, _: Wait, edit: &mut Edit<T>) -> Result<(), AccessError> {
        // Receivers are woken outside of the channel's lock, by code that may belong to the service.
        drop(fenced(|| self.send_if_modified(|live| edit.put_into(live))));
        Ok(())
    }
}

macro_rules! atomics {
    ($($atomic:ident holds $value:ty),* $(,)?) => {$(
        impl Cell for $atomic {
            type Value = $value;

            fn look<R>(&self, _: Wait, look: impl FnOnce(&$value) -> R) -> Result<R, AccessError> {
                Ok(look(&self.load(Ordering::SeqCst)))
            }

            fn swap(&self, _: Wait, edit: &mut Edit<$value>) -> Result<(), AccessError> {
                let live = self.load(Ordering::SeqCst);
                if let Some(new) = edit.take_if_fits(&live) {
                    let swapped = self.compare_exchange(live, new, Ordering::SeqCst, Ordering::SeqCst);
                    edit.exchanged(swapped.is_ok());
                }
                Ok(())
            }
        }
    )*};
}

atomics! {
    AtomicBool holds bool,
    AtomicI8 holds i8, AtomicI16 holds i16, AtomicI32 holds i32, AtomicI64 holds i64, AtomicIsize holds isize,
    AtomicU8 holds u8, AtomicU16 holds u16, AtomicU32 holds u32, AtomicU64 holds u64, AtomicUsize holds usize,
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks this thread on a future. tokio's `blocking_` functions do the same but panic on a runtime thread.
fn wait_for<F: Future>(future: F) -> F::Output {
    // Unconstrained: a task's exhausted budget would not be refilled while its thread waits here.
    let mut future = pin!(tokio::task::unconstrained(future));
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
