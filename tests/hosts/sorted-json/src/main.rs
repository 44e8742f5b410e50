//! `serde_json`'s maps stay sorted (no `preserve_order`) and its numbers 64 bits wide (no `arbitrary_precision`).
#![forbid(unsafe_code)]

use serde_json::Value;

const READ: &str =
    r#"{"b": 1, "a": 1e2, "d": 18446744073709551615, "c": {"z": 0.1000000000000000055, "y": -0}}"#;
const WRITTEN: &str = r#"{"a":100.0,"b":1,"c":{"y":-0.0,"z":0.1},"d":18446744073709551615}"#;

fn main() {
    #[cfg(feature = "agent")]
    let _agent = debug_agent::Agent::builder("sorted-json").start_from_env();

    let value: Value = serde_json::from_str(READ).expect("READ is JSON");
    let written = value.to_string();
    println!("{written}");
    assert_eq!(written, WRITTEN);
    println!("ok sorted-json");
}
