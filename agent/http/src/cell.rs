use std::sync::{Arc, OnceLock};

use ::http::{Method, Request};
use axum::body::Body;
use axum::extract::MatchedPath;

use super::outside::{Met, mark, passed};
use debug_points::{Counted, Registry, Slot, point_method};

/// Headers with credentials.
const OPAQUE_HEADERS: [&str; 6] = [
    "authorization",
    "cookie",
    "set-cookie",
    "proxy-authorization",
    "x-api-key",
    "x-slack-signature",
];

/// Part of the router's own names for its internal routes.
const ROUTERS_OWN: &str = "__private__axum";

/// The state that all routes of a layer share.
#[derive(Clone, Debug)]
pub(crate) struct Routes {
    /// Tells this layer of the agent from others. Its clones have the same: the router makes one for each route.
    layer: u32,
    registry: Arc<Registry>,
    /// In lower case.
    opaque_headers: Vec<String>,
    /// The layers that every request must have passed. They are required even if the service gave no layer that name.
    behind: Vec<Arc<str>>,
    /// Named layers that the service declared unnecessary for these routes.
    beside: Vec<Arc<str>>,
}

impl Routes {
    pub(crate) fn new(registry: Arc<Registry>, opaque_headers: &[String]) -> Self {
        Self {
            layer: registry.next_layer(),
            registry,
            opaque_headers: opaque_headers
                .iter()
                .map(|name| name.to_ascii_lowercase())
                .collect(),
            behind: Vec::new(),
            beside: Vec::new(),
        }
    }

    /// A copy that requires one more layer.
    pub(crate) fn behind(&self, name: Arc<str>) -> Self {
        let mut routes = Self {
            layer: self.registry.next_layer(),
            ..self.clone()
        };
        routes.behind.push(name);
        routes
    }

    /// A copy with one more unnecessary layer.
    pub(crate) fn beside(&self, name: Arc<str>) -> Self {
        let mut routes = Self {
            layer: self.registry.next_layer(),
            ..self.clone()
        };
        routes.beside.push(name);
        routes
    }

    /// The way by which a request came: this layer, and whether it is a `HEAD`, which may have a handler of its own.
    fn way(&self, request: &Request<Body>) -> u32 {
        self.layer
            .wrapping_mul(2)
            .wrapping_add(u32::from(request.method() == Method::HEAD))
    }

    /// The layer that a request must have passed and has not; no patch answers such a request. This is decided for each
    /// request by the layers it passed itself, never by those of other requests.
    fn missing(&self, passed: &[Arc<str>]) -> Option<Missing> {
        if let Some(name) = self.behind.iter().find(|name| !passed.contains(name)) {
            return Some(Missing {
                layer: name.clone(),
                is_demanded: true,
            });
        }
        let layer = self.registry.layer_beside(&[passed, &self.beside].concat())?;
        Some(Missing {
            layer,
            is_demanded: false,
        })
    }

    /// Whether a patch may see that a header has a value, but not which. `name` is lower case.
    pub(crate) fn is_opaque(&self, name: &str) -> bool {
        OPAQUE_HEADERS.contains(&name) || self.opaque_headers.iter().any(|opaque| opaque == name)
    }
}

/// A layer that a request has not passed.
struct Missing {
    layer: Arc<str>,
    /// Whether `behind` requires it.
    is_demanded: bool,
}

/// A method and a template that this cell has not met yet.
pub(crate) struct Route {
    method: &'static str,
    template: MatchedPath,
    /// See [`Routes::way`].
    way: u32,
    /// The named layers that the request has passed.
    passed: Vec<Arc<str>>,
    /// The layer that it must have passed and has not.
    missing: Option<Missing>,
}

/// A route that becomes a point when the call ends, also if the call is dropped.
pub(crate) struct Lesson {
    cell: Arc<RouteCell>,
    route: Option<Route>,
    /// The count of the call, for guards on a route that was declared before its first request.
    counted: Option<Counted>,
}

impl Lesson {
    pub(crate) fn begin(cell: Arc<RouteCell>, route: Route) -> Self {
        let known =
            cell.routes
                .registry
                .known_route(&format!("{} {}", route.method, route.template.as_str()));
        let counted = known.filter(|slot| slot.is_armed()).and_then(|slot| slot.count());
        Self {
            cell,
            route: Some(route),
            counted,
        }
    }

    /// Takes the count of the call.
    pub(crate) fn counted(&mut self) -> Option<Counted> {
        self.counted.take()
    }

    /// The route does not become a point.
    pub(crate) fn forget(&mut self) {
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

/// How a request is handled.
pub(crate) enum Turn {
    /// The service alone handles it.
    Pass,
    /// A patch may answer it.
    Patched(Arc<Slot>),
    /// No patch may answer it; it is only counted.
    Counted(Arc<Slot>),
    /// It is the first request of its route.
    Learn(Route),
}

/// The routes that reach one service of the router.
///
/// The router calls the layer once for each handler, so this is nearly always one route. It is a list, because one
/// handler may serve several methods (`any`) and a `MethodRouter` may be mounted under several templates: a patch of
/// one of them must not run for another.
#[derive(Debug)]
pub(crate) struct RouteCell {
    routes: Arc<Routes>,
    known: OnceLock<Box<KnownRoute>>,
}

#[derive(Debug)]
struct KnownRoute {
    method: &'static str,
    template: MatchedPath,
    slot: Arc<Slot>,
    next: OnceLock<Box<KnownRoute>>,
}

impl RouteCell {
    pub(crate) fn new(routes: Arc<Routes>) -> Self {
        Self {
            routes,
            known: OnceLock::new(),
        }
    }

    pub(crate) fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Classifies a request. For a known route without a patch it costs a lookup in the request's extensions, two
    /// comparisons and relaxed loads; no allocation, no lock. If there are named layers that it has not passed, it is
    /// marked for them: one of them may lie further inside. Every request is, because another layer may refuse the
    /// first ones in between.
    pub(crate) fn turn(&self, request: &mut Request<Body>) -> Turn {
        let Some(template) = request.extensions().get::<MatchedPath>() else {
            return Turn::Pass;
        };
        let Some(method) = point_method(request.method().as_str()) else {
            return Turn::Pass;
        };
        let named = self.routes.registry.named_layers();
        let passed = if named == 0 { &[] } else { passed(request) };
        let may_hide_some = passed.len() < named;
        let turn = match self.find(method, template.as_str()) {
            Some(slot) if slot.is_armed() => self.armed(slot.clone(), method, template, passed),
            Some(_) => Turn::Pass,
            None => self.meet(method, template, self.routes.way(request), passed, may_hide_some),
        };
        if may_hide_some {
            let registry = self.routes.registry.clone();
            let met = Met {
                registry,
                method,
                template: template.clone(),
            };
            mark(request, met);
        }
        turn
    }

    fn armed(&self, slot: Arc<Slot>, method: &str, template: &MatchedPath, passed: &[Arc<str>]) -> Turn {
        match self.routes.missing(passed) {
            None => Turn::Patched(slot),
            Some(missing) => {
                self.close(method, template, &missing);
                Turn::Counted(slot)
            }
        }
    }

    fn close(&self, method: &str, template: &MatchedPath, missing: &Missing) {
        self.routes
            .registry
            .unguarded(method, template.as_str(), &missing.layer, missing.is_demanded);
    }

    /// Makes the route a point.
    fn learn(&self, route: Route) {
        // On an error (too many routes, or a template that cannot be a name) the route is no point. The request was
        // answered already.
        if let Ok(slot) = self
            .routes
            .registry
            .declare(route.method, route.template.as_str())
        {
            slot.mark_seen(route.way, &route.passed);
            // Reported after the call: if the request had met the layer further inside, that was reported instead.
            if let Some(missing) = &route.missing {
                self.close(route.method, &route.template, missing);
            }
            self.remember(KnownRoute {
                method: route.method,
                template: route.template,
                slot,
                next: OnceLock::new(),
            });
        }
    }

    /// Handles the first request of a route in this cell. The route may be declared, and even patched, already. If a
    /// named layer may lie further inside, the original answers this request, so that it meets that layer.
    #[cold]
    fn meet(
        &self,
        method: &'static str,
        template: &MatchedPath,
        way: u32,
        passed: &[Arc<str>],
        may_hide_some: bool,
    ) -> Turn {
        if template.as_str().contains(ROUTERS_OWN) {
            return Turn::Pass;
        }
        let missing = self.routes.missing(passed);
        let known = self
            .routes
            .registry
            .known_route(&format!("{method} {}", template.as_str()));
        let Some(slot) = known.filter(|slot| !may_hide_some || slot.is_seen_by(way)) else {
            let (template, passed) = (template.clone(), passed.to_vec());
            return Turn::Learn(Route {
                method,
                template,
                way,
                passed,
                missing,
            });
        };
        slot.mark_seen(way, passed);
        self.remember(KnownRoute {
            method,
            template: template.clone(),
            slot: slot.clone(),
            next: OnceLock::new(),
        });
        if slot.is_armed() {
            self.armed(slot, method, template, passed)
        } else {
            Turn::Pass
        }
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

    /// Appends to the list without blocking. If two requests append the same route, one entry is kept.
    fn remember(&self, known: KnownRoute) {
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
