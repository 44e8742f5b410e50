//! Forms effects from calls of host functions. The gate has yet to pass them.

use std::collections::BTreeSet;
use std::sync::Arc;

use debug_policy::{Action, Decision, Resource};
use debug_wire::table::{Function, HostFunction};
use rhai::{Dynamic, FnPtr};

use super::EvalTag;
use super::answers;
use super::arguments::{MAX_POINT, how, id, options, path, pointer, reason, text, ttl, usage};
use super::level;
use crate::changes::snapshot::Snapshot;
use crate::changes::{PatchChange, WriteChange, only_because_of};
use crate::core::Core;
use crate::effect::{Barred, Refusal};
use crate::effect::{Effect, Guarding, Listing, Options, Proposal};
use crate::execute::missing::{filled, state_refusal};
use crate::execute::{self, PatchView};
use crate::gate::{self, Standing};
use crate::session::run::Run;
use debug_base::NonEmpty;
use debug_base::{BootTime, Evidence, Path, Tree, Unreadable, Wait};
use debug_base::{is_container, leaves};
use debug_lease::{Conflict, Lease};
use debug_points::{Kind, Point};
use debug_script::frozen::Frozen;
use debug_script::unfrozen::Purpose;
use debug_script::{convert, values};
use debug_state::{Checked, StateError};

/// The effects of a call. Only `revert_all` and `restore` can have several.
pub(super) fn wish(
    function: &'static Function,
    tag: &EvalTag,
    a: Option<Dynamic>,
    b: Option<Dynamic>,
    c: Option<Dynamic>,
) -> Result<Vec<Effect>, Refusal> {
    let (core, run) = (&tag.core, &tag.run);
    let see = |listing| Effect::See(listing, crate::execute::listing::subject(a.as_ref()));
    let effect = match function.id {
        HostFunction::Help => see(Listing::Help),
        HostFunction::Info => see(Listing::Info),
        HostFunction::Ls => see(Listing::Ls),
        HostFunction::Points => see(Listing::Points),
        HostFunction::Describe => see(Listing::Describe),
        HostFunction::Leases => see(Listing::Leases),
        HostFunction::Sessions => see(Listing::Sessions),
        HostFunction::Snapshots => see(Listing::Snapshots),
        // It has no effect of its own; those of the planned function come through here one by one.
        HostFunction::Plan => return Ok(Vec::new()),
        HostFunction::Get => read(core, run, &path(function, a)?),
        HostFunction::Reveal => {
            let path = path(function, a)?;
            let barred = Barred::named(function, state(&path), Options::default());
            barred.unless_allowed(core.door(), run).unwrap_or_else(|| {
                possible(reveal(core, run, path.clone()), function, state(&path), Options::default())
            })
        }
        HostFunction::Set => {
            let path = path(function, a)?;
            let options = options(function, c)?;
            set(core, run, function, path, b.unwrap_or(Dynamic::UNIT), options)
        }
        HostFunction::Snapshot => snapshot(core, run, function, a, b)?,
        HostFunction::Diff => diff(core, run, function, &find_snapshot(core, run, function, a)?),
        HostFunction::Restore => {
            return restore(
                core,
                run,
                function,
                &find_snapshot(core, run, function, a)?,
                options(function, b)?,
            );
        }
        HostFunction::Patch => {
            let name = text(function, "the point", a)?;
            if name.len() > MAX_POINT {
                let what = format!("the point's name has {} bytes, the limit is {MAX_POINT}", name.len());
                return Err(usage(function, &what));
            }
            let options = options(function, c)?;
            let barred = Barred::named(function, Resource::Point(name.clone()), options.clone());
            barred.unless_allowed(core.door(), run).unwrap_or_else(|| {
                let patch = patch(core, run, function, &name, b, options.clone());
                possible(patch, function, Resource::Point(name), options)
            })
        }
        HostFunction::Guard => {
            let lease = lease(core, run, id(function, a)?)?;
            Effect::Guard {
                lease,
                guard: guarding(core, run, function, &pointer(function, "the guard", b)?)?,
            }
        }
        HostFunction::LogLevel => level::log_level(core, run, function, a, b, c)?,
        HostFunction::Revert => Effect::Revert { lease: lease(core, run, id(function, a)?)? },
        HostFunction::RevertAll => {
            let each =
                revertible(core, run).into_iter().map(|lease| Effect::Revert { lease: Box::new(lease) });
            return Ok(each.collect());
        }
        HostFunction::Confirm | HostFunction::Extend => Effect::Renew {
            confirm: function.id == HostFunction::Confirm,
            lease: lease(core, run, id(function, a)?)?,
            ttl: ttl(function, b)?,
            asked: BootTime::now(),
        },
        HostFunction::Adopt => Effect::Adopt { lease: lease(core, run, id(function, a)?)? },
        HostFunction::Settle => {
            let (id, force) = (id(function, a)?, how(function, b)?);
            match run.conflict(&core.changes, id) {
                Ok((lease, conflict)) => settle(core, run, function, lease, force.then_some(&conflict)),
                Err(error) => {
                    // That the lease is in force is told only to an operator who might settle it.
                    let target = lease(core, run, id)?.target().clone();
                    let why = execute::ended(&error);
                    Effect::Impossible { function, target, options: Options::default(), why }
                }
            }
        }
        HostFunction::Change => Effect::EnterChange { reason: reason(function, a)? },
        HostFunction::Observe => Effect::Observe,
        HostFunction::LogInfo | HostFunction::LogWarn => {
            Effect::Log { warn: function.id == HostFunction::LogWarn, text: text(function, "the text", a)? }
        }
    };
    Ok(vec![effect])
}

/// A formed effect, or why it is impossible; the reason goes only to operators who would be allowed to have the effect.
pub(super) fn possible(
    formed: Result<Effect, Refusal>,
    function: &'static Function,
    target: Resource,
    options: Options,
) -> Effect {
    formed.unwrap_or_else(|why| Effect::Impossible { function, target, options, why })
}

fn state(path: &Path) -> Resource {
    Resource::State(path.0.clone())
}

/// The settlement of a conflict. To force it is to write in the places that the service changed.
fn settle(
    core: &Core,
    run: &Run,
    function: &'static Function,
    lease: Lease,
    forced: Option<&Conflict>,
) -> Effect {
    let others = (lease.owner != run.session.operator.name).then(|| Resource::Lease(lease.owner.clone()));
    let places = forced.map(|conflict| conflict.places.as_slice()).unwrap_or_default();
    let reason = run.reason().or_else(|| Some(lease.reason.clone()));
    let options = Options { reason, ..Options::default() };
    let put = put_by_force(&lease);
    let found = put.iter().map(|(at, _)| state(at));
    for asked in
        [lease.target().clone()].into_iter().chain(others).chain(found).chain(places.iter().map(state))
    {
        let barred = Barred { named: false, ..Barred::named(function, asked, options.clone()) };
        if let Some(barred) = barred.unless_allowed(core.door(), run) {
            return barred;
        }
    }
    let below = places.iter().flat_map(|place| {
        let stands = core
            .exposed
            .read(place, Wait::AGENT)
            .map_or_else(|_| NonEmpty::one(place.clone()), |tree| leaves(place, &tree));
        let put = put.as_ref().map(|(at, put)| match (place.0.get(at.0.len()..), at.is_within(place)) {
            (_, true) => leaves(at, put).into_vec(),
            (Some(below), _) if place.is_within(at) => {
                put.at(below).map(|put| leaves(place, put).into_vec()).unwrap_or_default()
            }
            _ => Vec::new(),
        });
        stands.and(put.unwrap_or_default()).into_vec()
    });
    let below: BTreeSet<Path> = below.collect();
    let (force, leaves) = (forced.is_some(), below.into_iter().collect());
    Effect::Settle { lease: Box::new(lease), force, leaves }
}

/// The value that a forced revert would restore in place of the service's, and its path.
fn put_by_force(lease: &Lease) -> Option<(Path, Tree)> {
    let Resource::State(target) = lease.target() else { return None };
    let layer = lease.change.left()?;
    let root = Path(target.get(..1).unwrap_or_default().to_vec());
    Some((root.join(&layer.path), layer.base?))
}

/// A lease in force. Without one there is no effect, so nothing is permitted that policy did not decide about.
fn lease(core: &Core, run: &Run, id: u64) -> Result<Box<Lease>, Refusal> {
    run.lease(&core.changes, id).map(Box::new).map_err(|error| execute::ended(&error))
}

/// A read of a path, with the leaves that policy decides about.
pub(crate) fn read(core: &Core, run: &Run, path: &Path) -> Effect {
    let barred = Barred::named(HostFunction::Get.row(), state(path), Options::default());
    if let Some(barred) = barred.unless_allowed(core.door(), run) {
        return barred;
    }
    read_found(core, run, path, run.look(&core.exposed, path))
}

/// As [`read`], for a path that policy could allow and that the eval has read already.
pub(crate) fn read_found(core: &Core, run: &Run, path: &Path, found: Result<Tree, StateError>) -> Effect {
    let formed = found
        .map(|value| Effect::Read { path: path.clone(), leaves: leaves(path, &value), value })
        .map_err(|error| state_refusal(core, run, &error));
    possible(formed, HostFunction::Get.row(), state(path), Options::default())
}

fn reveal(core: &Core, run: &Run, path: Path) -> Result<Effect, Refusal> {
    let value = run.look(&core.exposed, &path).map_err(|e| state_refusal(core, run, &e))?;
    if is_container(&value) {
        return Err(Refusal::state(
            format!("`{path}` is no single value; a secret is revealed by its own path"),
            format!("`ls(\"{path}\")` lists what is below it"),
        ));
    }
    Ok(Effect::Reveal { path, value })
}

/// A write. It is checked in full against the live state first, so that a change that would fail is never made.
pub(crate) fn set(
    core: &Arc<Core>,
    run: &Run,
    function: &'static Function,
    path: Path,
    value: Dynamic,
    options: Options,
) -> Effect {
    let target = state(&path);
    let barred = Barred::named(function, target.clone(), options.clone());
    if let Some(barred) = barred.unless_allowed(core.door(), run) {
        return barred;
    }
    possible(write(core, run, function, path, value, options.clone()), function, target, options)
}

/// A snapshot of the given paths, or of every state.
fn snapshot(
    core: &Core,
    run: &Run,
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
        None => core.exposed.states.list().map(|(name, _)| Path(vec![name.to_owned()])).collect(),
        Some(list) => {
            let list = list
                .into_array()
                .map_err(|kind| usage(function, &format!("the paths must be a list, not {kind}")))?;
            list.into_iter().map(|one| path(function, Some(one))).collect::<Result<Vec<_>, _>>()?
        }
    };
    // Policy decides about every path before the first one is read.
    for path in &paths {
        let barred = Barred { named, ..Barred::read(function, path) };
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
                let (target, options) = (state(&path), Options::default());
                return Ok(Effect::Impossible { function, target, options, why });
            }
        }
    }
    let parts = NonEmpty::of(parts)
        .ok_or_else(|| Refusal::state("there is nothing to keep", "the service shows no state"))?;
    Ok(Effect::Snapshot { name, parts })
}

/// The paths that lie within no other one, without duplicates.
fn outermost(paths: Vec<Path>) -> Vec<Path> {
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
fn unreadable(error: &StateError) -> Tree {
    Tree::Unreadable(Unreadable::because(error.to_string()))
}

fn find_snapshot(
    core: &Core,
    run: &Run,
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
fn diff(core: &Core, run: &Run, function: &'static Function, snapshot: &Snapshot) -> Effect {
    for (path, _) in snapshot.parts.iter() {
        if let Some(barred) = Barred::read(function, path).unless_allowed(core.door(), run) {
            return barred;
        }
    }
    let kept = snapshot.parts.iter().flat_map(|(path, then)| leaves(path, then).into_vec());
    let Some(mut asked) = NonEmpty::of(kept) else {
        return Effect::Impossible {
            function,
            target: Resource::Agent,
            options: Options::default(),
            why: Refusal::state(format!("the snapshot `{}` holds nothing", snapshot.name), "take another"),
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
                    options: Options::default(),
                    why,
                };
            }
        }
    }
    Effect::Diff { name: snapshot.name.clone(), leaves: asked.sorted(), rows }
}

/// One change for each part that differs, at the deepest path that contains all its differences.
fn restore(
    core: &Arc<Core>,
    run: &Run,
    function: &'static Function,
    snapshot: &Snapshot,
    options: Options,
) -> Result<Vec<Effect>, Refusal> {
    let parts = snapshot.parts.iter();
    let unreadable =
        parts.filter(|(path, _)| !gate::could_read(core.door(), run, path)).map(|(path, _)| path);
    if let Some(path) = unreadable.into_iter().next() {
        // Check the write first: it is what the operator requested.
        let write = Barred { named: false, ..Barred::named(function, state(path), options.clone()) };
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
                return Ok(vec![Effect::Impossible { function, target, options, why }]);
            }
        };
        if let Err(why) =
            [then, &now].into_iter().try_for_each(|tree| gate::must_see(core.door(), run, path, tree))
        {
            return Ok(vec![Effect::Impossible { function, target: Resource::Agent, options, why }]);
        }
        let mut differing = then.differences(&now);
        // A part that was unreadable then and still is has nothing to restore.
        differing.retain(|(_, then, now)| !matches!((then, now), (Some(Tree::Unreadable(a)), Some(Tree::Unreadable(b))) if a == b));
        let Some((first, ..)) = differing.first() else { continue };
        let mut common = first.clone();
        for (below, ..) in &differing {
            let same = common.iter().zip(below).take_while(|(a, b)| a == b).count();
            common.truncate(same);
        }
        // A path that exists only in one of the two is restored with its container.
        while then.at(&common).is_none() || now.at(&common).is_none() {
            common.pop();
        }
        let places: Vec<Vec<String>> = differing.iter().map(|(below, ..)| below.clone()).collect();
        let common = above_moved(common, &places, then, &now);
        let Some(value) = then.at(&common).cloned() else { continue };
        changes.push((path.join(&common), value));
    }
    let stacked = stacked(core, run, &changes, &options)?;
    let effects = changes.into_iter().zip(stacked).map(|((path, value), options)| {
        let target = state(&path);
        let barred = Barred::named(function, target.clone(), options.clone());
        if let Some(barred) = barred.unless_allowed(core.door(), run) {
            return barred;
        }
        let effect = write_tree(core, run, function, path, value, options.clone());
        possible(effect, function, target, options)
    });
    Ok(effects.collect())
}

/// Returns `path` if it leads to the same elements in both trees; otherwise the path of the first list on it: a
/// position in that list may now hold another element.
fn above_moved(path: Vec<String>, places: &[Vec<String>], then: &Tree, now: &Tree) -> Vec<String> {
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
fn stacked(
    core: &Core,
    run: &Run,
    changes: &[(Path, Tree)],
    options: &Options,
) -> Result<Vec<Options>, Refusal> {
    let targets: Vec<Resource> = changes.iter().map(|(path, _)| state(path)).collect();
    let standing: Vec<Vec<Standing>> = gate::standing_at(core.door(), run, &targets)?;
    let below = standing.iter().filter_map(|at| gate::unagreed(run, at).map(|lease| lease.id));
    let below: BTreeSet<u64> = below.collect();
    let stands = |id: u64, at: usize| standing[at].iter().any(|one| one.lease.id == id);
    let is_nowhere = |id: u64| !(0..targets.len()).any(|at| stands(id, at));
    let of = |at: usize| {
        let is_meant = |id: &&u64| stands(**id, at) || (at == 0 && is_nowhere(**id));
        let over = options.over.iter().filter(is_meant).copied().collect();
        Options { over, below: below.iter().copied().collect(), ..options.clone() }
    };
    Ok((0..targets.len()).map(of).collect())
}

/// The id of the lease that a change at `target` must name in `over`.
fn stacked_at(core: &Core, run: &Run, target: &Resource) -> Option<u64> {
    gate::unagreed(run, &gate::standing(core.door(), run, target).ok()?).map(|lease| lease.id)
}

fn write(
    core: &Arc<Core>,
    run: &Run,
    function: &'static Function,
    path: Path,
    value: Dynamic,
    options: Options,
) -> Result<Effect, Refusal> {
    let after = match values::bound(&value) {
        Some(secret) => secret,
        None => convert::from_dynamic(value, Some(&path)).map_err(|e| {
            Refusal::state(format!("`{path}` was not changed: {e}"), "give a value that JSON could hold")
        })?,
    };
    if let Some((what, help)) = stands_for(&after) {
        return Err(Refusal::state(
            format!("`{path}` was not changed: the value holds the text by which {what}"),
            help,
        ));
    }
    write_tree(core, run, function, path, after, options)
}

fn write_tree(
    core: &Arc<Core>,
    run: &Run,
    function: &'static Function,
    path: Path,
    after: Tree,
    options: Options,
) -> Result<Effect, Refusal> {
    // Checked before the read: a state that fails to revert is often unreadable.
    gate::not_failing(core.door(), run, &state(&path))?;
    // A path below a secret cannot be read or written.
    let empty = match run.look(&core.exposed, &path) {
        Ok(_) => None,
        // An empty place can be filled.
        Err(error @ StateError::NoSuchPath(_)) => Some(error),
        Err(error) => return Err(state_refusal(core, run, &error)),
    };
    let (checked, after, spelling) = checked(core, run, &path, after)?;
    let Checked { before, after: stored } = checked;
    let after = stored.map(|stored| if stored.same_unordered(&after) { after } else { stored });
    if let Some((lease, above)) = outlived(core, run, &path)? {
        if !run.lease(&core.changes, lease).is_ok_and(|lease| run.is_own(&lease)) {
            let target = state(&Path(path.0.iter().take(1).cloned().collect()).join(&above));
            let top = stacked_at(core, run, &target).unwrap_or(lease);
            let whole = gate::on_top(function.id, &target, &top.to_string());
            let help = format!("change what contains it instead: `{whole}`");
            return Err(Refusal::state(only_because_of(&path, lease), help));
        }
        // The path exists only because of this eval's own write: write it as a part of that, so that both revert
        // together.
        let above = Path(path.0.iter().take(1).cloned().collect()).join(&above);
        let whole = run.look(&core.exposed, &above).map_err(|e| state_refusal(core, run, &e))?;
        let whole = whole.with(&path.0[above.0.len()..], after, &[]);
        let whole = whole.map_err(|e| state_refusal(core, run, &e.below(&above).into()))?;
        return write_tree(core, run, function, above, whole, options);
    }
    let warning = empty.filter(|_| function.id == HostFunction::Set && after.is_some());
    let warning = warning.and_then(|error| filled(core, run, &path, &error));
    let marked = after.clone().map(|after| core.exposed.redactor.mark(&path, after));
    let of = |tree: &Option<Tree>| {
        tree.as_ref().map_or_else(|| NonEmpty::one(path.clone()), |tree| leaves(&path, tree))
    };
    let targets = of(&before).and(of(&after).into_vec()).sorted();
    let after_record = match &marked {
        Some(marked) if marked.holds_secret() => core.recorder.digest_of(after.as_ref()),
        marked => marked.as_ref().map_or(serde_json::Value::Null, values::json),
    };
    let proposal = Proposal {
        function,
        targets: targets.map(state),
        reads: Vec::new(),
        before: core.recorder.digest_of(before.as_ref()),
        after_digest: core.recorder.digest_of(after.as_ref()),
        after: after_record,
        shown: Some((before.clone(), marked)),
        change: Arc::new(
            WriteChange::new(core.changes.writes.clone(), path, before, after)
                .spelled(spelling)
                .warning_of(warning),
        ),
        guard: options.guard.as_ref().map(|guard| guarding(core, run, function, guard)).transpose()?,
        options,
    };
    Ok(Effect::Change(Box::new(proposal)))
}

/// The value at a path, the new value, and its spelling if the type spells it differently from what was given.
fn checked(
    core: &Core,
    run: &Run,
    path: &Path,
    after: Tree,
) -> Result<(Checked, Tree, Option<String>), Refusal> {
    let check = |after: &Tree| run.check_write(&core.exposed, path, after);
    let refusal = |error: &StateError| state_refusal(core, run, error);
    let error = match check(&after) {
        Ok(live) => return Ok((live, after, None)),
        Err(error) => error,
    };
    let StateError::NotStored(_) = &error else { return Err(refusal(&error)) };
    let Some((becomes, is_same)) = core.exposed.states.spelled(path, &after, Wait::AGENT) else {
        return Err(refusal(&error));
    };
    let shown = spelled(core, path, &becomes);
    match is_same {
        true => Ok((check(&becomes).map_err(|error| refusal(&error))?, becomes, shown)),
        false => Err(match (refusal(&error), shown) {
            (Refusal::State { message, help }, Some(shown)) => {
                Refusal::state(format!("{message}: {shown}"), help)
            }
            (refusal, _) => refusal,
        }),
    }
}

/// A value as text on one line, unless it holds a secret or is too long.
fn spelled(core: &Core, path: &Path, value: &Tree) -> Option<String> {
    const MAX: usize = 200;
    let text = values::json(value).to_string();
    let is_open =
        !core.exposed.redactor.mark(path, value.clone()).holds_secret() && !core.exposed.holds_secret(&text);
    (is_open && text.len() <= MAX).then_some(text)
}

/// The write, if there is one, without which the path would not exist.
fn outlived(core: &Core, run: &Run, path: &Path) -> Result<Option<(u64, Vec<String>)>, Refusal> {
    run.outlived(&core.changes, path).map_err(|e| Refusal::state(e.to_string(), "try again"))
}

/// Freezes the condition for a lease.
pub(super) fn guarding(
    core: &Arc<Core>,
    run: &Run,
    function: &'static Function,
    pointer: &FnPtr,
) -> Result<Guarding, Refusal> {
    let host = Arc::new(PatchView::new(core, run));
    let frozen = Frozen::new(&run.functions(), pointer, Some(1), host).map_err(|e| {
        Refusal::state(
            e.told(Purpose::Guard),
            "a guard takes one argument, as in `|s| s.errors < 10`; it may compute and `get` literal paths",
        )
    })?;
    let paths = frozen
        .reads()
        .map(|p| p.parse::<Path>().map_err(|e| usage(function, &e.to_string())))
        .collect::<Result<Vec<_>, _>>()?;
    let reads = paths.iter().flat_map(|p| readable(core, run, p)).collect();
    answers::check_guard(&frozen)?;
    let points: Vec<Point> = frozen.words().filter_map(|word| core.exposed.points.find(word)).collect();
    if let Some(point) = points.iter().find(|point| core.exposed.points.is_shared(point.name())) {
        return Err(Refusal::state(
            format!(
                "calls of `{}` cannot be counted for a guard: several functions have this name",
                point.name()
            ),
            "`points()` tells where they are; name another point, a state or a gauge",
        ));
    }
    if let Some(point) = points.iter().find(|point| !point.is_countable()) {
        return Err(Refusal::state(
            format!("calls of `{}` cannot be counted for a guard: it is only listed", point.name()),
            "`describe(name)` says why; name another point, a state or a gauge",
        ));
    }
    let mut record = frozen_record(&frozen);
    if !points.is_empty() {
        record["counts"] = points.iter().map(|point| point.name()).collect();
    }
    Ok(Guarding { code: Arc::new(frozen.strictly()), reads, points, record })
}

/// The record of frozen code; the code itself is in the eval's record.
fn frozen_record(frozen: &Frozen) -> serde_json::Value {
    serde_json::json!({
        "code": "as in the eval", "functions": frozen.reached,
        "captures": frozen.captures.iter().map(values::json).collect::<Vec<_>>(),
    })
}

/// Finds a text that contains one of the placeholders that the agent shows instead of a value; returns its meaning, and
/// advice.
fn stands_for(tree: &Tree) -> Option<(&'static str, &'static str)> {
    let shows =
        |what: &str| tree.leaves().any(|(_, leaf)| matches!(leaf, Tree::Str(text) if text.contains(what)));
    if shows("‹secret") {
        let help = "assign the secret itself, to its own path; `--arg-secret` gives a new one";
        return Some(("a secret is shown, not the secret", help));
    }
    shows("‹unreadable").then_some(("what cannot be read is shown", "leave it out"))
}

fn patch(
    core: &Arc<Core>,
    run: &Run,
    function: &'static Function,
    name: &str,
    code: Option<Dynamic>,
    options: Options,
) -> Result<Effect, Refusal> {
    let code = code.unwrap_or(Dynamic::UNIT);
    let kind = convert::kind(&code);
    let Some(pointer) = code.try_cast::<FnPtr>() else {
        return Err(usage(
            function,
            &format!("the patch must be a function such as `|req| #{{ status: 503 }}`, not {kind}"),
        ));
    };
    let point = find_point(core, run, name, &options)?;
    point.patchable().map_err(|e| Refusal::state(e.to_string(), "`points()` says which can be patched"))?;
    if point.kind() == Kind::Function && debug_points::PANIC_ABORTS {
        return Err(Refusal::state(
            format!(
                "`{name}` cannot be patched: this service is built with `panic = \"abort\"`, so a failing patch could not be caught"
            ),
            "patch a route, or build the service with `panic = \"unwind\"`",
        ));
    }
    let Some(observer) = core.observer() else {
        return Err(Refusal::state("the agent is stopping", "nothing can be changed any more"));
    };
    let gives = point.arguments().len();
    let frozen = Frozen::new(&run.functions(), &pointer, Some(gives), Arc::new(PatchView::new(core, run)))
        .map_err(|e| {
            Refusal::state(
                e.told(Purpose::Patch),
                "a patch may compute, `log_info`, `log_warn`, and `get` literal paths",
            )
        })?;
    answers::check(&point, &frozen)?;
    let warning = answers::warning(&point, &frozen);
    let reads = frozen
        .reads()
        .map(|p| p.parse::<Path>().map_err(|e| usage(function, &e.to_string())))
        .collect::<Result<Vec<_>, _>>()?;
    let reads = reads.iter().flat_map(|p| readable(core, run, p)).collect();
    let record = frozen_record(&frozen);
    let layers = run.layers(&core.changes, &Resource::Point(point.name().to_owned()), point.layers().len());
    let proposal = Proposal {
        function,
        targets: NonEmpty::one(Resource::Point(point.name().to_owned())),
        reads,
        before: serde_json::json!({ "layers": layers }),
        after_digest: serde_json::Value::Null,
        after: record,
        shown: None,
        change: Arc::new(
            PatchChange::new(point, Arc::new(frozen), observer, warning)
                .declaring(core.exposed.points.clone()),
        ),
        guard: options.guard.as_ref().map(|guard| guarding(core, run, function, guard)).transpose()?,
        options,
    };
    Ok(Effect::Change(Box::new(proposal)))
}

/// The leaves that frozen code reads by a literal path; the path itself if nothing is there or the operator could read
/// none of it.
fn readable(core: &Core, run: &Run, path: &Path) -> Vec<Path> {
    if !gate::could_read(core.door(), run, path) {
        return vec![path.clone()];
    }
    run.look(&core.exposed, path).map_or_else(|_| vec![path.clone()], |tree| leaves(path, &tree).into_vec())
}

/// The leases that this operator may end: their own, and those that policy lets them revert.
pub(super) fn revertible(core: &Core, run: &Run) -> Vec<Lease> {
    let mine = &run.session.operator.name;
    let may = |lease: &debug_lease::Lease| {
        let asks = [lease.target().clone(), Resource::Lease(lease.owner.clone())];
        lease.owner == *mine
            || asks.into_iter().all(|resource| {
                let request = run.request(Action::Revert, resource);
                matches!(core.rules.policy.decide(&request), Decision::Allow(_))
            })
    };
    // Newest first, so that no lease has to be rebased.
    let mut leases = run.leases(&core.changes);
    leases.reverse();
    leases.retain(may);
    leases
}

/// Looks up a point by name. A route without any request so far is found only with `unseen`, and is listed once its
/// patch is made.
fn find_point(core: &Core, run: &Run, name: &str, options: &Options) -> Result<Point, Refusal> {
    if let Some(point) = core.exposed.points.find(name) {
        return Ok(point);
    }
    let unseen = options.unseen || run.plans_at(&Resource::Point(name.to_owned()));
    if let (true, Some((method, template))) = (unseen, name.split_once(' ')) {
        // The name would appear in the log and in every listing.
        if run.holds_secret(&core.exposed, name) || debug_state::has_secret_shape(name) {
            return Err(Refusal::state(
                "the name of the point holds what is or looks like a secret",
                "name a route by its template, as in `GET /api/healthcheck`",
            ));
        }
        // Other operators see the route once the patch is made.
        let slot = core
            .exposed
            .points
            .sketch(method, template)
            .map_err(|e| Refusal::state(e.to_string(), "as in `GET /api/healthcheck`"))?;
        return Ok(Point::Route(slot));
    }
    let nearest =
        core.exposed.points.nearest(name).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    Err(Refusal::state(
        format!("there is no point `{name}`{nearest}"),
        "`points()` lists them; a route is one once it was called, or with `#{ unseen: true }`",
    ))
}
