//! Where the agent's layer stands among others, and what it learns of calls, also of those that are dropped.

use axum::extract::Request as Asked;
use axum::middleware::{self, Next};

use super::*;
use crate::OutsideLayer;
use debug_points::Kind;

async fn auth(request: Asked, next: Next) -> Result<Response, StatusCode> {
    match request.headers().contains_key("authorization") {
        true => Ok(next.run(request).await),
        false => Err(StatusCode::UNAUTHORIZED),
    }
}

fn with_token(path: &str) -> Request<Body> {
    Request::get(path)
        .header("authorization", "Bearer x")
        .body(Body::empty())
        .unwrap()
}

fn without_token(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

fn why(registry: &Registry, name: &str) -> String {
    registry
        .find(name)
        .unwrap()
        .patchable()
        .unwrap_err()
        .why
        .into_owned()
}

#[tokio::test]
async fn a_patch_inside_a_layer_with_a_name_answers_only_what_it_lets_through() {
    let registry = registry();
    let service: Router = Router::new()
        .route("/admin", get(async || "page"))
        .layer(layer(&registry).behind("auth"))
        .layer(OutsideLayer::new(
            middleware::from_fn(auth),
            "auth",
            Some(&registry),
        ));
    assert_eq!(
        send(&service, without_token("/admin")).await.0,
        StatusCode::UNAUTHORIZED
    );
    assert!(names(&registry).is_empty(), "nothing came through");
    assert_eq!(send(&service, with_token("/admin")).await.2, "page");
    patch_route(&registry, "GET", "/admin", teapot());
    assert_eq!(
        send(&service, without_token("/admin")).await.0,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        send(&service, with_token("/admin")).await.0,
        StatusCode::IM_A_TEAPOT
    );
    let behind = registry.find("GET /admin").unwrap().behind();
    assert_eq!(behind.iter().map(|name| &**name).collect::<Vec<_>>(), ["auth"]);
    assert!(registry.news().is_empty());
}

#[tokio::test]
async fn a_layer_with_a_name_inside_the_agents_is_noticed_by_the_first_request_and_closes_the_route() {
    let registry = registry();
    let service: Router = Router::new()
        .route("/admin", get(async || "page"))
        .layer(OutsideLayer::new(
            middleware::from_fn(auth),
            "auth",
            Some(&registry),
        ))
        .layer(layer(&registry));
    // One refused request is enough.
    assert_eq!(
        send(&service, without_token("/admin")).await.0,
        StatusCode::UNAUTHORIZED
    );
    let why = why(&registry, "GET /admin");
    assert!(why.contains("would answer without the layer `auth`"), "{why}");
    let news = registry.news();
    assert_eq!(news.len(), 1);
    assert!(news[0].starts_with("`GET /admin` takes no patches: "), "{news:?}");
    assert_eq!(send(&service, with_token("/admin")).await.2, "page");
    assert!(registry.news().is_empty(), "it is told once");
}

/// Made before the first request, when the layers are not known yet.
#[tokio::test]
async fn a_patch_of_a_route_that_was_never_called_does_not_answer_without_the_layer_inside() {
    let registry = registry();
    let service: Router = Router::new()
        .route("/admin", get(async || "page"))
        .layer(OutsideLayer::new(
            middleware::from_fn(auth),
            "auth",
            Some(&registry),
        ))
        .layer(layer(&registry));
    let heard = patch_route(&registry, "GET", "/admin", teapot());
    for _ in 0..3 {
        assert_eq!(
            send(&service, without_token("/admin")).await.0,
            StatusCode::UNAUTHORIZED
        );
    }
    assert_eq!(send(&service, with_token("/admin")).await.2, "page");
    assert!(heard.lines().is_empty());
}

#[tokio::test]
async fn a_route_beside_a_layer_with_a_name_is_patched_once_that_was_seen() {
    let registry = registry();
    let admin = Router::new()
        .route("/admin", get(async || "page"))
        .layer(layer(&registry))
        .layer(OutsideLayer::new(
            middleware::from_fn(auth),
            "auth",
            Some(&registry),
        ));
    let health = Router::new().route("/health", get(async || "healthy"));
    let service: Router = health.layer(layer(&registry).beside("auth")).merge(admin);
    patch_route(&registry, "GET", "/health", teapot());
    assert_eq!(
        send(&service, without_token("/health")).await.2,
        "healthy",
        "who knows what lies inside"
    );
    assert_eq!(
        send(&service, without_token("/health")).await.0,
        StatusCode::IM_A_TEAPOT
    );
}

/// Refuses every request, as an exhausted limit does: the layers inside are not reached.
async fn busy(_: Asked, _: Next) -> StatusCode {
    StatusCode::SERVICE_UNAVAILABLE
}

#[tokio::test]
async fn what_lies_inside_is_not_left_out_where_another_layer_refused_every_request_until_then() {
    let registry = registry();
    let admin = || {
        Router::new()
            .route("/admin", get(async || "page"))
            .layer(OutsideLayer::new(
                middleware::from_fn(auth),
                "auth",
                Some(&registry),
            ))
    };
    let refused: Router = admin().layer(middleware::from_fn(busy)).layer(layer(&registry));
    let heard = patch_route(&registry, "GET", "/admin", teapot());
    for _ in 0..3 {
        assert_eq!(
            send(&refused, without_token("/admin")).await.0,
            StatusCode::SERVICE_UNAVAILABLE
        );
    }
    let serves: Router = admin().layer(layer(&registry));
    assert_eq!(
        send(&serves, without_token("/admin")).await.0,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(send(&serves, with_token("/admin")).await.2, "page");
    assert!(heard.lines().is_empty());
    let why = why(&registry, "GET /admin");
    assert!(
        why.contains("without the layer `auth`") && why.contains(r#"beside("auth")"#),
        "{why}"
    );
}

/// Two routers serve a route of the same name: what one of them has shown says nothing about the other.
#[tokio::test]
async fn a_route_of_another_router_that_has_the_same_name_is_decided_for_itself() {
    let registry = registry();
    let page = || Router::new().route("/admin", get(async || "page"));
    let named = || OutsideLayer::new(middleware::from_fn(auth), "auth", Some(&registry));
    let right: Router = page().layer(layer(&registry).behind("auth")).layer(named());
    let wrong: Router = page().layer(named()).layer(layer(&registry));
    assert_eq!(send(&right, with_token("/admin")).await.2, "page");
    patch_route(&registry, "GET", "/admin", teapot());
    assert_eq!(
        send(&right, with_token("/admin")).await.0,
        StatusCode::IM_A_TEAPOT
    );
    assert_eq!(
        send(&wrong, without_token("/admin")).await.0,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(send(&wrong, with_token("/admin")).await.2, "page");
    assert!(why(&registry, "GET /admin").contains("without the layer `auth`"));
}

/// `beside` said wrongly, and the first requests were refused on their way to the named layer.
#[tokio::test]
async fn an_exempted_layer_that_lies_inside_is_noticed_by_the_first_request_that_reaches_it() {
    let registry = registry();
    let is_busy = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let limit = middleware::from_fn({
        let is_busy = is_busy.clone();
        move |request: Asked, next: Next| {
            let is_busy = is_busy.load(Ordering::Relaxed);
            async move {
                match is_busy {
                    true => StatusCode::SERVICE_UNAVAILABLE.into_response(),
                    false => next.run(request).await,
                }
            }
        }
    });
    let service: Router = Router::new()
        .route("/admin", get(async || "page"))
        .layer(OutsideLayer::new(
            middleware::from_fn(auth),
            "auth",
            Some(&registry),
        ))
        .layer(limit)
        .layer(layer(&registry).beside("auth"))
        .with_state(());
    for _ in 0..3 {
        assert_eq!(
            send(&service, without_token("/admin")).await.0,
            StatusCode::SERVICE_UNAVAILABLE
        );
    }
    assert!(
        registry.find("GET /admin").unwrap().patchable().is_ok(),
        "nothing was seen of it"
    );
    is_busy.store(false, Ordering::Relaxed);
    assert_eq!(
        send(&service, without_token("/admin")).await.0,
        StatusCode::UNAUTHORIZED
    );
    assert!(why(&registry, "GET /admin").contains("without the layer `auth`"));
}

/// What the first router's requests have shown, without a layer inside, says nothing about the second router.
#[tokio::test]
async fn a_second_router_with_the_same_route_is_looked_at_for_itself() {
    let registry = registry();
    let page = || Router::new().route("/admin", get(async || "page"));
    let named = || OutsideLayer::new(middleware::from_fn(auth), "auth", Some(&registry));
    let open: Router = page().layer(layer(&registry).beside("auth"));
    let wrong: Router = page().layer(named()).layer(layer(&registry).beside("auth"));
    assert_eq!(send(&open, without_token("/admin")).await.2, "page");
    patch_route(&registry, "GET", "/admin", teapot());
    assert_eq!(
        send(&open, without_token("/admin")).await.0,
        StatusCode::IM_A_TEAPOT
    );
    assert_eq!(
        send(&wrong, without_token("/admin")).await.0,
        StatusCode::UNAUTHORIZED
    );
    assert!(why(&registry, "GET /admin").contains("without the layer `auth`"));
    assert_eq!(
        send(&wrong, without_token("/admin")).await.0,
        StatusCode::UNAUTHORIZED
    );
}

/// A handler of one router calls another router, which has a layer of the agent of its own.
#[tokio::test]
async fn a_layer_inside_is_noticed_by_each_of_the_agents_layers_outside_of_it() {
    let registry = registry();
    let named = OutsideLayer::new(middleware::from_fn(auth), "auth", Some(&registry));
    let inner: Router = Router::new()
        .route("/api/orders", get(async || "page"))
        .layer(named)
        .layer(layer(&registry));
    let calls = move |request: Asked| {
        let inner = inner.clone();
        async move { inner.oneshot(request).await }
    };
    let outer: Router = Router::new()
        .route("/api/{*rest}", get(calls))
        .layer(layer(&registry).beside("auth"));
    assert_eq!(
        send(&outer, without_token("/api/orders")).await.0,
        StatusCode::UNAUTHORIZED
    );
    for name in ["GET /api/{*rest}", "GET /api/{*rest}/api/orders"] {
        assert!(
            why(&registry, name).contains("without the layer `auth`"),
            "{name}"
        );
    }
}

/// What one layer made from another has shown says nothing about the other.
#[tokio::test]
async fn a_layer_with_another_exemption_is_looked_at_for_itself() {
    let registry = registry();
    let page = || Router::new().route("/admin", get(async || "page"));
    let named = || OutsideLayer::new(middleware::from_fn(auth), "auth", Some(&registry));
    let agents = layer(&registry);
    let right: Router = page().layer(agents.clone().behind("auth")).layer(named());
    let wrong: Router = page().layer(named()).layer(agents.clone().beside("auth"));
    assert_eq!(send(&right, with_token("/admin")).await.2, "page");
    patch_route(&registry, "GET", "/admin", teapot());
    assert_eq!(
        send(&wrong, without_token("/admin")).await.0,
        StatusCode::UNAUTHORIZED
    );
    assert!(why(&registry, "GET /admin").contains("without the layer `auth`"));
}

/// `HEAD` and `GET` are one point, but may have two handlers with different layers.
#[tokio::test]
async fn a_head_request_shows_nothing_of_what_lies_inside_for_get() {
    let registry = registry();
    let named = OutsideLayer::new(middleware::from_fn(auth), "auth", Some(&registry));
    let service: Router = Router::new()
        .route("/x", get(async || "page").route_layer(named).head(async || ()))
        .layer(layer(&registry).beside("auth"))
        .with_state(());
    assert_eq!(
        send(&service, Request::head("/x").body(Body::empty()).unwrap())
            .await
            .0,
        StatusCode::OK
    );
    patch_route(&registry, "GET", "/x", teapot());
    assert_eq!(
        send(&service, without_token("/x")).await.0,
        StatusCode::UNAUTHORIZED
    );
    assert!(why(&registry, "GET /x").contains("without the layer `auth`"));
}

/// One login is outside the agent's layer and another one of the same name inside.
#[tokio::test]
async fn a_layer_inside_is_noticed_although_one_outside_has_its_name() {
    let registry = registry();
    let named = || OutsideLayer::new(middleware::from_fn(auth), "auth", Some(&registry));
    let admin = OutsideLayer::new(middleware::from_fn(busy), "auth", Some(&registry));
    let service: Router = Router::new()
        .route("/admin", get(async || "page"))
        .layer(admin)
        .layer(layer(&registry).behind("auth"))
        .layer(named());
    let heard = patch_route(&registry, "GET", "/admin", teapot());
    for _ in 0..2 {
        assert_eq!(
            send(&service, with_token("/admin")).await.0,
            StatusCode::SERVICE_UNAVAILABLE
        );
    }
    assert!(heard.lines().is_empty());
    assert!(why(&registry, "GET /admin").contains("without the layer `auth`"));
}

/// Each of two routers has a login of its own with the same name.
#[tokio::test]
async fn routers_whose_layers_have_the_same_name_are_patched() {
    let registry = registry();
    let of = |path: &str| {
        Router::new()
            .route(path, get(async || "page"))
            .layer(layer(&registry).behind("auth"))
            .layer(OutsideLayer::new(
                middleware::from_fn(auth),
                "auth",
                Some(&registry),
            ))
    };
    let service: Router = of("/admin").merge(of("/orders"));
    for path in ["/admin", "/orders"] {
        assert_eq!(send(&service, with_token(path)).await.2, "page");
        patch_route(&registry, "GET", path, teapot());
        assert_eq!(send(&service, with_token(path)).await.0, StatusCode::IM_A_TEAPOT);
        assert_eq!(
            send(&service, without_token(path)).await.0,
            StatusCode::UNAUTHORIZED
        );
    }
    assert!(registry.news().is_empty());
}

/// No order of the two layers lets a patch answer a request without a token.
#[tokio::test]
async fn no_patch_answers_who_did_not_come_through_the_login() {
    for inner in [false, true] {
        for demands in [false, true] {
            for unseen in [false, true] {
                let registry = registry();
                let agents = if demands {
                    layer(&registry).behind("auth")
                } else {
                    layer(&registry)
                };
                let login = OutsideLayer::new(middleware::from_fn(auth), "auth", Some(&registry));
                let page = Router::new().route("/admin", get(async || "page"));
                let service: Router = match inner {
                    true => page.layer(login).layer(agents),
                    false => page.layer(agents).layer(login),
                };
                if !unseen {
                    send(&service, with_token("/admin")).await;
                }
                let point = registry.declare("GET", "/admin").unwrap();
                if point.patchable().is_ok() {
                    patch_route(&registry, "GET", "/admin", teapot());
                }
                for _ in 0..3 {
                    assert_eq!(
                        send(&service, without_token("/admin")).await.0,
                        StatusCode::UNAUTHORIZED
                    );
                }
                let expected = if inner {
                    StatusCode::OK
                } else {
                    StatusCode::IM_A_TEAPOT
                };
                assert_eq!(send(&service, with_token("/admin")).await.0, expected);
            }
        }
    }
}

#[tokio::test]
async fn a_request_that_came_without_a_layer_that_is_demanded_closes_the_route_at_once() {
    let registry = registry();
    drop(OutsideLayer::new((), "auth", Some(&registry)));
    let service: Router = Router::new()
        .route("/admin", get(async || "page"))
        .route("/seen", get(async || "seen"))
        .layer(layer(&registry).behind("auht"));
    let heard = patch_route(&registry, "GET", "/admin", teapot());
    assert_eq!(send(&service, with_token("/admin")).await.2, "page");
    assert_eq!(send(&service, with_token("/admin")).await.2, "page");
    assert!(heard.lines().is_empty());
    let said = why(&registry, "GET /admin");
    assert!(
        said.contains("without the layer `auht`") && said.contains("did you mean `auth`?"),
        "{said}"
    );
    send(&service, with_token("/seen")).await;
    assert_eq!(registry.find("GET /seen").unwrap().kind(), Kind::Route);
    why(&registry, "GET /seen");
    assert_eq!(
        registry
            .declare("GET", "/seen")
            .unwrap()
            .patchable()
            .unwrap_err()
            .name,
        "GET /seen"
    );
}

#[tokio::test]
async fn a_closed_route_is_still_counted_for_a_guard() {
    let registry = registry();
    let service: Router = Router::new()
        .route("/admin", get(async || "page"))
        .layer(layer(&registry).behind("auth"));
    send(&service, with_token("/admin")).await;
    let point = registry.find("GET /admin").unwrap();
    let watch = point.watch();
    assert_eq!(send(&service, with_token("/admin")).await.2, "page");
    assert_eq!(watch.stats().calls, 1);
}

#[tokio::test]
async fn a_layer_with_a_name_does_what_it_did_while_the_agent_is_inert() {
    let service: Router = Router::new()
        .route("/admin", get(async || "page"))
        .layer(HttpLayer::new(None, &[]).behind("auth"))
        .layer(OutsideLayer::new(middleware::from_fn(auth), "auth", None));
    assert_eq!(
        send(&service, without_token("/admin")).await.0,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(send(&service, with_token("/admin")).await.2, "page");
}

/// A handler that panics, caught at different places.
#[tokio::test]
async fn a_route_whose_handler_panics_is_a_point_and_can_be_patched() {
    let registry = registry();
    let panics = get(async || if true { panic!("as it does") } else { "never" });
    let service: Router = Router::new().route("/panic", panics).layer(layer(&registry));
    let spawned = tokio::spawn({
        let service = service.clone();
        async move { ask(&service, Method::GET, "/panic").await }
    });
    assert!(spawned.await.unwrap_err().is_panic());
    assert_eq!(names(&registry), ["GET /panic"]);
    assert_eq!(registry.points().pop().unwrap().is_seen, Some(true));
    patch_route(&registry, "GET", "/panic", teapot());
    assert_eq!(
        ask(&service, Method::GET, "/panic").await.0,
        StatusCode::IM_A_TEAPOT
    );
}

#[tokio::test]
async fn a_route_whose_first_caller_leaves_is_a_point() {
    let registry = registry();
    let service: Router = Router::new()
        .route(
            "/waits",
            get(async || std::future::pending::<&'static str>().await),
        )
        .layer(layer(&registry));
    let timeout = std::time::Duration::from_millis(1);
    tokio::time::timeout(timeout, ask(&service, Method::GET, "/waits"))
        .await
        .unwrap_err();
    assert_eq!(names(&registry), ["GET /waits"]);
}

#[tokio::test]
async fn what_a_guard_counts_is_counted_however_the_call_ends() {
    let registry = registry();
    let service: Router = Router::new()
        .route(
            "/panic",
            get(async || if true { panic!("as it does") } else { "never" }),
        )
        .route(
            "/waits",
            get(async || std::future::pending::<&'static str>().await),
        )
        .layer(layer(&registry));
    let (panics, waits) = (
        registry.declare("GET", "/panic").unwrap(),
        registry.declare("GET", "/waits").unwrap(),
    );
    let (panicked, left) = (panics.watch(), waits.watch());
    let spawned = tokio::spawn({
        let service = service.clone();
        async move { ask(&service, Method::GET, "/panic").await }
    });
    assert!(spawned.await.unwrap_err().is_panic());
    assert_eq!((panicked.stats().calls, panicked.stats().errors), (1, 1));
    let timeout = std::time::Duration::from_millis(1);
    tokio::time::timeout(timeout, ask(&service, Method::GET, "/waits"))
        .await
        .unwrap_err();
    assert_eq!((left.stats().calls, left.stats().errors), (1, 0));
}

/// A gRPC response: its status in the trailers after a message, if it has one.
struct Grpc(Vec<http_body::Frame<Bytes>>);

impl http_body::Body for Grpc {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        let next = if self.0.is_empty() {
            None
        } else {
            Some(Ok(self.0.remove(0)))
        };
        std::task::Poll::Ready(next)
    }
}

fn grpc(trailer: Option<&'static str>) -> Response {
    let mut frames = vec![http_body::Frame::data(Bytes::from_static(b"message"))];
    if let Some(status) = trailer {
        let trailers = [(
            header::HeaderName::from_static("grpc-status"),
            status.parse().unwrap(),
        )];
        frames.push(http_body::Frame::trailers(trailers.into_iter().collect()));
    }
    let mut response = Response::new(Body::new(Grpc(frames)));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, "application/grpc+proto".parse().unwrap());
    response
}

#[tokio::test]
async fn a_grpc_call_that_fails_is_an_error_for_a_guard() {
    let registry = registry();
    let only_headers = |status: &'static str| {
        post(async move || [("content-type", "application/grpc"), ("grpc-status", status)])
    };
    let service: Router = Router::new()
        .route("/shop.Shop/Ok", post(async || grpc(Some("0"))))
        .route("/shop.Shop/Fails", post(async || grpc(Some("14"))))
        .route("/shop.Shop/Silent", post(async || grpc(None)))
        .route("/shop.Shop/Early", only_headers("5"))
        .route("/shop.Shop/EarlyOk", only_headers("0"))
        .layer(layer(&registry));
    for (name, errors) in [
        ("Ok", 0),
        ("Fails", 1),
        ("Silent", 1),
        ("Early", 1),
        ("EarlyOk", 0),
    ] {
        let path = format!("/shop.Shop/{name}");
        let watch = registry.declare("POST", &path).unwrap().watch();
        let response = service
            .clone()
            .oneshot(Request::post(&path).body(Body::empty()).unwrap())
            .await
            .unwrap();
        let whole = response.into_body().collect().await.unwrap();
        let expected = if name.starts_with("Early") { "" } else { "message" };
        assert_eq!(whole.to_bytes(), expected, "{name}");
        assert_eq!((watch.stats().calls, watch.stats().errors), (1, errors), "{name}");
    }
}
