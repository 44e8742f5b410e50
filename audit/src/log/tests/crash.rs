//! Kills and power losses at every step, and any mixture of faults.

use proptest::prelude::*;

use super::sim::{Image, World};
use super::*;

/// The files after a crash, with the number of acknowledged records that they must hold.
struct Crash {
    image: Image,
    acknowledged: usize,
}

/// Everything that a run acknowledged to its callers.
#[derive(Default)]
struct Told {
    /// Number and line of each record acknowledged as durable, in order.
    records: Vec<(u64, Vec<u8>)>,
    heads: Vec<(usize, Checkpoint)>,
}

type Shared<T> = Arc<Mutex<T>>;

fn tell(told: &Shared<Told>, log: &Log, key: &SigningKey, receipt: &Receipt) {
    let mut told = lock(told);
    for seq in receipt.first..=receipt.last {
        told.records.push((seq, log.record(seq).unwrap().unwrap()));
    }
    let count = told.records.len();
    told.heads.push((
        count,
        Checkpoint::open(&receipt.checkpoint, key.verifier()).unwrap(),
    ));
}

/// Opens the files after a crash, as the next start would, and checks them against what was acknowledged before it.
fn check_crash(crash: &Crash, told: &Told, key: &SigningKey) {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in &crash.image {
        fs::write(dir.path().join(name), content).unwrap();
    }
    let opened = Log::open_with(Box::new(Sim::new(dir.path())), key.clone());
    let (log, opened) = opened.unwrap_or_else(|error| panic!("{error:?} in {:?}", names(dir.path())));
    for (seq, line) in &told.records[..crash.acknowledged] {
        assert_eq!(
            log.record(*seq).unwrap().as_ref(),
            Some(line),
            "record {seq} of {}",
            opened.size
        );
    }
    check_heads(&log, told, crash.acknowledged);
    if opened.fresh {
        boot(&log);
    }
    durable(&log, entry("recovered", "x")).unwrap();
    log.close(LONG).unwrap();
    assert_eq!(checked(dir.path(), key).covered, opened.size.max(1) + 1);
}

fn check_heads(log: &Log, told: &Told, acknowledged: usize) {
    for (_, head) in told.heads.iter().filter(|(count, _)| *count <= acknowledged) {
        let root = log.shared.read(|index| index.tree.root_at(head.size));
        assert_eq!(root, Some(head.root), "two roots for size {}", head.size);
    }
}

/// T65: a kill, or a power loss, at each operation of a run with failing writes and syncs.
#[test]
fn acknowledged_records_survive_a_crash_at_every_step() {
    let (dir, key) = (tempfile::tempdir().unwrap(), key());
    let sim = Sim::new(dir.path());
    let (told, crashes) = (Shared::<Told>::default(), Shared::<Vec<Crash>>::default());
    let (seen, saved) = (Arc::clone(&told), Arc::clone(&crashes));
    sim.watch(move |world: &World| {
        let acknowledged = lock(&seen).records.len();
        let images = [
            world.killed(),
            world.power_lost(false, 0, false),
            world.power_lost(true, 0, false),
            world.power_lost(true, 25, false),
            world.power_lost(true, 70, true),
        ];
        lock(&saved).extend(images.map(|image| Crash { image, acknowledged }));
    });
    let (log, _) = Log::open_with(Box::new(sim.clone()), key.clone()).unwrap();
    tell(&told, &log, &key, &boot(&log));
    for fault in [Fault::None, Fault::Partial(60, ENOSPC), Fault::Fail(EIO)] {
        let mut left = 2;
        sim.plan(move |_, op, name| {
            let hit = name.starts_with("records-")
                && if matches!(fault, Fault::Fail(_)) {
                    op == Op::Sync
                } else {
                    op == Op::Write
                };
            if hit && left > 0 {
                left -= 1;
                return fault;
            }
            Fault::None
        });
        log.append(vec![entry("eval", "written")], Until::Written)
            .written()
            .unwrap();
        let receipt = log
            .append(
                vec![entry("effect", "one"), entry("effect", "two")],
                Until::Durable,
            )
            .durable()
            .unwrap();
        tell(&told, &log, &key, &receipt);
        tell(&told, &log, &key, &durable(&log, entry("outcome", "x")).unwrap());
    }
    log.close(LONG).unwrap();
    let (told, crashes) = (lock(&told), lock(&crashes));
    assert!(crashes.len() > 300, "{}", crashes.len());
    let mut checked = std::collections::HashSet::new();
    for crash in crashes.iter() {
        if checked.insert((&crash.image, crash.acknowledged)) {
            check_crash(crash, &told, &key);
        }
    }
}

/// T65: recovery itself may be killed at each operation.
#[test]
fn a_crash_while_recovering_loses_nothing() {
    let (dir, key) = (tempfile::tempdir().unwrap(), key());
    let stored = {
        example(dir.path(), &key, 3);
        let checkpoint = fs::read(dir.path().join("checkpoint")).unwrap();
        let (log, _) = Log::open(dir.path(), key.clone()).unwrap();
        durable(&log, entry("eval", "durable, but the checkpoint is older")).unwrap();
        log.close(LONG).unwrap();
        checkpoint
    };
    fs::write(dir.path().join("checkpoint"), stored).unwrap();
    let records = fs::read_to_string(dir.path().join("records-0.jsonl")).unwrap();
    fs::write(
        dir.path().join("records-0.jsonl"),
        format!("{records}{{\"v\":1,\"se"),
    )
    .unwrap();
    let records: Vec<_> = (0..)
        .zip(records.lines().map(|line| line.as_bytes().to_vec()))
        .collect();
    let told = Told {
        records,
        heads: Vec::new(),
    };
    let (sim, crashes) = (Sim::new(dir.path()), Shared::<Vec<Crash>>::default());
    let saved = Arc::clone(&crashes);
    sim.watch(move |world: &World| {
        for image in [
            world.killed(),
            world.power_lost(false, 0, false),
            world.power_lost(true, 9, false),
        ] {
            lock(&saved).push(Crash {
                image,
                acknowledged: 4,
            });
        }
    });
    let (log, opened) = Log::open_with(Box::new(sim), key.clone()).unwrap();
    let torn = Torn {
        file: "records-0.jsonl".to_owned(),
        moved_to: "torn-4-0".to_owned(),
        seq: 4,
        bytes: 10,
    };
    assert_eq!(
        opened.recovered,
        Some(Recovered {
            torn: Some(torn),
            covered: 3,
            adopted: 1
        })
    );
    assert_eq!(fs::read(dir.path().join("torn-4-0")).unwrap(), b"{\"v\":1,\"se");
    log.close(LONG).unwrap();
    for crash in lock(&crashes).iter() {
        check_crash(crash, &told, &key);
    }
}

#[derive(Clone, Debug)]
struct Step {
    count: usize,
    until: Until,
    keep: bool,
    terminal: bool,
    wait: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let until = prop_oneof![Just(Until::Written), Just(Until::Durable)];
    let step = (1usize..4, until, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(count, until, keep, terminal, wait)| Step {
            count,
            until,
            keep,
            terminal,
            wait,
        },
    );
    prop::collection::vec(step, 1..16)
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let fault = prop_oneof![
        6 => Just(Fault::None),
        1 => Just(Fault::Fail(EIO)),
        1 => Just(Fault::Fail(ENOSPC)),
        1 => (0usize..200).prop_map(|bytes| Fault::Partial(bytes, ENOSPC)),
        1 => (0usize..200).prop_map(|bytes| Fault::Partial(bytes, EIO)),
    ];
    prop::collection::vec(fault, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// T48, T65.
    #[test]
    fn no_mixture_of_faults_loses_an_acknowledged_record_or_signs_two_heads(
        steps in steps(), faults in faults(), crash_at in 0usize..200, kept in 0usize..300, zeros: bool,
    ) {
        let (dir, key) = (tempfile::tempdir().unwrap(), key());
        let sim = Sim::new(dir.path());
        let (told, crashes) = (Shared::<Told>::default(), Shared::<Vec<Crash>>::default());
        let (log, _) = Log::open_with(Box::new(sim.clone()), key.clone()).unwrap();
        tell(&told, &log, &key, &boot(&log));
        let (seen, saved, mut step) = (Arc::clone(&told), Arc::clone(&crashes), 0);
        sim.watch(move |world: &World| {
            step += 1;
            if step == crash_at {
                let acknowledged = lock(&seen).records.len();
                for image in [world.killed(), world.power_lost(true, kept, zeros), world.power_lost(false, kept, false)] {
                    lock(&saved).push(Crash { image, acknowledged });
                }
            }
        });
        let mut left = faults.into_iter();
        sim.plan(move |_, _, _| left.next().unwrap_or(Fault::None));
        let mut later = Vec::new();
        for step in steps {
            let one = Entry { keep: step.keep, terminal: step.terminal, ..entry("eval", "0123456789 0123456789") };
            let ticket = log.append(vec![one; step.count], step.until);
            if !step.wait {
                later.push(ticket);
            } else if let (Until::Durable, Ok(receipt)) = (step.until, ticket.durable()) {
                tell(&told, &log, &key, &receipt);
            } else {
                let _ = ticket.written();
            }
        }
        for ticket in later {
            if let Ok(receipt) = ticket.durable() {
                tell(&told, &log, &key, &receipt);
            }
        }
        // The disk works again: all held records must reach it.
        sim.plan(|_, _, _| Fault::None);
        tell(&told, &log, &key, &durable(&log, entry("eval", "last")).unwrap());
        let told_again = Arc::clone(&told);
        let told = lock(&told);
        check_heads(&log, &told, told.records.len());
        for (seq, line) in &told.records {
            let found = log.record(*seq).unwrap();
            prop_assert_eq!(found.as_ref(), Some(line));
        }
        let size = log.size();
        // The simulated disk holds a reference to `told` as well.
        drop(told);
        log.close(LONG).unwrap();
        let told = lock(&told_again);
        prop_assert_eq!(checked(dir.path(), &key).covered, size);
        for crash in lock(&crashes).iter() {
            check_crash(crash, &told, &key);
        }
    }
}
