//! What a layer and its ending tell, fact by fact.

use super::*;

/// The list at `s` keeps no order.
struct SetAtS;

impl Orders for SetAtS {
    fn is_set(&self, _: &Tree, path: &[String], _: &[&Tree]) -> bool {
        path == ["s".to_owned()]
    }
}

fn list(items: &str) -> Tree {
    Tree::Seq(items.chars().map(|c| Tree::Str(c.to_string())).collect())
}

fn map(entries: &[(&str, Tree)]) -> Tree {
    Tree::Map(
        entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect(),
    )
}

/// A layer that writes `value` at a path, and the whole state with it.
fn layer(lease: u64, before: &Tree, at: &str, value: Option<Tree>) -> (WriteLayer, Tree) {
    let path = path(at);
    let whole = before.clone().with(&path, value.clone(), &[]).unwrap();
    let values = (before.at(&path).cloned(), value);
    (
        WriteLayer::new(lease, &path, values, (before, &whole), BootTime(1)),
        whole,
    )
}

#[test]
fn a_set_loses_what_we_added_and_gets_back_what_we_removed() {
    let merged = |ours: &str, live: &str, target: &str| {
        let whole = map(&[("s", list(live))]);
        let here = Here {
            whole: &whole,
            path: &[],
            orders: &SetAtS,
        };
        let of = |items: &str| map(&[("s", list(items))]);
        let merged = merge(
            Some(&of(ours)),
            Some(&whole),
            Some(&of(target)),
            Otherwise::Keep,
            here,
        );
        assert_eq!(merged.left, []);
        merged.value.unwrap().at(&path("s")).unwrap().clone()
    };
    // We added b, the service added c.
    assert_eq!(merged("ab", "bca", "a"), list("ca"));
    // We removed a, the service added c, or put a back itself.
    assert_eq!(merged("b", "bc", "ab"), list("bca"));
    assert_eq!(merged("b", "ba", "ab"), list("ba"));
    // The service removed what we added, and something else.
    assert_eq!(merged("abx", "x", "ax"), list("x"));
    // Only another order: the service has changed nothing.
    assert_eq!(merged("ab", "ba", "c"), list("c"));
}

#[test]
fn a_layer_knows_its_place_and_its_values() {
    let state = map(&[("m", map(&[("x", Tree::I64(1))])), ("l", list("ab"))]);
    let (in_map, _) = layer(1, &state, "m.x", Some(Tree::I64(2)));
    let (in_list, _) = layer(2, &state, "l.0", Some(Tree::I64(3)));
    assert!(!in_map.is_in_list() && in_list.is_in_list());
    let values: Vec<&Tree> = in_map.values().collect();
    assert_eq!(values, [&Tree::I64(2), &Tree::I64(1)]);
    for (at, overlaps, contains) in [
        ("", true, false),
        ("m", true, false),
        ("m.x", true, true),
        ("m.x.y", true, true),
        ("m.z", false, false),
        ("l", false, false),
    ] {
        assert_eq!(in_map.overlaps(&path(at)), overlaps, "{at}");
        assert_eq!(in_map.contains(&path(at)), contains, "{at}");
    }
}

#[test]
fn what_is_gone_is_named_by_what_is_missing() {
    let state = map(&[("m", map(&[("n", map(&[("x", Tree::I64(1))]))]))]);
    let (layer, _) = layer(1, &state, "m.n.x", Some(Tree::I64(2)));
    let without = map(&[("m", map(&[]))]);
    let ending = end(&mut vec![layer], 1, &without, Otherwise::Keep, &Lists).unwrap();
    assert_eq!(
        (ending.stands, ending.basis, ending.as_before),
        (None, None, false)
    );
    assert_eq!(
        ending.left,
        [KeptPlace {
            place: path("m.n.x"),
            why: KeptBecause::Doubt(Doubt::Gone(path("m.n"))),
        }]
    );
}

#[test]
fn an_element_that_cannot_be_told_from_others_is_named_by_its_list() {
    let element = |weight| map(&[("weight", Tree::I64(weight))]);
    let state = map(&[("l", Tree::Seq(vec![element(5), element(5)]))]);
    let (layer, _) = layer(1, &state, "l.0.weight", Some(Tree::I64(0)));
    let swapped = map(&[("l", Tree::Seq(vec![element(5), element(0), element(0)]))]);
    let ending = end(&mut vec![layer], 1, &swapped, Otherwise::Keep, &Lists).unwrap();
    let [left] = ending.left.as_slice() else {
        panic!("one place is left: {:?}", ending.left);
    };
    assert_eq!(left.place, path("l"));
    assert!(
        matches!(left.why, KeptBecause::Doubt(Doubt::List { .. })),
        "{left:?}"
    );
}

#[test]
fn an_ending_that_does_not_fit_undoes_nothing() {
    let state = map(&[("x", Tree::I64(1))]);
    let (layer, live) = layer(1, &state, "x", Some(Tree::I64(2)));
    let ended = end(&mut vec![layer], 1, &live, Otherwise::Keep, &Lists).unwrap();
    assert_eq!(
        (&ended.tree, &ended.stands, ended.as_before),
        (&state, &Some(Some(Tree::I64(1))), true)
    );
    let stays = |change: &dyn Fn(&mut Ending)| {
        let mut ending = ended.clone();
        change(&mut ending);
        ending.stays(&live);
        assert_eq!(ending.tree, live);
        assert_eq!(
            ending.left.iter().map(|left| &left.why).collect::<Vec<_>>(),
            [&KeptBecause::Unfit]
        );
        assert_eq!(ending.layer.conflict, [path("x")]);
        ending.stands
    };
    assert_eq!(stays(&|_| ()), Some(Some(Tree::I64(2))));
    // What stands below a covering layer, or at a place that was not found, is not what is live there.
    assert_eq!(stays(&|e| e.covered_by = Some(7)), Some(Some(Tree::I64(1))));
    assert_eq!(stays(&|e| (e.basis, e.stands) = (None, None)), None);
}

#[test]
fn force_goes_no_further_than_the_conflict() {
    let state = map(&[("x", Tree::I64(1)), ("y", Tree::I64(1))]);
    let (layer, live) = layer(
        1,
        &state,
        "",
        Some(map(&[("x", Tree::I64(2)), ("y", Tree::I64(2))])),
    );
    let mut ending = end(&mut vec![layer], 1, &live, Otherwise::Force, &Lists).unwrap();
    ending.layer.conflict = vec![path("x")];
    ending.keep_to_conflict(&live);
    assert_eq!(
        ending.left,
        [KeptPlace {
            place: path("y"),
            why: KeptBecause::Moved,
        }]
    );
}

#[test]
fn as_before_wants_the_value_the_order_and_nothing_left() {
    let state = map(&[("m", map(&[("a", Tree::I64(1)), ("b", Tree::I64(2))]))]);
    // Removed by us, set again by the service with what it was: nothing is written, and it is as it was.
    let (layer, _) = layer(1, &state, "m.a", None);
    let ending = end(&mut vec![layer.clone()], 1, &state, Otherwise::Keep, &Lists).unwrap();
    assert!(ending.as_before && ending.left.is_empty());
    // The service wrote something else there.
    let other = state.clone().replaced(&path("m.a"), Tree::I64(9)).unwrap();
    let ending = end(&mut vec![layer], 1, &other, Otherwise::Keep, &Lists).unwrap();
    assert!(!ending.as_before && !ending.left.is_empty());
    assert_eq!((ending.tree, ending.stands), (other, Some(Some(Tree::I64(9)))));
}

#[test]
fn only_layers_around_a_place_can_have_created_it() {
    let state = map(&[("a", map(&[])), ("c", map(&[("d", map(&[("e", Tree::I64(1))]))]))]);
    let (created, _) = layer(4, &state, "a.b", Some(map(&[("x", Tree::I64(1))])));
    let layers = [created];
    assert_eq!(outlives(&layers, &path("a.b.x")), Err(4));
    assert_eq!(outlives(&layers, &path("a.b")), Ok(()));
    assert_eq!(outlives(&layers, &path("c.d.e")), Ok(()));
}

#[test]
fn a_set_that_the_service_changed_too_is_not_as_it_was() {
    let state = map(&[("s", list("a"))]);
    let (layer, _) = layer(1, &state, "s", Some(list("ab")));
    let more = map(&[("s", list("abc"))]);
    let ending = end(&mut vec![layer], 1, &more, Otherwise::Keep, &SetAtS).unwrap();
    assert!(ending.left.is_empty() && !ending.as_before);
    assert_eq!(ending.stands, Some(Some(list("ac"))));
}

#[test]
fn what_we_brought_goes_though_the_sets_in_it_came_into_another_order() {
    struct SetInX;
    impl Orders for SetInX {
        fn is_set(&self, _: &Tree, path: &[String], _: &[&Tree]) -> bool {
            path == ["x".to_owned(), "s".to_owned()]
        }
    }
    let x = |items: &str| map(&[("x", map(&[("s", list(items))]))]);
    // The service brought y, so that not all is ours.
    let y = ("y".to_owned(), Tree::I64(1));
    let live = x("ba").with(&path("y"), Some(Tree::I64(1)), &[]).unwrap();
    let here = Here {
        whole: &live,
        path: &[],
        orders: &SetInX,
    };
    let empty = map(&[]);
    let merged = merge(Some(&x("ab")), Some(&live), Some(&empty), Otherwise::Keep, here);
    assert_eq!(
        (merged.value, merged.left),
        (Some(Tree::Map(vec![y])), Vec::new())
    );
}
