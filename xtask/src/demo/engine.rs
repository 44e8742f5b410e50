//! Plays steps in order and reports exactly what failed.

use std::fmt;

/// One step of the demo.
pub(super) struct DemoStep<W> {
    /// The step's name in a failure and in the table of sabotages.
    pub(super) name: &'static str,
    /// What it shows, in one line.
    pub(super) about: &'static str,
    /// Does it, and checks the outcome.
    pub(super) run: fn(&mut W) -> Result<(), Unexpected>,
}

// A derive would require the same of `W`.
impl<W> Clone for DemoStep<W> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<W> Copy for DemoStep<W> {}

/// What a step expected, and what it saw instead.
#[derive(Debug, PartialEq)]
pub(super) struct Unexpected {
    expected: String,
    saw: String,
}

/// Makes the failure of a step.
pub(super) fn expected(expected: impl Into<String>, saw: impl Into<String>) -> Unexpected {
    Unexpected {
        expected: expected.into(),
        saw: saw.into(),
    }
}

/// A step that could not be tried.
impl From<String> for Unexpected {
    fn from(error: String) -> Self {
        expected("to be able to try it", error)
    }
}

/// Fails the step unless the outcome is as expected; `saw` is only called then.
pub(super) fn check(holds: bool, wanted: &str, saw: impl FnOnce() -> String) -> Result<(), Unexpected> {
    if holds {
        Ok(())
    } else {
        Err(expected(wanted, saw()))
    }
}

/// A step that failed.
#[derive(Debug, PartialEq)]
pub(super) struct StepFailed {
    /// Its name.
    pub(super) step: &'static str,
    /// Why.
    pub(super) unexpected: Unexpected,
}

impl fmt::Display for StepFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            step,
            unexpected: Unexpected { expected, saw },
        } = self;
        write!(
            f,
            "demo failed at step \"{step}\": expected {expected}, saw {}",
            one_line(saw)
        )
    }
}

/// The limit on the observed text in a failure, in characters: enough for an error of ours with its help.
const MAX_SAW: usize = 600;

/// The observed text on one line, bounded and without control characters: it comes from programs under test.
fn one_line(text: &str) -> String {
    let text = text.trim();
    let mut shown: String = text
        .chars()
        .take(MAX_SAW)
        .collect::<String>()
        .replace('\n', " / ");
    shown.retain(|c| !c.is_control());
    match text.chars().count() {
        0 => "nothing".into(),
        1..=MAX_SAW => shown,
        _ => shown + "…",
    }
}

/// Plays the steps up to the first that fails.
pub(super) fn play<W>(steps: &[DemoStep<W>], world: &mut W) -> Result<(), StepFailed> {
    for (index, DemoStep { name, about, run }) in steps.iter().enumerate() {
        println!("\n[{}/{}] {name}: {about}", index + 1, steps.len());
        run(world).map_err(|unexpected| StepFailed {
            step: name,
            unexpected,
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: DemoStep<u32> = DemoStep {
        name: "count",
        about: "adds one",
        run: |world| {
            *world += 1;
            check(*world < 3, "fewer than three", || world.to_string())
        },
    };

    #[test]
    fn the_first_step_that_fails_ends_the_demo() {
        let mut world = 0;
        let failed = play(
            &[
                COUNT,
                COUNT,
                DemoStep {
                    name: "third",
                    ..COUNT
                },
                COUNT,
            ],
            &mut world,
        )
        .unwrap_err();
        assert_eq!(
            failed.to_string(),
            "demo failed at step \"third\": expected fewer than three, saw 3"
        );
        assert_eq!(world, 3);
    }

    #[test]
    fn steps_that_succeed_are_all_played() {
        let mut world = 0;
        assert_eq!(play(&[COUNT, COUNT], &mut world), Ok(()));
        assert_eq!(world, 2);
    }

    #[test]
    fn what_was_seen_stays_on_one_line_within_bounds() {
        assert_eq!(one_line("a\nb\u{1b}[2J\n"), "a / b[2J");
        assert_eq!(one_line("  \n"), "nothing");
        assert_eq!(one_line(&"ä".repeat(700)), "ä".repeat(600) + "…");
        assert_eq!(one_line(&"ä".repeat(600)), "ä".repeat(600));
    }
}
