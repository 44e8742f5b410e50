//! The runner of the performance table: each row compares a program with another program that is its limit.
//!
//! The ratio of two programs run in turns on one machine says more than a time: what slows the machine slows both. The median
//! leaves out disturbed runs.

mod programs;
mod rows;

use programs::Programs;

/// The default number of measurements of each side: odd, so that the median is a measured value.
pub(crate) const DEFAULT_RUNS: usize = 7;

/// One line of the table.
struct BenchRow {
    /// The name, such as `patched-call`.
    name: &'static str,
    /// The compared programs and the unit.
    about: &'static str,
    /// Our program.
    measured: Side,
    /// The lower limit.
    limit: Side,
    budget: RowBudget,
}

/// Measures one number; smaller is better.
type Side = fn(&Programs) -> Result<f64, String>;

/// How far a program may exceed its limit.
#[derive(Clone, Copy)]
enum RowBudget {
    /// At most this many times the limit.
    Times(f64),
    /// At most this much more, in the row's unit: where the limit is close to zero, a ratio says nothing.
    More(f64),
}

/// Measures the named rows, or all.
///
/// # Errors
/// A row is over its budget or cannot be measured, a name is unknown, or there is no row: then nothing was shown.
pub(crate) fn run(names: &[String], runs: usize) -> Result<(), String> {
    if let Some(name) = names
        .iter()
        .find(|name| !rows::ROWS.iter().any(|row| row.name == *name))
    {
        let known: Vec<_> = rows::ROWS.iter().map(|row| row.name).collect();
        return Err(format!(
            "bench failed: no row is named `{name}`; there are {}",
            known.join(", ")
        ));
    }
    let programs = Programs::build().map_err(|e| format!("bench failed: {e}"))?;
    warn_if_busy();
    let chosen = rows::ROWS
        .iter()
        .filter(|row| names.is_empty() || names.iter().any(|name| name == row.name));
    play(chosen, &programs, runs)
}

/// Warns when the machine is busy. A program that waits for a processor measures that wait: a limit that syncs then took 4 ms, a
/// tick of the scheduler, instead of 0.3 ms, and its row passed wrongly.
fn warn_if_busy() {
    let average = std::fs::read_to_string("/proc/loadavg").ok();
    if let Some(load) = average.as_deref().and_then(load).filter(|load| 1.0 <= *load) {
        println!(
            "warning: the load of the last minute was {load:.1}; if that was not the build just now, neither an \"ok\" \
             nor an \"OVER BUDGET\" of a time shows anything; counted instructions do"
        );
    }
}

/// The load average of the last minute: `0.52 0.58 0.59 1/389 4711`.
fn load(text: &str) -> Option<f64> {
    text.split(' ').next()?.parse().ok()
}

fn play<'a>(
    rows: impl Iterator<Item = &'a BenchRow>,
    programs: &Programs,
    runs: usize,
) -> Result<(), String> {
    let mut over = Vec::new();
    let mut count = 0;
    for row in rows {
        let result =
            measure(row, programs, runs).map_err(|e| format!("bench failed at row \"{}\": {e}", row.name))?;
        println!("{}: {}", row.name, row.about);
        println!("  {}", result.line(row.budget));
        count += 1;
        if !result.is_within(row.budget) {
            over.push(row.name);
        }
    }
    match (count, over.as_slice()) {
        (0, _) => Err("bench failed: this version has no rows to measure".into()),
        (_, []) => Ok(()),
        (_, over) => Err(format!("bench failed: over budget: {}", over.join(", "))),
    }
}

/// The medians of both sides.
struct Medians {
    measured: f64,
    limit: f64,
}

impl Medians {
    /// NaN is over budget: a comparison with it is false.
    fn is_within(&self, budget: RowBudget) -> bool {
        match budget {
            RowBudget::Times(times) => self.measured / self.limit <= times,
            RowBudget::More(more) => self.measured - self.limit <= more,
        }
    }

    fn line(&self, budget: RowBudget) -> String {
        let verdict = if self.is_within(budget) {
            "ok"
        } else {
            "OVER BUDGET"
        };
        let Self { measured, limit } = self;
        let compared = match budget {
            RowBudget::Times(times) => format!("ratio {:.3}, budget {times:.3}", measured / limit),
            RowBudget::More(more) => format!("{:.1} more, budget {more:.1} more", measured - limit),
        };
        format!("measured {measured:.1}, limit {limit:.1}, {compared}: {verdict}")
    }
}

/// Runs both sides in turns, `runs` times each, and returns the medians.
fn measure(row: &BenchRow, programs: &Programs, runs: usize) -> Result<Medians, String> {
    let (mut measured, mut limit) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        measured.push((row.measured)(programs)?);
        limit.push((row.limit)(programs)?);
    }
    let median = |values| median(values).ok_or("expected at least one run of each side, saw none");
    Ok(Medians {
        measured: median(measured)?,
        limit: median(limit)?,
    })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const EVEN: BenchRow = BenchRow {
        name: "even",
        about: "two and one",
        measured: |_| Ok(2.0),
        limit: |_| Ok(1.0),
        budget: RowBudget::Times(2.0),
    };
    const OVER: BenchRow = BenchRow {
        name: "over",
        measured: |_| Ok(2.1),
        ..EVEN
    };
    const BROKEN: BenchRow = BenchRow {
        name: "broken",
        limit: |_| Err("no disk".into()),
        ..EVEN
    };
    const NOTHING: BenchRow = BenchRow {
        name: "nothing",
        measured: |_| Ok(0.0),
        limit: |_| Ok(0.0),
        ..EVEN
    };

    fn check(rows: &[BenchRow], runs: usize) -> Result<(), String> {
        play(rows.iter(), &Programs::default(), runs)
    }

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn a_row_at_its_budget_is_in_order_and_above_it_is_not() {
        assert_eq!(check(&[EVEN], 3), Ok(()));
        assert_eq!(
            check(&[EVEN, OVER], 3),
            Err("bench failed: over budget: over".into())
        );
        assert_eq!(
            measure(&OVER, &Programs::default(), 1).unwrap().line(OVER.budget),
            "measured 2.1, limit 1.0, ratio 2.100, budget 2.000: OVER BUDGET"
        );
    }

    #[test]
    fn a_row_may_take_so_much_more_or_not() {
        let (within, over) = (RowBudget::More(1.0), RowBudget::More(0.9));
        assert_eq!(
            check(
                &[BenchRow {
                    budget: within,
                    ..EVEN
                }],
                1
            ),
            Ok(())
        );
        assert_eq!(
            Medians {
                measured: 2.0,
                limit: 1.0
            }
            .line(over),
            "measured 2.0, limit 1.0, 1.0 more, budget 0.9 more: OVER BUDGET"
        );
    }

    #[test]
    fn the_load_is_that_of_the_last_minute() {
        assert_eq!(load("0.52 0.58 0.59 1/389 4711\n"), Some(0.52));
        assert_eq!(load(""), None);
    }

    #[test]
    fn no_two_rows_share_a_name() {
        let names: std::collections::BTreeSet<_> = rows::ROWS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), rows::ROWS.len());
    }

    #[test]
    fn nothing_measured_is_a_failure() {
        assert_eq!(
            check(&[], 3),
            Err("bench failed: this version has no rows to measure".into())
        );
        assert!(check(&[EVEN], 0).is_err());
        assert_eq!(
            check(&[NOTHING], 3),
            Err("bench failed: over budget: nothing".into())
        );
    }

    #[test]
    fn a_side_that_cannot_be_measured_names_its_row() {
        assert_eq!(
            check(&[BROKEN], 3),
            Err("bench failed at row \"broken\": no disk".into())
        );
    }

    #[test]
    fn the_sides_take_turns() {
        static TURN: AtomicU32 = AtomicU32::new(0);
        let measured: Side = |_| {
            if TURN.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                Ok(1.0)
            } else {
                Err("twice".into())
            }
        };
        let limit: Side = |_| {
            if TURN.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                Err("twice".into())
            } else {
                Ok(1.0)
            }
        };
        assert_eq!(
            check(
                &[BenchRow {
                    measured,
                    limit,
                    ..EVEN
                }],
                5
            ),
            Ok(())
        );
    }

    #[test]
    fn an_unknown_row_is_named() {
        let error = run(&["speed".into()], 1).unwrap_err();
        assert!(
            error.starts_with("bench failed: no row is named `speed`; there are "),
            "{error}"
        );
    }
}
