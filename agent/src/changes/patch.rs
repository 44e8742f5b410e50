//! Patches of points.

use std::sync::{Arc, OnceLock};

use debug_base::{BootTime, Wait};
use debug_lease::{Begun, Change, ChangeError, Rearmed, Stands, Undone};
use debug_points as points;
use debug_points::{Observer, PatchCode, Point, Registry};
use debug_policy::Resource;

/// A patch at a point.
pub(crate) struct PatchChange {
    target: Resource,
    point: Point,
    /// The point declared in the registry, for a route unknown before; set when the patch is applied.
    declared: OnceLock<Point>,
    routes: Option<Arc<Registry>>,
    code: Arc<dyn PatchCode>,
    observer: Arc<dyn Observer>,
    warning: Option<String>,
}

impl PatchChange {
    /// Creates a patch of `point` with `code`. `observer` receives its failures; `warning` is shown to the operator.
    pub(crate) fn new(
        point: Point,
        code: Arc<dyn PatchCode>,
        observer: Arc<dyn Observer>,
        warning: Option<String>,
    ) -> Self {
        let target = Resource::Point(point.name().to_owned());
        Self {
            target,
            point,
            declared: OnceLock::new(),
            routes: None,
            code,
            observer,
            warning,
        }
    }

    /// For a route that may not be declared yet: it becomes a point when the patch is applied, not earlier.
    pub(crate) fn declaring(self, routes: Arc<Registry>) -> Self {
        Self {
            routes: Some(routes),
            ..self
        }
    }

    fn point(&self) -> &Point {
        self.declared.get().unwrap_or(&self.point)
    }
}

impl Change for PatchChange {
    fn target(&self) -> &Resource {
        &self.target
    }

    fn make(&self, begun: Begun, deadline: BootTime, _: &[u64]) -> Result<(), ChangeError> {
        if let (Some(routes), Some((method, template))) = (&self.routes, self.point.name().split_once(' ')) {
            let slot = routes
                .declare(method, template)
                .map_err(|e| ChangeError::Refused(e.to_string()))?;
            drop(self.declared.set(Point::Route(slot)));
        }
        let layer = points::Layer::new(begun.lease(), deadline, self.code.clone(), self.observer.clone());
        self.point()
            .push(Arc::new(layer))
            .map_err(|e| ChangeError::Refused(e.to_string()))
    }

    fn rearm(&self, lease: u64, until: BootTime) -> Rearmed {
        self.point().set_deadline(lease, until);
        Rearmed::InForce
    }

    fn undo(&self, lease: u64, _wait: Wait) -> Result<Undone, ChangeError> {
        // Layers of a point are independent of each other.
        self.point().end(lease);
        Ok(Undone {
            stands: Some(Stands::Layers(self.point().layers().len())),
            ..Undone::default()
        })
    }

    fn ends_by_itself(&self) -> bool {
        true
    }

    fn done(&self) -> String {
        "patched".to_owned()
    }

    fn warning(&self) -> Option<String> {
        self.warning.clone()
    }

    fn force(&self, _wait: Wait) -> Result<bool, ChangeError> {
        Ok(true)
    }
}
