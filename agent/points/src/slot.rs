use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::layer::{Layer, Stats};
use super::probe::Makes;
use super::watch::{Counted, Watch};
use super::world::{ArcSwapOption, AtomicBool, Mutex};
use debug_base::BootTime;

/// Kind of a point.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A `#[patchable]` function.
    Function,
    /// One method and one template of a router.
    Route,
}

/// An argument of a point.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GivenArgument {
    /// Name in the source; `arg0` and so on for a pattern.
    pub name: &'static str,
    /// Whether it is passed to patches; otherwise they get `()`.
    pub given: bool,
}

/// Properties of a point that follow from its types.
#[derive(Debug)]
pub struct Facts {
    /// Its arguments, in order.
    pub arguments: Vec<GivenArgument>,
    /// Why it cannot be patched, if it cannot.
    pub not_patchable: Option<&'static str>,
    /// The results that can be made from a patch's answer; `None` if no patch is possible, or for a route.
    pub makes: Option<Makes>,
}

impl Facts {
    /// Name of each argument and whether it is passed to patches; `not_patchable`: why no patch is possible, if none is.
    pub fn new(arguments: &[(&'static str, bool)], not_patchable: Option<&'static str>) -> Self {
        let arguments = arguments
            .iter()
            .map(|&(name, given)| GivenArgument { name, given })
            .collect();
        Self {
            arguments,
            not_patchable,
            makes: None,
        }
    }

    /// The facts of a function, with the results that can be made from an answer.
    pub fn of(arguments: &[(&'static str, bool)], makes: Makes) -> Self {
        Self {
            makes: Some(makes),
            ..Self::new(arguments, makes.why_not())
        }
    }
}

/// Why a point cannot be patched.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{name}` cannot be patched: {why}")]
pub struct NotPatchable {
    /// The point.
    pub name: String,
    /// The reason.
    pub why: Cow<'static, str>,
}

/// Maximum number of ways that a route remembers.
const MAX_WAYS: usize = 64;

/// A point.
///
/// INVARIANT: `armed` is set while `layers` or `watches` is not empty, except while a writer changes them.
pub struct Slot {
    armed: AtomicBool,
    /// Oldest first; `None` instead of an empty list. Readers never wait for a writer.
    layers: ArcSwapOption<Vec<Arc<Layer>>>,
    /// The watches that count its calls; `None` instead of an empty list.
    watches: ArcSwapOption<Vec<Arc<Watch>>>,
    /// Held by writers of these two lists, never by callers of the point.
    writers: Mutex<()>,
    name: Cow<'static, str>,
    /// File and line of a function.
    place: Option<(&'static str, u32)>,
    facts: fn() -> Facts,
    /// Whether its calls pass through the agent's code.
    called_here: bool,
    /// Why it takes no patches although its types allow them: closed by its author, or faulty.
    closed: ArcSwapOption<String>,
    /// The ways by which requests have matched it (routes): the agent's layer, and whether the request was a `HEAD`. `None`
    /// instead of an empty list.
    seen: ArcSwapOption<Vec<u32>>,
    /// The named layers that the last request recorded by [`mark_seen`](Self::mark_seen) had passed (routes).
    behind: ArcSwapOption<Vec<Arc<str>>>,
}

impl Slot {
    /// Creates the point of a function.
    pub const fn new(name: &'static str, file: &'static str, line: u32, facts: fn() -> Facts) -> Self {
        Self::at(Cow::Borrowed(name), Some((file, line)), facts, true)
    }

    /// Creates the point of a function that is only listed: its calls are neither patched nor counted.
    pub const fn listed(name: &'static str, file: &'static str, line: u32, facts: fn() -> Facts) -> Self {
        Self::at(Cow::Borrowed(name), Some((file, line)), facts, false)
    }

    /// Creates the point of a route; `name` is its method, a space and its template.
    pub fn route(name: String) -> Self {
        Self::at(
            Cow::Owned(name),
            None,
            || Facts::new(&[("request", true)], None),
            true,
        )
    }

    const fn at(
        name: Cow<'static, str>,
        place: Option<(&'static str, u32)>,
        facts: fn() -> Facts,
        called_here: bool,
    ) -> Self {
        Self {
            armed: AtomicBool::new(false),
            layers: ArcSwapOption::const_empty(),
            watches: ArcSwapOption::const_empty(),
            called_here,
            writers: Mutex::new(()),
            name,
            place,
            facts,
            closed: ArcSwapOption::const_empty(),
            seen: ArcSwapOption::const_empty(),
            behind: ArcSwapOption::const_empty(),
        }
    }

    /// Whether a layer may be in force or a watch may count here. One relaxed load.
    #[inline(always)]
    pub fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Relaxed)
    }

    /// Starts counting a call if the point is watched.
    pub fn count(&self) -> Option<Counted> {
        self.watches().map(Counted::begin)
    }

    pub(crate) fn watches(&self) -> Option<Arc<Vec<Arc<Watch>>>> {
        self.watches.load().as_ref().cloned()
    }

    /// Whether its calls can be counted; those of listed-only functions cannot.
    pub fn is_countable(&self) -> bool {
        self.called_here
    }

    /// Starts a watch, which counts the calls.
    pub fn watch(&self) -> Arc<Watch> {
        let watch = Arc::new(Watch::default());
        self.change_watches(|watches| watches.push(watch.clone()));
        watch
    }

    /// Ends a watch.
    pub fn unwatch(&self, watch: &Arc<Watch>) {
        self.change_watches(|watches| watches.retain(|other| !Arc::ptr_eq(other, watch)));
    }

    fn change_watches(&self, change: impl FnOnce(&mut Vec<Arc<Watch>>)) {
        let _writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut watches = self.watches().map(|watches| watches.to_vec()).unwrap_or_default();
        change(&mut watches);
        let any = !watches.is_empty();
        self.watches.store(any.then(|| Arc::new(watches)));
        self.arm(any || !self.layers().is_empty());
    }

    fn arm(&self, armed: bool) {
        self.armed.store(armed, Ordering::Relaxed);
    }

    /// Its name, unique in the process.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is a function or a route.
    pub fn kind(&self) -> Kind {
        if self.place.is_some() {
            Kind::Function
        } else {
            Kind::Route
        }
    }

    /// File and line of a function.
    pub fn place(&self) -> Option<(&'static str, u32)> {
        self.place
    }

    /// Its arguments, in order.
    pub fn arguments(&self) -> Vec<GivenArgument> {
        (self.facts)().arguments
    }

    /// The results that can be made from a patch's answer (functions).
    pub fn makes(&self) -> Option<Makes> {
        (self.facts)().makes
    }

    /// Checks whether it can be patched.
    ///
    /// # Errors
    /// Why not: the reason for closing it, otherwise the restriction of its types.
    pub fn patchable(&self) -> Result<(), NotPatchable> {
        let closed = self.closed.load().as_ref().map(|why| Cow::Owned(why.to_string()));
        match closed.or_else(|| (self.facts)().not_patchable.map(Cow::Borrowed)) {
            None => Ok(()),
            Some(why) => Err(NotPatchable {
                name: self.name.to_string(),
                why,
            }),
        }
    }

    /// Closes the point to all patches, including those in force. The first reason is kept.
    pub fn close(&self, why: &str) {
        if self.closed.load().is_none() {
            self.closed.store(Some(Arc::new(why.to_owned())));
        }
    }

    /// Whether the point is closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load().is_some()
    }

    /// Whether a request has matched it (routes).
    pub fn is_seen(&self) -> bool {
        self.seen.load().is_some()
    }

    /// Whether a request has matched it on this way: two routers, or two handlers, may serve the same route.
    pub fn is_seen_by(&self, way: u32) -> bool {
        self.seen.load().as_ref().is_some_and(|ways| ways.contains(&way))
    }

    /// Records that a request has matched it on this way, after passing these named layers.
    pub fn mark_seen(&self, way: u32, passed: &[Arc<str>]) {
        if !passed.is_empty() {
            self.behind.store(Some(Arc::new(passed.to_vec())));
        }
        let mut ways = self
            .seen
            .load()
            .as_ref()
            .map(|ways| ways.to_vec())
            .unwrap_or_default();
        if ways.contains(&way) {
            return;
        }
        // A service that builds its router anew again and again leaves the oldest ones behind.
        if ways.len() == MAX_WAYS {
            ways.remove(0);
        }
        ways.push(way);
        // If two threads do this at once, one entry is lost: the original then answers one more first request.
        self.seen.store(Some(Arc::new(ways)));
    }

    /// The named layers of the service outside of it (routes).
    pub fn behind(&self) -> Vec<Arc<str>> {
        self.behind
            .load()
            .as_ref()
            .map(|names| names.to_vec())
            .unwrap_or_default()
    }

    /// The newest layer in force at `now`. Tells the observer of the top layer about the call (invariant 3): if the revert
    /// thread is dead or late, this is where an expired layer is noticed first.
    pub fn in_force(&self, now: BootTime) -> Option<Arc<Layer>> {
        let layers = self.layers.load();
        let layers = layers.as_ref()?;
        if let Some(top) = layers.last() {
            top.tell_of_call(now);
        }
        layers.iter().rev().find(|layer| layer.is_in_force(now)).cloned()
    }

    /// All layers, oldest first, including ended ones that were not removed yet.
    pub fn layers(&self) -> Vec<Arc<Layer>> {
        self.layers
            .load()
            .as_ref()
            .map(|layers| layers.to_vec())
            .unwrap_or_default()
    }

    /// Statistics of a lease's layer.
    pub fn stats(&self, lease: u64) -> Option<Stats> {
        self.layers()
            .iter()
            .find(|layer| layer.lease() == lease)
            .map(|layer| layer.stats())
    }

    /// Adds a layer on top. Calls that begin later see it.
    ///
    /// # Errors
    /// As for [`Slot::patchable`].
    pub fn push(&self, layer: Arc<Layer>) -> Result<(), NotPatchable> {
        self.patchable()?;
        self.change(|layers| layers.push(layer));
        Ok(())
    }

    /// Ends and removes the layer of a lease; returns whether there was one. Calls that begin later do not run it.
    pub fn end(&self, lease: u64) -> bool {
        let mut found = false;
        self.change(|layers| {
            layers.retain(|layer| {
                let ends = layer.lease() == lease;
                if ends {
                    layer.end();
                    found = true;
                }
                !ends
            });
        });
        found
    }

    /// Sets the deadline of a lease's layer; returns whether there is one.
    pub fn set_deadline(&self, lease: u64, deadline: BootTime) -> bool {
        let layers = self.layers();
        let layer = layers.iter().find(|layer| layer.lease() == lease);
        layer.inspect(|layer| layer.set_deadline(deadline)).is_some()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Layer>>)) {
        // Without this lock, an `end` that empties the stack could clear the flag set by a concurrent `push`.
        let _writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut layers = self.layers();
        change(&mut layers);
        let any = !layers.is_empty();
        self.layers.store(any.then(|| Arc::new(layers)));
        self.arm(any || self.watches().is_some());
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot")
            .field("name", &self.name)
            .field("layers", &self.layers())
            .finish_non_exhaustive()
    }
}
