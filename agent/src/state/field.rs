//! Fields that the service shows by closures: one at a time, and all that share a first name as one state.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::cell::{Cell, Held, Wait};
use super::edit::Edit;
use super::error::{StateError, TreeError};
use super::fence::{Outside, Panicked, fenced};
use super::handle::{Later, State};
use super::path::Path;
use super::tree::Tree;
use super::{Limits, to_tree};

type Get<V> = Box<dyn Fn() -> V + Send + Sync>;
type Set<V> = Box<dyn Fn(V) -> Result<(), String> + Send + Sync>;

/// A field behind two closures of the service, which may wait for whatever they like.
pub(crate) struct FieldCell<V> {
    get: Get<V>,
    set: Set<V>,
    /// One write of ours at a time. Nobody of the service knows it.
    turn: Mutex<()>,
}

impl<V: Serialize + PartialEq + Send + Sync + 'static> FieldCell<V> {
    pub(crate) fn new<E: fmt::Display>(
        get: impl Fn() -> V + Send + Sync + 'static,
        set: impl Fn(V) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self {
        let set = move |value| set(value).map_err(|error| error.to_string());
        Self { get: Box::new(get), set: Box::new(set), turn: Mutex::default() }
    }

    fn live(&self) -> Result<Outside<V>, Held> {
        fenced(|| (self.get)()).map(Outside::new).map_err(|Panicked| Held::Panicked("getting the field"))
    }

    /// Calls `set`, and looks whether it did what it was asked to.
    fn put(&self, new: V, stored: &Tree) -> Result<(), Held> {
        match fenced(|| (self.set)(new)) {
            Ok(Ok(())) => {}
            Ok(Err(words)) => return Err(Held::Refused(words)),
            Err(Panicked) => return Err(Held::Panicked("setting the field")),
        }
        let seen = self.live()?;
        let seen = fenced(|| to_tree(seen.get(), &Limits::STATE));
        let as_asked = matches!(&seen, Ok(Ok(seen)) if seen.same_unordered(stored));
        if as_asked { Ok(()) } else { Err(Held::NotStored) }
    }

    /// After a `set` that failed or came too late: what stood there is put back, if it does not stand there still.
    fn put_back(&self, old: Option<V>) {
        let Some(old) = old.map(Outside::new) else { return };
        let stands = self.live().is_ok_and(|live| fenced(|| live.get() == old.get()).unwrap_or(false));
        let mut old = old;
        if let (false, Some(old)) = (stands, old.take()) {
            // There is nothing left to do if this fails, too.
            drop(fenced(|| (self.set)(old)));
        }
    }
}

impl<V: Serialize + PartialEq + Send + Sync + 'static> Cell for FieldCell<V> {
    type Value = V;

    /// Nobody knows what the closures wait for.
    const WAITS: bool = true;

    fn look<R>(&self, _: Wait, look: impl FnOnce(&V) -> R) -> Result<R, Held> {
        let live = self.live()?;
        Ok(look(live.get()))
    }

    fn swap(&self, _: Wait, edit: &mut Edit<V>) -> Result<(), Held> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.live()?;
        let Some(new) = edit.begin_if_fits(live.get()) else { return Ok(()) };
        let done = self.put(new, &edit.stored);
        let wanted = edit.ticket.finish();
        if done.is_err() || !wanted {
            self.put_back(edit.copy.take());
            return done.and(Err(Held::Busy));
        }
        Ok(())
    }
}

/// The fields whose paths begin with the same name, as one state.
pub(super) struct Fields {
    root: Path,
    fields: Vec<Arc<dyn State>>,
}

impl Fields {
    /// Beginning with one of them.
    pub(super) fn of(field: Arc<dyn State>) -> Self {
        Self { root: Path(field.root().0.iter().take(1).cloned().collect()), fields: vec![field] }
    }

    /// Adds one with the same first name.
    ///
    /// # Errors
    /// The other field that is it, contains it or lies inside it.
    pub(super) fn add(&mut self, field: Arc<dyn State>) -> Result<(), Path> {
        if let Some(other) = self.fields.iter().find(|other| other.root().overlaps(field.root())) {
            return Err(other.root().clone());
        }
        self.fields.push(field);
        Ok(())
    }

    /// The field that holds `path`, and the rest of the path.
    fn field<'p>(&self, path: &'p [String], wait: Wait) -> Result<(&dyn State, &'p [String]), StateError> {
        for field in &self.fields {
            if let Some(below) = path.strip_prefix(field.root().below()) {
                return Ok((&**field, below));
            }
        }
        // Not a field, so it is above some, or nowhere.
        self.read(wait)?.known_at(path).map_err(|error| error.below(&self.root))?;
        let several = TreeError::ours("it consists of fields that are set one by one; write one of them");
        Err(StateError::Refused(several.below(&self.root.join(path))))
    }
}

impl State for Fields {
    fn root(&self) -> &Path {
        &self.root
    }

    fn writable(&self) -> bool {
        true
    }

    fn waits(&self) -> bool {
        true
    }

    fn read(&self, wait: Wait) -> Result<Tree, StateError> {
        let mut tree = Tree::Map(Vec::new());
        for field in &self.fields {
            insert(&mut tree, field.root().below(), field.read(wait)?);
        }
        Ok(tree)
    }

    fn check_write(&self, path: &[String], value: &Tree, wait: Wait) -> Result<Tree, StateError> {
        let (field, below) = self.field(path, wait)?;
        field.check_write(below, value, wait)
    }

    fn compare_and_set(
        &self,
        path: &[String],
        expect: &Tree,
        value: &Tree,
        later: &Later<'_>,
        wait: Wait,
    ) -> Result<(), StateError> {
        let (field, below) = self.field(path, wait)?;
        field.compare_and_set(below, expect, value, later, wait)
    }
}

/// Puts a field's value where its path says; maps are made on the way.
fn insert(tree: &mut Tree, path: &[String], value: Tree) {
    let (Some((name, below)), Tree::Map(entries)) = (path.split_first(), &mut *tree) else {
        *tree = value;
        return;
    };
    if !entries.iter().any(|(key, _)| key == name) {
        entries.push((name.clone(), Tree::Map(Vec::new())));
    }
    if let Some((_, inner)) = entries.iter_mut().find(|(key, _)| key == name) {
        insert(inner, below, value);
    }
}
