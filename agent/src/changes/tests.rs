//! Changes of states under leases.

use std::sync::Arc;
use std::time::Duration;

use debug_base::{BootTime, Tree, Wait};
use debug_lease::for_test::begun;
use debug_lease::{Cause, Change, EndError, Lease, Leases, Phase};
use debug_state::{Live, Redactor, SharedCell, States, writable};
use debug_wire::messages::After;

use super::{WriteChange, Writes};

fn open_until(leases: &Leases, change: Arc<dyn Change>, deadline: BootTime) -> u64 {
    let id = leases.claim(change.target(), "a test").unwrap().id;
    let lease = Lease {
        id,
        change,
        owner: "alice".to_owned(),
        session: 1,
        eval: 1,
        reason: String::new(),
        made: BootTime::now(),
        deadline,
        phase: Phase::Provisional,
        after: After::Revert,
        grace: None,
        failing: None,
    };
    drop(leases.open(lease).unwrap_or_else(|_| panic!("closed")));
    id
}

/// A timed value reverts at its deadline even while an extension is in progress. In that case no extension is reported and
/// the lease ends at once; otherwise the change stays.
#[test]
fn a_live_value_is_extended_before_its_deadline_or_not_at_all() {
    const RACES: u64 = 2_000;
    const TTL: Duration = Duration::from_micros(300);
    let (mut extended, mut expired) = (0, 0);
    for race in 0..RACES {
        let live = Live::new(1_i64);
        let state = writable(
            "limit".parse().unwrap(),
            SharedCell::Shared(Arc::new(live.clone())),
        );
        let states = Arc::new(States::new(vec![state], Vec::new(), Arc::new(Redactor::new(&[]))).unwrap());
        let (writes, path) = (Arc::new(Writes::new(states)), "limit".parse().unwrap());
        let change = Arc::new(WriteChange::new(
            writes,
            path,
            Some(Tree::I64(1)),
            Some(Tree::I64(2)),
        ));
        let leases = Leases::after(0);
        let id = open_until(&leases, change.clone(), BootTime::now().after(TTL));
        let first = leases.find(id).unwrap().deadline;
        change.make(begun(id), first, &[]).unwrap();
        // From well before the deadline to well after it.
        let moment = BootTime(first.0 - 100_000 + race % 200 * 1_000);
        while BootTime::now() < moment {
            std::hint::spin_loop();
        }
        let now = BootTime::now();
        let renewed = leases.renew(id, "alice", now.after(Duration::from_secs(600)), false, now);
        while BootTime::now() < first {
            std::hint::spin_loop();
        }
        match renewed {
            Ok(_) => {
                extended += 1;
                assert_eq!(*live.load(), 2, "it counts as changed and is not");
            }
            Err(error) => {
                expired += 1;
                assert!(
                    matches!(error, EndError::Ended { how: "expired", .. }),
                    "{error:?}"
                );
                assert_eq!(*live.load(), 1);
                assert_eq!(leases.overdue(BootTime::now()), [(id, Cause::Expired)]);
                leases.end(id, &Cause::Expired, Wait::AGENT).unwrap();
            }
        }
    }
    assert!(extended > 0 && expired > 0, "{extended} {expired}");
}

#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
struct Named {
    name: String,
    weight: i64,
}

/// Between the decision and the change the service moves the element of another lease to the place.
#[test]
fn a_change_covers_no_lease_that_came_to_its_place_after_it_was_allowed() {
    let named = |name: &str| Named {
        name: name.to_owned(),
        weight: 5,
    };
    let live = Live::new(vec![named("a"), named("b")]);
    let state = writable(
        "list".parse().unwrap(),
        SharedCell::Shared(Arc::new(live.clone())),
    );
    let states = Arc::new(States::new(vec![state], Vec::new(), Arc::new(Redactor::new(&[]))).unwrap());
    let writes = Arc::new(Writes::new(states));
    let write = |path: &str, value: i64| {
        let values = (Some(Tree::I64(5)), Some(Tree::I64(value)));
        WriteChange::new(writes.clone(), path.parse().unwrap(), values.0, values.1)
    };
    let never = BootTime(u64::MAX);
    write("list.1.weight", 5).make(begun(1), never, &[]).unwrap();
    // It was decided while lease 1 stood at the second element.
    let second = write("list.0.weight", 7);
    live.store(vec![named("b"), named("a")]);
    let refused = second.make(begun(2), never, &[]).unwrap_err().to_string();
    assert!(
        refused.contains("moved an element to `list.0.weight`"),
        "{refused}"
    );
    assert_eq!(*live.load(), vec![named("b"), named("a")]);
    second.make(begun(2), never, &[1]).unwrap();
    assert_eq!(live.load()[0].weight, 7);
    write("list.1.weight", 9).make(begun(3), never, &[]).unwrap();
}

/// A conflict is forced where it was told to be, or not at all: the service may move what was changed afterwards.
#[test]
fn what_moved_since_its_conflict_is_not_forced() {
    let named = |name: &str, weight: i64| Named {
        name: name.to_owned(),
        weight,
    };
    let live = Live::new(vec![named("a", 1), named("b", 1)]);
    let state = writable(
        "list".parse().unwrap(),
        SharedCell::Shared(Arc::new(live.clone())),
    );
    let states = Arc::new(States::new(vec![state], Vec::new(), Arc::new(Redactor::new(&[]))).unwrap());
    let writes = Arc::new(Writes::new(states));
    let values = (Some(Tree::I64(1)), Some(Tree::I64(5)));
    let change = WriteChange::new(writes, "list.0.weight".parse().unwrap(), values.0, values.1);
    change.make(begun(1), BootTime(u64::MAX), &[]).unwrap();
    live.store(vec![named("a", 70), named("b", 1)]);
    let conflict = change.undo(1, Wait::AGENT).unwrap().conflict.unwrap();
    assert_eq!(conflict.places, ["list.0.weight".parse().unwrap()]);
    live.store(vec![named("b", 1), named("a", 70)]);
    let moved = change.force(Wait::AGENT).unwrap_err().to_string();
    assert!(
        moved.contains("is at `list.1.weight` now, which the conflict does not name"),
        "{moved}"
    );
    assert_eq!(*live.load(), vec![named("b", 1), named("a", 70)]);
    live.store(vec![named("a", 71), named("b", 1)]);
    assert!(change.force(Wait::AGENT).unwrap());
    assert_eq!(*live.load(), vec![named("a", 1), named("b", 1)]);
}

/// The value that a conflict left is below the new lease's: forcing would write over that.
#[test]
fn a_conflict_is_not_forced_below_another_lease() {
    let live = Live::new(1_i64);
    let state = writable(
        "limit".parse().unwrap(),
        SharedCell::Shared(Arc::new(live.clone())),
    );
    let states = Arc::new(States::new(vec![state], Vec::new(), Arc::new(Redactor::new(&[]))).unwrap());
    let writes = Arc::new(Writes::new(states));
    let write = |before: i64, after: i64| {
        let values = (Some(Tree::I64(before)), Some(Tree::I64(after)));
        WriteChange::new(writes.clone(), "limit".parse().unwrap(), values.0, values.1)
    };
    let never = BootTime(u64::MAX);
    let first = write(1, 2);
    first.make(begun(1), never, &[]).unwrap();
    live.store(70);
    assert!(first.undo(1, Wait::AGENT).unwrap().conflict.is_some());
    let second = write(70, 5);
    second.make(begun(2), never, &[]).unwrap();
    let refused = first.force(Wait::AGENT).unwrap_err().to_string();
    assert!(refused.contains("lease 2"), "{refused}");
    assert_eq!(*live.load(), 5);
    assert!(second.undo(2, Wait::AGENT).unwrap().conflict.is_none());
    assert_eq!(*live.load(), 70);
    assert!(first.force(Wait::AGENT).unwrap());
    assert_eq!(*live.load(), 1);
}

/// A lease whose element was lost left its value somewhere in the list, maybe where the lease below has its place.
#[test]
fn a_settled_conflict_is_in_no_ones_way() {
    let named = |name: &str, weight: i64| Named {
        name: name.to_owned(),
        weight,
    };
    let live = Live::new(vec![named("a", 5), named("b", 5)]);
    let state = writable(
        "list".parse().unwrap(),
        SharedCell::Shared(Arc::new(live.clone())),
    );
    let states = Arc::new(States::new(vec![state], Vec::new(), Arc::new(Redactor::new(&[]))).unwrap());
    let writes = Arc::new(Writes::new(states));
    let write = |path: &str| {
        let values = (Some(Tree::I64(5)), Some(Tree::I64(6)));
        WriteChange::new(writes.clone(), path.parse().unwrap(), values.0, values.1)
    };
    let never = BootTime(u64::MAX);
    let (below, above) = (write("list.1.weight"), write("list.0.weight"));
    below.make(begun(1), never, &[]).unwrap();
    above.make(begun(2), never, &[]).unwrap();
    live.store(vec![named("c", 9), named("b", 6)]);
    assert!(above.undo(2, Wait::AGENT).unwrap().conflict.is_some());
    live.store(vec![named("a", 6), named("b", 6)]);
    assert!(above.force(Wait::AGENT).unwrap());
    assert_eq!(*live.load(), [named("a", 5), named("b", 6)]);
    let undone = below.undo(1, Wait::AGENT).unwrap();
    assert!(undone.conflict.is_none(), "{:?}", undone.conflict);
    assert_eq!(*live.load(), [named("a", 5), named("b", 5)]);
}
