//! Snapshots of states, their differences, and going back to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use debug_policy::Resource;
use debug_wire::table::{Function, HostFunction};
use rhai::Dynamic;

use super::parts::{possible, state};
use super::write::write_tree;
use crate::changes::snapshot::Snapshot;
use crate::core::Core;
use crate::effect::{Barred, Refusal};
use crate::effect::{ChangeOptions, Effect};
use crate::execute::missing::state_refusal;
use crate::gate::{self, Standing};
use crate::host::arguments::{CallArguments, path, text, usage};
use crate::session::context::EvalContext;
use debug_base::NonEmpty;
use debug_base::leaves;
use debug_base::{Evidence, Path, Tree, Unreadable};
use debug_state::StateError;

/// A snapshot of the given paths, or of every state.
pub(super) fn snapshot(
    core: &Core,
    run: &EvalContext,
    function: &'static Function,
    name: Option<Dynamic>,
    paths: Option<Dynamic>,
) -> Result<Effect, Refusal> {
    let name = text(function, "the name", name)?;
    if !crate::changes::snapshot::is_name(&name) {
        let what = "the name must have 1 to 64 of `a-z`, `0-9`, `-`, `_`, `.` and not begin with `eval-`";
        return Err(usage(function, what));
    }
    let named = paths.is_some();
    let paths = match paths {
        None => core
            .exposed
            .states
            .list()
            .map(|(name, _)| Path(vec![name.to_owned()]))
            .collect(),
        Some(list) => {
            let list = list
                .into_array()
                .map_err(|kind| usage(function, &format!("the paths must be a list, not {kind}")))?;
            list.into_iter()
                .map(|one| path(function, Some(one)))
                .collect::<Result<Vec<_>, _>>()?
        }
    };
    // Policy decides about every path before the first one is read.
    for path in &paths {
        let barred = Barred {
            named,
            ..Barred::read(function, path)
        };
        if let Some(barred) = barred.unless_allowed(core.door(), run) {
            return Ok(barred);
        }
    }
    let mut parts = Vec::new();
    for path in outermost(paths) {
        match run.look(&core.exposed, &path) {
            Ok(tree) => parts.push((path, tree)),
            // One unreadable state must not keep the others out of the snapshot.
            Err(error) if !named && error.is_of_the_state() => parts.push((path, unreadable(&error))),
            Err(error) => {
                let why = state_refusal(core, run, &error);
                let (target, options) = (state(&path), ChangeOptions::default());
                return Ok(Effect::Impossible {
                    function,
                    target,
                    options,
                    why,
                });
            }
        }
    }
    let parts = NonEmpty::of(parts)
        .ok_or_else(|| Refusal::state("there is nothing to keep", "the service shows no state"))?;
    Ok(Effect::Snapshot { name, parts })
}

/// The paths that lie within no other one, without duplicates.
pub(super) fn outermost(paths: Vec<Path>) -> Vec<Path> {
    let mut kept: Vec<Path> = Vec::new();
    for path in paths {
        if !kept.iter().any(|other| path.is_within(other)) {
            kept.retain(|other| !other.is_within(&path));
            kept.push(path);
        }
    }
    kept
}

/// The placeholder for a state that cannot be read.
pub(super) fn unreadable(error: &StateError) -> Tree {
    Tree::Unreadable(Unreadable::because(error.to_string()))
}

pub(super) fn find_snapshot(
    core: &Core,
    run: &EvalContext,
    function: &'static Function,
    name: Option<Dynamic>,
) -> Result<Snapshot, Refusal> {
    let name = text(function, "the name", name)?;
    run.snapshot(&core.changes, &name).ok_or_else(|| {
        Refusal::state(
            format!("there is no snapshot `{}`", debug_base::shortened(&name)),
            "`snapshots()` lists them",
        )
    })
}

/// The differences from a snapshot. Policy decides about everything that is compared: that nothing differs is an
/// answer, too.
pub(super) fn diff(
    core: &Core,
    run: &EvalContext,
    function: &'static Function,
    snapshot: &Snapshot,
) -> Effect {
    for (path, _) in snapshot.parts.iter() {
        if let Some(barred) = Barred::read(function, path).unless_allowed(core.door(), run) {
            return barred;
        }
    }
    let kept = snapshot
        .parts
        .iter()
        .flat_map(|(path, then)| leaves(path, then).into_vec());
    let Some(mut asked) = NonEmpty::of(kept) else {
        return Effect::Impossible {
            function,
            target: Resource::Agent,
            options: ChangeOptions::default(),
            why: Refusal::state(
                format!("the snapshot `{}` holds nothing", snapshot.name),
                "take another",
            ),
        };
    };
    let mut rows = Vec::new();
    for (path, then) in snapshot.parts.iter() {
        let now = match run.look(&core.exposed, path) {
            Err(error) if error.is_of_the_state() => Ok(unreadable(&error)),
            now => now,
        };
        match &now {
            Ok(now) => {
                asked = asked.and(leaves(path, now).into_vec());
                let differing = then.differences(now).into_iter();
                rows.extend(
                    differing.map(|(below, then, now)| (path.join(&below), then.cloned(), now.cloned())),
                );
            }
            Err(StateError::NoSuchPath(_)) => rows.push((path.clone(), Some(then.clone()), None)),
            Err(error) => {
                let why = state_refusal(core, run, error);
                return Effect::Impossible {
                    function: HostFunction::Diff.row(),
                    target: state(path),
                    options: ChangeOptions::default(),
                    why,
                };
            }
        }
    }
    Effect::Diff {
        name: snapshot.name.clone(),
        leaves: asked.sorted(),
        rows,
    }
}

/// One change for each part that differs, at the deepest path that contains all its differences.
pub(super) fn restore(
    core: &Arc<Core>,
    run: &EvalContext,
    function: &'static Function,
    snapshot: &Snapshot,
    given: CallArguments,
) -> Result<Vec<Effect>, Refusal> {
    let parts = snapshot.parts.iter();
    let unreadable = parts
        .filter(|(path, _)| !gate::could_read(core.door(), run, path))
        .map(|(path, _)| path);
    if let Some(path) = unreadable.into_iter().next() {
        // Check the write first: it is what the operator requested.
        let write = Barred {
            named: false,
            ..Barred::named(function, state(path), given.options.clone())
        };
        let barred = write.unless_allowed(core.door(), run);
        return Ok(barred
            .or_else(|| Barred::read(function, path).unless_allowed(core.door(), run))
            .into_iter()
            .collect());
    }
    let mut changes = Vec::new();
    for (path, then) in snapshot.parts.iter() {
        // Only an operator who may read both values learns whether they differ.
        let now = match run.look(&core.exposed, path) {
            Err(error) if error.is_of_the_state() && then.holds_unreadable() => continue,
            Ok(now) => now,
            Err(error) => {
                let (target, why) = (state(path), state_refusal(core, run, &error));
                return Ok(vec![Effect::Impossible {
                    function,
                    target,
                    options: given.options,
                    why,
                }]);
            }
        };
        if let Err(why) = [then, &now]
            .into_iter()
            .try_for_each(|tree| gate::must_see(core.door(), run, path, tree))
        {
            return Ok(vec![Effect::Impossible {
                function,
                target: Resource::Agent,
                options: given.options,
                why,
            }]);
        }
        let mut differing = then.differences(&now);
        // A part that was unreadable then and still is has nothing to restore.
        differing.retain(|(_, then, now)| !matches!((then, now), (Some(Tree::Unreadable(a)), Some(Tree::Unreadable(b))) if a == b));
        let differing: Vec<Vec<String>> = differing.into_iter().map(|(below, ..)| below).collect();
        let is_writable = |below: &[String]| core.exposed.states.is_writable(&path.join(below));
        for place in to_restore(&differing, then, &now, &is_writable, None) {
            if let Some(value) = then.at(&place).cloned() {
                changes.push((path.join(&place), value));
            }
        }
    }
    let stacked = stacked(core, run, &changes, &given.options)?;
    let effects = changes.into_iter().zip(stacked).map(|((path, value), options)| {
        let target = state(&path);
        let barred = Barred::named(function, target.clone(), options.clone());
        if let Some(barred) = barred.unless_allowed(core.door(), run) {
            return barred;
        }
        let given = CallArguments {
            options: options.clone(),
            guard: given.guard.clone(),
        };
        let effect = write_tree(core, run, function, path, value, given);
        possible(effect, function, target, options)
    });
    Ok(effects.collect())
}

/// The places to write so that all differences are gone: the deepest one that contains them all. If the author closes something
/// beside them in it, the deepest ones in its parts instead.
fn to_restore(
    differing: &[Vec<String>],
    then: &Tree,
    now: &Tree,
    is_writable: &dyn Fn(&[String]) -> bool,
    above: Option<usize>,
) -> Vec<Vec<String>> {
    let Some((first, others)) = differing.split_first() else {
        return Vec::new();
    };
    let mut common = first.clone();
    for below in others {
        let same = common.iter().zip(below).take_while(|(a, b)| a == b).count();
        common.truncate(same);
    }
    // A path that exists only in one of the two is restored with its container.
    while then.at(&common).is_none() || now.at(&common).is_none() {
        common.pop();
    }
    let common = above_moved(common, differing, then, now);
    let depth = common.len();
    let are_maps = matches!(
        (then.at(&common), now.at(&common)),
        (Some(Tree::Map(_)), Some(Tree::Map(_)))
    );
    let is_deeper = above.is_none_or(|above| above < depth);
    if is_writable(&common) || !are_maps || !is_deeper || differing.iter().any(|below| below.len() <= depth) {
        return vec![common];
    }
    let mut parts: BTreeMap<&str, Vec<Vec<String>>> = BTreeMap::new();
    for below in differing {
        parts.entry(&below[depth]).or_default().push(below.clone());
    }
    let of = |part: &Vec<Vec<String>>| to_restore(part, then, now, is_writable, Some(depth));
    parts.values().flat_map(of).collect()
}

/// Returns `path` if it leads to the same elements in both trees; otherwise the path of the first list on it: a
/// position in that list may now hold another element.
pub(super) fn above_moved(path: Vec<String>, places: &[Vec<String>], then: &Tree, now: &Tree) -> Vec<String> {
    match debug_base::follow(&path, places, then, now, Evidence::All) {
        Ok(trail) if trail.path == path => path,
        _ => {
            let is_list = |depth: &usize| matches!(then.at(&path[..*depth]), Some(Tree::Seq(_)));
            let depth = (0..path.len()).find(is_list).unwrap_or(path.len());
            path[..depth].to_vec()
        }
    }
}

/// The options of each of several changes: each gets the ids in `over` of leases at its target. The first also gets ids
/// of leases at no target, so that the gate refuses it.
pub(super) fn stacked(
    core: &Core,
    run: &EvalContext,
    changes: &[(Path, Tree)],
    options: &ChangeOptions,
) -> Result<Vec<ChangeOptions>, Refusal> {
    let targets: Vec<Resource> = changes.iter().map(|(path, _)| state(path)).collect();
    let standing: Vec<Vec<Standing>> = gate::standing_at(core.door(), run, &targets)?;
    let below = standing
        .iter()
        .filter_map(|at| gate::unagreed(run, at).map(|lease| lease.id));
    let below: BTreeSet<u64> = below.collect();
    let stands = |id: u64, at: usize| standing[at].iter().any(|one| one.lease.id == id);
    let is_nowhere = |id: u64| !(0..targets.len()).any(|at| stands(id, at));
    let of = |at: usize| {
        let is_meant = |id: &&u64| stands(**id, at) || (at == 0 && is_nowhere(**id));
        let over = options.over.iter().filter(is_meant).copied().collect();
        ChangeOptions {
            over,
            below: below.iter().copied().collect(),
            ..options.clone()
        }
    };
    Ok((0..targets.len()).map(of).collect())
}
