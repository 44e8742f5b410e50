//! For any bytes that an authenticated client sends, the worst outcome is a clear error and a closed connection.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use debug_tests::{Certificates, Client, Reply, Service, wait};
use serde_json::json;

struct Set {
    certificates: Certificates,
    service: Service,
}

impl Set {
    fn new() -> Self {
        let certificates = Certificates::new();
        let service = Service::start(&certificates);
        Self {
            certificates,
            service,
        }
    }

    fn attach(&self) -> Client {
        Client::attach(self.service.agent(), &self.certificates.operator("alice"))
    }

    /// The service is unharmed: it answers, also a new client.
    fn still_well(&self) {
        assert_eq!(self.service.health().status, 200);
        assert_eq!(self.attach().eval("6 * 7").display(), "42");
    }
}

/// T23.
#[test]
fn a_message_over_1_mib_closes_the_connection() {
    let set = Set::new();
    let mut client = set.attach();
    let long = vec![b'x'; (1 << 20) + 2];
    // The agent closes before everything is sent.
    drop(client.send_raw(&long));
    drop(client.send_raw(b"\n"));
    assert!(client.is_closed());
    set.still_well();
}

/// A signed eval that lacks only its final newline, then the end of the connection. The log must give the reason `why`.
#[track_caller]
fn unfinished(end: impl FnOnce(Client), why: &str) {
    let set = Set::new();
    let mut client = set.attach();
    let payload = json!({ "code": "\"never finished\"", "after": "revert" }).to_string();
    let sig = client.sign(1, &payload);
    let params = json!({ "payload": payload, "sig": sig });
    let line = json!({ "jsonrpc": "2.0", "id": 9, "method": "eval", "params": params });
    client.send_raw(line.to_string().as_bytes()).unwrap();
    end(client);
    let closed = wait::until("the end of the session is recorded", || {
        set.certificates
            .records()
            .lines()
            .find(|line| line.contains("session.close"))
            .map(str::to_owned)
    });
    assert!(closed.contains(why), "{closed}");
    set.still_well();
    let records = set.certificates.records();
    assert!(!records.contains("never finished"), "{records}");
    assert_eq!(
        records.matches("\"kind\":\"eval\"").count(),
        1,
        "that of `still_well`: {records}"
    );
}

#[test]
fn half_a_message_and_then_nothing_is_no_message() {
    unfinished(Client::vanish, "lost: the connection ended without saying so");
}

#[test]
fn half_a_message_and_then_goodbye_is_a_protocol_error() {
    unfinished(
        Client::close,
        "protocol error: the client closed inside a message",
    );
}

/// The counterpart of the two above: only the end of the line was missing there.
#[test]
fn half_a_message_and_then_the_other_half_is_one() {
    let set = Set::new();
    let mut client = set.attach();
    let payload = json!({ "code": "6 * 7", "after": "revert" }).to_string();
    let sig = client.sign(1, &payload);
    let params = json!({ "payload": payload, "sig": sig });
    let line = json!({ "jsonrpc": "2.0", "id": 9, "method": "eval", "params": params });
    client.send_raw(line.to_string().as_bytes()).unwrap();
    client.send_raw(b"\n").unwrap();
    assert_eq!(client.reply(9).unwrap().display(), "42");
}

#[test]
fn bytes_that_are_no_json_rpc_get_one_error_and_a_closed_connection() {
    let set = Set::new();
    let lines: [&[u8]; 7] = [
        b"hello\n",
        b"\xff\xfe\n",
        b"[]\n",
        b"[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]\n",
        b"{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"ping\"}\n",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"ping\"}\n",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":{\"a\":\"\\ud800\"}}\n",
    ];
    for line in lines {
        let mut client = set.attach();
        client.send_raw(line).unwrap();
        let error = client.read().unwrap();
        let said = error["error"]["message"].as_str().unwrap_or_default();
        assert!(!said.is_empty(), "{line:?}: {error}");
        assert!(client.is_closed(), "{line:?}");
    }
    set.still_well();
}

#[test]
fn an_unknown_method_is_named_and_the_known_ones_are_listed() {
    let set = Set::new();
    let mut client = set.attach();
    let reply = client.call("exec", json!({}));
    let (code, message) = reply.failed();
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("method", "unknown method `exec`")
    );
    let known: Vec<&str> = debug_wire::table::METHODS
        .iter()
        .map(|method| method.name)
        .collect();
    assert_eq!(
        reply.help(),
        format!("this version has the methods {}", known.join(", "))
    );
    client.call("ping", json!({})).ok();
}

#[test]
fn unknown_members_are_named() {
    let set = Set::new();
    let mut client = set.attach();
    let (code, message) = client.call("cancel", json!({ "id": 1, "force": true })).failed();
    assert_eq!(code, "params");
    assert!(message.contains("force"), "{message}");
    let id = client.start_payload(&json!({ "code": "1", "wet": true }));
    let (code, message) = client.reply(id).unwrap().failed();
    assert_eq!(code, "params");
    assert!(message.contains("wet"), "{message}");
}

#[test]
fn unknown_options_are_named_with_the_known_ones() {
    let set = Set::new();
    let mut client = set.attach();
    client.eval(r#"change("test")"#).ok();
    let reply = client.eval(r#"set("config.server.port", 1, #{ tttl: "5m" })"#);
    let (_, message) = reply.failed();
    assert!(
        message.contains("tttl") && message.contains("ttl, reason, over"),
        "{message}"
    );
}

/// Dispatch knows exactly the methods of the table.
#[test]
fn every_method_of_the_table_is_answered() {
    let set = Set::new();
    let identity = debug_tests::client::Identity::read(&set.certificates.operator("alice"));
    let mut client = Client::connect(set.service.agent(), Some(identity)).unwrap();
    for method in debug_wire::table::METHODS {
        let params = match method.name {
            "hello" => json!({ "version": "test", "checkpoint": 0 }),
            "eval" => {
                let payload = json!({ "code": "6 * 7" }).to_string();
                json!({ "sig": client.sign(1, &payload), "payload": payload })
            }
            "cancel" => json!({ "id": 1 }),
            "audit.proof" => json!({ "index": 0, "size": 1 }),
            _ => json!({}),
        };
        client.call(method.name, params).ok();
    }
}

/// T02.
#[test]
fn nothing_is_answered_before_hello() {
    let set = Set::new();
    for method in ["eval", "cancel", "ping", "audit.checkpoint", "audit.proof"] {
        let identity = debug_tests::client::Identity::read(&set.certificates.operator("alice"));
        let mut client = Client::connect(set.service.agent(), Some(identity)).unwrap();
        let (code, _) = client.call(method, json!({})).failed();
        assert_eq!(code, "order", "{method}");
    }
}

/// An eval right after `hello` is either out of order or recorded after its session: the log always knows its operator.
#[test]
fn an_eval_sent_with_hello_never_comes_before_its_session_in_the_log() {
    let set = Set::new();
    for _ in 0..20 {
        let identity = debug_tests::client::Identity::read(&set.certificates.operator("alice"));
        let mut client = Client::connect(set.service.agent(), Some(identity)).unwrap();
        let hello = client.start("hello", json!({ "version": "test", "checkpoint": 0 }));
        let eval = client.start_payload(&json!({ "code": "1", "after": "revert" }));
        // In either order.
        let mut answered = Vec::new();
        while answered.len() < 2 {
            let message = client.read().unwrap();
            answered.extend(message["id"].as_u64().filter(|id| [hello, eval].contains(id)));
        }
    }
    let mut known = std::collections::BTreeSet::new();
    for file in std::fs::read_dir(set.certificates.audit()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|e| e != "jsonl") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text.lines() {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            let session = record["session"].as_u64();
            match record["kind"].as_str() {
                Some("session.open") => known.extend(session),
                Some("eval") => assert!(known.contains(&session.unwrap()), "{line}"),
                _ => {}
            }
        }
    }
    assert_eq!(known.len(), 20);
}

#[test]
fn a_second_hello_is_out_of_order() {
    let set = Set::new();
    let (code, _) = set
        .attach()
        .call("hello", json!({ "version": "test", "checkpoint": 0 }))
        .failed();
    assert_eq!(code, "order");
}

/// The agent's first message tells the client where it is.
#[test]
fn the_agent_speaks_first_and_says_where_the_client_is() {
    let set = Set::new();
    let client = set.attach();
    let ready = &client.notifications[0];
    assert_eq!(ready["method"], "ready");
    assert_eq!(ready["params"]["service"], "dienstplan");
    assert!(
        client.origin.starts_with("dienstplan.internal/dienstplan/1/"),
        "{}",
        client.origin
    );
}

/// A wrong signature ends the session: its counter can no longer be trusted.
#[track_caller]
fn bad_signature(sig: impl FnOnce(&mut Client, &str) -> String) {
    let set = Set::new();
    let mut client = set.attach();
    client.eval("1").ok();
    let payload = json!({ "code": "2", "after": "revert" }).to_string();
    let sig = sig(&mut client, &payload);
    let (code, message) = client
        .call("eval", json!({ "payload": payload, "sig": sig }))
        .failed();
    assert_eq!(code, "signature", "{message}");
    assert!(client.is_closed());
    set.still_well();
}

#[test]
fn the_right_signature_is_accepted() {
    let set = Set::new();
    let mut client = set.attach();
    let payload = json!({ "code": "2" }).to_string();
    let sig = client.sign(1, &payload);
    client
        .call("eval", json!({ "payload": payload, "sig": sig }))
        .ok();
}

#[test]
fn a_signature_over_another_payload_is_refused() {
    bad_signature(|client, _| client.sign(2, r#"{"code":"3"}"#));
}

#[test]
fn a_replayed_counter_is_refused() {
    bad_signature(|client, payload| client.sign(1, payload));
}

#[test]
fn a_skipped_counter_is_refused() {
    bad_signature(|client, payload| client.sign(3, payload));
}

#[test]
fn garbage_as_a_signature_is_refused() {
    bad_signature(|_, _| "AAAA".to_owned());
}

#[test]
fn no_signature_is_refused() {
    let set = Set::new();
    let mut client = set.attach();
    let (code, message) = client
        .call("eval", json!({ "payload": "{\"code\":\"1\"}" }))
        .failed();
    assert_eq!(code, "params");
    assert!(message.contains("sig"), "{message}");
}

/// A valid signed eval of one connection, sent again on another.
#[test]
fn an_eval_of_another_connection_is_refused() {
    let set = Set::new();
    let payload = json!({ "code": "2" }).to_string();
    let first = set.attach();
    let sig = first.sign(1, &payload);
    let mut second = set.attach();
    let (code, _) = second
        .call("eval", json!({ "payload": payload, "sig": sig }))
        .failed();
    assert_eq!(code, "signature");
    assert!(second.is_closed());
}

/// A payload with this connection's exporter, signed by another operator with an equally good certificate.
#[test]
fn an_eval_that_somebody_else_signed_is_refused() {
    let bob = |set: &Set| debug_tests::client::Identity::read(&set.certificates.operator("bob"));
    let set = Set::new();
    let mut client = set.attach();
    let payload = json!({ "code": "2" }).to_string();
    let sig = base64(&bob(&set).sign(&client.message(1, &payload)));
    let (code, _) = client
        .call("eval", json!({ "payload": payload, "sig": sig }))
        .failed();
    assert_eq!(code, "signature");
    assert!(client.is_closed());
    // Bob's own connection accepts a signature that his key makes in this way.
    let mut his = Client::attach(set.service.agent(), &set.certificates.operator("bob"));
    let sig = base64(&bob(&set).sign(&his.message(1, &payload)));
    his.call("eval", json!({ "payload": payload, "sig": sig })).ok();
}

fn base64(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)
}

#[test]
fn cancelling_what_does_not_run_says_so() {
    let set = Set::new();
    let mut client = set.attach();
    assert_eq!(
        client.call("cancel", json!({ "id": 77 })).ok()["cancelled"],
        false
    );
}

/// Before or after the last effect: the answer to a cancellation is true.
#[test]
fn a_cancellation_is_told_the_truth() {
    let set = Set::new();
    let mut client = set.attach();
    client.eval(r#"change("a test")"#).ok();
    let count = |set: &Set| {
        set.certificates
            .records()
            .matches("\"kind\":\"lease.made\"")
            .count()
    };
    let (mut cancelled, mut done) = (0, 0);
    for round in 0..100 {
        let made = count(&set);
        // Cancelled at once, or a moment later, while its end is recorded.
        let code = format!("config.db.port = {}; let marker = {round}", 6_000 + round);
        let id = client.start_payload(&json!({ "code": code, "after": "revert" }));
        if round % 3 > 0 {
            wait::until_true("it has changed something", || made < count(&set));
        }
        let cancel = client.start("cancel", json!({ "id": id }));
        let (mut answer, mut reply) = (None, None);
        while answer.is_none() || reply.is_none() {
            let message = client.read().unwrap();
            match &message["id"] {
                at if *at == json!(cancel) => {
                    answer = Some(message["result"]["cancelled"].as_bool().unwrap())
                }
                at if *at == json!(id) => reply = Some(Reply(message)),
                _ => {}
            }
        }
        let (reply, open) = (reply.unwrap(), client.eval("leases().len()").display() != "0");
        match answer.unwrap() {
            true => {
                assert_eq!(reply.failed().0, "cancelled", "round {round}");
                assert!(!open, "round {round}: it was cancelled and changed something");
                cancelled += 1;
            }
            false => {
                assert_eq!(reply.ok()["leases"].as_array().unwrap().len(), 1, "round {round}");
                assert!(open, "round {round}: it was done and changed nothing");
                assert_eq!(client.eval("marker").display(), round.to_string());
                client.eval("revert_all()").ok();
                done += 1;
            }
        }
    }
    assert!(cancelled > 0 && done > 0, "{cancelled} {done}");
}

/// A single call that keeps or ends changes is cancelled before it begins, or not at all.
#[test]
fn a_call_that_keeps_a_change_is_not_half_cancelled() {
    let set = Set::new();
    let mut client = set.attach();
    client.eval(r#"change("a test")"#).ok();
    client.eval("config.db.port = 1").ok();
    let mut done = 0;
    for round in 0..200 {
        let id = client.start_payload(&json!({ "code": "extend(1, \"6m\")", "after": "revert" }));
        let ping = (round % 2 > 0).then(|| client.call("ping", json!({})));
        let cancel = client.start("cancel", json!({ "id": id }));
        let (mut answer, mut reply) = (None, None);
        while answer.is_none() || reply.is_none() {
            let message = match client
                .notifications
                .iter()
                .position(|seen| seen["id"] == json!(id))
            {
                // The earlier ping was answered later.
                Some(at) => client.notifications.remove(at),
                None => client.read().unwrap(),
            };
            match &message["id"] {
                at if *at == json!(cancel) => {
                    answer = Some(message["result"]["cancelled"].as_bool().unwrap())
                }
                at if *at == json!(id) => reply = Some(Reply(message)),
                _ => {}
            }
        }
        let succeeded = reply.unwrap().0.get("result").is_some();
        assert_ne!(answer.unwrap(), succeeded, "round {round}, {ping:?}");
        done += u32::from(succeeded);
    }
    assert!(done > 0);
}

#[test]
fn a_running_eval_is_cancelled() {
    let set = Set::new();
    let mut client = set.attach();
    // Each read takes long for the operations that it costs: these would run for seconds, until the limit.
    let id = client.start_payload(&json!({ "code": "loop { get(\"config\"); }" }));
    wait::until_true("it runs", || {
        set.certificates.records().contains("\"function\":\"get\"")
    });
    client.call("cancel", json!({ "id": id })).ok();
    let (code, _) = client.reply(id).unwrap().failed();
    assert_eq!(code, "cancelled");
    let records = set.certificates.records();
    let outcome = records
        .lines()
        .find(|line| line.contains("\"kind\":\"outcome\""))
        .unwrap();
    assert!(outcome.contains("\"code\":\"cancelled\""), "{outcome}");
    assert_eq!(client.eval("1").display(), "1");
}
