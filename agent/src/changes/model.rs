//! Random histories of leases, run on the real table and on an independent model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use debug_wire::messages::After;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::{PatchChange, WriteChange, Writes};
use debug_base::{BootTime, Path, Tree, Wait};
use debug_lease::for_test::Leaf;
use debug_lease::{Cause, Change, EndError, GRACE, Lease, Leases, Phase};
use debug_points::for_test::{Heard, fake};
use debug_points::{Point, Slot};
use debug_state::{Redactor, SharedCell, States, writable};

/// The service's state.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct ModelConfig {
    x: i64,
    y: i64,
}

const FRESH: ModelConfig = ModelConfig { x: 0, y: 1 };
const OPERATORS: [&str; 2] = ["alice", "lea"];
/// The places that change: three in the state, and a point.
const PLACES: [&str; 3] = ["config", "config.x", "config.y"];
const POINT: usize = 3;
/// Seconds, ahead of any host's clock: the table also compares with the real clock, so an earlier time would be past.
const START: u64 = 1_000_000_000;

#[derive(Clone, Debug)]
enum Act {
    Change {
        place: usize,
        values: [i64; 2],
        ttl: u64,
        persist: bool,
        session: usize,
    },
    Confirm {
        which: usize,
        ttl: u64,
    },
    Extend {
        which: usize,
        ttl: u64,
    },
    Adopt {
        which: usize,
        session: usize,
    },
    Revert {
        which: usize,
    },
    Guard {
        which: usize,
    },
    Foreign {
        leaf: usize,
        value: i64,
    },
    Lose {
        session: usize,
    },
    Return {
        operator: usize,
    },
    Pass {
        seconds: u64,
    },
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    // Few distinct times, so that deadlines coincide.
    let time = prop_oneof![Just(1u64), Just(30), Just(60), Just(90)];
    prop_oneof![
        6 => (0..4usize, prop::array::uniform2(0..3i64), time.clone(), any::<bool>(), 0..4usize).prop_map(
            |(place, values, ttl, persist, session)| Act::Change { place, values, ttl, persist, session }
        ),
        2 => (0..6usize, time.clone()).prop_map(|(which, ttl)| Act::Confirm { which, ttl }),
        2 => (0..6usize, time.clone()).prop_map(|(which, ttl)| Act::Extend { which, ttl }),
        2 => (0..6usize, 0..4usize).prop_map(|(which, session)| Act::Adopt { which, session }),
        2 => (0..6usize).prop_map(|which| Act::Revert { which }),
        1 => (0..6usize).prop_map(|which| Act::Guard { which }),
        3 => (0..2usize, 0..3i64).prop_map(|(leaf, value)| Act::Foreign { leaf, value }),
        2 => (0..4usize).prop_map(|session| Act::Lose { session }),
        2 => (0..2usize).prop_map(|operator| Act::Return { operator }),
        5 => time.prop_map(|seconds| Act::Pass { seconds }),
        1 => Just(Act::Restart),
    ]
}

fn history() -> impl Strategy<Value = Vec<Act>> {
    prop::collection::vec(act(), 1..40)
}

/// A lease as the model knows it; times in seconds.
#[derive(Clone, Debug)]
struct Known {
    owner: &'static str,
    session: u64,
    confirmed: bool,
    persist: bool,
    deadline: u64,
    grace: Option<u64>,
    place: usize,
}

impl Known {
    fn until(&self) -> u64 {
        match self.grace {
            Some(grace) if !self.confirmed => grace.min(self.deadline),
            _ => self.deadline,
        }
    }
}

/// The system under test.
struct Real {
    config: Arc<RwLock<ModelConfig>>,
    leases: Leases,
    writes: Arc<Writes>,
    slot: Arc<Slot>,
}

impl Real {
    fn after(highest: u64) -> Self {
        let config = Arc::new(RwLock::new(FRESH));
        let state = writable("config".parse().unwrap(), SharedCell::Shared(config.clone()));
        let states = Arc::new(States::new(vec![state], Vec::new(), Arc::new(Redactor::new(&[]))).unwrap());
        let slot = Arc::new(Slot::route("GET /x".to_owned()));
        Self {
            config,
            leases: Leases::after(highest),
            writes: Arc::new(Writes::new(states)),
            slot,
        }
    }

    fn values(&self) -> [i64; 2] {
        let config = self.config.read().unwrap();
        [config.x, config.y]
    }

    fn change(&self, place: usize, values: [i64; 2]) -> Arc<dyn Change> {
        if place == POINT {
            let code = fake(move |_| Ok(Tree::I64(values[0])));
            return Arc::new(PatchChange::new(
                Point::Route(self.slot.clone()),
                code,
                Arc::<Heard>::default(),
                None,
            ));
        }
        let path: Path = PLACES[place].parse().unwrap();
        let whole = |[x, y]: [i64; 2]| {
            Tree::Map(vec![
                ("x".to_owned(), Tree::I64(x)),
                ("y".to_owned(), Tree::I64(y)),
            ])
        };
        let at = |tree: Tree| tree.at(path.below()).unwrap().clone();
        let (before, after) = (at(whole(self.values())), at(whole(values)));
        Arc::new(WriteChange::new(
            self.writes.clone(),
            path,
            Some(before),
            Some(after),
        ))
    }
}

struct ModelWorld {
    real: Real,
    now: u64,
    known: BTreeMap<u64, Known>,
    leaves: [Leaf; 2],
    /// By number; lost sessions stay in the list.
    sessions: Vec<(&'static str, bool)>,
    highest: u64,
    /// How often each lease ended.
    ended: BTreeMap<u64, u32>,
    conflicts: BTreeSet<u64>,
}

fn fresh() -> [Leaf; 2] {
    [
        Leaf {
            base: FRESH.x,
            above: Vec::new(),
        },
        Leaf {
            base: FRESH.y,
            above: Vec::new(),
        },
    ]
}

fn at(seconds: u64) -> BootTime {
    BootTime(0).after(Duration::from_secs(seconds))
}

macro_rules! demand {
    ($left:expr, $right:expr, $($words:tt)*) => {
        let (real, model) = ($left, $right);
        if real != model {
            return Err(format!("{}: {real:?}, the model says {model:?}", format!($($words)*)));
        }
    };
}

impl ModelWorld {
    fn new() -> Self {
        let sessions = vec![("alice", true), ("lea", true)];
        let (known, ended, conflicts) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self {
            real: Real::after(0),
            now: START,
            known,
            leaves: fresh(),
            sessions,
            highest: 0,
            ended,
            conflicts,
        }
    }

    fn lease(&self, which: usize) -> Option<u64> {
        self.known.keys().nth(which).copied()
    }

    fn session(&self, which: usize) -> Option<u64> {
        let open = self.sessions.iter().enumerate().filter(|(_, (_, open))| *open);
        open.map(|(number, _)| number as u64).nth(which)
    }

    fn change(
        &mut self,
        place: usize,
        values: [i64; 2],
        ttl: u64,
        persist: bool,
        session: u64,
    ) -> Result<(), String> {
        let change = self.real.change(place, values);
        let claim = self
            .real
            .leases
            .claim(change.target(), "a test")
            .map_err(|by| format!("claimed by {by}"))?;
        let (id, owner) = (claim.id, self.sessions[session as usize].0);
        demand!(id, self.highest + 1, "the next id");
        let (now, deadline) = (at(self.now), at(self.now + ttl));
        let lease = Lease {
            id,
            change: change.clone(),
            owner: owner.to_owned(),
            session,
            eval: 0,
            reason: String::new(),
            made: now,
            deadline,
            phase: Phase::Provisional,
            after: if persist { After::Persist } else { After::Revert },
            grace: None,
            failing: None,
        };
        let mut making = self.real.leases.open(lease).map_err(|_| "closed".to_owned())?;
        let begun = making.begin().ok_or("a lease begins once")?;
        change
            .make(begun, deadline, &(0..id).collect::<Vec<_>>())
            .map_err(|error| error.to_string())?;
        drop((making, claim));
        self.highest = id;
        let deadline = self.now + ttl;
        self.known.insert(
            id,
            Known {
                owner,
                session,
                confirmed: false,
                persist,
                deadline,
                grace: None,
                place,
            },
        );
        for (leaf, value) in self
            .leaves
            .iter_mut()
            .zip(values)
            .enumerate()
            .filter(|(at, _)| covers(place, *at))
            .map(|(_, both)| both)
        {
            leaf.above.push((Some(id), value));
        }
        Ok(())
    }

    /// Ends a lease in the table and in the model.
    fn end(&mut self, id: u64, cause: &Cause) -> Result<(), String> {
        let real = self
            .real
            .leases
            .end(id, cause, Wait::AGENT)
            .map_err(|error| error.to_string())?;
        self.real.leases.ended(id, cause.word());
        *self.ended.entry(id).or_default() += 1;
        demand!(real.lease.id, id, "which one ended");
        let Some(known) = self.known.remove(&id) else {
            return Err(format!("lease {id} ended and was not in force"));
        };
        let mut conflict = false;
        if known.place != POINT {
            self.leaves.iter_mut().for_each(|leaf| conflict |= leaf.end(id));
        }
        if conflict {
            self.conflicts.insert(id);
        }
        demand!(
            real.undone.conflict.is_some(),
            conflict,
            "lease {id} is a conflict"
        );
        Ok(())
    }

    fn renew(&mut self, id: u64, ttl: u64, confirm: bool) -> Result<(), String> {
        let (now, until) = (at(self.now), at(self.now + ttl));
        let owner = self.known.get(&id).map_or("", |known| known.owner);
        let real = self.real.leases.renew(id, owner, until, confirm, now).err();
        let (deadline, now) = (self.now + ttl, self.now);
        let Some(known) = self.known.get_mut(&id) else {
            return Ok(());
        };
        let model = if known.until() <= now {
            let how = if known.until() < known.deadline {
                "session-lost"
            } else {
                "expired"
            };
            Some(EndError::Ended { id, how })
        } else if confirm && known.confirmed {
            Some(EndError::Confirmed(id))
        } else {
            known.deadline = deadline;
            known.confirmed |= confirm;
            None
        };
        demand!(real, model, "renewing lease {id}");
        Ok(())
    }

    /// Ends the due leases and compares everything.
    fn look(&mut self) -> Result<(), String> {
        // A point enforces the deadline on each call, independent of the revert thread.
        let now = at(self.now);
        let real = self.real.slot.in_force(now).map(|layer| layer.lease());
        let standing = self
            .known
            .iter()
            .filter(|(_, known)| known.place == POINT && self.now < known.until());
        demand!(
            real,
            standing.map(|(id, _)| *id).next_back(),
            "the layer in force"
        );
        let due = self.real.leases.overdue(now);
        let expected = self.known.iter().filter(|(_, known)| known.until() <= self.now);
        let expected: Vec<u64> = expected.map(|(id, _)| *id).collect();
        demand!(
            due.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
            expected,
            "what is due"
        );
        for (id, cause) in due {
            self.end(id, &cause)?;
        }
        demand!(
            self.real.values(),
            self.leaves.each_ref().map(Leaf::live),
            "the state"
        );
        demand!(
            self.real.leases.faults(),
            Vec::<String>::new(),
            "steps out of order"
        );
        let told = |lease: &Lease| {
            (
                lease.id,
                lease.owner.clone(),
                lease.phase == Phase::Confirmed,
                lease.due().0,
            )
        };
        let real: Vec<_> = self.real.leases.list().iter().map(told).collect();
        let model = self
            .known
            .iter()
            .map(|(id, k)| (*id, k.owner.to_owned(), k.confirmed, at(k.until())));
        demand!(real, model.collect::<Vec<_>>(), "the leases in force");
        let conflicts: BTreeSet<u64> = self
            .real
            .leases
            .conflicts()
            .iter()
            .map(|(lease, _)| lease.id)
            .collect();
        demand!(&conflicts, &self.conflicts, "the conflicts");
        match self.ended.iter().find(|(_, times)| **times != 1) {
            Some((id, times)) => Err(format!("lease {id} has ended {times} times")),
            None => Ok(()),
        }
    }

    fn play(&mut self, act: &Act) -> Result<(), String> {
        match *act {
            Act::Change {
                place,
                values,
                ttl,
                persist,
                session,
            } => {
                if let Some(session) = self.session(session) {
                    self.change(place, values, ttl, persist, session)?;
                }
            }
            Act::Confirm { which, ttl } => {
                if let Some(id) = self.lease(which) {
                    self.renew(id, ttl, true)?;
                }
            }
            Act::Extend { which, ttl } => {
                if let Some(id) = self.lease(which) {
                    self.renew(id, ttl, false)?;
                }
            }
            Act::Adopt { which, session } => {
                if let (Some(id), Some(session)) = (self.lease(which), self.session(session)) {
                    let owner = self.sessions[session as usize].0;
                    let from = self.known.get(&id).map_or("", |known| known.owner);
                    let real = self
                        .real
                        .leases
                        .adopt(id, from, owner, session, at(self.now))
                        .is_ok();
                    let (now, Some(known)) = (self.now, self.known.get_mut(&id)) else {
                        return Ok(());
                    };
                    let model = now < known.until();
                    if model {
                        (known.owner, known.session, known.grace) = (owner, session, None);
                    }
                    demand!(real, model, "adopting lease {id}");
                }
            }
            Act::Revert { which } => {
                if let Some(id) = self.lease(which) {
                    self.end(id, &Cause::Reverted)?;
                }
            }
            Act::Guard { which } => {
                if let Some(id) = self.lease(which) {
                    self.end(id, &Cause::GuardFailed("false".to_owned()))?;
                }
            }
            Act::Foreign { leaf, value } => {
                let mut config = self.real.config.write().unwrap();
                *(if leaf == 0 { &mut config.x } else { &mut config.y }) = value;
                drop(config);
                self.leaves[leaf].foreign(value);
            }
            Act::Lose { session } => {
                if let Some(session) = self.session(session) {
                    self.sessions[session as usize].1 = false;
                    self.real.leases.session_lost(session, at(self.now));
                    let grace = self.now + GRACE.as_secs();
                    for known in self
                        .known
                        .values_mut()
                        .filter(|known| known.session == session && !known.persist)
                    {
                        known.grace.get_or_insert(grace);
                    }
                }
            }
            Act::Return { operator } => {
                let (operator, session) = (OPERATORS[operator], self.sessions.len() as u64);
                self.sessions.push((operator, true));
                self.real.leases.take_over(operator, session);
                for known in self
                    .known
                    .values_mut()
                    .filter(|known| known.owner == operator && known.grace.is_some())
                {
                    (known.grace, known.session) = (None, session);
                }
            }
            // The revert thread does not run: the next access finds what is overdue.
            Act::Pass { seconds } => {
                self.now += seconds;
                return Ok(());
            }
            Act::Restart => {
                // After a restart, the log gives the leases and the highest id.
                for id in std::mem::take(&mut self.known).into_keys() {
                    *self.ended.entry(id).or_default() += 1;
                }
                self.real = Real::after(self.highest);
                (self.leaves, self.conflicts) = (fresh(), BTreeSet::new());
                self.sessions = vec![("alice", true), ("lea", true)];
            }
        }
        self.look()
    }
}

fn covers(place: usize, leaf: usize) -> bool {
    place == 0 || place == leaf + 1
}

fn play(history: &[Act]) -> Result<(), String> {
    let mut world = ModelWorld::new();
    history.iter().try_for_each(|act| world.play(act))?;
    // At the end nothing is in force and every value is the service's own.
    world.now += 10_000;
    world.look()?;
    demand!(
        world.real.values(),
        world.leaves.each_ref().map(Leaf::live),
        "what is left"
    );
    demand!(
        world.ended.len() as u64,
        world.highest,
        "the leases that have ended"
    );
    Ok(())
}

mod cells;
mod things;

/// Number of histories: 500, or `DEBUG_TESTS_HISTORIES`; 10,000 in the long run.
fn histories() -> u32 {
    std::env::var("DEBUG_TESTS_HISTORIES")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(500)
}

#[test]
fn leases_do_what_the_model_says() {
    let config = ProptestConfig {
        cases: histories(),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(history in history())| {
        if let Err(why) = play(&history) {
            return Err(TestCaseError::fail(why));
        }
    });
}
