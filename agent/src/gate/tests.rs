//! The end of a lease that never had its change applied.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use debug_audit::{Log, SigningKey};
use debug_policy::{Policy, Resource};
use debug_wire::messages::After;

use super::Opened;
use crate::changes::Changes;
use crate::changes::Writes;
use crate::changes::exposed::Exposed;
use crate::changes::guards::Guards;
use crate::changes::levels::Levels;
use crate::changes::snapshot::Snapshots;
use crate::changes::waits::Waits;
use crate::changes::workers::RevertWorkers;
use crate::core::{Core, RateLimit};
use crate::gate::Rules;
use crate::recorder::Recorder;
use crate::recorder::events::Emitter;
use debug_base::{BootTime, Wait};
use debug_lease::{Cause, Change, ChangeError, EndError, Lease, Leases, Phase, Undone};
use debug_points::Registry;
use debug_state::{Keyed, Redactor, Scrubber, States};

/// A core without states, with its log in a folder of its own.
pub(crate) fn core(folder: &tempfile::TempDir) -> Core {
    let (log, opened) = Log::open(folder.path(), SigningKey::generate("test/test/1").unwrap()).unwrap();
    // A log must begin with this record.
    let boot = crate::recorder::records::record(&debug_wire::records::Boot::default());
    log.append(vec![boot], debug_audit::Until::Durable)
        .durable()
        .unwrap();
    let redactor = Arc::new(Redactor::new(&[]));
    let states = Arc::new(States::new(Vec::new(), Vec::new(), redactor.clone()).unwrap());
    let policy = Policy::parse(debug_policy::DEFAULT).unwrap();
    let (waits, faults) = (Waits::default(), debug_base::threads::Faults::default());
    Core {
        service: "test".to_owned(),
        instance: "1".to_owned(),
        origin: opened.origin,
        rules: Rules {
            environment: "development".to_owned(),
            policy_digest: super::digest_of(&policy),
            policy,
            permits: AtomicU64::new(0),
        },
        recorder: Recorder {
            log,
            keyed: Keyed::new([7; 32]).unwrap(),
            emitter: Emitter::new().0,
        },
        changes: Changes {
            leases: Arc::new(Leases::after(0)),
            writes: Arc::new(Writes::new(states.clone())),
            guards: Guards::new(BTreeMap::new()),
            snapshots: Snapshots::default(),
            helpers: RevertWorkers::new(waits.clone(), faults.clone()),
            waits,
            levels: Arc::new(Levels::default()),
            observing: OnceLock::new(),
        },
        exposed: Exposed {
            states,
            points: Arc::new(Registry::new([])),
            redactor,
            scrubber: Scrubber::default(),
            alike: OnceLock::new(),
        },
        notes: Mutex::default(),
        started: BootTime::now(),
        lifetimes: Vec::new(),
        noise: RateLimit::default(),
        refusals: RateLimit::default(),
        algorithms: &[],
        sessions: Mutex::default(),
        next_session: AtomicU64::new(1),
        at_start: Default::default(),
        faults,
        unmatched: Default::default(),
    }
}

/// A change that counts its reverts; the first `panics` of them panic.
struct Counts {
    target: Resource,
    undone: AtomicUsize,
    panics: AtomicUsize,
}

impl Change for Counts {
    fn target(&self) -> &Resource {
        &self.target
    }

    fn make(&self, _: debug_lease::Begun, _: BootTime, _: &[u64]) -> Result<(), ChangeError> {
        panic!("nobody expected this");
    }

    fn undo(&self, _: u64, _: Wait) -> Result<Undone, ChangeError> {
        if self.panics.load(Ordering::SeqCst) > 0 {
            self.panics.fetch_sub(1, Ordering::SeqCst);
            panic!("nor this");
        }
        self.undone.fetch_add(1, Ordering::SeqCst);
        Ok(Undone::default())
    }

    fn force(&self, _: Wait) -> Result<bool, ChangeError> {
        Ok(true)
    }
}

fn change(panics: usize) -> Arc<Counts> {
    let target = "point:GET /x".parse().unwrap();
    Arc::new(Counts {
        target,
        undone: AtomicUsize::new(0),
        panics: AtomicUsize::new(panics),
    })
}

fn lease(core: &Core, change: Arc<Counts>) -> Lease {
    let now = BootTime::now();
    let id = core.changes.leases.claim(change.target(), "a test").unwrap().id;
    Lease {
        id,
        change,
        owner: "alice".to_owned(),
        session: 1,
        eval: 0,
        reason: "a test".to_owned(),
        made: now,
        deadline: now.after(Duration::from_secs(600)),
        phase: Phase::Provisional,
        after: After::Revert,
        grace: None,
        failing: None,
    }
}

/// The kinds of the records that end a lease.
fn ends(core: &Core, folder: &tempfile::TempDir, id: u64) -> Vec<String> {
    core.recorder
        .log
        .append(Vec::new(), debug_audit::Until::Durable)
        .durable()
        .unwrap();
    let files = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let logs = files.filter(|path| path.extension().is_some_and(|e| e == "jsonl"));
    let text: String = logs.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let records = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let of = records.filter(|record| record["lease"] == id && record["owner"] == "alice");
    of.map(|record| record["kind"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_lease_whose_change_was_not_made_ends_with_one_record_and_frees_its_target() {
    let folder = tempfile::tempdir().unwrap();
    let core = core(&folder);
    // Dropped, refused with a reason, a panic before the change, a panic in it, a panic while it is reverted.
    for (case, panics) in [
        ("dropped", 0),
        ("told", 0),
        ("before", 0),
        ("within", 0),
        ("undoing", 1),
    ] {
        let made = change(panics);
        let lease = lease(&core, made.clone());
        let id = lease.id;
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let mut opened = Opened::open(core.door(), lease, Vec::new()).unwrap();
            assert!(matches!(
                core.changes.leases.end(id, &Cause::Expired, Wait::AGENT).err(),
                Some(EndError::Ending(_))
            ));
            match case {
                "dropped" => drop(opened),
                "told" => opened.never_made("it could not be made"),
                "before" => panic!("a fault"),
                _ => {
                    let begun = opened.begin().unwrap();
                    assert_eq!(begun.lease(), id);
                    drop(made.make(begun, BootTime::now(), &[]));
                }
            }
        }));
        assert_eq!(
            ended.is_err(),
            ["before", "within", "undoing"].contains(&case),
            "{case}"
        );
        if case == "undoing" {
            // Tried again until it succeeds, as any failed revert.
            assert!(ends(&core, &folder, id).is_empty());
            core.end_lease(id, &Cause::Undone, "agent", Wait::AGENT).unwrap();
        }
        assert!(
            matches!(core.changes.leases.find(id), Err(EndError::Ended { .. })),
            "{case}"
        );
        assert_eq!(ends(&core, &folder, id), ["lease.undone"], "{case}");
        let begun = usize::from(["within", "undoing"].contains(&case));
        assert_eq!(made.undone.load(Ordering::SeqCst), begun, "{case}");
        assert!(
            core.changes.leases.claim(made.target(), "a test").is_ok(),
            "{case}"
        );
    }
    // A kept change stays.
    let made = change(0);
    let lease = lease(&core, made.clone());
    let id = lease.id;
    let mut opened = Opened::open(core.door(), lease, Vec::new()).unwrap();
    drop(opened.begin().unwrap());
    opened.kept();
    assert!(core.changes.leases.find(id).is_ok() && made.undone.load(Ordering::SeqCst) == 0);
    core.end_lease(id, &Cause::Reverted, "alice", Wait::AGENT)
        .unwrap();
    assert_eq!(ends(&core, &folder, id), ["lease.reverted"]);
    // A step out of order is a fault: it is refused, and the change is taken back.
    let made = change(0);
    let lease = self::lease(&core, made.clone());
    let id = lease.id;
    let mut opened = Opened::open(core.door(), lease, Vec::new()).unwrap();
    drop(opened.begin().unwrap());
    let refused = opened.begin().unwrap_err();
    assert!(refused.contains("fault of the agent"), "{refused}");
    drop(opened);
    assert_eq!(ends(&core, &folder, id), ["lease.undone"]);
    assert_eq!(made.undone.load(Ordering::SeqCst), 1);
    let lease = self::lease(&core, made.clone());
    let id = lease.id;
    Opened::open(core.door(), lease, Vec::new()).unwrap().kept();
    assert_eq!(ends(&core, &folder, id), ["lease.undone"]);
    assert_eq!(
        made.undone.load(Ordering::SeqCst),
        1,
        "the change was never begun"
    );
    assert_eq!(core.changes.leases.faults(), [] as [String; 0]);
    // When the agent stops, no lease is opened.
    core.changes.leases.close();
    let refused = self::lease(&core, made);
    let id = refused.id;
    assert!(Opened::open(core.door(), refused, Vec::new()).is_err());
    assert_eq!(ends(&core, &folder, id), ["lease.shutdown"]);
}

mod effects;
mod stack;
