//! Snapshots: what stood at some paths at one moment, by name. In memory, bounded, gone with the process.
//!
//! A snapshot holds secrets, marked as such; what leaves of it leaves as any read does.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::BootTime;
use crate::state::{Path, Tree};
use crate::values;

/// How much all snapshots of the process may hold: 16 MiB.
const MAX_BYTES: usize = 16 << 20;
/// How many there may be, however small.
const MAX_SNAPSHOTS: usize = 1_000;
/// The share of one operator, so that none takes the room of all.
const MAX_OWN_BYTES: usize = MAX_BYTES / 4;
/// Likewise, however small.
const MAX_OWN: usize = 100;

/// What stood at some paths.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// Unique among those that are kept.
    pub(crate) name: String,
    /// Who took it; an eval's own are taken for the operator whose eval it was.
    pub(crate) by: String,
    /// Whether the agent took it, before an eval changed something.
    pub(crate) automatic: bool,
    /// When.
    pub(crate) taken: BootTime,
    /// The leases that were in force.
    pub(crate) leases: Vec<u64>,
    /// Each path once, with what stood there.
    pub(crate) parts: Vec<(Path, Tree)>,
}

impl Snapshot {
    /// About how many bytes it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.parts.iter().map(|(path, tree)| path.to_string().len() + weight(tree)).sum()
    }
}

/// What a tree takes: its contents, and about as much as each node does by itself.
fn weight(tree: &Tree) -> usize {
    values::size_of(tree) + tree.leaves().count() * 64
}

/// All snapshots, the oldest first.
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
    /// It alone is more than an operator's may be in all.
    #[error("the snapshot would hold {bytes} bytes, the limit is {most}")]
    TooLarge {
        /// Its own.
        bytes: usize,
        /// In all.
        most: usize,
    },
    /// What others keep leaves no room.
    #[error("the snapshots of others leave no room")]
    Full,
}

impl Snapshots {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Snapshot>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same ones, for a plan.
    pub(crate) fn copy(&self) -> Self {
        Self { kept: Mutex::new(self.lock().clone()) }
    }

    /// Keeps one. Returns the names of those that had to go for it: automatic ones, and the oldest of the same operator. Nobody's
    /// goes for another's.
    ///
    /// # Errors
    /// None is kept then, and none of another operator goes.
    pub(crate) fn keep(&self, snapshot: Snapshot) -> Result<Vec<String>, SnapshotError> {
        let mut kept = self.lock();
        if kept.iter().any(|other| other.name == snapshot.name) {
            return Err(SnapshotError::Taken(snapshot.name));
        }
        let bytes = snapshot.bytes();
        let most = if snapshot.automatic { MAX_BYTES } else { MAX_OWN_BYTES };
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
                kept.iter().position(|other| other.automatic).or_else(|| kept.iter().position(own))
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

    /// Adds what stands at a path to the automatic snapshot of an eval, unless the path or what contains it is in there.
    /// One that grows beyond all bounds takes no more in. Returns what had to go.
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
        let earlier = kept.iter().position(|snapshot| snapshot.name == name).and_then(|at| kept.remove(at));
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

    /// The one of that name.
    pub(crate) fn find(&self, name: &str) -> Option<Snapshot> {
        self.lock().iter().find(|snapshot| snapshot.name == name).cloned()
    }

    /// All of them, without what they hold.
    pub(crate) fn list(&self) -> Vec<Snapshot> {
        self.lock().iter().cloned().collect()
    }
}

/// The name of the snapshot that an eval's first change takes.
pub(crate) fn automatic_name(eval: u64) -> String {
    format!("eval-{eval}")
}

/// Whether an operator may give a snapshot this name: it would stand in lists, and must not pose as the agent's own.
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
        Snapshot { name: name.to_owned(), by, automatic, taken, leases, parts }
    }

    #[test]
    fn the_oldest_that_nobody_asked_for_goes_first_and_nobodys_for_anothers() {
        let (snapshots, quarter) = (Snapshots::default(), MAX_OWN_BYTES - 100);
        let of = |by: &str, snapshot: Snapshot| Snapshot { by: by.to_owned(), ..snapshot };
        for (by, name, automatic) in [("alice", "hers", false), ("lea", "leas", false)] {
            assert_eq!(snapshots.keep(of(by, snapshot(name, quarter, automatic))), Ok(Vec::new()));
        }
        for name in ["eval-1", "eval-2"] {
            assert_eq!(snapshots.keep(snapshot(name, quarter, true)), Ok(Vec::new()));
        }
        assert_eq!(
            snapshots.keep(of("bob", snapshot("bobs", quarter, false))),
            Ok(vec!["eval-1".to_owned()])
        );
        assert_eq!(snapshots.keep(of("bob", snapshot("next", quarter, false))), Ok(vec!["bobs".to_owned()]));
        assert_eq!(
            snapshots.keep(of("vic", snapshot("vics", quarter, false))),
            Ok(vec!["eval-2".to_owned()])
        );
        assert_eq!(snapshots.keep(of("eve", snapshot("eves", quarter, false))), Err(SnapshotError::Full));
        assert_eq!(snapshots.keep(snapshot("eval-3", quarter, true)), Err(SnapshotError::Full));
        let large = snapshots.keep(of("bob", snapshot("large", 2 * quarter, false)));
        assert!(matches!(large, Err(SnapshotError::TooLarge { .. })));
        assert_eq!(snapshots.list().len(), 4);
    }

    #[test]
    fn many_small_ones_push_out_none_but_their_own() {
        let snapshots = Snapshots::default();
        let of = |by: &str, name: String| Snapshot { by: by.to_owned(), ..snapshot(&name, 1, false) };
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
        assert_eq!(snapshots.keep(snapshot("a", 1, false)), Err(SnapshotError::Taken("a".to_owned())));
        for (name, fine) in [("before-INC", false), ("before-42", true), ("", false), ("eval-7", false)] {
            assert_eq!(is_name(name), fine, "{name}");
        }
    }

    #[test]
    fn an_eval_keeps_what_stood_before_its_first_change_of_a_path() {
        let snapshots = Snapshots::default();
        let path = |text: &str| text.parse::<Path>().unwrap();
        for (at, value) in [("config.db", 1), ("config.db.port", 2), ("config.db", 3), ("rota", 4)] {
            assert!(snapshots.before_change(7, "alice", &[1], &path(at), Tree::I64(value)).is_empty());
        }
        let parts = snapshots.find("eval-7").unwrap().parts;
        assert_eq!(parts, [(path("config.db"), Tree::I64(1)), (path("rota"), Tree::I64(4))]);
    }
}
