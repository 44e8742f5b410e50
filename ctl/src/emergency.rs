//! Which evals are answered before they are in the log: the single calls that must work while it cannot be written.

use debug_wire::messages::EvalPayload;
use debug_wire::table;

/// Whether a payload may be answered without saying where its records are: its code is one call of a function that the
/// table marks so, with words, numbers and plain texts as arguments. Everything else has its record before it runs.
///
/// Stricter than the agent, which has parsed the code: what is let through here is let off a proof.
pub(crate) fn may_wait(payload: &str) -> bool {
    let Ok(payload) = EvalPayload::parse(payload) else { return false };
    let code = payload.code.trim();
    let code = code.strip_suffix(';').unwrap_or(code).trim_end();
    let call = code.split_once('(').and_then(|(name, rest)| Some((name.trim_end(), rest.strip_suffix(')')?)));
    let Some((name, arguments)) = call else { return false };
    table::function(name).is_some_and(|function| function.emergency)
        && (arguments.trim().is_empty() || arguments.split(',').map(str::trim).all(is_plain))
}

fn is_plain(argument: &str) -> bool {
    let word = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let text = argument.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b" _-.:/".contains(&b));
    text.map_or(!argument.is_empty() && word(argument), plain)
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
