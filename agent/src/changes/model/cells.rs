//! Every kind of handle that a service can register, behind one interface for the models.

use std::sync::{Arc, Mutex, RwLock};

use arc_swap::ArcSwap;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use debug_base::Path;
use debug_state::{FieldCell, Live, SharedCell, State, writable};

/// A value that the agent shares with the service, and how the service reads and changes it.
pub(super) struct SharedCells<T> {
    read: Box<dyn Fn() -> T>,
    change: CellChange<T>,
}

/// The service changes its value.
type CellChange<T> = Box<dyn Fn(&mut dyn FnMut(&mut T))>;

/// How many kinds there are.
pub(super) const KINDS: usize = 6;

impl<T: Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static> SharedCells<T> {
    /// The state, and the service's side of it.
    pub(super) fn new(kind: usize, path: &str, value: T) -> (Arc<dyn State>, Self) {
        let path: Path = path.parse().unwrap();
        match kind {
            0 => {
                let cell = Arc::new(RwLock::new(value));
                let (read, change) = (cell.clone(), cell.clone());
                let state = writable(path, SharedCell::Shared(cell));
                Self::of(
                    state,
                    move || read.read().unwrap().clone(),
                    move |then| then(&mut change.write().unwrap()),
                )
            }
            1 => {
                let cell = Arc::new(Mutex::new(value));
                let (read, change) = (cell.clone(), cell.clone());
                let state = writable(path, SharedCell::Shared(cell));
                Self::of(
                    state,
                    move || read.lock().unwrap().clone(),
                    move |then| then(&mut change.lock().unwrap()),
                )
            }
            2 => {
                let cell = Arc::new(ArcSwap::from_pointee(value));
                let (read, change) = (cell.clone(), cell.clone());
                let state = writable(path, SharedCell::Shared(cell));
                let store = move |then: &mut dyn FnMut(&mut T)| {
                    let mut value = T::clone(&change.load());
                    then(&mut value);
                    change.store(Arc::new(value));
                };
                Self::of(state, move || T::clone(&read.load()), store)
            }
            3 => {
                let cell = watch::Sender::new(value);
                let (read, change) = (cell.clone(), cell.clone());
                let state = writable(path, SharedCell::Shared(Arc::new(cell)));
                Self::of(
                    state,
                    move || read.borrow().clone(),
                    move |then| change.send_modify(|value| then(value)),
                )
            }
            4 => {
                let cell = Live::new(value);
                let (read, change) = (cell.clone(), cell.clone());
                let state = writable(path, SharedCell::Shared(Arc::new(cell)));
                let store = move |then: &mut dyn FnMut(&mut T)| {
                    let mut value = T::clone(&change.load());
                    then(&mut value);
                    change.store(value);
                };
                Self::of(state, move || T::clone(&read.load()), store)
            }
            _ => {
                let cell = Arc::new(Mutex::new(value));
                let (get, set) = (cell.clone(), cell.clone());
                let field = FieldCell::new(
                    move || get.lock().unwrap().clone(),
                    move |value| {
                        *set.lock().unwrap() = value;
                        Ok::<(), String>(())
                    },
                );
                let (read, change) = (cell.clone(), cell);
                let state = writable(path, SharedCell::Shared(Arc::new(field)));
                Self::of(
                    state,
                    move || read.lock().unwrap().clone(),
                    move |then| then(&mut change.lock().unwrap()),
                )
            }
        }
    }

    fn of(
        state: Arc<dyn State>,
        read: impl Fn() -> T + 'static,
        change: impl Fn(&mut dyn FnMut(&mut T)) + 'static,
    ) -> (Arc<dyn State>, Self) {
        (
            state,
            Self {
                read: Box::new(read),
                change: Box::new(change),
            },
        )
    }

    /// As the service sees it.
    pub(super) fn read(&self) -> T {
        (self.read)()
    }

    /// The service itself changes it.
    pub(super) fn change(&self, mut change: impl FnMut(&mut T)) {
        (self.change)(&mut change);
    }
}
