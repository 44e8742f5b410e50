//! The limit of `point_patchable`: the same loop over a function that is no point. The argument is the number of calls;
//! instructions are counted from outside, for two numbers of calls, so that only the calls remain.

use std::hint::black_box;

#[inline(never)]
fn price(amount: u64) -> u64 {
    amount ^ 42
}

fn main() {
    for amount in 0..debug_bench::number_argument().unwrap_or(0) {
        black_box(price(black_box(amount)));
    }
}
