use super::{fake, patch};
use crate::points::registry::InvalidRoute;
use crate::points::{Facts, Kind, Registry, Slot};
use crate::state::Tree;

static NEXT: Slot = Slot::new("rota::next_on_duty", "src/rota.rs", 12, || {
    Facts::new(&[("rota", true), ("pool", false)], None)
});
static PICK: Slot =
    Slot::new("rota::pick", "src/rota.rs", 30, || Facts::new(&[], Some("its result is borrowed")));
static PICK_AGAIN: Slot = Slot::new("rota::pick", "src/other.rs", 3, || Facts::new(&[], None));
static DOOR: Slot = Slot::new("rota::door", "src/rota.rs", 50, || Facts::new(&[], None));

fn registry() -> Registry {
    Registry::of([&PICK, &NEXT], Vec::new()).unwrap()
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
        points[0].arguments.iter().map(|a| (a.name, a.given)).collect::<Vec<_>>(),
        [("rota", true), ("pool", false)]
    );
    assert_eq!(points[1].not_patchable, Some("its result is borrowed"));
    assert_eq!((points[2].kind, points[2].is_seen, points[0].is_seen), (Kind::Route, Some(false), None));
}

#[test]
fn a_layer_is_listed_with_its_counts() {
    let registry = registry();
    let slot = registry.declare("POST", "/x").unwrap();
    patch(&slot, 9, fake(|_| Ok(Tree::Null)));
    let layers = registry.points().pop().unwrap().layers;
    assert_eq!((layers[0].lease, layers[0].is_in_force, layers[0].calls), (9, true, 0));
}

#[test]
fn two_functions_with_one_name_are_an_error_that_names_both_places() {
    let error = Registry::of([&PICK, &PICK_AGAIN], Vec::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "two points are called `rota::pick`: at `src/rota.rs:30` and at `src/other.rs:3`"
    );
    assert!(error.advice().contains("name ="));
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
    assert_eq!(registry.nearest("next_on_duty").as_deref(), Some("rota::next_on_duty"));
    assert_eq!(registry.nearest("rota::pikc").as_deref(), Some("rota::pick"));
    assert_eq!(registry.nearest("GET /api/heathcheck").as_deref(), Some("GET /api/healthcheck"));
    assert_eq!(registry.nearest("entirely_different"), None);
    assert_eq!(registry.nearest(&"x".repeat(100_000)), None);
}

#[test]
fn a_door_that_the_author_closed_stays_closed() {
    let never = ["rota::door".to_owned(), "POST /admin".to_owned()];
    let registry = Registry::of([&DOOR], never).unwrap();
    let why = "the service's author closed it with `never_patch`";
    assert_eq!(registry.find("rota::door").unwrap().patchable().unwrap_err().why, why);
    assert_eq!(registry.declare("POST", "/admin").unwrap().patchable().unwrap_err().why, why);
    assert_eq!(registry.declare("GET", "/admin").unwrap().patchable(), Ok(()));
}

#[test]
fn a_route_is_declared_once_and_head_is_get() {
    let registry = registry();
    let slot = registry.declare("GET", "/x/{id}").unwrap();
    assert!(std::sync::Arc::ptr_eq(&slot, &registry.declare("HEAD", "/x/{id}").unwrap()));
    assert_eq!(registry.find("GET /x/{id}").unwrap().name(), "GET /x/{id}");
}

#[test]
fn what_is_no_route_is_refused() {
    let registry = registry();
    assert!(matches!(registry.declare("FETCH", "/x"), Err(InvalidRoute::Method(_))));
    for template in ["x", "", "/a b", "/a\n", &format!("/{}", "x".repeat(512))] {
        assert!(matches!(registry.declare("GET", template), Err(InvalidRoute::Template(_))), "{template:?}");
    }
}
