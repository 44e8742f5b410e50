//! What leases, causes and the table tell, fact by fact.

use super::*;
use crate::table::lock_soon;
use debug_base::{Basis, Path, Tree};
use debug_wire::messages::InForce;

#[test]
fn words_and_times_are_those_of_the_log_and_of_the_help() {
    assert_eq!(DEFAULT_TTL, Duration::from_secs(600));
    assert_eq!(
        [Phase::Provisional.name(), Phase::Confirmed.name()],
        ["provisional", "confirmed"]
    );
    let seen = || "a text".to_owned();
    for with in [
        Cause::GuardFailed(seen()),
        Cause::Breaker(seen()),
        Cause::Revoked(seen()),
    ] {
        assert_eq!(with.detail(), Some("a text"), "{with:?}");
    }
    for without in [
        Cause::Reverted,
        Cause::Expired,
        Cause::Undone,
        Cause::SessionLost,
        Cause::Shutdown,
    ] {
        assert_eq!(without.detail(), None, "{without:?}");
    }
    assert_eq!(Cause::SessionLost.word(), "session-lost");
}

#[test]
fn a_deadline_at_the_end_of_the_grace_is_an_expiry() {
    let mut lease = lease(1, Fake::at(STATE), 1, After::Revert);
    let end = lease.deadline;
    lease.grace = Some(end);
    assert_eq!(lease.due(), (end, Cause::Expired));
    lease.grace = Some(BootTime(end.0 - 1));
    assert_eq!(lease.due(), (BootTime(end.0 - 1), Cause::SessionLost));
    lease.grace = Some(BootTime(end.0 + 1));
    assert_eq!(lease.due(), (end, Cause::Expired));
}

#[test]
fn a_change_says_only_what_it_knows() {
    let change = Fake::at(STATE);
    assert!(!change.ends_by_itself());
    assert_eq!((change.done(), change.warning()), ("set".to_owned(), None));
    assert!(change.could_be_made().is_ok() && change.left().is_none() && change.write().is_none());
}

#[test]
fn as_before_is_said_only_of_what_was_seen() {
    let seen = Undone {
        stands: Some(crate::Stands::Value(Tree::I64(1))),
        basis: Some(Basis::Names),
        ..Undone::default()
    };
    assert!(seen.is_as_before());
    let conflict = crate::Conflict {
        why: "the service wrote there".to_owned(),
        places: vec![Path(vec!["config".to_owned()])],
    };
    let with = |change: &dyn Fn(&mut Undone)| {
        let mut undone = seen.clone();
        change(&mut undone);
        undone.is_as_before()
    };
    assert!(!with(&|u| u.conflict = Some(conflict.clone())));
    assert!(!with(&|u| u.covered_by = Some(3)));
    assert!(!with(&|u| u.foreign = true));
    assert!(!with(&|u| u.stands = None));
    assert!(!Undone::default().is_as_before());
}

#[test]
fn a_change_is_begun_once_under_the_id_of_its_lease() {
    let leases = Leases::after(6);
    assert_eq!(leases.next_id(), 7);
    let change = Fake::at(STATE);
    let id = leases.claim(change.target(), "a test").unwrap().id;
    assert_eq!((id, leases.next_id()), (7, 8));
    let mut making = leases
        .open(lease(id, change, 1, After::Revert))
        .unwrap_or_else(|_| panic!("closed"));
    assert_eq!(making.begin().map(|begun| begun.lease()), Some(7));
    assert!(making.begin().is_none());
    drop(making);
    assert_eq!(leases.faults(), [] as [String; 0]);
}

#[test]
fn a_lease_whose_change_failed_is_gone() {
    let leases = Leases::after(0);
    let change = Fake::at(STATE);
    let id = leases.claim(change.target(), "a test").unwrap().id;
    let making = leases
        .open(lease(id, change.clone(), 1, After::Revert))
        .unwrap_or_else(|_| panic!("closed"));
    leases.withdraw(id);
    drop(making);
    assert!(leases.list().is_empty());
    assert_eq!(
        leases.find(id).err(),
        Some(EndError::Ended {
            id,
            how: "never made"
        })
    );
    assert_eq!(leases.faults(), [] as [String; 0]);
    assert_eq!(change.undone(), 0);
}

#[test]
fn the_table_counts_what_is_in_force_and_when_the_first_of_it_ends() {
    let leases = Leases::after(0);
    let now = BootTime::now();
    let none = InForce {
        count: 0,
        shortest_ms: None,
    };
    assert_eq!(leases.in_force(now), none);
    assert_eq!((leases.next_due(), leases.glance(now)), (None, Ok((0, None))));
    let (first, second) = (
        now.after(Duration::from_secs(30)),
        now.after(Duration::from_secs(20)),
    );
    open_until(&leases, Fake::at("point:GET /a"), first);
    let sooner = open_until(&leases, Fake::at("point:GET /b"), second);
    let in_force = InForce {
        count: 2,
        shortest_ms: Some(20_000),
    };
    assert_eq!(leases.in_force(now), in_force);
    assert_eq!(leases.next_due(), Some(second));
    assert_eq!(leases.glance(now), Ok((2, None)));
    assert_eq!(leases.overdue(now), []);
    let later = second.after(Duration::from_secs(3));
    assert_eq!(leases.overdue(later), [(sooner, Cause::Expired)]);
    let Ok((2, Some(overdue))) = leases.glance(later) else {
        panic!("a lease is overdue");
    };
    assert_eq!((overdue.lease, overdue.by), (sooner, Duration::from_secs(3)));
    assert_eq!(overdue.target.to_string(), "point:GET /b");
    // Another thread undoes it: it is not due again at once.
    leases.postpone(sooner, &Cause::Reverted);
    assert_eq!(leases.overdue(BootTime::now()), []);
    assert!(
        leases.list()[1]
            .failing
            .as_ref()
            .is_some_and(|failing| !failing.tried)
    );
    assert_eq!(leases.held_by(1).len(), 2);
    assert_eq!(leases.held_by(2).len(), 0);
}

/// A change that needs no thread of the agent to end is never overdue.
struct Timed(Resource);

impl Change for Timed {
    fn target(&self) -> &Resource {
        &self.0
    }

    fn make(&self, _: Begun, _: BootTime, _: &[u64]) -> Result<(), change::ChangeError> {
        Ok(())
    }

    fn ends_by_itself(&self) -> bool {
        true
    }

    fn undo(&self, _: u64, _: Wait) -> Result<Undone, change::ChangeError> {
        Ok(Undone::default())
    }

    fn force(&self, _: Wait) -> Result<bool, change::ChangeError> {
        Ok(true)
    }
}

#[test]
fn what_ends_by_the_clock_is_not_overdue() {
    let leases = Leases::after(0);
    let now = BootTime::now();
    open_until(&leases, Arc::new(Timed("point:GET /a".parse().unwrap())), now);
    assert_eq!(leases.glance(now.after(Duration::from_secs(9))), Ok((1, None)));
}

#[test]
fn a_failing_lease_closes_its_target_and_once_it_was_tried_its_state() {
    let leases = Leases::after(0);
    let change = Fake::at("state:config.db.port");
    let id = open(&leases, change.clone(), 1, After::Revert);
    let failing = |target: &str| leases.failing_at(&target.parse().unwrap()).map(|lease| lease.id);
    assert_eq!(failing("state:config.db.port"), None);
    // Only waiting for another thread.
    leases.postpone(id, &Cause::Reverted);
    assert_eq!(failing("state:config.db.port"), Some(id));
    assert_eq!(failing("state:config.db"), Some(id));
    assert_eq!(failing("state:config.app"), None);
    change.failures.store(1, Ordering::SeqCst);
    assert!(leases.end(id, &Cause::Reverted, Wait::AGENT).is_err());
    assert_eq!(failing("state:config.app"), Some(id));
    assert_eq!(failing("state:other"), None);
    assert_eq!(failing("point:GET /x"), None);
    assert!(leases.end(id, &Cause::Reverted, Wait::AGENT).is_ok());
    assert_eq!(failing("state:config.db.port"), None);
}

/// Ends with a conflict.
struct Disputed(Resource);

impl Change for Disputed {
    fn target(&self) -> &Resource {
        &self.0
    }

    fn make(&self, _: Begun, _: BootTime, _: &[u64]) -> Result<(), change::ChangeError> {
        Ok(())
    }

    fn undo(&self, _: u64, _: Wait) -> Result<Undone, change::ChangeError> {
        Ok(Undone {
            conflict: Some(crate::Conflict {
                why: "the service wrote there".to_owned(),
                places: Vec::new(),
            }),
            ..Undone::default()
        })
    }

    fn force(&self, _: Wait) -> Result<bool, change::ChangeError> {
        Ok(true)
    }
}

#[test]
fn a_conflict_waits_until_one_thread_settles_it() {
    let leases = Leases::after(0);
    let change: Arc<dyn Change> = Arc::new(Disputed("state:config.db.port".parse().unwrap()));
    let minute = BootTime::now().after(Duration::from_secs(60));
    let end = |id| {
        drop(
            leases
                .end(id, &Cause::Expired, Wait::AGENT)
                .unwrap_or_else(|e| panic!("{e}")),
        )
    };
    let id = open_until(&leases, change.clone(), minute);
    assert_eq!(leases.conflict(id).err(), Some(EndError::InForce(id)));
    assert!(leases.take_conflict(id).is_none());
    end(id);
    let waiting: Vec<u64> = leases.conflicts().iter().map(|(lease, _)| lease.id).collect();
    assert_eq!(waiting, [id]);
    assert!(leases.conflict(id).is_ok());
    let (lease, conflict) = leases.take_conflict(id).unwrap();
    assert!(leases.take_conflict(id).is_none(), "taken twice");
    assert!(leases.conflicts().is_empty());
    leases.put_conflict_back(lease, conflict);
    assert_eq!(leases.conflicts().len(), 1);
    assert_eq!(leases.surplus_conflict().map(|lease| lease.id), None);
    // One more than are kept: the oldest is in surplus.
    for _ in 1..crate::table::REMEMBERED {
        end(open_until(&leases, change.clone(), minute));
    }
    assert_eq!(leases.surplus_conflict().map(|lease| lease.id), None);
    end(open_until(&leases, change, minute));
    assert_eq!(leases.surplus_conflict().map(|lease| lease.id), Some(id));
    assert_eq!(leases.faults(), [] as [String; 0]);
}

#[test]
fn how_a_thousand_leases_ended_is_remembered() {
    let leases = Leases::after(0);
    let many = crate::table::REMEMBERED as u64;
    for _ in 0..=many {
        let id = open(&leases, Fake::at(STATE), 1, After::Revert);
        drop(
            leases
                .end(id, &Cause::Reverted, Wait::AGENT)
                .unwrap_or_else(|e| panic!("{e}")),
        );
        leases.ended(id, "reverted");
    }
    assert_eq!(leases.find(1).err(), Some(EndError::Unknown(1)));
    for id in [2, many + 1] {
        assert_eq!(
            leases.find(id).err(),
            Some(EndError::Ended { id, how: "reverted" })
        );
    }
}

#[test]
fn a_stopped_table_has_its_thread_end() {
    let leases = Arc::new(Leases::after(0));
    open(&leases, Fake::at(STATE), 1, After::Revert);
    let waits = leases.clone();
    let thread = std::thread::spawn(move || waits.wait_due());
    leases.stop();
    assert_eq!(thread.join().unwrap(), None);
}

#[test]
fn a_restored_lease_has_the_holder_and_the_end_that_it_had() {
    let leases = Leases::after(0);
    let id = open(&leases, Fake::at(STATE), 1, After::Revert);
    let now = BootTime::now();
    let before = leases.find(id).unwrap();
    // Only renewed: the lease keeps its session.
    let renewed = leases
        .renew(id, "alice", now.after(Duration::from_secs(900)), true, now)
        .unwrap();
    let restored = leases.restore(&before, &renewed, true, now).unwrap();
    assert_eq!(
        (restored.deadline, restored.phase),
        (before.deadline, Phase::Provisional)
    );
    assert_eq!((restored.session, restored.grace), (1, None));
    // Adopted, and its session has gone since.
    let adopted = leases.adopt(id, "alice", "bob", 2, now).unwrap();
    let restored = leases.restore(&before, &adopted, true, now).unwrap();
    assert_eq!((restored.owner.as_str(), restored.session), ("alice", 1));
    assert_eq!(restored.grace, Some(now.after(GRACE)));
}

/// A longer end that the change cannot be told of must not be promised; a shorter one only makes it stop sooner than the undo.
#[test]
fn a_restored_end_that_cannot_be_rearmed_is_over_only_if_it_is_later() {
    let minutes = |count: u64| Duration::from_secs(60 * count);
    for (given, over) in [(5, true), (10, false), (15, false)] {
        let leases = Leases::after(0);
        let change = Fake::at(STATE);
        let id = open(&leases, change.clone(), 1, After::Revert);
        let before = leases.find(id).unwrap();
        let now = BootTime::now();
        let deadline = if given == 10 {
            before.deadline
        } else {
            before.made.after(minutes(given))
        };
        let renewed = leases.renew(id, "alice", deadline, true, now).unwrap();
        *change.rearmed.lock().unwrap() = Rearmed::NotYet;
        assert!(leases.restore(&before, &renewed, false, now).is_some());
        assert_eq!(
            leases.find(id).unwrap().failing.is_some(),
            over,
            "{given} minutes"
        );
    }
}

#[test]
fn a_locked_table_is_given_up_soon() {
    let lock = Mutex::new(());
    assert!(lock_soon(&lock).is_some());
    let held = lock.lock().unwrap();
    std::thread::scope(|scope| {
        assert!(scope.spawn(|| lock_soon(&lock).is_none()).join().unwrap());
    });
    drop(held);
}

#[test]
fn the_longer_an_undo_has_failed_the_longer_it_waits() {
    let leases = Leases::after(0);
    let change = Fake::at(STATE);
    for (seconds, wait) in [(0, 50), (2, 500), (60, 1_000)] {
        let id = leases.claim(change.target(), "a test").unwrap().id;
        let since = BootTime(BootTime::now().0.saturating_sub(seconds * 1_000_000_000));
        let failing = Failing {
            why: "a test".to_owned(),
            since,
            again: since,
            cause: Cause::Expired,
            tried: true,
        };
        let old = Lease {
            failing: Some(failing),
            ..lease(id, change.clone(), 1, After::Revert)
        };
        drop(leases.open(old).unwrap_or_else(|_| panic!("closed")));
        change.failures.store(1, Ordering::SeqCst);
        let earliest = BootTime::now().after(Duration::from_millis(wait));
        assert!(leases.end(id, &Cause::Expired, Wait::AGENT).is_err());
        let again = leases.find(id).unwrap().failing.unwrap().again;
        assert!(again >= earliest, "{seconds} s");
        assert!(leases.end(id, &Cause::Expired, Wait::AGENT).is_ok());
    }
}

#[test]
fn a_lost_session_makes_due_only_what_has_stopped_already() {
    // The change stopped at the old end before it could be told of the grace: only the undo remains.
    let leases = Leases::after(0);
    let change = Fake::at(STATE);
    let id = open(&leases, change.clone(), 1, After::Revert);
    *change.rearmed.lock().unwrap() = Rearmed::Over;
    leases.session_lost(1, BootTime::now());
    assert!(leases.find(id).unwrap().failing.is_some());
    // A confirmed change keeps its end, whether it can be told so or not.
    let change = Fake::at("state:other");
    let id = open(&leases, change.clone(), 1, After::Revert);
    let now = BootTime::now();
    leases
        .renew(id, "alice", now.after(Duration::from_secs(60)), true, now)
        .unwrap();
    *change.rearmed.lock().unwrap() = Rearmed::NotYet;
    leases.session_lost(1, now);
    let lease = leases.find(id).unwrap();
    assert!(lease.failing.is_none() && lease.grace.is_some());
}

/// While it is told of its first new end, another thread gives its lease other terms.
struct Raced {
    target: Resource,
    leases: Mutex<Option<Arc<Leases>>>,
    asked: AtomicUsize,
}

impl Change for Raced {
    fn target(&self) -> &Resource {
        &self.target
    }

    fn make(&self, _: Begun, _: BootTime, _: &[u64]) -> Result<(), change::ChangeError> {
        Ok(())
    }

    fn rearm(&self, lease: u64, _: BootTime) -> Rearmed {
        let other = self.leases.lock().unwrap().take();
        if let Some(leases) = other {
            let now = BootTime::now();
            leases
                .renew(lease, "alice", now.after(Duration::from_secs(77)), true, now)
                .unwrap();
            return Rearmed::NotYet;
        }
        // The second is that of the other thread, which succeeds.
        match self.asked.fetch_add(1, Ordering::SeqCst) {
            0 => Rearmed::InForce,
            _ => Rearmed::NotYet,
        }
    }

    fn undo(&self, _: u64, _: Wait) -> Result<Undone, change::ChangeError> {
        Ok(Undone::default())
    }

    fn force(&self, _: Wait) -> Result<bool, change::ChangeError> {
        Ok(true)
    }
}

#[test]
fn a_failed_renewal_leaves_the_terms_that_another_thread_gave() {
    let leases = Arc::new(Leases::after(0));
    let change = Arc::new(Raced {
        target: STATE.parse().unwrap(),
        leases: Mutex::new(Some(leases.clone())),
        asked: AtomicUsize::new(0),
    });
    let now = BootTime::now();
    let id = open_until(&leases, change, now.after(Duration::from_secs(600)));
    let failed = leases.renew(id, "alice", now.after(Duration::from_secs(900)), false, now);
    assert_eq!(failed.err(), Some(EndError::Busy(id)));
    let lease = leases.find(id).unwrap();
    assert_eq!(lease.phase, Phase::Confirmed);
    assert!(lease.deadline <= now.after(Duration::from_secs(80)));
}
