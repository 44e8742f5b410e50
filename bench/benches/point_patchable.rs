//! An unpatched point, called in a loop. The argument is the number of calls; see `point_plain`.

use std::hint::black_box;

#[debug_agent::patchable]
#[inline(never)]
fn price(amount: u64) -> u64 {
    amount ^ 42
}

fn main() {
    for amount in 0..debug_bench::number_argument().unwrap_or(0) {
        black_box(price(black_box(amount)));
    }
}
