//! Each rule of [`disputed`](crate::disputed) and of the search for elements, by the smallest case that needs it.

use super::*;
use crate::disputed::OwnPart;

/// Elements with a name (none if empty), a port and a weight.
fn pool(of: &[(&str, i64, i64)]) -> Tree {
    let items = of.iter().map(|(name, port, weight)| {
        let name = (!name.is_empty()).then(|| ("name".to_owned(), Tree::Str((*name).to_owned())));
        let numbers = [
            ("port".to_owned(), Tree::I64(*port)),
            ("weight".to_owned(), Tree::I64(*weight)),
        ];
        Tree::Map(name.into_iter().chain(numbers).collect())
    });
    Tree::Map(vec![("backends".to_owned(), Tree::Seq(items.collect()))])
}

/// A layer that makes the weight of an element 0.
fn layer(lease: u64, before: &Tree, at: usize) -> (WriteLayer, Tree) {
    write(lease, before, &format!("backends.{at}.weight"), Tree::I64(0))
}

fn write(lease: u64, before: &Tree, at: &str, value: Tree) -> (WriteLayer, Tree) {
    let path = path(at);
    let whole = before.clone().replaced(&path, value.clone()).unwrap();
    let values = (before.at(&path).cloned(), Some(value));
    (
        WriteLayer::new(lease, &path, values, (before, &whole), BootTime(1)),
        whole,
    )
}

#[track_caller]
fn ends(before: &[(&str, i64, i64)], at: usize, service: &[(&str, i64, i64)]) -> bool {
    let (layer, _) = layer(1, &pool(before), at);
    let service = pool(service);
    let ending = end(&mut vec![layer], 1, &service, Otherwise::Keep, &Lists).unwrap();
    assert!(
        ending.left.is_empty() || ending.tree == service,
        "a conflict has written something"
    );
    ending.left.is_empty()
}

#[test]
fn a_twin_that_stands_where_it_stood_is_not_it() {
    // The one between went, and a new one came behind: what holds our value stands before its old position now.
    assert!(!ends(
        &[("y", 1, 5), ("x", 2, 0), ("x", 2, 5)],
        2,
        &[("y", 1, 5), ("x", 2, 0), ("x", 2, 5)]
    ));
}

#[test]
fn one_of_several_with_its_name_stays_only_with_what_we_put_there() {
    assert!(ends(&[("x", 1, 5)], 0, &[("x", 1, 0), ("x", 2, 7)]));
    assert!(!ends(&[("x", 1, 5)], 0, &[("x", 1, 5), ("x", 2, 7)]));
}

#[test]
fn one_of_several_with_its_name_stays_only_behind_what_was_before_it() {
    let before = [("y", 2, 5), ("x", 3, 5)];
    assert!(ends(&before, 1, &[("y", 2, 5), ("x", 3, 0), ("x", 9, 0)]));
    assert!(!ends(&before, 1, &[("x", 9, 0), ("x", 3, 0)]));
    // It does not stay if one before it went.
    let before = [("x", 3, 5), ("y", 2, 5), ("x", 4, 5)];
    assert!(!ends(&before, 2, &[("x", 3, 5), ("x", 4, 0)]));
}

#[test]
fn one_with_its_name_that_went_may_be_the_one_that_looks_like_it_now() {
    assert!(!ends(&[("x", 1, 5), ("x", 2, 5)], 0, &[("x", 1, 0)]));
}

#[test]
fn without_names_one_that_came_may_be_it_with_other_values() {
    assert!(ends(&[("", 1, 5), ("", 2, 5)], 1, &[("", 1, 5), ("", 2, 0)]));
    assert!(!ends(&[("", 1, 5), ("", 2, 5)], 1, &[("", 9, 0), ("", 2, 0)]));
}

#[test]
fn one_that_came_with_our_value_may_be_it_instead_of_one_that_lost_it() {
    let (layer, _) = layer(1, &pool(&[("", 1, 5)]), 0);
    let service = pool(&[("", 1, 7), ("n", 2, 0)]);
    let ending = end(&mut vec![layer], 1, &service, Otherwise::Keep, &Lists).unwrap();
    // Found or not, the value there is the service's own. But only what was found can be forced.
    assert_eq!((ending.basis, ending.tree), (None, service));
}

#[test]
fn another_with_our_value_at_its_position_may_be_it_under_a_new_name() {
    assert!(!ends(&[("a", 1, 5), ("b", 2, 5)], 1, &[("b", 9, 0), ("z", 2, 0)]));
    assert!(ends(&[("a", 1, 5), ("b", 2, 5)], 1, &[("b", 9, 0), ("z", 2, 7)]));
}

/// A port that a lost layer above may have given to any element identifies none.
#[test]
fn what_a_lost_layer_changed_in_its_element_is_no_evidence_in_another() {
    let (below, whole) = layer(1, &pool(&[("", 1, 5), ("", 2, 5)]), 1);
    let (above, _) = write(2, &whole, "backends.0.port", Tree::I64(2));
    // The element of the layer below went. The other one looks like it since the layer above changed it.
    let service = pool(&[("", 2, 0)]);
    let ending = end(&mut vec![below, above], 1, &service, Otherwise::Keep, &Lists).unwrap();
    assert_eq!((ending.basis, ending.tree), (None, service));
}

/// Found again by its name, it is known by all that can be seen once more.
#[test]
fn what_was_lost_and_found_is_found_as_before() {
    let before = pool(&[("a", 1, 5), ("b", 2, 5)]);
    let (layer, whole) = layer(1, &before, 1);
    let mut layers = vec![layer];
    look(&mut layers, &pool(&[("a", 1, 5)]), &Lists);
    // It may be at any element of the list.
    assert_eq!(layers[0].known_path(), path("backends"));
    look(&mut layers, &whole, &Lists);
    assert_eq!(layers[0].known_path(), path("backends.1.weight"));
    let service = pool(&[("a", 1, 5), ("b", 2, 0), ("b", 3, 7)]);
    let ending = end(&mut layers, 1, &service, Otherwise::Keep, &Lists).unwrap();
    assert_eq!(
        (ending.left.len(), ending.tree),
        (0, pool(&[("a", 1, 5), ("b", 2, 5), ("b", 3, 7)]))
    );
}

fn left_at(place: &str) -> KeptPlace {
    KeptPlace {
        place: path(place),
        why: KeptBecause::Inside(9),
    }
}

#[test]
fn a_layer_that_is_lost_may_be_at_any_element_that_is_disputed() {
    let (layer, _) = layer(1, &pool(&[("a", 1, 5), ("b", 2, 5)]), 1);
    for (is_found, disputes) in [(true, 0), (false, 1)] {
        let mut layer = layer.clone();
        layer.dispute(2, &[left_at("backends.0")], is_found);
        assert_eq!(layer.disputed.len(), disputes);
    }
}

#[test]
fn a_dispute_goes_with_its_layer_and_covers_no_more_than_its_place() {
    let before = pool(&[("a", 1, 5), ("b", 2, 5)]);
    let element = pool(&[("b", 8, 0)]).at(&path("backends.0")).unwrap().clone();
    let (mut layer, _) = write(1, &before, "backends.1", element);
    layer.dispute(2, &[left_at("backends.1.weight")], true);
    let service = pool(&[("b", 8, 0), ("a", 1, 5)]);
    let mut layers = vec![layer];
    let ending = end(&mut layers, 1, &service, Otherwise::Keep, &Lists).unwrap();
    assert_eq!(
        ending.left,
        [KeptPlace {
            place: path("backends.0.weight"),
            why: KeptBecause::Below(2)
        }]
    );
    assert_eq!(ending.tree, pool(&[("b", 2, 0), ("a", 1, 5)]));
}

#[test]
fn what_a_layer_above_left_stays_until_that_is_settled() {
    let before = pool(&[("a", 1, 5)]);
    let (layer, whole) = layer(1, &before, 0);
    let mut layers = vec![layer];
    abandon(&mut layers, 2, &[left_at("backends.0.weight")]);
    let ended = |layers: &[WriteLayer], live: &Tree| {
        let ending = end(&mut layers.to_vec(), 1, live, Otherwise::Keep, &Lists).unwrap();
        (ending.left.len(), ending.tree)
    };
    // Layers with a smaller id lie below.
    assert_eq!(ended(&layers, &whole), (1, whole.clone()));
    // What stands there is what should stand there: nothing is left to dispute.
    assert_eq!(ended(&layers, &before), (0, before.clone()));
    settled(&mut layers, 3);
    assert_eq!(ended(&layers, &whole).0, 1);
    settled(&mut layers, 2);
    assert_eq!(ended(&layers, &whole), (0, before.clone()));
    // A layer with a larger id wrote its value later.
    let (above, _) = self::layer(3, &before, 0);
    let mut layers = vec![above];
    abandon(&mut layers, 2, &[left_at("backends.0.weight")]);
    let ending = end(&mut layers, 3, &whole, Otherwise::Keep, &Lists).unwrap();
    assert_eq!((ending.left.len(), ending.tree), (0, before));
}

#[test]
fn what_is_disputed_is_forced() {
    let before = pool(&[("a", 1, 5)]);
    let (mut layer, whole) = layer(1, &before, 0);
    layer.dispute(2, &[left_at("backends.0.weight")], true);
    let ending = end(&mut vec![layer], 1, &whole, Otherwise::Keep, &Lists).unwrap();
    assert_eq!((ending.left.len(), &ending.tree), (1, &whole));
    let forced = end(&mut vec![ending.layer], 1, &whole, Otherwise::Force, &Lists).unwrap();
    assert_eq!((forced.left.len(), forced.tree), (0, before));
}

#[test]
fn what_a_layer_wrote_as_it_was_is_not_disputed() {
    let before = pool(&[("a", 1, 5)]);
    let element = pool(&[("a", 8, 5)]).at(&path("backends.0")).unwrap().clone();
    let (mut layer, _) = write(1, &before, "backends.0", element);
    layer.dispute(2, &[left_at("backends.0.weight")], true);
    let ending = end(
        &mut vec![layer],
        1,
        &pool(&[("a", 8, 7)]),
        Otherwise::Keep,
        &Lists,
    )
    .unwrap();
    assert_eq!((ending.left.len(), ending.tree), (0, pool(&[("a", 1, 7)])));
}

/// Nothing stood there before, so there is no place in it to except: all of it stays, and all of it may be forced.
#[test]
fn what_stays_whole_for_a_disputed_part_is_told_and_forced_whole() {
    let nothing = Tree::Map(Vec::new());
    let entry = map(&[("a", 2), ("b", 2)]);
    let whole = Tree::Map(vec![("m".to_owned(), entry.clone())]);
    let mut layer = WriteLayer::new(
        1,
        &path("m"),
        (None, Some(entry)),
        (&nothing, &whole),
        BootTime(1),
    );
    layer.dispute(2, &[left_at("m.b")], true);
    let ending = end(&mut vec![layer], 1, &whole, Otherwise::Keep, &Lists).unwrap();
    assert_eq!(
        (ending.left, &ending.tree),
        (
            vec![KeptPlace {
                place: path("m"),
                why: KeptBecause::Below(2)
            }],
            &whole
        )
    );
    let mut forced = end(&mut vec![ending.layer], 1, &whole, Otherwise::Force, &Lists).unwrap();
    forced.keep_to_conflict(&whole);
    assert_eq!((forced.left.len(), forced.tree), (0, nothing));
}

#[test]
fn positions_in_a_disputed_list_are_not_followed() {
    let before = pool(&[("a", 1, 5), ("b", 2, 5)]);
    let list = pool(&[("a", 1, 0), ("b", 2, 0)])
        .at(&path("backends"))
        .unwrap()
        .clone();
    let (mut layer, whole) = write(1, &before, "backends", list);
    layer.dispute(2, &[left_at("backends.0.weight")], true);
    let ending = end(&mut vec![layer], 1, &whole, Otherwise::Keep, &Lists).unwrap();
    assert_eq!(
        ending.left,
        [KeptPlace {
            place: path("backends"),
            why: KeptBecause::Below(2)
        }]
    );
    assert_eq!(ending.tree, whole);
}

/// A disputed place that the value of before does not have: nothing of it is put back.
#[test]
fn a_place_that_only_one_value_has_makes_the_whole_disputed() {
    let entry = |name: &str| map(&[(name, 1)]);
    let live = Tree::Map(vec![("b".to_owned(), map(&[("c", 2)]))]);
    let dispute = {
        let (mut layer, _) = write(
            1,
            &Tree::Map(vec![("m".to_owned(), entry("a"))]),
            "m",
            live.clone(),
        );
        layer.dispute(2, &[left_at("m.b.c")], true);
        layer.disputed
    };
    let mut claim = OwnPart::new(
        Some(Tree::Map(vec![("b".to_owned(), entry("c"))])),
        Some(Tree::I64(1)),
    );
    claim.yield_to(&dispute, &path("m"), Some(&live));
    assert_eq!(
        (claim.ours, claim.target, claim.left.len()),
        (Some(live.clone()), Some(live), 1)
    );
}

/// The service wrote an element that looks like the one below a layer that is lost.
#[test]
fn below_a_lost_layer_nothing_is_found() {
    let (below, whole) = write(
        1,
        &pool(&[("a", 1, 5), ("b", 2, 7)]),
        "backends.0.weight",
        Tree::I64(6),
    );
    let element = pool(&[("z", 9, 9)]).at(&path("backends.0")).unwrap().clone();
    let (above, _) = write(2, &whole, "backends.0", element);
    let service = pool(&[("b", 2, 7), ("a", 1, 6)]);
    let ending = end(&mut vec![below, above], 1, &service, Otherwise::Keep, &Lists).unwrap();
    assert_eq!((ending.basis, ending.tree), (None, service));
}

/// The place of the uppermost layer exists only in the value of the one below it.
#[test]
fn a_layer_goes_where_the_layer_goes_that_it_stands_on() {
    let before = pool(&[("x", 3, 5), ("a", 1, 5), ("b", 2, 5)]);
    let list = pool(&[("a", 1, 5), ("b", 2, 5)])
        .at(&path("backends"))
        .unwrap()
        .clone();
    let (list, whole) = write(1, &before, "backends", list);
    let tags = |second: i64| Tree::Seq(vec![Tree::I64(1), Tree::I64(second)]);
    let tagged = whole
        .clone()
        .with(&path("backends.0.tags"), Some(tags(2)), &[])
        .unwrap();
    let values = (None, Some(tags(2)));
    let element = WriteLayer::new(
        2,
        &path("backends.0.tags"),
        values,
        (&whole, &tagged),
        BootTime(1),
    );
    let (tag, live) = write(3, &tagged, "backends.0.tags.1", Tree::I64(3));
    let mut layers = vec![list, element, tag];
    let ending = end(&mut layers, 1, &live, Otherwise::Keep, &Lists).unwrap();
    let expected = before
        .clone()
        .with(&path("backends.1.tags"), Some(tags(3)), &[])
        .unwrap();
    assert_eq!((ending.left, &ending.tree), (Vec::new(), &expected));
    assert_eq!(layers[1].path, path("backends.1.tags.1"));
}

/// A timed state puts the value of before back at the deadline by itself, so what the layer below changed may be undone
/// already.
#[test]
fn what_another_layer_of_a_timed_state_changed_is_no_evidence() {
    struct Timed;
    impl Orders for Timed {
        fn is_set(&self, whole: &Tree, path: &[String], values: &[&Tree]) -> bool {
            Lists.is_set(whole, path, values)
        }
        fn is_timed(&self) -> bool {
            true
        }
    }
    let element =
        |size: i64, port: i64, weight: i64| map(&[("size", size), ("port", port), ("weight", weight)]);
    let pool = |first: Tree| {
        Tree::Map(vec![(
            "backends".to_owned(),
            Tree::Seq(vec![first, element(2, 2, 5)]),
        )])
    };
    let before = pool(element(1, 1, 5));
    let (port, whole) = write(1, &before, "backends.0.port", Tree::I64(9));
    let (weight, _) = write(2, &whole, "backends.0.weight", Tree::I64(0));
    let live = pool(element(1, 1, 0));
    let layers = vec![port, weight];
    let ending = end(&mut layers.clone(), 2, &live, Otherwise::Keep, &Timed).unwrap();
    assert_eq!((ending.left.len(), ending.tree), (0, before));
    let ending = end(&mut layers.clone(), 2, &live, Otherwise::Keep, &Lists).unwrap();
    assert_eq!((ending.basis, ending.tree), (None, live));
}
