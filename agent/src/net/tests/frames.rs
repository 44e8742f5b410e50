//! Lines out of bytes.

use debug_wire::MAX_MESSAGE;
use debug_wire::messages::FromAgent;
use proptest::prelude::*;
use serde_json::json;

use crate::net::codec::{Decoder, encode, parse};

fn lines(decoder: &mut Decoder) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| decoder.next().unwrap()).collect()
}

proptest! {
    #[test]
    fn lines_are_the_same_however_the_bytes_are_cut(
        lines_in in prop::collection::vec("[a-z\\x00\\xff]{0,40}", 0..8),
        cut in 1_usize..50,
    ) {
        let bytes: Vec<u8> = lines_in.iter().flat_map(|l| [l.as_bytes(), b"\n"].concat()).collect();
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        for chunk in bytes.chunks(cut) {
            decoder.push(chunk);
            out.extend(lines(&mut decoder));
        }
        prop_assert!(decoder.finish());
        prop_assert_eq!(out, lines_in.into_iter().map(String::into_bytes).collect::<Vec<_>>());
    }
}

#[test]
fn a_line_may_be_as_long_as_a_message_and_no_longer() {
    let mut decoder = Decoder::default();
    decoder.push(&vec![b'x'; MAX_MESSAGE]);
    assert_eq!(decoder.next().unwrap(), None);
    assert!(!decoder.finish());
    decoder.push(b"\n");
    assert_eq!(decoder.next().unwrap().unwrap().len(), MAX_MESSAGE);

    decoder.push(&vec![b'x'; MAX_MESSAGE + 1]);
    assert!(decoder.next().is_err());
}

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
    let line = encode(&FromAgent::Success { jsonrpc: Default::default(), id: 5, result });
    let failure: serde_json::Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(failure["id"], 5);
    assert_eq!(failure["error"]["data"]["code"], "limit");
}
