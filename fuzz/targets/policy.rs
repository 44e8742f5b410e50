//! A policy file: an accepted policy decides a request and decides it the same way again; a policy without an allow rule allows
//! nothing.
#![no_main]

use debug_policy::{Decision, Policy, Request, parse_duration};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &str| {
    // The policy, and after a zero byte a request.
    let (text, request) = data.split_once('\0').unwrap_or((data, ""));
    let _ = parse_duration(text);
    let Ok(policy) = Policy::parse(text) else { return };
    let Ok(request) = serde_json::from_str::<Request>(request) else {
        return;
    };
    let decision = policy.decide(&request);
    assert_eq!(decision, policy.decide(&request));
    assert!(text.contains("allow") || matches!(decision, Decision::Deny(_)));
});
