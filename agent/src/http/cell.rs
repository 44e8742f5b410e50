use std::sync::{Arc, OnceLock};

use ::http::Request;
use axum::body::Body;
use axum::extract::MatchedPath;

use crate::points::{Registry, Slot, point_method};

/// Headers whose values authenticate somebody.
const OPAQUE_HEADERS: [&str; 6] =
    ["authorization", "cookie", "set-cookie", "proxy-authorization", "x-api-key", "x-slack-signature"];

/// In the router's own names for what it matches internally.
const ROUTERS_OWN: &str = "__private__axum";

/// What all routes of a service share.
#[derive(Debug)]
pub(super) struct Routes {
    registry: Arc<Registry>,
    /// Lower case.
    opaque_headers: Vec<String>,
}

impl Routes {
    pub(super) fn new(registry: Arc<Registry>, opaque_headers: &[String]) -> Self {
        Self {
            registry,
            opaque_headers: opaque_headers.iter().map(|name| name.to_ascii_lowercase()).collect(),
        }
    }

    /// Whether a patch may see that a header has a value, but not which. `name` is lower case.
    pub(super) fn is_opaque(&self, name: &str) -> bool {
        OPAQUE_HEADERS.contains(&name) || self.opaque_headers.iter().any(|opaque| opaque == name)
    }
}

/// A method and a template of which no point is known yet.
pub(super) struct Route {
    method: &'static str,
    template: MatchedPath,
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
            Some(slot) if slot.is_armed() => Turn::Patched(slot.clone()),
            Some(_) => Turn::Pass,
            None => self.meet(method, template),
        }
    }

    /// Makes the route a point.
    pub(super) fn learn(&self, route: Route) {
        // Too many routes, or a template that cannot be a name: it is then no point, and the request was answered.
        if let Ok(slot) = self.routes.registry.declare(route.method, route.template.as_str()) {
            slot.mark_seen();
            self.remember(Known {
                method: route.method,
                template: route.template,
                slot,
                next: OnceLock::new(),
            });
        }
    }

    /// A request of a route that this service has not met. It may be declared, and even patched, already.
    #[cold]
    fn meet(&self, method: &'static str, template: &MatchedPath) -> Turn {
        if template.as_str().contains(ROUTERS_OWN) {
            return Turn::Pass;
        }
        let template = template.clone();
        let Some(slot) = self.routes.registry.known_route(&format!("{method} {}", template.as_str())) else {
            return Turn::Learn(Route { method, template });
        };
        slot.mark_seen();
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
