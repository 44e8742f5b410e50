use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{StateError, TreeError};
use super::fence::{Outside, Panicked, fenced};
use super::path::Path;
use super::tree::Tree;
use super::{Limits, from_tree, to_tree};
use crate::clock::BootTime;

/// How long to wait for a lock of the service.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wait {
    /// Not at all: inside a patch, whose caller may hold the lock itself.
    Try,
    /// At most so long, asking again and again: a reader that blocks behind a waiting writer would hold up the
    /// service's own readers, and std's lock cannot give up waiting.
    Bounded(Duration),
    /// As an ordinary waiting writer, for a revert, on a thread that may wait.
    Until,
}

impl Wait {
    /// For the agent's own threads: 5 ms, as long as a service thread may be held up by us.
    pub(crate) const AGENT: Self = Self::Bounded(Duration::from_millis(5));
}

/// How often a bounded wait asks for the lock again: seldom enough to cost nothing, often enough for 5 ms.
const BETWEEN_TRIES: Duration = Duration::from_micros(50);

/// How often a write begins anew because the service changed the value between our reading and our writing.
const ATTEMPTS: u32 = 4;

/// A value of the service under its name. Paths are counted from the value: the state's name is not in them; in
/// errors it is.
pub(crate) trait State: Send + Sync {
    /// The name under which the service registered it.
    fn name(&self) -> &str;

    /// Whether it was registered for writing.
    fn writable(&self) -> bool;

    /// The whole value, with secrets marked.
    fn read(&self, wait: Wait) -> Result<Tree, StateError>;

    /// Whether writing `value` at `path` would succeed now, and what stands there.
    ///
    /// # Errors
    /// Nothing stands there; the live value does not survive being written back; the type does not take the new value
    /// or would store another one.
    fn check_write(&self, path: &[String], value: &Tree, wait: Wait) -> Result<Tree, StateError>;

    /// Writes `value` at `path` if `expect` stands there. All or nothing: any error leaves the value as it was.
    fn compare_and_set(
        &self,
        path: &[String],
        expect: &Tree,
        value: &Tree,
        later: &Later<'_>,
        wait: Wait,
    ) -> Result<(), StateError>;

    /// Takes note of what the state will be from each deadline on. Only states that look at the clock where they are
    /// read have something to do.
    fn rearm(&self, _later: &Later<'_>, _wait: Wait) -> Result<(), StateError> {
        Ok(())
    }
}

/// Given the whole state as it is in force, what it will be from each deadline on.
pub(crate) type Later<'a> = dyn Fn(&Tree) -> Vec<(BootTime, Tree)> + 'a;

/// A state that can be read.
pub(crate) fn read_only<T>(name: impl Into<String>, lock: Arc<RwLock<T>>) -> Arc<dyn State>
where
    T: Serialize + Send + Sync + 'static,
{
    Arc::new(ReadOnly(Locked { name: name.into(), lock }))
}

/// A state that can be read and written.
pub(crate) fn writable<T>(name: impl Into<String>, lock: Arc<RwLock<T>>) -> Arc<dyn State>
where
    T: Serialize + DeserializeOwned + Clone + PartialEq + Send + Sync + 'static,
{
    Arc::new(Writable(Locked { name: name.into(), lock }))
}

struct ReadOnly<T>(Locked<T>);
struct Writable<T>(Locked<T>);

impl<T: Serialize + Send + Sync> State for ReadOnly<T> {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn writable(&self) -> bool {
        false
    }

    fn read(&self, wait: Wait) -> Result<Tree, StateError> {
        self.0.read(wait)
    }

    fn check_write(&self, _path: &[String], _value: &Tree, _wait: Wait) -> Result<Tree, StateError> {
        Err(StateError::ReadOnly(self.0.name.clone()))
    }

    fn compare_and_set(
        &self,
        _: &[String],
        _: &Tree,
        _: &Tree,
        _: &Later<'_>,
        _: Wait,
    ) -> Result<(), StateError> {
        Err(StateError::ReadOnly(self.0.name.clone()))
    }
}

impl<T> State for Writable<T>
where
    T: Serialize + DeserializeOwned + Clone + PartialEq + Send + Sync,
{
    fn name(&self) -> &str {
        &self.0.name
    }

    fn writable(&self) -> bool {
        true
    }

    fn read(&self, wait: Wait) -> Result<Tree, StateError> {
        self.0.read(wait)
    }

    fn check_write(&self, path: &[String], value: &Tree, wait: Wait) -> Result<Tree, StateError> {
        for _ in 0..ATTEMPTS {
            let tree = self.0.read(wait)?;
            let before = self.0.at(&tree, path)?.clone();
            let edit = self.0.prepare(&tree, path, &before, value)?;
            let guard = self.0.read_guard(wait)?;
            let verdict = self.0.verdict(&guard, &edit);
            drop(guard);
            match verdict? {
                Verdict::AsRead => return Ok(before),
                Verdict::Lossy => return Err(self.0.lossy(&edit)),
                Verdict::Changed => {}
            }
        }
        Err(StateError::Busy(self.0.name.clone()))
    }

    fn compare_and_set(
        &self,
        path: &[String],
        expect: &Tree,
        value: &Tree,
        // Nobody looks at a clock where a plain lock is read: the revert thread ends the change.
        _later: &Later<'_>,
        wait: Wait,
    ) -> Result<(), StateError> {
        for _ in 0..ATTEMPTS {
            let tree = self.0.read(wait)?;
            if !self.0.at(&tree, path)?.same_unordered(expect) {
                return Err(StateError::Conflict(self.0.path(path)));
            }
            let edit = self.0.prepare(&tree, path, expect, value)?;
            match self.0.swap(edit, wait)? {
                Swapped::Done => return Ok(()),
                Swapped::Not(Verdict::Lossy, edit) => {
                    let reordered = !tree.at(path).is_some_and(|live| live.same(expect));
                    // A list in another order: for a set the copy would have been equal, so this is no set.
                    let conflict = StateError::Conflict(self.0.path(path));
                    return Err(if reordered { conflict } else { self.0.lossy(&edit) });
                }
                Swapped::Not(..) => {}
            }
        }
        Err(StateError::Busy(self.0.name.clone()))
    }
}

/// A value of the service in its lock.
struct Locked<T> {
    name: String,
    lock: Arc<RwLock<T>>,
}

/// A write that is ready but for the swap.
struct Edit<T> {
    /// The whole value as it was read.
    tree: Tree,
    /// The type's own reading of it: equal to the live value if nothing is lost.
    copy: Outside<T>,
    /// The value to store.
    new: Outside<T>,
}

enum Verdict {
    /// The live value is the one that was read, and survives the round trip.
    AsRead,
    /// It is another one by now.
    Changed,
    /// It is the one that was read, but reading it back gives another value.
    Lossy,
}

enum Swapped<T> {
    Done,
    Not(Verdict, Edit<T>),
}

impl<T> Locked<T> {
    fn path(&self, below: &[String]) -> Path {
        Path(vec![self.name.clone()]).join(below)
    }

    fn at<'t>(&self, tree: &'t Tree, path: &[String]) -> Result<&'t Tree, StateError> {
        Ok(tree.known_at(path).map_err(|error| error.below(&self.path(&[])))?)
    }

    fn panicked(&self, doing: &'static str) -> StateError {
        StateError::Panicked { state: self.name.clone(), doing }
    }

    fn read_guard(&self, wait: Wait) -> Result<RwLockReadGuard<'_, T>, StateError> {
        match wait {
            Wait::Until => self.lock.read().map_err(|_| StateError::Poisoned(self.name.clone())),
            wait => self.tried(wait, || self.lock.try_read()),
        }
    }

    fn write_guard(&self, wait: Wait) -> Result<RwLockWriteGuard<'_, T>, StateError> {
        match wait {
            Wait::Until => self.lock.write().map_err(|_| StateError::Poisoned(self.name.clone())),
            wait => self.tried(wait, || self.lock.try_write()),
        }
    }

    fn tried<G>(
        &self,
        wait: Wait,
        mut attempt: impl FnMut() -> Result<G, TryLockError<G>>,
    ) -> Result<G, StateError> {
        let began = Instant::now();
        loop {
            match attempt() {
                Ok(guard) => return Ok(guard),
                Err(TryLockError::Poisoned(_)) => return Err(StateError::Poisoned(self.name.clone())),
                Err(TryLockError::WouldBlock) => {}
            }
            match wait {
                Wait::Bounded(longest) if began.elapsed() < longest => thread::sleep(BETWEEN_TRIES),
                _ => return Err(StateError::Busy(self.name.clone())),
            }
        }
    }
}

impl<T: Serialize> Locked<T> {
    fn read(&self, wait: Wait) -> Result<Tree, StateError> {
        let guard = self.read_guard(wait)?;
        let tree = fenced(|| to_tree(&*guard, &Limits::STATE));
        drop(guard);
        self.tree_of(tree)
    }

    fn tree_of(&self, tree: Result<Result<Tree, TreeError>, Panicked>) -> Result<Tree, StateError> {
        tree.map_err(|Panicked| self.panicked("writing itself out"))?
            .map_err(|error| StateError::Unreadable(error.below(&self.path(&[]))))
    }
}

impl<T: Serialize + DeserializeOwned + PartialEq> Locked<T> {
    /// Makes the copy to compare with and the value to store. Holds no lock.
    fn prepare(
        &self,
        tree: &Tree,
        path: &[String],
        expect: &Tree,
        value: &Tree,
    ) -> Result<Edit<T>, StateError> {
        let live = self.at(tree, path)?;
        let replaced = |value: &Tree| {
            let value = aligned(value, live);
            tree.clone().replaced(path, value).map_err(|error| error.below(&self.path(&[])))
        };
        let lossy = |error: TreeError| StateError::Lossy {
            path: self.path(&error.path.0),
            reason: "the live value cannot be read back by the service's type".to_owned(),
        };
        let copy = self.value_of(replaced(expect)?)?.map_err(lossy)?;
        let edited = replaced(value)?;
        let refused = |error: TreeError| StateError::Refused(error.below(&self.path(&[])));
        let new = self.value_of(edited.clone())?.map_err(refused)?;
        let stored = self.tree_of(fenced(|| to_tree(new.get(), &Limits::COPY)))?;
        if !stored.same_unordered(&edited) {
            let place = stored.first_difference(&edited).unwrap_or_default();
            return Err(self.not_stored(tree, path, place));
        }
        Ok(Edit { tree: tree.clone(), copy, new })
    }

    fn value_of(&self, tree: Tree) -> Result<Result<Outside<T>, TreeError>, StateError> {
        let value = fenced(|| from_tree(tree)).map_err(|Panicked| self.panicked("reading a value"))?;
        Ok(value.map(Outside::new))
    }

    /// Why the stored tree is not the edited one: the new value's fault if the difference lies at the path, else the
    /// type loses something elsewhere.
    fn not_stored(&self, tree: &Tree, path: &[String], place: Vec<String>) -> StateError {
        let full = self.path(&place);
        if full.overlaps(&self.path(path)) && tree.at(path).is_some() {
            return StateError::NotStored(full);
        }
        StateError::Lossy { path: full, reason: "it does not survive being written back".to_owned() }
    }

    /// Compares under a guard, with nothing but the type's own code and ours, fenced.
    fn verdict(&self, live: &T, edit: &Edit<T>) -> Result<Verdict, StateError> {
        let equal = fenced(|| live == edit.copy.get()).map_err(|Panicked| self.panicked("comparing"))?;
        // Asked in any case: `PartialEq` may leave out what serde writes.
        let now = self.tree_of(fenced(|| to_tree(live, &Limits::STATE)))?;
        Ok(match (now.same(&edit.tree), equal) {
            (false, _) => Verdict::Changed,
            (true, true) => Verdict::AsRead,
            (true, false) => Verdict::Lossy,
        })
    }

    /// Swaps the new value in if the live one is still the one that was read. The old one drops outside the guard.
    fn swap(&self, mut edit: Edit<T>, wait: Wait) -> Result<Swapped<T>, StateError> {
        let mut guard = self.write_guard(wait)?;
        let verdict = self.verdict(&guard, &edit);
        if matches!(verdict, Ok(Verdict::AsRead)) {
            edit.new.swap(&mut guard);
        }
        drop(guard);
        match verdict? {
            Verdict::AsRead => Ok(Swapped::Done),
            verdict => Ok(Swapped::Not(verdict, edit)),
        }
    }

    /// The first path at which the live value and the type's reading of it differ, if any can be seen.
    fn lossy(&self, edit: &Edit<T>) -> StateError {
        let copied = fenced(|| to_tree(edit.copy.get(), &Limits::COPY));
        let place = match copied {
            Ok(Ok(copied)) => copied.first_difference(&edit.tree).or_else(|| not_a_number(&edit.tree)),
            _ => None,
        };
        match place {
            Some(place) => StateError::Lossy {
                path: self.path(&place),
                reason: "it does not survive being written back".to_owned(),
            },
            None => StateError::Lossy {
                path: self.path(&[]),
                reason: "the value as a whole does not survive being written back; a field may be left out by serde"
                    .to_owned(),
            },
        }
    }
}

fn not_a_number(tree: &Tree) -> Option<Vec<String>> {
    tree.leaves()
        .find(|(_, leaf)| matches!(leaf.without_mark(), Tree::F64(value) if value.is_nan()))
        .map(|(p, _)| p.0)
}

/// `value` with marks exactly where the type has a `Secret<T>`.
///
/// A field that is secret only by its name is a plain `String` to its type. Nothing that is not marked becomes marked:
/// text typed by an operator is no secret.
fn aligned(value: &Tree, live: &Tree) -> Tree {
    match (value, live) {
        (Tree::Secret(_), Tree::Secret(_)) => value.clone(),
        (Tree::Secret(inner), live) => aligned(inner, live),
        (Tree::Seq(items), Tree::Seq(beside)) => {
            let pairs = items.iter().enumerate();
            Tree::Seq(
                pairs
                    .map(|(index, item)| beside.get(index).map_or(item.clone(), |b| aligned(item, b)))
                    .collect(),
            )
        }
        (Tree::Map(entries), Tree::Map(_)) => {
            let aligned = |(key, value): &(String, Tree)| match live.at(std::slice::from_ref(key)) {
                Some(beside) => (key.clone(), aligned(value, beside)),
                None => (key.clone(), value.clone()),
            };
            Tree::Map(entries.iter().map(aligned).collect())
        }
        (value, _) => value.clone(),
    }
}
