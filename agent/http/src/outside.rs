//! Detects where the agent's layer stands among the service's own.
//!
//! A patch answers in place of everything inside the agent's layer. A layer that must not be skipped, such as
//! authentication, gets a name where it is put on the router. Each request then carries the names of the layers that it
//! has passed, and no patch answers one that lacks a name. If a route is exempt from a layer, and that layer meets a
//! request of it further inside than the agent's, the layer reports this: the route takes no patches.

use std::sync::Arc;
use std::task::{Context, Poll};

use ::http::Request;
use axum::extract::MatchedPath;
use tower_layer::Layer;
use tower_service::Service;

use debug_points::Registry;

/// The names of the layers that a request has passed. Layers with the same name are told apart by the address.
#[derive(Clone, Debug, Default)]
struct Passed(Vec<Arc<str>>);

/// The agent's layers that a request has passed before it has passed every named layer. There are several if the service
/// calls one router in a handler of another.
#[derive(Clone, Debug, Default)]
struct PassedLayers(Vec<Met>);

/// One of the agent's layers, and the route that the request had there.
#[derive(Clone, Debug)]
pub(crate) struct Met {
    pub(crate) registry: Arc<Registry>,
    pub(crate) method: &'static str,
    pub(crate) template: MatchedPath,
}

/// Marks a request for named layers that lie further inside.
pub(crate) fn mark<B>(request: &mut Request<B>, met: Met) {
    request
        .extensions_mut()
        .get_or_insert_default::<PassedLayers>()
        .0
        .push(met);
}

/// The names of the layers that a request has passed.
pub(crate) fn passed<B>(request: &Request<B>) -> &[Arc<str>] {
    request
        .extensions()
        .get::<Passed>()
        .map_or(&[], |passed| &passed.0)
}

/// A named layer of the service, which belongs outside the agent's. Made by `Agent::outside`.
#[derive(Clone, Debug)]
pub struct OutsideLayer<L> {
    layer: L,
    name: Arc<str>,
    is_active: bool,
}

impl<L> OutsideLayer<L> {
    /// Called by the agent.
    #[doc(hidden)]
    pub fn new(layer: L, name: &str, active: Option<&Registry>) -> Self {
        let name: Arc<str> = name.into();
        if let Some(registry) = active {
            registry.names_layer(&name);
        }
        Self {
            layer,
            name,
            is_active: active.is_some(),
        }
    }
}

impl<S, L: Layer<Marking<S>>> Layer<S> for OutsideLayer<L> {
    type Service = Outside<L::Service>;

    fn layer(&self, inner: S) -> Self::Service {
        let name = self.is_active.then(|| self.name.clone());
        Outside {
            inner: self.layer.layer(Marking {
                inner,
                name: name.clone(),
            }),
            name,
        }
    }
}

/// The service of an [`OutsideLayer`]: it sees requests before the named layer does.
#[derive(Clone, Debug)]
pub struct Outside<S> {
    inner: S,
    /// `None` while the agent is inert.
    name: Option<Arc<str>>,
}

impl<S, B> Service<Request<B>> for Outside<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        if let (Some(name), Some(within)) = (&self.name, request.extensions().get::<PassedLayers>()) {
            for met in &within.0 {
                met.registry.misplace(met.method, met.template.as_str(), name);
            }
        }
        self.inner.call(request)
    }
}

/// The service inside the named layer: it sees the requests that the layer has passed on.
#[derive(Clone, Debug)]
pub struct Marking<S> {
    inner: S,
    name: Option<Arc<str>>,
}

impl<S, B> Service<Request<B>> for Marking<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        if let Some(name) = &self.name {
            match request.extensions_mut().get_mut::<Passed>() {
                Some(passed) if passed.0.iter().any(|known| Arc::ptr_eq(known, name)) => {}
                Some(passed) => passed.0.push(name.clone()),
                None => drop(request.extensions_mut().insert(Passed(vec![name.clone()]))),
            }
        }
        self.inner.call(request)
    }
}
