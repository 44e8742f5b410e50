use debug_audit::SigningKey;

use super::*;

const NAME: &str = "example.internal/dienstplan/1";

fn head(key: &SigningKey, log: &str, leaves: u64, salt: &str) -> (Signed, tree::HashTree) {
    let mut tree = tree::HashTree::new();
    for leaf in 0..leaves {
        tree.append(tree::leaf_hash(format!("{salt}{leaf}").as_bytes()));
    }
    let head = Checkpoint {
        origin: format!("{NAME}/{log}"),
        size: leaves,
        root: tree.root(),
    };
    (
        Signed {
            note: head.sign(key),
            head,
        },
        tree,
    )
}

fn key() -> SigningKey {
    SigningKey::generate(NAME).unwrap()
}

#[test]
fn a_remembered_checkpoint_never_shrinks_and_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, key) = (tempfile::tempdir().unwrap(), key());
    let store = TrustStore::at(folder.path().join("state"));
    let (small, _) = head(&key, "00", 3, "a");
    let (large, _) = head(&key, "00", 5, "a");
    assert_eq!(
        store.remembered(&small.head.origin, key.verifier()).unwrap(),
        None
    );
    for (kept, left) in [(&small, &small), (&large, &large), (&small, &large)] {
        store.keep(kept, key.verifier()).unwrap();
        assert_eq!(
            store
                .remembered(&small.head.origin, key.verifier())
                .unwrap()
                .as_ref(),
            Some(left)
        );
    }
    let mode = fs::metadata(store.path(&small.head.origin).unwrap())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// T59.
#[test]
fn another_log_of_a_known_instance_is_noticed() {
    let (folder, key) = (tempfile::tempdir().unwrap(), key());
    let store = TrustStore::at(folder.path().to_owned());
    let (known, _) = head(&key, "00", 3, "a");
    store.keep(&known, key.verifier()).unwrap();
    assert!(store.other_logs(&known.head.origin, key.verifier()).is_empty());
    assert_eq!(
        store.other_logs(&format!("{NAME}/01"), key.verifier()),
        [known.head.origin]
    );
}

#[test]
fn a_damaged_memory_is_an_error_and_not_a_first_meeting() {
    let (folder, key) = (tempfile::tempdir().unwrap(), key());
    let store = TrustStore::at(folder.path().to_owned());
    let (known, _) = head(&key, "00", 3, "a");
    store.keep(&known, key.verifier()).unwrap();
    let path = store.path(&known.head.origin).unwrap();
    for damage in ["", "nothing", &known.note.replace("3\n", "4\n")] {
        fs::write(&path, damage).unwrap();
        let failure = store.remembered(&known.head.origin, key.verifier()).unwrap_err();
        assert_eq!(failure.exit as u8, 6, "{damage}");
    }
}

/// T58, T60.
#[test]
fn heads_that_do_not_continue_each_other_are_refused() {
    let key = key();
    let (old, _) = head(&key, "00", 3, "a");
    let (new, tree) = head(&key, "00", 7, "a");
    let (fork, fork_tree) = head(&key, "00", 7, "b");
    let (other, _) = head(&key, "01", 7, "a");
    let proof = tree.consistency(3, 7).unwrap();
    assert_eq!(new.grew_from(&old, &proof), Ok(()));
    assert!(new.grew_from(&old, &[]).is_err());
    assert!(
        fork.grew_from(&old, &fork_tree.consistency(3, 7).unwrap())
            .is_err()
    );
    assert!(fork.grew_from(&new, &[]).is_err());
    assert!(old.grew_from(&new, &proof).is_err());
    assert!(other.grew_from(&old, &proof).is_err());
}
