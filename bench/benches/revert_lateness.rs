//! How late a patch ends, as seen by a client of the service that calls the patched route a thousand times a second while all
//! cores are busy. Prints microseconds: the 99th percentile of the times from a deadline to the first later call that the
//! original answered.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the measurement")]

use std::time::Duration;

use debug_bench::{Caller, Late, busy};
use debug_tests::{Certificates, Client, Service, wait};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

const ROUNDS: usize = 200;

/// Nanoseconds on the clock of deadlines.
fn boot_time() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}

/// The deadline of the newest lease, from the log.
fn deadline(certificates: &Certificates) -> u64 {
    let text = std::fs::read_to_string(certificates.audit().join("records-0.jsonl")).unwrap();
    let made = text
        .lines()
        .rev()
        .find(|line| line.contains("\"kind\":\"lease.made\""))
        .unwrap();
    serde_json::from_str::<Value>(made).unwrap()["lease"]["deadline_boot_ns"]
        .as_u64()
        .unwrap()
}

fn main() {
    let certificates = Certificates::new();
    let service = Service::start(&certificates);
    service.health();
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    client.eval(r#"change("a measurement")"#).ok();
    let _busy = busy();
    let mut caller = Caller::connect(service.http);
    let late: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let patch = r##"patch("GET /api/healthcheck", |req| #{ status: 418 }, #{ ttl: "100ms" })"##;
            client.eval(patch).ok();
            let deadline = deadline(&certificates);
            while caller.every_millisecond() == 418 {}
            let late = boot_time().saturating_sub(deadline);
            // The route answers as before as soon as the deadline has passed; the record of the end follows.
            wait::until_true("the lease has ended", || {
                client.eval("leases()").display() == "[]"
            });
            Duration::from_nanos(late)
        })
        .collect();
    println!("{}", Late::of(late));
}
