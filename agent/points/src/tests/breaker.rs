use std::time::Duration;

use super::super::breaker::{Breaker, Tripped};

const MS: Duration = Duration::from_millis(1);

#[test]
fn five_failures_in_a_row_trip_it() {
    let breaker = Breaker::default();
    for _ in 0..4 {
        assert_eq!(breaker.book(7, MS, true), None);
    }
    assert_eq!(breaker.book(7, MS, true), Some(Tripped::Failures));
}

#[test]
fn a_success_between_starts_the_count_again() {
    let breaker = Breaker::default();
    for failed in [true, true, true, true, false, true, true, true, true] {
        assert_eq!(breaker.book(7, MS, failed), None);
    }
}

#[test]
fn more_than_half_a_second_within_ten_seconds_trips_it() {
    let breaker = Breaker::default();
    for second in 100..110 {
        assert_eq!(breaker.book(second, 50 * MS, false), None, "{second}");
    }
    assert_eq!(breaker.book(109, MS, false), Some(Tripped::Time));
}

#[test]
fn time_older_than_the_window_does_not_count() {
    let breaker = Breaker::default();
    assert_eq!(breaker.book(100, 400 * MS, false), None);
    assert_eq!(breaker.book(109, 100 * MS, false), None);
    assert_eq!(breaker.book(110, 400 * MS, false), None, "the second 100 is out");
    assert_eq!(
        breaker.book(119, 101 * MS, false),
        Some(Tripped::Time),
        "the second 110 is in"
    );
}

#[test]
fn a_window_before_the_tenth_second_after_boot_counts_once() {
    let breaker = Breaker::default();
    assert_eq!(breaker.book(0, 300 * MS, false), None);
    assert_eq!(breaker.book(3, 200 * MS, false), None);
    assert_eq!(breaker.book(3, MS, false), Some(Tripped::Time));
}

#[test]
fn one_call_longer_than_the_counter_is_counted_as_its_most() {
    assert_eq!(
        Breaker::default().book(5, Duration::from_secs(1_000_000), false),
        Some(Tripped::Time)
    );
}

#[test]
fn very_short_calls_are_not_forgotten() {
    let breaker = Breaker::default();
    let tripped = (0..6_000_000).any(|_| breaker.book(5, Duration::from_nanos(90), false).is_some());
    assert!(
        tripped,
        "6,000,000 calls of 90 ns, counted as 100 ns each, are 600 ms"
    );
}
