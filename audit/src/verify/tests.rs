use std::fs;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::read::Reader;
use crate::{Entry, Log, MAX_LINE, SigningKey, Until};

fn key() -> SigningKey {
    SigningKey::generate("shop.internal/shop/1").unwrap()
}

/// A log of `count` records, all covered.
fn example(dir: &Path, key: &SigningKey, count: usize) {
    let (log, _) = Log::open(dir, key.clone()).unwrap();
    for n in 0..count {
        let kind = if n == 0 { "boot" } else { "eval" };
        let entry = Entry {
            kind,
            body: format!(r#"{{"n":{n},"t":"é"}}"#),
            keep: false,
            terminal: false,
        };
        log.append(vec![entry], Until::Durable).durable().unwrap();
    }
    log.close(Duration::from_secs(60)).unwrap();
}

fn made(count: usize) -> (tempfile::TempDir, SigningKey, Vec<u8>) {
    let (dir, key) = (tempfile::tempdir().unwrap(), key());
    example(dir.path(), &key, count);
    let records = fs::read(dir.path().join("records-0.jsonl")).unwrap();
    (dir, key, records)
}

fn put(dir: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    fs::write(dir.join(name), bytes).unwrap();
}

/// The number of the record that contains the byte `at`.
fn record_of(records: &[u8], at: usize) -> u64 {
    records[..at].iter().filter(|b| **b == b'\n').count() as u64
}

#[test]
fn without_a_key_nobody_vouches() {
    let (dir, key, _) = made(3);
    let vouched = verify(dir.path(), Some(key.verifier())).unwrap();
    assert!(vouched.vouched);
    assert_eq!(
        verify(dir.path(), None).unwrap(),
        Verified {
            vouched: false,
            ..vouched
        }
    );
}

/// T52, T54.
#[test]
fn a_log_sealed_again_with_another_key_fails() {
    let (dir, key, _) = made(3);
    let (_, checkpoint) = stored(dir.path(), None).unwrap().unwrap();
    let other = SigningKey::generate(key.name()).unwrap();
    put(dir.path(), CHECKPOINT, checkpoint.sign(&other));
    assert!(matches!(
        verify(dir.path(), Some(key.verifier())),
        Err(VerifyError::Note(_))
    ));
    assert!(!verify(dir.path(), None).unwrap().vouched);
}

/// T51: cut at every byte.
#[test]
fn a_log_cut_at_any_byte_fails_against_its_checkpoint() {
    let (dir, key, records) = made(6);
    for end in 0..records.len() {
        put(dir.path(), "records-0.jsonl", &records[..end]);
        let error = verify(dir.path(), Some(key.verifier())).unwrap_err();
        let seq = record_of(&records, end);
        match error {
            VerifyError::Missing { first, last: 5 } => assert_eq!(first, seq),
            VerifyError::Torn { place, covered: 6 } => assert_eq!(place.seq, seq),
            other => panic!("cut at {end}: {other}"),
        }
    }
}

/// T61, T46: for every bit of every byte.
#[test]
fn a_bit_flipped_anywhere_is_found_and_its_record_named() {
    let (dir, key, records) = made(4);
    let leaves = fs::read(dir.path().join(LEAVES)).unwrap();
    for at in 0..records.len() {
        for bit in 0..8 {
            let mut changed = records.clone();
            changed[at] ^= 1 << bit;
            put(dir.path(), "records-0.jsonl", &changed);
            let error = verify(dir.path(), Some(key.verifier())).unwrap_err();
            match error.place() {
                Some(place) => {
                    assert_eq!(
                        place.seq,
                        record_of(&records, at),
                        "bit {bit} of byte {at}: {error}"
                    )
                }
                None => panic!("bit {bit} of byte {at}: {error}"),
            }
        }
        let mut changed = records.clone();
        changed[at] ^= 1;
        fs::remove_file(dir.path().join(LEAVES)).unwrap();
        put(dir.path(), "records-0.jsonl", &changed);
        verify(dir.path(), Some(key.verifier())).unwrap_err();
        put(dir.path(), LEAVES, &leaves);
    }
}

#[test]
fn a_bit_flipped_in_the_checkpoint_is_found() {
    let (dir, key, _) = made(3);
    let note = fs::read(dir.path().join(CHECKPOINT)).unwrap();
    for at in 0..note.len() {
        for bit in 0..8 {
            let mut changed = note.clone();
            changed[at] ^= 1 << bit;
            put(dir.path(), CHECKPOINT, &changed);
            assert!(
                verify(dir.path(), Some(key.verifier())).is_err(),
                "bit {bit} of byte {at}"
            );
        }
    }
}

#[test]
fn records_removed_added_or_exchanged_in_the_middle_are_found() {
    let (dir, key, records) = made(6);
    let text = String::from_utf8(records).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for change in 0..4 {
        let mut changed = lines.clone();
        match change {
            0 => drop(changed.remove(2)),
            1 => changed.insert(2, lines[2]),
            2 => changed.swap(2, 3),
            _ => changed[2] = lines[3],
        }
        put(dir.path(), "records-0.jsonl", changed.join("\n") + "\n");
        let error = verify(dir.path(), Some(key.verifier())).unwrap_err();
        let expected = if change == 1 { 3 } else { 2 };
        assert!(
            matches!(&error, VerifyError::Altered { place } if place.seq == expected),
            "{change}: {error}"
        );
    }
}

#[test]
fn a_live_log_verifies_and_what_follows_the_checkpoint_is_counted() {
    let (dir, key, records) = made(3);
    let more = [
        records,
        b"{\"v\":1,\"seq\":3,\"kind\":\"eval\"}\n{\"v\":1,\"seq\":4,\"ki".to_vec(),
    ]
    .concat();
    put(dir.path(), "records-0.jsonl", more);
    let verified = verify(dir.path(), Some(key.verifier())).unwrap();
    assert_eq!((verified.covered, verified.total, verified.torn), (3, 4, true));
}

#[test]
fn a_later_file_supersedes_what_an_earlier_one_holds_from_there_on() {
    let (dir, key, records) = made(5);
    let text = String::from_utf8(records).unwrap();
    let at = |n: usize| text.match_indices('\n').nth(n - 1).unwrap().0 + 1;
    // Three leftovers that are all ignored: a torn line, complete lines with the same numbers, garbage.
    for leftover in [
        "{\"v\":1,\"se",
        "{\"v\":1,\"seq\":2,\"kind\":\"other\"}\n{\"v\":1,\"seq\":3,\"kind\":\"o\"}\n",
        "\0\n\n",
    ] {
        put(
            dir.path(),
            "records-0.jsonl",
            format!("{}{leftover}", &text[..at(2)]),
        );
        put(
            dir.path(),
            "records-2.jsonl",
            format!("{}{leftover}", &text[at(2)..at(4)]),
        );
        put(dir.path(), "records-4.jsonl", &text[at(4)..]);
        assert_eq!(verify(dir.path(), Some(key.verifier())).unwrap().total, 5);
        let read: Vec<_> = Reader::open(dir.path())
            .unwrap()
            .map(|line| line.unwrap())
            .collect();
        let places: Vec<_> = read
            .iter()
            .map(|line| (line.seq, &*line.file, line.line))
            .collect();
        assert_eq!(
            places,
            [
                (0, "records-0.jsonl", 1),
                (1, "records-0.jsonl", 2),
                (2, "records-2.jsonl", 1),
                (3, "records-2.jsonl", 2),
                (4, "records-4.jsonl", 1)
            ]
        );
    }
    fs::remove_file(dir.path().join("records-2.jsonl")).unwrap();
    put(dir.path(), "records-0.jsonl", &text[..at(2)]);
    assert!(matches!(
        verify(dir.path(), None),
        Err(VerifyError::Missing { first: 2, last: 3 })
    ));
    // A name in another spelling is not ours.
    put(dir.path(), "records-02.jsonl", &text[at(2)..at(4)]);
    assert!(matches!(
        verify(dir.path(), None),
        Err(VerifyError::Missing { first: 2, last: 3 })
    ));
}

/// T69.
#[test]
fn the_reader_goes_on_behind_broken_and_endless_lines() {
    let dir = tempfile::tempdir().unwrap();
    let long = format!(
        "{{\"v\":1,\"seq\":1,\"kind\":\"x\",\"a\":\"{}\"}}",
        "x".repeat(3 * MAX_LINE)
    );
    let broken = [
        "{\"v\":1,\"seq\":0,\"kind\":\"x\"}",
        &long,
        "",
        "{\"v\":1,\"seq\":3,\"kind\":\"x\",\"a\":1,\"a\":2}",
        "{\"v\":1,\"seq\":4,\"kind\":\"x\"}",
    ];
    put(dir.path(), "records-0.jsonl", broken.join("\n"));
    put(
        dir.path(),
        "records-7.jsonl",
        "{\"v\":1,\"seq\":7,\"kind\":\"x\"}\n\n",
    );
    let read: Vec<_> = Reader::open(dir.path())
        .unwrap()
        .map(|line| match line {
            Ok(line) => format!("{}", line.seq),
            Err(ReadError::Broken { place, .. }) => format!("broken {}", place.seq),
            Err(ReadError::Torn { place }) => format!("torn {}", place.seq),
            Err(ReadError::Missing { first, last, .. }) => format!("missing {first}-{last}"),
            Err(ReadError::Io { .. }) => "io".to_owned(),
        })
        .collect();
    assert_eq!(
        read,
        [
            "0",
            "broken 1",
            "broken 2",
            "broken 3",
            "torn 4",
            "missing 5-6",
            "7",
            "broken 8"
        ]
    );
    assert!(Reader::open(tempfile::tempdir().unwrap().path()).is_err());
    assert!(Reader::open(Path::new("/nonexistent")).is_err());
}

#[test]
fn what_is_not_a_regular_file_is_refused_and_not_waited_for() {
    let (dir, key, _) = made(2);
    for name in ["checkpoint", "records-0.jsonl"] {
        let path = dir.path().join(name);
        let content = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(
            matches!(
                verify(dir.path(), Some(key.verifier())),
                Err(VerifyError::Io { .. })
            ),
            "{name}"
        );
        fs::remove_dir(&path).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        assert!(
            matches!(
                verify(dir.path(), Some(key.verifier())),
                Err(VerifyError::Io { .. })
            ),
            "{name}"
        );
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert!(
            matches!(
                verify(dir.path(), Some(key.verifier())),
                Err(VerifyError::Io { .. })
            ),
            "{name}"
        );
        fs::remove_file(&path).unwrap();
        fs::write(&path, content).unwrap();
    }
    verify(dir.path(), Some(key.verifier())).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// T55.
    #[test]
    fn any_bytes_are_an_error_and_never_a_panic(
        records in prop::collection::vec(any::<u8>(), 0..600),
        checkpoint in prop::collection::vec(any::<u8>(), 0..300),
        leaves in prop::collection::vec(any::<u8>(), 0..100),
        sizes in any::<[u64; 2]>(),
    ) {
        let (dir, key) = (tempfile::tempdir().unwrap(), key());
        put(dir.path(), "records-0.jsonl", &records);
        put(dir.path(), &format!("records-{}.jsonl", sizes[0]), &records);
        put(dir.path(), LEAVES, leaves);
        let head = Checkpoint { origin: format!("{}/00", key.name()), size: sizes[1], root: [1; 32] };
        for note in [checkpoint, head.sign(&key).into_bytes()] {
            put(dir.path(), CHECKPOINT, note);
            prop_assert!(verify(dir.path(), Some(key.verifier())).is_err());
            prop_assert!(verify(dir.path(), None).is_err());
            prop_assert!(Log::open(dir.path(), key.clone()).is_err());
        }
        for line in Reader::open(dir.path()).unwrap().take(10_000) {
            prop_assert!(line.is_err());
        }
    }

    #[test]
    fn any_piece_of_a_log_exchanged_for_any_bytes_fails(
        at in 0usize..10_000, length in 0usize..80, bytes in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let (dir, key, records) = made(4);
        let start = at % records.len();
        let end = (start + length).min(records.len());
        let changed = [&records[..start], &bytes, &records[end..]].concat();
        put(dir.path(), "records-0.jsonl", &changed);
        let verified = verify(dir.path(), Some(key.verifier()));
        // The log verifies only if the part before the cut still holds everything that the checkpoint covers.
        prop_assert_eq!(verified.is_ok(), changed.starts_with(&records), "{:?}", verified);
    }
}

/// The example in FORMAT.md is a log that this crate reads.
#[test]
fn the_example_in_the_specification_verifies() {
    let page = include_str!("../../FORMAT.md");
    let example = page.split_once("## 8. Example").unwrap().1;
    let key: crate::VerifierKey = example
        .split('`')
        .find(|text| text.starts_with("example.org/"))
        .unwrap()
        .parse()
        .unwrap();
    let block = |n: usize| {
        example
            .split("```text\n")
            .nth(n)
            .unwrap()
            .split_once("```")
            .unwrap()
            .0
    };
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "records-0.jsonl", block(1));
    put(dir.path(), CHECKPOINT, block(2));
    let verified = verify(dir.path(), Some(&key)).unwrap();
    assert_eq!((verified.covered, verified.total, verified.vouched), (3, 3, true));
    let private = example
        .split('`')
        .find(|text| text.starts_with("PRIVATE+KEY+"))
        .unwrap();
    let private = SigningKey::parse(private).unwrap();
    assert_eq!(private.verifier(), &key);
    // Ed25519 signatures are deterministic.
    let (note, checkpoint) = stored(dir.path(), Some(&key)).unwrap().unwrap();
    assert_eq!(note, checkpoint.sign(&private));
}
