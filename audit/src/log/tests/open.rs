//! What opening accepts, repairs and refuses.

use super::*;
use crate::read::Place;

fn folder(dir: &Path) -> Vec<(String, Vec<u8>)> {
    names(dir)
        .into_iter()
        .map(|name| (name.clone(), fs::read(dir.join(name)).unwrap()))
        .collect()
}

/// Alters an example of 5 records; opening must refuse it and leave it unchanged.
#[track_caller]
fn refused(change: impl FnOnce(&Path)) -> VerifyError {
    let (dir, key) = (tempfile::tempdir().unwrap(), key());
    example(dir.path(), &key, 5);
    change(dir.path());
    let before = folder(dir.path());
    let error = match Log::open(dir.path(), key) {
        Err(OpenError::Broken { source, .. }) => source,
        other => panic!("{:?}", other.map(|(_, opened)| opened)),
    };
    assert_eq!(folder(dir.path()), before);
    assert!(!error.advice().is_empty());
    error
}

fn edit(dir: &Path, change: impl FnOnce(String) -> String) {
    let path = dir.join("records-0.jsonl");
    fs::write(&path, change(fs::read_to_string(&path).unwrap())).unwrap();
}

fn at(seq: u64) -> Place {
    Place {
        file: "records-0.jsonl".into(),
        line: seq + 1,
        seq,
    }
}

#[test]
fn an_altered_record_is_named() {
    let alter = |dir: &Path| edit(dir, |text| text.replace(r#""text":"2""#, r#""text":"3""#));
    assert!(matches!(refused(alter), VerifyError::Altered { place } if place == at(2)));
    let error = refused(|dir| {
        alter(dir);
        fs::remove_file(dir.join("leaves")).unwrap();
    });
    assert!(matches!(error, VerifyError::Root { covered: 5, .. }), "{error}");
    // Altering the leaf hashes as well does not help the attacker.
    let error = refused(|dir| {
        alter(dir);
        fs::write(dir.join("leaves"), [7; 160]).unwrap();
    });
    assert!(matches!(error, VerifyError::Root { covered: 5, .. }), "{error}");
}

/// T51.
#[test]
fn a_log_shorter_than_its_checkpoint_is_refused() {
    let error = refused(|dir| {
        edit(dir, |text| {
            text.lines().take(3).map(|line| format!("{line}\n")).collect()
        })
    });
    assert!(
        matches!(error, VerifyError::Missing { first: 3, last: 4 }),
        "{error}"
    );
    let error = refused(|dir| edit(dir, |text| text[..text.len() - 4].to_owned()));
    assert!(matches!(error, VerifyError::Torn { place, covered: 5 } if place == at(4)));
    let error = refused(|dir| fs::remove_file(dir.join("records-0.jsonl")).unwrap());
    assert!(
        matches!(error, VerifyError::Missing { first: 0, last: 4 }),
        "{error}"
    );
}

#[test]
fn a_missing_spoilt_or_foreign_checkpoint_is_refused() {
    let error = refused(|dir| fs::remove_file(dir.join("checkpoint")).unwrap());
    assert!(matches!(error, VerifyError::NoCheckpoint { .. }));
    let error = refused(|dir| fs::write(dir.join("checkpoint"), "").unwrap());
    assert!(matches!(error, VerifyError::Note(_)));
    // T54: the right name with another key, then another log of the right key.
    for key in [key(), SigningKey::generate("other").unwrap()] {
        let error = refused(|dir| {
            let note = fs::read_to_string(dir.join("checkpoint")).unwrap();
            let text = note.split_once("\n\n").unwrap().0.to_owned() + "\n";
            fs::write(dir.join("checkpoint"), crate::note::sign(&text, &key)).unwrap();
        });
        assert!(matches!(error, VerifyError::Note(_)));
    }
    let (other, dir, key) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), key());
    example(other.path(), &key, 5);
    example(dir.path(), &key, 5);
    fs::copy(other.path().join("checkpoint"), dir.path().join("checkpoint")).unwrap();
    let Err(OpenError::Broken { source, .. }) = Log::open(dir.path(), key) else {
        panic!()
    };
    assert!(matches!(source, VerifyError::Origin { place, .. } if place == at(0)));
}

#[test]
fn a_line_that_no_log_writes_is_refused_where_it_stands_even_after_the_checkpoint() {
    let error = refused(|dir| edit(dir, |text| text + "{\"v\":1,\"seq\":6,\"kind\":\"x\"}\n"));
    assert!(matches!(error, VerifyError::Broken { place, .. } if place == at(5)));
    let error = refused(|dir| edit(dir, |text| text + "garbage\n{\"v\":1,\"se"));
    assert!(matches!(error, VerifyError::Broken { place, .. } if place == at(5)));
    let error = refused(|dir| {
        fs::write(dir.join("records-9.jsonl"), "").unwrap();
    });
    assert!(
        matches!(error, VerifyError::Missing { first: 5, last: 8 }),
        "{error}"
    );
}

#[test]
fn whole_records_after_the_checkpoint_are_adopted_and_a_torn_end_is_moved_aside() {
    for (end, torn) in [
        ("", None),
        ("{\"v\":1,", Some(7)),
        ("\0\0\n{}\n\0", Some(7)),
        ("x\n\0", None),
    ] {
        let (dir, key) = (tempfile::tempdir().unwrap(), key());
        example(dir.path(), &key, 2);
        edit(dir.path(), |text| {
            text + "{\"v\":1,\"seq\":2,\"kind\":\"eval\"}\n" + end
        });
        let before = folder(dir.path());
        let Ok((log, opened)) = Log::open(dir.path(), key.clone()) else {
            assert!(end.starts_with('x'), "{end:?}");
            assert_eq!(folder(dir.path()), before);
            continue;
        };
        let recovered = opened.recovered.unwrap();
        assert_eq!((recovered.covered, recovered.adopted), (2, 1));
        assert_eq!(recovered.torn.as_ref().map(|torn| torn.bytes), torn, "{end:?}");
        if let Some(torn) = recovered.torn {
            assert_eq!(fs::read(dir.path().join(torn.moved_to)).unwrap(), end.as_bytes());
        }
        assert_eq!(log.size(), 3);
        durable(&log, entry("recovered", "x")).unwrap();
        log.close(LONG).unwrap();
        let (_, opened) = Log::open(dir.path(), key).unwrap();
        assert_eq!((opened.size, opened.recovered), (4, None));
    }
}

#[test]
fn the_cache_of_leaf_hashes_is_made_anew_when_it_is_short_or_wrong() {
    for stored in [&b""[..], b"short", &[7; 96], &[7; 4000]] {
        let (dir, key) = (tempfile::tempdir().unwrap(), key());
        example(dir.path(), &key, 3);
        let right = fs::read(dir.path().join("leaves")).unwrap();
        fs::write(dir.path().join("leaves"), stored).unwrap();
        Log::open(dir.path(), key).unwrap().0.close(LONG).unwrap();
        assert_eq!(fs::read(dir.path().join("leaves")).unwrap(), right);
    }
}

#[test]
fn left_over_temporary_files_do_no_harm() {
    let (dir, key) = (tempfile::tempdir().unwrap(), key());
    example(dir.path(), &key, 3);
    for name in ["records.new", "checkpoint.new", "leaves.new", "torn.new"] {
        fs::write(dir.path().join(name), "half").unwrap();
    }
    let (log, opened) = Log::open(dir.path(), key.clone()).unwrap();
    assert_eq!((opened.size, opened.recovered), (3, None));
    durable(&log, entry("eval", "x")).unwrap();
    log.close(LONG).unwrap();
    assert_eq!(
        names(dir.path()),
        ["checkpoint", "leaves", "lock", "records-0.jsonl", "reserve"]
    );
}
