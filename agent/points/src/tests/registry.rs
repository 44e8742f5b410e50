use super::{fake, patch};
use crate::registry::InvalidRoute;
use crate::{Facts, Kind, Registry, Slot};
use debug_base::Tree;

static NEXT: Slot = Slot::new("rota::next_on_duty", "src/rota.rs", 12, || {
    Facts::new(&[("rota", true), ("pool", false)], None)
});
static PICK: Slot = Slot::new("rota::pick", "src/rota.rs", 30, || {
    Facts::new(&[], Some("its result is borrowed"))
});
static DOOR: Slot = Slot::new("rota::door", "src/rota.rs", 50, || Facts::new(&[], None));

fn registry() -> Registry {
    Registry::of([&PICK, &NEXT], Vec::new())
}

#[test]
fn points_are_listed_with_what_is_known_about_them() {
    let registry = registry();
    registry.declare("GET", "/api/health").unwrap();
    let points = registry.points();
    let names = points.iter().map(|point| point.name.as_str()).collect::<Vec<_>>();
    assert_eq!(names, ["rota::next_on_duty", "rota::pick", "GET /api/health"]);
    assert_eq!(points[0].place, Some(("src/rota.rs", 12)));
    assert_eq!(
        points[0]
            .arguments
            .iter()
            .map(|a| (a.name, a.given))
            .collect::<Vec<_>>(),
        [("rota", true), ("pool", false)]
    );
    assert_eq!(points[1].not_patchable.as_deref(), Some("its result is borrowed"));
    assert_eq!(
        (points[2].kind, points[2].is_seen, points[0].is_seen),
        (Kind::Route, Some(false), None)
    );
}

#[test]
fn a_layer_is_listed_with_its_counts() {
    let registry = registry();
    let slot = registry.declare("POST", "/x").unwrap();
    patch(&slot, 9, fake(|_| Ok(Tree::Null)));
    let layers = registry.points().pop().unwrap().layers;
    assert_eq!(
        (layers[0].lease, layers[0].is_in_force, layers[0].calls),
        (9, true, 0)
    );
}

#[test]
fn functions_with_one_name_are_closed_and_told_with_all_places_and_the_rest_works() {
    static ONE: Slot = Slot::new("rota::twin", "src/rota.rs", 30, || Facts::new(&[], None));
    static OTHER: Slot = Slot::new("rota::twin", "src/other.rs", 3, || Facts::new(&[], None));
    let registry = Registry::of([&ONE, &NEXT, &OTHER], Vec::new());
    let why = "2 functions are points called `rota::twin`, at `src/other.rs:3` and at `src/rota.rs:30`; \
               give each a name of its own with `#[patchable(name = \"…\")]`";
    assert_eq!(registry.faults(), [format!("{why}; they take no patches")]);
    let points = registry.points();
    let shown = points
        .iter()
        .map(|point| (point.name.as_str(), point.place.unwrap().1))
        .collect::<Vec<_>>();
    assert_eq!(
        shown,
        [("rota::next_on_duty", 12), ("rota::twin", 3), ("rota::twin", 30)]
    );
    assert!(
        points[1..]
            .iter()
            .all(|point| point.not_patchable.as_deref() == Some(why))
    );
    for slot in [&ONE, &OTHER] {
        assert_eq!(slot.patchable().unwrap_err().why, why);
    }
    assert!(registry.is_shared("rota::twin") && !registry.is_shared("rota::next_on_duty"));
    assert_eq!(registry.find("rota::next_on_duty").unwrap().patchable(), Ok(()));
}

#[test]
fn what_is_no_name_hides_no_route_and_is_told() {
    static ROUTE: Slot = Slot::new("GET /x", "src/rota.rs", 1, || Facts::new(&[], None));
    static EMPTY: Slot = Slot::new("", "src/rota.rs", 2, || Facts::new(&[], None));
    let registry = Registry::of([&ROUTE, &EMPTY], Vec::new());
    assert_eq!(registry.faults().len(), 2);
    assert!(
        registry.faults()[1].starts_with("`GET /x` is no name of a point"),
        "{:?}",
        registry.faults()
    );
    assert!(registry.find("GET /x").is_none() && registry.find("").is_none());
    let route = registry.declare("GET", "/x").unwrap();
    assert_eq!(registry.find("GET /x").unwrap().kind(), Kind::Route);
    assert_eq!(route.patchable(), Ok(()));
    assert!(ROUTE.patchable().is_err() && EMPTY.patchable().is_err());
}

#[test]
fn a_name_is_found_only_exactly() {
    let registry = registry();
    assert_eq!(registry.find("rota::pick").unwrap().name(), "rota::pick");
    assert!(registry.find("pick").is_none());
    assert!(registry.find("GET /unknown").is_none());
}

#[test]
fn a_close_name_is_suggested() {
    let registry = registry();
    registry.declare("GET", "/api/healthcheck").unwrap();
    assert_eq!(
        registry.nearest("next_on_duty").as_deref(),
        Some("rota::next_on_duty")
    );
    assert_eq!(registry.nearest("rota::pikc").as_deref(), Some("rota::pick"));
    assert_eq!(
        registry.nearest("GET /api/heathcheck").as_deref(),
        Some("GET /api/healthcheck")
    );
    assert_eq!(registry.nearest("entirely_different"), None);
    assert_eq!(registry.nearest(&"x".repeat(100_000)), None);
}

#[test]
fn a_door_that_the_author_closed_stays_closed() {
    let never = ["rota::door".to_owned(), "POST /admin".to_owned()];
    let registry = Registry::of([&DOOR], never);
    let why = "the service's author closed it with `never_patch`";
    assert_eq!(
        registry.find("rota::door").unwrap().patchable().unwrap_err().why,
        why
    );
    assert_eq!(
        registry
            .declare("POST", "/admin")
            .unwrap()
            .patchable()
            .unwrap_err()
            .why,
        why
    );
    assert_eq!(registry.declare("GET", "/admin").unwrap().patchable(), Ok(()));
}

#[test]
fn a_route_is_declared_once_and_head_is_get() {
    let registry = registry();
    let slot = registry.declare("GET", "/x/{id}").unwrap();
    assert!(std::sync::Arc::ptr_eq(
        &slot,
        &registry.declare("HEAD", "/x/{id}").unwrap()
    ));
    assert_eq!(registry.find("GET /x/{id}").unwrap().name(), "GET /x/{id}");
}

#[test]
fn what_is_no_route_is_refused() {
    let registry = registry();
    assert!(matches!(
        registry.declare("FETCH", "/x"),
        Err(InvalidRoute::Method(_))
    ));
    for template in ["x", "", "/a b", "/a\n", &format!("/{}", "x".repeat(512))] {
        assert!(
            matches!(registry.declare("GET", template), Err(InvalidRoute::Template(_))),
            "{template:?}"
        );
    }
}
