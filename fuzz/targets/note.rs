//! Keys and signed notes (C2SP signed-note): an accepted note was signed by its key, so a key that signs nothing opens none.
#![no_main]

use std::sync::LazyLock;

use debug_audit::{SigningKey, VerifierKey, note};
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

fuzz_target!(|text: &str| {
    if let Ok(key) = VerifierKey::parse(text) {
        assert_eq!(
            VerifierKey::parse(&key.to_string()).map(|key| key.to_string()),
            Ok(key.to_string())
        );
    }
    let _ = SigningKey::parse(text);
    let _ = note::dangerous_text_of(text);
    if let Some(key) = &*KEY {
        assert!(note::open(text, key).is_err());
    }
});
