//! Every kind of handle is written, restored and left unharmed. Through real processes and sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use debug_tests::{Client, Ctl, Halted, Set, wait};

fn set() -> Set {
    Set::changing(env!("CARGO_BIN_EXE_handles"))
}

#[test]
fn every_kind_of_handle_is_written_and_put_back() {
    let mut set = set();
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
    let mut codes: Vec<_> = kinds
        .iter()
        .map(|name| (*name, format!("{name}.most = 2")))
        .collect();
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
    let mut set = set();
    let before = set.says("/states");
    let mut refused = |code: &str| {
        let (kind, message) = set.client.eval(code).failed();
        assert_eq!(kind, "state", "{code}: {message}");
        message
    };
    let checked = refused("rwlock.most = 0");
    assert!(
        checked.contains("`rwlock.most`: refused by the service's check: nothing at all"),
        "{checked}"
    );
    let field = refused("limits.mail.rate = 101");
    assert!(
        field.contains("`limits.mail.rate`: refused by the service's check: 101 is more"),
        "{field}"
    );
    let whole = refused(r#"set("limits.mail", #{ rate: 3 })"#);
    assert!(whole.contains("consists of fields"), "{whole}");
    assert_eq!(set.says("/states"), before);
    assert_eq!(set.client.eval("leases().len()").display(), "0");
}

/// In an incident this command must not stop half-way: a lock held by the service and a refusing setter cost only their own
/// changes.
#[test]
fn revert_all_ends_all_that_it_can_and_says_which_it_could_not_and_why() {
    let mut set = set();
    set.client.eval(r#"patch("handles::answer", || 7)"#).ok();
    set.client.eval("mutex.most = 3").ok();
    set.client.eval("limits.mail.rate = 2").ok();
    set.client.eval("live.most = 2").ok();
    set.says("/hold");
    set.says("/refuse");

    let reply = set.client.eval("revert_all()");
    let (kind, message) = reply.failed();
    assert_eq!(kind, "state");
    assert!(
        message.starts_with("2 of 4 changes could not be ended yet: "),
        "{message}"
    );
    for told in [
        "lease 2 at state:mutex.most (state `mutex` is busy",
        "lease 3 at state:limits.mail.rate (",
        "the disk is full",
        "; ended: lease 4: state:live.most is as it was before, lease 1: point:handles::answer is as it was",
    ] {
        assert!(message.contains(told), "{told}: {message}");
    }
    let error = &reply.0["error"];
    assert_eq!(
        error["data"]["leases"]["reverted"],
        serde_json::json!([4, 1]),
        "{error}"
    );
    let standing = error["data"]["leases"]["standing"].as_array().unwrap();
    let ids: Vec<_> = standing
        .iter()
        .map(|lease| lease["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids, [3, 2], "{error}");
    assert_eq!(set.says("/answer"), "42");
    assert!(set.says("/states").contains("live=1;"));

    // Repeated, also as a command, it lists the changes still being tried; ended ones do not reappear.
    let (_, message) = set.client.eval("revert_all()").failed();
    assert!(
        message.starts_with("2 of 2 changes could not be ended yet: "),
        "{message}"
    );
    assert!(
        message.contains("`mutex` is busy") && message.contains("the disk is full"),
        "{message}"
    );
    let certificates = &set.certificates;
    let printed = Ctl::run(
        certificates,
        "alice",
        &["eval", &set.service.agent().to_string(), "--json", "revert_all()"],
    );
    assert_eq!(printed.code, 1, "{}", printed.out);
    let error: serde_json::Value = serde_json::from_str(&printed.out).unwrap();
    assert_eq!(
        error["error"]["leases"]["standing"].as_array().unwrap().len(),
        2,
        "{error}"
    );

    set.says("/release");
    set.says("/heal");
    wait::until_true("all is as it was", || {
        set.client.eval("leases().len()").display() == "0"
    });
    let states = set.says("/states");
    assert!(
        states.contains("mutex=1;") && states.contains("field=1;"),
        "{states}"
    );
    set.client.eval("revert_all()").ok();
    set.certificates.verified();
}

/// A guard is given the service's gauges, which only a listing may show.
#[test]
fn only_who_may_list_makes_guards_in_a_service_with_gauges() {
    let policy = "version = 1\n[[rule]]\nid = \"change\"\nwhy = \"No listing\"\nroles = [\"oncall\"]\n\
                  allow = [\"attach\", \"read\", \"change\", \"patch\"]\nmax_ttl = \"30m\"\nmax_life = \"4h\"\n";
    let mut set = Set::with(env!("CARGO_BIN_EXE_handles"), Some(policy), &[]);
    let guarded = r#"patch("handles::answer", || 7, #{ guard: |s| s.gauges.mood < 3 })"#;
    let reply = set.client.eval(guarded);
    let (kind, message) = reply.failed();
    assert_eq!(kind, "denied", "{message}");
    assert!(message.contains("list agent"), "{message}");
    let help = reply.0["error"]["data"]["help"].as_str().unwrap();
    assert!(help.contains("the service's gauges"), "{help}");
    set.client.eval(r#"patch("handles::answer", || 7)"#).ok();
}

/// A panic of the service's code in the agent costs only the operation that called it, and no thread: attaching, changing,
/// deadlines and reverting continue, and the panic is reported.
#[test]
fn a_subscriber_a_gauge_and_words_that_panic_cost_nothing_else() {
    let mut set = set();
    set.says("/moody");
    let (kind, message) = set.client.eval("log_info(\"hello\")").failed();
    assert_eq!(kind, "state", "{message}");
    assert!(message.contains("subscriber panicked"), "{message}");
    let (kind, message) = set.client.eval("set(\"unspeakable\", 2)").failed();
    assert_eq!(kind, "state", "{message}");

    let mut bob = Client::attach(set.service.agent(), &set.certificates.operator("bob"));
    bob.eval("1").ok();
    set.client
        .eval(r#"patch("handles::answer", || 7, #{ guard: |s| s.gauges.mood == () })"#)
        .ok();
    set.client.eval(r#"set("atomic", 2, #{ ttl: "200ms" })"#).ok();
    wait::until_true("the deadline ends it", || {
        set.says("/states").contains("atomic=1;")
    });
    assert_eq!(
        set.says("/answer"),
        "7",
        "the guard is asked, and a gauge that panics is silent"
    );
    set.client.eval("revert_all()").ok();
    assert_eq!(set.says("/answer"), "42");

    wait::until_true("the status tells of it", || {
        set.says("/status").contains("panicked inside")
    });
    let alarm = wait::until("an alarm is in the audit log", || {
        set.certificates
            .records_of("alarm")
            .into_iter()
            .find(|alarm| alarm["panicked"] == "debug-emit")
    });
    assert_eq!(alarm["times"], 1);
    assert!(set.client.eval("info().notes").display().contains("debug-emit"));
    set.says("/calm");
    set.client.eval("swap.most = 2").ok();
    set.service.wait_for_log("an operator's eval ended");
    set.client.eval("revert_all()").ok();
}

/// Looping evals, a lock held by the service, a hanging setter: all of them hang until after the agent is gone, so no step of its
/// shutdown waits for them. Changes that can be ended are ended.
#[test]
fn stopping_waits_for_nothing_that_hangs() {
    let mut set = set();
    set.client.eval(r#"patch("handles::answer", || 7)"#).ok();
    set.client.eval("mutex.most = 3").ok();
    set.client.eval("limits.mail.rate = 2").ok();
    set.client.eval("live.most = 2").ok();
    set.client.eval("swap.most = 2").ok();
    let mut others: Vec<Client> = ["bob", "lea"]
        .map(|name| Client::attach(set.service.agent(), &set.certificates.operator(name)))
        .into();
    for client in &mut others {
        client.start_payload(&serde_json::json!({ "code": "loop { }" }));
    }
    set.says("/hold");
    set.says("/hang");
    let left = "lease 2 stays at state:mutex.most; lease 3 stays at state:limits.mail.rate";
    assert_eq!(set.says("/stop"), format!("stopped; {left}"));
    assert_eq!(set.says("/answer"), "42");
    let states = set.says("/states");
    assert!(
        states.contains("live=1;") && states.contains("swap=1;"),
        "{states}"
    );
    set.says("/heal");
    set.says("/release");
    let ended = set.certificates.records_of("lease.shutdown");
    assert_eq!(ended.len(), 3, "{ended:?}");
    assert_eq!(set.certificates.records_of("shutdown").len(), 1);
}

/// An unresponsive disk blocks the thread that writes the log until after the agent is gone.
#[test]
fn stopping_waits_for_no_log_that_hangs() {
    let mut set = set();
    set.client.eval(r#"patch("handles::answer", || 7)"#).ok();
    set.client.eval("live.most = 2").ok();
    set.client.eval("swap.most = 2").ok();
    let halted = Halted::threads(set.service.pid(), &["debug-audit"]);
    assert_eq!(set.says("/stop"), "stopped");
    assert_eq!(set.says("/answer"), "42");
    let states = set.says("/states");
    assert!(
        states.contains("live=1;") && states.contains("swap=1;"),
        "{states}"
    );
    drop(halted);
    wait::until_true("the log tells of it", || {
        set.certificates.records_of("lease.shutdown").len() == 3
    });
}

/// Leases that a failed eval reverted stay reverted, and its reply says so.
#[test]
fn an_eval_that_fails_after_it_reverted_says_that_this_stays() {
    let mut set = set();
    set.client.eval("live.most = 2").ok();
    let reply = set.client.eval("revert(1); swap.most = 2; throw \"enough\"");
    assert!(
        reply
            .help()
            .contains("what it had changed was undone, what it reverted stays reverted"),
        "{reply:?}"
    );
    assert_eq!(
        reply.0["error"]["data"]["leases"]["reverted"],
        serde_json::json!([1])
    );
    let states = set.says("/states");
    assert!(
        states.contains("live=1;") && states.contains("swap=1;"),
        "{states}"
    );
}

#[test]
fn a_revert_that_waits_for_a_lock_is_told_of_and_holds_up_no_other() {
    let mut set = set();
    set.client.eval("mutex.most = 2").ok();
    set.client.eval("live.most = 2").ok();
    set.says("/hold");
    set.client.eval("revert(1)").failed();
    let why = "for the lock or setter of state `mutex`";
    wait::until_true("the status tells of the wait", || {
        set.says("/status").contains(why)
    });
    let notes = set.client.eval("info().notes").display().to_owned();
    assert!(notes.contains(why), "{notes}");
    set.client.eval("revert(2)").ok();
    assert!(set.says("/states").contains("live=1;"));
    set.says("/release");
    wait::until_true("the state is as it was", || {
        set.says("/states").contains("mutex=1;")
    });
    wait::until_true("the status is as it was", || set.says("/status") == "running");
    assert_eq!(set.client.eval("leases().len()").display(), "0");
}
