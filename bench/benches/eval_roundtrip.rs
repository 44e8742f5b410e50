//! A read-only eval on a running `dienstplan`, from signing it to having read its reply. Prints microseconds.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the measurement")]

use std::time::Instant;

use debug_tests::{Certificates, Client, Service};
use serde_json::json;

fn main() {
    let certificates = Certificates::new();
    let service = Service::start(&certificates);
    let mut client = Client::attach(service.agent(), &certificates.operator("alice"));
    let payload = json!({ "code": "config.db.host", "after": "revert" }).to_string();
    let mut signing = Vec::new();
    let whole = debug_bench::median_round(|| {
        let started = Instant::now();
        client.counter += 1;
        let sig = client.sign(client.counter, &payload);
        signing.push(started.elapsed());
        let reply = client.call("eval", json!({ "payload": payload, "sig": sig }));
        if reply.display() == r#""localhost""# {
            Ok(())
        } else {
            Err(reply)
        }
    });
    println!(
        "of that, the operator's signature: {:.1}",
        debug_bench::median_micros(signing).unwrap()
    );
    println!("{:.1}", whole.unwrap());
}
