//! Operators alone: lists written as a whole with elements that came, went and moved, and elements and leaves on top of them.

use proptest::prelude::*;

use super::*;

/// What is written, by numbers that choose among what there is.
#[derive(Clone, Debug)]
enum Write {
    Remove(usize),
    Insert(usize),
    Rotate,
    Replace(usize),
    Element(usize),
    Leaf(usize),
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        1 => (0..4usize).prop_map(Write::Remove),
        1 => (0..4usize).prop_map(Write::Insert),
        1 => Just(Write::Rotate),
        1 => (0..4usize).prop_map(Write::Replace),
        1 => (0..4usize).prop_map(Write::Element),
        3 => (0..4usize).prop_map(Write::Leaf),
    ]
}

/// Unlike any before.
fn element(fresh: &mut i64) -> Tree {
    *fresh += 1;
    Tree::Map(vec![
        ("name".to_owned(), Tree::Str(format!("n{fresh}"))),
        ("weight".to_owned(), Tree::I64(1_000 + *fresh)),
    ])
}

/// The path below the state and the value that a write puts there; nothing where there is no such element.
fn chosen(write: &Write, items: &[Tree], fresh: &mut i64) -> Option<(Vec<String>, Tree)> {
    let at = |which: usize| (!items.is_empty()).then(|| which % items.len().max(1));
    let mut list = items.to_vec();
    match *write {
        Write::Remove(which) => drop(list.remove(at(which)?)),
        Write::Insert(which) => list.insert(which % (items.len() + 1), element(fresh)),
        Write::Rotate => list.rotate_left(at(1)?.min(1)),
        Write::Replace(which) => list[at(which)?] = element(fresh),
        Write::Element(which) => {
            return Some((path(&format!("items.{}", at(which)?)), element(fresh)));
        }
        Write::Leaf(which) => {
            *fresh += 1;
            return Some((path(&format!("items.{}.weight", at(which)?)), Tree::I64(*fresh)));
        }
    }
    Some((path("items"), Tree::Seq(list)))
}

fn play(writes: &[Write], ends: &[usize]) -> Result<(), TestCaseError> {
    let mut fresh = 0;
    let items = (0..3).map(|_| element(&mut fresh)).collect();
    let original = Tree::Map(vec![("items".to_owned(), Tree::Seq(items))]);
    let (mut live, mut layers) = (original.clone(), Vec::new());
    for (lease, write) in (1..).zip(writes) {
        let Some(Tree::Seq(items)) = live.at(&path("items")).cloned() else {
            unreachable!()
        };
        let Some((path, value)) = chosen(write, &items, &mut fresh) else {
            continue;
        };
        look(&mut layers, &live, &Lists);
        if outlives(&layers, &path).is_err() {
            continue;
        }
        let before = live.clone();
        live = before.clone().replaced(&path, value.clone()).unwrap();
        let values = (before.at(&path).cloned(), Some(value));
        layers.push(WriteLayer::new(
            lease,
            &path,
            values,
            (&before, &live),
            BootTime(1),
        ));
    }
    let mut conflict = false;
    for which in ends {
        if layers.is_empty() {
            break;
        }
        let lease = layers[which % layers.len()].lease;
        let ending = end(&mut layers, lease, &live, Otherwise::Keep, &Lists).unwrap();
        conflict |= !ending.left.is_empty();
        live = ending.tree;
        if let Some(top) = layers.last()
            && !conflict
        {
            prop_assert_eq!(live.at(&top.path), top.after.as_ref(), "after lease {}", lease);
        }
    }
    prop_assert!(layers.is_empty());
    prop_assert!(conflict || live == original, "{:?}", live);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// The newest in force stands, and in the end all is as it was, or a conflict tells that it is not.
    #[test]
    fn operators_alone_leave_nothing_behind(
        writes in prop::collection::vec(write(), 1..6),
        ends in prop::collection::vec(0..8usize, 6),
    ) {
        play(&writes, &ends)?;
    }
}

/// What the third change stands on is the second list, and not the one below.
#[test]
fn what_stands_on_a_newer_list_stays_there_when_an_older_one_ends() {
    let writes = [Write::Rotate, Write::Replace(1), Write::Leaf(1)];
    for ends in [
        [0, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 0],
        [2, 1, 0, 0, 0, 0],
    ] {
        play(&writes, &ends).unwrap();
    }
}
