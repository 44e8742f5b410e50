//! What is asked of policy for each kind of effect, and what is recorded of it, for three roles; compared with
//! `effects.txt`, which is read and judged when it changes.

use std::fmt::Write as _;

use debug_base::for_test::{config, tree};
use debug_base::{NonEmpty, Path, Tree};
use debug_points::{PatchCode, PatchFailure};
use debug_policy::{Action, Mode};
use debug_state::{SharedCell, writable};
use serde_json::{Value, json};

use super::stack::run as run_of;
use super::*;
use crate::changes::WriteChange;
use crate::effect::{Barred, ChangeOptions, Effect, GuardCode, Guarding, Listing, Proposal, Refusal};
use crate::gate::{consider, pass, requests};
use crate::session::context::EvalContext;
use debug_wire::table::{HostFunction, function};

const POLICY: &str = r#"
version = 1

[[rule]]
id = "look"
why = "to look around"
allow = ["attach", "read", "list", "log"]
roles = ["viewer", "oncall", "lead"]
except = ["state:config.server.**"]

[[rule]]
id = "work"
why = "to change what an incident needs"
allow = ["change", "write", "patch", "set_level", "confirm", "extend", "adopt", "guard", "settle"]
roles = ["oncall", "lead"]
max_ttl = "30m"
max_life = "1h"
reason = "INC-*"

[[rule]]
id = "lead"
why = "to see secrets and to end the changes of others"
allow = ["reveal", "revert"]
roles = ["lead"]
on = ["state:**", "lease:*"]

[[rule]]
id = "others"
why = "to keep the changes of others"
allow = ["confirm", "extend", "adopt", "guard", "settle"]
roles = ["lead"]
on = ["lease:bob"]
max_ttl = "30m"
max_life = "1h"
"#;

/// A core with the state `config` of a service, and the policy above.
fn with_config(folder: &tempfile::TempDir) -> Core {
    let cell = SharedCell::Shared(Arc::new(Mutex::new(config())));
    let state = writable("config".parse().unwrap(), cell);
    let mut core = core(folder);
    let states = Arc::new(States::new(vec![state], Vec::new(), core.exposed.redactor.clone()).unwrap());
    core.changes.writes = Arc::new(Writes::new(states.clone()));
    core.exposed.states = states;
    core.rules.policy = Policy::parse(POLICY).unwrap();
    core.rules.policy_digest = "the digest".to_owned();
    core
}

/// A guard's code that is never asked.
struct Code;

impl PatchCode for Code {
    fn call(&self, _: u64, _: BootTime, _: Vec<Tree>) -> Result<Tree, PatchFailure> {
        Ok(Tree::Bool(true))
    }

    fn mentions_body(&self) -> bool {
        false
    }
}

impl GuardCode for Code {
    fn reads_now(&self) -> Vec<String> {
        Vec::new()
    }
}

fn path(text: &str) -> Path {
    text.parse().unwrap()
}

fn guarding() -> Guarding {
    Guarding {
        code: Arc::new(Code),
        logs: false,
        gauges: false,
        reads: vec![path("config.app.debug"), path("config.db.host")],
        points: Vec::new(),
        record: json!({ "source": "|| config.app.debug" }),
    }
}

fn proposal(core: &Core, guard: Option<Guarding>) -> Box<Proposal> {
    let (before, after) = (Tree::Str("localhost".into()), Tree::Str("other".into()));
    let change = Arc::new(WriteChange::new(
        core.changes.writes.clone(),
        path("config.db.host"),
        Some(before.clone()),
        Some(after.clone()),
    ));
    Box::new(Proposal {
        function: function("set").unwrap(),
        targets: NonEmpty::one(change.target().clone()),
        change,
        reads: guard.iter().map(|_| path("config.db.port")).collect(),
        logs: guard.is_some(),
        options: ChangeOptions {
            ttl: guard.is_none().then(|| Duration::from_secs(60)),
            reason: guard.is_some().then(|| "INC-2 a reason of its own".to_owned()),
            persist: guard.is_some(),
            ..ChangeOptions::default()
        },
        guard,
        after: json!("other"),
        shown: Some((Some(before), Some(after))),
        before: json!("digest of the old value"),
        after_digest: json!("digest of the new value"),
    })
}

/// A lease of an operator on `config.app.debug`, which no table has.
fn lease_of(core: &Core, owner: &str) -> Box<Lease> {
    let change = Arc::new(WriteChange::new(
        core.changes.writes.clone(),
        path("config.app.debug"),
        Some(Tree::Bool(false)),
        Some(Tree::Bool(true)),
    ));
    // Not lived yet, whenever the test asks.
    let now = BootTime::now().after(Duration::from_secs(3_600));
    Box::new(Lease {
        id: 40,
        change,
        owner: owner.to_owned(),
        session: 9,
        eval: 3,
        reason: "INC-9 the reason of the lease".to_owned(),
        made: now,
        deadline: now.after(Duration::from_secs(600)),
        phase: Phase::Provisional,
        after: After::Revert,
        grace: None,
        failing: None,
    })
}

/// One effect of each kind, some of them twice: on one's own and on another operator's lease, allowed and hidden.
fn effects(core: &Core) -> Vec<(&'static str, Effect)> {
    let lease = |owner: &str| lease_of(core, owner);
    let whole = tree(&config());
    let at = |text: &str| whole.at(&path(text).0[1..]).unwrap().clone();
    let read = |text: &str| Effect::Read {
        path: path(text),
        leaves: debug_base::leaves(&path(text), &at(text)),
        value: at(text),
    };
    let (minute, asked) = (Duration::from_secs(60), BootTime::now());
    let renew = |owner: &str, confirm| Effect::Renew {
        confirm,
        lease: lease(owner),
        ttl: minute,
        asked,
    };
    let settle = |owner: &str, force| Effect::Settle {
        lease: lease(owner),
        force,
        leaves: if force {
            vec![path("config.app.debug")]
        } else {
            Vec::new()
        },
    };
    let options = ChangeOptions {
        reason: Some("INC-3 as given".to_owned()),
        ..ChangeOptions::default()
    };
    let set = function("set").unwrap();
    vec![
        ("a listing", Effect::See(Listing::Info, None)),
        (
            "an explanation",
            Effect::See(Listing::Describe, Some("config".to_owned())),
        ),
        ("a leaf", read("config.app.debug")),
        ("a hidden leaf", read("config.server.port")),
        (
            "a value with a hidden part",
            Effect::Read {
                path: path("config"),
                leaves: NonEmpty::of([path("config.app.debug"), path("config.server.port")]).unwrap(),
                value: Tree::Null,
            },
        ),
        (
            "a secret",
            Effect::Reveal {
                path: path("config.slack"),
                value: at("config.slack"),
            },
        ),
        (
            "what cannot be done",
            Effect::Impossible {
                function: set,
                target: "state:config.db.host".parse().unwrap(),
                options: options.clone(),
                why: Refusal::state("it cannot be done", "do something else"),
            },
        ),
        (
            "barred by name",
            Effect::Barred(Barred::named(
                set,
                "state:config.server.port".parse().unwrap(),
                options,
            )),
        ),
        (
            "barred below",
            Effect::Barred(Barred::read(
                function("snapshot").unwrap(),
                &path("config.server"),
            )),
        ),
        ("a write", Effect::Change(proposal(core, None))),
        (
            "a guarded write",
            Effect::Change(proposal(core, Some(guarding()))),
        ),
        (
            "the end of one's own",
            Effect::Revert {
                lease: lease("alice"),
            },
        ),
        ("the end of another's", Effect::Revert { lease: lease("bob") }),
        ("a confirmation of one's own", renew("alice", true)),
        ("an extension of another's", renew("bob", false)),
        (
            "a snapshot",
            Effect::Snapshot {
                name: "before".to_owned(),
                parts: NonEmpty::of([
                    (path("config.app"), at("config.app")),
                    (path("config.db"), at("config.db")),
                ])
                .unwrap(),
            },
        ),
        (
            "a snapshot of what is hidden",
            Effect::Snapshot {
                name: "all".to_owned(),
                parts: NonEmpty::one((path("config.server"), at("config.server"))),
            },
        ),
        (
            "a difference",
            Effect::Diff {
                name: "before".to_owned(),
                leaves: NonEmpty::one(path("config.app.debug")),
                rows: vec![(path("config.app.debug"), Some(Tree::Bool(false)), None)],
            },
        ),
        ("an adoption", Effect::Adopt { lease: lease("bob") }),
        ("a settlement that keeps", settle("alice", false)),
        ("a settlement by force", settle("bob", true)),
        (
            "a guard",
            Effect::Guard {
                lease: lease("alice"),
                guard: guarding(),
            },
        ),
        (
            "a guard on another's, of calls",
            Effect::Guard {
                lease: lease("bob"),
                guard: Guarding {
                    points: vec![debug_points::Point::Route(Arc::new(debug_points::Slot::route(
                        "GET /x".to_owned(),
                    )))],
                    reads: Vec::new(),
                    ..guarding()
                },
            },
        ),
        (
            "a guard on another's, of gauges",
            Effect::Guard {
                lease: lease("bob"),
                guard: Guarding {
                    gauges: true,
                    reads: Vec::new(),
                    ..guarding()
                },
            },
        ),
        (
            "the mode",
            Effect::EnterChange {
                reason: "INC-4".to_owned(),
            },
        ),
        (
            "the mode without a ticket",
            Effect::EnterChange {
                reason: "because".to_owned(),
            },
        ),
        ("back to observing", Effect::Observe),
        (
            "a line in the log",
            Effect::Log {
                warn: true,
                text: "hello".to_owned(),
            },
        ),
    ]
}

/// The records since the last call, without what differs from run to run.
fn records(core: &Core, folder: &tempfile::TempDir, seen: &mut usize) -> Vec<Value> {
    core.recorder
        .log
        .append(Vec::new(), debug_audit::Until::Durable)
        .durable()
        .unwrap();
    let text = std::fs::read_to_string(folder.path().join("records-0.jsonl")).unwrap();
    let mut new: Vec<Value> = text
        .lines()
        .skip(*seen)
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    *seen += new.len();
    for record in &mut new {
        let members = record.as_object_mut().unwrap();
        for varies in ["time", "boot_ns", "seq", "prev", "i", "h"] {
            members.remove(varies);
        }
        if let Some(lease) = members.get_mut("lease").and_then(Value::as_object_mut) {
            lease.remove("deadline_boot_ns");
        }
    }
    new
}

/// A record as it is read and judged: its members but for those that every record here has, then each decision.
fn shown(mut record: Value) -> String {
    let members = record.as_object_mut().unwrap();
    let gate = members.remove("gate");
    members.remove("v");
    if members.contains_key("eval") {
        assert_eq!(members.remove("eval"), Some(json!(7)));
        assert_eq!(
            members.remove("session").unwrap().as_u64().map(|id| 0 < id),
            Some(true)
        );
        assert_eq!(
            members.remove("operator"),
            Some(json!("spiffe://test/operator/alice"))
        );
    }
    members.retain(|_, value| !value.is_null());
    let mut text = format!("  {record}\n");
    let Some(gate) = gate else { return text };
    assert_eq!(gate["policy"], "the digest");
    if let Some(own) = gate.get("own") {
        writeln!(text, "    own {own}, allowed {}", gate["allowed"]).unwrap();
    }
    for decision in gate["decisions"].as_array().into_iter().flatten() {
        let request = &decision["request"];
        writeln!(
            text,
            "    {} {} in {}, ttl {}, life {}, reason {}: {}",
            request["action"].as_str().unwrap(),
            decision["resources"],
            request["mode"],
            request["ttl"],
            request["life"],
            request["reason"],
            if decision["decision"].get("allow").is_some() {
                "allowed"
            } else {
                "denied"
            },
        )
        .unwrap();
        assert_eq!(request["operator"], "alice");
    }
    text
}

fn words(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Denied(denial) => format!("{}; {}", refusal.message(), denial.help),
        Refusal::State { message, help } => format!("{message}; {help}"),
        Refusal::Log(error) => panic!("{error}"),
    }
}

#[test]
fn each_effect_asks_for_what_it_does_and_is_recorded_before_it_happens() {
    let folder = tempfile::tempdir().unwrap();
    let core = with_config(&folder);
    let mut seen = 0;
    records(&core, &folder, &mut seen);
    let mut told = String::new();
    for (role, who) in [
        ("viewer", "viewer"),
        ("oncall", "oncall"),
        ("lead", "lead"),
        ("oncall", "oncall without a reason"),
    ] {
        let run = run_of(&core, "alice", role);
        let reason = (who == role).then(|| "INC-1 to look".to_owned());
        if role != "viewer" {
            run.session.set_mode(Mode::Change, reason.clone());
        }
        let mut effects = effects(&core);
        // The others ask as they do with a reason.
        effects
            .retain(|(name, _)| reason.is_some() || ["a write", "the mode without a ticket"].contains(name));
        for (name, effect) in effects {
            let planned =
                consider(core.door(), &run, effect).unwrap_or_else(|e| panic!("{name}: {}", words(&e)));
            let plan = match &planned.verdict {
                Ok(rules) => rules.clone(),
                Err(refusal) => words(refusal),
            };
            let wants = planned.wants.map(|w| format!(" (wants {w})")).unwrap_or_default();
            let of_plan = records(&core, &folder, &mut seen);
            let issued = core.rules.permits.load(Ordering::Relaxed);
            let passed = match pass(core.door(), &run, planned.effect) {
                Ok(permit) => {
                    assert_eq!(core.rules.permits.load(Ordering::Relaxed), issued + 1, "{name}");
                    let (effect, lease) = permit.spend();
                    assert_eq!(lease.is_some(), matches!(effect, Effect::Change(_)), "{name}");
                    "a permit".to_owned()
                }
                Err(refusal) => {
                    assert_eq!(core.rules.permits.load(Ordering::Relaxed), issued, "{name}");
                    words(&refusal)
                }
            };
            let of_pass = records(&core, &folder, &mut seen);
            // A plan records the same as the run, marked as a plan's.
            for mut record in of_plan {
                assert_eq!(
                    record.as_object_mut().unwrap().remove("planned"),
                    Some(json!(true)),
                    "{name}"
                );
                if of_pass[0]["kind"] == "effect" {
                    assert_eq!(record, of_pass[0], "{name}");
                }
            }
            writeln!(told, "== {who}: {name}").unwrap();
            if passed != plan {
                writeln!(told, "plan: {plan}").unwrap();
            }
            writeln!(told, "run: {passed}{wants}").unwrap();
            told.extend(of_pass.into_iter().map(shown));
        }
    }
    let expected = include_str!("effects.txt");
    if told != expected {
        let at = std::env::temp_dir().join("effects.txt");
        std::fs::write(&at, &told).unwrap();
        panic!(
            "what is asked and recorded is not as in effects.txt: compare it with {}",
            at.display()
        );
    }
}

#[test]
fn a_renewal_asks_for_the_whole_life_of_the_lease() {
    let folder = tempfile::tempdir().unwrap();
    let core = with_config(&folder);
    let run = run_of(&core, "alice", "oncall");
    let lease = lease_of(&core, "alice");
    let (made, minute) = (lease.made, Duration::from_secs(60));
    let effect = Effect::Renew {
        confirm: false,
        lease,
        ttl: minute,
        asked: made,
    };
    let asked = requests::requests(&run, &effect, made.after(minute * 10));
    let crate::gate::asked::Asked::Policy(asked) = asked else {
        panic!("a renewal is decided by policy");
    };
    let asked: Vec<_> = asked.iter().collect();
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].ttl, asked[0].life), (Some(minute), Some(minute * 11)));
    assert_eq!(asked[0].action, Action::Extend);
    assert_eq!(effect.function(), HostFunction::Extend);
}

#[test]
fn no_record_of_an_effect_holds_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let core = with_config(&folder);
    let run = run_of(&core, "alice", "lead");
    run.session
        .set_mode(Mode::Change, Some("INC-1 to look".to_owned()));
    // Known from here on.
    drop(core.exposed.read(&path("config"), Wait::AGENT).unwrap());
    let mut seen = 0;
    records(&core, &folder, &mut seen);
    let secret = "CANARY-password";
    let options = |reason: &str| ChangeOptions {
        reason: Some(reason.to_owned()),
        ..ChangeOptions::default()
    };
    let with = |change: &dyn Fn(&mut Proposal)| {
        let mut proposal = proposal(&core, Some(guarding()));
        change(&mut proposal);
        Effect::Change(proposal)
    };
    let target: Resource = format!("state:config.{secret}").parse().unwrap();
    let refused = [
        Effect::EnterChange {
            reason: format!("INC-1 {secret}"),
        },
        with(&|p| p.options = options(secret)),
        with(&|p| p.after = json!(secret)),
        with(&|p| {
            if let Some(guard) = &mut p.guard {
                guard.record = json!(secret);
            }
        }),
        Effect::Impossible {
            function: function("set").unwrap(),
            target: target.clone(),
            options: ChangeOptions::default(),
            why: Refusal::state("no", "no"),
        },
        Effect::Barred(Barred::named(function("set").unwrap(), target, options("INC-1"))),
        Effect::Barred(Barred::named(
            function("set").unwrap(),
            "state:config.app".parse().unwrap(),
            options(secret),
        )),
        Effect::Snapshot {
            name: secret.to_owned(),
            parts: NonEmpty::one((path("config.app"), Tree::Null)),
        },
        Effect::Diff {
            name: secret.to_owned(),
            leaves: NonEmpty::one(path("config.app")),
            rows: Vec::new(),
        },
        Effect::Read {
            path: path(&format!("config.{secret}")),
            leaves: NonEmpty::one(path("config.app")),
            value: Tree::Null,
        },
        Effect::Guard {
            lease: lease_of(&core, "alice"),
            guard: Guarding {
                record: json!(secret),
                ..guarding()
            },
        },
    ];
    for (at, effect) in refused.into_iter().enumerate() {
        let Err(Refusal::State { message, .. }) = pass(core.door(), &run, effect) else {
            panic!("effect {at} was not refused for its secret");
        };
        assert!(message.contains("holds a secret"), "{at}: {message}");
    }
    assert_eq!(records(&core, &folder, &mut seen), [] as [Value; 0]);
    // A line for the service's log is recorded without it.
    let line = Effect::Log {
        warn: false,
        text: format!("it is {secret}"),
    };
    drop(pass(core.door(), &run, line).map_err(|e| words(&e)).unwrap());
    let text = Value::from(records(&core, &folder, &mut seen)).to_string();
    assert!(text.contains("it is ") && !text.contains(secret), "{text}");
}

#[test]
fn a_long_value_is_recorded_in_parts_that_make_it_up() {
    let folder = tempfile::tempdir().unwrap();
    let core = with_config(&folder);
    let run = run_of(&core, "alice", "oncall");
    run.session
        .set_mode(Mode::Change, Some("INC-1 to look".to_owned()));
    let mut seen = 0;
    records(&core, &folder, &mut seen);
    let long = "a long value ".repeat(2_000);
    let mut proposal = proposal(&core, None);
    proposal.after = json!(long);
    let permit = pass(core.door(), &run, Effect::Change(proposal))
        .map_err(|e| words(&e))
        .unwrap();
    let made = records(&core, &folder, &mut seen);
    let texts = made
        .iter()
        .filter(|record| record["kind"] == "effect.part" && record["member"] == "value");
    let whole: String = texts
        .map(|record| record["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        whole,
        json!(long).to_string(),
        "the parts do not make up the value"
    );
    drop(permit);
}

#[test]
fn what_an_operator_may_know_follows_from_what_they_may_read() {
    use crate::gate::visibility::{known_below, may_know, may_patch, may_read, might_read, must_see};
    let folder = tempfile::tempdir().unwrap();
    let core = with_config(&folder);
    let door = core.door();
    let run = run_of(&core, "alice", "viewer");
    let whole = tree(&config());
    let below = |text: &str| whole.at(&path(text).0[1..]).unwrap();
    let knows =
        |run: &EvalContext, text: &str, tree: Option<&Tree>| match may_know(door, run, &path(text), tree) {
            Ok(()) => String::new(),
            Err(refusal) => refusal.message(),
        };
    assert_eq!(knows(&run, "config", Some(&whole)), "");
    assert_eq!(knows(&run, "config.app", None), "");
    // Named by what was asked for, whether it exists or not.
    let denied = "denied: read state:config.server";
    assert_eq!(knows(&run, "config.server", Some(below("config.server"))), denied);
    assert_eq!(knows(&run, "config.server", Some(&Tree::Map(Vec::new()))), denied);
    assert_eq!(knows(&run, "config.server", None), denied);
    assert!(must_see(door, &run, &path("config.db"), below("config.db")).is_ok());
    let Err(Refusal::Denied(denial)) = must_see(door, &run, &path("config"), &whole) else {
        panic!("it has a hidden part");
    };
    assert_eq!(denial.resource, Resource::Agent);
    assert!(
        denial.help.starts_with("all or a part of what it reads: "),
        "{}",
        denial.help
    );
    assert!(!denial.help.contains("server"), "{}", denial.help);
    assert_eq!(
        known_below(door, &run, &path("config"), &whole),
        ["app", "slack", "db"]
    );
    let list = Tree::Seq(vec![Tree::Null, Tree::Null]);
    assert_eq!(known_below(door, &run, &path("config.app"), &list), ["0", "1"]);
    assert!(known_below(door, &run, &path("config.app.debug"), &Tree::Bool(true)).is_empty());
    let author = run.request(Action::Read, Resource::Agent);
    assert!(may_read(door, &author, &path("config.app.debug")));
    assert!(!may_read(door, &author, &path("config.server.port")));
    assert!(might_read(door, &author, &path("config")));
    assert!(!might_read(door, &author, &path("config.server")));
    assert!(crate::gate::could_read(door, &run, &path("config")));
    assert!(!crate::gate::could_read(door, &run, &path("config.server")));
    let oncall = run_of(&core, "alice", "oncall");
    oncall.session.set_mode(Mode::Change, None);
    let options = |reason: &str, seconds| ChangeOptions {
        reason: Some(reason.to_owned()),
        ttl: Some(Duration::from_secs(seconds)),
        ..ChangeOptions::default()
    };
    assert!(may_patch(door, &oncall, "GET /x", &options("INC-1", 60)));
    assert!(!may_patch(door, &oncall, "GET /x", &options("because", 60)));
    assert!(!may_patch(door, &oncall, "GET /x", &options("INC-1", 3_600)));
    assert!(!may_patch(door, &run, "GET /x", &options("INC-1", 60)));
}
