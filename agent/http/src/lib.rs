//! The layer that makes routes points.
//!
//! It belongs inside the service's other layers: a patch answers in place of the handler and of everything inside this
//! layer. Put it on the router with `Router::layer` or `Router::route_layer`, where it sees which template a request
//! matched. Around the router it sees no template and passes every request on. A request that matches no route is no
//! point.

mod answer;
mod body;
mod cell;
mod grpc;
mod outside;
mod request;
mod response;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::http::Request;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use self::cell::{Lesson, RouteCell, Routes, Turn};
pub use self::outside::{Marking, Outside, OutsideLayer};
pub use self::response::check as check_answer;
use debug_points::Registry;

/// Makes each route of a router a point after its first request. `Agent::http_layer` says
/// where it belongs.
///
/// A patch of a route gets the request as one map, `{method, path, params, query, headers, body}`, and answers a map
/// `{status, headers, body}`. `GET` covers `HEAD`. While the agent is inert the layer costs one branch.
#[derive(Clone, Debug)]
pub struct HttpLayer {
    routes: Option<Arc<Routes>>,
}

impl HttpLayer {
    /// A layer that registers its routes in `active`; inert without it. Values of the headers named in `opaque_headers`
    /// (in any case) are secret, in addition to the built-in ones.
    #[doc(hidden)]
    pub fn new(active: Option<Arc<Registry>>, opaque_headers: &[String]) -> Self {
        Self {
            routes: active.map(|registry| Arc::new(Routes::new(registry, opaque_headers))),
        }
    }

    /// Requires that each request passes the service's layer that `Agent::outside` gave this
    /// name, before it arrives here.
    ///
    /// If a request does not, its route takes and runs no patches; the service's log, stderr and `info()` say so.
    #[must_use = "it is another layer"]
    pub fn behind(self, name: impl Into<String>) -> Self {
        let name: Arc<str> = name.into().into();
        Self {
            routes: self.routes.map(|routes| Arc::new(routes.behind(name))),
        }
    }

    /// Exempts these routes from the service's layer that `Agent::outside` gave this name:
    /// patches of them answer requests that have not passed it.
    ///
    /// Without an exemption a patch never answers a request that has not passed every named layer. If an exempted layer
    /// lies inside the agent's after all, that is detected when the first request reaches it, and not before.
    #[must_use = "it is another layer"]
    pub fn beside(self, name: impl Into<String>) -> Self {
        let name: Arc<str> = name.into().into();
        Self {
            routes: self.routes.map(|routes| Arc::new(routes.beside(name))),
        }
    }
}

impl<S> Layer<S> for HttpLayer {
    type Service = HttpService<S>;

    fn layer(&self, inner: S) -> HttpService<S> {
        HttpService {
            inner,
            cell: self
                .routes
                .as_ref()
                .map(|routes| Arc::new(RouteCell::new(routes.clone()))),
        }
    }
}

/// A service with routes that are points. See [`HttpLayer`].
#[derive(Clone, Debug)]
pub struct HttpService<S> {
    inner: S,
    /// The routes that all clones have met.
    cell: Option<Arc<RouteCell>>,
}

impl<S> Service<Request<Body>> for HttpService<S>
where
    S: Service<Request<Body>> + Clone + Send + 'static,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let turn = self
            .cell
            .as_ref()
            .map_or(Turn::Pass, |cell| cell.turn(&mut request));
        let step = match turn {
            Turn::Pass => FutureStep::Pass {
                future: self.inner.call(request),
            },
            Turn::Patched(slot) => {
                let (inner, cell) = self.take_ready();
                FutureStep::Boxed {
                    future: Box::pin(answer::patched(slot, cell, request, inner)),
                }
            }
            Turn::Counted(slot) => {
                let (inner, _) = self.take_ready();
                FutureStep::Boxed {
                    future: Box::pin(answer::patched(slot, None, request, inner)),
                }
            }
            Turn::Learn(route) => {
                let (inner, cell) = self.take_ready();
                match cell {
                    // Begun here and not in the future: the service may drop the future before it is polled.
                    Some(cell) => {
                        let lesson = Lesson::begin(cell, route);
                        FutureStep::Boxed {
                            future: Box::pin(answer::learning(lesson, request, inner)),
                        }
                    }
                    None => FutureStep::Pass {
                        future: self.inner.call(request),
                    },
                }
            }
        };
        ResponseFuture { step }
    }
}

impl<S: Clone> HttpService<S> {
    /// Takes the service that was polled ready, for a future that calls it later; leaves a clone.
    fn take_ready(&mut self) -> (S, Option<Arc<RouteCell>>) {
        let clone = self.inner.clone();
        (std::mem::replace(&mut self.inner, clone), self.cell.clone())
    }
}

type Boxed<E> = Pin<Box<dyn Future<Output = Result<Response, E>> + Send>>;

pin_project! {
    /// The response of an [`HttpService`]. It allocates only for a route with a patch or a counting guard, and for the
    /// first request of a route.
    pub struct ResponseFuture<F, E> {
        #[pin]
        step: FutureStep<F, E>,
    }
}

pin_project! {
    #[project = FutureStepProjection]
    enum FutureStep<F, E> {
        Pass { #[pin] future: F },
        Boxed { future: Boxed<E> },
    }
}

impl<F, E, R> Future for ResponseFuture<F, E>
where
    F: Future<Output = Result<R, E>>,
    R: IntoResponse,
{
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().step.project() {
            FutureStepProjection::Pass { future } => {
                Poll::Ready(ready!(future.poll(context)).map(IntoResponse::into_response))
            }
            FutureStepProjection::Boxed { future } => future.as_mut().poll(context),
        }
    }
}
