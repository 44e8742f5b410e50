//! Deadlines run on `CLOCK_BOOTTIME`: it counts while the host is suspended, and ignores jumps of the wall clock.

use std::time::Duration;

use debug_policy::format_duration;
use rustix::time::{ClockId, clock_gettime};

/// Formats a duration for people: in whole seconds from ten seconds on.
pub fn roughly(duration: Duration) -> String {
    let whole = Duration::from_secs(duration.as_secs());
    format_duration(if whole < Duration::from_secs(10) {
        duration
    } else {
        whole
    })
}

/// A moment on `CLOCK_BOOTTIME`, in nanoseconds since the host booted.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct BootTime(pub u64);

impl BootTime {
    /// Now. One vDSO or system call.
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
        Self(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
    }

    /// The moment `duration` later; saturates.
    pub fn after(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)),
        )
    }

    /// The time since `earlier`; zero if that is in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The time from `now` until this moment; zero if it is past.
    pub fn remaining(self, now: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(now.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_reads_milliseconds_of_minutes() {
        for (millis, text) in [(114_373, "1m54s"), (10_001, "10s"), (9_999, "9s999ms"), (0, "0s")] {
            assert_eq!(roughly(Duration::from_millis(millis)), text);
        }
    }
}
