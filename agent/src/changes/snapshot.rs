//! Snapshots: the values at some paths at one moment, by name. They are in memory, bounded, and end with the process.
//!
//! A snapshot holds secrets, marked as such; they leave the agent only as in any read.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use debug_base::{BootTime, Path, Tree};

/// The most bytes of all snapshots of the process: 16 MiB.
const MAX_BYTES: usize = 16 << 20;
/// The most snapshots.
const MAX_SNAPSHOTS: usize = 1_000;
/// The most bytes of one operator's snapshots, so that none takes all the room.
const MAX_OWN_BYTES: usize = MAX_BYTES / 4;
/// The most snapshots of one operator.
const MAX_OWN: usize = 100;

/// The values at some paths.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// Unique among the kept snapshots.
    pub(crate) name: String,
    /// The operator who took it; for an automatic one, the operator of the eval.
    pub(crate) by: String,
    /// Whether the agent took it before a change of an eval.
    pub(crate) automatic: bool,
    /// When it was taken.
    pub(crate) taken: BootTime,
    /// The leases in force at that time.
    pub(crate) leases: Vec<u64>,
    /// Each path once, with its value.
    pub(crate) parts: Vec<(Path, Tree)>,
}

impl Snapshot {
    /// Its approximate size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.parts
            .iter()
            .map(|(path, tree)| path.to_string().len() + weight(tree))
            .sum()
    }
}

/// The approximate size of a tree: its contents, and 64 bytes for each leaf.
fn weight(tree: &Tree) -> usize {
    tree.size() + tree.leaves().count() * 64
}

/// All snapshots, oldest first.
#[derive(Default)]
pub(crate) struct Snapshots {
    kept: Mutex<VecDeque<Snapshot>>,
}

/// Why a snapshot was not taken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum SnapshotError {
    /// The name is in use.
    #[error("there is a snapshot `{0}` already")]
    Taken(String),
    /// It is larger than all snapshots of an operator may be.
    #[error("the snapshot would hold {bytes} bytes, the limit is {most}")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        most: usize,
    },
    /// Snapshots of other operators leave no room.
    #[error("the snapshots of others leave no room")]
    Full,
}

impl Snapshots {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Snapshot>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy, for a plan.
    pub(crate) fn copy(&self) -> Self {
        Self {
            kept: Mutex::new(self.lock().clone()),
        }
    }

    /// Keeps a snapshot. To make room it removes automatic snapshots and the oldest of the same operator, never those
    /// that another operator took. Returns the names of the removed ones.
    ///
    /// # Errors
    /// The snapshot is not kept. For `Full`, automatic snapshots and the operator's own may have been removed.
    pub(crate) fn keep(&self, snapshot: Snapshot) -> Result<Vec<String>, SnapshotError> {
        let mut kept = self.lock();
        if kept.iter().any(|other| other.name == snapshot.name) {
            return Err(SnapshotError::Taken(snapshot.name));
        }
        let bytes = snapshot.bytes();
        let most = if snapshot.automatic {
            MAX_BYTES
        } else {
            MAX_OWN_BYTES
        };
        if most < bytes {
            return Err(SnapshotError::TooLarge { bytes, most });
        }
        let own = |other: &Snapshot| !other.automatic && !snapshot.automatic && other.by == snapshot.by;
        let sum = |kept: &VecDeque<Snapshot>, which: &dyn Fn(&Snapshot) -> bool| {
            let counted = kept.iter().filter(|other| which(other));
            counted.fold((0, 0), |(count, bytes), other| (count + 1, bytes + other.bytes()))
        };
        let mut gone = Vec::new();
        loop {
            let (own_count, own_bytes) = sum(&kept, &own);
            let (count, all) = sum(&kept, &|_| true);
            let too_many_of_own = MAX_OWN <= own_count || MAX_OWN_BYTES < own_bytes + bytes;
            let at = if too_many_of_own && !snapshot.automatic {
                kept.iter().position(own)
            } else if MAX_SNAPSHOTS <= count || MAX_BYTES < all + bytes {
                kept.iter()
                    .position(|other| other.automatic)
                    .or_else(|| kept.iter().position(own))
            } else {
                break;
            };
            match at.and_then(|at| kept.remove(at)) {
                Some(oldest) => gone.push(oldest.name),
                None => return Err(SnapshotError::Full),
            }
        }
        kept.push_back(snapshot);
        Ok(gone)
    }

    /// Adds the value at a path to the automatic snapshot of an eval, unless it holds the path or its container
    /// already. A snapshot that would exceed the limit stays as it is. Returns the names of the removed ones.
    pub(crate) fn before_change(
        &self,
        eval: u64,
        by: &str,
        leases: &[u64],
        path: &Path,
        tree: Tree,
    ) -> Vec<String> {
        let name = automatic_name(eval);
        let mut kept = self.lock();
        let earlier = kept
            .iter()
            .position(|snapshot| snapshot.name == name)
            .and_then(|at| kept.remove(at));
        drop(kept);
        let mut snapshot = earlier.unwrap_or_else(|| Snapshot {
            name,
            by: by.to_owned(),
            automatic: true,
            taken: BootTime::now(),
            leases: leases.to_vec(),
            parts: Vec::new(),
        });
        if !snapshot.parts.iter().any(|(known, _)| path.is_within(known)) {
            snapshot.parts.push((path.clone(), tree));
        }
        if MAX_BYTES < snapshot.bytes() {
            snapshot.parts.pop();
        }
        self.keep(snapshot).unwrap_or_default()
    }

    /// Looks up a snapshot by name.
    pub(crate) fn find(&self, name: &str) -> Option<Snapshot> {
        self.lock().iter().find(|snapshot| snapshot.name == name).cloned()
    }

    /// All snapshots, with their values.
    pub(crate) fn list(&self) -> Vec<Snapshot> {
        self.lock().iter().cloned().collect()
    }
}

/// The name of an eval's automatic snapshot.
pub(crate) fn automatic_name(eval: u64) -> String {
    format!("eval-{eval}")
}

/// Whether an operator may use this name: names appear in lists and must not pose as the agent's own.
pub(crate) fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    !name.is_empty() && name.len() <= 64 && name.bytes().all(plain) && !name.starts_with("eval-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(name: &str, bytes: usize, automatic: bool) -> Snapshot {
        let parts = vec![(Path(vec!["config".to_owned()]), Tree::Str("x".repeat(bytes)))];
        let (by, taken, leases) = ("alice".to_owned(), BootTime(0), Vec::new());
        Snapshot {
            name: name.to_owned(),
            by,
            automatic,
            taken,
            leases,
            parts,
        }
    }

    #[test]
    fn the_oldest_that_nobody_asked_for_goes_first_and_nobodys_for_anothers() {
        let (snapshots, quarter) = (Snapshots::default(), MAX_OWN_BYTES - 100);
        let of = |by: &str, snapshot: Snapshot| Snapshot {
            by: by.to_owned(),
            ..snapshot
        };
        for (by, name, automatic) in [("alice", "hers", false), ("lea", "leas", false)] {
            assert_eq!(
                snapshots.keep(of(by, snapshot(name, quarter, automatic))),
                Ok(Vec::new())
            );
        }
        for name in ["eval-1", "eval-2"] {
            assert_eq!(snapshots.keep(snapshot(name, quarter, true)), Ok(Vec::new()));
        }
        assert_eq!(
            snapshots.keep(of("bob", snapshot("bobs", quarter, false))),
            Ok(vec!["eval-1".to_owned()])
        );
        assert_eq!(
            snapshots.keep(of("bob", snapshot("next", quarter, false))),
            Ok(vec!["bobs".to_owned()])
        );
        assert_eq!(
            snapshots.keep(of("vic", snapshot("vics", quarter, false))),
            Ok(vec!["eval-2".to_owned()])
        );
        assert_eq!(
            snapshots.keep(of("eve", snapshot("eves", quarter, false))),
            Err(SnapshotError::Full)
        );
        assert_eq!(
            snapshots.keep(snapshot("eval-3", quarter, true)),
            Err(SnapshotError::Full)
        );
        let large = snapshots.keep(of("bob", snapshot("large", 2 * quarter, false)));
        assert!(matches!(large, Err(SnapshotError::TooLarge { .. })));
        assert_eq!(snapshots.list().len(), 4);
    }

    #[test]
    fn many_small_ones_push_out_none_but_their_own() {
        let snapshots = Snapshots::default();
        let of = |by: &str, name: String| Snapshot {
            by: by.to_owned(),
            ..snapshot(&name, 1, false)
        };
        snapshots.keep(of("alice", "incident".to_owned())).unwrap();
        for number in 0..2 * MAX_SNAPSHOTS {
            snapshots.keep(of("vic", format!("j{number}"))).unwrap();
        }
        assert!(snapshots.find("incident").is_some());
        assert_eq!(snapshots.list().len(), 1 + MAX_OWN);
    }

    #[test]
    fn a_name_is_given_once_and_not_one_of_the_agents() {
        let snapshots = Snapshots::default();
        snapshots.keep(snapshot("a", 1, false)).unwrap();
        assert_eq!(
            snapshots.keep(snapshot("a", 1, false)),
            Err(SnapshotError::Taken("a".to_owned()))
        );
        for (name, fine) in [
            ("before-INC", false),
            ("before-42", true),
            ("", false),
            ("eval-7", false),
        ] {
            assert_eq!(is_name(name), fine, "{name}");
        }
    }

    #[test]
    fn an_eval_keeps_what_stood_before_its_first_change_of_a_path() {
        let snapshots = Snapshots::default();
        let path = |text: &str| text.parse::<Path>().unwrap();
        for (at, value) in [
            ("config.db", 1),
            ("config.db.port", 2),
            ("config.db", 3),
            ("rota", 4),
        ] {
            assert!(
                snapshots
                    .before_change(7, "alice", &[1], &path(at), Tree::I64(value))
                    .is_empty()
            );
        }
        let parts = snapshots.find("eval-7").unwrap().parts;
        assert_eq!(
            parts,
            [(path("config.db"), Tree::I64(1)), (path("rota"), Tree::I64(4))]
        );
    }
}
