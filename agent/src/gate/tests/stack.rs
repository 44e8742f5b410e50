//! What a change is refused for that stands, or is being made, at its place.

use std::sync::atomic::AtomicBool;

use serde_json::Value;

use super::super::{Refusal, claim};
use super::*;
use crate::changes::WriteChange;
use crate::effect::{ChangeOptions, Proposal};
use crate::session::Session;
use crate::session::context::EvalContext;
use debug_base::NonEmpty;
use debug_base::Tree;
use debug_lease::for_test::begun;
use debug_net::Outbox;
use debug_state::{SharedCell, writable};

#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
struct Named {
    name: String,
    weight: i64,
}

fn named(names: [&str; 2]) -> Vec<Named> {
    names
        .map(|name| Named {
            name: name.to_owned(),
            weight: 5,
        })
        .to_vec()
}

/// A core with one state, `list`, behind a lock of the service.
fn with_list(folder: &tempfile::TempDir) -> (Core, Arc<Mutex<Vec<Named>>>) {
    let list = Arc::new(Mutex::new(named(["a", "b"])));
    let state = writable("list".parse().unwrap(), SharedCell::Shared(list.clone()));
    let mut core = core(folder);
    let states = Arc::new(States::new(vec![state], Vec::new(), core.exposed.redactor.clone()).unwrap());
    core.changes.writes = Arc::new(Writes::new(states.clone()));
    core.exposed.states = states;
    (core, list)
}

pub(super) fn run(core: &Core, name: &str, role: &str) -> EvalContext {
    let who = debug_certs::Operator::new("test".parse().unwrap(), name, [role]).unwrap();
    let peer = "127.0.0.1:1".parse().unwrap();
    let session = Session::new(
        core.next_session(),
        who,
        peer,
        Vec::new(),
        [0; 32],
        Outbox::new(1 << 20),
        "development".into(),
    );
    EvalContext::new(
        Arc::new(session),
        1,
        Arc::new(AtomicBool::new(false)),
        7,
        Some(After::Revert),
        false,
    )
}

fn write(core: &Core, path: &str, value: i64) -> Arc<WriteChange> {
    let values = (Some(Tree::I64(5)), Some(Tree::I64(value)));
    Arc::new(WriteChange::new(
        core.changes.writes.clone(),
        path.parse().unwrap(),
        values.0,
        values.1,
    ))
}

fn proposal(change: Arc<WriteChange>) -> Proposal {
    Proposal {
        function: debug_wire::table::function("set").unwrap(),
        targets: NonEmpty::one(change.target().clone()),
        change,
        reads: Vec::new(),
        logs: false,
        options: ChangeOptions::default(),
        guard: None,
        after: Value::Null,
        shown: None,
        before: Value::Null,
        after_digest: Value::Null,
    }
}

/// The words of the refusal; `None` if the place was free.
fn refused(core: &Core, run: &EvalContext, proposal: &Proposal) -> Option<String> {
    match claim(core.door(), run, proposal, BootTime::now()) {
        Ok(_) => None,
        Err(Refusal::State { message, .. }) => Some(message),
        Err(other) => panic!("{}", other.message()),
    }
}

/// The service moved the element of another lease to the place, and holds the lock now.
#[test]
fn nothing_is_covered_while_it_is_unknown_what_stands_there() {
    let folder = tempfile::tempdir().unwrap();
    let (core, list) = with_list(&folder);
    let run = run(&core, "alice", "oncall");
    let below = write(&core, "list.1.weight", 0);
    let id = core.changes.leases.claim(below.target(), "a test").unwrap().id;
    let now = BootTime::now();
    let lease = Lease {
        id,
        change: below.clone(),
        owner: "bob".to_owned(),
        session: 9,
        eval: 0,
        reason: "a test".to_owned(),
        made: now,
        deadline: now.after(Duration::from_secs(600)),
        phase: Phase::Provisional,
        after: After::Revert,
        grace: None,
        failing: None,
    };
    drop(
        core.changes
            .leases
            .open(lease)
            .unwrap_or_else(|_| panic!("closed")),
    );
    below
        .make(begun(id), now.after(Duration::from_secs(600)), &[])
        .unwrap();
    let proposal = proposal(write(&core, "list.0.weight", 7));
    assert_eq!(refused(&core, &run, &proposal), None);
    list.lock().unwrap().swap(0, 1);
    let held = list.lock().unwrap();
    let why = refused(&core, &run, &proposal).unwrap();
    assert!(
        why.contains("is not known at this moment") && why.contains("busy"),
        "{why}"
    );
    drop(held);
    let why = refused(&core, &run, &proposal).unwrap();
    assert!(
        why.contains(&format!("is already changed by lease {id} of bob")),
        "{why}"
    );
    assert_eq!(list.lock().unwrap()[0].weight, 0);
}

#[test]
fn who_changes_a_place_at_this_moment_is_told_to_those_who_may_list() {
    let folder = tempfile::tempdir().unwrap();
    let (core, _list) = with_list(&folder);
    let proposal = proposal(write(&core, "list.0.weight", 7));
    let (other, _) = claim(
        core.door(),
        &run(&core, "bob", "oncall"),
        &proposal,
        BootTime::now(),
    )
    .unwrap_or_else(|refusal| panic!("{}", refusal.message()));
    let told = |role: &str| refused(&core, &run(&core, "alice", role), &proposal).unwrap();
    assert_eq!(
        told("viewer"),
        "`state:list.0.weight` is being changed by eval 7 of bob at this moment"
    );
    // The policy knows no such role.
    assert_eq!(
        told("guest"),
        "`state:list.0.weight` is being changed by another eval at this moment"
    );
    drop(other);
    assert_eq!(refused(&core, &run(&core, "alice", "guest"), &proposal), None);
}

/// One call may ask for hundreds of parts: after the eval has ended, the service is not asked for the rest.
#[test]
fn an_eval_that_has_ended_leaves_the_service_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (core, _list) = with_list(&folder);
    let run = run(&core, "alice", "oncall");
    let path = "list.0.weight".parse().unwrap();
    assert_eq!(run.look(&core.exposed, &path), Ok(Tree::I64(5)));
    run.cancelled.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(
        run.look(&core.exposed, &path),
        Err(debug_state::StateError::Busy("list.0.weight".into()))
    );
    assert!(run.check_write(&core.exposed, &path, &Tree::I64(6)).is_err());
    assert!(run.places(&core.changes, &core.exposed, &path).is_err());
}
