//! Rows of tables.

use crate::effect::Reply;
use debug_base::{Path, Tree};

/// The differences from a snapshot; secrets are opaque.
pub(crate) fn difference_rows(differences: &[(Path, Option<Tree>, Option<Tree>)]) -> Reply {
    let shown = |path: &Path, tree: Option<&Tree>| match tree {
        Some(tree) => Reply::value(tree.clone(), path.clone()),
        None => "(nothing)".into(),
    };
    Reply::table(differences.iter().map(|(path, then, now)| {
        vec![
            ("path", path.to_string().into()),
            ("then", shown(path, then.as_ref())),
            ("now", shown(path, now.as_ref())),
        ]
    }))
}
