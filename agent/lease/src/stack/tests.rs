use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::for_test::Leaf;

/// Every list is ordered.
struct Lists;

impl Orders for Lists {
    fn is_set(&self, _: &Tree, _: &[String], _: &[&Tree]) -> bool {
        false
    }
}

fn merged(ours: &Tree, live: &Tree, target: &Tree, otherwise: Otherwise) -> (Tree, Vec<Vec<String>>) {
    let here = Here {
        whole: live,
        path: &[],
        orders: &Lists,
    };
    let merged = merge(Some(ours), Some(live), Some(target), otherwise, here);
    (
        merged.value.unwrap(),
        merged.left.into_iter().map(|left| left.place).collect(),
    )
}

fn tree(a: i64, b: i64, c: i64, d: i64) -> Tree {
    Tree::Map(vec![
        (
            "m".to_owned(),
            Tree::Map(vec![
                ("x".to_owned(), Tree::I64(a)),
                ("y".to_owned(), Tree::I64(b)),
            ]),
        ),
        (
            "n".to_owned(),
            Tree::Map(vec![
                ("x".to_owned(), Tree::I64(c)),
                ("y".to_owned(), Tree::I64(d)),
            ]),
        ),
    ])
}

fn path(text: &str) -> Vec<String> {
    text.split('.')
        .filter(|s| !s.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The leaves of the tree above, and the places where a write covers some of them.
const LEAVES: [&str; 4] = ["m.x", "m.y", "n.x", "n.y"];
const PLACES: [&str; 7] = ["", "m", "n", "m.x", "m.y", "n.x", "n.y"];

#[derive(Clone, Debug)]
enum Act {
    Write(usize, [i64; 4], u64),
    Foreign(usize, i64),
    End(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0..PLACES.len(), prop::array::uniform4(0..4i64), 1..100u64).prop_map(|(p, v, d)| Act::Write(p, v, d)),
        2 => (0..LEAVES.len(), 0..4i64).prop_map(|(l, v)| Act::Foreign(l, v)),
        3 => (0..8usize).prop_map(Act::End),
    ]
}

/// Runs acts on the real code and on the model, and compares after each.
struct Play {
    live: Tree,
    layers: Vec<WriteLayer>,
    leaves: [Leaf; 4],
    next: u64,
}

impl Play {
    fn new() -> Self {
        let leaf = |base| Leaf {
            base,
            above: Vec::new(),
        };
        Self {
            live: tree(0, 1, 2, 3),
            layers: Vec::new(),
            leaves: [leaf(0), leaf(1), leaf(2), leaf(3)],
            next: 1,
        }
    }

    fn write(&mut self, place: usize, values: [i64; 4], deadline: u64) {
        let [a, b, c, d] = values;
        let path = path(PLACES[place]);
        let after = tree(a, b, c, d).at(&path).unwrap().clone();
        let base = self.live.at(&path).unwrap().clone();
        look(&mut self.layers, &self.live, &Lists);
        assert_eq!(outlives(&self.layers, &path), Ok(()));
        let before = self.live.clone();
        self.live = before.clone().replaced(&path, after.clone()).unwrap();
        let deadline = BootTime(0).after(Duration::from_secs(deadline));
        let pair = (Some(base), Some(after));
        self.layers.push(WriteLayer::new(
            self.next,
            &path,
            pair,
            (&before, &self.live),
            deadline,
        ));
        for (leaf, value) in covered(place).map(|leaf| (leaf, values[leaf])) {
            self.leaves[leaf].above.push((Some(self.next), value));
        }
        self.next += 1;
    }

    fn foreign(&mut self, leaf: usize, value: i64) {
        self.live = self
            .live
            .clone()
            .replaced(&path(LEAVES[leaf]), Tree::I64(value))
            .unwrap();
        self.leaves[leaf].foreign(value);
    }

    /// Whether it was a conflict, according to the code and to the model.
    fn end(&mut self, lease: u64) -> (bool, bool) {
        let ending = end(&mut self.layers, lease, &self.live, Otherwise::Keep, &Lists).unwrap();
        self.live = ending.tree;
        let conflicts = ending.left.len();
        let modelled = self
            .leaves
            .iter_mut()
            .map(|leaf| leaf.end(lease))
            .fold(false, |any, one| any | one);
        (conflicts > 0, modelled)
    }

    fn expected(&self) -> Tree {
        let [a, b, c, d] = self.leaves.each_ref().map(Leaf::live);
        tree(a, b, c, d)
    }

    fn play(&mut self, act: &Act) -> Result<(), TestCaseError> {
        match act {
            Act::Write(place, values, deadline) => self.write(*place, *values, *deadline),
            Act::Foreign(leaf, value) => self.foreign(*leaf, *value),
            Act::End(which) => {
                if let Some(lease) = self.layers.get(*which).map(|layer| layer.lease) {
                    let (told, modelled) = self.end(lease);
                    prop_assert_eq!(told, modelled, "conflict of lease {}", lease);
                }
            }
        }
        prop_assert_eq!(&self.live, &self.expected());
        Ok(())
    }
}

fn covered(place: usize) -> impl Iterator<Item = usize> {
    let place = path(PLACES[place]);
    LEAVES
        .iter()
        .enumerate()
        .filter(move |(_, leaf)| path(leaf).starts_with(&place))
        .map(|(leaf, _)| leaf)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_live_value_is_that_of_the_newest_layer_or_what_the_service_made_it(
        acts in prop::collection::vec(act(), 1..24),
    ) {
        let mut play = Play::new();
        for act in &acts {
            play.play(act)?;
        }
        // In any order in which the rest ends, the service's values remain.
        while let Some(layer) = play.layers.first() {
            let lease = layer.lease;
            let (told, modelled) = play.end(lease);
            prop_assert_eq!(told, modelled);
        }
        prop_assert_eq!(&play.live, &play.expected());
    }

    /// The schedule given to a timed state equals what the revert thread will do.
    #[test]
    fn the_schedule_is_what_ending_in_the_order_of_deadlines_does(
        acts in prop::collection::vec(act(), 1..16),
    ) {
        let mut play = Play::new();
        for act in &acts {
            play.play(act)?;
        }
        for (deadline, value) in schedule(&play.layers, &play.live, &Lists) {
            while let Some(layer) = play.layers.iter().rev().find(|layer| layer.deadline <= deadline) {
                let lease = layer.lease;
                play.end(lease);
            }
            prop_assert_eq!(&play.live, &value);
        }
        prop_assert!(play.layers.is_empty());
    }
}

/// T80: four layers end in every order, on one path and on paths around it.
#[test]
fn four_layers_end_in_every_order() {
    for places in [
        [3, 3, 3, 3],
        [1, 3, 1, 3],
        [0, 1, 3, 4],
        [3, 1, 0, 5],
        [1, 3, 0, 4],
    ] {
        for order in orders(&[1, 2, 3, 4]) {
            let mut play = Play::new();
            for (number, place) in (10..).zip(places) {
                play.write(place, [number, number + 10, number + 20, number + 30], 1);
            }
            for lease in order {
                assert_eq!(play.end(lease), (false, false));
                assert_eq!(play.live, play.expected());
            }
            assert_eq!(play.live, tree(0, 1, 2, 3));
        }
    }
}

fn orders(ids: &[u64]) -> Vec<Vec<u64>> {
    if ids.is_empty() {
        return vec![Vec::new()];
    }
    let each = ids.iter().flat_map(|first| {
        let rest: Vec<u64> = ids.iter().copied().filter(|id| id != first).collect();
        orders(&rest)
            .into_iter()
            .map(|rest| [vec![*first], rest].concat())
    });
    each.collect()
}

fn map(entries: &[(&str, i64)]) -> Tree {
    Tree::Map(
        entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Tree::I64(*value)))
            .collect(),
    )
}

/// T76.
#[test]
fn what_the_service_changed_meanwhile_is_left_and_the_rest_is_undone() {
    let (target, ours) = (map(&[("a", 1), ("b", 1)]), map(&[("a", 2), ("b", 2)]));
    let live = map(&[("a", 2), ("b", 3)]);
    let kept = merged(&ours, &live, &target, Otherwise::Keep);
    assert_eq!(kept, (map(&[("a", 1), ("b", 3)]), vec![path("b")]));
    assert_eq!(
        merged(&ours, &live, &target, Otherwise::Force),
        (target, Vec::new())
    );
}

#[test]
fn names_that_came_or_went_meanwhile_are_the_services() {
    let (target, ours) = (map(&[("a", 1), ("b", 1)]), map(&[("b", 2), ("c", 2)]));
    // It added `d` and removed `b`, which we had changed.
    let live = map(&[("c", 2), ("d", 4)]);
    let merged = merged(&ours, &live, &target, Otherwise::Keep);
    assert_eq!(merged, (map(&[("a", 1), ("d", 4)]), vec![path("b")]));
}

fn list(items: &[i64]) -> Tree {
    Tree::Seq(items.iter().map(|item| Tree::I64(*item)).collect())
}

#[test]
fn a_list_of_another_length_is_a_conflict_as_a_whole() {
    let merged = merged(&list(&[1, 2]), &list(&[1, 2, 3]), &list(&[1]), Otherwise::Keep);
    assert_eq!(merged, (list(&[1, 2, 3]), vec![Vec::new()]));
}

#[test]
fn what_only_a_lease_brought_cannot_be_changed_by_another() {
    let (after, base) = (map(&[("x", 1), ("new", 2)]), map(&[("x", 0)]));
    let whole = |value: &Tree| Tree::Map(vec![("m".to_owned(), value.clone())]);
    let wholes = (&whole(&base), &whole(&after));
    let layer = WriteLayer::new(
        7,
        &path("m"),
        (Some(base.clone()), Some(after.clone())),
        wholes,
        BootTime(1),
    );
    assert_eq!(outlives(std::slice::from_ref(&layer), &path("m.new")), Err(7));
    assert_eq!(outlives(std::slice::from_ref(&layer), &path("m.x")), Ok(()));
    assert_eq!(outlives(&[layer], &path("m")), Ok(()));
}

mod facts;
mod lists;
mod rules;
mod stacks;
