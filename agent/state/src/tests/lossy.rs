//! The error for a state that cannot be written names the part that does not survive the round trip through serde, and why.

use std::collections::BTreeMap;

use super::*;

const WAIT: Wait = Wait::AGENT;

/// Why `limit` next to this part cannot be written.
fn why<T>(part: T) -> String
where
    T: Clone + PartialEq + Serialize + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    #[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
    struct Beside<T> {
        limit: u32,
        part: T,
    }
    let state = writable("s", shared(Beside { limit: 1, part }));
    let error = state
        .set(&segments("limit"), &Tree::I64(1), &Tree::I64(2), WAIT)
        .unwrap_err();
    let checked = state
        .check_write(&segments("limit"), &Tree::I64(2), WAIT)
        .unwrap_err();
    assert_eq!(error, checked);
    error.to_string()
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Flattened<T> {
    #[serde(flatten)]
    inner: T,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct One<T> {
    one: T,
    other: u8,
}

#[test]
fn the_part_that_does_not_come_back_is_named_with_the_reason() {
    let one = |one| One { one, other: 1 };
    let by_id = BTreeMap::from([(7_u64, "a".to_owned()), (8, "b".to_owned())]);
    let numbers = why(Flattened {
        inner: one(by_id.clone()),
    });
    assert!(
        numbers.starts_with("`s.part.one` cannot be written: its names are numbers"),
        "{numbers}"
    );
    assert!(numbers.contains("flatten"), "{numbers}");
    let wide = why(Flattened {
        inner: One {
            one: u128::MAX,
            other: 1,
        },
    });
    assert!(
        wide.starts_with("`s.part.one` cannot be written: an integer of more than 64 bits"),
        "{wide}"
    );
    for (nothing, place) in [
        (why(Some(None::<u8>)), "s.part"),
        (
            why(One {
                one: Some(()),
                other: 1,
            }),
            "s.part.one",
        ),
        (why(vec![Some(Some(1)), Some(None), None]), "s.part.1"),
    ] {
        assert!(
            nothing.starts_with(&format!("`{place}` cannot be written")),
            "{nothing}"
        );
        assert!(nothing.contains("`Some` of nothing"), "{nothing}");
    }
    let nan = why(One {
        one: f64::NAN,
        other: 1,
    });
    assert!(nan.starts_with("`s.part.one`") && nan.contains("NaN"), "{nan}");
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
enum Untagged {
    Signed(i64),
    Unsigned(u8),
    Text(String),
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Unwritten {
    shown: u8,
    #[serde(default, skip_serializing)]
    hidden: u8,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Wanted {
    shown: u8,
    #[serde(skip_serializing)]
    hidden: u8,
}

#[test]
fn what_serde_leaves_out_or_takes_for_another_is_named() {
    let other = why(vec![Untagged::Text("a".to_owned()), Untagged::Unsigned(1)]);
    assert!(other.starts_with("`s.part.1` cannot be written"), "{other}");
    assert!(
        other.contains("an unsigned integer is read back as a signed integer"),
        "{other}"
    );
    let unwritten = why(Unwritten { shown: 1, hidden: 2 });
    assert!(
        unwritten.contains("left out by serde: `hidden` of struct `Unwritten`"),
        "{unwritten}"
    );
    let wanted = why(Wanted { shown: 1, hidden: 2 });
    assert!(
        wanted.starts_with("`s.part.hidden` cannot be written"),
        "{wanted}"
    );
    assert!(wanted.contains("skip_serializing"), "{wanted}");
}
