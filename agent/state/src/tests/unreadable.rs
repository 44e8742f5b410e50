//! Leaves that cannot be shown, and reads along one path.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use proptest::prelude::*;
use serde::{Serializer, ser};

use super::*;
use debug_base::found_along;

/// Fails or panics when serialized.
#[derive(Clone, Copy)]
enum Faulty {
    Refuses,
    Panics,
}

impl Serialize for Faulty {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Refuses => Err(ser::Error::custom("CANARY")),
            Self::Panics => panic!("CANARY"),
        }
    }
}

/// Two entries with one name, as a flattened map may write them.
struct Twice;

impl Serialize for Twice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([("a", 1), ("b", 2), ("a", 3)])
    }
}

/// A map with `Option`s as names, which no path can hold.
struct ByFloat(&'static [Option<u8>]);

impl Serialize for ByFloat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|name| (*name, 1)))
    }
}

#[derive(Serialize)]
struct Beside<T> {
    limit: u32,
    part: T,
    last: &'static str,
}

fn beside<T: Serialize>(part: T) -> String {
    let whole = format!(
        "{:?}",
        tree(&Beside {
            limit: 1,
            part,
            last: "z"
        })
    );
    let part = whole
        .strip_prefix(r#"{"limit": 1, "part": "#)
        .and_then(|rest| rest.strip_suffix(r#", "last": "z"}"#));
    part.unwrap_or_else(|| panic!("{whole}")).to_owned()
}

#[derive(Serialize)]
enum Variant {
    One(u128),
    Two(u8, u128),
    Three { wide: i128 },
}

#[test]
fn what_cannot_be_shown_costs_itself() {
    const WIDE: &str = "‹unreadable: an integer of more than 64 bits›";
    assert_eq!(beside(u128::MAX), WIDE);
    assert_eq!(beside(Some(i128::MIN)), WIDE);
    assert_eq!(beside((1, u128::MAX)), format!("[1, {WIDE}]"));
    assert_eq!(beside(Variant::One(u128::MAX)), format!(r#"{{"One": {WIDE}}}"#));
    assert_eq!(
        beside(Variant::Two(1, u128::MAX)),
        format!(r#"{{"Two": [1, {WIDE}]}}"#)
    );
    assert_eq!(
        beside(Variant::Three { wide: i128::MIN }),
        format!(r#"{{"Three": {{"wide": {WIDE}}}}}"#)
    );
    assert_eq!(
        beside(Faulty::Refuses),
        "‹unreadable: its type refuses to write it out›"
    );
    assert_eq!(
        beside(Faulty::Panics),
        "‹unreadable: its type panics where it writes itself out›"
    );
    assert_eq!(
        beside(Secret::new(Faulty::Refuses)),
        "‹unreadable: a secret that its type cannot write out›"
    );
    assert_eq!(
        beside(Secret::new((1, Faulty::Panics))),
        "‹unreadable: a secret that its type cannot write out›"
    );
    assert_eq!(
        beside(Twice),
        r#"{"a": ‹unreadable: two values have this name›, "b": 2}"#
    );
    let name = "a key that is neither text, an integer, a truth value, a character nor a plain variant";
    assert_eq!(
        beside(BTreeMap::from([((1, 2), 3)])),
        format!("‹unreadable: {name}›")
    );
    let some = beside(ByFloat(&[Some(1), None]));
    assert!(some.contains(&format!("‹unreadable: {name}›")), "{some}");
    let long = beside(BTreeMap::from([("x".repeat(300), 1), ("a".to_owned(), 2)]));
    assert!(
        long.starts_with(r#"{"a": 2, "‹entry 1›": ‹unreadable: its name has 300 bytes"#),
        "{long}"
    );
    let large = beside(vec![0_u8; 20_000]);
    assert_eq!(
        large,
        "‹unreadable: more than 10000 values; it has 20000 entries›"
    );
    let text = beside("x".repeat(2_000_000));
    assert_eq!(text, "‹unreadable: larger than 1048576 bytes›");
}

/// As deep as the longest path, and deeper.
#[test]
fn what_nests_deeper_than_a_path_may_be_long_is_a_leaf() {
    let mut value = serde_json::json!(1);
    for _ in 0..60 {
        value = serde_json::json!({ "in": value });
    }
    let whole = tree(&value);
    let (deepest, leaf) = whole.leaves().next().unwrap();
    assert!(matches!(leaf, Tree::Unreadable(_)), "{leaf:?}");
    let path = Path(vec!["state".to_owned()]).join(&deepest.0);
    debug_policy::Resource::State(path.0).check().unwrap();
}

#[test]
fn a_whole_that_is_too_large_names_its_largest_container_and_the_count() {
    let jobs: HashMap<u64, (u8, u8)> = (0..20_000).map(|job| (job, (1, 2))).collect();
    let error = to_tree(&jobs, &Limits::COPY).unwrap_err();
    assert_eq!(error.to_string(), "more than 10000 values; it has 20000 entries");
    assert!(error.is_large_container());
    let text = to_tree(&"x".repeat(2_000_000), &Limits::COPY).unwrap_err();
    assert!(text.is_bound() && !text.is_large_container());
}

#[test]
fn what_is_unreadable_is_stored_nowhere_unless_the_value_was_kept() {
    let wide = tree(&(1, u128::MAX));
    assert_eq!(from_tree::<(u8, u128)>(wide).unwrap(), (1, u128::MAX));
    assert_eq!(from_tree::<i128>(tree(&i128::MIN)).unwrap(), i128::MIN);
    let error = from_tree::<(u8, u8)>(tree(&(1, Faulty::Refuses)))
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "`1`: it cannot be read (its type refuses to write it out), so it would be lost"
    );
}

#[test]
fn of_what_cannot_be_read_it_is_not_said_that_nothing_changed() {
    let (one, other) = (tree(&(1, Faulty::Refuses)), tree(&(1, Faulty::Refuses)));
    assert_eq!(one.differences(&other).len(), 1);
    let (one, other) = (tree(&(1, u128::MAX)), tree(&(1, u128::MAX)));
    assert!(one.differences(&other).is_empty());
    assert!(!one.same(&tree(&(1, u128::MAX - 1))));
}

fn along<T: Serialize>(value: &T, path: &str) -> Option<Tree> {
    found_along(value, &segments(path), &Limits::COPY)
        .unwrap()
        .map(|found| found.tree)
}

#[test]
fn one_entry_of_a_large_map_is_read_alone() {
    let jobs: HashMap<u64, (u8, String)> = (0..20_000).map(|job| (job, (1, format!("job {job}")))).collect();
    assert_eq!(along(&jobs, "5.1"), Some(text("job 5")));
    assert_eq!(along(&jobs, "20000"), None);
    assert_eq!(along(&jobs, "05"), None);
    let list: Vec<u32> = (0..100_000).collect();
    assert_eq!(along(&list, "77777"), Some(Tree::I64(77_777)));
    let faulty = Beside {
        limit: 7,
        part: (Faulty::Panics, Faulty::Refuses),
        last: "z",
    };
    assert_eq!(along(&faulty, "limit"), Some(Tree::I64(7)));
    assert!(matches!(along(&faulty, "part.0"), Some(Tree::Unreadable(_))));
    assert_eq!(along(&Twice, "b"), Some(Tree::I64(2)));
    assert!(matches!(along(&Twice, "a"), Some(Tree::Unreadable(_))));
    let late = Limits {
        time: Some(Duration::ZERO),
        ..Limits::STATE
    };
    assert!(
        found_along(&list, &segments("99999"), &late)
            .unwrap_err()
            .is_bound()
    );
}

/// Names that make the map above secret do so in a partial read too.
#[test]
fn a_map_that_is_a_secret_by_its_names_is_one_along_a_path_too() {
    let states = |names: [&str; 2]| {
        let map: BTreeMap<String, u8> = names.into_iter().map(|name| (name.to_owned(), 1)).collect();
        States::new(
            vec![read_only("s", shared(map))],
            vec![],
            Arc::new(Redactor::new(&[])),
        )
    };
    let read = |states: &States| states.read(&path("s.plain"), Wait::AGENT);
    assert_eq!(read(&states(["plain", "other"]).unwrap()).unwrap(), Tree::I64(1));
    let secret = read(&states(["plain", concat!("xoxb", "-1234567890ab")]).unwrap())
        .unwrap_err()
        .to_string();
    assert!(secret.contains("a secret stands above it"), "{secret}");
    let numbered = shared(BTreeMap::from([("tokens", BTreeMap::from([(17_u64, 1)]))]));
    let states = States::new(
        vec![read_only("s", numbered)],
        vec![],
        Arc::new(Redactor::new(&[])),
    )
    .unwrap();
    let secret = states
        .read(&path("s.tokens.17"), Wait::AGENT)
        .unwrap_err()
        .to_string();
    assert!(secret.contains("a secret stands above it"), "{secret}");
}

/// A value of any shape.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<i64>().prop_map(Into::into),
        "[a-z0-9]{0,4}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            prop::collection::btree_map("[a-c]{1,2}|[0-9]{1,2}", inner, 0..5)
                .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #[test]
    fn along_a_path_stands_what_stands_in_the_whole(value in json(), other in "[a-c0-9.]{1,6}") {
        let whole = tree(&value);
        let parts = whole.leaves().flat_map(|(path, _)| (1..=path.0.len()).map(move |end| path.0[..end].to_vec()));
        for path in parts.chain(other.parse::<Path>().map(|path| path.0)) {
            let found = found_along(&value, &path, &Limits::COPY).unwrap().map(|found| found.tree);
            prop_assert_eq!(found.as_ref(), whole.at(&path), "{:?}", path);
        }
    }
}

/// An unreadable part must not keep the readable parts of a secret from being searched for in outgoing text.
#[test]
fn the_parts_of_a_secret_that_can_be_read_are_searched_for_beside_one_that_cannot() {
    let long = "k".repeat(300);
    let entries = BTreeMap::from([
        ("first", "a-secret-of-a-peer"),
        (long.as_str(), "another-secret-of-it"),
    ]);
    let sessions = BTreeMap::from([("auth_sessions", entries)]);
    let root: Path = "web".parse().unwrap();
    let marked = Redactor::new(&["*auth*"].map(str::to_owned)).mark(&root, tree(&sessions));
    assert!(format!("{marked:?}").contains("‹unreadable"), "{marked:?}");
    assert!(!format!("{marked:?}").contains("a-secret"), "{marked:?}");
    assert!(marked.holds_secret());
    let scrubber = Scrubber::default();
    scrubber.learn(&root, &marked);
    assert_eq!(scrubber.scrub("it says a-secret-of-a-peer"), "it says ‹secret›");
}
