use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::*;
use crate::MAX_CODE;
use crate::frame::encode;
use crate::json::from_str;
use crate::table;

/// Asserts that the value serializes to that text and parses back, and that one more member is refused.
#[track_caller]
fn golden<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T, text: &str) {
    assert_eq!(serde_json::to_string(value).unwrap(), text);
    assert_eq!(&from_str::<T>(text).unwrap(), value);
    let more = match text {
        "{}" => r#"{"surplus":1}"#.to_owned(),
        _ => format!("{},\"surplus\":1}}", text.strip_suffix('}').unwrap()),
    };
    let error = from_str::<T>(&more).unwrap_err().to_string();
    assert!(error.contains("unknown member `surplus`"), "{error}");
}

fn lease() -> LeaseSummary {
    LeaseSummary {
        id: 1,
        target: "point:GET /".to_owned(),
        state: "provisional".to_owned(),
        remaining_ms: 300_000,
    }
}

fn range() -> AuditRange {
    AuditRange {
        eval: 7,
        first: 7,
        last: 9,
        checkpoint: "note".to_owned(),
    }
}

const LEASE: &str = r#"{"id":1,"target":"point:GET /","state":"provisional","remaining_ms":300000}"#;
const RANGE: &str = r#"{"eval":7,"first":7,"last":9,"checkpoint":"note"}"#;

#[test]
fn what_opens_a_session_is_written_as_documented() {
    let ready = Ready {
        protocol: 1,
        version: "0.1.0".to_owned(),
        service: "shop".to_owned(),
        instance: "one".to_owned(),
        environment: "production".to_owned(),
        origin: "example.org/shop/one/0123456789abcdef".to_owned(),
    };
    golden(
        &ready,
        r#"{"protocol":1,"version":"0.1.0","service":"shop","instance":"one","environment":"production","origin":"example.org/shop/one/0123456789abcdef"}"#,
    );
    golden(
        &HelloParams {
            version: "0.1.0".to_owned(),
            checkpoint: 12,
            attach: false,
        },
        r#"{"version":"0.1.0","checkpoint":12}"#,
    );
    golden(
        &HelloParams {
            version: "0.1.0".to_owned(),
            checkpoint: 12,
            attach: true,
        },
        r#"{"version":"0.1.0","checkpoint":12,"attach":true}"#,
    );
    let result = HelloResult {
        checkpoint: "note".to_owned(),
        consistency: vec!["aGFzaA==".to_owned()],
        operator: "spiffe://example.org/operator/alice".to_owned(),
        roles: vec!["oncall".to_owned()],
        session: 3,
        resumed: vec![lease()],
        in_force: InForce {
            count: 2,
            shortest_ms: Some(1_500),
        },
        process: Process { pid: 17, began: 5 },
    };
    golden(
        &result,
        &format!(
            r#"{{"checkpoint":"note","consistency":["aGFzaA=="],"operator":"spiffe://example.org/operator/alice","roles":["oncall"],"session":3,"resumed":[{LEASE}],"in_force":{{"count":2,"shortest_ms":1500}},"process":{{"pid":17,"began":5}}}}"#
        ),
    );
    golden(&NoParams {}, "{}");
    let ping = PingResult {
        in_force: InForce::default(),
        ended: Vec::new(),
        failing: Vec::new(),
    };
    golden(&ping, r#"{"in_force":{"count":0,"shortest_ms":null}}"#);
    let (target, how) = ("state:config.db.port".to_owned(), "expired".to_owned());
    let ended = EndedLease {
        id: 3,
        target,
        how,
        why: String::new(),
    };
    let ping = PingResult {
        ended: vec![
            ended.clone(),
            EndedLease {
                why: "late".to_owned(),
                ..ended
            },
        ],
        ..ping
    };
    golden(
        &ping,
        r#"{"in_force":{"count":0,"shortest_ms":null},"ended":[{"id":3,"target":"state:config.db.port","how":"expired"},{"id":3,"target":"state:config.db.port","how":"expired","why":"late"}]}"#,
    );
}

#[test]
fn an_eval_is_written_as_documented() {
    let payload = EvalPayload {
        code: "1 + 1".to_owned(),
        args: BTreeMap::new(),
        secret_args: BTreeMap::new(),
        dry: false,
        reason: None,
        after: None,
    };
    golden(&payload, r#"{"code":"1 + 1"}"#);
    let full = EvalPayload {
        args: BTreeMap::from([("id".to_owned(), json!(3))]),
        secret_args: BTreeMap::from([("token".to_owned(), "00ff".to_owned())]),
        dry: true,
        reason: Some("INC-42".to_owned()),
        after: Some(After::Revert),
        ..payload
    };
    golden(
        &full,
        r#"{"code":"1 + 1","args":{"id":3},"secret_args":{"token":"00ff"},"dry":true,"reason":"INC-42","after":"revert"}"#,
    );
    assert_eq!(
        serde_json::to_string(&[After::Revert, After::Persist, After::Hold]).unwrap(),
        r#"["revert","persist","hold"]"#
    );
    let params = EvalParams {
        payload: r#"{"code":"1"}"#.to_owned(),
        sig: "c2ln".to_owned(),
        secrets: BTreeMap::new(),
    };
    golden(&params, r#"{"payload":"{\"code\":\"1\"}","sig":"c2ln"}"#);
    let secret = SecretArgument {
        value: "v".to_owned(),
        salt: "s".to_owned(),
    };
    golden(&secret, r#"{"value":"v","salt":"s"}"#);
    let params = EvalParams {
        secrets: BTreeMap::from([("token".to_owned(), secret)]),
        ..params
    };
    golden(
        &params,
        r#"{"payload":"{\"code\":\"1\"}","sig":"c2ln","secrets":{"token":{"value":"v","salt":"s"}}}"#,
    );
    assert!(
        !format!("{params:?}").contains("\"v\""),
        "the value of a secret is not shown"
    );
    let result = EvalResult {
        value: json!(2),
        display: "2".to_owned(),
        leases: vec![lease()],
        in_force: InForce::default(),
        mode: Mode::Change,
        audit: Some(range()),
        warnings: vec!["not yet on disk".to_owned()],
    };
    golden(
        &result,
        &format!(
            r#"{{"value":2,"display":"2","leases":[{LEASE}],"in_force":{{"count":0,"shortest_ms":null}},"mode":"change","audit":{RANGE},"warnings":["not yet on disk"]}}"#
        ),
    );
    golden(&lease(), LEASE);
    golden(&range(), RANGE);
    golden(
        &Output {
            id: 4,
            text: "hi\n".to_owned(),
        },
        r#"{"id":4,"text":"hi\n"}"#,
    );
    golden(&CancelParams { id: 4 }, r#"{"id":4}"#);
}

#[test]
fn proofs_are_written_as_documented() {
    golden(
        &ProofParams {
            index: Some(3),
            from: None,
            size: 9,
        },
        r#"{"index":3,"size":9}"#,
    );
    golden(
        &ProofParams {
            index: None,
            from: Some(4),
            size: 9,
        },
        r#"{"from":4,"size":9}"#,
    );
    golden(
        &ProofResult {
            hashes: vec!["aA==".to_owned()],
            record: None,
        },
        r#"{"hashes":["aA=="]}"#,
    );
    golden(
        &ProofResult {
            hashes: Vec::new(),
            record: Some("{}".to_owned()),
        },
        r#"{"hashes":[],"record":"{}"}"#,
    );
    golden(
        &CheckpointResult {
            checkpoint: "note".to_owned(),
        },
        r#"{"checkpoint":"note"}"#,
    );
}

#[test]
fn what_the_agent_sends_is_written_as_documented() {
    golden(
        &FromAgent::success(1, &json!({"a": 1})),
        r#"{"jsonrpc":"2.0","id":1,"result":{"a":1}}"#,
    );
    golden(
        &FromAgent::success(1, &()),
        r#"{"jsonrpc":"2.0","id":1,"result":null}"#,
    );
    golden(
        &FromAgent::failure(2, Code::Denied, "denied", "ask"),
        r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32003,"message":"denied","data":{"code":"denied","help":"ask"}}}"#,
    );
    golden(
        &FromAgent::failure(None, Code::Parse, "no", ""),
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no","data":{"code":"parse"}}}"#,
    );
    golden(
        &FromAgent::notification(
            "output",
            &Output {
                id: 1,
                text: "x".to_owned(),
            },
        )
        .unwrap(),
        r#"{"jsonrpc":"2.0","method":"output","params":{"id":1,"text":"x"}}"#,
    );
    let mut failure = Failure::new(Code::Eval, "no", "");
    failure.data.audit = Some(range());
    golden(
        &failure,
        &format!(r#"{{"code":-32005,"message":"no","data":{{"code":"eval","audit":{RANGE}}}}}"#),
    );
    golden(&failure.data, &format!(r#"{{"code":"eval","audit":{RANGE}}}"#));
    let no_json = BTreeMap::from([((1, 2), 3)]);
    assert!(matches!(
        FromAgent::success(1, &no_json),
        FromAgent::Failure { id: Some(1), .. }
    ));
    assert!(FromAgent::notification("output", &no_json).is_err());
}

#[test]
fn a_client_takes_exactly_one_form() {
    let error = r#"{"code":-32700,"message":"no","data":{"code":"parse"}}"#;
    for text in [
        format!(r#"{{"jsonrpc":"2.0","id":1,"result":1,"error":{error}}}"#),
        format!(r#"{{"jsonrpc":"2.0","error":{error}}}"#),
        r#"{"jsonrpc":"2.0","id":1}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":null,"result":1}"#.to_owned(),
        r#"{"jsonrpc":"2.0","result":1}"#.to_owned(),
        r#"{"id":1,"result":1}"#.to_owned(),
        r#"{"jsonrpc":"1.0","id":1,"result":1}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"result":1,"method":"ready","params":{}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","method":"ready"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"ready","params":{}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":-1,"result":1}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"id":1,"result":1}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no","data":{"code":"parse"}}}"#
            .to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32700,"message":"no"}}"#.to_owned(),
        r#"[{"jsonrpc":"2.0","id":1,"result":1}]"#.to_owned(),
        "null".to_owned(),
        String::new(),
    ] {
        assert!(FromAgent::parse(text.as_bytes()).is_err(), "{text}");
    }
    assert_eq!(FromAgent::parse(b"{\"\xff\"").unwrap_err().offset, 2);
    let deep = format!("{}{}", "[".repeat(64), "]".repeat(64));
    let reply = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"value":{deep}}}}}"#);
    assert!(
        FromAgent::parse(reply.as_bytes()).is_ok(),
        "values of a service nest deeper than calls"
    );
}

#[test]
fn codes_have_the_numbers_of_the_specification_and_no_two_the_same() {
    let all = [
        Code::Parse,
        Code::Method,
        Code::Params,
        Code::Signature,
        Code::Order,
        Code::Denied,
        Code::NeedsApproval,
        Code::Eval,
        Code::Limit,
        Code::Cancelled,
        Code::Audit,
        Code::State,
        Code::Internal,
    ];
    let numbers: std::collections::HashSet<_> = all.iter().map(|code| code.number()).collect();
    assert_eq!(numbers.len(), all.len());
    let words = r#"["parse","method","params","signature","order","denied","needs_approval","eval","limit","cancelled","audit","state","internal"]"#;
    assert_eq!(serde_json::to_string(&all).unwrap(), words);
    assert_eq!(all.map(Code::number)[..3], [-32700, -32601, -32602]);
}

#[test]
fn a_call_is_read_and_its_parameters_are() {
    let call = Call::parse(br#"{"jsonrpc":"2.0","id":5,"method":"cancel","params":{"id":4}}"#).unwrap();
    assert_eq!(call.params::<CancelParams>().unwrap(), CancelParams { id: 4 });
    assert_eq!(
        call,
        Call::new(5, MethodId::Cancel, &CancelParams { id: 4 }).unwrap()
    );
    golden(
        &call,
        r#"{"jsonrpc":"2.0","id":5,"method":"cancel","params":{"id":4}}"#,
    );
    let ping = Call::parse(br#"{"jsonrpc":"2.0","id":18446744073709551615,"method":"ping"}"#).unwrap();
    assert_eq!(ping, Call::new(u64::MAX, MethodId::Ping, &()).unwrap());
    assert_eq!(ping.params::<NoParams>().unwrap(), NoParams {});
    golden(
        &ping,
        r#"{"jsonrpc":"2.0","id":18446744073709551615,"method":"ping"}"#,
    );
    assert_eq!(Call::parse(&encode(&ping).unwrap()).unwrap(), ping);
}

#[track_caller]
fn refused(line: &str, code: Code, words: &str) {
    let failure = Call::parse(line.as_bytes()).unwrap_err();
    assert_eq!(
        (failure.data.code, failure.code),
        (code, code.number()),
        "{failure:?}"
    );
    assert!(
        format!("{} {}", failure.message, failure.data.help).contains(words),
        "{failure:?}"
    );
}

#[test]
fn what_is_no_call_gets_its_answer() {
    refused("", Code::Parse, "no JSON");
    refused("GET / HTTP/1.1", Code::Parse, "no JSON");
    refused("1", Code::Parse, "not an object");
    refused(
        r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
        Code::Parse,
        "batches are not supported",
    );
    refused("[]", Code::Parse, "a line of its own");
    refused(
        r#"{"id":1,"method":"ping"}"#,
        Code::Parse,
        "`jsonrpc` is not `\"2.0\"`",
    );
    refused(
        r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#,
        Code::Parse,
        "`jsonrpc`",
    );
    for id in ["-1", "1.5", "\"1\"", "null", "1.0", "[]"] {
        refused(
            &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#),
            Code::Parse,
            "`id` is not a whole number",
        );
    }
    refused(r#"{"jsonrpc":"2.0","method":"ping"}"#, Code::Parse, "`id`");
    refused(
        r#"{"jsonrpc":"2.0","id":1}"#,
        Code::Parse,
        "`method` is not a string",
    );
    refused(
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","dry":true}"#,
        Code::Parse,
        "unknown member `dry`",
    );
    refused(
        r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#,
        Code::Parse,
        "`id` is there twice",
    );
    refused(
        r#"{"jsonrpc":"2.0","id":1,"method":"ping"} {}"#,
        Code::Parse,
        "no JSON",
    );
    refused(
        r#"{"jsonrpc":"2.0","id":1,"method":"shutdown"}"#,
        Code::Method,
        "audit.proof",
    );
    refused(
        r#"{"jsonrpc":"2.0","id":1,"method":"Ping"}"#,
        Code::Method,
        "unknown method `Ping`",
    );
    for params in ["null", "[]", "1", "\"x\""] {
        let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{params}}}"#);
        refused(&line, Code::Params, "not an object");
    }
    assert_eq!(
        Call::parse(b"\xff").unwrap_err().message,
        "the message is not UTF-8"
    );
}

#[test]
fn the_answer_to_a_refused_call_finds_its_id() {
    assert_eq!(Call::id_of(br#"{"jsonrpc":"2.0","id":9,"method":"x"}"#), Some(9));
    assert_eq!(Call::id_of(br#"{"id":9,"surplus":[]}"#), Some(9));
    for line in [
        "{",
        "[]",
        r#"{"id":"9"}"#,
        r#"{"id":1,"id":2}"#,
        r#"{"jsonrpc":"2.0"}"#,
    ] {
        assert_eq!(Call::id_of(line.as_bytes()), None, "{line}");
    }
}

#[test]
fn wrong_parameters_are_named_and_never_shown() {
    let message = |method: &str, params: Value| -> String {
        let call = Call::new(1, table::method(method).unwrap().id, &params).unwrap();
        let failure = match method {
            "eval" => call.params::<EvalParams>().unwrap_err(),
            "ping" => call.params::<NoParams>().unwrap_err(),
            _ => call.params::<HelloParams>().unwrap_err(),
        };
        assert_eq!(failure.data.code, Code::Params);
        failure.message
    };
    assert_eq!(
        message("hello", json!({})),
        "parameters of `hello`: missing member `version`"
    );
    assert_eq!(
        message("hello", Value::Null),
        "parameters of `hello`: missing member `version`"
    );
    assert_eq!(
        message("ping", json!({"a": 1})),
        "parameters of `ping`: unknown member `a`, there are no fields"
    );
    let text = message("hello", json!({"version": "1", "checkpoint": "hunter2"}));
    assert_eq!(
        text,
        "parameters of `hello`: invalid type: a string, expected a whole number"
    );
    let text = message(
        "eval",
        json!({"payload": "", "sig": "", "secrets": {"token": "hunter2"}}),
    );
    assert_eq!(
        text,
        "parameters of `eval`: invalid type: a string, expected an object"
    );
}

#[test]
fn a_payload_is_strict_and_bounded() {
    assert_eq!(EvalPayload::parse(r#"{"code":"1"}"#).unwrap().code, "1");
    for (text, words) in [
        (r#"{"code":"1","code":"2"}"#, "`code` is there twice"),
        (r#"{"code":"1","wet":true}"#, "unknown member `wet`"),
        (r#"{"code":"1","after":"never"}"#, "unknown variant `never`"),
        (r#"{"code":"\ud800"}"#, "surrogate"),
        (r#"{"code":"1","args":{"a":{"b":1,"b":1}}}"#, "`b` is there twice"),
        ("", "no JSON"),
    ] {
        let failure = EvalPayload::parse(text).unwrap_err();
        assert_eq!(failure.data.code, Code::Params);
        assert!(failure.message.contains(words), "{failure:?}");
    }
    let code = |n: usize| format!(r#"{{"code":"{}","args":{{"ab":[1]}}}}"#, "x".repeat(n));
    assert!(EvalPayload::parse(&code(MAX_CODE - 5)).is_ok());
    assert_eq!(
        EvalPayload::parse(&code(MAX_CODE - 4)).unwrap_err().data.code,
        Code::Limit
    );
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in any::<Vec<u8>>(), text in "[{\\[\"]?\\PC{0,30}[}\\]\"]?") {
        let _ = Call::parse(&bytes);
        let _ = FromAgent::parse(&bytes);
        let _ = Call::parse(text.as_bytes());
        let _ = EvalPayload::parse(&text);
    }
}
