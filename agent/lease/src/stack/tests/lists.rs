//! Changes inside lists with elements that the service moves, replaces and removes.

use super::*;
use debug_base::Path;

fn backend(name: &str, weight: i64) -> Tree {
    Tree::Map(vec![
        ("name".to_owned(), Tree::Str(name.to_owned())),
        ("weight".to_owned(), Tree::I64(weight)),
    ])
}

fn pool(backends: &[(&str, i64)]) -> Tree {
    let backends = backends
        .iter()
        .map(|(name, weight)| backend(name, *weight))
        .collect();
    Tree::Map(vec![("backends".to_owned(), Tree::Seq(backends))])
}

/// Undoes a change of one place after the service changed the state.
fn undone(before: &Tree, at: &str, value: Tree, service: &Tree) -> Ending {
    let path = path(at);
    let whole = before.clone().replaced(&path, value.clone()).unwrap();
    let values = (before.at(&path).cloned(), Some(value));
    let mut layers = vec![WriteLayer::new(1, &path, values, (before, &whole), BootTime(1))];
    end(&mut layers, 1, service, Otherwise::Keep, &Lists).unwrap()
}

#[track_caller]
fn is_undone(before: &[(&str, i64)], at: usize, service: &[(&str, i64)], expected: &[(&str, i64)]) {
    let ending = undone(
        &pool(before),
        &format!("backends.{at}.weight"),
        Tree::I64(0),
        &pool(service),
    );
    assert_eq!((ending.left, ending.tree), (Vec::new(), pool(expected)));
}

#[track_caller]
fn is_a_conflict(before: &[(&str, i64)], at: usize, service: &[(&str, i64)], words: &str) {
    let ending = undone(
        &pool(before),
        &format!("backends.{at}.weight"),
        Tree::I64(0),
        &pool(service),
    );
    assert_eq!(ending.tree, pool(service), "something was written");
    let root = Path(vec!["pool".to_owned()]);
    let why: Vec<String> = ending
        .left
        .iter()
        .map(|left| left.why.words(&left.place, &root))
        .collect();
    assert!(why.join("; ").contains(words), "{why:?}");
}

const POOL: [(&str, i64); 3] = [("a", 1), ("b", 1), ("c", 0)];

#[test]
fn an_element_that_moved_is_found_by_what_it_is() {
    // The first element removed; the list reversed; an element added in front.
    is_undone(&POOL, 1, &[("b", 0), ("c", 0)], &[("b", 1), ("c", 0)]);
    is_undone(
        &POOL,
        1,
        &[("b", 0), ("c", 0), ("a", 1)],
        &[("b", 1), ("c", 0), ("a", 1)],
    );
    is_undone(
        &POOL,
        1,
        &[("z", 0), ("a", 1), ("b", 0), ("c", 0)],
        &[("z", 0), ("a", 1), ("b", 1), ("c", 0)],
    );
    // In its place, between neighbours that have changed.
    is_undone(
        &POOL,
        1,
        &[("a", 7), ("b", 0), ("c", 9)],
        &[("a", 7), ("b", 1), ("c", 9)],
    );
}

/// A list at the root, a list in an element of a list, and elements that are lists.
#[test]
fn lists_lie_at_the_root_and_in_each_other() {
    let at = |tree: &Tree| tree.at(&path("backends")).unwrap().clone();
    let (root, turned) = (at(&pool(&POOL)), at(&pool(&[("b", 0), ("c", 0), ("a", 1)])));
    let ending = undone(&root, "1.weight", Tree::I64(0), &turned);
    assert_eq!(
        (ending.left.len(), ending.tree),
        (0, at(&pool(&[("b", 1), ("c", 0), ("a", 1)])))
    );
    let zone = |name: &str, backends: &[(&str, i64)]| {
        Tree::Map(vec![
            ("zone".to_owned(), Tree::Str(name.to_owned())),
            ("pool".to_owned(), pool(backends)),
        ])
    };
    let zones = |of: Vec<Tree>| Tree::Map(vec![("zones".to_owned(), Tree::Seq(of))]);
    let before = zones(vec![zone("north", &[("z", 1)]), zone("south", &POOL)]);
    let leaf = "zones.1.pool.backends.1.weight";
    let turned = zones(vec![
        zone("south", &[("c", 0), ("b", 0)]),
        zone("north", &[("z", 1)]),
    ]);
    let ending = undone(&before, leaf, Tree::I64(0), &turned);
    let expected = zones(vec![
        zone("south", &[("c", 0), ("b", 1)]),
        zone("north", &[("z", 1)]),
    ]);
    assert_eq!((ending.left.len(), ending.tree), (0, expected));
    let gone = zones(vec![zone("south", &[("c", 0)]), zone("north", &[("z", 1)])]);
    let ending = undone(&before, leaf, Tree::I64(0), &gone);
    assert_eq!((ending.left.len(), ending.tree), (1, gone));
    // Rows of a matrix are identified by position only.
    let rows = |of: &[&[i64]]| Tree::Seq(of.iter().map(|row| list(row)).collect());
    let ending = undone(
        &rows(&[&[1, 2], &[3, 4]]),
        "1.0",
        Tree::I64(9),
        &rows(&[&[1, 2], &[9, 4]]),
    );
    assert_eq!((ending.left.len(), ending.tree), (0, rows(&[&[1, 2], &[3, 4]])));
    let ending = undone(
        &rows(&[&[1, 2], &[3, 4]]),
        "1.0",
        Tree::I64(9),
        &rows(&[&[9, 4], &[1, 2]]),
    );
    assert_eq!((ending.left.len(), ending.tree), (1, rows(&[&[9, 4], &[1, 2]])));
}

/// The service switched to another variant: the lease's place is gone with the variant's names.
#[test]
fn an_enum_that_is_another_variant_by_now_is_left() {
    let variant = |name: &str, entries: &[(&str, i64)]| map_of(&[(name, map(entries))]);
    let before = variant("Fixed", &[("limit", 1)]);
    let service = variant("Adaptive", &[("limit", 0), ("step", 1)]);
    let ending = undone(&before, "Fixed.limit", Tree::I64(0), &service);
    assert_eq!((ending.left.len(), ending.tree), (1, service.clone()));
    // The lease had changed the whole enum, to the variant that the service later modified.
    let ending = undone(
        &map_of(&[("mode", before.clone())]),
        "mode",
        service.clone(),
        &map_of(&[("mode", service.clone())]),
    );
    assert_eq!((ending.left.len(), ending.tree), (0, map_of(&[("mode", before)])));
    let unit = Tree::Str("Off".to_owned());
    let ending = undone(
        &map_of(&[("mode", unit.clone())]),
        "mode",
        service,
        &map_of(&[("mode", variant("Fixed", &[("limit", 1)]))]),
    );
    assert_eq!(ending.left.len(), 1);
}

fn map_of(entries: &[(&str, Tree)]) -> Tree {
    Tree::Map(
        entries
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
    )
}

#[test]
fn an_element_that_went_or_was_replaced_leaves_a_conflict() {
    is_a_conflict(
        &POOL,
        1,
        &[("a", 1), ("c", 0)],
        "had 3 elements, now 2; the element that was changed is not among them",
    );
    is_a_conflict(&POOL, 1, &[("a", 1), ("d", 0), ("c", 0)], "not among them");
    is_a_conflict(&POOL, 1, &[], "`pool.backends` had 3 elements, now 0");
    is_a_conflict(&POOL, 1, &[("b", 5), ("c", 0)], "`pool.backends.0.weight`");
}

#[test]
fn elements_that_look_alike_are_told_apart_by_nothing_but_an_untouched_list() {
    let twins = [("x", 1), ("x", 0), ("y", 0)];
    is_undone(
        &twins,
        0,
        &[("x", 0), ("x", 0), ("y", 0)],
        &[("x", 1), ("x", 0), ("y", 0)],
    );
    is_a_conflict(&twins, 0, &[("x", 0), ("y", 0)], "cannot be told from others");
    is_a_conflict(
        &twins,
        0,
        &[("y", 0), ("x", 0), ("x", 0)],
        "cannot be told from others",
    );
    is_a_conflict(
        &[("x", 1), ("x", 0), ("x", 0)],
        0,
        &[("x", 0), ("x", 0)],
        "cannot be told from others",
    );
    // An equal element was added.
    is_a_conflict(
        &POOL,
        1,
        &[("b", 0), ("b", 0), ("c", 0)],
        "cannot be told from others",
    );
}

fn ports(of: &[(&str, i64, i64)]) -> Tree {
    let items = of.iter().map(|(name, port, weight)| {
        let Tree::Map(mut entries) = backend(name, *weight) else {
            unreachable!()
        };
        entries.push(("port".to_owned(), Tree::I64(*port)));
        Tree::Map(entries)
    });
    Tree::Map(vec![("backends".to_owned(), Tree::Seq(items.collect()))])
}

/// Equal names: only values that the service may change tell the elements apart.
#[test]
fn of_those_that_are_called_the_same_one_is_found_only_where_it_was() {
    let before = ports(&[("x", 1, 5), ("y", 2, 5), ("x", 3, 5)]);
    let end = |service: &[(&str, i64, i64)]| {
        let service = ports(service);
        let ending = undone(&before, "backends.2.weight", Tree::I64(0), &service);
        let written = ending.tree != service;
        (ending.left.len(), written)
    };
    assert_eq!(end(&[("x", 1, 5), ("y", 2, 5), ("x", 3, 0)]), (0, true));
    assert_eq!(
        end(&[("x", 1, 5), ("y", 2, 5), ("x", 3, 0), ("x", 4, 0)]),
        (0, true)
    );
    // An element before it changed; its own neighbours did not.
    assert_eq!(end(&[("x", 9, 5), ("y", 2, 5), ("x", 3, 0)]), (0, true));
    // Ambiguous: its value changed and a similar element came, or another element now looks like it, or it only moved.
    assert_eq!(
        end(&[("x", 1, 5), ("y", 2, 5), ("x", 9, 0), ("x", 3, 0)]),
        (1, false)
    );
    assert_eq!(end(&[("y", 2, 5), ("x", 9, 0), ("x", 3, 0)]), (1, false));
    assert_eq!(end(&[("y", 2, 5), ("x", 3, 0), ("x", 1, 5)]), (1, false));
}

/// After a failed lookup, the element in the old position is no longer trusted to be the same.
#[test]
fn an_element_that_was_lost_is_found_again_by_its_name_only() {
    for (name, expected) in [("x", 1), ("b", 0)] {
        let before = pool(&[("x", 5), ("y", 5), (name, 5)]);
        let at = path("backends.2.weight");
        let whole = before.clone().replaced(&at, Tree::I64(0)).unwrap();
        let layer = WriteLayer::new(
            1,
            &at,
            (Some(Tree::I64(5)), Some(Tree::I64(0))),
            (&before, &whole),
            BootTime(1),
        );
        let mut layers = vec![layer];
        look(&mut layers, &pool(&[("x", 5), ("y", 5)]), &Lists);
        let ending = end(&mut layers, 1, &whole, Otherwise::Keep, &Lists).unwrap();
        assert_eq!(ending.left.len(), expected, "{name}");
    }
}

/// One layer in an element, one above it on the whole list. The list changes its length, and the upper layer ends first.
#[test]
fn what_an_upper_layer_left_is_not_what_a_lower_one_put_there() {
    let mut live = pool(&[("a", 7), ("b", 8)]);
    let mut layers = Vec::new();
    let write = |live: &mut Tree, layers: &mut Vec<WriteLayer>, lease, at: &str, value: Tree| {
        look(layers, live, &Lists);
        let (path, before) = (path(at), live.clone());
        *live = before.clone().replaced(&path, value.clone()).unwrap();
        let values = (before.at(&path).cloned(), Some(value));
        layers.push(WriteLayer::new(
            lease,
            &path,
            values,
            (&before, live),
            BootTime(1),
        ));
    };
    write(&mut live, &mut layers, 1, "backends.0.weight", Tree::I64(1));
    // The service changes the leaf. Then the list is written with the same value that the first layer wrote.
    live = pool(&[("a", 30), ("b", 8)]);
    let whole = pool(&[("c", 1), ("b", 1), ("a", 1)])
        .at(&path("backends"))
        .unwrap()
        .clone();
    write(&mut live, &mut layers, 2, "backends", whole);
    live = pool(&[("d", 4), ("b", 1), ("a", 1)]);
    let upper = end(&mut layers, 2, &live, Otherwise::Keep, &Lists).unwrap();
    assert_eq!(upper.left.len(), 1);
    let lower = end(&mut layers, 1, &upper.tree, Otherwise::Keep, &Lists).unwrap();
    assert_eq!(lower.tree, live, "something was written");
    let root = Path(vec!["pool".to_owned()]);
    let why: Vec<String> = lower
        .left
        .iter()
        .map(|left| left.why.words(&left.place, &root))
        .collect();
    assert_eq!(
        why,
        ["what stands at `pool.backends.2.weight` is what lease 2 left there"]
    );
}

#[test]
fn numbers_that_count_up_do_not_make_one_element_another() {
    let hits = |of: &[(i64, i64)]| {
        let items = of.iter().map(|(hits, weight)| {
            Tree::Map(vec![
                ("hits".to_owned(), Tree::I64(*hits)),
                ("weight".to_owned(), Tree::I64(*weight)),
            ])
        });
        Tree::Map(vec![("backends".to_owned(), Tree::Seq(items.collect()))])
    };
    let service = hits(&[(4, 0), (5, 0)]);
    let ending = undone(
        &hits(&[(3, 0), (4, 7)]),
        "backends.1.weight",
        Tree::I64(0),
        &service,
    );
    assert_eq!((ending.left.len(), ending.tree), (1, service));
}

#[test]
fn a_value_of_its_own_has_a_place_only_where_length_and_neighbours_say_so() {
    let hosts = |of: &[i64]| Tree::Map(vec![("hosts".to_owned(), list(of))]);
    let end = |service: &[i64]| {
        let ending = undone(&hosts(&[1, 2, 3]), "hosts.1", Tree::I64(9), &hosts(service));
        (ending.tree, ending.left.len())
    };
    assert_eq!(end(&[1, 9, 3]), (hosts(&[1, 2, 3]), 0));
    assert_eq!(end(&[7, 9, 8]), (hosts(&[7, 2, 8]), 0));
    for service in [&[9, 3][..], &[1, 9], &[9, 1, 3], &[0, 1, 9, 3], &[1, 5, 3]] {
        assert_eq!(end(service), (hosts(service), 1), "{service:?}");
    }
}

#[test]
fn a_whole_list_is_undone_element_by_element() {
    let before = pool(&POOL);
    let value = pool(&[("a", 1), ("b", 0), ("c", 5)])
        .at(&path("backends"))
        .unwrap()
        .clone();
    let end = |service: &[(&str, i64)]| {
        let ending = undone(&before, "backends", value.clone(), &pool(service));
        (
            ending.tree,
            ending
                .left
                .iter()
                .map(|left| left.place.join("."))
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(
        end(&[("c", 5), ("a", 3), ("b", 0)]),
        (pool(&[("c", 0), ("a", 3), ("b", 1)]), Vec::new())
    );
    assert_eq!(
        end(&[("b", 0), ("d", 0)]),
        (pool(&[("b", 1), ("d", 0)]), vec!["backends".to_owned()])
    );
    assert_eq!(
        end(&[("b", 8), ("c", 5)]),
        (pool(&[("b", 8), ("c", 0)]), vec!["backends.0.weight".to_owned()])
    );
}

/// Layers on top of, inside and around each other, with elements that move between the writes; they end in every order.
#[test]
fn stacks_over_elements_that_move_end_in_every_order() {
    for order in orders(&[1, 2, 3]) {
        let mut live = pool(&[("a", 10), ("b", 20), ("c", 0)]);
        let mut layers = Vec::new();
        let write = |live: &mut Tree, layers: &mut Vec<WriteLayer>, lease, at: &str, value: Tree| {
            look(layers, live, &Lists);
            let (path, before) = (path(at), live.clone());
            *live = before.clone().replaced(&path, value.clone()).unwrap();
            let values = (before.at(&path).cloned(), Some(value));
            layers.push(WriteLayer::new(
                lease,
                &path,
                values,
                (&before, live),
                BootTime(1),
            ));
        };
        write(&mut live, &mut layers, 1, "backends.1.weight", Tree::I64(0));
        // The first element moves to the end.
        live = pool(&[("b", 0), ("c", 0), ("a", 10)]);
        let whole = pool(&[("b", 1), ("c", 1), ("a", 1)])
            .at(&path("backends"))
            .unwrap()
            .clone();
        write(&mut live, &mut layers, 2, "backends", whole);
        live = pool(&[("c", 1), ("a", 1), ("b", 1)]);
        write(&mut live, &mut layers, 3, "backends.2.weight", Tree::I64(2));
        live = pool(&[("b", 2), ("c", 1), ("a", 1)]);
        for lease in &order {
            let ending = end(&mut layers, *lease, &live, Otherwise::Keep, &Lists).unwrap();
            assert_eq!(ending.left, Vec::new(), "lease {lease} of {order:?}");
            live = ending.tree;
        }
        assert_eq!(live, pool(&[("b", 20), ("c", 0), ("a", 10)]), "{order:?}");
    }
}

#[test]
fn a_place_that_was_empty_is_empty_again_and_the_other_way_round() {
    let map = |entries: &[(&str, i64)]| map(entries);
    let (with, without) = (map(&[("a", 1), ("b", 2), ("c", 3)]), map(&[("a", 1), ("c", 3)]));
    for (before, after, value) in [(&without, &with, Some(Tree::I64(2))), (&with, &without, None)] {
        let path = path("b");
        let values = (before.at(&path).cloned(), value);
        let layer = WriteLayer::new(1, &path, values, (before, after), BootTime(1));
        let ending = end(&mut vec![layer.clone()], 1, after, Otherwise::Keep, &Lists).unwrap();
        assert_eq!(
            (ending.as_before, ending.left.len(), &ending.tree),
            (true, 0, before)
        );
        // The service itself filled or emptied the place.
        let service = map(&[("a", 1), ("b", 9), ("c", 3)]);
        let ending = end(&mut vec![layer], 1, &service, Otherwise::Keep, &Lists).unwrap();
        assert_eq!((ending.left.len(), ending.tree), (1, service));
    }
}

/// The order of names is that of a type that keeps one, or of a list that is shown by key.
#[test]
fn names_stand_in_the_order_in_which_they_stood_unless_the_service_moved_them() {
    let map = |names: &str| {
        let entry = |name: char| (name.to_string(), Tree::I64(1));
        Tree::Map(vec![(
            "m".to_owned(),
            Tree::Map(names.chars().map(entry).collect()),
        )])
    };
    let after_undo = |before: &str, ours: &str, live: &str| {
        let (before, whole) = (map(before), map(ours));
        let at = path("m");
        let values = (before.at(&at).cloned(), whole.at(&at).cloned());
        let layer = WriteLayer::new(1, &at, values, (&before, &whole), BootTime(1));
        let ending = end(&mut vec![layer], 1, &map(live), Otherwise::Keep, &Lists).unwrap();
        let Some(Tree::Map(entries)) = ending.tree.at(&at).cloned() else {
            panic!("{ending:?}")
        };
        entries.into_iter().map(|(name, _)| name).collect::<String>()
    };
    assert_eq!(after_undo("bca", "ac", "ac"), "bca");
    assert_eq!(after_undo("bca", "abcd", "dcba"), "cba", "the service moved them");
    assert_eq!(after_undo("bca", "ac", "ca"), "bca");
}
