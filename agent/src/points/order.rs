//! Where the agent's layer stands among the service's own: the layers that have a name belong outside of it, and a route that
//! one of them would be left out of takes no patches.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use super::registry::{MAX_ROUTES, Registry, distance, route_name};

/// How many sentences wait to be told at most.
const MAX_NEWS: usize = 20;

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The layers of the service that have a name.
    layers: RwLock<Vec<Arc<str>>>,
    /// Why routes are closed that a patch would leave unprotected, by name.
    misplaced: RwLock<BTreeMap<String, String>>,
    news: News,
}

/// What was found out on threads of the service and is told by one of the agent's.
#[derive(Default)]
struct News {
    waiting: Mutex<Vec<String>>,
    bell: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("News").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

impl Order {
    /// Why a route is closed, if it is.
    pub(super) fn why_closed(&self, route: &str) -> Option<String> {
        self.misplaced.read().unwrap_or_else(PoisonError::into_inner).get(route).cloned()
    }

    fn tell(&self, news: String) {
        let mut waiting = self.news.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // The reason stands at each route; one line for each of hundreds is too much for a log.
        if waiting.len() < MAX_NEWS {
            waiting.push(news);
        }
        drop(waiting);
        if let Some(ring) = self.news.bell.get() {
            ring();
        }
    }
}

impl Registry {
    /// What was found out since this was asked last.
    pub(crate) fn news(&self) -> Vec<String> {
        std::mem::take(&mut self.order.news.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has `ring` called when there is something, on a thread of the service: it must return at once.
    pub(crate) fn on_news(&self, ring: impl Fn() + Send + Sync + 'static) {
        drop(self.order.news.bell.set(Box::new(ring)));
    }
}

#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "only the layer for routes finds something out"))]
impl Registry {
    /// A layer of the service has this name.
    pub(crate) fn names_layer(&self, name: &Arc<str>) {
        let mut layers = self.order.layers.write().unwrap_or_else(PoisonError::into_inner);
        if !layers.contains(name) {
            layers.push(name.clone());
        }
    }

    /// A layer with a name that is none of these.
    pub(crate) fn layer_beside(&self, known: &[Arc<str>]) -> Option<Arc<str>> {
        let layers = self.order.layers.read().unwrap_or_else(PoisonError::into_inner);
        layers.iter().find(|name| !known.contains(name)).cloned()
    }

    /// A layer with a name was met inside the agent's, at this route: a patch would answer without it.
    pub(crate) fn misplace(&self, method: &str, template: &str, layer: &str) {
        self.unprotected(method, template, || {
            format!(
                "a patch would answer without the layer `{layer}`, which lies inside the agent's; give the router \
                 `agent.http_layer()` first and `{layer}` after it: the layer that is added last is the outermost"
            )
        });
    }

    /// A request came without having come through a layer with a name, which `behind` demands or which is not said to belong
    /// to other routes.
    pub(crate) fn unguarded(&self, method: &str, template: &str, layer: &str, is_demanded: bool) {
        self.unprotected(method, template, || {
            let way = self.way_behind(layer);
            match is_demanded {
                true => {
                    format!("a request came to it without the layer `{layer}`, which it is said to be behind; {way}")
                }
                false => format!(
                    "a patch would answer without the layer `{layer}`: a request came to it that has not come through \
                     it; {way}. If this route is one that needs no `{layer}`, say so with \
                     `agent.http_layer().beside(\"{layer}\")`"
                ),
            }
        });
    }

    /// How a route comes to lie behind a layer.
    fn way_behind(&self, layer: &str) -> String {
        let layers = self.order.layers.read().unwrap_or_else(PoisonError::into_inner);
        let near = layers.iter().find(|known| distance(known, layer) <= layer.len().div_ceil(3));
        match (layers.iter().any(|known| **known == *layer), near) {
            (true, _) => format!(
                "add `agent.outside(\"{layer}\", ..)` to this route's router after the agent's layer: the one that is \
                 added last is the outermost"
            ),
            (false, Some(near)) => format!("no layer has that name; did you mean `{near}`?"),
            (false, None) => {
                format!("no layer has that name; give it with `agent.outside(\"{layer}\", ..)`")
            }
        }
    }

    fn unprotected(&self, method: &str, template: &str, why: impl FnOnce() -> String) {
        let Ok(name) = route_name(method, template) else { return };
        if let Some(why) = self.order.why_closed(&name) {
            // Another thread may have noted it and not have come to this yet.
            self.close_route(&name, &why);
            return;
        }
        let why = why();
        let mut misplaced = self.order.misplaced.write().unwrap_or_else(PoisonError::into_inner);
        // More are no points.
        if misplaced.len() < MAX_ROUTES && misplaced.insert(name.clone(), why.clone()).is_some() {
            return;
        }
        drop(misplaced);
        self.close_route(&name, &why);
        self.order.tell(format!("`{name}` takes no patches: {why}"));
    }

    fn close_route(&self, name: &str, why: &str) {
        if let Some(slot) = self.known_route(name) {
            slot.close(why);
        }
    }
}
