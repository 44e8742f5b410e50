//! The position of the agent's layer among a service's own, and what is learnt from calls that end badly. Through real processes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use debug_tests::{Set, http, wait};

/// The service `layers`, with its layers in this order.
fn set(order: &str) -> Set {
    Set::with(env!("CARGO_BIN_EXE_layers"), None, &[("ORDER", order)])
}

fn admin(set: &Set, token: bool) -> (u16, String) {
    let headers: &[(&str, &str)] = if token {
        &[("authorization", "Bearer x")]
    } else {
        &[]
    };
    let answer = http::request(set.service.http, "GET", "/admin", headers, "").unwrap();
    (answer.status, answer.body)
}

/// It is reported in every place that an author or operator reads.
#[track_caller]
fn told(set: &mut Set, what: &str) {
    set.service.wait_for_log(what);
    wait::until_true("info() tells it", || {
        set.client.eval("info()").ok()["value"]["notes"]
            .to_string()
            .contains(what)
    });
    wait::until_true("the audit log tells it", || {
        set.certificates.records().contains(what)
    });
    let note = set.client.eval(r#"describe("GET /admin")"#).ok()["value"]["note"].to_string();
    assert!(
        note.contains("cannot be patched: ") && note.contains(what),
        "{note}"
    );
}

#[test]
fn a_patch_behind_a_login_stays_behind_it() {
    let mut set = set("right");
    assert_eq!(admin(&set, false).0, 401);
    assert_eq!(admin(&set, true), (200, "the admin's page".to_owned()));
    let reply = set.client.eval(r#"patch("GET /admin", |req| #{ body: "p" })"#);
    assert!(reply.display().ends_with("behind `auth`"), "{}", reply.display());
    assert_eq!(admin(&set, false).0, 401);
    assert_eq!(admin(&set, true), (200, "p".to_owned()));
}

#[test]
fn a_login_inside_the_agents_layer_is_told_at_the_first_request_and_never_left_out() {
    let mut set = set("wrong");
    // Made before anything could be known.
    set.client
        .eval(r#"patch("GET /admin", |req| #{ body: "p" }, #{ unseen: true })"#)
        .ok();
    for _ in 0..3 {
        assert_eq!(admin(&set, false).0, 401);
    }
    assert_eq!(admin(&set, true), (200, "the admin's page".to_owned()));
    told(&mut set, "a patch would answer without the layer `auth`");
    set.client.eval("revert_all()").ok();
    let (_, message) = set
        .client
        .eval(r#"patch("GET /admin", |req| #{ body: "p" })"#)
        .failed();
    assert!(
        message.contains("would answer without the layer `auth`"),
        "{message}"
    );
    // Other routes are not affected.
    http::get(set.service.http, "/health").unwrap();
    set.client
        .eval(r#"patch("GET /health", |req| #{ body: "p" })"#)
        .ok();
    assert_eq!(http::get(set.service.http, "/health").unwrap().body, "p");
}

/// An answer of a layer in between says nothing about the layers behind it.
#[test]
fn a_login_inside_the_agents_layer_is_never_left_out_even_if_the_first_request_does_not_get_to_it() {
    let mut set = set("refused");
    set.client
        .eval(r#"patch("GET /admin", |req| #{ body: "p" }, #{ unseen: true })"#)
        .ok();
    assert_eq!(admin(&set, false).0, 429);
    for _ in 0..3 {
        assert_eq!(admin(&set, false).0, 401);
    }
    assert_eq!(admin(&set, true), (200, "the admin's page".to_owned()));
    told(&mut set, "a patch would answer without the layer `auth`");
}

#[test]
fn a_login_that_is_demanded_and_was_forgotten_closes_the_route() {
    let mut set = set("forgotten");
    set.client
        .eval(r#"patch("GET /admin", |req| #{ body: "p" }, #{ unseen: true })"#)
        .ok();
    assert_eq!(
        admin(&set, false),
        (200, "the admin's page".to_owned()),
        "as the service itself does"
    );
    told(
        &mut set,
        "without the layer `auth`, which it is said to be behind",
    );
}

#[test]
fn a_handler_that_panics_can_be_patched_and_is_counted() {
    let mut set = set("right");
    http::get(set.service.http, "/panic").unwrap_err();
    let guard = r#"#{ guard: |s| s.points["GET /panic"].errors < 1 }"#;
    http::get(set.service.http, "/health").unwrap();
    set.client
        .eval(&format!(
            "patch(\"GET /health\", |req| #{{ body: \"p\" }}, {guard})"
        ))
        .ok();
    http::get(set.service.http, "/panic").unwrap_err();
    wait::until_true("the guard has seen it", || {
        set.client.eval("leases().len()").display() == "0"
    });
    set.client
        .eval(r#"patch("GET /panic", |req| #{ status: 503 })"#)
        .ok();
    assert_eq!(http::get(set.service.http, "/panic").unwrap().status, 503);
}

#[test]
fn a_guard_sees_that_a_grpc_call_failed() {
    let mut set = set("right");
    for path in ["/health", "/grpc"] {
        assert_eq!(http::get(set.service.http, path).unwrap().status, 200);
    }
    let guard = r#"#{ guard: |s| s.points["GET /grpc"].errors < 1 }"#;
    set.client
        .eval(&format!(
            "patch(\"GET /health\", |req| #{{ body: \"p\" }}, {guard})"
        ))
        .ok();
    http::get(set.service.http, "/grpc").unwrap();
    wait::until_true("the guard has seen it", || {
        set.client.eval("leases().len()").display() == "0"
    });
}
