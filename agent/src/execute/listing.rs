//! The output of `help`, `info`, `ls`, `points`, `describe`, `leases`, `sessions` and `snapshots`.

use debug_policy::{Resource, format_duration};
use pki_types::UnixTime;

use crate::changes::levels::level_name;
use crate::changes::waits;
use crate::core::Core;
use crate::effect::{Listing, Refusal, Reply, Row};
use crate::gate::{self};
use crate::recorder::notes::Note;
use crate::session::context::{EvalContext, MAX_EFFECTS};
use crate::session::limits::{EVAL, MAX_OUTPUT, MAX_RESULT, PATCH};
use debug_base::{BootTime, Path, Tree, roughly};
use debug_lease::{Conflict, DEFAULT_TTL, GRACE, Lease};
use debug_net::Bounds;
use debug_state::Origin;

mod points;

pub(crate) use points::answers_before;

/// Makes a listing; its permit was spent by the caller.
pub(crate) fn list(
    core: &Core,
    run: &EvalContext,
    listing: Listing,
    subject: Option<&str>,
    now: BootTime,
) -> Result<Reply, Refusal> {
    match listing {
        Listing::Help => Ok(Reply::Help(subject.map(str::to_owned))),
        Listing::Info => Ok(info(core, run, now)),
        Listing::Ls => ls(core, run, subject),
        Listing::Points => Ok(points::all(core, run)),
        Listing::Describe => describe(core, run, subject.unwrap_or_default()),
        Listing::Leases => Ok(leases(core, run, now)),
        Listing::Sessions => Ok(sessions(core, run, now)),
        Listing::Snapshots => Ok(snapshots(core, run, now)),
    }
}

fn info(core: &Core, run: &EvalContext, now: BootTime) -> Reply {
    let in_force = run.leases(&core.changes);
    let next = in_force.iter().map(|lease| lease.until().remaining(now)).min();
    Reply::Row(vec![
        ("service", core.service.clone().into()),
        ("instance", core.instance.clone().into()),
        ("environment", core.rules.environment.clone().into()),
        ("agent", env!("CARGO_PKG_VERSION").into()),
        ("pid", Reply::Count(std::process::id().into())),
        ("up", roughly(now.since(core.started)).into()),
        ("origin", core.origin.clone().into()),
        (
            "permits",
            Reply::Count(core.rules.permits.load(std::sync::atomic::Ordering::Relaxed)),
        ),
        ("records", Reply::Count(core.recorder.log.size())),
        ("log", health(&core.recorder.log.health()).into()),
        ("policy", core.rules.policy_digest.clone().into()),
        ("leases", Reply::Count(in_force.len() as u64)),
        ("limits", limits().into_iter().collect()),
        ("levels", levels(core, run)),
        ("next_revert", next.map_or(Reply::Nothing, |d| roughly(d).into())),
        (
            "panic",
            if debug_points::PANIC_ABORTS {
                "abort: functions cannot be patched"
            } else {
                "unwind"
            }
            .into(),
        ),
        (
            "notes",
            notes(core)
                .into_iter()
                .filter(|note| gate::may_see_note(core.door(), run, note))
                .map(|note| note.text)
                .collect(),
        ),
    ])
}

/// All notes, each with the paths that an operator must know of to see it.
fn notes(core: &Core) -> Vec<Note> {
    let now = UnixTime::now().as_secs();
    let mut notes: Vec<Note> = core
        .lifetimes
        .iter()
        .filter_map(|lifetime| lifetime.warning(now))
        .map(Note::for_all)
        .collect();
    notes.extend(core.at_start().iter().cloned());
    notes.extend(core.unmatched.get().map(|find| find(core)).unwrap_or_default());
    notes.extend(
        core.notes
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .iter()
            .cloned(),
    );
    let long = core.changes.waits.long().into_iter();
    notes.extend(long.map(|(state, waited)| {
        let what = waits::sentence(&state, waited);
        Note::about([Path(vec![state])], what)
    }));
    notes.extend(core.faults.sentence().map(Note::for_all));
    notes.extend(
        core.exposed
            .states
            .unkeyed()
            .into_iter()
            .map(|(path, what)| Note::about([path], what)),
    );
    let unnoted = core.observer().filter(|observer| !observer.notes_calls());
    notes.extend(unnoted.map(|_| Note::for_all("patched calls are not noted for now, so that the next process cannot tell if this one ends inside of one: `calls` in `[active] folder` takes too long to write; best is a folder in memory (tmpfs)")));
    notes.extend(unsearched(core));
    notes
}

/// The limits that apply to every operator, independent of policy.
fn limits() -> Vec<String> {
    let (bounds, time) = (Bounds::default(), format_duration);
    vec![
        format!(
            "an eval: {} operations, {}, {} effects, {} bytes of output, {} of result",
            EVAL.operations,
            time(EVAL.time),
            MAX_EFFECTS,
            MAX_OUTPUT,
            MAX_RESULT
        ),
        format!(
            "a patched call: {} operations, {} of processor time",
            PATCH.operations,
            time(PATCH.time)
        ),
        format!(
            "a change: {} unless it names another time, {} after its session is lost",
            time(DEFAULT_TTL),
            time(GRACE)
        ),
        format!(
            "sessions: {}, {} of one operator, each {} idle",
            bounds.sessions,
            bounds.per_operator,
            time(bounds.idle)
        ),
        format!("a message: {} bytes", debug_wire::MAX_MESSAGE),
    ]
}

/// The levels set for targets of the service's log.
fn levels(core: &Core, run: &EvalContext) -> Reply {
    if run.is_planning() {
        let line = |lease: Lease| match lease.target() {
            Resource::Target(target) => {
                Some(format!("{target} {} by lease {}", lease.change.done(), lease.id))
            }
            _ => None,
        };
        return run.leases(&core.changes).into_iter().filter_map(line).collect();
    }
    let line = |(lease, target, level)| format!("{target} at {} by lease {lease}", level_name(level));
    core.changes.levels.list().into_iter().map(line).collect()
}

/// Secrets that output is not searched for, because they equal a name that is shown everywhere.
fn unsearched(core: &Core) -> Vec<Note> {
    let told = |origin: Origin| {
        let what = format!(
            "the secret {origin} equals a name that is shown everywhere; it is not searched for in output"
        );
        Note::about(origin.path().cloned(), what)
    };
    core.exposed.scrubber.unsearched().into_iter().map(told).collect()
}

fn health(health: &debug_audit::Health) -> String {
    match health {
        debug_audit::Health::Ok => "ok".to_owned(),
        debug_audit::Health::Failing { since, reason, held } => {
            format!(
                "cannot be written for {}: {reason}; {held} bytes wait in memory",
                roughly(since.elapsed())
            )
        }
    }
}

fn ls(core: &Core, run: &EvalContext, subject: Option<&str>) -> Result<Reply, Refusal> {
    let Some(subject) = subject else {
        let states = core.exposed.states.list();
        let shown = states
            .into_iter()
            .filter(|(name, _)| knows(core, run, &Path(vec![(*name).to_owned()])));
        return Ok(Reply::table(shown.map(|(name, writable)| {
            vec![("name", name.into()), ("writable", writable.into())]
        })));
    };
    let (path, tree) = at(core, run, subject)?;
    Ok(names(core, run, &path, &tree))
}

/// A path and its value. An operator who may read nothing there gets the same denial whether it exists or not.
fn at(core: &Core, run: &EvalContext, subject: &str) -> Result<(Path, Tree), Refusal> {
    let path: Path = subject
        .parse()
        .map_err(|e: debug_base::InvalidPath| Refusal::state(e.to_string(), "as in `config.db.host`"))?;
    // Checked before the service's state is read.
    if !gate::could_read(core.door(), run, &path) {
        gate::may_know(core.door(), run, &path, None)?;
    }
    let found = run.look(&core.exposed, &path);
    gate::may_know(core.door(), run, &path, found.as_ref().ok())?;
    Ok((
        path,
        found.map_err(|e| super::missing::state_refusal(core, run, &e))?,
    ))
}

/// Whether the operator may read anything of a state. If policy rules it out, the state is not read.
fn knows(core: &Core, run: &EvalContext, state: &Path) -> bool {
    gate::could_read(core.door(), run, state)
        && gate::may_know(
            core.door(),
            run,
            state,
            run.look(&core.exposed, state).ok().as_ref(),
        )
        .is_ok()
}

fn names(core: &Core, run: &EvalContext, path: &Path, tree: &Tree) -> Reply {
    gate::known_below(core.door(), run, path, tree)
        .into_iter()
        .collect()
}

fn describe(core: &Core, run: &EvalContext, subject: &str) -> Result<Reply, Refusal> {
    if let Some(one) = points::one(core, run, subject) {
        return Ok(one);
    }
    let root = subject.split(['.', '[']).next().unwrap_or_default();
    let known = |name: &str| {
        core.exposed.states.named(name).is_ok() && knows(core, run, &Path(vec![name.to_owned()]))
    };
    // A state that the operator may not know of looks like one that does not exist.
    if !known(root) {
        let nearest = core
            .exposed
            .points
            .nearest(subject)
            .map(|near| format!("; did you mean `{near}`?"))
            .unwrap_or_default();
        return Err(Refusal::state(
            format!("there is no point or state `{subject}`{nearest}"),
            "`points()` lists the points, `ls()` the states",
        ));
    }
    let (path, tree) = at(core, run, subject)?;
    let writable = core.exposed.states.is_writable(&path);
    Ok(Reply::Row(vec![
        ("path", path.to_string().into()),
        ("kind", tree.kind().into()),
        ("writable", writable.into()),
        ("names", names(core, run, &path, &tree)),
    ]))
}

fn leases(core: &Core, run: &EvalContext, now: BootTime) -> Reply {
    let conflicts = run.conflicts(&core.changes);
    let conflicts = conflicts
        .into_iter()
        .map(|(lease, conflict)| conflict_row(&lease, &conflict));
    Reply::table(
        conflicts.chain(
            run.leases(&core.changes)
                .into_iter()
                .map(|lease| lease_row(core, run, &lease, now)),
        ),
    )
}

/// The row of a lease that ended in a conflict.
fn conflict_row(lease: &Lease, conflict: &Conflict) -> Row {
    let note = format!(
        "{}; `settle({}, \"keep\")` or `settle({}, \"force\")`",
        conflict.why, lease.id, lease.id
    );
    vec![
        ("id", Reply::Count(lease.id)),
        ("target", lease.target().to_string().into()),
        ("owner", lease.owner.clone().into()),
        ("state", "conflict".into()),
        // It has no deadline, but all rows have the same columns.
        ("reverts_in", Reply::Nothing),
        ("reverts_in_ms", Reply::Nothing),
        ("guard", "".into()),
        ("session", Reply::Count(lease.session)),
        ("eval", Reply::Count(lease.eval)),
        ("reason", lease.reason.clone().into()),
        ("note", note.into()),
    ]
}

fn lease_row(core: &Core, run: &EvalContext, lease: &Lease, now: BootTime) -> Row {
    let left = lease.due().0.remaining(now);
    let guard = if run.plans_guard(lease.id) {
        Some("holds".to_owned())
    } else {
        core.changes.guards.told(lease.id)
    };
    let note = match (&lease.failing, lease.revertible_grace()) {
        (Some(failing), _) => format!("could not be undone yet, and is tried again: {}", failing.why),
        (None, Some(_)) => "its session is lost".to_owned(),
        (None, None) => {
            let failing = points::failing(core, run, lease);
            failing
                .into_iter()
                .chain(lease.change.warning())
                .collect::<Vec<_>>()
                .join("; ")
        }
    };
    vec![
        ("id", Reply::Count(lease.id)),
        ("target", lease.target().to_string().into()),
        ("owner", lease.owner.clone().into()),
        ("state", lease.phase.name().into()),
        ("reverts_in", roughly(left).into()),
        (
            "reverts_in_ms",
            Reply::Count(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        ),
        ("guard", guard.unwrap_or_default().into()),
        ("session", Reply::Count(lease.session)),
        ("eval", Reply::Count(lease.eval)),
        ("reason", lease.reason.clone().into()),
        ("note", note.into()),
    ]
}

fn sessions(core: &Core, run: &EvalContext, now: BootTime) -> Reply {
    let sessions: Vec<_> = core.sessions().values().cloned().collect();
    let leases = run.leases(&core.changes);
    Reply::table(sessions.into_iter().map(|session| {
        vec![
            ("id", Reply::Count(session.id)),
            ("operator", session.operator.name.clone().into()),
            ("roles", session.operator.roles.join(",").into()),
            ("mode", mode_name(run, &session).into()),
            ("since", roughly(now.since(session.opened)).into()),
            ("peer", session.peer.to_string().into()),
            (
                "leases",
                Reply::Count(leases.iter().filter(|lease| lease.session == session.id).count() as u64),
            ),
            ("you", (session.id == run.session.id).into()),
        ]
    }))
}

fn snapshots(core: &Core, run: &EvalContext, now: BootTime) -> Reply {
    Reply::table(run.snapshots(&core.changes).into_iter().map(|snapshot| {
        let leases: Vec<String> = snapshot.leases.iter().map(u64::to_string).collect();
        vec![
            ("name", snapshot.name.clone().into()),
            ("by", snapshot.by.clone().into()),
            ("automatic", snapshot.automatic.into()),
            ("ago", roughly(now.since(snapshot.taken)).into()),
            ("bytes", Reply::Count(snapshot.bytes() as u64)),
            ("leases", leases.join(", ").into()),
        ]
    }))
}

fn mode_name(run: &EvalContext, session: &crate::session::Session) -> &'static str {
    let mode = if session.id == run.session.id {
        run.mode()
    } else {
        session.mode()
    };
    match mode.0 {
        debug_policy::Mode::Observe => "observe",
        debug_policy::Mode::Change => "change",
    }
}
