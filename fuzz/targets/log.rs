//! A folder with a log: it verifies or it does not, and never with a key that did not sign it.
#![no_main]

use std::fs;
use std::sync::LazyLock;

use debug_audit::{Reader, SigningKey, VerifierKey, verify};
use libfuzzer_sys::fuzz_target;

/// A key that has signed nothing.
static KEY: LazyLock<Option<VerifierKey>> = LazyLock::new(|| {
    Some(
        SigningKey::generate("example.internal/log/1")
            .ok()?
            .verifier()
            .clone(),
    )
});

fuzz_target!(|data: &[u8]| {
    // The records, and after a zero byte the checkpoint.
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (records, checkpoint) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    let Ok(folder) = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()) else {
        return;
    };
    let written = fs::write(folder.path().join("records-0.jsonl"), records)
        .and_then(|()| fs::write(folder.path().join("checkpoint"), checkpoint));
    if written.is_err() {
        return;
    }
    if let Ok(reader) = Reader::open(folder.path()) {
        for line in reader {
            let _ = line;
        }
    }
    if let Some(key) = &*KEY {
        assert!(verify(folder.path(), Some(key)).is_err());
    }
    let _ = verify(folder.path(), None);
});
