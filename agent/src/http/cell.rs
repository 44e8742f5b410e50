use std::sync::{Arc, OnceLock};

use ::http::Request;
use axum::body::Body;
use axum::extract::MatchedPath;

use super::outside::{Within, passed};
use crate::points::{Counted, Registry, Slot, point_method};

/// Headers whose values authenticate somebody.
const OPAQUE_HEADERS: [&str; 6] =
    ["authorization", "cookie", "set-cookie", "proxy-authorization", "x-api-key", "x-slack-signature"];

/// In the router's own names for what it matches internally.
const ROUTERS_OWN: &str = "__private__axum";

/// What all routes of a layer share.
#[derive(Clone, Debug)]
pub(super) struct Routes {
    registry: Arc<Registry>,
    /// Lower case.
    opaque_headers: Vec<String>,
    /// The layers that each request must have come through.
    behind: Vec<Arc<str>>,
}

impl Routes {
    pub(super) fn new(registry: Arc<Registry>, opaque_headers: &[String]) -> Self {
        Self {
            registry,
            opaque_headers: opaque_headers.iter().map(|name| name.to_ascii_lowercase()).collect(),
            behind: Vec::new(),
        }
    }

    /// The same, behind one layer more.
    pub(super) fn behind(&self, name: Arc<str>) -> Self {
        let mut routes = self.clone();
        routes.behind.push(name);
        routes
    }

    /// Closes the route of a request that has not come through each layer that it should have.
    fn check(&self, method: &str, template: &str, passed: &[Arc<str>]) {
        if let Some(missing) = self.behind.iter().find(|name| !passed.contains(name)) {
            self.registry.unguarded(method, template, missing);
        }
    }

    /// Whether a patch may see that a header has a value, but not which. `name` is lower case.
    pub(super) fn is_opaque(&self, name: &str) -> bool {
        OPAQUE_HEADERS.contains(&name) || self.opaque_headers.iter().any(|opaque| opaque == name)
    }
}

/// A method and a template that this service has not met yet.
pub(super) struct Route {
    method: &'static str,
    template: MatchedPath,
    /// The layers with a name that the request has come through.
    passed: Vec<Arc<str>>,
    /// Whether it has not come through all that there are: one of them may lie inside.
    may_hide_some: bool,
}

/// A route that becomes a point when the call is over, however it ends.
pub(super) struct Lesson {
    cell: Arc<Cell>,
    route: Option<Route>,
    /// For guards that count a route which was named before it was called.
    counted: Option<Counted>,
}

impl Lesson {
    /// Begins, and marks the request for layers of the service that lie inside.
    pub(super) fn begin(cell: Arc<Cell>, route: Route, request: &mut Request<Body>) -> Self {
        if route.may_hide_some {
            request.extensions_mut().insert(Within {
                registry: cell.routes.registry.clone(),
                method: route.method,
                template: route.template.clone(),
            });
        }
        let known =
            cell.routes.registry.known_route(&format!("{} {}", route.method, route.template.as_str()));
        let counted = known.filter(|slot| slot.is_armed()).and_then(|slot| slot.count());
        Self { cell, route: Some(route), counted }
    }

    /// Who counts the call.
    pub(super) fn counted(&mut self) -> Option<Counted> {
        self.counted.take()
    }

    /// It is no point after all.
    pub(super) fn forget(&mut self) {
        self.route = None;
    }
}

impl Drop for Lesson {
    fn drop(&mut self) {
        if let Some(route) = self.route.take() {
            self.cell.learn(route);
        }
    }
}

/// What is to be done with a request.
pub(super) enum Turn {
    /// It belongs to the service alone.
    Pass,
    /// A patch may be in force.
    Patched(Arc<Slot>),
    /// The route is called for the first time.
    Learn(Route),
}

/// What one service of the router knows about the routes that reach it.
///
/// The router calls the layer once for each handler, so nearly always this is one route. It is a list, because one
/// handler may serve several methods (`any`) and a `MethodRouter` may be mounted under several templates: a patch of
/// one of them must not run for another.
#[derive(Debug)]
pub(super) struct Cell {
    routes: Arc<Routes>,
    known: OnceLock<Box<Known>>,
}

#[derive(Debug)]
struct Known {
    method: &'static str,
    template: MatchedPath,
    slot: Arc<Slot>,
    next: OnceLock<Box<Known>>,
}

impl Cell {
    pub(super) fn new(routes: Arc<Routes>) -> Self {
        Self { routes, known: OnceLock::new() }
    }

    pub(super) fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Looks at a request. For a known route without a patch: a look at the request's extensions, two comparisons and
    /// relaxed loads; no allocation, no lock.
    pub(super) fn turn(&self, request: &Request<Body>) -> Turn {
        let Some(template) = request.extensions().get::<MatchedPath>() else {
            return Turn::Pass;
        };
        let Some(method) = point_method(request.method().as_str()) else {
            return Turn::Pass;
        };
        match self.find(method, template.as_str()) {
            Some(slot) if slot.is_armed() => {
                self.routes.check(method, template.as_str(), passed(request));
                Turn::Patched(slot.clone())
            }
            Some(_) => Turn::Pass,
            None => self.meet(method, template, passed(request)),
        }
    }

    /// Makes the route a point.
    fn learn(&self, route: Route) {
        // Too many routes, or a template that cannot be a name: it is then no point, and the request was answered.
        if let Ok(slot) = self.routes.registry.declare(route.method, route.template.as_str()) {
            slot.mark_seen(&route.passed);
            self.remember(Known {
                method: route.method,
                template: route.template,
                slot,
                next: OnceLock::new(),
            });
        }
    }

    /// A request of a route that this service has not met. It may be declared, and even patched, already. If a layer
    /// with a name may lie inside, the original answers the first one: that layer is met on the way.
    #[cold]
    fn meet(&self, method: &'static str, template: &MatchedPath, passed: &[Arc<str>]) -> Turn {
        if template.as_str().contains(ROUTERS_OWN) {
            return Turn::Pass;
        }
        self.routes.check(method, template.as_str(), passed);
        let may_hide_some = self.routes.registry.has_layer_beside(passed);
        let known = self.routes.registry.known_route(&format!("{method} {}", template.as_str()));
        let Some(slot) = known.filter(|slot| !may_hide_some || slot.is_seen()) else {
            let (template, passed) = (template.clone(), passed.to_vec());
            return Turn::Learn(Route { method, template, passed, may_hide_some });
        };
        slot.mark_seen(passed);
        let template = template.clone();
        self.remember(Known { method, template, slot: slot.clone(), next: OnceLock::new() });
        if slot.is_armed() { Turn::Patched(slot) } else { Turn::Pass }
    }

    fn find(&self, method: &str, template: &str) -> Option<&Arc<Slot>> {
        let mut next = self.known.get();
        while let Some(known) = next {
            if known.method == method && known.template.as_str() == template {
                return Some(&known.slot);
            }
            next = known.next.get();
        }
        None
    }

    /// Appends to the list, without waiting; two requests at once may append the same, which changes nothing.
    fn remember(&self, known: Known) {
        let mut known = Box::new(known);
        let mut end = &self.known;
        loop {
            match end.set(known) {
                Ok(()) => return,
                Err(back) => known = back,
            }
            match end.get() {
                Some(taken)
                    if taken.method == known.method && taken.template.as_str() == known.template.as_str() =>
                {
                    return;
                }
                Some(taken) => end = &taken.next,
                None => return,
            }
        }
    }
}
