//! What the programs under `benches/` share. Each prints one number as its last line, smaller being better;
//! `cargo xtask bench` runs a measured program and its limit in turns and compares.
//!
//! A limit is a program of under 60 lines that does what cannot be left out, and nothing else.

use std::time::{Duration, Instant};

/// The closure that stands behind the point of `patched_call`, and in the bare engine of `patched_limit`: a
/// comparison of texts, a branch and some arithmetic, as in a patch that somebody types in an incident.
pub const PATCH: &str = r#"|amount, customer| if customer == "anna" { amount * 9 / 10 } else { amount }"#;
/// How often the patched function is called: 200 ms or so, because the agent ends a patch that uses more than
/// 500 ms in 10 s.
pub const PATCHED_CALLS: u32 = 40_000;
/// How many calls come before those, so that caches are warm.
pub const WARM_CALLS: u32 = 2_000;
/// How many round trips are measured.
const ROUNDS: usize = 1_000;
/// How many round trips come before those.
const WARM_ROUNDS: usize = 100;
/// How many bytes `eval_limit` writes at once and sends each way: a read-only eval writes 1,230 bytes to the log in
/// all; its call has 220 bytes and its reply 410.
pub const RECORD: usize = 600;

/// The first number on the command line. Cargo adds words of its own.
pub fn number_argument() -> Option<u64> {
    std::env::args().skip(1).find_map(|word| word.parse().ok())
}

/// Makes round trips and gives the median of their times, in microseconds.
///
/// # Errors
/// That of the first round trip that fails.
pub fn median_round<E>(mut round: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    let mut times = Vec::with_capacity(WARM_ROUNDS + ROUNDS);
    for _ in 0..WARM_ROUNDS + ROUNDS {
        let started = Instant::now();
        round()?;
        times.push(started.elapsed());
    }
    Ok(median_micros(times.split_off(WARM_ROUNDS)).unwrap_or(f64::NAN))
}

/// The median of some times, in microseconds; nothing of none.
pub fn median_micros(mut times: Vec<Duration>) -> Option<f64> {
    times.sort_unstable();
    times.get(times.len() / 2).map(|time| time.as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_a_measured_time() {
        let millis = |millis| Duration::from_millis(millis);
        assert_eq!(median_micros(vec![millis(9), millis(1), millis(2)]), Some(2000.0));
        assert_eq!(median_micros(Vec::new()), None);
    }
}
