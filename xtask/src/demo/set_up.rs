//! The steps before the first request: programs, certificates, the service.

use super::engine::{DemoStep, Unexpected, check};
use super::sabotage::Sabotage;
use super::world::DemoWorld;
use crate::process::{PROGRAMS, cargo};
use crate::progress;

/// The steps, in order.
pub(super) const STEPS: &[DemoStep<DemoWorld>] = &[
    DemoStep {
        name: "build",
        about: "the service and the client",
        run: build,
    },
    DemoStep {
        name: "certificates",
        about: "one command makes a working set; a second operator only looks on",
        run: certificates,
    },
    DemoStep {
        name: "start",
        about: "the service, with the agent switched on by its environment",
        run: start,
    },
];

fn build(world: &mut DemoWorld) -> Result<(), Unexpected> {
    let mut command = cargo();
    command.args(PROGRAMS).current_dir(&world.root);
    if world.is(Sabotage::ProgramMissing) {
        command.args(["--bin", "no-such-program"]);
    }
    let built = progress::build(&mut command);
    check(built.is_ok(), "both programs to build", || {
        built.err().unwrap_or_default()
    })
}

fn certificates(world: &mut DemoWorld) -> Result<(), Unexpected> {
    let set = world.set();
    let role = if world.is(Sabotage::RoleMisspelt) {
        "on call!"
    } else {
        "oncall"
    };
    let listen = world.agent.to_string();
    let mut init = world.program("debugctl");
    init.args(["certs", "init"])
        .arg(&set)
        .args(["--service", "dienstplan", "--operator", "alice"]);
    let said = world.show(init.args(["--role", role, "--listen", &listen]))?;
    check(said.code == Some(0), "a working set of certificates", || {
        said.all()
    })?;
    let viewer = if world.is(Sabotage::ViewerAllowed) {
        "oncall"
    } else {
        "viewer"
    };
    issue(world, "vera", viewer)?;
    if world.is(Sabotage::SecretShown) {
        issue(world, "lea", "lead")?;
    }
    Ok(())
}

fn issue(world: &DemoWorld, operator: &str, role: &str) -> Result<(), Unexpected> {
    let mut command = world.program("debugctl");
    command
        .args(["certs", "issue"])
        .arg(world.set())
        .args(["--operator", operator, "--role", role]);
    let said = world.show(&mut command)?;
    check(said.code == Some(0), "a certificate", || said.all())
}

fn start(world: &mut DemoWorld) -> Result<(), Unexpected> {
    let started = world.start_service(!world.is(Sabotage::AgentOff));
    check(
        started.is_ok(),
        "the line `listening on` in the service's log",
        || started.err().unwrap_or_default(),
    )?;
    world.pid = world.service()?.program.id();
    Ok(())
}
