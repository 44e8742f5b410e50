//! The single calls that end changes and list them. They must work while the log cannot be written, and while this client cannot
//! verify the agent.

use std::collections::BTreeMap;

use debug_wire::messages::EvalPayload;

/// Whether a payload may be answered without the position of its records: its code is one call of a function that the table marks
/// as `emergency`, with words, numbers and plain texts as arguments. Any other payload has its record before it runs.
///
/// The agent decides by the same rule on which thread it runs, and whether it runs while the log cannot be written.
pub(crate) fn may_wait(payload: &str) -> bool {
    let payload = EvalPayload::parse_short(payload).and_then(Result::ok);
    payload
        .and_then(|payload| payload.single_call())
        .is_some_and(|function| function.emergency)
}

/// Whether the code is one call of a function marked as `emergency`.
pub(crate) fn is_one_call(code: &str) -> bool {
    let (args, secret_args) = (BTreeMap::new(), BTreeMap::new());
    let code = code.to_owned();
    let payload = EvalPayload {
        code,
        args,
        secret_args,
        dry: false,
        reason: None,
        after: None,
    };
    payload.single_call().is_some_and(|function| function.emergency)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(code: &str) -> bool {
        may_wait(&json!({ "code": code }).to_string())
    }

    #[test]
    fn single_calls_that_work_without_a_log_may_wait_for_it() {
        for code in [
            "revert(id)",
            " revert_all ( ) ;\n",
            "leases()",
            "info()",
            "sessions()",
            "help(\"patch\")",
            "revert(3)",
        ] {
            assert!(of(code), "{code}");
        }
    }

    #[test]
    fn nothing_else_may() {
        for code in [
            "",
            "1",
            "leases",
            "points()",
            "confirm(id, ttl)",
            "change(reason)",
            "info(); patch(\"GET /\", |r| r)",
            "revert(set(\"a\", 1))",
            "leases() + reveal(\"a\")",
            "help(\"a.b\")",
            "help(\"a\", \"b\\\", set())",
            "help(`${set(\"a\", 1)}`)",
            "info(x.y)",
            "revert(,)",
        ] {
            assert!(!of(code), "{code}");
        }
        assert!(!may_wait("leases()"), "a payload is JSON");
    }
}
