//! Points, sync and async, under `forbid(unsafe_code)`; unpatched, they behave as written.
#![forbid(unsafe_code)]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

#[cfg_attr(feature = "agent", debug_agent::patchable)]
fn doubled(number: i64) -> i64 {
    number * 2
}

#[cfg_attr(feature = "agent", debug_agent::patchable)]
fn checked(text: &str) -> Result<u8, std::num::ParseIntError> {
    text.parse()
}

#[cfg_attr(feature = "agent", debug_agent::patchable)]
async fn greeting(name: String) -> String {
    format!("hello {name}")
}

fn main() {
    #[cfg(feature = "agent")]
    let _agent = debug_agent::Agent::builder("forbid-unsafe").start_from_env();

    assert_eq!(doubled(21), 42);
    assert_eq!(checked("7"), Ok(7));
    assert!(checked("seven").is_err());
    let greeted = pin!(greeting("anna".into())).poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(greeted, Poll::Ready("hello anna".into()));
    println!("ok forbid-unsafe");
}
