//! The runner of the performance table: each row is a program measured against another that is its limit.
//!
//! A ratio of two programs run in turns on one machine says more than a time does: what slows the machine slows
//! both. The median leaves out the runs in which something else happened.

use std::process::Command;
use std::time::Duration;

use crate::process;

/// How often each side of a row is measured unless told otherwise: odd, so that the median is a measured value.
pub(crate) const DEFAULT_RUNS: usize = 7;
/// The longest a single run may take: ten times what a run should be made to take.
const RUN_LIMIT: Duration = Duration::from_secs(100);

/// One line of the table.
struct Row {
    /// Such as `patched-call`.
    name: &'static str,
    /// What is compared with what, and in which unit.
    about: &'static str,
    /// What we built.
    measured: Side,
    /// What it cannot be better than.
    limit: Side,
    /// The largest ratio of the first to the second that is in order.
    budget: f64,
}

/// Gives one number, smaller being better.
type Side = fn() -> Result<f64, String>;

/// The rows of this version.
const ROWS: &[Row] = &[];

/// Measures the rows named, or all.
///
/// # Errors
/// If a row is over its budget or cannot be measured; also if there is no row, as then nothing was shown.
pub(crate) fn run(names: &[String], runs: usize) -> Result<(), String> {
    if let Some(name) = names.iter().find(|name| !ROWS.iter().any(|row| row.name == *name)) {
        return Err(format!("bench failed: no row is named `{name}`"));
    }
    play(ROWS.iter().filter(|row| names.is_empty() || names.iter().any(|name| name == row.name)), runs)
}

fn play<'a>(rows: impl Iterator<Item = &'a Row>, runs: usize) -> Result<(), String> {
    let mut over = Vec::new();
    let mut count = 0;
    for row in rows {
        let result = measure(row, runs).map_err(|e| format!("bench failed at row \"{}\": {e}", row.name))?;
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
    fn ratio(&self) -> f64 {
        self.measured / self.limit
    }

    /// Not a number is over budget: a comparison with it is false.
    fn is_within(&self, budget: f64) -> bool {
        self.ratio() <= budget
    }

    fn line(&self, budget: f64) -> String {
        let verdict = if self.is_within(budget) { "ok" } else { "OVER BUDGET" };
        let Self { measured, limit } = self;
        format!(
            "measured {measured:.1}, limit {limit:.1}, ratio {:.3}, budget {budget:.3}: {verdict}",
            self.ratio()
        )
    }
}

/// Runs both sides in turns, `runs` times each, and takes the medians.
fn measure(row: &Row, runs: usize) -> Result<Medians, String> {
    let (mut measured, mut limit) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        measured.push((row.measured)()?);
        limit.push((row.limit)()?);
    }
    let median = |values| median(values).ok_or("expected at least one run of each side, saw none");
    Ok(Medians { measured: median(measured)?, limit: median(limit)? })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Runs a program whose last line of output is the number.
#[cfg_attr(not(test), expect(dead_code, reason = "for the rows, of which this version has none"))]
fn number_of(command: &mut Command) -> Result<f64, String> {
    let said = process::finish(command, RUN_LIMIT)?;
    let number = said.out.lines().last().and_then(|line| line.trim().parse::<f64>().ok());
    let expected =
        || format!("expected {} to end with a number, saw: {}", process::shown(command), said.all());
    number.filter(|n| said.code == Some(0) && n.is_finite()).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const EVEN: Row =
        Row { name: "even", about: "two and one", measured: || Ok(2.0), limit: || Ok(1.0), budget: 2.0 };
    const OVER: Row = Row { name: "over", measured: || Ok(2.1), ..EVEN };
    const BROKEN: Row = Row { name: "broken", limit: || Err("no disk".into()), ..EVEN };
    const NOTHING: Row = Row { name: "nothing", measured: || Ok(0.0), limit: || Ok(0.0), ..EVEN };

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn a_row_at_its_budget_is_in_order_and_above_it_is_not() {
        assert_eq!(play([EVEN].iter(), 3), Ok(()));
        assert_eq!(play([EVEN, OVER].iter(), 3), Err("bench failed: over budget: over".into()));
        assert_eq!(
            measure(&OVER, 1).unwrap().line(2.0),
            "measured 2.1, limit 1.0, ratio 2.100, budget 2.000: OVER BUDGET"
        );
    }

    #[test]
    fn nothing_measured_is_a_failure() {
        assert_eq!(play([].iter(), 3), Err("bench failed: this version has no rows to measure".into()));
        assert!(play([EVEN].iter(), 0).is_err());
        assert_eq!(play([NOTHING].iter(), 3), Err("bench failed: over budget: nothing".into()));
    }

    #[test]
    fn a_side_that_cannot_be_measured_names_its_row() {
        assert_eq!(play([BROKEN].iter(), 3), Err("bench failed at row \"broken\": no disk".into()));
    }

    #[test]
    fn the_sides_take_turns() {
        static TURN: AtomicU32 = AtomicU32::new(0);
        let measured: Side = || {
            if TURN.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) { Ok(1.0) } else { Err("twice".into()) }
        };
        let limit: Side = || {
            if TURN.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) { Err("twice".into()) } else { Ok(1.0) }
        };
        assert_eq!(play([Row { measured, limit, ..EVEN }].iter(), 5), Ok(()));
    }

    #[test]
    fn an_unknown_row_is_named() {
        assert_eq!(run(&["speed".into()], 1), Err("bench failed: no row is named `speed`".into()));
    }

    #[test]
    fn a_program_gives_the_number_of_its_last_line() {
        let sh = |script: &str| number_of(Command::new("sh").args(["-c", script]));
        assert_eq!(sh("echo warming up; echo 12.5"), Ok(12.5));
        assert!(sh("echo 12.5; exit 1").is_err());
        assert!(sh("echo fast").is_err());
        assert!(sh("echo inf").is_err());
    }
}
