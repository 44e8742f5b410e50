//! Why a value that is no secret is opaque.

use debug_policy::Resource;

use crate::core::Core;
use crate::gate;
use crate::session::context::EvalContext;
use debug_base::{Path, Tree};
use debug_lease::Lease;

/// The opaque places of a value whose own paths are no secrets, each with the reason.
pub(super) fn alike(core: &Core, run: &EvalContext, path: &Path, value: &Tree) -> Vec<(Path, String)> {
    let told = |at: Path| why(core, run, &at).map(|why| (at, why));
    secrets(path, value).into_iter().filter_map(told).collect()
}

/// The paths of the secrets in a value.
fn secrets(path: &Path, value: &Tree) -> Vec<Path> {
    match value {
        Tree::Secret(_) => vec![path.clone()],
        Tree::Seq(items) => {
            let each = items.iter().enumerate();
            each.flat_map(|(at, item)| secrets(&path.child(&at.to_string()), item))
                .collect()
        }
        Tree::Map(entries) => {
            let each = entries.iter();
            each.flat_map(|(name, entry)| secrets(&path.child(name), entry))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// Why a text of the service is opaque although its path is no secret: it contains a secret. The secret's path is named
/// to operators who may know of it.
///
/// Only what was found at start is told, even if the text has changed since, and nothing while a lease is in force
/// there. Otherwise an operator could plant a text, by a patch or as a client of the service, and learn whether it was
/// a correct guess of a secret.
fn why(core: &Core, run: &EvalContext, path: &Path) -> Option<String> {
    let is_there =
        |lease: &Lease| matches!(lease.target(), Resource::State(at) if Path(at.clone()).overlaps(path));
    if run.leases(&core.changes).iter().any(is_there) {
        return None;
    }
    let alike = core.exposed.alike(path);
    let known = alike.iter().find(|(origin, _)| {
        origin
            .path()
            .is_some_and(|at| gate::may_know(core.door(), run, at, None).is_ok())
    });
    let (of, is_whole) = match known.or(alike.first())? {
        (at, is_whole) if known.is_some() => (format!("the secret {at}"), is_whole),
        (_, is_whole) => ("a secret".to_owned(), is_whole),
    };
    let what = if *is_whole {
        "its text is that of"
    } else {
        "it holds the text of"
    };
    Some(format!("{what} {of}, as found at start"))
}
