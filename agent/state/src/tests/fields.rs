//! Fields behind closures of the service, and the service's checks of new values.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::*;

const WAIT: Wait = Wait::Bounded(Duration::from_secs(10));

fn field<V, E>(
    path: &str,
    get: impl Fn() -> V + Send + Sync + 'static,
    set: impl Fn(V) -> Result<(), E> + Send + Sync + 'static,
) -> Arc<dyn State>
where
    V: Serialize + serde::de::DeserializeOwned + PartialEq + Send + Sync + 'static,
    E: std::fmt::Display,
{
    crate::writable(
        path.parse().unwrap(),
        SharedCell::Shared(Arc::new(FieldCell::new(get, set))),
    )
}

/// A number behind closures; the caller chooses what `set` does.
fn number(
    path: &str,
    set: impl Fn(&AtomicU32, u32) -> Result<(), String> + Send + Sync + 'static,
) -> (Arc<AtomicU32>, Arc<dyn State>) {
    let number = Arc::new(AtomicU32::new(1));
    let (get, put) = (number.clone(), number.clone());
    let state = field(
        path,
        move || get.load(Ordering::SeqCst),
        move |value| set(&put, value),
    );
    (number, state)
}

fn stored(number: &AtomicU32, value: u32) -> Result<(), String> {
    number.store(value, Ordering::SeqCst);
    Ok(())
}

fn states(states: Vec<Arc<dyn State>>) -> Result<States, StateError> {
    States::new(states, vec![], Arc::new(Redactor::new(&[])))
}

#[test]
fn fields_are_shown_under_their_paths_and_written_one_by_one() {
    let (rate, first) = number("limits.mail.rate", stored);
    let (burst, second) = number("limits.burst", stored);
    let states = states(vec![first, second]).unwrap();
    assert_eq!(states.list().collect::<Vec<_>>(), [("limits", true)]);
    let all = states.read(&path("limits"), WAIT).unwrap();
    assert_eq!(format!("{all:?}"), r#"{"mail": {"rate": 1}, "burst": 1}"#);
    let set = |place: &str, from, to| {
        states.compare_and_set(
            &path(place),
            &Tree::I64(from),
            &Tree::I64(to),
            &|_, _| Vec::new(),
            WAIT,
        )
    };
    let checked = states
        .check_write(&path("limits.mail.rate"), &Tree::I64(5), WAIT)
        .unwrap();
    assert_eq!(checked.before, Some(Tree::I64(1)));
    set("limits.mail.rate", 1, 5).unwrap();
    assert_eq!(
        (rate.load(Ordering::SeqCst), burst.load(Ordering::SeqCst)),
        (5, 1)
    );
    assert_eq!(
        set("limits.mail.rate", 1, 6).unwrap_err(),
        StateError::Conflict(path("limits.mail.rate"))
    );
    let whole = states
        .check_write(&path("limits.mail"), &all, WAIT)
        .unwrap_err()
        .to_string();
    assert_eq!(
        whole,
        "cannot write `limits.mail`: it consists of fields that are set one by one; write one of them"
    );
    let missing = states
        .check_write(&path("limits.mail.rat"), &all, WAIT)
        .unwrap_err()
        .to_string();
    assert_eq!(
        missing,
        "no such path `limits.mail.rat`; did you mean `rate`? known: rate"
    );
}

#[test]
fn fields_do_not_overlap_one_another_or_a_state() {
    let of = |paths: &[&str]| {
        states(paths.iter().map(|path| number(path, stored).1).collect())
            .map(drop)
            .map_err(|e| e.to_string())
    };
    assert_eq!(of(&["a.b", "a.c", "d"]), Ok(()));
    assert_eq!(
        of(&["a.b", "a.b.c"]).unwrap_err(),
        "field `a.b.c` and field `a.b` overlap"
    );
    assert_eq!(
        of(&["a.b", "a.b"]).unwrap_err(),
        "two states are named `a.b`; names must differ"
    );
    assert_eq!(
        of(&["a", "a"]).unwrap_err(),
        "two states are named `a`; names must differ"
    );
    for order in [["a.b", "a"], ["a", "a.b"]] {
        let error = of(&order).unwrap_err();
        assert_eq!(
            error,
            "state `a` is a whole; a field inside it needs another first name"
        );
    }
}

#[test]
fn a_set_that_says_no_is_an_error_with_the_path_and_its_words() {
    let (value, state) = number("limit", |_, value| Err(format!("{value} is too much")));
    let states = states(vec![state]).unwrap();
    let set = states.compare_and_set(
        &path("limit"),
        &Tree::I64(1),
        &Tree::I64(7),
        &|_, _| Vec::new(),
        WAIT,
    );
    assert_eq!(
        set.unwrap_err().to_string(),
        "cannot write `limit`: refused by the service's check: 7 is too much"
    );
    assert_eq!(value.load(Ordering::SeqCst), 1);
}

#[test]
fn a_set_that_does_something_else_is_taken_back() {
    let (value, state) = number("limit", |number, value| stored(number, value.min(5)));
    let set = state.set(&[], &Tree::I64(1), &Tree::I64(9), WAIT);
    assert_eq!(set.unwrap_err(), StateError::NotStored(path("limit")));
    assert_eq!(value.load(Ordering::SeqCst), 1);

    let (value, state) = number("limit", |number, value| {
        stored(number, value)?;
        if value == 9 { panic!("set") } else { Ok(()) }
    });
    let set = state.set(&[], &Tree::I64(1), &Tree::I64(9), WAIT);
    assert!(matches!(
        set.unwrap_err(),
        StateError::Panicked {
            doing: "setting the field",
            ..
        }
    ));
    assert_eq!(value.load(Ordering::SeqCst), 1);
    state.set(&[], &Tree::I64(1), &Tree::I64(8), WAIT).unwrap();
}

#[test]
fn a_get_that_panics_is_an_error() {
    let state = field("broken", || -> u8 { panic!("get") }, |_| Ok::<(), String>(()));
    let error = state.read(WAIT).unwrap_err();
    assert!(
        matches!(
            error,
            StateError::Panicked {
                doing: "getting the field",
                ..
            }
        ),
        "{error}"
    );
    assert!(state.set(&[], &Tree::I64(1), &Tree::I64(9), WAIT).is_err());
}

#[test]
fn closures_that_wait_for_the_callers_own_lock_hang_nobody() {
    let lock = Arc::new(Mutex::new(1_u32));
    let (get, put) = (lock.clone(), lock.clone());
    let state = field(
        "limit",
        move || *get.lock().unwrap(),
        move |value| {
            *put.lock().unwrap() = value;
            Ok::<(), String>(())
        },
    );
    let held = lock.lock().unwrap();
    for wait in [Wait::Try, Wait::AGENT] {
        assert_eq!(state.read(wait).unwrap_err(), StateError::Busy("limit".into()));
        assert_eq!(
            state.set(&[], &Tree::I64(1), &Tree::I64(2), wait).unwrap_err(),
            StateError::Busy("limit".into())
        );
    }
    drop(held);
    state.set(&[], &Tree::I64(1), &Tree::I64(3), WAIT).unwrap();
    assert_eq!(*lock.lock().unwrap(), 3);
}

#[test]
fn a_set_that_comes_back_too_late_is_taken_back() {
    let (go, gone) = mpsc::channel::<()>();
    let (told, calls) = mpsc::channel();
    let (gone, told) = (Mutex::new(gone), Mutex::new(told));
    let slow = AtomicBool::new(true);
    let (value, state) = number("limit", move |number, value| {
        if slow.swap(false, Ordering::SeqCst) {
            gone.lock().unwrap().recv().unwrap();
        }
        stored(number, value)?;
        told.lock().unwrap().send(value).unwrap();
        Ok(())
    });
    assert_eq!(
        state
            .set(&[], &Tree::I64(1), &Tree::I64(9), Wait::AGENT)
            .unwrap_err(),
        StateError::Busy("limit".into())
    );
    go.send(()).unwrap();
    assert_eq!((calls.recv().unwrap(), calls.recv().unwrap()), (9, 1));
    assert_eq!(value.load(Ordering::SeqCst), 1);
    state.set(&[], &Tree::I64(1), &Tree::I64(2), WAIT).unwrap();
}

fn checked<T: 'static>(
    state: Arc<dyn State>,
    check: impl Fn(&T) -> Result<(), String> + Send + Sync + 'static,
) -> Result<States, String> {
    let check: Check<T> = Arc::new(check);
    let mut all = vec![state];
    if let Some(unused) = add_checks(&mut all, &[("config".to_owned(), Box::new(check))]).pop() {
        return Err(unused.why);
    }
    states(all).map_err(|e| e.to_string())
}

#[test]
fn what_the_services_check_refuses_is_not_written_and_its_words_are_told() {
    let lock = shared(config());
    let check = |config: &Config| match config.server.port {
        0..1024 => Err(format!("port {} is not for us", config.server.port)),
        _ => Ok(()),
    };
    let states = checked(writable("config", lock.clone()), check).unwrap();
    let port = path("config.server.port");
    let expected = "cannot write `config.server.port`: refused by the service's check: port 80 is not for us";
    let error = states
        .check_write(&port, &Tree::I64(80), WAIT)
        .unwrap_err()
        .to_string();
    assert_eq!(error, expected);
    let set = |to| states.compare_and_set(&port, &Tree::I64(8080), &Tree::I64(to), &|_, _| Vec::new(), WAIT);
    assert_eq!(set(80).unwrap_err().to_string(), expected);
    assert_eq!(*lock.read().unwrap(), config());
    set(9090).unwrap();
    // A value that could not be restored is not changed.
    lock.write().unwrap().server.port = 80;
    let error = states
        .check_write(&port, &Tree::I64(9090), WAIT)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "`config` cannot be written: what stands there does not pass the service's own check, so it could not be put back"
    );
}

#[test]
fn the_words_of_a_check_are_not_told_if_a_secret_is_in_them() {
    let check = |config: &Config| {
        if config.server.port == 8080 {
            Ok(())
        } else {
            Err(format!(
                "not with {} and {}",
                config.slack.token.expose(),
                config.db.password
            ))
        }
    };
    let states = checked(writable("config", shared(config())), check).unwrap();
    let error = |place: &str, value: Tree| {
        states
            .check_write(&path(place), &value, WAIT)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error("config.server.port", Tree::I64(1)),
        "cannot write `config.server.port`: refused by the service's check"
    );

    let check = |config: &Config| match config.db.password.len() {
        0..4 => Err(format!("`{}` is too short", config.db.password)),
        _ => Ok(()),
    };
    let states = checked(writable("config", shared(config())), check).unwrap();
    let error = states
        .check_write(&path("config.db.password"), &text("pw1"), WAIT)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "cannot write `config.db.password`: refused by the service's check"
    );
}

#[test]
fn a_check_of_another_type_or_without_a_state_is_told() {
    let fine = |_: &Config| Ok(());
    assert!(checked(writable("config", shared(config())), fine).is_ok());
    let why = |state, check: fn(&Config) -> Result<(), String>| checked(state, check).err().unwrap();
    assert_eq!(
        why(writable("config", shared(1_u8)), fine),
        "state `config` is of another type"
    );
    assert_eq!(
        why(read_only("config", shared(config())), fine),
        "state `config` is only read"
    );
    assert_eq!(
        why(writable("other", shared(config())), fine),
        "no state is named `config`"
    );
}

#[test]
fn a_name_that_is_used_twice_costs_those_that_have_it() {
    let all = |paths: &[&str]| {
        let fields = paths.iter().map(|path| number(path, stored).1).collect();
        States::of(fields, vec![], Arc::new(Redactor::new(&[])))
    };
    let (states, faults) = all(&["a.b", "a.b.c", "a.d", "e", "e", "f.g", "f"]);
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        faults,
        [
            "field `a.b.c` and field `a.b` overlap",
            "two states are named `e`; names must differ",
            "state `f` is a whole; a field inside it needs another first name"
        ]
    );
    assert_eq!(states.read(&path("a.d"), WAIT).unwrap(), Tree::I64(1));
    let whole = format!("{:?}", states.read(&path("a"), WAIT).unwrap());
    assert_eq!(
        whole,
        r#"{"b": ‹unreadable: field `a.b.c` and field `a.b` overlap›, "d": 1}"#
    );
    for closed in ["a.b", "a.b.c", "e", "f", "f.g"] {
        assert!(states.read(&path(closed), WAIT).is_err(), "{closed}");
        assert!(
            states.check_write(&path(closed), &Tree::I64(2), WAIT).is_err(),
            "{closed}"
        );
    }
    let written = states.compare_and_set(
        &path("a.d"),
        &Tree::I64(1),
        &Tree::I64(2),
        &|_, _| Vec::new(),
        WAIT,
    );
    written.unwrap();
}

#[test]
fn what_is_only_read_is_shown_and_listed_so() {
    let read: Arc<dyn State> = crate::read_only(
        path("mail.sent"),
        SharedCell::Shared(Arc::new(ReadCell::new(|| 7_u64))),
    );
    let panics: Arc<dyn State> = crate::read_only(
        path("mail.broken"),
        SharedCell::Shared(Arc::new(ReadCell::new(|| -> u64 { panic!("get") }))),
    );
    let (_, rate) = number("mail.rate", stored);
    let states = states(vec![read, rate, panics]).unwrap();
    assert_eq!(states.read(&path("mail.sent"), WAIT).unwrap(), Tree::I64(7));
    let listed: Vec<bool> = ["mail.sent", "mail.rate", "mail"]
        .into_iter()
        .map(|place| states.is_writable(&path(place)))
        .collect();
    assert_eq!(listed, [false, true, true]);
    let error = states
        .check_write(&path("mail.sent"), &Tree::I64(1), WAIT)
        .unwrap_err();
    assert_eq!(error, StateError::ReadOnly("mail.sent".to_owned()));
    let whole = format!("{:?}", states.read(&path("mail"), WAIT).unwrap());
    assert!(
        whole.contains(r#""sent": 7, "rate": 1"#) && whole.contains("panicked while getting"),
        "{whole}"
    );
}

/// What a type knows of a path that does not exist now.
#[test]
fn a_place_that_a_struct_does_not_know_never_comes() {
    #[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
    struct Opt {
        rate: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        proxy: Option<String>,
        on: std::collections::BTreeMap<String, bool>,
        mode: Mode,
        #[serde(flatten)]
        rest: Rest,
        plain: Plain,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
    struct Rest {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        more: Option<u8>,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Plain {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inner: Option<Box<Plain>>,
        text: String,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
    #[serde(tag = "kind")]
    enum Mode {
        Slow { wait: u8 },
        Fast { rate: u8 },
    }
    let plain = Plain {
        inner: None,
        text: "t".to_owned(),
    };
    let value = Opt {
        rate: 1,
        proxy: None,
        on: [("a".to_owned(), true)].into(),
        mode: Mode::Slow { wait: 1 },
        rest: Rest { more: None },
        plain: plain.clone(),
    };
    let states = states(vec![
        writable("opt", shared(value)),
        writable("plain", shared(plain)),
    ])
    .unwrap();
    let comes = |place: &str| states.may_come(&path(place));
    // Read through serde's buffer: the struct with `flatten` may know any name.
    for place in [
        "opt.naem",
        "opt.proxy",
        "opt.on.b",
        "opt.mode.rate",
        "opt.more",
        "opt.plain.inner",
        "plain.inner",
    ] {
        assert!(comes(place), "{place}");
    }
    for place in ["plain.txet", "plain.iner.text", "opt.plain.txet"] {
        assert!(!comes(place), "{place}");
    }
    // Below a missing container this is unknown.
    assert!(comes("plain.inner.txet"));
}
