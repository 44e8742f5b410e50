//! Writes: of the right type or not at all, undone without a request, and never over a later write of the service.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use debug_tests::{Certificates, Client, Service, wait};

fn attach() -> (Certificates, Service, Client) {
    let certificates = Certificates::new();
    let service = Service::start(&certificates);
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    client.eval(r#"change("a test")"#).ok();
    (certificates, service, client)
}

#[test]
fn a_value_is_set_until_its_deadline() {
    let (_certificates, _service, mut client) = attach();
    let before = client.eval("config.server.loglevel").display().to_owned();
    client
        .eval(r#"set("config.server.loglevel", "DEBUG", #{ ttl: "1s" })"#)
        .ok();
    wait::until_true("the value is back", || {
        client.eval("config.server.loglevel").display() == before
    });
}

#[test]
fn an_assignment_writes_and_revert_undoes() {
    let (_certificates, _service, mut client) = attach();
    let before = client.eval("config.db.port").display().to_owned();
    let reply = client.eval("config.db.port = 6543");
    let id = reply.ok()["leases"][0]["id"].as_u64().unwrap();
    assert_eq!(client.eval("config.db.port").display(), "6543");
    client.eval(&format!("revert({id})")).ok();
    assert_eq!(client.eval("config.db.port").display(), before);
}

#[test]
fn one_assignment_is_one_write() {
    let (_certificates, _service, mut client) = attach();
    let reply = client.eval("fn f() { config.db.port = 1; } f()");
    assert_eq!(reply.ok()["leases"].as_array().unwrap().len(), 1);
}

/// A text with a secret in it is built from the secret's placeholder; the service must never receive that.
#[test]
fn what_is_shown_in_place_of_a_secret_is_not_written() {
    let (_certificates, _service, mut client) = attach();
    for code in [
        "config.db.host = `host ${config.slack.token}`",
        r#"config.db.host = config.slack.token.to_string()"#,
        r#"config.slack.sign = "‹secret›""#,
    ] {
        let (kind, message) = client.eval(code).failed();
        assert_eq!(kind, "state", "{code}");
        assert!(message.contains("is shown"), "{code}: {message}");
    }
    assert_eq!(client.eval("config.db.host").display(), "\"localhost\"");
}

#[test]
fn a_wrong_type_names_the_path_and_changes_nothing() {
    let (_certificates, _service, mut client) = attach();
    for (path, value) in [
        ("config.db.port", r#""many""#),
        ("config.db.port", "70000"),
        ("config.db.port", "-1"),
        ("config.db.port", "1.5"),
        ("config.db", "5"),
        ("config.application.debug", "1"),
        ("config.db.port", "()"),
    ] {
        let before = client.eval(&format!("get(\"{path}\")")).0["result"]["value"].clone();
        let (code, message) = client.eval(&format!("set(\"{path}\", {value})")).failed();
        assert_eq!(code, "state", "{path} = {value}: {message}");
        assert!(message.contains(path), "{message}");
        assert_eq!(
            client.eval(&format!("get(\"{path}\")")).0["result"]["value"],
            before
        );
    }
    assert_eq!(client.eval("leases().len()").display(), "0");
}

/// T47.
#[test]
fn an_error_about_a_secret_never_shows_it() {
    let (_certificates, _service, mut client) = attach();
    for code in [
        r#"set("config.slack.token", 5)"#,
        r#"set("config.slack.token", [1])"#,
        r#"config.slack.token = config.slack.sign"#,
        r#"config.db.host = config.slack.token"#,
    ] {
        let reply = client.eval(code);
        let (_, message) = reply.failed();
        assert!(message.contains("config."), "{message}");
        assert!(!reply.0.to_string().contains("not-a-real"), "{code}: {}", reply.0);
    }
}

#[test]
fn a_function_or_timestamp_is_no_value() {
    let (_certificates, _service, mut client) = attach();
    for code in [
        r#"set("config.db.host", |x| x)"#,
        r#"set("config.db.host", Fn("get"))"#,
        r#"set("config.db.port", 0.0 / 0.0)"#,
    ] {
        assert_eq!(client.eval(code).failed().0, "state", "{code}");
    }
}

#[test]
fn a_second_write_needs_over_and_the_base_comes_back() {
    let (_certificates, _service, mut client) = attach();
    let base = client.eval("config.db.port").display().to_owned();
    let first = client.eval("config.db.port = 1").ok()["leases"][0]["id"]
        .as_u64()
        .unwrap();
    for code in ["config.db.port = 2", r#"set("config.db", get("config.db"))"#] {
        let (kind, message) = client.eval(code).failed();
        assert_eq!(kind, "state");
        assert!(message.contains(&format!("lease {first}")), "{message}");
    }
    let second = client
        .eval(&format!("set(\"config.db.port\", 2, #{{ over: {first} }})"))
        .ok()["leases"][0]["id"]
        .as_u64()
        .unwrap();
    // The lower one ends first: nothing live changes, and the upper one restores the base.
    client.eval(&format!("revert({first})")).ok();
    assert_eq!(client.eval("config.db.port").display(), "2");
    client.eval(&format!("revert({second})")).ok();
    assert_eq!(client.eval("config.db.port").display(), base);
}

#[test]
fn a_secret_argument_is_set_and_stands_nowhere_in_the_log() {
    let (certificates, service, _client) = attach();
    let file = certificates.scratch().join("value");
    std::fs::write(&file, "another-value-nobody-has").unwrap();
    let arg = format!("t=@{}", file.display());
    let target = service.agent().to_string();
    let code = r#"set("config.slack.token", t, #{ ttl: "5m" }); config.slack.token"#;
    let ctl = debug_tests::Ctl::run(
        &certificates,
        "alice",
        &[
            "eval",
            &target,
            code,
            "--arg-secret",
            &arg,
            "--change",
            "--reason",
            "rotate",
            "--persist",
        ],
    );
    assert_eq!(ctl.code, 0, "{}", ctl.err);
    assert!(ctl.out.contains("‹secret"), "{}", ctl.out);
    for entry in std::fs::read_dir(certificates.audit()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("another-value-nobody-has"));
    }
}
