//! The position of the agent's layer among the service's own: named layers belong outside of it. A route at which a patch
//! would bypass a named layer takes no patches.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::registry::{MAX_ROUTES, Registry, route_name};

impl Registry {
    /// The messages since the last call.
    pub fn news(&self) -> Vec<String> {
        std::mem::take(
            &mut self
                .order
                .news
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Sets a callback for new messages. It runs on a service thread and must return at once.
    pub fn on_news(&self, ring: impl Fn() + Send + Sync + 'static) {
        drop(self.order.news.bell.set(Box::new(ring)));
    }

    /// Records the name of a layer of the service.
    pub fn names_layer(&self, name: &Arc<str>) {
        self.order.named.fetch_add(1, Ordering::Relaxed);
        let mut layers = self.order.layers.write().unwrap_or_else(PoisonError::into_inner);
        if !layers.contains(name) {
            layers.push(name.clone());
        }
    }

    /// Numbers a layer of the agent.
    pub fn next_layer(&self) -> u32 {
        self.order.next.fetch_add(1, Ordering::Relaxed)
    }

    /// How many layers of the service have got a name. Several layers may share one, on several routers or by mistake.
    pub fn named_layers(&self) -> usize {
        self.order.named.load(Ordering::Relaxed)
    }

    /// A named layer that is not in `known`.
    pub fn layer_beside(&self, known: &[Arc<str>]) -> Option<Arc<str>> {
        let layers = self.order.layers.read().unwrap_or_else(PoisonError::into_inner);
        layers.iter().find(|name| !known.contains(name)).cloned()
    }

    /// Records that a named layer lies inside the agent's at this route: a patch would answer without it.
    pub fn misplace(&self, method: &str, template: &str, layer: &str) {
        self.unprotected(method, template, || {
            format!(
                "a patch would answer without the layer `{layer}`, which lies inside the agent's; give the router \
                 `agent.http_layer()` first and `{layer}` after it: the layer that is added last is the outermost"
            )
        });
    }

    /// Records a request that did not pass a named layer which `behind` demands, or which is not declared for other routes
    /// only.
    pub fn unguarded(&self, method: &str, template: &str, layer: &str, is_demanded: bool) {
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

    /// Advice on how to put a route behind a layer.
    fn way_behind(&self, layer: &str) -> String {
        let layers = self.order.layers.read().unwrap_or_else(PoisonError::into_inner);
        let near = layers
            .iter()
            .find(|known| debug_base::distance(known, layer) <= layer.len().div_ceil(3));
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
        let Ok(name) = route_name(method, template) else {
            return;
        };
        if let Some(why) = self.order.why_closed(&name) {
            // Another thread may have recorded it without having closed the route yet.
            self.close_route(&name, &why);
            return;
        }
        let why = why();
        let mut misplaced = self
            .order
            .misplaced
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // Beyond this number, routes are not points.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As between the two steps of another thread that found the same: the reason is recorded, the route is still open.
    #[test]
    fn a_route_that_is_known_to_be_unprotected_is_closed_by_each_who_finds_it() {
        let registry = Registry::of([], Vec::new());
        let slot = registry.declare("GET", "/x").unwrap();
        registry
            .order
            .misplaced
            .write()
            .unwrap()
            .insert("GET /x".to_owned(), "known".to_owned());
        assert_eq!(slot.patchable(), Ok(()));
        registry.unguarded("GET", "/x", "auth", true);
        assert_eq!(slot.patchable().unwrap_err().why, "known");
        assert!(registry.news().is_empty(), "it is told once");
    }
}
