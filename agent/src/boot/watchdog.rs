//! The thread that records what happens to patched calls and does the periodic work: it evaluates guards, ends what the
//! revert thread missed, warns of expiring certificates, and writes `active.json`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use debug_audit::Until;
use debug_policy::Resource;
use debug_wire::messages::FailingPatch;
use debug_wire::records::{Alarm, EffectRecord};
use pki_types::UnixTime;

use crate::changes::observer::{Events, PatchEvent};
use crate::core::{Core, RateLimit};
use crate::execute::guard;
use crate::recorder::marker::{ActiveMarker, HEARTBEAT};
use crate::recorder::records::record;
use debug_base::threads::Next;
use debug_base::{BootTime, Wait, threads};
use debug_lease::Cause;
use debug_net::expiry::{Announced, Left};
use debug_points::{Failed, SWEEP_EVERY};

/// How long after a lease is due this thread checks whether the revert thread has missed it: the revert thread goes
/// first.
const SLACK: Duration = Duration::from_millis(250);
/// The longest time between two checks of expiring certificates: the wall clock can jump.
const CLOCK: Duration = Duration::from_secs(3600);

/// Starts the thread that records what patches do and does the periodic work. It ends when the observer is dropped.
///
/// # Errors
/// The system starts no thread.
pub(crate) fn start(core: &Arc<Core>, events: Events, keeping: Arc<ActiveMarker>) -> std::io::Result<()> {
    let faults = core.faults.clone();
    // The core owns this value; a strong reference back would leak both.
    let core = Arc::downgrade(core);
    let (mut failures, mut told) = (Failures::default(), Announced::default());
    let mut round = Instant::now();
    let mut beat = Instant::now() + HEARTBEAT;
    let turn = move || {
        let Some((mut wait, guarding)) = core
            .upgrade()
            .map(|core| (warn(&core, &mut told), !core.changes.guards.is_empty()))
        else {
            return Next::End;
        };
        if let Some(due) = core.upgrade().and_then(|core| core.changes.leases.next_due()) {
            wait = wait.min(due.remaining(BootTime::now()) + SLACK);
        }
        if core.upgrade().is_some_and(|core| sweep_notes(&core)) {
            wait = wait.min(SWEEP_EVERY);
        }
        let now = Instant::now();
        if guarding {
            wait = wait.min(round.saturating_duration_since(now));
        }
        if keeping.beats() {
            wait = wait.min(beat.saturating_duration_since(now));
        }
        let event = match events.sent().recv_timeout(wait) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) if keeping.beats() && beat <= Instant::now() => PatchEvent::Marked,
            Err(RecvTimeoutError::Timeout) if guarding => PatchEvent::Guarded,
            Err(RecvTimeoutError::Timeout) => PatchEvent::Look,
            Err(RecvTimeoutError::Disconnected) => return Next::End,
        };
        let Some(core) = core.upgrade() else {
            return Next::End;
        };
        match event {
            // Cleared before the leases are read, so that a later change queues another event.
            PatchEvent::Marked => {
                events.shown();
                beat = Instant::now() + HEARTBEAT;
                show(&core, &keeping);
            }
            PatchEvent::Failed { .. } => {
                events.taken();
                take(&core, &mut failures, event);
            }
            PatchEvent::Breaker { .. } | PatchEvent::Guarded | PatchEvent::Look => {
                take(&core, &mut failures, event)
            }
        }
        tell(&core);
        if guarding && round <= Instant::now() {
            guard::round(&core);
            round = Instant::now() + guard::EVERY;
        }
        if core
            .changes
            .leases
            .next_due()
            .is_some_and(|due| due.after(SLACK) <= BootTime::now())
        {
            core.sweep();
        }
        Next::Turn
    };
    threads::spawn("debug-guard", None, faults, turn).map(drop)
}

/// Clears the notes of finished patched calls; returns whether others stand.
fn sweep_notes(core: &Core) -> bool {
    core.observer().is_some_and(|observer| observer.sweep_notes())
}

/// Logs new warnings about expiring certificates and lists; returns the time until the next one can be due.
fn warn(core: &Core, told: &mut Announced) -> Duration {
    let now = UnixTime::now().as_secs();
    for (left, warning) in told.news(&core.lifetimes, now) {
        match left {
            Left::Nothing => core.recorder.emitter.alarm(&warning),
            Left::Plenty | Left::Half | Left::Quarter => core.recorder.emitter.warning(&warning),
        }
    }
    core.lifetimes
        .iter()
        .filter_map(|lifetime| lifetime.next(now))
        .min()
        .unwrap_or(CLOCK)
        .min(CLOCK)
}

/// Writes `active.json`.
fn show(core: &Core, marks: &ActiveMarker) {
    if let Err(error) = marks.write(core.changes.leases.in_force(BootTime::now())) {
        core.recorder.emitter.alarm(&format!(
            "the file that marks changes in force cannot be written: {error}"
        ));
    }
}

/// Reports what the points found out on the service's threads: in the service's log, in the audit log, on stderr and in
/// `info()`.
fn tell(core: &Core) {
    for news in core.exposed.points.news() {
        core.recorder.append(vec![record(&Alarm {
            points: Some(news.clone()),
            ..Alarm::default()
        })]);
        core.recorder.emitter.alarm(&news);
        super::complain::complain(&news);
        core.note(news);
    }
}

/// The failures of patches reported so far.
#[derive(Default)]
struct Failures {
    /// Limits the records of further failures of a patch.
    limit: RateLimit,
    /// The leases in force with a reported first failure.
    first: BTreeSet<u64>,
}

fn take(core: &Core, failures: &mut Failures, event: PatchEvent) {
    match event {
        // Its only purpose is to wake the thread.
        PatchEvent::Guarded => {}
        PatchEvent::Look => core.sweep(),
        PatchEvent::Failed { lease, call, why } => {
            let why = debug_base::cut(&core.exposed.scrub(&why));
            failures
                .first
                .retain(|first| core.changes.leases.find(*first).is_ok());
            // The first failure is reported to its operator, so it is always recorded.
            let found = core
                .changes
                .leases
                .find(lease)
                .ok()
                .filter(|_| !failures.first.contains(&lease));
            if found.is_none() && failures.limit.allow().is_none() {
                return;
            }
            let body = EffectRecord {
                lease: Some(lease),
                call: Some(call),
                patch_failed: Some(why.clone()),
                ..EffectRecord::default()
            };
            let recorded = core.recorder.log.append(vec![record(&body)], Until::Written);
            core.recorder.emitter.alarm(&format!(
                "the patch of lease {lease} failed in call {call}: {why}"
            ));
            let Some(found) = found else { return };
            failures.first.insert(lease);
            let holder = core.sessions().get(&found.session).cloned();
            if let Some(holder) = holder {
                let target = found.target().to_string();
                holder.patch_fails(
                    FailingPatch {
                        id: lease,
                        target,
                        call,
                        why,
                    },
                    recorded,
                );
            }
        }
        PatchEvent::Breaker { lease, why } => {
            let why = match last_failure(core, lease) {
                Some(last) => format!("{why}; the last time {last}"),
                None => why,
            };
            // Another thread may end it at the same moment, with the same effect.
            core.see_to_end(lease, &Cause::Breaker(why), Wait::AGENT);
        }
        PatchEvent::Marked => {}
    }
}

/// The last call in which the patch of a lease failed.
pub(crate) fn last_failure(core: &Core, lease: u64) -> Option<Arc<Failed>> {
    let found = core.changes.leases.find(lease).ok()?;
    let Resource::Point(name) = found.target() else {
        return None;
    };
    let layers = core.exposed.points.find(name)?.layers();
    layers.iter().find(|layer| layer.lease() == lease)?.last_failure()
}
