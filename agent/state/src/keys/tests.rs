use serde::{Deserialize, Serialize};

use super::*;
use crate::tests::{Set, shared, writable};
use crate::{State, StateError};
use debug_base::Wait;
use debug_base::for_test::{segments, text};
use std::sync::{Arc, RwLock};

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Backend {
    name: String,
    weight: i64,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Pool {
    backends: Vec<Backend>,
}

fn backends(of: &[(&str, i64)]) -> Vec<Backend> {
    of.iter()
        .map(|(name, weight)| Backend {
            name: (*name).to_owned(),
            weight: *weight,
        })
        .collect()
}

fn pool(of: &[(&str, i64)]) -> (Arc<RwLock<Pool>>, Arc<dyn State>) {
    let lock = shared(Pool {
        backends: backends(of),
    });
    let mut state = writable("pool", lock.clone());
    assert!(
        Arc::get_mut(&mut state)
            .unwrap()
            .add_key(&segments("backends"), "name")
    );
    (lock, state)
}

#[test]
fn elements_are_read_and_written_by_their_key_and_keep_their_order() {
    let (lock, state) = pool(&[("c", 1), ("a", 2)]);
    let tree = state.read(Wait::AGENT).unwrap();
    assert_eq!(tree.at(&segments("backends.a.weight")), Some(&Tree::I64(2)));
    state
        .set(
            &segments("backends.a.weight"),
            &Tree::I64(2),
            &Tree::I64(9),
            Wait::AGENT,
        )
        .unwrap();
    assert_eq!(lock.read().unwrap().backends, backends(&[("c", 1), ("a", 9)]));
    // In any given order: existing elements keep their positions, new ones come last.
    let given = |names: &[&str]| {
        Tree::Map(
            names
                .iter()
                .map(|name| {
                    let fields = vec![
                        ("name".to_owned(), text(name)),
                        ("weight".to_owned(), Tree::I64(0)),
                    ];
                    ((*name).to_owned(), Tree::Map(fields))
                })
                .collect(),
        )
    };
    let checked = state
        .check_write(&segments("backends"), &given(&["a", "b", "c"]), Wait::AGENT)
        .unwrap();
    assert_eq!(checked.after.unwrap().names(), ["c", "a", "b"]);
}

#[test]
fn a_key_is_not_changed_through_its_path() {
    let (_, state) = pool(&[("a", 1)]);
    let error = state
        .check_write(&segments("backends.a.name"), &text("z"), Wait::AGENT)
        .unwrap_err();
    let told = error.to_string();
    assert!(
        told.contains("key of an element is not changed") && told.contains("pool.backends.a"),
        "{told}"
    );
}

#[test]
fn a_list_whose_keys_are_not_unique_is_a_list_and_says_why() {
    let (lock, state) = pool(&[("a", 1), ("a", 2)]);
    let tree = state.read(Wait::AGENT).unwrap();
    assert_eq!(tree.at(&segments("backends.1.weight")), Some(&Tree::I64(2)));
    assert_eq!(state.unkeyed()[0].1, "two elements have the same `name`");
    let error = state
        .check_write(&segments("backends.a.weight"), &Tree::I64(0), Wait::AGENT)
        .unwrap_err();
    assert!(matches!(error, StateError::NoSuchPath(_)), "{error}");
    lock.write().unwrap().backends = backends(&[("a", 1)]);
    state.read(Wait::AGENT).unwrap();
    assert_eq!(state.unkeyed(), []);
}
