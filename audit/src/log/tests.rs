use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, mpsc};

use super::*;
use crate::checkpoint::Checkpoint;
use crate::read::Reader;
use crate::{Verified, verify};
use sim::{EIO, ENOSPC, EROFS, Fault, Op, Sim};

mod crash;
mod open;
mod sim;

const NAME: &str = "shop.internal/shop/1";
const LONG: Duration = Duration::from_secs(60);

fn key() -> SigningKey {
    SigningKey::generate(NAME).unwrap()
}

fn entry(kind: &'static str, text: &str) -> Entry {
    Entry {
        kind,
        body: format!(r#"{{"text":"{text}"}}"#),
        keep: false,
        terminal: false,
    }
}

fn kept(kind: &'static str, text: &str) -> Entry {
    Entry {
        keep: true,
        ..entry(kind, text)
    }
}

fn boot(log: &Log) -> Receipt {
    log.append(vec![entry("boot", "hello")], Until::Durable)
        .durable()
        .unwrap()
}

fn durable(log: &Log, entry: Entry) -> Result<Receipt, AppendError> {
    log.append(vec![entry], Until::Durable).durable()
}

/// All lines, as text.
fn lines(dir: &Path) -> Vec<String> {
    Reader::open(dir)
        .unwrap()
        .map(|line| String::from_utf8(line.unwrap().bytes).unwrap())
        .collect()
}

fn kinds(dir: &Path) -> Vec<String> {
    lines(dir)
        .iter()
        .map(|line| line.split('"').nth(7).unwrap().to_owned())
        .collect()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn checked(dir: &Path, key: &SigningKey) -> Verified {
    verify(dir, Some(key.verifier())).unwrap()
}

/// A new log on a simulated disk with the test's faults.
fn simulated(key: &SigningKey) -> (tempfile::TempDir, Sim, Log) {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::new(dir.path());
    let (log, opened) = Log::open_with(Box::new(sim.clone()), key.clone()).unwrap();
    assert!(opened.fresh);
    boot(&log);
    (dir, sim, log)
}

/// A real log of `count` records, closed.
pub(super) fn example(dir: &Path, key: &SigningKey, count: usize) {
    let (log, _) = Log::open(dir, key.clone()).unwrap();
    boot(&log);
    for n in 1..count {
        durable(&log, entry("eval", &n.to_string())).unwrap();
    }
    log.close(LONG).unwrap();
}

#[test]
fn a_log_is_begun_continued_after_closing_and_verifies() {
    let (dir, key) = (tempfile::tempdir().unwrap(), key());
    let path = dir.path().join("audit");
    let (log, opened) = Log::open(&path, key.clone()).unwrap();
    let origin = opened.origin.clone();
    assert_eq!(origin.strip_prefix(NAME).unwrap().len(), 17);
    assert_eq!(
        opened,
        OpenedLog {
            origin: origin.clone(),
            size: 0,
            fresh: true,
            recovered: None
        }
    );
    assert_eq!(boot(&log).last, 0);
    let ticket = log.append(vec![entry("eval", "a"), entry("effect", "b")], Until::Durable);
    assert_eq!(ticket.written(), Ok(1..3));
    let receipt = ticket.durable().unwrap();
    assert_eq!((receipt.first, receipt.last), (1, 2));
    assert_eq!(log.checkpoint(), receipt.checkpoint);
    log.close(LONG).unwrap();

    let (log, opened) = Log::open(&path, key.clone()).unwrap();
    assert_eq!(
        opened,
        OpenedLog {
            origin: origin.clone(),
            size: 3,
            fresh: false,
            recovered: None
        }
    );
    assert_eq!(
        log.append(vec![], Until::Durable).durable().unwrap().checkpoint,
        receipt.checkpoint
    );
    durable(&log, entry("boot", "again")).unwrap();
    let expected = [
        format!(r#"{{"v":1,"seq":0,"kind":"boot","origin":"{origin}","text":"hello"}}"#),
        r#"{"v":1,"seq":1,"kind":"eval","text":"a"}"#.to_owned(),
        r#"{"v":1,"seq":2,"kind":"effect","text":"b"}"#.to_owned(),
        format!(r#"{{"v":1,"seq":3,"kind":"boot","origin":"{origin}","text":"again"}}"#),
    ];
    assert_eq!(lines(&path), expected);
    for (seq, line) in expected.iter().enumerate() {
        assert_eq!(log.record(seq as u64).unwrap().unwrap(), line.as_bytes());
    }
    assert_eq!(log.record(4).unwrap(), None);
    log.close(LONG).unwrap();
    let verified = checked(&path, &key);
    assert_eq!(
        (verified.covered, verified.total, verified.vouched, verified.torn),
        (4, 4, true, false)
    );
    assert_eq!(
        names(&path),
        ["checkpoint", "leaves", "lock", "records-0.jsonl", "reserve"]
    );
    assert_eq!(fs::read(path.join("leaves")).unwrap().len(), 4 * 32);
}

/// T49.
#[test]
fn files_are_private_and_links_are_not_followed() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, key) = (tempfile::tempdir().unwrap(), key());
    let path = dir.path().join("audit");
    let (log, _) = Log::open(&path, key.clone()).unwrap();
    boot(&log);
    log.close(LONG).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&path), 0o700);
    for name in names(&path) {
        assert_eq!(mode(&path.join(&name)), 0o600, "{name}");
    }
    fs::rename(path.join("records-0.jsonl"), dir.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), path.join("records-0.jsonl")).unwrap();
    assert!(matches!(
        Log::open(&path, key),
        Err(OpenError::Broken {
            source: VerifyError::Io { .. },
            ..
        })
    ));
}

#[test]
fn a_second_process_is_refused_the_folder() {
    let (dir, key) = (tempfile::tempdir().unwrap(), key());
    let (log, _) = Log::open(dir.path(), key.clone()).unwrap();
    assert!(matches!(
        Log::open(dir.path(), key.clone()),
        Err(OpenError::Held(_))
    ));
    boot(&log);
    log.clone().close(LONG).unwrap();
    assert_eq!(durable(&log, entry("eval", "late")), Err(AppendError::Closed));
    Log::open(dir.path(), key).unwrap();
}

#[test]
fn what_is_no_record_is_refused_and_takes_no_number() {
    let (dir, key) = (tempfile::tempdir().unwrap(), key());
    let (log, _) = Log::open(dir.path(), key.clone()).unwrap();
    assert_eq!(
        durable(&log, entry("eval", "x")),
        Err(AppendError::NotBoot { kind: "eval" })
    );
    boot(&log);
    assert!(matches!(
        durable(&log, entry("eval", "line\nbreak")),
        Err(AppendError::Body(_))
    ));
    assert!(matches!(
        durable(&log, entry("Eval", "x")),
        Err(AppendError::Body(_))
    ));
    let room = crate::room("eval", None) - entry("eval", "").body.len();
    assert!(matches!(
        durable(&log, entry("eval", &"x".repeat(room + 1))),
        Err(AppendError::TooLong { .. })
    ));
    assert_eq!(durable(&log, entry("eval", &"x".repeat(room))).unwrap().first, 1);
    // All or none.
    assert!(
        log.append(
            vec![entry("eval", "good"), entry("eval", "\u{1}")],
            Until::Durable
        )
        .durable()
        .is_err()
    );
    assert_eq!(durable(&log, entry("eval", "next")).unwrap().first, 2);
    log.close(LONG).unwrap();
    assert_eq!(checked(dir.path(), &key).total, 3);
}

#[test]
fn every_receipt_is_proven_by_the_log() {
    let (dir, key) = (tempfile::tempdir().unwrap(), key());
    let (log, _) = Log::open(dir.path(), key.clone()).unwrap();
    let mut heads = vec![Checkpoint::open(&log.checkpoint(), key.verifier()).unwrap()];
    heads.push(Checkpoint::open(&boot(&log).checkpoint, key.verifier()).unwrap());
    for n in 0..40 {
        let receipt = durable(&log, entry("eval", &n.to_string())).unwrap();
        let head = Checkpoint::open(&receipt.checkpoint, key.verifier()).unwrap();
        let leaf = tree::leaf_hash(&log.record(receipt.last).unwrap().unwrap());
        let proof = log.inclusion(receipt.last, head.size).unwrap();
        tree::verify_inclusion(receipt.last, head.size, &leaf, &proof, &head.root).unwrap();
        for old in &heads {
            let proof = log.consistency(old.size, head.size).unwrap();
            tree::verify_consistency(old.size, head.size, &old.root, &head.root, &proof).unwrap();
        }
        heads.push(head);
    }
    assert_eq!((log.inclusion(0, 42), log.consistency(3, 42)), (None, None));
}

/// Makes each sync block until the test releases it.
fn gate(sim: &Sim) -> mpsc::Sender<()> {
    let (release, gate) = mpsc::channel();
    let gate = Mutex::new(gate);
    sim.plan(move |_, op, name| {
        if op == Op::Sync && name.starts_with("records-") {
            let _ = lock(&gate).recv();
        }
        Fault::None
    });
    release
}

/// Invariant 2: an eval that changes nothing costs two writes and one sync.
#[test]
fn a_record_that_is_only_written_waits_for_no_sync() {
    let key = key();
    let (_dir, sim, log) = simulated(&key);
    let release = gate(&sim);
    // While no sync returns, the record is written.
    assert_eq!(
        log.append(vec![entry("eval", "x")], Until::Written).written(),
        Ok(1..2)
    );
    assert_eq!(log.size(), 1);
    let ticket = log.append(vec![entry("outcome", "y")], Until::Durable);
    release.send(()).unwrap();
    drop(release);
    assert_eq!(ticket.durable().unwrap().last, 2);
    assert_eq!(log.size(), 3);
}

#[test]
fn what_was_only_written_is_synced_when_somebody_asks_or_nothing_else_happens() {
    let (dir, key) = (tempfile::tempdir().unwrap(), key());
    let (log, _) = Log::open(dir.path(), key).unwrap();
    boot(&log);
    let asked = log.append(vec![entry("eval", "x")], Until::Written);
    assert_eq!(asked.durable().unwrap().last, 1);
    let idle = log.append(vec![entry("eval", "x")], Until::Written);
    idle.written().unwrap();
    // A ticket of [`Until::Durable`] does not ask for a sync.
    let silent = Ticket {
        until: Until::Durable,
        seen_to: AtomicBool::new(true),
        promise: idle.promise.clone(),
        shared: idle.shared.clone(),
    };
    assert_eq!(silent.durable().unwrap().last, 2);
}

#[test]
fn one_sync_serves_all_who_wait() {
    let key = key();
    let (_dir, sim, log) = simulated(&key);
    let release = gate(&sim);
    let first = log.append(vec![entry("eval", "first")], Until::Durable);
    first.written().unwrap();
    // The thread is in the first sync, or about to be: all these appends come after it.
    let others: Vec<_> = (0..16)
        .map(|_| log.append(vec![entry("eval", "other")], Until::Durable))
        .collect();
    release.send(()).unwrap();
    release.send(()).unwrap();
    let checkpoints: Vec<_> = others
        .iter()
        .map(|ticket| ticket.durable().unwrap().checkpoint)
        .collect();
    assert!(
        checkpoints
            .iter()
            .all(|checkpoint| Arc::ptr_eq(checkpoint, &checkpoints[0]))
    );
    drop(release);
}

/// T48: records of effects fail at once, records to be kept are held, and no restart is needed.
#[test]
fn a_full_disk_refuses_holds_and_mends_itself() {
    let key = key();
    let (dir, sim, log) = simulated(&key);
    sim.plan(|_, op, name| match op {
        Op::Write if name.starts_with("records") => Fault::Partial(20, ENOSPC),
        _ => Fault::None,
    });
    assert!(matches!(
        durable(&log, entry("eval", "refused")),
        Err(AppendError::Unwritable { .. })
    ));
    assert!(matches!(
        log.append(vec![entry("eval", "refused")], Until::Written)
            .written(),
        Err(AppendError::Unwritable { .. })
    ));
    assert_eq!(durable(&log, kept("leases", "first")), Err(AppendError::Held));
    assert_eq!(
        log.append(vec![kept("info", "second")], Until::Written).written(),
        Err(AppendError::Held)
    );
    let Health::Failing { reason, held, .. } = log.health() else {
        panic!("healthy on a full disk")
    };
    assert!(reason.contains("No space left"), "{reason}");
    assert!(held > 0);
    // The torn line of the failed write is there; a copy of the folder verifies nevertheless.
    let verified = checked(dir.path(), &key);
    assert_eq!((verified.covered, verified.total, verified.torn), (1, 1, true));
    sim.plan(|_, _, _| Fault::None);
    assert_eq!(durable(&log, entry("eval", "again")).unwrap().first, 3);
    assert!(matches!(log.health(), Health::Ok));
    log.close(LONG).unwrap();
    assert_eq!(kinds(dir.path()), ["boot", "leases", "info", "eval"]);
    assert_eq!(checked(dir.path(), &key).covered, 4);
    assert!(names(dir.path()).contains(&"records-1.jsonl".to_owned()));
}

#[test]
fn a_log_that_cannot_be_written_is_tried_again_without_being_asked() {
    let key = key();
    let (dir, sim, log) = simulated(&key);
    sim.plan(|_, op, _| {
        if op == Op::Write {
            Fault::Fail(EIO)
        } else {
            Fault::None
        }
    });
    assert_eq!(durable(&log, kept("leases", "x")), Err(AppendError::Held));
    let (done, wait) = mpsc::channel();
    sim.plan(move |_, op, name| {
        if matches!(op, Op::Rename | Op::Exchange) && name == "checkpoint" {
            let _ = done.send(());
        }
        Fault::None
    });
    wait.recv_timeout(LONG).unwrap();
    log.close(LONG).unwrap();
    assert_eq!(kinds(dir.path()), ["boot", "leases"]);
}

/// DESIGN 15: after a failed sync the content of the disk is unknown.
#[test]
fn a_failed_sync_closes_the_file_and_writes_the_lines_again_byte_for_byte() {
    let key = key();
    let (dir, sim, log) = simulated(&key);
    let early = log.append(vec![entry("eval", "written before")], Until::Written);
    assert_eq!(early.written(), Ok(1..2));
    let mut failed = false;
    sim.plan(move |_, op, name| {
        let fail = op == Op::Sync && name == "records-0.jsonl" && !std::mem::replace(&mut failed, true);
        if fail { Fault::Fail(EIO) } else { Fault::None }
    });
    let receipt = durable(&log, entry("outcome", "x")).unwrap();
    assert_eq!((receipt.first, early.durable().unwrap().last), (2, 1));
    assert!(
        log.alarms()
            .iter()
            .any(|alarm| alarm.contains("`records-0.jsonl` was closed and is not written again"))
    );
    durable(&log, entry("eval", "after")).unwrap();
    let text = |name| fs::read_to_string(dir.path().join(name)).unwrap();
    let old: Vec<String> = text("records-0.jsonl")
        .lines()
        .skip(1)
        .map(str::to_owned)
        .collect();
    let new: Vec<String> = text("records-1.jsonl").lines().map(str::to_owned).collect();
    assert_eq!((old.len(), &old[..]), (2, &new[..2]));
    assert_eq!(log.record(3).unwrap().unwrap(), new[2].as_bytes());
    log.close(LONG).unwrap();
    assert_eq!(
        (lines(dir.path()).len(), checked(dir.path(), &key).covered),
        (4, 4)
    );
}

#[test]
fn a_disk_that_fails_every_sync_never_gets_a_head_signed() {
    let key = key();
    let (dir, sim, log) = simulated(&key);
    let head = log.checkpoint();
    sim.plan(|_, op, _| {
        if op == Op::Sync {
            Fault::Fail(EIO)
        } else {
            Fault::None
        }
    });
    for _ in 0..5 {
        assert!(durable(&log, entry("eval", "x")).is_err());
    }
    assert_eq!((log.size(), log.checkpoint()), (1, head));
    sim.plan(|_, _, _| Fault::None);
    durable(&log, entry("eval", "y")).unwrap();
    log.close(LONG).unwrap();
    checked(dir.path(), &key);
}

#[test]
fn a_read_only_disk_refuses_and_a_failing_checkpoint_stops_the_next_record() {
    let key = key();
    let (dir, sim, log) = simulated(&key);
    sim.plan(|_, op, name| {
        if op != Op::Rename && name.starts_with("checkpoint") {
            Fault::Fail(EROFS)
        } else {
            Fault::None
        }
    });
    // The record is on disk and signed, although the file `checkpoint` is stale.
    durable(&log, entry("eval", "x")).unwrap();
    assert!(matches!(
        durable(&log, entry("eval", "y")),
        Err(AppendError::Unwritable { .. })
    ));
    sim.plan(|_, op, _| {
        if matches!(op, Op::Create | Op::Write) {
            Fault::Fail(EROFS)
        } else {
            Fault::None
        }
    });
    assert!(matches!(
        durable(&log, entry("eval", "y")),
        Err(AppendError::Unwritable { .. })
    ));
    sim.plan(|_, _, _| Fault::None);
    assert_eq!(durable(&log, entry("eval", "z")).unwrap().first, 2);
    log.close(LONG).unwrap();
    assert_eq!(checked(dir.path(), &key).covered, 3);
}

#[test]
fn the_end_of_a_lease_is_written_with_the_reserve_and_nothing_else_uses_it() {
    let key = key();
    let (dir, sim, log) = simulated(&key);
    assert_eq!(fs::metadata(dir.path().join("reserve")).unwrap().len(), RESERVE);
    // Full while the reserve exists.
    let path = dir.path().to_owned();
    sim.plan(move |_, op, name| match op {
        Op::Write if name.starts_with("records") && path.join("reserve").exists() => {
            Fault::Partial(3, ENOSPC)
        }
        Op::Allocate => Fault::Fail(ENOSPC),
        _ => Fault::None,
    });
    assert!(matches!(
        durable(&log, entry("eval", "x")),
        Err(AppendError::Unwritable { .. })
    ));
    assert_eq!(durable(&log, kept("info", "waits")), Err(AppendError::Held));
    assert!(dir.path().join("reserve").exists());
    let end = Entry {
        terminal: true,
        ..kept("lease.reverted", "3")
    };
    assert_eq!(durable(&log, end.clone()).unwrap().first, 1);
    assert!(!dir.path().join("reserve").exists());
    assert!(matches!(
        durable(&log, entry("eval", "x")),
        Err(AppendError::Unwritable { .. })
    ));
    assert_eq!(durable(&log, end).unwrap().first, 2);
    assert!(matches!(log.health(), Health::Failing { .. }));
    sim.plan(|_, _, _| Fault::None);
    assert_eq!(durable(&log, entry("eval", "y")).unwrap().first, 4);
    assert!(dir.path().join("reserve").exists());
    log.close(LONG).unwrap();
    assert_eq!(
        kinds(dir.path()),
        ["boot", "lease.reverted", "lease.reverted", "info", "eval"]
    );
    checked(dir.path(), &key);
}

#[test]
fn at_most_4_mib_are_held_and_what_is_lost_at_the_end_is_told() {
    let key = key();
    let (_dir, sim, log) = simulated(&key);
    sim.plan(|_, op, _| {
        if op == Op::Write {
            Fault::Fail(EIO)
        } else {
            Fault::None
        }
    });
    let text = "x".repeat(60_000);
    let answers: Vec<_> = (0..80).map(|_| durable(&log, kept("info", &text))).collect();
    let held = answers
        .iter()
        .filter(|answer| **answer == Err(AppendError::Held))
        .count();
    assert_eq!(
        held,
        HELD_MAX / (60_000 + r#","kind":"info","text":""}"#.len() + 1)
    );
    assert!(
        answers[held..]
            .iter()
            .all(|answer| matches!(answer, Err(AppendError::Unwritable { .. })))
    );
    assert!(matches!(log.close(LONG), Err(CloseError::Lost { bytes }) if bytes > 4_000_000));
}

fn tampered(change: impl FnOnce(PathBuf)) -> (tempfile::TempDir, SigningKey, Log) {
    let (dir, key) = (tempfile::tempdir().unwrap(), key());
    let (log, _) = Log::open(dir.path(), key.clone()).unwrap();
    boot(&log);
    durable(&log, entry("eval", "x")).unwrap();
    change(dir.path().join("records-0.jsonl"));
    (dir, key, log)
}

#[test]
fn a_file_changed_by_somebody_else_is_an_error_of_the_log() {
    type Change = fn(PathBuf);
    let changes: [Change; 3] = [
        |path| fs::write(path, "").unwrap(),
        |path| fs::remove_file(path).unwrap(),
        |path| {
            let text = fs::read_to_string(&path).unwrap().replace("\"x\"", "\"other\"");
            fs::write(path, text).unwrap();
        },
    ];
    for change in changes {
        let (dir, _, log) = tampered(change);
        for _ in 0..3 {
            assert!(matches!(
                durable(&log, entry("eval", "y")),
                Err(AppendError::Unwritable { .. })
            ));
        }
        assert_eq!(
            (
                log.size(),
                names(dir.path())
                    .iter()
                    .filter(|n| n.starts_with("records-1"))
                    .count()
            ),
            (2, 0)
        );
        assert!(!log.alarms().is_empty());
        assert!(log.record(1).is_err());
    }
}

#[test]
fn a_file_replaced_by_its_copy_or_extended_is_left_behind_intact() {
    type Change = fn(PathBuf);
    let changes: [Change; 2] = [
        |path| {
            let copy = path.with_extension("copy");
            fs::copy(&path, &copy).unwrap();
            fs::rename(copy, path).unwrap();
        },
        |path| {
            let text = fs::read_to_string(&path).unwrap();
            fs::write(path, text + "garbage\nmore").unwrap();
        },
    ];
    for change in changes {
        let (dir, key, log) = tampered(change);
        assert_eq!(durable(&log, entry("eval", "y")).unwrap().first, 2);
        assert!(log.alarms()[0].contains("changed by another program"));
        log.close(LONG).unwrap();
        assert_eq!((lines(dir.path()).len(), checked(dir.path(), &key).total), (3, 3));
        assert!(names(dir.path()).contains(&"records-2.jsonl".to_owned()));
    }
}

/// T48.
#[test]
fn a_folder_that_is_gone_refuses_until_it_is_back() {
    let (outer, key) = (tempfile::tempdir().unwrap(), key());
    let (dir, away) = (outer.path().join("audit"), outer.path().join("away"));
    let (log, _) = Log::open(&dir, key.clone()).unwrap();
    boot(&log);
    fs::rename(&dir, &away).unwrap();
    assert!(matches!(
        durable(&log, entry("eval", "x")),
        Err(AppendError::Unwritable { .. })
    ));
    assert!(!dir.exists());
    fs::rename(&away, &dir).unwrap();
    assert_eq!(durable(&log, entry("eval", "y")).unwrap().first, 1);
    log.close(LONG).unwrap();
    checked(&dir, &key);
}

/// `is_durable` does not block, and makes sure that the records are written.
#[test]
fn whoever_asks_for_records_on_disk_gets_them_without_waiting() {
    let key = key();
    let (_dir, _sim, log) = simulated(&key);
    let ticket = log.append(vec![entry("note", "soon")], Until::Written);
    let end = std::time::Instant::now() + LONG;
    while !ticket.is_durable() {
        assert!(std::time::Instant::now() < end, "nobody wrote it");
        std::thread::yield_now();
    }
    assert_eq!(ticket.durable().unwrap().last, 1);
}

/// The content of the disk is then unknown. Current and later callers get the error.
#[test]
fn a_panic_while_writing_ends_the_log_and_is_told_to_all() {
    let key = key();
    let (_dir, sim, log) = simulated(&key);
    sim.plan(|_, op, _| match op {
        Op::Write => panic!("planted"),
        _ => Fault::None,
    });
    for _ in 0..3 {
        assert_eq!(
            durable(&log, kept("lease.reverted", "x")),
            Err(AppendError::Broken)
        );
    }
    assert!(log.is_broken());
    let Health::Failing { reason, held: 0, .. } = log.health() else {
        panic!("{:?}", log.health())
    };
    assert!(reason.contains("panicked"), "{reason}");
    assert_eq!(log.alarms(), [reason]);
    assert_eq!(log.close(LONG), Ok(()));
}
