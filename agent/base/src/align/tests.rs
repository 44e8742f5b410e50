use super::*;
use crate::for_test::{segments, text};

fn item(name: &str, weight: i64) -> Tree {
    Tree::Map(vec![
        ("name".to_owned(), text(name)),
        ("weight".to_owned(), Tree::I64(weight)),
    ])
}

#[test]
fn nested_lists_are_followed_one_after_the_other() {
    let group = |name: &str, items: Vec<Tree>| {
        Tree::Map(vec![
            ("name".to_owned(), text(name)),
            ("items".to_owned(), Tree::Seq(items)),
        ])
    };
    let then = Tree::Seq(vec![
        group("g", vec![item("a", 1), item("b", 2)]),
        group("h", vec![item("a", 1)]),
    ]);
    let now = Tree::Seq(vec![
        group("h", vec![item("a", 1)]),
        group("g", vec![item("b", 2)]),
    ]);
    let changed = [segments("0.items.1.weight")];
    let trail = follow(
        &segments("0.items.1.weight"),
        &changed,
        &then,
        &now,
        Evidence::All,
    )
    .unwrap();
    assert_eq!(
        (trail.path, trail.basis),
        (segments("1.items.0.weight"), Basis::Identity)
    );
    let gone = follow(
        &segments("0.items.0.weight"),
        &[segments("0.items.0.weight")],
        &then,
        &now,
        Evidence::All,
    )
    .unwrap_err();
    assert_eq!(gone.path(), segments("1.items"));
}

#[test]
fn a_list_is_reordered_if_what_stood_at_one_place_stands_at_another() {
    let (one, two) = ([item("a", 1), item("b", 2)], [item("b", 2), item("a", 9)]);
    assert!(reordered(&one, &two));
    assert!(!reordered(&one, &[item("a", 9), item("b", 9)]));
    assert!(!reordered(&one, &[item("a", 1), item("z", 2)]));
    assert!(!reordered(
        &[Tree::I64(1), Tree::I64(2)],
        &[Tree::I64(2), Tree::I64(1)]
    ));
}
