//! A plan in progress: what it has changed so far, and the effects that it lists.

use debug_policy::Mode;

use super::overlay::Overlay;
use super::planned::PlannedLeases;
use crate::changes::Changes;
use crate::changes::snapshot::Snapshots;
use crate::effect::Reply;

/// A plan in progress.
#[derive(Default)]
pub(crate) struct Planning {
    pub(crate) overlay: Overlay,
    pub(crate) leases: PlannedLeases,
    /// The snapshots, with those that the plan would take; `None` until it would take one.
    snapshots: Option<Snapshots>,
    pub(crate) lines: Vec<PlanLine>,
    /// The mode that the code has entered; the session's mode is unchanged.
    pub(crate) mode: Option<(Mode, Option<String>)>,
}

/// One effect that the code would have.
#[derive(Clone, Debug)]
pub(crate) struct PlanLine {
    pub(crate) function: &'static str,
    pub(crate) target: String,
    pub(crate) before: Option<Reply>,
    pub(crate) after: Option<Reply>,
    pub(crate) allowed: bool,
    /// Whether it would fail or be denied, for more than a missing mode or reason.
    pub(crate) refused: bool,
    pub(crate) verdict: String,
}

impl Planning {
    /// A plan that is decided as if in this mode.
    pub(crate) fn in_mode(mode: Mode, reason: Option<String>) -> Self {
        Self {
            mode: Some((mode, reason)),
            ..Self::default()
        }
    }

    /// The mode that decisions are made in.
    pub(crate) fn mode(&self) -> Option<(Mode, Option<String>)> {
        self.mode.clone()
    }

    /// The states with the plan's own writes.
    pub(crate) fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    /// The leases as the plan has changed them.
    pub(crate) fn leases(&self) -> &PlannedLeases {
        &self.leases
    }

    /// The snapshots, if the plan would take any.
    pub(crate) fn taken(&self) -> Option<&Snapshots> {
        self.snapshots.as_ref()
    }

    /// The snapshots, to change.
    pub(crate) fn snapshots(&mut self, changes: &Changes) -> &mut Snapshots {
        self.snapshots.get_or_insert_with(|| changes.snapshots.copy())
    }
}
