//! Fields that the service shows by closures: each alone, and all fields with the same first name as one state.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::cell::{AccessError, Cell};
use crate::edit::Edit;
use crate::error::StateError;
use crate::typed::{Checked, EditFn, Later, State};
use debug_base::{
    Found, Limits, Names, Orders, Panicked, Path, ServiceValue, Tree, TreeError, Unreadable, Wait, fenced,
    to_tree,
};

type Get<V> = Box<dyn Fn() -> V + Send + Sync>;
type Set<V> = Box<dyn Fn(V) -> Result<(), String> + Send + Sync>;

/// A field behind two closures of the service, which may block without a bound.
pub struct FieldCell<V> {
    get: Get<V>,
    set: Set<V>,
    /// Serializes the agent's own writes. The service does not use this lock.
    turn: Mutex<()>,
}

impl<V: Serialize + PartialEq + Send + Sync + 'static> FieldCell<V> {
    /// A cell over a getter and a setter of the service.
    pub fn new<E: fmt::Display>(
        get: impl Fn() -> V + Send + Sync + 'static,
        set: impl Fn(V) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self {
        let set = move |value| set(value).map_err(|error| error.to_string());
        Self {
            get: Box::new(get),
            set: Box::new(set),
            turn: Mutex::default(),
        }
    }

    fn live(&self) -> Result<ServiceValue<V>, AccessError> {
        fenced(|| (self.get)())
            .map(ServiceValue::new)
            .map_err(|Panicked| AccessError::Panicked("getting the field"))
    }

    /// Calls `set`, then reads the field back to check that `set` stored the value.
    fn put(&self, new: V, stored: &Tree) -> Result<(), AccessError> {
        match fenced(|| (self.set)(new)) {
            Ok(Ok(())) => {}
            Ok(Err(words)) => return Err(AccessError::Refused(words)),
            Err(Panicked) => return Err(AccessError::Panicked("setting the field")),
        }
        let seen = self.live()?;
        let seen = fenced(|| to_tree(seen.get(), &Limits::STATE));
        let as_asked = matches!(&seen, Ok(Ok(seen)) if seen.same_unordered(stored));
        if as_asked {
            Ok(())
        } else {
            Err(AccessError::NotStored)
        }
    }

    /// Restores the old value after a `set` that failed or finished too late, unless the field still holds it.
    fn put_back(&self, old: Option<V>) {
        let Some(old) = old.map(ServiceValue::new) else {
            return;
        };
        let stands = self
            .live()
            .is_ok_and(|live| fenced(|| live.get() == old.get()).unwrap_or(false));
        let mut old = old;
        if let (false, Some(old)) = (stands, old.take()) {
            // If this fails too, nothing more can be done.
            drop(fenced(|| (self.set)(old)));
        }
    }
}

impl<V: Serialize + PartialEq + Send + Sync + 'static> Cell for FieldCell<V> {
    type Value = V;

    /// The closures may block without a bound.
    const WAITS: bool = true;

    fn look<R>(&self, _: Wait, look: impl FnOnce(&V) -> R) -> Result<R, AccessError> {
        let live = self.live()?;
        Ok(look(live.get()))
    }

    fn swap(&self, _: Wait, edit: &mut Edit<V>) -> Result<(), AccessError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.live()?;
        let Some(new) = edit.begin_if_fits(live.get()) else {
            return Ok(());
        };
        let done = self.put(new, &edit.stored);
        let wanted = edit.ticket.finish();
        if done.is_err() || !wanted {
            self.put_back(edit.copy.take());
            return done.and(Err(AccessError::Busy));
        }
        Ok(())
    }
}

/// A read-only value returned by a closure of the service.
pub struct ReadCell<V>(Get<V>);

impl<V> ReadCell<V> {
    /// A cell over a getter of the service.
    pub fn new(get: impl Fn() -> V + Send + Sync + 'static) -> Self {
        Self(Box::new(get))
    }
}

impl<V: Send + Sync + 'static> Cell for ReadCell<V> {
    type Value = V;

    /// The closure may block without a bound.
    const WAITS: bool = true;

    fn look<R>(&self, _: Wait, look: impl FnOnce(&V) -> R) -> Result<R, AccessError> {
        let value = fenced(|| (self.0)()).map_err(|Panicked| AccessError::Panicked("getting the field"))?;
        Ok(look(ServiceValue::new(value).get()))
    }

    fn swap(&self, _: Wait, _: &mut Edit<V>) -> Result<(), AccessError> {
        Err(AccessError::Refused("it is only read".to_owned()))
    }
}

/// A state or field with a name, or a part of one, that was registered twice. Neither is shown: choosing one would be a
/// guess.
pub(crate) struct ClosedState {
    root: Path,
    why: StateError,
}

impl ClosedState {
    pub(crate) fn new(root: Path, why: StateError) -> Self {
        Self { root, why }
    }
}

impl State for ClosedState {
    fn root(&self) -> &Path {
        &self.root
    }

    fn writable(&self) -> bool {
        false
    }

    fn read(&self, _: Wait) -> Result<Tree, StateError> {
        Err(self.why.clone())
    }

    fn check_write(&self, _: &[String], _: &Tree, _: Wait) -> Result<Checked, StateError> {
        Err(self.why.clone())
    }

    fn check_write_into(
        &self,
        _: &Tree,
        _: &[String],
        _: &Tree,
        _: Wait,
    ) -> Result<(Checked, Tree), StateError> {
        Err(self.why.clone())
    }

    fn update_into(&self, _: &Tree, _: &[String], _: &EditFn<'_>, _: Wait) -> Result<Tree, StateError> {
        Err(self.why.clone())
    }

    fn update(&self, _: &[String], _: &EditFn<'_>, _: &Later<'_>, _: Wait) -> Result<Tree, StateError> {
        Err(self.why.clone())
    }

    fn add_key(&mut self, _: &[String], _: &str) -> bool {
        false
    }

    fn unkeyed(&self) -> Vec<(Path, String)> {
        Vec::new()
    }
}

/// The fields with the same first name, as one state.
pub(crate) struct Fields {
    root: Path,
    fields: Vec<Arc<dyn State>>,
}

impl Fields {
    /// Starts with one field.
    pub(crate) fn of(field: Arc<dyn State>) -> Self {
        Self {
            root: Path(field.root().0.iter().take(1).cloned().collect()),
            fields: vec![field],
        }
    }

    /// Adds a field with the same first name. If it overlaps other fields, it and they are closed.
    ///
    /// # Errors
    /// `DuplicateName` if the first overlapping field has the same path, otherwise `Overlapping`.
    pub(crate) fn add(&mut self, field: Arc<dyn State>) -> Result<(), StateError> {
        let path = field.root().clone();
        let Some(other) = self.fields.iter().find(|other| other.root().overlaps(&path)) else {
            self.fields.push(field);
            return Ok(());
        };
        let other = other.root().clone();
        let why = match path == other {
            true => StateError::DuplicateName(path.to_string()),
            false => StateError::Overlapping(path.clone(), other),
        };
        let overlapping = self.fields.extract_if(.., |other| other.root().overlaps(&path));
        let outermost = overlapping
            .map(|field| field.root().clone())
            .fold(path.clone(), |outer, other| {
                if other.0.len() < outer.0.len() {
                    other
                } else {
                    outer
                }
            });
        self.fields
            .push(Arc::new(ClosedState::new(outermost, why.clone())));
        Err(why)
    }

    /// The field that holds `path`, and the rest of the path.
    fn field<'p>(&self, path: &'p [String], wait: Wait) -> Result<(&dyn State, &'p [String]), StateError> {
        for field in &self.fields {
            if let Some(below) = path.strip_prefix(field.root().below()) {
                return Ok((&**field, below));
            }
        }
        // Not inside a field: the path is above fields, or does not exist.
        self.read(wait)?
            .known_at(path)
            .map_err(|error| error.below(&self.root))?;
        let several = TreeError::ours("it consists of fields that are set one by one; write one of them");
        Err(StateError::Refused(several.below(&self.root.join(path))))
    }
}

impl State for Fields {
    fn root(&self) -> &Path {
        &self.root
    }

    fn writable(&self) -> bool {
        self.fields.iter().any(|field| field.writable())
    }

    fn writable_at(&self, path: &[String]) -> bool {
        let holding = self
            .fields
            .iter()
            .find(|field| path.starts_with(field.root().below()));
        holding.map_or(self.writable(), |field| field.writable())
    }

    fn waits(&self) -> bool {
        true
    }

    fn read(&self, wait: Wait) -> Result<Tree, StateError> {
        let mut tree = Tree::Map(Vec::new());
        for field in &self.fields {
            let value = match field.read(wait) {
                Err(error @ StateError::Busy(_)) => return Err(error),
                // A field that fails is shown as unreadable; the others are not affected.
                Err(error) => {
                    Tree::Unreadable(Unreadable::because(error.without_service_words().to_string()))
                }
                Ok(value) => value,
            };
            insert(&mut tree, field.root().below(), value);
        }
        Ok(tree)
    }

    fn read_along(&self, path: &[String], wait: Wait) -> Result<Option<Found>, StateError> {
        let holding = |field: &&Arc<dyn State>| path.starts_with(field.root().below());
        let Some(field) = self.fields.iter().find(holding) else {
            return Ok(None);
        };
        let depth = field.root().below().len();
        let inside = match path.get(depth..).unwrap_or_default() {
            [] => Some(Found {
                tree: field.read(wait)?,
                above: Vec::new(),
            }),
            below => field.read_along(below, wait)?,
        };
        let names = |depth: usize| {
            let mut names = Names::default();
            let beside = self.fields.iter().filter_map(|field| {
                let below = field.root().below();
                (below.get(..depth) == path.get(..depth))
                    .then(|| below.get(depth))
                    .flatten()
            });
            beside.for_each(|name| names.add(name));
            names
        };
        Ok(inside.map(|Found { tree, above }| Found {
            tree,
            above: (0..depth).map(names).chain(above).collect(),
        }))
    }

    fn spelled(&self, path: &[String], value: &Tree, wait: Wait) -> Option<(Tree, bool)> {
        let (field, below) = self.field(path, wait).ok()?;
        field.spelled(below, value, wait)
    }

    fn has_field(&self, path: &[String], wait: Wait) -> Option<bool> {
        let field = self
            .fields
            .iter()
            .find(|field| path.starts_with(field.root().below()));
        // The set of fields is fixed at start.
        let Some(field) = field else { return Some(false) };
        field.has_field(path.get(field.root().below().len()..).unwrap_or_default(), wait)
    }

    fn check_write(&self, path: &[String], value: &Tree, wait: Wait) -> Result<Checked, StateError> {
        let (field, below) = self.field(path, wait)?;
        field.check_write(below, value, wait)
    }

    fn check_write_into(
        &self,
        whole: &Tree,
        path: &[String],
        value: &Tree,
        wait: Wait,
    ) -> Result<(Checked, Tree), StateError> {
        let (field, below) = self.field(path, wait)?;
        let root = field.root().below();
        let own = whole.known_at(root).map_err(|error| error.below(&self.root))?;
        let (checked, stored) = field.check_write_into(own, below, value, wait)?;
        let whole = whole
            .clone()
            .replaced(root, stored)
            .map_err(|error| error.below(&self.root))?;
        Ok((checked, whole))
    }

    fn update_into(
        &self,
        whole: &Tree,
        path: &[String],
        change: &EditFn<'_>,
        wait: Wait,
    ) -> Result<Tree, StateError> {
        let (field, below) = self.field(path, wait)?;
        let above = field.root().below();
        let own = whole.known_at(above).map_err(|error| error.below(&self.root))?;
        let change = |tree: &Tree, orders: &dyn Orders| {
            let changed = change(&only(above, tree), &Within { above, orders })?;
            Ok(changed.and_then(|changed| changed.at(above).cloned()))
        };
        let stored = field.update_into(own, below, &change, wait)?;
        whole
            .clone()
            .replaced(above, stored)
            .map_err(|error| error.below(&self.root).into())
    }

    fn update(
        &self,
        path: &[String],
        change: &EditFn<'_>,
        later: &Later<'_>,
        wait: Wait,
    ) -> Result<Tree, StateError> {
        let (field, below) = self.field(path, wait)?;
        let above = field.root().below();
        let change = |tree: &Tree, orders: &dyn Orders| {
            let changed = change(&only(above, tree), &Within { above, orders })?;
            Ok(changed.and_then(|changed| changed.at(above).cloned()))
        };
        let later = |tree: &Tree, orders: &dyn Orders| {
            let later = later(&only(above, tree), &Within { above, orders }).into_iter();
            later
                .filter_map(|(deadline, tree)| Some((deadline, tree.at(above)?.clone())))
                .collect()
        };
        Ok(only(above, &field.update(below, &change, &later, wait)?))
    }

    fn could_hold(&self, path: &[String], wait: Wait) -> bool {
        self.field(path, wait)
            .is_ok_and(|(field, below)| field.could_hold(below, wait))
    }

    fn add_key(&mut self, _path: &[String], _field: &str) -> bool {
        false
    }

    fn unkeyed(&self) -> Vec<(Path, String)> {
        self.fields.iter().flat_map(|field| field.unkeyed()).collect()
    }
}

/// The state as if this field were its only one.
fn only(above: &[String], value: &Tree) -> Tree {
    let mut tree = Tree::Map(Vec::new());
    insert(&mut tree, above, value.clone());
    tree
}

/// The order knowledge of one field's type, for paths from the state's root.
struct Within<'a> {
    above: &'a [String],
    orders: &'a dyn Orders,
}

impl Orders for Within<'_> {
    fn is_set(&self, whole: &Tree, path: &[String], items: &[&Tree]) -> bool {
        match (path.strip_prefix(self.above), whole.at(self.above)) {
            (Some(below), Some(value)) => self.orders.is_set(value, below, items),
            _ => false,
        }
    }

    fn is_timed(&self) -> bool {
        self.orders.is_timed()
    }
}

/// Inserts a field's value at its path; creates maps on the way.
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
