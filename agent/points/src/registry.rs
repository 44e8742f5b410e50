use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::ops::Deref;
use std::sync::{Arc, PoisonError, RwLock};

use super::layer::{Failed, Layer};
use super::order::Order;
use super::probe::Makes;
use super::slot::{GivenArgument, Kind, Slot};
use debug_base::BootTime;

/// All `#[patchable]` functions in the binary.
#[linkme::distributed_slice]
pub static POINTS: [&'static Slot];

/// Limit on routes, above that of any real router: learnt routes are kept for the life of the process.
pub(crate) const MAX_ROUTES: usize = 10_000;

/// The longest template in bytes; it becomes a name in policies and the log.
const MAX_TEMPLATE_LEN: usize = 512;

/// The longest name of a function in bytes; its module path can be long.
const MAX_NAME_LEN: usize = 1_000;

/// Longer names are not compared with known ones: the cost is the product of both lengths.
const MAX_COMPARED_LEN: usize = 256;

/// The methods of points. `HEAD` uses the point of `GET`, as in the router; `CONNECT` has no template.
const METHODS: [&str; 7] = ["DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// A point found in the registry.
#[derive(Clone, Debug)]
pub enum Point {
    /// A `#[patchable]` function.
    Function(&'static Slot),
    /// A route.
    Route(Arc<Slot>),
}

impl Deref for Point {
    type Target = Slot;

    fn deref(&self) -> &Slot {
        match self {
            Self::Function(slot) => slot,
            Self::Route(slot) => slot,
        }
    }
}

/// Reason for a point closed by its author with `never_patch`.
const NEVER: &str = "the service's author closed it with `never_patch`";

/// Why a route cannot be declared.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidRoute {
    /// Not in [`METHODS`].
    #[error(
        "method `{0}` cannot be a point: expected one of DELETE, GET (also for HEAD), OPTIONS, PATCH, POST, PUT, TRACE"
    )]
    Method(String),
    /// Not a template that a router would report.
    #[error(
        "`{0}` is not a route's template: expected `/` and at most {MAX_TEMPLATE_LEN} bytes without spaces"
    )]
    Template(String),
    /// [`MAX_ROUTES`] was reached.
    #[error("{MAX_ROUTES} routes are known already")]
    TooMany,
}

/// Description of a point for `points()` and `describe`.
#[derive(Clone, Debug)]
pub struct PointInfo {
    /// The point's name.
    pub name: String,
    /// Function or route.
    pub kind: Kind,
    /// File and line of a function.
    pub place: Option<(&'static str, u32)>,
    /// Its arguments, in order.
    pub arguments: Vec<GivenArgument>,
    /// Why it cannot be patched, if it cannot.
    pub not_patchable: Option<Cow<'static, str>>,
    /// The results that can be made from a patch's answer (patchable functions).
    pub makes: Option<Makes>,
    /// Whether a request has matched it since the start (routes).
    pub is_seen: Option<bool>,
    /// The named layers outside of it (routes).
    pub behind: Vec<Arc<str>>,
    /// Its layers, oldest first.
    pub layers: Vec<LayerInfo>,
}

/// Description of a layer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LayerInfo {
    /// The lease that it belongs to.
    pub lease: u64,
    /// The moment at which it expires.
    pub deadline: BootTime,
    /// Whether it may still run.
    pub is_in_force: bool,
    /// Calls passed to the patch, failures included.
    pub calls: u64,
    /// Calls in which the patch failed.
    pub failures: u64,
    /// The last failure.
    pub last_failure: Option<Arc<Failed>>,
}

impl LayerInfo {
    /// A layer that a plan would add.
    pub fn planned(lease: u64, deadline: BootTime) -> Self {
        Self {
            lease,
            deadline,
            is_in_force: true,
            calls: 0,
            failures: 0,
            last_failure: None,
        }
    }
}

/// All points of the process, by name.
#[derive(Debug)]
pub struct Registry {
    functions: BTreeMap<&'static str, &'static Slot>,
    /// Functions with a duplicate or an invalid name. They are listed only.
    nameless: Vec<&'static Slot>,
    /// Faults of points, for the operator who starts the service.
    faults: Vec<String>,
    /// By `METHOD /template`. Only grows; the service takes the lock once per route.
    routes: RwLock<BTreeMap<String, Arc<Slot>>>,
    never_patch: HashSet<String>,
    /// The position of the agent's layer among the service's own.
    pub(crate) order: Order,
}

impl Registry {
    /// Collects the registered functions and closes those in `never_patch` (exact names; routes are closed when they become
    /// known). Functions with the same name are all closed, because the name does not tell them apart.
    pub fn new(never_patch: impl IntoIterator<Item = String>) -> Self {
        Self::of(POINTS.iter().copied(), never_patch)
    }

    pub(crate) fn of(
        slots: impl IntoIterator<Item = &'static Slot>,
        never_patch: impl IntoIterator<Item = String>,
    ) -> Self {
        let never_patch = never_patch.into_iter().collect::<HashSet<_>>();
        let mut by_name: BTreeMap<&'static str, Vec<&'static Slot>> = BTreeMap::new();
        slots
            .into_iter()
            .for_each(|slot| by_name.entry(slot.name()).or_default().push(slot));
        let (mut functions, mut nameless, mut faults) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (name, mut slots) in by_name {
            if never_patch.contains(name) {
                slots.iter().for_each(|slot| slot.close(NEVER));
            }
            // The linker's order is arbitrary.
            slots.sort_by_key(|slot| slot.place());
            if let Some(fault) = fault(name, &slots) {
                slots.iter().for_each(|slot| slot.close(&fault));
                faults.push(format!("{fault}; they take no patches"));
            }
            match is_name(name) {
                true => {
                    let mut slots = slots.into_iter();
                    functions.extend(slots.next().map(|first| (name, first)));
                    nameless.extend(slots);
                }
                // A lookup by this name could hide a route.
                false => nameless.extend(slots),
            }
        }
        Self {
            functions,
            nameless,
            faults,
            routes: RwLock::default(),
            never_patch,
            order: Order::default(),
        }
    }

    /// Faults of points, one sentence each.
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// Whether several functions have this name.
    pub fn is_shared(&self, name: &str) -> bool {
        self.nameless.iter().any(|slot| slot.name() == name)
    }

    /// The point with exactly this name.
    pub fn find(&self, name: &str) -> Option<Point> {
        let function = self.functions.get(name).map(|slot| Point::Function(slot));
        function.or_else(|| self.known_route(name).map(Point::Route))
    }

    /// The known name that was probably meant: one that ends in `::name`, or the nearest by edit distance.
    pub fn nearest(&self, name: &str) -> Option<String> {
        if MAX_COMPARED_LEN < name.len() {
            return None;
        }
        let names = self.names();
        let tail = format!("::{name}");
        if let Some(found) = names.iter().find(|known| known.ends_with(&tail)) {
            return Some(found.clone());
        }
        let mistakes = |known: &String| debug_base::distance(known, name);
        let best = names
            .iter()
            .filter(|known| known.len() <= MAX_COMPARED_LEN)
            .min_by_key(|known| mistakes(known))?;
        // More than a third of the name wrong means another name.
        (mistakes(best) <= name.len().div_ceil(3)).then(|| best.clone())
    }

    /// All points, functions first, each kind sorted by name.
    pub fn points(&self) -> Vec<PointInfo> {
        let now = BootTime::now();
        let routes = self
            .routes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect::<Vec<_>>();
        let mut functions: Vec<_> = self.functions.values().chain(&self.nameless).copied().collect();
        functions.sort_by_key(|slot| (slot.name(), slot.place()));
        let functions = functions.into_iter().map(|slot| info(slot, now));
        functions
            .chain(routes.iter().map(|slot| info(slot, now)))
            .collect()
    }

    /// The point of a route; creates it if unknown.
    ///
    /// # Errors
    /// The method or template is invalid, or there are too many routes.
    pub fn declare(&self, method: &str, template: &str) -> Result<Arc<Slot>, InvalidRoute> {
        let name = route_name(method, template)?;
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = routes.get(&name) {
            return Ok(known.clone());
        }
        if MAX_ROUTES <= routes.len() {
            return Err(InvalidRoute::TooMany);
        }
        let slot = Arc::new(Slot::route(name.clone()));
        self.close_if_needed(&slot);
        routes.insert(name, slot.clone());
        Ok(slot)
    }

    fn close_if_needed(&self, slot: &Slot) {
        if self.never_patch.contains(slot.name()) {
            slot.close(NEVER);
        }
        if let Some(why) = self.order.why_closed(slot.name()) {
            slot.close(&why);
        }
    }

    /// Every patched point, with the statistics of its newest layer.
    pub fn patched(&self) -> Vec<(String, super::Stats)> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let slots = self
            .functions
            .values()
            .copied()
            .chain(routes.values().map(|slot| &**slot));
        let patched = slots.filter(|slot| slot.is_armed());
        patched
            .filter_map(|slot| Some((slot.name().to_owned(), slot.layers().last()?.stats())))
            .collect()
    }

    /// The point of a route; if unknown, a new one that is not registered.
    ///
    /// # Errors
    /// As for [`declare`](Self::declare).
    pub fn sketch(&self, method: &str, template: &str) -> Result<Arc<Slot>, InvalidRoute> {
        let name = route_name(method, template)?;
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let slot = match routes.get(&name) {
            Some(known) => known.clone(),
            None if MAX_ROUTES <= routes.len() => return Err(InvalidRoute::TooMany),
            None => Arc::new(Slot::route(name.clone())),
        };
        drop(routes);
        self.close_if_needed(&slot);
        Ok(slot)
    }

    /// Whether a resource is a route that no request has matched since the start.
    pub fn is_unseen(&self, resource: &debug_policy::Resource) -> bool {
        match resource {
            debug_policy::Resource::Point(name) => self.known_route(name).is_some_and(|slot| !slot.is_seen()),
            _ => false,
        }
    }

    /// The named layers outside of a route.
    pub fn behind(&self, resource: &debug_policy::Resource) -> Vec<Arc<str>> {
        let debug_policy::Resource::Point(name) = resource else {
            return Vec::new();
        };
        self.known_route(name)
            .map(|slot| slot.behind())
            .unwrap_or_default()
    }

    /// Describes the point with this name.
    pub fn described(&self, name: &str) -> Option<PointInfo> {
        self.find(name).map(|point| info(&point, BootTime::now()))
    }

    /// Describes a route that a plan would declare.
    pub fn sketched(&self, name: &str) -> Option<PointInfo> {
        let (method, template) = name.split_once(' ')?;
        self.sketch(method, template)
            .ok()
            .map(|slot| info(&slot, BootTime::now()))
    }

    /// The route with this name, `METHOD /template`, if known.
    pub fn known_route(&self, name: &str) -> Option<Arc<Slot>> {
        self.routes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    fn names(&self) -> Vec<String> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        self.functions
            .keys()
            .map(|name| (*name).to_owned())
            .chain(routes.keys().cloned())
            .collect()
    }
}

pub(crate) fn route_name(method: &str, template: &str) -> Result<String, InvalidRoute> {
    let method = point_method(method).ok_or_else(|| InvalidRoute::Method(method.to_owned()))?;
    let plain = template
        .chars()
        .all(|c| !c.is_whitespace() && !debug_policy::is_hidden(c));
    if !template.starts_with('/') || MAX_TEMPLATE_LEN < template.len() || !plain {
        return Err(InvalidRoute::Template(template.to_owned()));
    }
    Ok(format!("{method} {template}"))
}

/// The method under which points are kept; `None` for methods without points.
pub fn point_method(method: &str) -> Option<&'static str> {
    let method = if method == "HEAD" { "GET" } else { method };
    METHODS.into_iter().find(|known| *known == method)
}

/// The fault of the functions with this name; `None` if the name is valid and unique.
fn fault(name: &str, slots: &[&'static Slot]) -> Option<String> {
    let places: Vec<String> = slots.iter().map(|slot| place(slot)).collect();
    let places = places.join(" and at ");
    let advice = "give each a name of its own with `#[patchable(name = \"…\")]`";
    if !is_name(name) {
        let name = name.escape_debug();
        return Some(format!(
            "`{name}` is no name of a point (1 to {MAX_NAME_LEN} bytes without spaces), at {places}; {advice}"
        ));
    }
    (slots.len() > 1).then(|| {
        format!(
            "{} functions are points called `{name}`, at {places}; {advice}",
            slots.len()
        )
    })
}

/// Whether a name is valid for a function: one with spaces would be taken for a route.
fn is_name(name: &str) -> bool {
    let plain = name.chars().all(|c| !c.is_whitespace() && !c.is_control());
    !name.is_empty() && name.len() <= MAX_NAME_LEN && plain
}

fn place(slot: &Slot) -> String {
    slot.place()
        .map(|(file, line)| format!("`{file}:{line}`"))
        .unwrap_or_default()
}

fn info(slot: &Slot, now: BootTime) -> PointInfo {
    PointInfo {
        name: slot.name().to_owned(),
        kind: slot.kind(),
        place: slot.place(),
        arguments: slot.arguments(),
        not_patchable: slot.patchable().err().map(|refusal| refusal.why),
        makes: slot.makes(),
        is_seen: (slot.kind() == Kind::Route).then(|| slot.is_seen()),
        behind: slot.behind(),
        layers: slot.layers().iter().map(|layer| layer_info(layer, now)).collect(),
    }
}

fn layer_info(layer: &Layer, now: BootTime) -> LayerInfo {
    LayerInfo {
        lease: layer.lease(),
        deadline: layer.deadline(),
        is_in_force: layer.is_in_force(now),
        calls: layer.calls(),
        failures: layer.failures(),
        last_failure: layer.last_failure(),
    }
}
