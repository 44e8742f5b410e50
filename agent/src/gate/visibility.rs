//! What an operator may know: questions to the policy that lead to no effect, and make no permit.

use debug_policy::{Action, Decision, Denial, Request, Resource};

use super::Door;
use super::requests::{self, resource};
use crate::effect::{ChangeOptions, Refusal};
use crate::session::context::EvalContext;
use debug_base::{Path, Tree};

/// Checks that the operator may read at least one leaf at a path. Otherwise the denial names only that path: what an
/// operator may not read looks the same whether it exists or not.
pub(crate) fn may_know(
    door: Door<'_>,
    run: &EvalContext,
    path: &Path,
    tree: Option<&Tree>,
) -> Result<(), Refusal> {
    let mut refusal = None;
    let whole = vec![path.clone()];
    let leaves = tree.map_or(whole, |tree| {
        tree.leaves().map(|(below, _)| path.join(&below.0)).collect()
    });
    for leaf in leaves.iter().chain(leaves.is_empty().then_some(path)) {
        match door
            .rules
            .policy
            .decide(&run.request(Action::Read, resource(leaf)))
        {
            Decision::Allow(_) => return Ok(()),
            Decision::Deny(denial) => {
                refusal = Some(Denial {
                    resource: resource(path),
                    ..denial
                })
            }
        }
    }
    refusal.map_or(Ok(()), |denial| Err(Refusal::Denied(Box::new(denial))))
}

/// Checks that this operator may read all leaves at a path.
///
/// # Errors
/// A denial that names no path.
pub(crate) fn must_see(door: Door<'_>, run: &EvalContext, path: &Path, tree: &Tree) -> Result<(), Refusal> {
    for leaf in debug_base::leaves(path, tree).iter() {
        if let Decision::Deny(denial) = door
            .rules
            .policy
            .decide(&run.request(Action::Read, resource(leaf)))
        {
            return Err(Refusal::Denied(Box::new(nameless(denial))));
        }
    }
    Ok(())
}

/// The names below a value that this operator may know of; empty for a leaf.
pub(crate) fn known_below(door: Door<'_>, run: &EvalContext, path: &Path, tree: &Tree) -> Vec<String> {
    let below: Vec<(String, &Tree)> = match tree {
        Tree::Map(entries) => entries.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Tree::Seq(items) => items
            .iter()
            .enumerate()
            .map(|(at, item)| (at.to_string(), item))
            .collect(),
        _ => Vec::new(),
    };
    let known = |(name, value): &(String, &Tree)| may_know(door, run, &path.child(name), Some(value)).is_ok();
    below.into_iter().filter(known).map(|(name, _)| name).collect()
}

/// The denial without its path, which the operator need not know.
pub(super) fn nameless(denial: Denial) -> Denial {
    let help = format!("all or a part of what it reads: {}", denial.help);
    Denial {
        resource: Resource::Agent,
        help,
        ..denial
    }
}

/// Whether policy lets the author of a patch read a leaf now; leaves may appear after the patch was made. It makes no permit: the
/// permit for the patch includes its reads.
pub(crate) fn may_read(door: Door<'_>, author: &Request, leaf: &Path) -> bool {
    let request = Request {
        resource: resource(leaf),
        ..author.clone()
    };
    matches!(door.rules.policy.decide(&request), Decision::Allow(_))
}

/// Whether policy might let the author of a patch read something at a path. Checked before the service's state is read.
pub(crate) fn might_read(door: Door<'_>, author: &Request, path: &Path) -> bool {
    door.rules
        .policy
        .could_allow(&Request {
            resource: resource(path),
            ..author.clone()
        })
        .is_ok()
}

/// Whether policy would let this operator patch a point with these options. It issues no permit.
pub(crate) fn may_patch(door: Door<'_>, run: &EvalContext, point: &str, options: &ChangeOptions) -> bool {
    let request = run.request(Action::Patch, Resource::Point(point.to_owned()));
    matches!(
        door.rules
            .policy
            .decide(&requests::with_options(run, options, request)),
        Decision::Allow(_)
    )
}
