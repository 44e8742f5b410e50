//! The limit of `revert_lateness`: the client's own contribution. The same calls under the same load, and the time from any
//! moment to the first answer to a call that began after it. Prints microseconds.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the measurement")]

use std::time::{Duration, Instant};

use debug_bench::{Caller, Late, busy};
use debug_tests::{Certificates, Service};

const ROUNDS: usize = 200;
const TTL: Duration = Duration::from_millis(100);

fn main() {
    let service = Service::start(&Certificates::new());
    let _busy = busy();
    let mut caller = Caller::connect(service.http);
    let late: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let moment = Instant::now() + TTL;
            loop {
                let began = Instant::now();
                assert_eq!(caller.every_millisecond(), 200);
                if moment <= began {
                    return Instant::now() - moment;
                }
            }
        })
        .collect();
    println!("{}", Late::of(late));
}
