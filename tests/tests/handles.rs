//! Everything that a state can lie in is written, put back and left unharmed. Through real processes and sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use std::process::Command;

use debug_tests::{Certificates, Client, Service, http, wait};

struct Set {
    _certificates: Certificates,
    service: Service,
    client: Client,
}

impl Set {
    /// Runs the service `handles`, with `alice` attached in the mode `change`.
    fn new() -> Self {
        let certificates = Certificates::for_service("handles");
        let mut command = Command::new(env!("CARGO_BIN_EXE_handles"));
        command.env_clear().env("DEBUG_AGENT", "1").env("DEBUG_AGENT_CONFIG", certificates.agent_config());
        let service = Service::spawn(command);
        let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
        client.eval(r#"change("a test")"#).ok();
        Self { _certificates: certificates, service, client }
    }

    /// What the service answers.
    #[track_caller]
    fn says(&self, path: &str) -> String {
        http::get(self.service.http, path).unwrap().body
    }
}

#[test]
fn every_kind_of_handle_is_written_and_put_back() {
    let mut set = Set::new();
    let before = set.says("/states");
    let kinds = [
        "rwlock",
        "mutex",
        "tokio_rwlock",
        "tokio_mutex",
        "parking_rwlock",
        "parking_mutex",
        "swap",
        "watched",
        "live",
    ];
    let mut codes: Vec<_> = kinds.iter().map(|name| (*name, format!("{name}.most = 2"))).collect();
    codes.push(("atomic", r#"set("atomic", 2)"#.to_owned()));
    codes.push(("field", "limits.mail.rate = 2".to_owned()));
    for (name, code) in &codes {
        assert!(before.contains(&format!("{name}=1;")), "{before}");
        set.client.eval(code).ok();
        let states = set.says("/states");
        assert!(states.contains(&format!("{name}=2;")), "{code}: {states}");
    }
    set.client.eval("revert_all()").ok();
    assert_eq!(set.says("/states"), before);
}

#[test]
fn what_the_service_refuses_is_not_written_and_its_words_are_told() {
    let mut set = Set::new();
    let before = set.says("/states");
    let mut refused = |code: &str| {
        let (kind, message) = set.client.eval(code).failed();
        assert_eq!(kind, "state", "{code}: {message}");
        message
    };
    let checked = refused("rwlock.most = 0");
    assert!(checked.contains("`rwlock.most`: refused by the service's check: nothing at all"), "{checked}");
    let field = refused("limits.mail.rate = 101");
    assert!(field.contains("`limits.mail.rate`: refused by the service's check: 101 is more"), "{field}");
    let whole = refused(r#"set("limits.mail", #{ rate: 3 })"#);
    assert!(whole.contains("consists of fields"), "{whole}");
    assert_eq!(set.says("/states"), before);
    assert_eq!(set.client.eval("leases().len()").display(), "0");
}

#[test]
fn a_revert_that_waits_for_a_lock_is_told_of_and_holds_up_no_other() {
    let mut set = Set::new();
    set.client.eval("mutex.most = 2").ok();
    set.client.eval("live.most = 2").ok();
    set.says("/hold");
    set.client.eval("revert(1)").failed();
    let why = "for the lock or setter of state `mutex`";
    wait::until_true("the status tells of the wait", || set.says("/status").contains(why));
    let notes = set.client.eval("info().notes").display().to_owned();
    assert!(notes.contains(why), "{notes}");
    set.client.eval("revert(2)").ok();
    assert!(set.says("/states").contains("live=1;"));
    set.says("/release");
    wait::until_true("the state is as it was", || set.says("/states").contains("mutex=1;"));
    wait::until_true("the status is as it was", || set.says("/status") == "running");
    assert_eq!(set.client.eval("leases().len()").display(), "0");
}
