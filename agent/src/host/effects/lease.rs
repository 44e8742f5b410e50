//! Effects on leases that exist.

use std::collections::BTreeSet;

use debug_policy::Resource;
use debug_wire::table::Function;

use super::parts::state;
use crate::core::Core;
use crate::effect::{Barred, Refusal};
use crate::effect::{ChangeOptions, Effect};
use crate::execute::{self};
use crate::session::context::EvalContext;
use debug_base::NonEmpty;
use debug_base::leaves;
use debug_base::{Path, Tree, Wait};
use debug_lease::{Conflict, Lease};

/// The settlement of a conflict. To force it is to write in the places that the service changed.
pub(super) fn settle(
    core: &Core,
    run: &EvalContext,
    function: &'static Function,
    lease: Lease,
    forced: Option<&Conflict>,
) -> Effect {
    let others = (lease.owner != run.session.operator.name).then(|| Resource::Lease(lease.owner.clone()));
    let places = forced
        .map(|conflict| conflict.places.as_slice())
        .unwrap_or_default();
    let reason = run.reason().or_else(|| Some(lease.reason.clone()));
    let options = ChangeOptions {
        reason,
        ..ChangeOptions::default()
    };
    let put = put_by_force(&lease);
    let found = put.iter().map(|(at, _)| state(at));
    for asked in [lease.target().clone()]
        .into_iter()
        .chain(others)
        .chain(found)
        .chain(places.iter().map(state))
    {
        let barred = Barred {
            named: false,
            ..Barred::named(function, asked, options.clone())
        };
        if let Some(barred) = barred.unless_allowed(core.door(), run) {
            return barred;
        }
    }
    let below = places.iter().flat_map(|place| {
        let stands = core
            .exposed
            .read(place, Wait::AGENT)
            .map_or_else(|_| NonEmpty::one(place.clone()), |tree| leaves(place, &tree));
        let put = put.as_ref().map(
            |(at, put)| match (place.0.get(at.0.len()..), at.is_within(place)) {
                (_, true) => leaves(at, put).into_vec(),
                (Some(below), _) if place.is_within(at) => put
                    .at(below)
                    .map(|put| leaves(place, put).into_vec())
                    .unwrap_or_default(),
                _ => Vec::new(),
            },
        );
        stands.and(put.unwrap_or_default()).into_vec()
    });
    let below: BTreeSet<Path> = below.collect();
    let (force, leaves) = (forced.is_some(), below.into_iter().collect());
    Effect::Settle {
        lease: Box::new(lease),
        force,
        leaves,
    }
}

/// The value that a forced revert would restore in place of the service's, and its path.
pub(super) fn put_by_force(lease: &Lease) -> Option<(Path, Tree)> {
    let Resource::State(target) = lease.target() else {
        return None;
    };
    let layer = lease.change.left()?;
    let root = Path(target.get(..1).unwrap_or_default().to_vec());
    Some((root.join(&layer.path), layer.base?))
}

/// A lease in force. Without one there is no effect, so nothing is permitted that policy did not decide about.
pub(super) fn lease(core: &Core, run: &EvalContext, id: u64) -> Result<Box<Lease>, Refusal> {
    run.lease(&core.changes, id)
        .map(Box::new)
        .map_err(|error| execute::ended(&error))
}
