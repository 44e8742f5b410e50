//! Rows of tables as values of a script.

use rhai::{Array, Dynamic, INT, Map};

use crate::core::Core;
use debug_base::{Path, Tree};
use debug_script::convert;

/// The differences from a snapshot, as a list of maps; secrets are opaque.
pub(crate) fn difference_rows(core: &Core, differences: &[(Path, Option<Tree>, Option<Tree>)]) -> Dynamic {
    let shown = |path: &Path, tree: Option<&Tree>| match tree {
        Some(tree) => convert::to_dynamic(tree, path, &core.recorder.keyed),
        None => Dynamic::from("(nothing)"),
    };
    rows(differences.iter().map(|(path, then, now)| {
        vec![
            ("path", path.to_string().into()),
            ("then", shown(path, then.as_ref())),
            ("now", shown(path, now.as_ref())),
        ]
    }))
}

/// A list of maps as a Rhai value.
pub(crate) fn rows(rows: impl IntoIterator<Item = Vec<(&'static str, Dynamic)>>) -> Dynamic {
    let map = |row: Vec<(&'static str, Dynamic)>| {
        Dynamic::from(row.into_iter().map(|(k, v)| (k.into(), v)).collect::<Map>())
    };
    rows.into_iter().map(map).collect::<Array>().into()
}

/// A count as a Rhai integer.
pub(crate) fn count(number: u64) -> Dynamic {
    INT::try_from(number).unwrap_or(INT::MAX).into()
}
