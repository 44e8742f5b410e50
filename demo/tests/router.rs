//! The routes, driven without a socket.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::sync::{Arc, RwLock};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::middleware;
use dienstplan::config::Config;
use dienstplan::http::{self, MAX_BODY, Service};
use dienstplan::rota::Rota;
use dienstplan::slack::{SIGNATURE_HEADER, TIMESTAMP_HEADER, sign};
use http_body_util::BodyExt;
use jiff::Timestamp;
use serde_json::{Value, json};
use tower::ServiceExt;

const SECRET: &str = "not-a-real-signing-secret";

fn app() -> Router {
    let lookup = |name: &str| (name == "SLACK__SIGN").then(|| SECRET.into());
    app_with(Config::from_lookup(lookup).unwrap())
}

fn app_with(config: Config) -> Router {
    let config = Arc::new(RwLock::new(config));
    let service = Service::new(config, Arc::new(RwLock::new(Rota::example(Timestamp::now()))));
    let signature = middleware::from_fn_with_state(service.clone(), http::signed_by_slack);
    let events = http::slack_routes(service.clone()).layer(signature);
    http::app(http::open_routes().merge(events), service)
}

async fn answer(app: &Router, request: Request<Body>) -> (StatusCode, HeaderMap, Value) {
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (
        parts.status,
        parts.headers,
        serde_json::from_slice(&body).unwrap_or(Value::Null),
    )
}

fn request(method: &str, path: &str) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .body(Body::empty())
        .unwrap()
}

fn event(body: &str, signed_with: &str, at: i64) -> Request<Body> {
    Request::post("/api/events")
        .header(TIMESTAMP_HEADER, at)
        .header(SIGNATURE_HEADER, sign(signed_with, at, body.as_bytes()))
        .body(Body::from(body.to_owned()))
        .unwrap()
}

async fn signed(app: &Router, body: &Value) -> (StatusCode, Value) {
    let (status, _, body) = answer(
        app,
        event(&body.to_string(), SECRET, Timestamp::now().as_second()),
    )
    .await;
    (status, body)
}

async fn mention(app: &Router, text: &str) -> Value {
    let event = json!({ "type": "app_mention", "user": "U1", "channel": "C1", "ts": "1.2", "text": text });
    let (status, answer) = signed(
        app,
        &json!({ "type": "event_callback", "event_id": "Ev1", "event": event }),
    )
    .await;
    assert_eq!(status, StatusCode::OK);
    answer
}

async fn refused(request: Request<Body>, status: StatusCode, message: &str) {
    let (seen, _, body) = answer(&app(), request).await;
    assert_eq!((seen, &body["message"]), (status, &json!(message)));
}

#[tokio::test]
async fn the_healthcheck_is_ok() {
    let (status, _, body) = answer(&app(), request("GET", "/api/healthcheck")).await;
    assert_eq!((status, body), (StatusCode::OK, json!({ "status": "ok" })));
}

#[tokio::test]
async fn an_unknown_page_is_not_found() {
    refused(request("GET", "/"), StatusCode::NOT_FOUND, "Page not found").await;
    refused(
        request("GET", "/api/healthcheck/"),
        StatusCode::NOT_FOUND,
        "Page not found",
    )
    .await;
}

#[tokio::test]
async fn another_method_is_refused_and_the_right_one_named() {
    let (status, headers, body) = answer(&app(), request("DELETE", "/api/healthcheck")).await;
    assert_eq!(
        (status, body),
        (
            StatusCode::METHOD_NOT_ALLOWED,
            json!({ "message": "Method not allowed" })
        )
    );
    assert_eq!(headers["allow"], "GET,HEAD");
}

#[tokio::test]
async fn a_signed_challenge_comes_back() {
    let (status, body) = signed(
        &app(),
        &json!({ "type": "url_verification", "token": "t", "challenge": "3eZb" }),
    )
    .await;
    assert_eq!((status, body), (StatusCode::OK, json!({ "challenge": "3eZb" })));
}

#[tokio::test]
async fn an_unsigned_event_is_refused() {
    let unsigned = Request::post("/api/events").body(Body::from("{}")).unwrap();
    let message = "not signed by Slack: the header `x-slack-request-timestamp` is missing";
    refused(unsigned, StatusCode::UNAUTHORIZED, message).await;
}

#[tokio::test]
async fn an_event_signed_with_another_secret_is_refused() {
    let forged = event("{}", "another secret", Timestamp::now().as_second());
    refused(
        forged,
        StatusCode::UNAUTHORIZED,
        "not signed by Slack: the signature does not match",
    )
    .await;
}

#[tokio::test]
async fn an_event_from_the_past_or_the_future_is_refused() {
    for hour in [-3600, 3600] {
        let (status, _, body) =
            answer(&app(), event("{}", SECRET, Timestamp::now().as_second() + hour)).await;
        let message = body["message"].as_str().unwrap();
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert!(
            message.starts_with("not signed by Slack: the request's time is 3"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn without_a_signing_secret_every_event_is_refused() {
    let app = app_with(Config::from_lookup(|_| None).unwrap());
    let (status, _, body) = answer(&app, event("{}", "", Timestamp::now().as_second())).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        body["message"],
        "not signed by Slack: no signing secret is configured; set SLACK__SIGN"
    );
}

#[tokio::test]
async fn a_signed_body_that_is_no_event_is_refused() {
    let (status, _, body) = answer(&app(), event("{}", SECRET, Timestamp::now().as_second())).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        body["message"].as_str().unwrap().starts_with("not an event: "),
        "{body}"
    );
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let long = " ".repeat(MAX_BODY + 1);
    let (status, _, body) = answer(&app(), event(&long, SECRET, Timestamp::now().as_second())).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(
        body["message"]
            .as_str()
            .unwrap()
            .starts_with("the body cannot be read: "),
        "{body}"
    );
}

#[tokio::test]
async fn who_names_the_person_on_duty_and_the_next() {
    let answer = mention(&app(), "<@U0LAN0Z89> who").await;
    let text = "on-call: anna is on duty, next is ben";
    assert_eq!(
        answer,
        json!({ "ok": true, "message": { "channel": "C1", "text": text } })
    );
}

#[tokio::test]
async fn rotate_passes_the_duty_on() {
    let app = app();
    let first = mention(&app, "<@U0LAN0Z89> rotate").await;
    assert_eq!(first["message"]["text"], "on-call: ben is on duty, next is chloe");
    let second = mention(&app, "<@U0LAN0Z89> who").await;
    assert_eq!(
        second["message"]["text"],
        "on-call: ben is on duty, next is chloe"
    );
}

#[tokio::test]
async fn an_unknown_command_is_answered_with_the_known_ones() {
    let answer = mention(&app(), "<@U0LAN0Z89> dance").await;
    assert_eq!(answer["message"]["text"], "I know `who` and `rotate`");
}

#[tokio::test]
async fn what_is_not_for_us_is_acknowledged_without_a_message() {
    let app = app();
    let other_event = json!({ "type": "event_callback", "event": { "type": "reaction_added", "item": {} } });
    for body in [
        other_event,
        json!({ "type": "app_rate_limited", "team_id": "T1" }),
    ] {
        assert_eq!(signed(&app, &body).await, (StatusCode::OK, json!({ "ok": true })));
    }
}
