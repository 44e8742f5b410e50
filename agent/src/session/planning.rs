//! A plan in progress: what it has changed so far, and the effects that it lists.

use debug_policy::Mode;
use debug_script::convert;
use rhai::{Dynamic, Map};

use super::overlay::Overlay;
use super::planned::PlannedLeases;
use crate::changes::Changes;
use crate::changes::snapshot::Snapshots;

/// A plan in progress.
#[derive(Default)]
pub(crate) struct Planning {
    pub(crate) overlay: Overlay,
    pub(crate) leases: PlannedLeases,
    /// The snapshots, with those that the plan would take; `None` until it would take one.
    snapshots: Option<Snapshots>,
    pub(crate) lines: Vec<Line>,
    /// The mode that the code has entered; the session's mode is unchanged.
    pub(crate) mode: Option<(Mode, Option<String>)>,
}

/// One effect that the code would have.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) function: &'static str,
    pub(crate) target: String,
    pub(crate) before: Option<Dynamic>,
    pub(crate) after: Option<Dynamic>,
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

    /// The plan as a script sees it: a list of maps.
    pub(crate) fn into_value(self) -> Dynamic {
        Dynamic::from_array(
            self.lines
                .into_iter()
                .map(|line| Dynamic::from_map(line.into_map()))
                .collect(),
        )
    }

    /// The effects listed before the code failed; `None` if there are none.
    pub(crate) fn up_to_failure(&self) -> Option<String> {
        let heading = "a plan up to where the code failed:".to_owned();
        (!self.lines.is_empty()).then(|| [heading, self.to_text()].join("\n"))
    }

    /// The plan as text for people.
    pub(crate) fn to_text(&self) -> String {
        let lines = self
            .lines
            .iter()
            .zip(1..)
            .map(|(line, number)| format!("{number}. {}", line.to_text()));
        // What is refused would not happen, so it is no effect.
        let refused = self.lines.iter().filter(|line| line.refused).count();
        let effects = match self.lines.len() - refused {
            1 => "1 effect".to_owned(),
            count => format!("{count} effects"),
        };
        let refused = if refused == 0 {
            String::new()
        } else {
            format!(", {refused} refused")
        };
        lines
            .chain([format!("a plan: {effects}{refused}; nothing was changed")])
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl Line {
    fn into_map(self) -> Map {
        let mut map = Map::new();
        map.insert("function".into(), self.function.into());
        map.insert("target".into(), self.target.into());
        for (name, value) in [("before", self.before), ("after", self.after)] {
            map.extend(value.map(|value| (name.into(), value)));
        }
        map.insert("allowed".into(), self.allowed.into());
        map.insert("verdict".into(), self.verdict.into());
        map
    }

    fn to_text(&self) -> String {
        let change = match (&self.before, &self.after) {
            (Some(before), Some(after)) => {
                format!("  {} -> {}", convert::display(before), convert::display(after))
            }
            _ => String::new(),
        };
        format!("{} {}{change}  {}", self.function, self.target, self.verdict)
    }
}
