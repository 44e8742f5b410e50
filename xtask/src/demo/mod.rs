//! `cargo xtask demo`: the README's scenario, played with the real service, the real client and real certificates.
//!
//! `--sabotage` introduces one fault, without a back door in any program. The demo must then fail at the step that has to notice
//! it: a demo that cannot fail shows nothing.

mod engine;
mod log_steps;
mod sabotage;
mod session;
mod set_up;
mod steps;
mod world;

use std::io::{self, IsTerminal};

use engine::{DemoStep, StepFailed};
use sabotage::Sabotage;
use world::DemoWorld;

/// The options of the command line.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Make one thing go wrong: the demo must fail at the step that notices it.
    #[arg(long, value_enum)]
    sabotage: Option<Sabotage>,
    /// Keep the folder with certificates, logs and the audit log.
    #[arg(long)]
    keep: bool,
}

/// The scenario.
fn scenario() -> Vec<DemoStep<DemoWorld>> {
    [set_up::STEPS, steps::STEPS, log_steps::STEPS].concat()
}

/// Plays the scenario; then hands over to the person at the terminal, if there is one.
///
/// # Errors
/// Names the failed step, what it expected and what it saw.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let world = play(options)?;
    if io::stdin().is_terminal() {
        world.hand_over()
    } else {
        Ok(())
    }
}

/// Plays the scenario and returns its world.
fn play(options: &Options) -> Result<DemoWorld, String> {
    let mut world = DemoWorld::new(options.sabotage, options.keep)?;
    let result = engine::play(&scenario(), &mut world);
    judge(options.sabotage, result)?;
    println!("\nall steps passed");
    Ok(world)
}

/// Judges the outcome of the scenario, given the sabotage.
fn judge(sabotage: Option<Sabotage>, result: Result<(), StepFailed>) -> Result<(), String> {
    let Some(sabotage) = sabotage else {
        return result.map_err(|failed| failed.to_string());
    };
    let noticed_by = sabotage.noticed_by();
    match result {
        Ok(()) => Err(format!(
            "nothing noticed the sabotage; expected step \"{noticed_by}\" to fail"
        )),
        Err(failed) if failed.step == noticed_by => Err(failed.to_string()),
        Err(failed) => Err(format!(
            "{failed}\nthe sabotage was to be noticed by step \"{noticed_by}\""
        )),
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn each_step_has_a_sabotage_that_it_notices() {
        for step in scenario() {
            let noticed = Sabotage::value_variants()
                .iter()
                .any(|sabotage| sabotage.noticed_by() == step.name);
            assert!(noticed, "no sabotage shows that step {} can fail", step.name);
        }
    }

    #[test]
    fn each_sabotage_is_noticed_by_a_step_that_there_is() {
        for sabotage in Sabotage::value_variants() {
            assert!(
                scenario().iter().any(|step| step.name == sabotage.noticed_by()),
                "{sabotage:?}"
            );
        }
    }

    #[test]
    fn no_two_steps_share_a_name() {
        let mut names: Vec<_> = scenario().iter().map(|step| step.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), scenario().len());
    }

    /// The demo without sabotage and without a person at a terminal.
    #[test]
    fn without_sabotage_every_step_passes() {
        play(&Options {
            sabotage: None,
            keep: false,
        })
        .map(drop)
        .unwrap();
    }

    /// Plays the demo once for each sabotage, with the real service and the real client.
    #[test]
    fn each_sabotage_fails_the_demo_at_the_step_that_must_notice_it() {
        for sabotage in Sabotage::value_variants() {
            let mut world = DemoWorld::new(Some(*sabotage), false).unwrap();
            match engine::play(&scenario(), &mut world) {
                Ok(()) => panic!("{sabotage:?} went unnoticed"),
                Err(failed) => assert_eq!(failed.step, sabotage.noticed_by(), "{sabotage:?}: {failed}"),
            }
        }
    }

    #[test]
    fn a_sabotage_never_ends_in_success() {
        let failed = |step| {
            Err(StepFailed {
                step,
                unexpected: engine::expected("200", "418"),
            })
        };
        let agent_off = Some(Sabotage::AgentOff);
        assert_eq!(judge(None, Ok(())), Ok(()));
        assert_eq!(
            judge(agent_off, Ok(())),
            Err("nothing noticed the sabotage; expected step \"attach\" to fail".into())
        );
        let told = "demo failed at step \"attach\": expected 200, saw 418";
        assert_eq!(judge(agent_off, failed("attach")), Err(told.into()));
        assert_eq!(
            judge(agent_off, failed("build")),
            Err("demo failed at step \"build\": expected 200, saw 418\nthe sabotage was to be noticed by step \"attach\"".into())
        );
    }
}
