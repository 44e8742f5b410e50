//! Lines that are calls, and replies that are too long. Framing itself is tested in the wire's crate.

use debug_wire::MAX_MESSAGE;
use debug_wire::messages::FromAgent;
use serde_json::json;

use crate::codec::{encode, parse};

#[test]
fn what_is_no_call_is_refused() {
    assert!(parse(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).is_ok());
    for bad in [
        &b""[..],
        b"ping",
        b"\xff",
        br#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
        br#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
        br#"{"jsonrpc":"2.0","id":-1,"method":"ping"}"#,
        br#"{"jsonrpc":"2.0","id":1,"method":"ping","more":1}"#,
        br#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#,
    ] {
        assert!(parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
    }
}

#[test]
fn an_answer_that_is_too_long_becomes_a_failure_with_its_id() {
    let result = json!("x".repeat(MAX_MESSAGE));
    let line = encode(&FromAgent::Success {
        jsonrpc: Default::default(),
        id: 5,
        result,
    });
    let failure: serde_json::Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(failure["id"], 5);
    assert_eq!(failure["error"]["data"]["code"], "limit");
}
