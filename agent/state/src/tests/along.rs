//! A read along one path shows nothing that a full read does not show.

use proptest::prelude::*;
use serde::ser::{self, SerializeMap, SerializeSeq, SerializeTupleVariant, Serializer};

use super::*;
use debug_base::found_along;

/// A value of any shape, with every feature that makes a value secret.
#[derive(Clone, Debug)]
enum Any {
    Nothing,
    Number(i64),
    Wide(u128),
    Text(String),
    Bytes(Vec<u8>),
    Refuses,
    Secret(Box<Any>),
    Some(Box<Any>),
    List(Vec<Any>),
    Map(Vec<(Name, Any)>),
    Variant(&'static str, Box<Any>),
    Tuple(&'static str, Vec<Any>),
}

/// A name in a map; one map may mix several kinds.
#[derive(Clone, Debug)]
enum Name {
    Text(String),
    Number(i64),
    Truth(bool),
    /// A name that no path can hold.
    Half,
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Name::Text(text) => serializer.serialize_str(text),
            Name::Number(number) => serializer.serialize_i64(*number),
            Name::Truth(truth) => serializer.serialize_bool(*truth),
            Name::Half => serializer.serialize_f64(0.5),
        }
    }
}

impl Serialize for Any {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Any::Nothing => serializer.serialize_none(),
            Any::Number(number) => serializer.serialize_i64(*number),
            Any::Wide(number) => serializer.serialize_u128(*number),
            Any::Text(text) => serializer.serialize_str(text),
            Any::Bytes(bytes) => serializer.serialize_bytes(bytes),
            Any::Refuses => Err(ser::Error::custom("not today")),
            Any::Secret(inner) => Secret::new(inner).serialize(serializer),
            Any::Some(inner) => serializer.serialize_some(inner),
            Any::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(item))?;
                list.end()
            }
            Any::Map(entries) => {
                let mut map = serializer.serialize_map(None)?;
                entries
                    .iter()
                    .try_for_each(|(name, value)| map.serialize_entry(name, value))?;
                map.end()
            }
            Any::Variant(name, inner) => serializer.serialize_newtype_variant("Any", 0, name, inner),
            Any::Tuple(name, items) => {
                let mut tuple = serializer.serialize_tuple_variant("Any", 0, name, items.len())?;
                items.iter().try_for_each(|item| tuple.serialize_field(item))?;
                tuple.end()
            }
        }
    }
}

/// Plain text, a secret name, and text that is secret by its shape.
fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-c]{1,2}",
        1 => Just("db_token".to_owned()),
        1 => Just("own".to_owned()),
        1 => Just(concat!("xoxb", "-1234567890ab").to_owned()),
        1 => "[0-9]{1,2}",
    ]
}

fn names() -> impl Strategy<Value = Name> {
    prop_oneof![
        4 => words().prop_map(Name::Text),
        3 => (-2_i64..12).prop_map(Name::Number),
        1 => any::<bool>().prop_map(Name::Truth),
        1 => Just(Name::Half),
    ]
}

fn values() -> impl Strategy<Value = Any> {
    let leaf = prop_oneof![
        Just(Any::Nothing),
        any::<i64>().prop_map(Any::Number),
        Just(Any::Wide(u128::MAX)),
        words().prop_map(Any::Text),
        prop::collection::vec(any::<u8>(), 0..3).prop_map(Any::Bytes),
        Just(Any::Refuses),
    ];
    let variant = || prop_oneof![Just("Plain"), Just("Token"), Just("Own")];
    leaf.prop_recursive(5, 50, 5, move |inner| {
        prop_oneof![
            1 => inner.clone().prop_map(|inner| Any::Secret(Box::new(inner))),
            1 => inner.clone().prop_map(|inner| Any::Some(Box::new(inner))),
            2 => prop::collection::vec(inner.clone(), 0..5).prop_map(Any::List),
            5 => prop::collection::vec((names(), inner.clone()), 0..5).prop_map(Any::Map),
            1 => (variant(), inner.clone()).prop_map(|(name, inner)| Any::Variant(name, Box::new(inner))),
            1 => (variant(), prop::collection::vec(inner, 0..3)).prop_map(|(name, items)| Any::Tuple(name, items)),
        ]
    })
}

/// The ways to declare secrets other than by type.
fn redactors() -> Vec<Redactor> {
    let visible = || vec!["s.a".parse().unwrap(), "s.0".parse().unwrap()];
    let own = || Redactor::new(&["own".to_owned()]);
    vec![
        Redactor::new(&[]),
        own(),
        own().redact_all(visible()),
        Redactor::new(&[]).redact_all(Vec::new()),
    ]
}

/// Each path of a value, including those below its secrets, and one that does not exist.
fn paths(value: &Any) -> Vec<Vec<String>> {
    fn below(tree: &Tree, path: &[String], found: &mut Vec<Vec<String>>) {
        let parts: Vec<(String, &Tree)> = match tree {
            Tree::Map(entries) => entries
                .iter()
                .map(|(name, value)| (name.clone(), value))
                .collect(),
            Tree::Seq(items) => items
                .iter()
                .enumerate()
                .map(|(at, item)| (at.to_string(), item))
                .collect(),
            Tree::Secret(inner) => return below(inner, path, found),
            _ => return,
        };
        for (name, value) in parts {
            let path: Vec<String> = path.iter().cloned().chain([name]).collect();
            below(value, &path, found);
            found.push(path);
        }
    }
    let mut found = vec![vec!["nowhere".to_owned()]];
    if let Ok(tree) = to_tree(value, &Limits::COPY) {
        below(&tree, &[], &mut found);
    }
    found
}

/// The value at a path by a read along it, and by a full read. If the walk has no answer, the full read replaces it.
fn both(value: &Any, path: &[String], redactor: &Redactor) -> Option<(Tree, Option<Tree>)> {
    let root = Path(vec!["s".to_owned()]);
    let found = found_along(value, path, &Limits::COPY).ok().flatten()?;
    let along = redactor.mark_found(&root.join(path), found)?;
    let whole = to_tree(value, &Limits::COPY)
        .ok()
        .map(|tree| redactor.mark(&root, tree));
    Some((along, whole.and_then(|whole| whole.at(path).cloned())))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn along_each_path_is_shown_what_the_whole_shows_there(value in values()) {
        for redactor in redactors() {
            for path in paths(&value) {
                if let Some((along, whole)) = both(&value, &path, &redactor) {
                    prop_assert_eq!(Some(along), whole, "{:?} of {:?}", path, value);
                }
            }
        }
    }
}

/// The name that makes a map secret may follow the wanted one, even if the wanted name is an integer.
#[test]
fn a_name_behind_the_one_wanted_makes_the_map_a_secret_all_the_same() {
    let token = Name::Text(concat!("xoxb", "-1234567890ab").to_owned());
    for wanted in [Name::Number(1), Name::Truth(true), Name::Text("1".to_owned())] {
        let path = [if matches!(wanted, Name::Truth(_)) {
            "true"
        } else {
            "1"
        }
        .to_owned()];
        let map = Any::Map(vec![
            (wanted.clone(), Any::Number(7)),
            (token.clone(), Any::Nothing),
        ]);
        assert!(both(&map, &path, &Redactor::new(&[])).is_none(), "{wanted:?}");
        let plain = Any::Map(vec![
            (wanted, Any::Number(7)),
            (Name::Text("a".to_owned()), Any::Nothing),
        ]);
        let shown = both(&plain, &path, &Redactor::new(&[]));
        assert_eq!(shown, Some((Tree::I64(7), Some(Tree::I64(7)))), "{path:?}");
    }
}
