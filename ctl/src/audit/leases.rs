//! Checks that each lease ended exactly once, and that its end restored what it had replaced.
//!
//! The log tells both: each lease has one record that ends it, and keyed digests of what stood at a state path before, of what
//! was written there, and of what stands there afterwards. Only what the digests can tell is judged. They tell nothing where
//! changes overlap without having the same path, or where the service wrote between a change and its end.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use debug_audit::kinds::{LEASE_CONFLICT, LEASE_ENDS, LEASE_RESTART};
use debug_policy::Resource;
use debug_wire::records::{
    Armed, Boot, Eval, LEASE_ADOPTED, LEASE_CONFIRMED, LEASE_EXTENDED, LeaseEnded, LeaseMade, LeaseRenewed,
    LeaseSettled, Outcome, Record, SessionOpen, Shutdown,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::signatures::Wrong;
use crate::ui::term;

#[cfg(test)]
mod tests;

const HELP: &str = "keep the folder as evidence: what this lease changed may not have been undone; \
                    `debugctl audit list DIR --kind lease.` shows what became of each";

/// A lease that stands.
struct OpenLease {
    /// The number of its record.
    made: u64,
    target: LeaseTarget,
    /// The keyed digest of what its end will restore, if that can be told.
    before: Option<String>,
    /// The keyed digest of what it wrote.
    after: Option<String>,
    /// How many other leases have stood at an overlapping target.
    others: u64,
    /// Whether a checkpoint covers its record.
    counted: bool,
}

/// What a lease changes.
#[derive(Eq, PartialEq)]
enum LeaseTarget {
    State(Vec<String>),
    /// A point, or a target of a later version: its text.
    Other(String),
}

impl LeaseTarget {
    fn of(text: &str) -> Self {
        match text.parse() {
            Ok(Resource::State(path)) => Self::State(path),
            _ => Self::Other(text.to_owned()),
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::State(a), Self::State(b)) => a.iter().zip(b).all(|(a, b)| a == b),
            _ => self == other,
        }
    }

    /// Whether `other` lies within this target.
    fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::State(outer), Self::State(inner)) => inner.starts_with(outer),
            _ => self == other,
        }
    }
}

/// A lease that has ended.
struct LeaseEnd {
    /// The number of the record that ended it.
    by: u64,
    conflict: bool,
    settled: bool,
}

/// A lease with an end that is only correct if a lease below it had ended earlier: two ends may be recorded in another order than
/// they happened.
struct WaitingEnd {
    standing: OpenLease,
    end: LeaseEnded,
    by: u64,
}

/// What the digests tell about an end.
enum Verdict {
    /// The original value stands there again, or is what the lease above will restore.
    PutBack,
    /// The service itself had written there; our digests tell nothing more.
    Conflict,
    Untold,
    /// What is wrong, in words.
    Wrong(String),
}

/// Checks the leases of a log, record by record.
#[derive(Default)]
pub(super) struct LeaseCheck {
    open: BTreeMap<u64, OpenLease>,
    waiting: BTreeMap<u64, WaitingEnd>,
    ended: HashMap<u64, LeaseEnd>,
    /// Leases of an earlier run without a record of their end.
    former: BTreeSet<u64>,
    /// Evals without an outcome so far.
    running: HashSet<u64>,
    /// The number of the record that ended the run.
    stopped: Option<u64>,
    /// Whether a checkpoint covers the records now taken in; uncovered ones are checked but not counted.
    pub(super) counts: bool,
    pub(super) tally: Tally,
}

/// The counts of a checked log.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Tally {
    pub(super) made: u64,
    pub(super) ended: u64,
    /// Ended, and digests show that the original value was restored.
    pub(super) put_back: u64,
    /// Ended, and the value was restored at an element of a list that had moved.
    pub(super) moved: u64,
    /// Ended, having changed no state, so that there is no digest to compare.
    pub(super) stateless: u64,
    /// Ended below another lease, which restores what this one would have.
    pub(super) covered: u64,
    /// Ended where the service itself had written.
    pub(super) conflicts: u64,
    /// Ended with their process, and so with all that they had changed in it.
    pub(super) restarted: u64,
    /// Their change was recorded but never applied.
    pub(super) never_made: u64,
}

impl Tally {
    /// Counts the end of a lease by what its digests tell.
    fn ended_so(&mut self, lease: &OpenLease, end: &LeaseEnded, verdict: &Verdict) {
        if !lease.counted || matches!(lease.target, LeaseTarget::Other(_)) {
            return;
        }
        match verdict {
            Verdict::PutBack if end.found.is_some() => self.moved += 1,
            Verdict::PutBack => self.put_back += 1,
            Verdict::Conflict => self.conflicts += 1,
            Verdict::Untold if end.covered_by.is_some() => self.covered += 1,
            Verdict::Untold | Verdict::Wrong(_) => {}
        }
    }

    /// The counts in words.
    pub(super) fn text(&self) -> String {
        let Self {
            made,
            ended,
            put_back,
            moved,
            stateless,
            covered,
            conflicts,
            restarted,
            never_made,
        } = *self;
        let leases = format!("{made} lease{}", if made == 1 { "" } else { "s" });
        let ends = match made - ended {
            0 if made == 0 => return "no leases".to_owned(),
            0 if made == 1 => "ended exactly once".to_owned(),
            0 => "all ended exactly once".to_owned(),
            _ if ended == 0 => "none ended yet".to_owned(),
            open => format!("{open} not ended yet, the others exactly once"),
        };
        // The counts add up to `ended`: an unaccounted lease would look forgotten.
        let told = put_back + moved + stateless + covered + conflicts + restarted + never_made;
        let others: String = [
            (moved, "put it back at an element that had moved"),
            (stateless, "changed no state"),
            (covered, "ended below another change"),
            (conflicts, "ended as a conflict"),
            (restarted, "ended with the process"),
            (never_made, "never came into force"),
            (ended.saturating_sub(told), "of which digests tell nothing"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!(", {count} {what}"))
        .collect();
        format!("{leases}, {ends}; {put_back} put back what stood there before (checked by digest){others}")
    }
}

impl LeaseCheck {
    /// Takes in the next record.
    ///
    /// # Errors
    /// The check that failed, in words.
    pub(super) fn take(&mut self, seq: u64, kind: &str, line: &str) -> Result<(), Wrong> {
        let taken = match kind {
            Boot::KIND => {
                self.boot();
                Ok(())
            }
            Armed::KIND | SessionOpen::KIND => self.former_have_ended(),
            Shutdown::KIND => {
                self.stopped = Some(seq);
                self.former_have_ended()
            }
            Eval::KIND => {
                self.running.insert(seq);
                Ok(())
            }
            Outcome::KIND => {
                if let Some(eval) = read::<Outcome>(line)?.eval {
                    self.running.remove(&eval);
                }
                Ok(())
            }
            LeaseMade::KIND => self.former_have_ended().and(self.made(seq, read(line)?)),
            LEASE_CONFIRMED | LEASE_EXTENDED | LEASE_ADOPTED => self.renewed(&read(line)?),
            LeaseSettled::KIND => self.settled(&read(line)?),
            kind if LEASE_ENDS.contains(&kind) => self.end(seq, kind, read(line)?),
            _ => Ok(()),
        };
        taken.map_err(wrong)
    }

    /// Checks what can only be judged at the end of the log.
    ///
    /// # Errors
    /// The run has ended, and one of its leases has not.
    pub(super) fn finish(&self) -> Result<(), Wrong> {
        let (Some(stopped), Some((id, lease))) = (self.stopped, self.open.first_key_value()) else {
            return Ok(());
        };
        Err(wrong(format!(
            "the run ended with record {stopped}, but no record ends lease {id}, made by record {}",
            lease.made
        )))
    }

    /// Starts a run. No lease outlives its process; records that were still queued when the process ended are lost.
    fn boot(&mut self) {
        self.former.extend(self.open.keys());
        self.waiting.clear();
        self.running.clear();
        self.stopped = None;
    }

    /// Checks that every lease of an earlier run has ended: the first records of a run must end them.
    fn former_have_ended(&self) -> Result<(), String> {
        match self.former.first() {
            None => Ok(()),
            Some(id) => Err(format!(
                "lease {id} of an earlier run has no record of its end before it"
            )),
        }
    }

    fn made(&mut self, seq: u64, made: LeaseMade) -> Result<(), String> {
        let LeaseMade {
            lease, before, after, ..
        } = made;
        let id = lease.id;
        if self.open.contains_key(&id) || self.ended.contains_key(&id) {
            return Err(format!("lease {id} was made before"));
        }
        let target = LeaseTarget::of(&lease.target);
        let mut others = 0;
        for other in self
            .open
            .values_mut()
            .filter(|other| other.target.overlaps(&target))
        {
            other.others += 1;
            others += 1;
        }
        let (before, after) = (digest(before.as_ref()), digest(after.as_ref()));
        self.tally.made += u64::from(self.counts);
        let standing = OpenLease {
            made: seq,
            target,
            before,
            after,
            others,
            counted: self.counts,
        };
        self.open.insert(id, standing);
        Ok(())
    }

    fn renewed(&self, renewed: &LeaseRenewed) -> Result<(), String> {
        let id = renewed.lease;
        if self.open.contains_key(&id) {
            return Ok(());
        }
        let Some(LeaseEnd { by, .. }) = self.ended.get(&id) else {
            return Err(unknown(id));
        };
        // The eval and the end ran concurrently, and the end was recorded first.
        if renewed
            .eval
            .is_some_and(|eval| eval < *by && self.running.contains(&eval))
        {
            return Ok(());
        }
        Err(format!("lease {id} had ended with record {by}"))
    }

    fn settled(&mut self, settled: &LeaseSettled) -> Result<(), String> {
        let id = settled.lease;
        if self.open.contains_key(&id) {
            return Err(format!("lease {id} has not ended, so there is nothing to settle"));
        }
        match self.ended.get_mut(&id) {
            None => Err(unknown(id)),
            Some(LeaseEnd {
                conflict: false, by, ..
            }) => Err(format!(
                "lease {id} ended with record {by}, and not as a conflict"
            )),
            Some(LeaseEnd { settled: true, .. }) => Err(format!("lease {id} was settled before")),
            Some(ended) => {
                ended.settled = true;
                Ok(())
            }
        }
    }

    fn end(&mut self, seq: u64, kind: &str, end: LeaseEnded) -> Result<(), String> {
        let id = end.lease;
        let Some(standing) = self.open.remove(&id) else {
            return Err(match self.ended.get(&id) {
                Some(LeaseEnd { by, .. }) => format!("lease {id} had ended with record {by}"),
                None => unknown(id),
            });
        };
        self.ended.insert(
            id,
            LeaseEnd {
                by: seq,
                conflict: kind == LEASE_CONFLICT,
                settled: false,
            },
        );
        self.tally.ended += u64::from(standing.counted);
        let stateless = matches!(standing.target, LeaseTarget::Other(_));
        self.tally.stateless += u64::from(standing.counted && stateless);
        let of_state = u64::from(standing.counted && !stateless);
        match (self.former.remove(&id), kind == LEASE_RESTART) {
            (true, true) => {
                self.tally.restarted += of_state;
                return Ok(());
            }
            (false, false) => {}
            (true, false) => return Err(format!("lease {id} is of an earlier run, whose end ended it")),
            (false, true) => return Err(format!("lease {id} is of this run, which goes on")),
        }
        if end
            .detail
            .as_ref()
            .and_then(|detail| detail.get("never_made"))
            .is_some()
        {
            self.tally.never_made += of_state;
            return Ok(());
        }
        self.undone(standing, end, kind == LEASE_CONFLICT, seq)
    }

    /// Judges the end of a lease, then judges again the ends that waited for one below them.
    fn undone(
        &mut self,
        standing: OpenLease,
        end: LeaseEnded,
        conflict: bool,
        by: u64,
    ) -> Result<(), String> {
        let mut verdict = if conflict {
            Verdict::Conflict
        } else {
            self.judge(&standing, &end)
        };
        let id = end.lease;
        if let Verdict::Wrong(why) = verdict {
            if !self.lies_on_another(id, &standing.target) {
                return Err(why);
            }
            self.waiting.insert(id, WaitingEnd { standing, end, by });
            return Ok(());
        }
        self.tally.ended_so(&standing, &end, &verdict);
        self.hand_down(&standing, &end);
        // The waiting ends, the lowest first: each hands its base on to the one above.
        for id in self.waiting.keys().copied().collect::<Vec<_>>() {
            let Some(WaitingEnd { standing, end, by }) = self.waiting.remove(&id) else {
                continue;
            };
            verdict = self.judge(&standing, &end);
            match verdict {
                Verdict::Wrong(_) if self.lies_on_another(id, &standing.target) => {
                    self.waiting.insert(id, WaitingEnd { standing, end, by });
                }
                Verdict::Wrong(why) => return Err(format!("of record {by}: {why}")),
                Verdict::PutBack | Verdict::Conflict | Verdict::Untold => {
                    self.tally.ended_so(&standing, &end, &verdict);
                    self.hand_down(&standing, &end);
                }
            }
        }
        Ok(())
    }

    /// Whether a lease below it has not ended, or has an end that is not explained yet.
    fn lies_on_another(&self, id: u64, target: &LeaseTarget) -> bool {
        let below = self.open.range(..id).map(|(_, lease)| lease);
        let waiting = self.waiting.range(..id).map(|(_, waiting)| &waiting.standing);
        below.chain(waiting).any(|lease| lease.target.overlaps(target))
    }

    /// The leases above one that stand, or that may have stood when it ended.
    fn above(&mut self, id: u64, target: &LeaseTarget) -> Vec<(u64, &mut OpenLease)> {
        let open = self.open.range_mut(id + 1..).map(|(id, lease)| (*id, lease));
        let waiting = self
            .waiting
            .range_mut(id + 1..)
            .map(|(id, waiting)| (*id, &mut waiting.standing));
        open.chain(waiting)
            .filter(|(_, lease)| lease.target.overlaps(target))
            .collect()
    }

    fn judge(&mut self, lease: &OpenLease, end: &LeaseEnded) -> Verdict {
        if matches!(lease.target, LeaseTarget::Other(_)) {
            return layers(lease, end);
        }
        match end.covered_by {
            Some(above) => self.judge_covered(above, lease, end),
            None => self.judge_top(lease, end),
        }
    }

    /// Judges the end of a lease below another: it changes nothing live, and the one above restores what it would have.
    fn judge_covered(&mut self, above: u64, lease: &OpenLease, end: &LeaseEnded) -> Verdict {
        let id = end.lease;
        let known = above > id && (self.open.contains_key(&above) || self.ended.contains_key(&above));
        if !known {
            return Verdict::Wrong(format!(
                "lease {id} is covered by lease {above}, which no record makes"
            ));
        }
        // The changed element had moved, so that a lease on another path covers it.
        if end.found.is_some() {
            return Verdict::Untold;
        }
        let found = self
            .above(id, &lease.target)
            .into_iter()
            .find(|(other, _)| *other == above);
        // `None`: the lease above has ended, and its end was judged.
        let Some((_, upper)) = found else {
            return Verdict::Untold;
        };
        if !upper.target.contains(&lease.target) {
            return Verdict::Wrong(format!(
                "lease {id} is covered by lease {above}, which changes another path"
            ));
        }
        let untouched = upper.target == lease.target && upper.before.is_some() && upper.before == lease.after;
        match (&lease.before, digest(end.base.as_ref())) {
            (Some(before), Some(base)) if untouched && *before == base => Verdict::PutBack,
            (Some(_), Some(_)) if untouched => Verdict::Wrong(format!(
                "lease {id} ended below lease {above}, which will not put back what stood there before lease {id}"
            )),
            _ => Verdict::Untold,
        }
    }

    fn judge_top(&mut self, lease: &OpenLease, end: &LeaseEnded) -> Verdict {
        let id = end.lease;
        let (Some(before), Some(restored)) = (&lease.before, digest(end.restored.as_ref())) else {
            return Verdict::Untold;
        };
        if end.foreign {
            return Verdict::Untold;
        }
        // The element had moved: other records of this path are about another element.
        if end.found.is_some() {
            return match before == &restored {
                true => Verdict::PutBack,
                false => Verdict::Untold,
            };
        }
        for (above, upper) in self.above(id, &lease.target) {
            if upper.target != lease.target {
                return Verdict::Untold;
            }
            // The lease above may have been made after this one was undone and before its end was recorded.
            if upper.before.as_ref().is_some_and(|stood| *stood != restored) {
                return Verdict::Wrong(format!(
                    "lease {id} ended as if nothing lay above it, where lease {above} stands"
                ));
            }
        }
        if *before == restored {
            return Verdict::PutBack;
        }
        Verdict::Wrong(format!(
            "lease {id} was to put back what stood there before it, and something else stands there (by digest)"
        ))
    }

    /// Updates what the leases above will restore, from the end of the one below.
    fn hand_down(&mut self, lease: &OpenLease, end: &LeaseEnded) {
        let found = end
            .found
            .as_ref()
            .map(|path| LeaseTarget::of(&format!("state:{path}")));
        if let (Some(found), Some(above)) = (&found, end.covered_by) {
            let (base, open) = (digest(end.base.as_ref()), self.open.get_mut(&above));
            if let Some(upper) = open.or_else(|| self.waiting.get_mut(&above).map(|w| &mut w.standing)) {
                let same = upper.target == *found;
                upper.before = base.filter(|_| same);
            }
        }
        let (covered_by, base) = (end.covered_by, digest(end.base.as_ref()));
        let is_covered = covered_by.is_some();
        for (id, upper) in self.above(end.lease, &lease.target) {
            let same = upper.target == lease.target;
            if Some(id) == covered_by {
                upper.before = base.clone().filter(|_| same);
            } else if !same && (!is_covered || Some(id) < covered_by) {
                upper.before = None;
            }
        }
    }
}

/// Checks that a point has no more layers left than there are leases that could be there.
fn layers(lease: &OpenLease, end: &LeaseEnded) -> Verdict {
    let left = end
        .restored
        .as_ref()
        .and_then(|restored| restored.get("layers"))
        .and_then(Value::as_u64);
    match left {
        Some(left) if left > lease.others => Verdict::Wrong(format!(
            "after lease {} {left} layers were left, and only {} could be there",
            end.lease, lease.others
        )),
        _ => Verdict::Untold,
    }
}

/// The digest of a value, or `absent` if the record says that there is none.
fn digest(value: Option<&Value>) -> Option<String> {
    if value?.get("absent").and_then(Value::as_bool) == Some(true) {
        return Some("absent".to_owned());
    }
    value?.get("hmac")?.as_str().map(str::to_owned)
}

fn unknown(id: u64) -> String {
    format!("no record before it makes lease {id}")
}

fn wrong(why: String) -> Wrong {
    Wrong {
        why: term::line(&why).into_owned(),
        help: HELP,
    }
}

fn read<T: DeserializeOwned>(line: &str) -> Result<T, Wrong> {
    serde_json::from_str(line).map_err(|error| wrong(format!("it is not of its kind: {error}")))
}
