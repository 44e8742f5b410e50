use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::*;

/// Long enough for a loaded machine. Tests that exceed a bound on purpose use another one.
const WAIT: Wait = Wait::Bounded(Duration::from_secs(10));

fn written(path: &str, expect: Tree, value: Tree) -> Result<Config, StateError> {
    let lock = shared(config());
    let state = writable("config", lock.clone());
    let result = state.compare_and_set(&segments(path), &expect, &value, &|_, _| Vec::new(), WAIT);
    let after = lock.read().unwrap().clone();
    match result {
        Ok(()) => Ok(after),
        Err(error) => {
            assert_eq!(after, config(), "a failed write changed something");
            Err(error)
        }
    }
}

fn refusal(path: &str, value: Tree) -> String {
    let lock = shared(config());
    let error = writable("config", lock.clone())
        .check_write(&segments(path), &value, WAIT)
        .unwrap_err()
        .to_string();
    assert_eq!(*lock.read().unwrap(), config());
    assert!(!error.contains("CANARY"), "{error}");
    error
}

#[test]
fn a_leaf_is_written_where_the_expected_value_stands() {
    let after = written("server.port", Tree::I64(8080), Tree::I64(9090)).unwrap();
    assert_eq!(
        after,
        Config {
            server: Server {
                port: 9090,
                loglevel: "info".into()
            },
            ..config()
        }
    );
    let conflict = written("server.port", Tree::I64(1), Tree::I64(9090)).unwrap_err();
    assert_eq!(conflict, StateError::Conflict(path("config.server.port")));
}

#[test]
fn a_container_is_written_whatever_the_order_of_its_keys() {
    let db = tree(&config().db);
    let new = Tree::Map(vec![
        ("password".into(), text("CANARY-new")),
        ("host".into(), text("db2")),
        ("port".into(), Tree::I64(1)),
    ]);
    assert_eq!(written("db", db, new).unwrap().db.host, "db2");
}

#[test]
fn checking_a_write_gives_what_stands_there_and_changes_nothing() {
    let lock = shared(config());
    let state = writable("config", lock.clone());
    let checked = state
        .check_write(&segments("server.port"), &Tree::I64(9090), WAIT)
        .unwrap();
    assert_eq!(
        checked,
        Checked {
            before: Some(Tree::I64(8080)),
            after: Some(Tree::I64(9090))
        }
    );
    assert_eq!(*lock.read().unwrap(), config());
}

#[test]
fn a_wrong_value_is_refused_by_path_and_the_old_one_stays() {
    assert_eq!(
        refusal("server.port", text("CANARY")),
        "cannot write `config.server.port`: invalid type: string, expected u16"
    );
    assert_eq!(
        refusal("server.prot", Tree::I64(1)),
        "no such path `config.server.prot`; did you mean `port`? known: port, loglevel"
    );
    let unknown = Tree::Map(vec![
        ("port".into(), Tree::I64(1)),
        ("loglevel".into(), text("info")),
        ("typo".into(), text("CANARY")),
    ]);
    assert_eq!(
        refusal("server", unknown),
        "cannot write `config.server.typo`: the service's type would store another value than the one given"
    );
    assert_eq!(
        refusal("slack.token", text("typed CANARY")),
        "cannot write `config.slack.token`: only a secret can be stored here"
    );
    assert_eq!(
        refusal("slack.token", text(PLACEHOLDER)),
        "cannot write `config.slack.token`: the placeholder for a secret cannot be stored".replace(
            "the placeholder for a secret cannot be stored",
            "only a secret can be stored here"
        )
    );
}

#[test]
fn a_secret_goes_back_to_its_own_path_whether_its_type_or_its_name_makes_it_one() {
    let secret = |value: &str| Tree::Secret(Box::new(text(value)));
    let after = written("slack.token", secret("CANARY-token"), secret("CANARY-2")).unwrap();
    assert_eq!(after.slack.token.expose(), "CANARY-2");
    let after = written("db.password", secret("CANARY-password"), secret("CANARY-3")).unwrap();
    assert_eq!(after.db.password, "CANARY-3");
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Skipping {
    port: u16,
    #[serde(skip)]
    hidden: u32,
    #[serde(skip_serializing)]
    #[serde(default)]
    unwritten: u32,
    nested: Vec<Nested>,
    rate: f64,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Nested {
    name: Option<Option<u8>>,
}

fn lossy(value: Skipping) -> String {
    let state = writable("s", shared(value));
    let set = state
        .compare_and_set(
            &segments("port"),
            &Tree::I64(0),
            &Tree::I64(1),
            &|_, _| Vec::new(),
            WAIT,
        )
        .unwrap_err();
    let checked = state
        .check_write(&segments("port"), &Tree::I64(1), WAIT)
        .unwrap_err();
    assert_eq!(set, checked);
    set.to_string()
}

#[test]
fn a_live_value_that_does_not_survive_the_round_trip_is_never_written() {
    let whole = "`s` cannot be written: the value as a whole does not survive being written back; a field may be left \
                 out by serde: `unwritten` of struct `Skipping`, or one under `#[serde(skip)]`";
    assert_eq!(
        lossy(Skipping {
            hidden: 1,
            ..Skipping::default()
        }),
        whole
    );
    assert_eq!(
        lossy(Skipping {
            unwritten: 1,
            ..Skipping::default()
        }),
        whole
    );
    let nan = lossy(Skipping {
        rate: f64::NAN,
        ..Skipping::default()
    });
    assert_eq!(
        nan,
        "`s.rate` cannot be written: it does not survive being written back: NaN is not equal to itself"
    );
    // serde does not distinguish `Some(None)` from `None`: both are written alike.
    let nested = vec![Nested { name: None }, Nested { name: Some(None) }];
    let nothing = lossy(Skipping {
        nested,
        ..Skipping::default()
    });
    assert_eq!(
        nothing,
        "`s.nested.1.name` cannot be written: it does not survive being written back: it is `Some` of nothing, which serde \
         reads back as `None`"
    );
    let fine = writable("s", shared(Skipping::default()));
    fine.compare_and_set(
        &segments("port"),
        &Tree::I64(0),
        &Tree::I64(1),
        &|_, _| Vec::new(),
        WAIT,
    )
    .unwrap();
}

/// Deserializes to another number than it serializes, except 0.
#[derive(Clone, Debug, PartialEq)]
struct Halving(u8);

impl Serialize for Halving {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.0 / 2)
    }
}

impl<'de> Deserialize<'de> for Halving {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u8::deserialize(deserializer).map(Self)
    }
}

#[test]
fn the_first_path_that_does_not_survive_is_named() {
    let lock = shared((0_u8, vec![Halving(0), Halving(9)]));
    let error = writable("s", lock)
        .check_write(&segments("0"), &Tree::I64(1), WAIT)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "`s.1.1` cannot be written: it does not survive being written back"
    );
}

#[test]
fn a_set_is_writable_though_each_copy_has_another_order() {
    let names: HashSet<String> = (0..50).map(|n| n.to_string()).collect();
    let lock = shared((names.clone(), 1_u8));
    let state = writable("s", lock.clone());
    state
        .compare_and_set(
            &segments("1"),
            &Tree::I64(1),
            &Tree::I64(2),
            &|_, _| Vec::new(),
            WAIT,
        )
        .unwrap();
    let new = Tree::Seq((0..55).map(|n| text(&n.to_string())).collect());
    let before = state
        .check_write(&segments("0"), &new, WAIT)
        .unwrap()
        .before
        .unwrap();
    state
        .compare_and_set(&segments("0"), &before, &new, &|_, _| Vec::new(), WAIT)
        .unwrap();
    assert_eq!(lock.read().unwrap().0.len(), 55);
    state
        .compare_and_set(&segments("0"), &new, &before, &|_, _| Vec::new(), WAIT)
        .unwrap();
    assert_eq!(*lock.read().unwrap(), (names, 2));
}

#[test]
fn a_list_in_another_order_is_a_conflict() {
    let state = writable("s", shared(vec![1, 2]));
    let reordered = Tree::Seq(vec![Tree::I64(2), Tree::I64(1)]);
    let error = state
        .compare_and_set(&[], &reordered, &Tree::Seq(vec![]), &|_, _| Vec::new(), WAIT)
        .unwrap_err();
    assert_eq!(error, StateError::Conflict(path("s")));
}

#[test]
fn a_number_that_the_type_would_round_is_refused() {
    let state = writable("s", shared(BTreeMap::from([("a".to_owned(), 0.5_f32)])));
    let error = state
        .check_write(&segments("a"), &Tree::F64(0.123_456_789), WAIT)
        .unwrap_err();
    assert_eq!(error, StateError::NotStored(path("s.a")));
    state.check_write(&segments("a"), &Tree::F64(0.1), WAIT).unwrap();
    state.check_write(&segments("a"), &Tree::I64(3), WAIT).unwrap();
}

#[test]
fn a_busy_lock_is_an_error_and_leaves_nobody_waiting() {
    let lock = shared(config());
    let state = writable("config", lock.clone());
    let writing = lock.write().unwrap();
    for wait in [Wait::Try, Wait::AGENT] {
        assert_eq!(state.read(wait).unwrap_err(), StateError::Busy("config".into()));
    }
    drop(writing);
    let reading = lock.read().unwrap();
    assert!(state.read(Wait::Try).is_ok());
    let set = |wait| {
        state.compare_and_set(
            &segments("server.port"),
            &Tree::I64(8080),
            &Tree::I64(1),
            &|_, _| Vec::new(),
            wait,
        )
    };
    assert_eq!(set(Wait::Try).unwrap_err(), StateError::Busy("config".into()));
    assert_eq!(set(Wait::AGENT).unwrap_err(), StateError::Busy("config".into()));
    assert!(lock.try_read().is_ok(), "a writer of ours waits");
    drop(reading);
    set(Wait::Try).unwrap();
}

#[test]
fn a_revert_waits_for_the_lock_as_any_writer() {
    let lock = shared(config());
    let state = writable("config", lock.clone());
    let writing = lock.write().unwrap();
    let (done, is_done) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let set = state.compare_and_set(
            &segments("server.port"),
            &Tree::I64(8080),
            &Tree::I64(1),
            &|_, _| Vec::new(),
            Wait::Until,
        );
        done.send(()).unwrap();
        set
    });
    assert!(is_done.try_recv().is_err());
    drop(writing);
    thread.join().unwrap().unwrap();
    assert_eq!(lock.read().unwrap().server.port, 1);
}

/// Panics in the named operation, and counts its drops.
#[derive(Debug, Deserialize, Serialize)]
#[serde(try_from = "u8", into = "u8")]
struct Panicking(u8);

static PANIC_IN_EQ: AtomicBool = AtomicBool::new(false);

impl TryFrom<u8> for Panicking {
    type Error = String;
    fn try_from(value: u8) -> Result<Self, String> {
        if value == 1 {
            panic!("deserialize")
        } else {
            Ok(Self(value))
        }
    }
}

impl From<Panicking> for u8 {
    fn from(value: Panicking) -> u8 {
        // `into` clones first; the clone drops here.
        if value.0 == 2 {
            panic!("serialize")
        } else {
            value.0
        }
    }
}

impl Clone for Panicking {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl PartialEq for Panicking {
    fn eq(&self, other: &Self) -> bool {
        if PANIC_IN_EQ.load(Ordering::SeqCst) {
            panic!("eq")
        } else {
            self.0 == other.0
        }
    }
}

impl Drop for Panicking {
    fn drop(&mut self) {
        if self.0 == 9 && !std::thread::panicking() {
            panic!("drop")
        }
    }
}

#[test]
fn a_panic_of_the_services_type_poisons_nothing() {
    let lock = shared((Panicking(0), 7_u8));
    let state = writable("s", lock.clone());
    let set = |to: i64| {
        state.compare_and_set(
            &segments("0"),
            &Tree::I64(0),
            &Tree::I64(to),
            &|_, _| Vec::new(),
            WAIT,
        )
    };
    assert!(matches!(
        set(1),
        Err(StateError::Panicked {
            doing: "reading a value",
            ..
        })
    ));
    let unwritten = set(2).unwrap_err().to_string();
    assert!(
        unwritten.contains("`s.0`") && unwritten.contains("panics where it writes itself out"),
        "{unwritten}"
    );
    PANIC_IN_EQ.store(true, Ordering::SeqCst);
    assert!(matches!(
        set(3),
        Err(StateError::Panicked {
            doing: "comparing",
            ..
        })
    ));
    PANIC_IN_EQ.store(false, Ordering::SeqCst);
    assert!(!lock.is_poisoned());
    assert_eq!(lock.read().unwrap().0.0, 0);
    set(4).unwrap();
    assert_eq!(lock.read().unwrap().0.0, 4);
}

/// Panics on drop if armed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Exploding(u8);

impl Drop for Exploding {
    fn drop(&mut self) {
        if self.0 == 9 && !std::thread::panicking() {
            panic!("drop");
        }
    }
}

#[test]
fn an_old_value_that_panics_when_it_drops_harms_nobody() {
    let lock = shared(Exploding(9));
    let state = writable("s", lock.clone());
    state
        .compare_and_set(&[], &Tree::I64(9), &Tree::I64(1), &|_, _| Vec::new(), WAIT)
        .unwrap();
    assert!(!lock.is_poisoned());
    assert_eq!(lock.read().unwrap().0, 1);
}

#[test]
fn a_lock_that_the_service_poisoned_is_refused_and_said_so() {
    let lock = shared(config());
    let poisoning = lock.clone();
    let _ = std::thread::spawn(move || {
        let _guard = poisoning.write().unwrap();
        panic!("the service panics");
    })
    .join();
    let state = writable("config", lock);
    for wait in [Wait::Try, Wait::AGENT, Wait::Until] {
        assert_eq!(
            state.read(wait).unwrap_err(),
            StateError::Poisoned("config".into())
        );
    }
}

#[test]
fn of_two_writers_that_expect_the_same_one_wins() {
    let lock = shared(BTreeMap::from([("n".to_owned(), 0_i64)]));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let state = writable("s", lock.clone());
            std::thread::spawn(move || {
                let mut added = 0;
                while added < 50 {
                    let now = state.read(Wait::Until).unwrap();
                    let Some(Tree::I64(n)) = now.at(&segments("n")).cloned() else {
                        panic!("{now:?}")
                    };
                    match state.compare_and_set(
                        &segments("n"),
                        &Tree::I64(n),
                        &Tree::I64(n + 1),
                        &|_, _| Vec::new(),
                        Wait::Until,
                    ) {
                        Ok(()) => added += 1,
                        Err(StateError::Conflict(_) | StateError::Busy(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(lock.read().unwrap()["n"], 100);
}

fn states() -> States {
    let telltale = BTreeMap::from([
        ("plain".to_owned(), Telltale("good".to_owned())),
        ("db_key".into(), Telltale("good".to_owned())),
    ]);
    let states = vec![
        writable("config", shared(config())),
        read_only("metrics", shared(BTreeMap::from([("requests".to_owned(), 5)]))),
        writable("telltale", shared(telltale)),
    ];
    States::new(states, vec![path("config.db.host")], Arc::new(Redactor::new(&[]))).unwrap()
}

#[test]
fn states_are_found_by_name_and_read_with_their_secrets_marked() {
    let states = states();
    let names: Vec<_> = states.list().collect();
    assert_eq!(names, [("config", true), ("metrics", false), ("telltale", true)]);
    assert_eq!(
        states.read(&path("config.server.port"), WAIT).unwrap(),
        Tree::I64(8080)
    );
    assert!(matches!(
        states.read(&path("config.db.password"), WAIT).unwrap(),
        Tree::Secret(_)
    ));
    let error = states.read(&path("confg.db"), WAIT).unwrap_err().to_string();
    assert_eq!(
        error,
        "no state is named `confg`; did you mean `config`? known: config, metrics, telltale"
    );
    let error = states
        .read(&path("config.server.prt"), WAIT)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "no such path `config.server.prt`; did you mean `port`? known: port, loglevel"
    );
    let twice = vec![read_only("a", shared(1)), read_only("a", shared(1))];
    assert!(matches!(
        States::new(twice, vec![], Arc::new(Redactor::new(&[]))),
        Err(StateError::DuplicateName(_))
    ));
}

#[test]
fn what_the_author_closed_is_not_written_nor_is_what_contains_it() {
    let states = states();
    for closed in ["config.db.host", "config.db", "config"] {
        let error = states
            .check_write(&path(closed), &Tree::Null, WAIT)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("the service closes `config.db.host` to writes"),
            "{error}"
        );
    }
    assert!(
        states
            .check_write(&path("config.db.port"), &Tree::I64(1), WAIT)
            .is_ok()
    );
    let error = states
        .compare_and_set(
            &path("metrics.requests"),
            &Tree::I64(5),
            &Tree::I64(1),
            &|_, _| Vec::new(),
            WAIT,
        )
        .unwrap_err();
    assert_eq!(error, StateError::ReadOnly("metrics".into()));
    let before = states
        .check_write(&path("config.db.password"), &text("new"), WAIT)
        .unwrap()
        .before
        .unwrap();
    assert!(matches!(before, Tree::Secret(_)));
}

#[test]
fn the_services_words_are_told_only_where_nothing_is_secret() {
    let states = states();
    let error = |place: &str| {
        states
            .check_write(&path(place), &text("bad CANARY"), WAIT)
            .unwrap_err()
            .to_string()
    };
    let plain = error("telltale.plain");
    assert_eq!(
        plain,
        "cannot write `telltale.plain`: refused by the service's type: `bad CANARY` is bad"
    );
    assert_eq!(
        error("telltale.db_key"),
        "cannot write `telltale.db_key`: refused by the service's type"
    );
}

/// Fails to serialize, with a message.
struct Unspeakable;

impl Serialize for Unspeakable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("CANARY cannot be written"))
    }
}

#[test]
fn why_a_value_cannot_be_read_is_told_without_the_services_words() {
    let states = vec![
        read_only("s", shared(BTreeMap::from([("a", Unspeakable)]))),
        read_only("t", shared(Unspeakable)),
    ];
    let states = States::new(states, vec![], Arc::new(Redactor::new(&[]))).unwrap();
    let whole = format!("{:?}", states.read(&path("s"), WAIT).unwrap());
    assert_eq!(whole, r#"{"a": ‹unreadable: its type refuses to write it out›}"#);
    let error = states.read(&path("t"), WAIT).unwrap_err().to_string();
    assert_eq!(error, "cannot read `t`: refused by the service's type");
}
