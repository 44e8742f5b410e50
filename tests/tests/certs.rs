//! `debugctl certs`: agents accept its certificates until they expire and no longer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use std::path::Path;

use debug_certs::issue::{Ca, Revoked, read_list};
use debug_tests::client::Identity;
use debug_tests::{Certificates, Client, Ctl, Service, wait};

fn folder(certificates: &Certificates) -> &str {
    certificates.folder().to_str().unwrap()
}

/// Waits for the record of a refused handshake with that reason.
#[track_caller]
fn refused(certificates: &Certificates, service: &Service, operator: &str, why: &str) {
    wait::until(&format!("{operator} is refused: {why}"), || {
        let identity = Identity::read(&certificates.operator(operator));
        Client::connect(service.agent(), Some(identity)).err()
    });
    wait::until_true(&format!("a record says {why}"), || {
        let records = certificates.records();
        records
            .lines()
            .any(|line| line.contains("session.refused") && line.contains(why))
    });
    assert_eq!(service.health().status, 200);
}

#[test]
fn a_certificate_lives_as_long_as_was_asked_for() {
    let certificates = Certificates::new();
    let service = Service::start(&certificates);
    let issue = |ttl: &str| {
        let args = [
            "certs",
            "issue",
            folder(&certificates),
            "--operator",
            "carl",
            "--role",
            "oncall",
            "--ttl",
            ttl,
        ];
        Ctl::run(&certificates, "alice", &args)
    };
    for (ttl, told) in [("25h", "24 hours"), ("0s", "no time"), ("8", "unit")] {
        let ctl = issue(ttl);
        assert_eq!(ctl.code, 2, "{ttl}: {}", ctl.err);
        assert!(ctl.err.contains(told), "{ttl}: {}", ctl.err);
    }
    assert!(!certificates.operator("carl").exists());
    let ctl = issue("20m");
    assert_eq!(ctl.code, 0, "{}", ctl.err);
    assert!(ctl.err.contains("valid for 20m"), "{}", ctl.err);
    let carl = certificates.operator("carl");
    assert_eq!(Client::attach(service.agent(), &carl).eval("1").display(), "1");
    assert_eq!(issue("2s").code, 0);
    refused(&certificates, &service, "carl", "\"code\":\"expired\"");
}

/// An unknown role is warned about when it is issued, and named when it grants nothing.
#[test]
fn a_misspelt_role_is_told_when_it_is_issued_and_when_it_does_not_help() {
    let certificates = Certificates::new();
    let issue = |roles: &[&str]| {
        let roles = roles.iter().flat_map(|role| ["--role", role]);
        let args = ["certs", "issue", folder(&certificates), "--operator", "carl"]
            .into_iter()
            .chain(roles);
        let ctl = Ctl::run(&certificates, "alice", &args.collect::<Vec<_>>());
        assert_eq!(ctl.code, 0, "{}", ctl.err);
        ctl.err
    };
    assert!(!issue(&["viewer", "oncall"]).contains("warning"));
    let policy = certificates.folder().join("agent/policy.toml");
    let told = format!(
        "warning: no rule of the policy `{}` names the role `onkall`: they name lead, oncall, viewer",
        policy.display()
    );
    let seen = issue(&["viewer", "onkall"]);
    assert!(seen.contains(&told), "{seen}");

    let service = Service::start(&certificates);
    let target = service.agent().to_string();
    let args = [
        "eval",
        &target,
        "--change",
        "--reason",
        "INC-42",
        "--persist",
        "config.db.port = 1",
    ];
    let ctl = Ctl::run(&certificates, "carl", &args);
    assert!(
        ctl.code == 3 && ctl.err.contains("(your roles: onkall, viewer)"),
        "{}",
        ctl.err
    );
    issue(&["onkall"]);
    let ctl = Ctl::run(&certificates, "carl", &["eval", &target, "1"]);
    assert!(
        ctl.code == 3 && ctl.err.contains("(your roles: onkall)"),
        "{}",
        ctl.err
    );

    // Without the policy at hand, the roles are compared with the shipped one.
    std::fs::remove_file(&policy).unwrap();
    let seen = issue(&["onkall"]);
    assert!(
        seen.contains("no rule of the shipped policy names the role `onkall`"),
        "{seen}"
    );
    let dir = certificates.scratch().join("mine");
    let args = [
        "certs",
        "init",
        dir.to_str().unwrap(),
        "--service",
        "dienstplan",
        "--operator",
        "alice",
    ];
    let ctl = Ctl::run(
        &certificates,
        "alice",
        &[&args[..], &["--role", "admin"]].concat(),
    );
    assert!(
        ctl.code == 0 && ctl.err.contains("names the role `admin`: they name"),
        "{}",
        ctl.err
    );
}

#[test]
fn a_working_set_is_not_written_over_what_stands_there() {
    let certificates = Certificates::new();
    let dir = certificates.scratch().join("mine");
    std::fs::create_dir(&dir).unwrap();
    let init = || {
        let args = [
            "certs",
            "init",
            dir.to_str().unwrap(),
            "--service",
            "dienstplan",
            "--operator",
            "alice",
        ];
        Ctl::run(
            &certificates,
            "alice",
            &[&args[..], &["--role", "oncall"]].concat(),
        )
    };
    std::fs::write(dir.join("thesis.txt"), "unfinished").unwrap();
    let ctl = init();
    assert_eq!(ctl.code, 2, "{}", ctl.err);
    assert!(
        ctl.err.contains("mine` is not empty") && ctl.err.contains("name a new folder"),
        "{}",
        ctl.err
    );
    let left: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["thesis.txt"]);
    assert_eq!(
        std::fs::read_to_string(dir.join("thesis.txt")).unwrap(),
        "unfinished"
    );
    std::fs::remove_file(dir.join("thesis.txt")).unwrap();
    assert_eq!(init().code, 0, "an empty one is taken");
    assert_eq!(init().code, 2, "and is not empty any more");
}

/// The serial number of an operator's newest certificate.
fn serial(certificates: &Certificates, operator: &str) -> Vec<u8> {
    let text = std::fs::read(certificates.folder().join("inventory.json")).unwrap();
    let inventory: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let entries = inventory["operators"].as_array().unwrap();
    let id = format!("/operator/{operator}");
    let of = |entry: &&serde_json::Value| entry["id"].as_str().unwrap().ends_with(&id);
    let hex = entries.iter().rfind(of).unwrap()["serial"].as_str().unwrap();
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn authority(certificates: &Certificates) -> Ca {
    let read = |name: &str| std::fs::read_to_string(certificates.folder().join("ca").join(name)).unwrap();
    Ca::load(&read("ca.pem"), &read("ca.key")).unwrap()
}

#[test]
fn a_revoked_operator_is_refused_and_the_others_are_not() {
    let certificates = Certificates::new();
    let mut service = Service::start(&certificates);
    Client::attach(service.agent(), &certificates.operator("alice"))
        .eval("1")
        .ok();
    service.terminate();
    let now = jiff::Timestamp::now();
    let revoked = [Revoked {
        serial: serial(&certificates, "alice"),
        at: now,
    }];
    let list = authority(&certificates)
        .revocation_list(2, &revoked, now)
        .unwrap();
    std::fs::write(certificates.revocation_list(), list).unwrap();
    let mut service = Service::start(&certificates);
    refused(&certificates, &service, "alice", "\"code\":\"revoked\"");
    let target = service.agent().to_string();
    let ctl = Ctl::run(&certificates, "alice", &["eval", &target, "1"]);
    assert_eq!((ctl.code, ctl.out.as_str()), (5, ""), "{}", ctl.err);
    assert_eq!(
        Client::attach(service.agent(), &certificates.operator("vera"))
            .eval("1")
            .display(),
        "1"
    );
    service.terminate();

    // A fresh list keeps every revoked certificate.
    let ctl = Ctl::run(&certificates, "alice", &["certs", "crl", folder(&certificates)]);
    assert_eq!(ctl.code, 0, "{}", ctl.err);
    let service = Service::start(&certificates);
    assert!(certificates.records().contains("\"number\":\"3\""));
    Client::connect(
        service.agent(),
        Some(Identity::read(&certificates.operator("alice"))),
    )
    .unwrap_err();
    let told = || certificates.records().matches("\"code\":\"revoked\"").count();
    wait::until_true("a third record says that she was revoked", || told() == 3);
}

#[test]
fn a_fresh_revocation_list_has_a_higher_number_and_says_what_to_do() {
    let certificates = Certificates::new();
    let number = || {
        read_list(&std::fs::read_to_string(certificates.revocation_list()).unwrap())
            .unwrap()
            .0
    };
    let renew = || Ctl::run(&certificates, "alice", &["certs", "crl", folder(&certificates)]);
    assert_eq!(number(), 1);
    let ctl = renew();
    assert_eq!((ctl.code, number()), (0, 2), "{}", ctl.err);
    assert!(
        ctl.err.contains("current for 30d") && ctl.err.contains("restart the service"),
        "{}",
        ctl.err
    );
    // Both the inventory and the list are considered: no number is used twice.
    certificates.write_revocation_list(7, -60, 3600);
    assert_eq!((renew().code, number()), (0, 8));
    certificates.write_revocation_list(3, -60, 3600);
    assert_eq!((renew().code, number()), (0, 9));
    for gone in [
        certificates.revocation_list(),
        certificates.folder().join("ca/ca.key"),
    ] {
        let aside = certificates.scratch().join("aside");
        std::fs::rename(&gone, &aside).unwrap();
        let ctl = renew();
        assert_eq!(ctl.code, 2, "{}", ctl.err);
        assert!(ctl.err.contains(gone.to_str().unwrap()), "{}", ctl.err);
        std::fs::rename(&aside, &gone).unwrap();
    }
    assert_eq!((renew().code, number()), (0, 10), "what failed changed nothing");
}

/// At the start and as time passes, in the log and in `info()`; an expired list blocks all operators, which is reported too.
#[test]
fn the_end_of_a_revocation_list_is_announced() {
    let certificates = Certificates::new();
    // Half of its 60 s is over; a quarter is left in 10 s, nothing in 25 s.
    certificates.write_revocation_list(2, -35, 25);
    let service = Service::start(&certificates);
    let place = format!("the revocation list `{}` ", real(&certificates.revocation_list()));
    for (told, level) in [
        ("less than half of its life", "WARN"),
        ("less than a quarter of its life", "WARN"),
        ("is over: no operator", "ERROR"),
    ] {
        let line = service.wait_for_log(told);
        assert!(
            line.contains(&place) && line.contains("`debugctl certs crl DIR`"),
            "{line}"
        );
        assert!(line.contains(level), "{line}");
        if level == "WARN" {
            let mut client = Client::attach(service.agent(), &certificates.operator("vera"));
            let notes = client.eval("info().notes").ok()["value"].to_string();
            assert!(
                notes.contains("the revocation list") && notes.contains("of its life"),
                "{notes}"
            );
        }
    }
    refused(&certificates, &service, "vera", "\"code\":\"crl-expired\"");
    assert_eq!(
        service.log().matches("less than half").count(),
        1,
        "{}",
        service.log()
    );
}

/// A long remaining life is not mentioned; limits are.
#[test]
fn a_fresh_set_has_nothing_to_announce() {
    let certificates = Certificates::new();
    let service = Service::start(&certificates);
    let mut client = Client::attach(service.agent(), &certificates.operator("vera"));
    assert_eq!(client.eval("info().notes").display(), "[]");
    let limits = client.eval("info().limits").ok()["value"].to_string();
    for told in [
        "an eval: 1000000 operations, 5s, ",
        "a patched call: 100000 operations, 10ms",
        "10m",
        "1m after",
    ] {
        assert!(limits.contains(told), "{told}: {limits}");
    }
    assert!(!service.log().contains("of its life"), "{}", service.log());
}

fn real(path: &Path) -> String {
    path.canonicalize().unwrap().display().to_string()
}
