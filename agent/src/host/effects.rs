//! Forms effects from calls of host functions. The gate has yet to pass them.

mod lease;
mod level;
pub(super) mod parts;
mod patch;
mod read;
mod snapshot;
mod write;

use debug_policy::Resource;
use debug_wire::table::{Function, HostFunction};
use rhai::Dynamic;

use self::lease::{lease, settle};
use self::parts::{guarding, possible, revertible, state};
use self::patch::patch;
use self::read::reveal;
pub(crate) use self::read::{read, read_found};
use self::snapshot::{diff, find_snapshot, restore, snapshot};
pub(crate) use self::write::set;
use crate::effect::{Barred, Refusal};
use crate::effect::{ChangeOptions, Effect, Listing};
use crate::execute::{self};
use crate::host::EvalTag;
use crate::host::arguments::{MAX_POINT, how, id, options, path, pointer, reason, text, ttl, usage};
use debug_base::BootTime;

/// The subject of a listing, from its first argument.
fn subject(argument: Option<&Dynamic>) -> Option<String> {
    let argument = argument?;
    debug_script::handle::path_of(argument)
        .map(|path| path.to_string())
        .or_else(|| argument.clone().into_string().ok())
}

/// The effects of a call. Only `revert_all` and `restore` can have several.
pub(super) fn form(
    function: &'static Function,
    tag: &EvalTag,
    a: Option<Dynamic>,
    b: Option<Dynamic>,
    c: Option<Dynamic>,
) -> Result<Vec<Effect>, Refusal> {
    let (core, run) = (&tag.core, &tag.run);
    let see = |listing| Effect::See(listing, subject(a.as_ref()));
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
            let barred = Barred::named(function, state(&path), ChangeOptions::default());
            barred.unless_allowed(core.door(), run).unwrap_or_else(|| {
                possible(
                    reveal(core, run, path.clone()),
                    function,
                    state(&path),
                    ChangeOptions::default(),
                )
            })
        }
        HostFunction::Set => {
            let path = path(function, a)?;
            let given = options(function, c)?;
            set(core, run, function, path, b.unwrap_or(Dynamic::UNIT), given)
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
                let what = format!(
                    "the point's name has {} bytes, the limit is {MAX_POINT}",
                    name.len()
                );
                return Err(usage(function, &what));
            }
            let given = options(function, c)?;
            let barred = Barred::named(function, Resource::Point(name.clone()), given.options.clone());
            barred.unless_allowed(core.door(), run).unwrap_or_else(|| {
                let patch = patch(core, run, function, &name, b, given.clone());
                possible(patch, function, Resource::Point(name), given.options)
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
        HostFunction::Revert => Effect::Revert {
            lease: lease(core, run, id(function, a)?)?,
        },
        HostFunction::RevertAll => {
            let each = revertible(core, run).into_iter().map(|lease| Effect::Revert {
                lease: Box::new(lease),
            });
            return Ok(each.collect());
        }
        HostFunction::Confirm | HostFunction::Extend => Effect::Renew {
            confirm: function.id == HostFunction::Confirm,
            lease: lease(core, run, id(function, a)?)?,
            ttl: ttl(function, b)?,
            asked: BootTime::now(),
        },
        HostFunction::Adopt => Effect::Adopt {
            lease: lease(core, run, id(function, a)?)?,
        },
        HostFunction::Settle => {
            let (id, force) = (id(function, a)?, how(function, b)?);
            match run.conflict(&core.changes, id) {
                Ok((lease, conflict)) => settle(core, run, function, lease, force.then_some(&conflict)),
                Err(error) => {
                    // That the lease is in force is told only to an operator who might settle it.
                    let target = lease(core, run, id)?.target().clone();
                    let why = execute::ended(&error);
                    Effect::Impossible {
                        function,
                        target,
                        options: ChangeOptions::default(),
                        why,
                    }
                }
            }
        }
        HostFunction::Change => Effect::EnterChange {
            reason: reason(function, a)?,
        },
        HostFunction::Observe => Effect::Observe,
        HostFunction::LogInfo | HostFunction::LogWarn => Effect::Log {
            warn: function.id == HostFunction::LogWarn,
            text: text(function, "the text", a)?,
        },
    };
    Ok(vec![effect])
}
