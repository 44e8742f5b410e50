use std::sync::atomic::Ordering;
use std::time::Duration;

use super::world::{AtomicU32, AtomicU64};

/// Failures in a row after which a patch is ended: without a success it only costs time.
const MAX_FAILURES_IN_A_ROW: u32 = 5;

/// Window over which time is summed, in seconds: long enough that one slow start does not trip the breaker.
const WINDOW_SECONDS: u64 = 10;

/// 5 % of one CPU over the window: a loss that pages no operator.
const MAX_SPENT: Duration = Duration::from_millis(WINDOW_SECONDS * 1000 / 20);

/// Time is counted in steps of 100 ns, rounded up: 32 bits of steps are 429 s, more than the window.
const STEP_NANOS: u128 = 100;

/// Why the breaker ended a patch.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Tripped {
    /// Too many failures in a row.
    #[error("the patch failed {MAX_FAILURES_IN_A_ROW} times in a row")]
    Failures,
    /// Too much time of the service's threads.
    #[error("the patch used more than 5 % of a CPU over {WINDOW_SECONDS} s")]
    Time,
}

/// Breaker of one layer. Called from any thread; never blocks.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures_in_a_row: AtomicU32,
    /// One cell per second of the window: the low 32 bits of the second, above the steps spent in it.
    seconds: [AtomicU64; WINDOW_SECONDS as usize],
}

impl Breaker {
    /// Records one call that ended at `second` (of the boot-time clock). Returns the reason if the layer must end.
    pub(crate) fn book(&self, second: u64, took: Duration, failed: bool) -> Option<Tripped> {
        let spent = self.spend(second, took);
        let failures = match failed {
            true => self
                .failures_in_a_row
                .fetch_add(1, Ordering::Relaxed)
                .saturating_add(1),
            false => {
                self.failures_in_a_row.store(0, Ordering::Relaxed);
                0
            }
        };
        if MAX_FAILURES_IN_A_ROW <= failures {
            Some(Tripped::Failures)
        } else if MAX_SPENT < spent {
            Some(Tripped::Time)
        } else {
            None
        }
    }

    /// Adds time to the current second; returns the sum over the window.
    fn spend(&self, second: u64, took: Duration) -> Duration {
        let steps = u32::try_from(took.as_nanos().div_ceil(STEP_NANOS)).unwrap_or(u32::MAX);
        let mut sum = 0u64;
        for (index, cell) in (0..).zip(&self.seconds) {
            if second % WINDOW_SECONDS == index {
                let add = |packed| Some(pack(second, steps_at(packed, second).saturating_add(steps)));
                let before = cell
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
                    .unwrap_or_else(|same| same);
                sum += u64::from(steps_at(before, second).saturating_add(steps));
            } else {
                let cell_second = second.saturating_sub((second + WINDOW_SECONDS - index) % WINDOW_SECONDS);
                sum += u64::from(steps_at(cell.load(Ordering::Relaxed), cell_second));
            }
        }
        Duration::from_nanos(sum.saturating_mul(100))
    }
}

/// The steps in a cell if it belongs to `second`; 0 if the cell is from an older second.
fn steps_at(packed: u64, second: u64) -> u32 {
    if packed >> 32 == second & 0xffff_ffff {
        (packed & 0xffff_ffff) as u32
    } else {
        0
    }
}

fn pack(second: u64, steps: u32) -> u64 {
    (second & 0xffff_ffff) << 32 | u64::from(steps)
}
