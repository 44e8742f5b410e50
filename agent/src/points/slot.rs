use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::layer::{Layer, Stats};
use super::probe::Makes;
use super::watch::{Counted, Watch};
use super::world::{ArcSwapOption, AtomicBool, Mutex};
use crate::clock::BootTime;

/// What a point is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// A `#[patchable]` function.
    Function,
    /// One method and one template of a router.
    Route,
}

/// An argument of a point.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Given {
    /// As in the source; `arg0` and so on where the source has a pattern.
    pub(crate) name: &'static str,
    /// Whether a patch gets it; otherwise it gets `()`.
    pub(crate) given: bool,
}

/// What the types of a point tell.
#[derive(Debug)]
pub struct Facts {
    pub(crate) arguments: Vec<Given>,
    pub(crate) not_patchable: Option<&'static str>,
    /// What can be made of a patch's answer; nothing if no patch is possible, or it is a route.
    pub(crate) makes: Option<Makes>,
}

impl Facts {
    /// Each argument's name and whether a patch gets it, and why no patch is possible, if none is.
    pub fn new(arguments: &[(&'static str, bool)], not_patchable: Option<&'static str>) -> Self {
        let arguments = arguments.iter().map(|&(name, given)| Given { name, given }).collect();
        Self { arguments, not_patchable, makes: None }
    }

    /// The same of a function, of which a patch's answer can make this.
    pub fn of(arguments: &[(&'static str, bool)], makes: Makes) -> Self {
        Self { makes: Some(makes), ..Self::new(arguments, makes.why_not()) }
    }
}

/// Why a point cannot be patched.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{name}` cannot be patched: {why}")]
pub(crate) struct NotPatchable {
    /// The point.
    pub(crate) name: String,
    /// The reason.
    pub(crate) why: Cow<'static, str>,
}

/// A point.
///
/// INVARIANT: `armed` is set while `layers` or `watches` holds something, except while these are changed.
pub struct Slot {
    armed: AtomicBool,
    /// Oldest first; nothing instead of an empty list. Readers never wait for a writer.
    layers: ArcSwapOption<Vec<Arc<Layer>>>,
    /// Who counts its calls; likewise.
    watches: ArcSwapOption<Vec<Arc<Watch>>>,
    /// Taken by those who change the two, never by callers.
    writers: Mutex<()>,
    name: Cow<'static, str>,
    /// File and line of a function.
    place: Option<(&'static str, u32)>,
    facts: fn() -> Facts,
    /// Whether its calls come by here at all.
    called_here: bool,
    /// Why it takes no patches, should its types allow them: its author's wish, or what is wrong with it.
    closed: ArcSwapOption<String>,
    /// Whether a request has matched it (routes).
    seen: AtomicBool,
    /// The layers with a name that the first such request had come through (routes).
    behind: ArcSwapOption<Vec<Arc<str>>>,
}

impl Slot {
    /// The point of a function.
    pub const fn new(name: &'static str, file: &'static str, line: u32, facts: fn() -> Facts) -> Self {
        Self::at(Cow::Borrowed(name), Some((file, line)), facts, true)
    }

    /// The point of a function whose calls are neither patched nor counted: it is only listed.
    pub const fn listed(name: &'static str, file: &'static str, line: u32, facts: fn() -> Facts) -> Self {
        Self::at(Cow::Borrowed(name), Some((file, line)), facts, false)
    }

    /// The point of a route; `name` is its method, a space and its template.
    pub(crate) fn route(name: String) -> Self {
        Self::at(Cow::Owned(name), None, || Facts::new(&[("request", true)], None), true)
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
            seen: AtomicBool::new(false),
            behind: ArcSwapOption::const_empty(),
        }
    }

    /// Whether anything may be in force here, or anybody counts. One relaxed load.
    #[inline(always)]
    pub fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Relaxed)
    }

    /// Counts a call of it, if anybody wants to know.
    pub fn count(&self) -> Option<Counted> {
        Counted::begin(self)
    }

    pub(super) fn watches(&self) -> Option<Arc<Vec<Arc<Watch>>>> {
        self.watches.load().as_ref().cloned()
    }

    /// Whether its calls can be counted; those of functions that are only listed do not come by here.
    pub(crate) fn is_countable(&self) -> bool {
        self.called_here
    }

    /// Begins to count its calls, for one who wants to know.
    pub(crate) fn watch(&self) -> Arc<Watch> {
        let watch = Arc::new(Watch::default());
        self.change_watches(|watches| watches.push(watch.clone()));
        watch
    }

    /// Ends that.
    pub(crate) fn unwatch(&self, watch: &Arc<Watch>) {
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

    /// Its name: unique in the process.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is a function or a route.
    pub(crate) fn kind(&self) -> Kind {
        if self.place.is_some() { Kind::Function } else { Kind::Route }
    }

    /// File and line of a function.
    pub(crate) fn place(&self) -> Option<(&'static str, u32)> {
        self.place
    }

    /// Its arguments, in order.
    pub(crate) fn arguments(&self) -> Vec<Given> {
        (self.facts)().arguments
    }

    /// What can be made of a patch's answer (functions).
    pub(crate) fn makes(&self) -> Option<Makes> {
        (self.facts)().makes
    }

    /// Whether it can be patched at all.
    ///
    /// # Errors
    /// The reason: why it was closed first, then what the types forbid.
    pub(crate) fn patchable(&self) -> Result<(), NotPatchable> {
        let closed = self.closed.load().as_ref().map(|why| Cow::Owned(why.to_string()));
        match closed.or_else(|| (self.facts)().not_patchable.map(Cow::Borrowed)) {
            None => Ok(()),
            Some(why) => Err(NotPatchable { name: self.name.to_string(), why }),
        }
    }

    /// Closes it to every patch from now on, also to those in force. The first reason stays.
    pub(crate) fn close(&self, why: &str) {
        if self.closed.load().is_none() {
            self.closed.store(Some(Arc::new(why.to_owned())));
        }
    }

    /// Whether that was done.
    #[cfg_attr(
        not(feature = "http"),
        expect(dead_code, reason = "only routes are closed while they are patched")
    )]
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load().is_some()
    }

    /// Whether a request has matched it (routes).
    pub(crate) fn is_seen(&self) -> bool {
        self.seen.load(Ordering::Relaxed)
    }

    /// Notes that a request has matched it, which had come through these layers.
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only routes are matched"))]
    pub(crate) fn mark_seen(&self, passed: &[Arc<str>]) {
        if !passed.is_empty() {
            self.behind.store(Some(Arc::new(passed.to_vec())));
        }
        self.seen.store(true, Ordering::Relaxed);
    }

    /// The layers of the service, by name, that lie outside of it (routes).
    pub(crate) fn behind(&self) -> Vec<Arc<str>> {
        self.behind.load().as_ref().map(|names| names.to_vec()).unwrap_or_default()
    }

    /// The newest layer that may run in a call at `now`, of which the observer of the top hears (invariant 3): should the
    /// revert thread be dead or late, an expired layer is the first that notices.
    pub(crate) fn in_force(&self, now: BootTime) -> Option<Arc<Layer>> {
        let layers = self.layers.load();
        let layers = layers.as_ref()?;
        if let Some(top) = layers.last() {
            top.tell_of_call(now);
        }
        layers.iter().rev().find(|layer| layer.is_in_force(now)).cloned()
    }

    /// All layers, oldest first, ended ones that were not taken out yet included.
    pub(crate) fn layers(&self) -> Vec<Arc<Layer>> {
        self.layers.load().as_ref().map(|layers| layers.to_vec()).unwrap_or_default()
    }

    /// What happened at the layer of a lease.
    pub(crate) fn stats(&self, lease: u64) -> Option<Stats> {
        self.layers().iter().find(|layer| layer.lease() == lease).map(|layer| layer.stats())
    }

    /// Puts a layer on top. Calls that begin later see it.
    ///
    /// # Errors
    /// As [`Slot::patchable`].
    pub(crate) fn push(&self, layer: Arc<Layer>) -> Result<(), NotPatchable> {
        self.patchable()?;
        self.change(|layers| layers.push(layer));
        Ok(())
    }

    /// Ends the layer of a lease and takes it out. Whether there was one. Calls that begin later do not run it.
    pub(crate) fn end(&self, lease: u64) -> bool {
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

    /// Sets the deadline of a lease's layer. Whether there was one.
    pub(crate) fn set_deadline(&self, lease: u64, deadline: BootTime) -> bool {
        let layers = self.layers();
        let layer = layers.iter().find(|layer| layer.lease() == lease);
        layer.inspect(|layer| layer.set_deadline(deadline)).is_some()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Layer>>)) {
        // Without this an `end` that empties the stack could clear the flag of a `push` that came between.
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
