//! The README's steps, and how they can fail.

use std::thread;
use std::time::{Duration, Instant};

use super::engine::{DemoStep, Unexpected, check, expected};
use super::sabotage::Sabotage;
use super::session::{AttachedTerminal, lease_number};
use super::world::{DemoLease, DemoWorld};
use crate::process::{POLL, Said, shown};
use crate::scratch::free_address;
use debug_kit::{SLACK_SIGN, SLACK_TOKEN, http};

/// The steps, in order.
pub(super) const STEPS: &[DemoStep<DemoWorld>] = &[
    DemoStep {
        name: "healthcheck-ok",
        about: "the service is well",
        run: healthcheck_ok,
    },
    DemoStep {
        name: "attach",
        about: "alice attaches over mutual TLS",
        run: attach,
    },
    DemoStep {
        name: "read-config",
        about: "the configuration of the running process",
        run: read_config,
    },
    DemoStep {
        name: "secret-opaque",
        about: "a secret is not printed",
        run: secret_opaque,
    },
    DemoStep {
        name: "patch-refused-in-observe",
        about: "a session changes nothing at first",
        run: refused_in_observe,
    },
    DemoStep {
        name: "change-and-patch",
        about: "the health check becomes a teapot, for 5 seconds",
        run: change_and_patch,
    },
    DemoStep {
        name: "teapot-418",
        about: "the patch answers",
        run: teapot,
    },
    DemoStep {
        name: "teapot-warning-in-service-log",
        about: "the patch's warning is in the service's log",
        run: warning,
    },
    DemoStep {
        name: "other-route-unaffected",
        about: "another route answers as before",
        run: other_route,
    },
    DemoStep {
        name: "same-process",
        about: "nothing was restarted",
        run: same_process,
    },
    DemoStep {
        name: "deadline-reverts",
        about: "nobody confirms, so the original is back in time",
        run: deadline,
    },
    DemoStep {
        name: "function-point",
        about: "a function is patched, and reverted by hand",
        run: function_point,
    },
    DemoStep {
        name: "viewer-denied",
        about: "vera may look, and change nothing",
        run: viewer_denied,
    },
];

/// The deadline of the health check's patch.
const TTL: Duration = Duration::from_secs(5);
/// How late its end may be observed: the service shares two cores with the rest of the machine.
const LATE: Duration = Duration::from_secs(3);
/// The deadline for the agent to listen.
const ATTACH_LIMIT: Duration = Duration::from_secs(15);
/// `debugctl` cannot connect, or does not trust the agent.
const EXIT_CONNECT: i32 = 5;
/// Policy or mode denies.
const EXIT_DENIED: i32 = 3;
/// The reason and options of alice's and vera's changes.
const CHANGE: &[&str] = &["--change", "--reason", "INC-42 healthcheck flaps", "--persist"];

/// The deadline for a line to reach the log of the service.
const LOG_LIMIT: Duration = Duration::from_secs(15);

fn healthcheck_ok(world: &mut DemoWorld) -> Result<(), Unexpected> {
    if world.is(Sabotage::NobodyListens) {
        world.service()?.http = free_address()?;
    }
    let answer = world.healthcheck();
    let well = answer
        .as_ref()
        .is_ok_and(|a| a.status == 200 && a.body == r#"{"status":"ok"}"#);
    check(well, "200 and {\"status\":\"ok\"}", || {
        answer.map_or_else(|e| e, |a| a.shown())
    })
}

fn attach(world: &mut DemoWorld) -> Result<(), Unexpected> {
    // The agent verifies its log before it listens, on a thread of its own, and the service does not wait for it.
    let not_yet = |said: &Said| said.code == Some(EXIT_CONNECT);
    let said = world.eval_once("alice", "info()", not_yet, ATTACH_LIMIT)?;
    let attached = said.code == Some(0) && said.out.contains("dienstplan");
    check(attached, "the agent of dienstplan to answer", || said.all())
}

fn read_config(world: &mut DemoWorld) -> Result<(), Unexpected> {
    let said = world.eval("alice", "config.db.host", &[])?;
    check(
        said.code == Some(0) && said.out.trim() == "\"localhost\"",
        "\"localhost\"",
        || said.all(),
    )
}

fn secret_opaque(world: &mut DemoWorld) -> Result<(), Unexpected> {
    let (operator, code) = if world.is(Sabotage::SecretShown) {
        ("lea", r#"reveal("config.slack.token")"#)
    } else {
        ("alice", "config.slack.token")
    };
    let said = world.eval(operator, code, &[])?;
    let shows_it = said.out.contains(SLACK_TOKEN) || said.err.contains(SLACK_TOKEN);
    let opaque = said.code == Some(0) && said.out.contains("‹secret") && !shows_it;
    check(opaque, "‹secret …› and nothing of the token", || said.all())
}

fn refused_in_observe(world: &mut DemoWorld) -> Result<(), Unexpected> {
    let options = if world.is(Sabotage::ModeChanged) {
        CHANGE
    } else {
        &[]
    };
    let code = teapot_patch(world);
    let said = world.eval("alice", &code, options)?;
    check(said.code == Some(EXIT_DENIED), "a denial, exit code 3", || {
        said.all()
    })
}

/// The README's patch.
fn teapot_patch(world: &DemoWorld) -> String {
    let warning = r#"log_warn("a china teapot revolving about the sun"); "#;
    let warning = if world.is(Sabotage::WarningLeftOut) {
        ""
    } else {
        warning
    };
    let ttl = if world.is(Sabotage::RevertOff) {
        "10m".into()
    } else {
        format!("{}s", TTL.as_secs())
    };
    let body = format!(r##"{{ {warning}#{{ status: 418, body: #{{ status: "I'm a teapot" }} }} }}"##);
    format!(r##"patch("GET /api/healthcheck", |req| {body}, #{{ ttl: "{ttl}" }})"##)
}

fn change_and_patch(world: &mut DemoWorld) -> Result<(), Unexpected> {
    let target = world.agent.to_string();
    let mut command = world.debugctl("alice");
    println!("$ {}", shown(command.args(["attach", &target])));
    let mut session = AttachedTerminal::start(&mut command)?;
    if !world.is(Sabotage::ChangeForgotten) {
        // Its answer may arrive with that of the next line.
        session.ask(":change INC-42 healthcheck flaps", |_| true)?;
    }
    let asked = Instant::now();
    let id = patch(&mut session, &teapot_patch(world))?;
    world.teapot = Some(DemoLease {
        id,
        asked,
        seen: Instant::now(),
    });
    world.session = Some(session);
    if world.is(Sabotage::PatchIgnored) {
        world.start_service(false)?;
    }
    Ok(())
}

/// Patches in a session. Returns the number of the lease.
fn patch(session: &mut AttachedTerminal, code: &str) -> Result<u64, Unexpected> {
    let answered = session.ask(code, |said| {
        lease_number(said).is_some() || said.contains("denied")
    });
    let said = answered.unwrap_or_else(|said| said);
    lease_number(&said).ok_or_else(|| expected("a line `lease N: …`", said))
}

fn teapot(world: &mut DemoWorld) -> Result<(), Unexpected> {
    let answer = world.healthcheck()?;
    let teapot = answer.status == 418 && answer.body == r#"{"status":"I'm a teapot"}"#;
    check(teapot, "418 and {\"status\":\"I'm a teapot\"}", || answer.shown())
}

fn warning(world: &mut DemoWorld) -> Result<(), Unexpected> {
    let service = world.service()?;
    let teapot = |line: &&str| line.contains("a china teapot revolving about the sun");
    let line = service
        .program
        .wait_within(LOG_LIMIT, |log| log.lines().find(teapot).map(str::to_owned));
    println!("{}", line.as_deref().unwrap_or_default());
    let warned = line.as_ref().is_ok_and(|line| line.contains("WARN"));
    check(warned, "a line WARN with the teapot", || {
        line.unwrap_or_else(|log| log)
    })
}

fn other_route(world: &mut DemoWorld) -> Result<(), Unexpected> {
    let secret = if world.is(Sabotage::SignedByAnother) {
        "another secret"
    } else {
        SLACK_SIGN
    };
    let answer = world.event(r#"{"type":"url_verification","challenge":"3eZbrw1a"}"#, secret)?;
    let right = answer.status == 200 && answer.body == r#"{"challenge":"3eZbrw1a"}"#;
    check(right, "the challenge", || answer.shown())
}

fn same_process(world: &mut DemoWorld) -> Result<(), Unexpected> {
    if world.is(Sabotage::ServiceRestarted) {
        world.services.clear();
        world.start_service(true)?;
    }
    let before = world.pid;
    let service = world.service()?;
    let (now, alive) = (service.program.id(), service.program.is_alive());
    println!("process {now}, started as process {before}");
    check(
        alive && now == before,
        &format!("process {before}, alive"),
        || format!("process {now}, alive: {alive}"),
    )
}

fn deadline(world: &mut DemoWorld) -> Result<(), Unexpected> {
    let lease = world
        .teapot
        .take()
        .ok_or_else(|| String::from("there is no patch"))?;
    if world.is(Sabotage::RevertEarly) {
        let session = world
            .session
            .as_mut()
            .ok_or_else(|| String::from("there is no session"))?;
        session.ask(&format!("revert({})", lease.id), |said| !said.is_empty())?;
    }
    let address = world.service()?.http;
    loop {
        let answer = http::get(address, "/api/healthcheck").map_err(|e| e.to_string())?;
        let age = lease.asked.elapsed();
        if answer.status == 200 {
            println!("{} after {:.1} s", answer.shown(), age.as_secs_f64());
            return check(TTL <= age, "the patch to last for 5 s", || {
                format!("it gone after {age:?}")
            });
        }
        if TTL + LATE <= lease.seen.elapsed() {
            return Err(expected(
                "200 again after 5 s",
                format!("{} after {age:?}", answer.shown()),
            ));
        }
        thread::sleep(POLL);
    }
}

/// The event that Slack sends when a user asks who is on duty.
const WHO: &str =
    r#"{"type":"event_callback","event":{"type":"app_mention","channel":"C1","text":"<@U0LAN0Z89> who"}}"#;

fn function_point(world: &mut DemoWorld) -> Result<(), Unexpected> {
    let mut session = world
        .session
        .take()
        .ok_or_else(|| String::from("there is no session"))?;
    check_next(world, "ben")?;
    let mut lease = None;
    if !world.is(Sabotage::FunctionNotPatched) {
        let code = r#"patch("dienstplan::rota::next_on_duty", |rota, now| "grace", #{ ttl: "5m" })"#;
        lease = Some(patch(&mut session, code)?);
    }
    check_next(world, "grace")?;
    if let Some(id) = lease {
        let reverted = session.ask(&format!("revert({id})"), |said| !said.is_empty());
        check(reverted.is_ok(), "an answer to revert", || {
            reverted.err().unwrap_or_default()
        })?;
    }
    check_next(world, "ben")?;
    world.session = Some(session);
    Ok(())
}

fn check_next(world: &mut DemoWorld, person: &str) -> Result<(), Unexpected> {
    let answer = world.event(WHO, SLACK_SIGN)?;
    let wanted = format!("next is {person}");
    check(answer.body.contains(&wanted), &wanted, || answer.shown())
}

fn viewer_denied(world: &mut DemoWorld) -> Result<(), Unexpected> {
    for code in [teapot_patch(world).as_str(), r#"set("config.server.port", 9090)"#] {
        let said = world.eval("vera", code, CHANGE)?;
        let denied = said.code == Some(EXIT_DENIED) && said.err.contains("denied");
        check(denied, "a denial with its reason, exit code 3", || said.all())?;
    }
    Ok(())
}
