mod facts;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use debug_policy::Resource;
use debug_wire::messages::After;

use super::*;
use crate::Begun;
use debug_base::Wait;

/// A change that counts its undos, and fails as many as it is told to.
pub(crate) struct Fake {
    target: Resource,
    undone: AtomicUsize,
    failures: AtomicUsize,
    /// An undo blocks on it.
    hold: Mutex<()>,
    /// The answer to `rearm`.
    rearmed: Mutex<Rearmed>,
}

impl Fake {
    pub(crate) fn at(target: &str) -> Arc<Self> {
        Arc::new(Self {
            target: target.parse().unwrap(),
            undone: AtomicUsize::new(0),
            failures: AtomicUsize::new(0),
            hold: Mutex::new(()),
            rearmed: Mutex::new(Rearmed::InForce),
        })
    }

    fn undone(&self) -> usize {
        self.undone.load(Ordering::SeqCst)
    }
}

impl Change for Fake {
    fn target(&self) -> &Resource {
        &self.target
    }

    fn make(&self, _: Begun, _: BootTime, _: &[u64]) -> Result<(), change::ChangeError> {
        Ok(())
    }

    fn rearm(&self, _: u64, _: BootTime) -> Rearmed {
        *self.rearmed.lock().unwrap()
    }

    fn undo(&self, _: u64, _: Wait) -> Result<Undone, change::ChangeError> {
        let _held = self.hold.lock().unwrap();
        if self.failures.load(Ordering::SeqCst) > 0 {
            self.failures.fetch_sub(1, Ordering::SeqCst);
            return Err(change::ChangeError::Busy("it is busy".to_owned()));
        }
        self.undone.fetch_add(1, Ordering::SeqCst);
        Ok(Undone::default())
    }

    fn force(&self, _: Wait) -> Result<bool, change::ChangeError> {
        Ok(true)
    }
}

fn open_until(leases: &Leases, change: Arc<dyn Change>, deadline: BootTime) -> u64 {
    let id = leases.claim(change.target(), "a test").unwrap().id;
    let lease = Lease {
        change,
        deadline,
        ..lease(id, Fake::at(STATE), 1, After::Revert)
    };
    drop(leases.open(lease).unwrap_or_else(|_| panic!("closed")));
    id
}

fn open(leases: &Leases, change: Arc<Fake>, session: u64, after: After) -> u64 {
    let id = leases.claim(change.target(), "a test").unwrap().id;
    drop(
        leases
            .open(lease(id, change, session, after))
            .unwrap_or_else(|_| panic!("closed")),
    );
    id
}

pub(crate) fn lease(id: u64, change: Arc<Fake>, session: u64, after: After) -> Lease {
    let now = BootTime::now();
    Lease {
        id,
        change,
        owner: "alice".to_owned(),
        session,
        eval: 0,
        reason: "a test".to_owned(),
        made: now,
        deadline: now.after(Duration::from_secs(600)),
        phase: Phase::Provisional,
        after,
        grace: None,
        failing: None,
    }
}

const STATE: &str = "state:config.db.port";

#[test]
fn a_lease_ends_once() {
    let (leases, change) = (Leases::after(0), Fake::at(STATE));
    let id = open(&leases, change.clone(), 1, After::Revert);
    assert!(leases.end(id, &Cause::Reverted, Wait::AGENT).is_ok());
    leases.ended(id, "reverted");
    assert!(matches!(
        leases.end(id, &Cause::Reverted, Wait::AGENT),
        Err(EndError::Ended { how: "reverted", .. })
    ));
    assert_eq!(change.undone(), 1);
}

/// T74: 10,000 races of a confirmation against the deadline and against a second thread that ends the lease. The lease either
/// ends, or is confirmed and then ends; exactly once in both cases. No confirmation is reported that did not hold.
#[test]
fn of_many_who_end_a_lease_at_once_one_does() {
    const RACES: usize = 10_000;
    let start = Arc::new(Barrier::new(4));
    type Round = Option<(Arc<Leases>, u64, BootTime)>;
    let round: Arc<Mutex<Round>> = Arc::default();
    let results: Arc<Mutex<Vec<(usize, bool)>>> = Arc::default();
    let racers: Vec<_> = (0..3)
        .map(|racer| {
            let (start, round, results) = (start.clone(), round.clone(), results.clone());
            std::thread::spawn(move || {
                for _ in 0..RACES {
                    start.wait();
                    let (leases, id, deadline) = round.lock().unwrap().clone().unwrap();
                    let won = match racer {
                        // One clock just before the deadline, one exactly at it.
                        0 => {
                            let now = BootTime(deadline.0 - 1);
                            leases
                                .renew(id, "alice", deadline.after(Duration::from_secs(60)), true, now)
                                .is_ok()
                        }
                        1 => {
                            let due = leases.overdue(deadline);
                            due.iter()
                                .any(|(id, cause)| leases.end(*id, cause, Wait::AGENT).is_ok())
                        }
                        _ => leases.end(id, &Cause::Reverted, Wait::AGENT).is_ok(),
                    };
                    results.lock().unwrap().push((racer, won));
                    start.wait();
                }
            })
        })
        .collect();
    let (mut expired, mut reverted, mut confirmed) = (0, 0, 0);
    for _ in 0..RACES {
        let (leases, change) = (Arc::new(Leases::after(0)), Fake::at(STATE));
        let id = open(&leases, change.clone(), 1, After::Revert);
        let deadline = leases.find(id).unwrap().deadline;
        *round.lock().unwrap() = Some((leases.clone(), id, deadline));
        start.wait();
        start.wait();
        let won = std::mem::take(&mut *results.lock().unwrap());
        let won = |racer| won.contains(&(racer, true));
        assert_eq!(
            (usize::from(won(1)) + usize::from(won(2)), change.undone()),
            (1, 1)
        );
        assert!(leases.list().is_empty());
        expired += usize::from(won(1));
        reverted += usize::from(won(2));
        confirmed += usize::from(won(0));
    }
    racers.into_iter().for_each(|racer| racer.join().unwrap());
    assert_eq!(expired + reverted, RACES);
    assert!(
        expired > 0 && reverted > 0 && confirmed > 0,
        "{expired} {reverted} {confirmed}"
    );
}

/// Invariant 12: the lease stays and is retried for the same cause.
#[test]
fn a_lease_that_cannot_be_undone_stays_until_it_can() {
    let (leases, change) = (Leases::after(0), Fake::at(STATE));
    change.failures.store(2, Ordering::SeqCst);
    let id = open(&leases, change.clone(), 1, After::Revert);
    assert!(matches!(
        leases.end(id, &Cause::Reverted, Wait::AGENT),
        Err(EndError::Failing { .. })
    ));
    let lease = leases.find(id).unwrap();
    assert_eq!(lease.due().1, Cause::Reverted);
    let due = leases.wait_due().unwrap();
    assert_eq!(due, [(id, Cause::Reverted)]);
    assert!(leases.end(id, &Cause::Reverted, Wait::AGENT).is_err());
    assert!(leases.end(id, &Cause::Reverted, Wait::AGENT).is_ok());
    assert_eq!(change.undone(), 1);
}

/// The first failure raises the alarm. Waiting for the change to be applied raises none and does not count as the first
/// failure.
#[test]
fn the_first_failure_is_told_from_waiting_before_it_and_from_failures_after_it() {
    let (leases, change) = (Leases::after(0), Fake::at(STATE));
    let id = open(&leases, change.clone(), 1, After::Revert);
    let lease = leases.find(id).unwrap();
    leases.end(id, &Cause::Reverted, Wait::AGENT).unwrap();
    let id = id + 1;
    let Ok(making) = leases.open(Lease { id, ..lease }) else {
        panic!("closed")
    };
    assert_eq!(
        leases.end(id, &Cause::Expired, Wait::AGENT).err(),
        Some(EndError::Ending(id))
    );
    drop(making);
    change.failures.store(2, Ordering::SeqCst);
    for expected in [true, false] {
        let failed = leases.end(id, &Cause::Expired, Wait::AGENT).err().unwrap();
        assert!(
            matches!(failed, EndError::Failing { first, .. } if first == expected),
            "{failed:?}"
        );
    }
    assert!(leases.end(id, &Cause::Expired, Wait::AGENT).is_ok());
}

#[test]
fn targets_overlap_when_one_contains_the_other() {
    let leases = Leases::after(0);
    let id = open(&leases, Fake::at(STATE), 1, After::Revert);
    for (target, overlaps) in [
        (STATE, true),
        ("state:config.db", true),
        ("state:config", true),
        ("state:config.db.port.x", true),
        ("state:config.db.host", false),
        ("state:rota", false),
        ("point:GET /config/db", false),
    ] {
        let standing = leases.standing(&target.parse().unwrap()).map(|lease| lease.id);
        assert_eq!(standing, overlaps.then_some(id), "{target}");
    }
}

#[test]
fn a_lost_session_gives_grace_to_what_was_not_confirmed_or_made_to_stay() {
    let leases = Leases::after(0);
    let plain = open(&leases, Fake::at("state:a"), 7, After::Revert);
    let persists = open(&leases, Fake::at("state:b"), 7, After::Persist);
    let confirmed = open(&leases, Fake::at("state:c"), 7, After::Revert);
    let other = open(&leases, Fake::at("state:d"), 8, After::Revert);
    let now = BootTime::now();
    leases
        .renew(confirmed, "alice", now.after(Duration::from_secs(60)), true, now)
        .unwrap();
    leases.session_lost(7, now);
    let graced: Vec<u64> = leases
        .list()
        .iter()
        .filter(|lease| lease.revertible_grace().is_some())
        .map(|lease| lease.id)
        .collect();
    assert_eq!(graced, [plain]);
    assert_eq!(
        leases.find(plain).unwrap().due(),
        (now.after(GRACE), Cause::SessionLost)
    );
    let taken: Vec<u64> = leases
        .take_over("alice", 9)
        .iter()
        .map(|lease| lease.id)
        .collect();
    assert_eq!(taken, [plain, confirmed]);
    assert_eq!(leases.find(plain).unwrap().session, 9);
    assert_eq!(
        (
            leases.find(persists).unwrap().session,
            leases.find(other).unwrap().session
        ),
        (7, 8)
    );
    assert!(leases.take_over("bob", 10).is_empty());
}

#[test]
fn a_lease_past_its_deadline_cannot_be_confirmed() {
    let leases = Leases::after(0);
    let id = open(&leases, Fake::at(STATE), 1, After::Revert);
    let late = BootTime::now().after(Duration::from_secs(601));
    let renewed = leases.renew(id, "alice", late.after(Duration::from_secs(60)), true, late);
    assert!(matches!(renewed, Err(EndError::Ended { how: "expired", .. })));
}

#[test]
fn ids_go_on_from_the_log() {
    let leases = Leases::after(41);
    let target = STATE.parse().unwrap();
    assert_eq!(leases.claim(&target, "a test").unwrap().id, 42);
    assert_eq!(leases.claim(&target, "a test").unwrap().id, 43);
    assert_eq!(leases.find(7).err(), Some(EndError::Unknown(7)));
}

#[test]
fn what_is_about_to_be_changed_is_kept_free_of_others() {
    let leases = Leases::after(0);
    let claim = |target: &str| leases.claim(&target.parse().unwrap(), "a test");
    let standing = claim("state:config.db").unwrap();
    for overlapping in ["state:config", "state:config.db", "state:config.db.port"] {
        assert_eq!(
            claim(overlapping).err(),
            Some("a test".to_owned()),
            "{overlapping}"
        );
    }
    drop(claim("state:config.server").unwrap());
    drop(standing);
    drop(claim("state:config.db.port").unwrap());
}

#[test]
fn a_session_lost_twice_gives_no_second_grace() {
    let leases = Leases::after(0);
    let id = open(&leases, Fake::at(STATE), 7, After::Revert);
    let now = BootTime::now();
    leases.session_lost(7, now);
    leases.session_lost(7, now.after(Duration::from_secs(30)));
    assert_eq!(leases.find(id).unwrap().due().0, now.after(GRACE));
}

/// Each would treat the other as still in force, and restore what that one had changed.
#[test]
fn two_layers_of_one_target_are_not_ended_at_once() {
    let (leases, below, above) = (
        Arc::new(Leases::after(0)),
        Fake::at(STATE),
        Fake::at("state:config.db"),
    );
    let first = open(&leases, below.clone(), 1, After::Revert);
    let second = open(&leases, above.clone(), 1, After::Revert);
    let held = below.hold.lock().unwrap();
    let ending = std::thread::spawn({
        let leases = leases.clone();
        move || leases.end(first, &Cause::Expired, Wait::AGENT).is_ok()
    });
    // The lease is in `ending` once the other thread undoes it.
    while leases.find(first).is_ok() {
        std::thread::yield_now();
    }
    assert_eq!(
        leases.end(second, &Cause::Reverted, Wait::AGENT).err(),
        Some(EndError::Ending(second))
    );
    assert_eq!(above.undone(), 0);
    let elsewhere = open(&leases, Fake::at("state:rota"), 1, After::Revert);
    assert!(leases.end(elsewhere, &Cause::Reverted, Wait::AGENT).is_ok());
    drop(held);
    assert!(ending.join().unwrap());
    // No second request is needed: the revert thread ends it, with the cause given.
    assert_eq!(leases.wait_due(), Some(vec![(second, Cause::Reverted)]));
    assert!(leases.end(second, &Cause::Reverted, Wait::AGENT).is_ok());
    assert_eq!((below.undone(), above.undone()), (1, 1));
}

/// A change that panics when it is undone.
struct Panics(Resource, std::sync::atomic::AtomicBool);

impl Change for Panics {
    fn target(&self) -> &Resource {
        &self.0
    }

    fn make(&self, _: Begun, _: BootTime, _: &[u64]) -> Result<(), change::ChangeError> {
        Ok(())
    }

    fn undo(&self, _: u64, _: Wait) -> Result<Undone, change::ChangeError> {
        assert!(!self.1.swap(false, Ordering::SeqCst), "nobody expected this");
        Ok(Undone::default())
    }

    fn force(&self, _: Wait) -> Result<bool, change::ChangeError> {
        Ok(true)
    }
}

#[test]
fn an_undo_that_panics_is_a_failed_one_that_is_tried_again() {
    let leases = Leases::after(0);
    let id = open_until(
        &leases,
        Arc::new(Panics(STATE.parse().unwrap(), true.into())),
        BootTime::now(),
    );
    let failed = leases.end(id, &Cause::Expired, Wait::AGENT).err();
    assert!(
        matches!(failed, Some(EndError::Failing { first: true, .. })),
        "{failed:?}"
    );
    assert!(leases.find(id).is_ok());
    assert!(leases.end(id, &Cause::Expired, Wait::AGENT).is_ok());
}

/// An undo before the change is applied would be lost: the change would be applied afterwards and stay.
#[test]
fn a_change_that_is_being_made_is_ended_when_it_is_made() {
    let (leases, change) = (Leases::after(0), Fake::at(STATE));
    let id = open(&leases, change.clone(), 1, After::Revert);
    let lease = leases.find(id).unwrap();
    leases.end(id, &Cause::Reverted, Wait::AGENT).unwrap();
    let id = id + 1;
    let Ok(making) = leases.open(Lease { id, ..lease }) else {
        panic!("closed")
    };
    assert_eq!(
        leases.end(id, &Cause::SessionLost, Wait::AGENT).err(),
        Some(EndError::Ending(id))
    );
    assert_eq!(change.undone(), 1, "only the lease before");
    drop(making);
    assert_eq!(leases.wait_due(), Some(vec![(id, Cause::SessionLost)]));
    assert!(leases.end(id, &Cause::SessionLost, Wait::AGENT).is_ok());
    assert_eq!(change.undone(), 2);
    assert_eq!(leases.faults(), [] as [String; 0]);
}

/// The author renewed it in an eval that then failed, after a lead had shortened it.
#[test]
fn a_failed_eval_takes_back_no_more_than_its_own_renewal() {
    let leases = Leases::after(0);
    let id = open(&leases, Fake::at(STATE), 1, After::Revert);
    let (before, now) = (leases.find(id).unwrap(), BootTime::now());
    let minutes = |minutes: u64| now.after(Duration::from_secs(60 * minutes));
    let renewed = leases.renew(id, "alice", minutes(20), false, now).unwrap();
    leases.renew(id, "alice", minutes(1), false, now).unwrap();
    assert!(leases.restore(&before, &renewed, false, now).is_none());
    assert_eq!(leases.find(id).unwrap().deadline, minutes(1));
    let (before, renewed) = (
        leases.find(id).unwrap(),
        leases.renew(id, "alice", minutes(30), true, now).unwrap(),
    );
    assert!(leases.restore(&before, &renewed, false, now).is_some());
    let lease = leases.find(id).unwrap();
    assert_eq!((lease.deadline, lease.phase), (minutes(1), Phase::Provisional));
}

#[test]
fn what_is_confirmed_no_longer_depends_on_its_session() {
    let leases = Leases::after(0);
    let id = open(&leases, Fake::at(STATE), 7, After::Revert);
    let now = BootTime::now();
    leases.session_lost(7, now);
    let later = now.after(Duration::from_secs(1200));
    assert_eq!(
        leases.renew(id, "alice", later, false, now).unwrap().due(),
        (now.after(GRACE), Cause::SessionLost)
    );
    assert_eq!(
        leases.renew(id, "alice", later, true, now).unwrap().due(),
        (later, Cause::Expired)
    );
}

#[test]
fn nothing_is_taken_in_once_the_agent_stops() {
    let leases = Leases::after(0);
    let id = open(&leases, Fake::at(STATE), 1, After::Revert);
    let lease = leases.find(id).unwrap();
    leases.close();
    assert!(leases.open(Lease { id: id + 1, ..lease }).is_err());
    assert_eq!(leases.list().len(), 1);
}

/// A failed renewal from another session must not save a lease that its lost session would have ended.
#[test]
fn a_lease_that_is_confirmed_only_for_a_moment_still_depends_on_its_session() {
    let leases = Leases::after(0);
    let id = open(&leases, Fake::at(STATE), 7, After::Revert);
    let (before, now) = (leases.find(id).unwrap(), BootTime::now());
    let confirmed = leases
        .renew(id, "alice", now.after(Duration::from_secs(180)), true, now)
        .unwrap();
    leases.session_lost(7, now);
    assert_eq!(leases.find(id).unwrap().due().1, Cause::Expired);
    leases.restore(&before, &confirmed, true, now).unwrap();
    assert_eq!(
        leases.find(id).unwrap().due(),
        (now.after(GRACE), Cause::SessionLost)
    );
}

#[test]
fn an_adopted_lease_is_another_operators_until_the_eval_that_adopted_it_fails() {
    let leases = Leases::after(0);
    let id = open(&leases, Fake::at(STATE), 7, After::Revert);
    let (before, now) = (leases.find(id).unwrap(), BootTime::now());
    leases.session_lost(7, now);
    let adopted = leases.adopt(id, "alice", "lea", 8, now).unwrap();
    assert_eq!(
        (adopted.owner.as_str(), adopted.session, adopted.due().1),
        ("lea", 8, Cause::Expired)
    );
    assert!(leases.take_over("alice", 9).is_empty());
    let restored = leases.restore(&before, &adopted, true, now).unwrap();
    assert_eq!((restored.owner.as_str(), restored.session), ("alice", 7));
    assert_eq!(restored.due(), (now.after(GRACE), Cause::SessionLost));
}

#[test]
fn a_lease_is_confirmed_once() {
    let leases = Leases::after(0);
    let id = open(&leases, Fake::at(STATE), 1, After::Revert);
    let now = BootTime::now();
    leases
        .renew(id, "alice", now.after(Duration::from_secs(60)), true, now)
        .unwrap();
    let again = leases.renew(id, "alice", now.after(Duration::from_secs(60)), true, now);
    assert_eq!(again.err(), Some(EndError::Confirmed(id)));
    assert!(
        leases
            .renew(id, "alice", now.after(Duration::from_secs(90)), false, now)
            .is_ok()
    );
}

/// The lease is about to be retried; a confirmation would be reported and not kept.
#[test]
fn a_lease_whose_undo_failed_is_not_renewed() {
    let (leases, change) = (Leases::after(0), Fake::at(STATE));
    let id = open(&leases, change.clone(), 1, After::Revert);
    change.failures.store(1, Ordering::SeqCst);
    leases
        .end(id, &Cause::Reverted, Wait::AGENT)
        .map(drop)
        .unwrap_err();
    let now = BootTime::now();
    for confirm in [true, false] {
        let renewed = leases.renew(id, "alice", now.after(Duration::from_secs(60)), confirm, now);
        assert!(matches!(renewed, Err(EndError::Failing { .. })));
    }
}

/// An adopted lease no longer belongs to the revoked operator.
#[test]
fn a_revoked_operators_leases_end_confirmed_ones_too() {
    let leases = Leases::after(0);
    let ids =
        ["state:a", "state:b", "state:c"].map(|target| open(&leases, Fake::at(target), 7, After::Persist));
    let now = BootTime::now();
    leases
        .renew(ids[1], "alice", now.after(Duration::from_secs(600)), true, now)
        .unwrap();
    leases.adopt(ids[2], "alice", "lea", 8, now).unwrap();
    let mut ended = Vec::new();
    let count = leases.revoke("alice", "the certificate was revoked", |id, cause| {
        assert_eq!(cause.kind(), "lease.revoked");
        leases.end(id, cause, Wait::AGENT).map(drop).unwrap();
        ended.push(id);
    });
    assert_eq!((count, ended), (2, vec![ids[1], ids[0]]));
    assert_eq!(
        leases.list().iter().map(|lease| lease.id).collect::<Vec<_>>(),
        [ids[2]]
    );
}

/// A policy decision about one operator's lease must not apply to another's.
#[test]
fn what_was_decided_of_one_owner_does_not_hold_for_the_next() {
    let (leases, change) = (Leases::after(0), Fake::at(STATE));
    let id = open(&leases, change.clone(), 1, After::Revert);
    let now = BootTime::now();
    leases.adopt(id, "alice", "lea", 2, now).unwrap();
    let later = now.after(Duration::from_secs(60));
    assert_eq!(
        leases.renew(id, "alice", later, false, now).err(),
        Some(EndError::Owner(id))
    );
    assert_eq!(
        leases.adopt(id, "alice", "bob", 3, now).err(),
        Some(EndError::Owner(id))
    );
    let ended = leases.end_of(id, Some("alice"), &Cause::Reverted, Wait::AGENT);
    assert_eq!(ended.err(), Some(EndError::Owner(id)));
    assert_eq!(change.undone(), 0);
    assert!(
        leases
            .end_of(id, Some("lea"), &Cause::Reverted, Wait::AGENT)
            .is_ok()
    );
}

/// A deadline known only to the table would not be enforced.
#[test]
fn a_deadline_that_the_change_cannot_be_told_of_is_refused() {
    let (leases, change) = (Leases::after(0), Fake::at(STATE));
    let id = open(&leases, change.clone(), 1, After::Revert);
    let (before, now) = (leases.find(id).unwrap(), BootTime::now());
    *change.rearmed.lock().unwrap() = Rearmed::NotYet;
    let later = now.after(Duration::from_secs(6_000));
    assert_eq!(
        leases.renew(id, "alice", later, true, now).err(),
        Some(EndError::Busy(id))
    );
    assert_eq!(
        leases.adopt(id, "alice", "lea", 2, now).err(),
        Some(EndError::Busy(id))
    );
    let after = leases.find(id).unwrap();
    let told = |lease: &Lease| (lease.deadline, lease.phase, lease.owner.clone(), lease.session);
    assert_eq!(told(&after), told(&before));
    // An earlier end needs no rearming; a later one does.
    leases.session_lost(1, now);
    assert!(leases.overdue(BootTime::now()).is_empty());
    leases.take_over("alice", 2);
    assert_eq!(leases.overdue(BootTime::now()), [(id, Cause::SessionLost)]);
    *change.rearmed.lock().unwrap() = Rearmed::InForce;
    leases.end(id, &Cause::SessionLost, Wait::AGENT).unwrap();
}

/// A takeover, adoption or extension after the end does not revive a lease that only waits for its undo.
#[test]
fn what_is_over_stays_over_and_for_the_cause_it_had() {
    let leases = Leases::after(0);
    let (lost, kept) = (Fake::at(STATE), Fake::at("point:GET /x"));
    let id = open(&leases, lost.clone(), 1, After::Revert);
    let now = BootTime::now();
    let deadline = BootTime(now.0 - 1);
    let persists = leases.claim(kept.target(), "a test").unwrap().id;
    let made = Lease {
        deadline,
        ..lease(persists, kept, 1, After::Persist)
    };
    drop(leases.open(made).unwrap_or_else(|_| panic!("closed")));
    leases.session_lost(1, BootTime(0));
    let due = [(id, Cause::SessionLost), (persists, Cause::Expired)];
    assert_eq!(leases.overdue(now), due);
    *lost.rearmed.lock().unwrap() = Rearmed::Over;
    assert!(leases.take_over("alice", 2).is_empty());
    let later = now.after(Duration::from_secs(600));
    for (id, how) in [(id, "session-lost"), (persists, "expired")] {
        assert_eq!(
            leases.adopt(id, "alice", "lea", 3, now).err(),
            Some(EndError::Ended { id, how })
        );
        assert_eq!(
            leases.renew(id, "alice", later, false, now).err(),
            Some(EndError::Ended { id, how })
        );
    }
    assert_eq!(leases.overdue(now), due);
}

#[test]
fn a_lease_that_must_wait_for_its_end_is_not_asked_for_again_at_once() {
    let (leases, change) = (Leases::after(0), Fake::at("target:a::b"));
    let id = leases.claim(change.target(), "a test").unwrap().id;
    let made = Lease {
        deadline: BootTime::now(),
        ..lease(id, change, 1, After::Revert)
    };
    let Ok(making) = leases.open(made) else {
        panic!("closed")
    };
    for _ in 0..3 {
        let now = BootTime::now();
        assert_eq!(
            leases.end(id, &Cause::Expired, Wait::AGENT).err(),
            Some(EndError::Ending(id))
        );
        assert!(leases.overdue(now).is_empty());
    }
    drop(making);
    leases.end(id, &Cause::Expired, Wait::AGENT).unwrap();
}

/// The table remembers how the last thousand leases ended. An old one is among them when it ends late.
#[test]
fn a_lease_that_ends_long_after_younger_ones_is_remembered_and_no_fault() {
    let (leases, change) = (Leases::after(0), Fake::at(STATE));
    let old = open(&leases, change.clone(), 1, After::Revert);
    for _ in 0..=crate::table::REMEMBERED {
        let young = open(&leases, change.clone(), 1, After::Revert);
        leases.end(young, &Cause::Reverted, Wait::AGENT).unwrap();
    }
    leases.end(old, &Cause::Reverted, Wait::AGENT).unwrap();
    assert_eq!(leases.faults(), Vec::<String>::new());
    let again = leases.end(old, &Cause::Reverted, Wait::AGENT).err();
    assert!(matches!(again, Some(EndError::Ended { .. })), "{again:?}");
}
