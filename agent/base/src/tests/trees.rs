use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;
use serde::de::DeserializeOwned;

use super::*;

#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
enum Color {
    Red,
    Green,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
enum Shape {
    Unit,
    Newtype(i64),
    Tuple(u8, String),
    Struct { wide: u64, narrow: Option<f32> },
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Model {
    text: String,
    char: char,
    small: i8,
    wide: u64,
    negative: i64,
    float: f64,
    short: f32,
    option: Option<Shape>,
    unit: (),
    tuple: (bool, u16),
    list: Vec<Shape>,
    by_name: BTreeMap<String, i32>,
    by_number: BTreeMap<i64, bool>,
    by_flag: BTreeMap<bool, u8>,
    by_color: BTreeMap<Color, char>,
    by_char: HashMap<char, String>,
    secret: Secret<String>,
    secrets: Vec<Option<Secret<u64>>>,
    nested: Option<Box<Model>>,
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        Just(Shape::Unit),
        any::<i64>().prop_map(Shape::Newtype),
        any::<(u8, String)>().prop_map(|(number, text)| Shape::Tuple(number, text)),
        (any::<u64>(), prop::option::of(finite_f32()))
            .prop_map(|(wide, narrow)| Shape::Struct { wide, narrow }),
    ]
}

fn finite_f32() -> impl Strategy<Value = f32> {
    any::<u32>()
        .prop_map(f32::from_bits)
        .prop_filter("finite", |value| value.is_finite())
}

fn finite_f64() -> impl Strategy<Value = f64> {
    any::<u64>()
        .prop_map(f64::from_bits)
        .prop_filter("finite", |value| value.is_finite())
}

fn color() -> impl Strategy<Value = Color> {
    prop_oneof![Just(Color::Red), Just(Color::Green)]
}

fn model() -> impl Strategy<Value = Model> {
    let scalars = (
        any::<(String, char, i8, u64, i64)>(),
        finite_f64(),
        finite_f32(),
        any::<(bool, u16)>(),
    );
    let shapes = (prop::option::of(shape()), prop::collection::vec(shape(), 0..4));
    let maps = (
        any::<BTreeMap<String, i32>>(),
        prop::collection::btree_map(any::<i64>(), any::<bool>(), 0..4),
        prop::collection::btree_map(any::<bool>(), any::<u8>(), 0..2),
        prop::collection::btree_map(color(), any::<char>(), 0..2),
        prop::collection::hash_map(any::<char>(), any::<String>(), 0..4),
    );
    let secrets = (
        any::<String>(),
        prop::collection::vec(prop::option::of(any::<u64>()), 0..3),
    );
    let leaf = (scalars, shapes, maps, secrets).prop_map(|(scalars, shapes, maps, secrets)| {
        let ((text, char, small, wide, negative), float, short, tuple) = scalars;
        let (option, list) = shapes;
        let (by_name, by_number, by_flag, by_color, by_char) = maps;
        Model {
            text,
            char,
            small,
            wide,
            negative,
            float,
            short,
            option,
            unit: (),
            tuple,
            list,
            by_name,
            by_number,
            by_flag,
            by_color,
            by_char,
            secret: Secret::new(secrets.0),
            secrets: secrets
                .1
                .into_iter()
                .map(|secret| secret.map(Secret::new))
                .collect(),
            nested: None,
        }
    });
    let leaf = leaf.boxed();
    (leaf.clone(), prop::option::of(leaf)).prop_map(|(outer, inner)| Model {
        nested: inner.map(Box::new),
        ..outer
    })
}

/// The oracle: the tree as serde_json would write it, with secrets in the clear.
fn as_json(tree: &Tree) -> serde_json::Value {
    match tree {
        Tree::Null => serde_json::Value::Null,
        Tree::Bool(value) => (*value).into(),
        Tree::I64(value) => (*value).into(),
        Tree::U64(value) => (*value).into(),
        Tree::F64(value) => (*value).into(),
        Tree::Str(value) => value.as_str().into(),
        Tree::Seq(items) => items.iter().map(as_json).collect(),
        Tree::Map(entries) => entries
            .iter()
            .map(|(key, value)| (key.clone(), as_json(value)))
            .collect(),
        Tree::Secret(_) => PLACEHOLDER.into(),
        Tree::Unreadable(leaf) => leaf.to_string().into(),
    }
}

/// `f32` values compare by their shortest decimal, as in trees.
fn close(left: &serde_json::Value, right: &serde_json::Value) -> bool {
    use serde_json::Value;
    match (left, right) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| close(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| close(a, b)))
        }
        (Value::Number(a), Value::Number(b)) if a.is_f64() => {
            a == b || a.as_f64().map(|a| a as f32) == b.as_f64().map(|b| b as f32)
        }
        (a, b) => a == b,
    }
}

proptest! {
    #[test]
    fn what_becomes_a_tree_comes_back_equal(value in model()) {
        prop_assert_eq!(from_tree::<Model>(tree(&value)).unwrap(), value);
    }

    #[test]
    fn a_tree_has_the_shape_that_serde_json_gives(value in model()) {
        let (ours, theirs) = (as_json(&tree(&value)), serde_json::to_value(&value).unwrap());
        prop_assert!(close(&ours, &theirs), "{} != {}", ours, theirs);
    }

    #[test]
    fn every_f32_comes_back_by_its_decimal(value in finite_f32()) {
        prop_assert_eq!(from_tree::<f32>(tree(&value)).unwrap().to_bits(), value.to_bits());
    }

    #[test]
    fn a_tree_is_the_same_as_itself_in_any_order_of_its_maps(value in model()) {
        let (one, other) = (tree(&value), tree(&value.clone()));
        prop_assert!(one.same(&other) && one.same_unordered(&other));
        prop_assert_eq!(one.first_difference(&other), None);
    }

    #[test]
    fn every_leaf_stands_where_its_path_says(value in model()) {
        let tree = tree(&value);
        for (path, leaf) in tree.leaves() {
            prop_assert!(tree.at(&path.0).is_some_and(|found| found.same(leaf)), "{}", path);
        }
    }
}

fn round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: T) {
    assert_eq!(from_tree::<T>(tree(&value)).unwrap(), value);
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Flat {
    #[serde(flatten)]
    inner: Slack,
    #[serde(flatten)]
    rest: BTreeMap<String, u8>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
enum Untagged {
    Number(u64),
    Token { token: Secret<String> },
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind")]
enum Tagged {
    Basic { user: String, password: Secret<String> },
    Slack(Slack),
}

#[test]
fn common_types_and_serde_attributes_survive() {
    round_trip("127.0.0.1".parse::<IpAddr>().unwrap());
    round_trip(Duration::new(3, 5));
    round_trip((i128::from(i64::MIN), u128::from(u64::MAX), vec![Some(1), None]));
    round_trip(Flat {
        inner: config().slack,
        rest: BTreeMap::from([("a".into(), 1)]),
    });
    round_trip(vec![
        Untagged::Number(u64::MAX),
        Untagged::Token {
            token: Secret::new("x".into()),
        },
    ]);
    round_trip(Tagged::Basic {
        user: "a".into(),
        password: Secret::new("x".into()),
    });
    round_trip(Tagged::Slack(config().slack));
    round_trip(Secret::new(config()));
    round_trip(Secret::new(Secret::new(1)));
}

#[test]
fn numbers_show_as_they_were_written() {
    assert_eq!(tree(&0.1_f32), Tree::F64(0.1));
    assert_eq!(tree(&u64::MAX), Tree::U64(u64::MAX));
    assert_eq!(tree(&5_u64), Tree::I64(5));
    assert_eq!(from_tree::<f64>(Tree::I64(5)).unwrap(), 5.0);
    assert_eq!(
        from_tree::<Vec<u8>>(Tree::Seq(vec![Tree::I64(1), Tree::I64(255)])).unwrap(),
        [1, 255]
    );
}

#[test]
fn a_secret_as_a_name_is_the_placeholder() {
    let key = tree(&Pairs(vec![(SecretKey("CANARY"), 1)]));
    assert_eq!(key, Tree::Map(vec![(PLACEHOLDER.into(), Tree::I64(1))]));
}

struct SecretKey(&'static str);
struct Pairs(Vec<(SecretKey, u8)>);

impl Serialize for Pairs {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (Secret::new(key.0), value)))
    }
}

#[test]
fn each_limit_is_an_error_and_never_a_part() {
    let small = Limits {
        bytes: 100,
        leaves: 3,
        depth: 2,
        time: None,
    };
    let message = |result: Result<Tree, TreeError>| result.unwrap_err().to_string();
    assert!(message(to_tree(&"x".repeat(101), &small)).contains("larger than 100 bytes"));
    assert!(message(to_tree(&[1, 2, 3, 4], &small)).contains("more than 3 values"));
    let deep = format!("{:?}", to_tree(&[[[1]]], &small).unwrap());
    assert_eq!(deep, "[[‹unreadable: nested deeper than 2 levels›]]");
    let late = Limits {
        time: Some(Duration::ZERO),
        ..Limits::STATE
    };
    assert!(message(to_tree(&vec![0_u8; 1000], &late)).contains("held up"));
    assert!(to_tree(&vec![0_u8; 10_000], &Limits::COPY).is_ok());
    assert!(to_tree(&vec![0_u8; 10_001], &Limits::COPY).is_err());
}

#[test]
fn an_error_names_the_path_and_never_the_value() {
    let cases = [
        (
            "server.port",
            text("CANARY"),
            "`server.port`: invalid type: string, expected u16",
        ),
        (
            "server.port",
            Tree::I64(70_000),
            "`server.port`: invalid value: integer, expected u16 (0 to 65535)",
        ),
        (
            "app.debug",
            text("CANARY"),
            "`app.debug`: invalid type: string, expected a boolean",
        ),
        ("db", Tree::Map(vec![]), "`db`: missing field `host`"),
        (
            "db",
            text("CANARY"),
            "`db`: invalid type: string, expected struct Db",
        ),
        (
            "slack.token",
            text("CANARY"),
            "`slack.token`: only a secret can be stored here",
        ),
        (
            "slack.token",
            Tree::Secret(Box::new(Tree::I64(123_456))),
            "`slack.token`: refused by the service's type",
        ),
        (
            "db.host",
            text(PLACEHOLDER),
            "`db.host`: the placeholder for a secret cannot be stored",
        ),
    ];
    for (path, value, expected) in cases {
        let edited = tree(&config()).replaced(&segments(path), value).unwrap();
        assert_eq!(from_tree::<Config>(edited).unwrap_err().to_string(), expected);
    }
    let color = from_tree::<Color>(text("CANARY")).unwrap_err().to_string();
    assert_eq!(color, "unknown variant, expected `Red`, `Green`");
}

#[test]
fn the_words_of_the_services_type_are_told_but_not_inside_a_secret() {
    let open = from_tree::<Telltale>(text("bad one")).unwrap_err().to_string();
    assert_eq!(open, "refused by the service's type: `bad one` is bad");
    let marked = || Tree::Secret(Box::new(text("bad one")));
    let secret = from_tree::<Secret<Telltale>>(marked()).unwrap_err().to_string();
    assert_eq!(secret, "refused by the service's type");
    assert_eq!(
        from_tree::<Telltale>(marked()).unwrap_err().to_string(),
        "refused by the service's type"
    );
}

/// Writes JSON inside its own `Serialize`, on a thread in the agent's scope.
struct JsonInside(Secret<&'static str>);

impl Serialize for JsonInside {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&serde_json::to_string(&self.0).unwrap())
    }
}

#[test]
fn a_secret_is_marked_for_our_serializer_only() {
    assert_eq!(tree(&Secret::new("x")), Tree::Secret(Box::new(text("x"))));
    assert_eq!(tree(&JsonInside(Secret::new("CANARY"))), text("\"‹secret›\""));
    assert_eq!(format!("{:?}", tree(&config().slack.token)), "‹secret›");
    assert!(!SecretScope::is_active());
}

#[test]
fn a_secret_takes_only_a_marked_secret_also_in_flattened_and_untagged_types() {
    let flat = Flat {
        inner: config().slack,
        rest: BTreeMap::new(),
    };
    let edited = tree(&flat).replaced(&segments("token"), text("typed")).unwrap();
    assert!(from_tree::<Flat>(edited).is_err());
    let plain = Tree::Map(vec![("token".into(), text("typed"))]);
    assert!(from_tree::<Untagged>(plain).is_err());
}

/// Validates a whole struct after its parts were read; its error contains them.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Slack")]
struct Judged;

impl TryFrom<Slack> for Judged {
    type Error = String;
    fn try_from(slack: Slack) -> Result<Self, String> {
        Err(format!("{} and {} do not fit", slack.token.expose(), slack.sign))
    }
}

#[test]
fn the_words_of_a_type_that_holds_a_secret_are_not_told() {
    let error = from_tree::<(u8, Judged)>(tree(&(1, config().slack)))
        .unwrap_err()
        .to_string();
    assert_eq!(error, "`1`: refused by the service's type");
}
