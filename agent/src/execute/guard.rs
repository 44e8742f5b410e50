//! Guards: conditions that must stay true while a lease is in force. A guard is frozen code that a thread of the agent
//! evaluates periodically, for the first time before the change is made.

use std::collections::BTreeMap;
use std::time::Duration;

use debug_policy::Resource;

use crate::changes::guards::{Counts, Guard, GuardAnswer};
use crate::changes::observer::PatchObserver;
use crate::core::Core;
use crate::effect::GuardCode;
use debug_base::{BootTime, Tree, Wait, nearest};
use debug_lease::Cause;
use debug_points::{CallNote, Observer as _, PatchFailure, Stats};
use debug_state::{add_asked, take_asked};

/// The interval between two evaluations of a guard: shorter than the reaction of an operator who watches a graph, long
/// enough that a hundred guards of 1 ms take less than half of one CPU.
pub(crate) const EVERY: Duration = Duration::from_millis(250);

/// The number of consecutive evaluations without an answer, because the code failed or a state was busy, that ends the
/// lease.
const MAX_SILENT: u32 = 2;

/// The longest description of what a guard saw in the reason of a revert, in bytes.
const MAX_SEEN: usize = 1_000;

/// Evaluates every guard once. Ends a lease if its guard is false, or has had no answer [`MAX_SILENT`] times in a row.
pub(crate) fn round(core: &Core) {
    let parts = |(lease, guard): (&u64, &Guard)| (*lease, guard.code.clone(), guard.counts.clone());
    let asked: Vec<_> = core.changes.guards.lock().iter().map(parts).collect();
    for (lease, code, counts) in asked {
        let Ok(found) = core.changes.leases.find(lease) else {
            core.changes.guards.remove(lease);
            continue;
        };
        // The lease is already being ended.
        if found.failing.is_some() {
            continue;
        }
        let answer = core.guarded("a guard", || ask(core, lease, code.as_ref(), &counts));
        let answer = answer.unwrap_or_else(|| GuardAnswer::Silent("asking it panicked".to_owned()));
        let broken = match answer {
            GuardAnswer::Holds => {
                silent(core, lease, |silent| *silent = 0);
                continue;
            }
            GuardAnswer::Broken(seen) => format!("the guard no longer holds: {seen}"),
            GuardAnswer::Silent(why) => {
                let times = silent(core, lease, |silent| *silent += 1);
                if times < MAX_SILENT {
                    continue;
                }
                format!("the guard could not tell {times} times in a row: {why}")
            }
        };
        core.see_to_end(lease, &Cause::GuardFailed(broken), Wait::AGENT);
        if core.changes.leases.find(lease).is_err() {
            core.changes.guards.remove(lease);
        }
    }
}

fn silent(core: &Core, lease: u64, change: impl FnOnce(&mut u32)) -> u32 {
    core.changes.guards.lock().get_mut(&lease).map_or(0, |guard| {
        change(&mut guard.silent);
        guard.silent
    })
}

/// Evaluates a guard for the first time, before its change is made. It uses a separate thread: the current one runs a
/// script with a budget and variables that the guard must not share.
pub(crate) fn first(core: &Core, lease: u64, code: &dyn GuardCode, counts: &Counts) -> GuardAnswer {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("debug-guard-new".to_owned());
        let asking = thread.spawn_scoped(scope, || (ask(core, lease, code, counts), take_asked()));
        let answer = asking.map_err(|error| format!("no thread to ask it on: {error}"));
        let answer = answer.and_then(|asking| asking.join().map_err(|_| "asking it panicked".to_owned()));
        let answer = answer.map(|(answer, spent)| {
            // The eval that makes the change pays for what its guard reads.
            add_asked(spent);
            answer
        });
        answer.unwrap_or_else(GuardAnswer::Silent)
    })
}

/// A note that the code of a lease runs, in case the process ends inside it.
struct Noted<'a>(Option<(&'a PatchObserver, CallNote)>);

impl<'a> Noted<'a> {
    fn begin(observer: Option<&'a PatchObserver>, lease: u64) -> Self {
        Self(observer.and_then(|observer| Some((observer, observer.begins(lease)?))))
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        if let Some((observer, note)) = self.0.take() {
            observer.ends(note);
        }
    }
}

/// Evaluates a guard.
fn ask(core: &Core, lease: u64, code: &dyn GuardCode, counts: &Counts) -> GuardAnswer {
    let sight = sight(core, lease, counts);
    let observer = core.observer();
    let _noted = Noted::begin(observer.as_deref(), lease);
    match code.call(lease, BootTime::now(), vec![sight.clone()]) {
        Ok(Tree::Bool(true)) => GuardAnswer::Holds,
        Ok(Tree::Bool(false)) => GuardAnswer::Broken(seen(core, &sight, code)),
        Ok(other) => GuardAnswer::Silent(format!("it answered {} instead of true or false", other.kind())),
        Err(failure) => GuardAnswer::Silent(core.exposed.scrub(&silence(core, &sight, failure))),
    }
}

/// Why a guard gave no answer, in words.
fn silence(core: &Core, sight: &Tree, failure: PatchFailure) -> String {
    match failure {
        PatchFailure::Threw(why) => format!("it threw `{why}`"),
        PatchFailure::Missing(name) => missing(core, sight, &name),
        PatchFailure::Limit(which) => format!("it met a limit: {which}"),
        PatchFailure::Stack => "too little of the thread's stack is left to run it".to_owned(),
        PatchFailure::Shape(why) => why,
        PatchFailure::Panicked => "asking it panicked".to_owned(),
        PatchFailure::Fault(_) => "it answered an `Err` instead of true or false".to_owned(),
    }
}

/// A name that the guard reads and that is not there, with the names that are.
fn missing(core: &Core, sight: &Tree, name: &str) -> String {
    let below = |at: &[&str]| {
        let at: Vec<String> = at.iter().map(|name| (*name).to_owned()).collect();
        match sight.at(&at) {
            Some(Tree::Map(entries)) => entries.iter().map(|(name, _)| name.clone()).collect(),
            _ => Vec::new(),
        }
    };
    let (own, gauges): (Vec<String>, Vec<String>) = (below(&[]), below(&["gauges"]));
    let names = own.iter().chain(&gauges).map(String::as_str);
    let near = nearest(name, names)
        .map(str::to_owned)
        .or_else(|| core.exposed.points.nearest(name));
    let near = near
        .map(|near| format!("; did you mean `{near}`?"))
        .unwrap_or_default();
    let gauges = if gauges.is_empty() {
        "none".to_owned()
    } else {
        gauges.join(", ")
    };
    format!(
        "it reads `{name}`, which is not there{near}; a guard is given {}; gauges: {gauges}; points: those that \
         `points()` lists, a route once it was called",
        own.join(", ")
    )
}

/// The argument of a guard.
///
/// - `calls`, `errors`, `failures`, `mean_us`, `p99_us` of the lease's own patch since the change.
/// - `points`: the same for every patch and, since the guard began, for all calls of each point that the guard names,
///   whether a patch or the original answers.
/// - `gauges`: the service's own numbers.
fn sight(core: &Core, lease: u64, counts: &Counts) -> Tree {
    let own = core
        .changes
        .leases
        .find(lease)
        .ok()
        .and_then(|lease| match lease.target() {
            Resource::Point(name) => core.exposed.points.find(name)?.stats(lease.id),
            _ => None,
        });
    let mut entries = numbers(&own.unwrap_or_default());
    let mut points: BTreeMap<String, Stats> = core.exposed.points.patched().into_iter().collect();
    for (name, counted) in counts.stats() {
        // A watch sees calls as the caller does, and the caller does not see that a patch failed.
        let failures = points.get(name).map_or(0, |patch| patch.failures);
        points.insert(name.to_owned(), Stats { failures, ..counted });
    }
    let points = points
        .into_iter()
        .map(|(name, stats)| (name, Tree::Map(numbers(&stats))));
    entries.push(("points".to_owned(), Tree::Map(points.collect())));
    entries.push(("gauges".to_owned(), Tree::Map(core.changes.guards.gauges())));
    Tree::Map(entries)
}

fn numbers(stats: &Stats) -> Vec<(String, Tree)> {
    let whole = |value: u64| Tree::I64(i64::try_from(value).unwrap_or(i64::MAX));
    let micros = |duration: Duration| whole(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    vec![
        ("calls".to_owned(), whole(stats.calls)),
        ("errors".to_owned(), whole(stats.errors)),
        ("failures".to_owned(), whole(stats.failures)),
        ("mean_us".to_owned(), micros(stats.mean)),
        ("p99_us".to_owned(), micros(stats.p99)),
    ]
}

/// The values that the guard read, in one line, without secrets.
fn seen(core: &Core, sight: &Tree, code: &dyn GuardCode) -> String {
    let text = [sight.to_json().to_string()]
        .into_iter()
        .chain(code.reads_now())
        .collect::<Vec<_>>()
        .join(", ");
    let text = core.exposed.scrub(&text);
    match (0..=MAX_SEEN).rev().find(|end| text.is_char_boundary(*end)) {
        Some(end) if end < text.len() => format!("{}…", &text[..end]),
        _ => text,
    }
}

#[cfg(test)]
mod tests;
