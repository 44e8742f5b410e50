//! Every kind of handle gives the same guarantees.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI8, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::*;

/// Long enough for a loaded machine. Tests that exceed a bound on purpose use another one.
const WAIT: Wait = Wait::Bounded(Duration::from_secs(10));

/// Panics in the operation that its number selects, or in the service's check.
#[derive(Clone, Debug)]
struct Touchy(u8);

const IN_DESERIALIZE: u8 = 1;
const IN_SERIALIZE: u8 = 2;
const IN_EQ: u8 = 3;
const IN_CHECK: u8 = 4;
const IN_DROP: u8 = 5;

impl<'de> Deserialize<'de> for Touchy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = u8::deserialize(deserializer)?;
        if value == IN_DESERIALIZE {
            panic!("deserialize")
        } else {
            Ok(Self(value))
        }
    }
}

impl Serialize for Touchy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == IN_SERIALIZE {
            panic!("serialize")
        } else {
            serializer.serialize_u8(self.0)
        }
    }
}

impl PartialEq for Touchy {
    fn eq(&self, other: &Self) -> bool {
        if self.0 == IN_EQ {
            panic!("eq")
        } else {
            self.0 == other.0
        }
    }
}

impl Drop for Touchy {
    fn drop(&mut self) {
        if self.0 == IN_DROP && !std::thread::panicking() {
            panic!("drop")
        }
    }
}

/// A state over `handle` with a check that panics too.
fn touchy<H: StateHandle<Value = Touchy>>(handle: H) -> Arc<dyn State> {
    let check: Check<Touchy> = Arc::new(|value| {
        if value.0 == IN_CHECK {
            panic!("check")
        } else {
            Ok(())
        }
    });
    let mut states = vec![writable("s", handle)];
    assert!(add_checks(&mut states, &[("s".to_owned(), Box::new(check))]).is_empty());
    states.remove(0)
}

/// A panic in any part of the service's own code changes nothing.
fn panics_change_nothing<H: StateHandle<Value = Touchy> + Clone>(
    make: impl Fn(Touchy) -> H,
    peek: impl Fn(&H) -> u8,
) {
    let set = |state: &Arc<dyn State>, from: u8, to: u8| {
        state.set(&[], &Tree::I64(from.into()), &Tree::I64(to.into()), WAIT)
    };
    for (live, to, doing) in [
        (0, IN_DESERIALIZE, "reading a value"),
        (0, IN_SERIALIZE, "writing itself out"),
        (0, IN_CHECK, "checking a value"),
        (IN_SERIALIZE, 0, "writing itself out"),
        (IN_EQ, 0, "comparing"),
    ] {
        let handle = make(Touchy(live));
        let state = touchy(handle.clone());
        let error = set(&state, live, to).unwrap_err();
        assert!(
            matches!(error, StateError::Panicked { doing: seen, .. } if seen == doing),
            "{doing}: {error}"
        );
        assert_eq!(peek(&handle), live, "{doing}");
        // The service and the agent can still use it where its code does not panic.
        if live == 0 {
            set(&state, 0, 7).unwrap();
            assert_eq!(peek(&handle), 7);
        }
    }
    let handle = make(Touchy(IN_DROP));
    let state = touchy(handle.clone());
    set(&state, IN_DROP, 7).unwrap();
    assert_eq!(peek(&handle), 7);
}

/// Reads a value, writes over the expected one, checks without a change, and refuses a write over another value.
fn reads_and_writes<H: StateHandle<Value = Config> + Clone>(
    make: impl Fn(Config) -> H,
    peek: impl Fn(&H) -> Config,
) {
    let handle = make(config());
    let state = writable("config", handle.clone());
    let port = segments("server.port");
    assert_eq!(state.read(WAIT).unwrap().at(&port), Some(&Tree::I64(8080)));
    assert_eq!(
        state.check_write(&port, &Tree::I64(9090), WAIT).unwrap().before,
        Some(Tree::I64(8080))
    );
    assert_eq!(peek(&handle), config());
    let conflict = state
        .set(&port, &Tree::I64(1), &Tree::I64(9090), WAIT)
        .unwrap_err();
    assert_eq!(conflict, StateError::Conflict(path("config.server.port")));
    let refused = state
        .set(&port, &Tree::I64(8080), &Tree::I64(70_000), WAIT)
        .unwrap_err()
        .to_string();
    assert!(
        refused.starts_with("cannot write `config.server.port`: "),
        "{refused}"
    );
    assert_eq!(peek(&handle), config());
    for (wait, from, to) in [(WAIT, 8080, 1), (Wait::Try, 1, 2), (Wait::Until, 2, 3)] {
        state.set(&port, &Tree::I64(from), &Tree::I64(to), wait).unwrap();
        assert_eq!(i64::from(peek(&handle).server.port), to);
    }
    assert_eq!(peek(&handle).slack, config().slack);
}

macro_rules! kinds {
    ($($name:ident: $make:expr, $peek:expr;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn is_read_and_written() {
                reads_and_writes($make, |handle| ($peek)(handle, &|value: &Config| value.clone()));
            }

            #[test]
            fn is_unharmed_by_panics_of_the_services_type() {
                panics_change_nothing($make, |handle| ($peek)(handle, &|value: &Touchy| value.0));
            }
        }
    )*};
}

type Peek<'p, T, R> = &'p dyn Fn(&T) -> R;

kinds! {
    std_rwlock: |value| Arc::new(RwLock::new(value)), peek_rwlock;
    std_mutex: |value| Arc::new(Mutex::new(value)), peek_mutex;
    tokio_rwlock: |value| Arc::new(tokio::sync::RwLock::new(value)), peek_tokio_rwlock;
    tokio_mutex: |value| Arc::new(tokio::sync::Mutex::new(value)), peek_tokio_mutex;
    swapped_arc: |value| Arc::new(ArcSwap::from_pointee(value)), peek_arc_swap;
    watch_alone: watch::Sender::new, peek_watch;
    live_alone: Live::new, peek_live;
}

#[cfg(feature = "parking_lot")]
kinds! {
    parking_lot_rwlock: |value| Arc::new(parking_lot::RwLock::new(value)), peek_parking_rwlock;
    parking_lot_mutex: |value| Arc::new(parking_lot::Mutex::new(value)), peek_parking_mutex;
}

fn peek_rwlock<T, R>(lock: &Arc<RwLock<T>>, peek: Peek<'_, T, R>) -> R {
    peek(&lock.try_read().unwrap())
}

fn peek_mutex<T, R>(lock: &Arc<Mutex<T>>, peek: Peek<'_, T, R>) -> R {
    peek(&lock.try_lock().unwrap())
}

fn peek_tokio_rwlock<T, R>(lock: &Arc<tokio::sync::RwLock<T>>, peek: Peek<'_, T, R>) -> R {
    peek(&lock.try_read().unwrap())
}

fn peek_tokio_mutex<T, R>(lock: &Arc<tokio::sync::Mutex<T>>, peek: Peek<'_, T, R>) -> R {
    peek(&lock.try_lock().unwrap())
}

#[cfg(feature = "parking_lot")]
fn peek_parking_rwlock<T, R>(lock: &Arc<parking_lot::RwLock<T>>, peek: Peek<'_, T, R>) -> R {
    peek(&lock.try_read().unwrap())
}

#[cfg(feature = "parking_lot")]
fn peek_parking_mutex<T, R>(lock: &Arc<parking_lot::Mutex<T>>, peek: Peek<'_, T, R>) -> R {
    peek(&lock.try_lock().unwrap())
}

fn peek_arc_swap<T, R>(swap: &Arc<ArcSwap<T>>, peek: Peek<'_, T, R>) -> R {
    peek(&swap.load())
}

fn peek_watch<T, R>(sender: &watch::Sender<T>, peek: Peek<'_, T, R>) -> R {
    peek(&sender.borrow())
}

fn peek_live<T, R>(live: &Live<T>, peek: Peek<'_, T, R>) -> R {
    peek(&live.load())
}

/// While `hold` runs its argument, this thread holds the write lock: a request for the lock must not block for ever.
fn busy_while_held<H: StateHandle<Value = u8>>(handle: H, hold: impl FnOnce(&dyn Fn())) {
    let state = writable("s", handle);
    hold(&|| {
        for wait in [Wait::Try, Wait::AGENT] {
            assert_eq!(state.read(wait).unwrap_err(), StateError::Busy("s".into()));
            let set = state.set(&[], &Tree::I64(0), &Tree::I64(1), wait);
            assert_eq!(set.unwrap_err(), StateError::Busy("s".into()));
        }
    });
    // An abandoned write is not made later.
    assert_eq!(state.read(WAIT).unwrap(), Tree::I64(0));
    state.set(&[], &Tree::I64(0), &Tree::I64(1), WAIT).unwrap();
}

#[test]
fn whoever_holds_the_lock_is_never_waited_for_on_its_own_thread() {
    let lock = Arc::new(RwLock::new(0));
    busy_while_held(lock.clone(), |then| {
        let _held = lock.write().unwrap();
        then();
    });
    let lock = Arc::new(Mutex::new(0));
    busy_while_held(lock.clone(), |then| {
        let _held = lock.lock().unwrap();
        then();
    });
    let lock = Arc::new(tokio::sync::RwLock::new(0));
    busy_while_held(lock.clone(), |then| {
        let _held = lock.blocking_write();
        then();
    });
    let lock = Arc::new(tokio::sync::Mutex::new(0));
    busy_while_held(lock.clone(), |then| {
        let _held = lock.blocking_lock();
        then();
    });
    let sender = watch::Sender::new(0);
    busy_while_held(sender.clone(), |then| sender.send_modify(|_| then()));
    #[cfg(feature = "parking_lot")]
    {
        let lock = Arc::new(parking_lot::RwLock::new(0));
        busy_while_held(lock.clone(), |then| {
            let _held = lock.write();
            then();
        });
        let lock = Arc::new(parking_lot::Mutex::new(0));
        busy_while_held(lock.clone(), |then| {
            let _held = lock.lock();
            then();
        });
    }
}

#[test]
fn a_reader_of_the_service_is_not_waited_for_on_its_own_thread_either() {
    let lock = Arc::new(tokio::sync::RwLock::new(0));
    let state = writable("s", lock.clone());
    let held = lock.blocking_read();
    assert_eq!(state.read(Wait::Try).unwrap(), Tree::I64(0));
    for wait in [Wait::Try, Wait::AGENT] {
        let set = state.set(&[], &Tree::I64(0), &Tree::I64(1), wait);
        assert_eq!(set.unwrap_err(), StateError::Busy("s".into()));
    }
    assert!(lock.try_read().is_ok(), "a writer of ours waits");
    drop(held);

    let sender = watch::Sender::new(0);
    let state = writable("s", sender.clone());
    let held = sender.borrow();
    // On another thread, which on a loaded machine may need more than the 5 ms of a patch.
    assert_eq!(state.read(WAIT).unwrap(), Tree::I64(0));
    let set = state.set(&[], &Tree::I64(0), &Tree::I64(1), Wait::AGENT);
    assert_eq!(set.unwrap_err(), StateError::Busy("s".into()));
    drop(held);
    // The abandoned write notices that once the channel is free.
    state.set(&[], &Tree::I64(0), &Tree::I64(2), WAIT).unwrap();
    assert_eq!(*sender.borrow(), 2);
}

/// The lock is held when the wait begins, and then released.
fn waits_its_turn<H, G>(handle: H, hold: impl FnOnce() -> G)
where
    H: StateHandle<Value = u8>,
{
    let state = writable("s", handle);
    let held = hold();
    let (done, is_done) = mpsc::channel();
    let waiting = state.clone();
    let thread = std::thread::spawn(move || {
        let set = waiting.set(&[], &Tree::I64(0), &Tree::I64(1), Wait::Until);
        done.send(()).unwrap();
        set
    });
    assert!(is_done.try_recv().is_err());
    drop(held);
    thread.join().unwrap().unwrap();
    assert_eq!(state.read(WAIT).unwrap(), Tree::I64(1));
}

#[test]
fn a_revert_waits_its_turn_at_every_lock() {
    let lock = Arc::new(Mutex::new(0));
    waits_its_turn(lock.clone(), || lock.lock().unwrap());
    let lock = Arc::new(tokio::sync::RwLock::new(0));
    waits_its_turn(lock.clone(), || lock.blocking_read());
    let lock = Arc::new(tokio::sync::Mutex::new(0));
    waits_its_turn(lock.clone(), || lock.blocking_lock());
    let sender = watch::Sender::new(0);
    waits_its_turn(sender.clone(), || sender.borrow());
    #[cfg(feature = "parking_lot")]
    {
        let lock = Arc::new(parking_lot::RwLock::new(0));
        waits_its_turn(lock.clone(), || lock.read());
        let lock = Arc::new(parking_lot::Mutex::new(0));
        waits_its_turn(lock.clone(), || lock.lock());
    }
}

#[test]
fn a_revert_may_wait_on_a_thread_of_a_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let lock = Arc::new(tokio::sync::RwLock::new(0));
    let state = writable("s", lock.clone());
    runtime
        .block_on(async { state.set(&[], &Tree::I64(0), &Tree::I64(1), Wait::Until) })
        .unwrap();
    assert_eq!(*lock.try_read().unwrap(), 1);
}

/// Several threads hold the read lock nearly all the time, so that the lock is rarely free.
fn gets_through_steady_readers<H>(handle: H, read: impl Fn(&dyn Fn()) + Send + Sync + 'static)
where
    H: StateHandle<Value = u8>,
{
    let state = writable("s", handle);
    let read = Arc::new(read);
    let done = Arc::new(AtomicBool::new(false));
    let (began, has_begun) = mpsc::channel();
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (read, done, began) = (read.clone(), done.clone(), began.clone());
            std::thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    read(&|| {
                        began.send(()).unwrap_or_default();
                        std::thread::yield_now();
                    });
                }
            })
        })
        .collect();
    (0..3).for_each(|_| has_begun.recv().unwrap());
    let set = state.set(&[], &Tree::I64(0), &Tree::I64(1), Wait::Until);
    done.store(true, Ordering::Relaxed);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    set.unwrap();
}

#[test]
fn steady_readers_keep_no_revert_waiting() {
    let lock = Arc::new(RwLock::new(0));
    gets_through_steady_readers(lock.clone(), move |then| {
        let _held = lock.read().unwrap();
        then();
    });
    let lock = Arc::new(tokio::sync::RwLock::new(0));
    gets_through_steady_readers(lock.clone(), move |then| {
        let _held = lock.blocking_read();
        then();
    });
    let sender = watch::Sender::new(0);
    gets_through_steady_readers(sender.clone(), move |then| {
        let _held = sender.borrow();
        then();
    });
    #[cfg(feature = "parking_lot")]
    {
        let lock = Arc::new(parking_lot::RwLock::new(0));
        gets_through_steady_readers(lock.clone(), move |then| {
            let _held = lock.read();
            then();
        });
    }
}

/// Checks, when dropped, whether the lock that held it is free.
#[derive(Clone, Deserialize, Serialize)]
struct Looking {
    number: u8,
    #[serde(skip)]
    lock: Option<std::sync::Weak<RwLock<Looking>>>,
}

impl PartialEq for Looking {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

static FREE_DROPS: AtomicUsize = AtomicUsize::new(0);

impl Drop for Looking {
    fn drop(&mut self) {
        if let Some(lock) = self.lock.as_ref().and_then(std::sync::Weak::upgrade)
            && lock.try_write().is_ok()
        {
            FREE_DROPS.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[test]
fn the_old_value_drops_outside_the_lock() {
    let lock = Arc::new(RwLock::new(Looking {
        number: 0,
        lock: None,
    }));
    lock.write().unwrap().lock = Some(Arc::downgrade(&lock));
    let state = writable("s", lock);
    state
        .set(&segments("number"), &Tree::I64(0), &Tree::I64(1), WAIT)
        .unwrap();
    assert_eq!(FREE_DROPS.load(Ordering::SeqCst), 1);
}

#[test]
fn an_atomic_is_written_if_it_is_what_is_expected() {
    static LIMIT: AtomicU64 = AtomicU64::new(u64::MAX);
    let state = writable("limit", &LIMIT);
    assert_eq!(state.read(Wait::Try).unwrap(), Tree::U64(u64::MAX));
    state
        .set(&[], &Tree::U64(u64::MAX), &Tree::I64(5), Wait::Try)
        .unwrap();
    assert_eq!(LIMIT.load(Ordering::SeqCst), 5);
    let conflict = state
        .set(&[], &Tree::I64(4), &Tree::I64(6), Wait::Try)
        .unwrap_err();
    assert_eq!(conflict, StateError::Conflict(path("limit")));
    assert_eq!(
        state
            .check_write(&[], &Tree::I64(-1), WAIT)
            .unwrap_err()
            .to_string(),
        "cannot write `limit`: invalid value: integer, expected u64 (0 to 18446744073709551615)"
    );

    let flag = Arc::new(AtomicBool::new(false));
    let state = writable("flag", flag.clone());
    state
        .set(&[], &Tree::Bool(false), &Tree::Bool(true), WAIT)
        .unwrap();
    assert!(flag.load(Ordering::SeqCst));
    let small = Arc::new(AtomicI8::new(-1));
    let state = writable("small", small.clone());
    assert!(state.set(&[], &Tree::I64(-1), &Tree::I64(128), WAIT).is_err());
    state.set(&[], &Tree::I64(-1), &Tree::I64(-128), WAIT).unwrap();
    assert_eq!(small.load(Ordering::SeqCst), -128);
}

#[test]
fn receivers_hear_of_a_write_and_of_nothing_else() {
    let (sender, mut receiver) = watch::channel(1_u8);
    let state = writable("s", sender);
    state.read(WAIT).unwrap();
    state.check_write(&[], &Tree::I64(2), WAIT).unwrap();
    assert!(state.set(&[], &Tree::I64(9), &Tree::I64(2), WAIT).is_err());
    assert!(!receiver.has_changed().unwrap());
    state.set(&[], &Tree::I64(1), &Tree::I64(2), WAIT).unwrap();
    assert!(receiver.has_changed().unwrap());
    assert_eq!(*receiver.borrow_and_update(), 2);
}

#[test]
fn of_two_that_swap_an_arc_at_once_one_wins_each_time() {
    let swap = Arc::new(ArcSwap::from_pointee(0_u64));
    let state = writable("s", swap.clone());
    let (service, rounds) = (swap.clone(), 2_000);
    let thread = std::thread::spawn(move || (0..rounds).for_each(|_| drop(service.rcu(|n| **n + 1))));
    let mut ours = 0;
    while ours < rounds {
        let Tree::I64(n) = state.read(WAIT).unwrap() else {
            panic!("no number")
        };
        match state.set(&[], &Tree::I64(n), &Tree::I64(n + 1), WAIT) {
            Ok(()) => ours += 1,
            Err(StateError::Conflict(_) | StateError::Busy(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    thread.join().unwrap();
    assert_eq!(**swap.load(), 2 * rounds);
}

#[test]
fn a_service_that_writes_another_part_all_the_time_keeps_no_revert_from_its_own() {
    let lock = shared((0_u64, 1_u8));
    let state = writable("s", lock.clone());
    let done = Arc::new(AtomicBool::new(false));
    let (service, stop) = (lock.clone(), done.clone());
    let (began, has_begun) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            service.write().unwrap().0 += 1;
            began.send(()).unwrap_or_default();
            (0..1_000).for_each(|_| std::hint::spin_loop());
        }
    });
    has_begun.recv().unwrap();
    let set = state.set(&segments("1"), &Tree::I64(1), &Tree::I64(2), Wait::Until);
    done.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    set.unwrap();
    assert_eq!(lock.read().unwrap().1, 2);
}
