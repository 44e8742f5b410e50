//! Bodies of `debug_wire::records` become entries of the audit log. Values are recorded as keyed digests unless they may be read.

use debug_audit::Entry;
use debug_audit::kinds::LEASE_CONFLICT;
use debug_policy::{Decision, Request, Resource};
pub(crate) use debug_wire::records::EffectRecord;
use debug_wire::records::{ConflictRecord, EffectPart, LeaseEnded, LeaseSettled, Part, Record};
use serde::Serialize;
use serde_json::{Map, Value, json};

use debug_base::BootTime;
use debug_lease::Lease;

/// The longest text in one record, in bytes: with every byte escaped as `\u0000` the line still fits 65,535 bytes.
const PART: usize = 9_000;

/// A record with the two times of every record.
pub(crate) fn record<R: Record>(body: &R) -> Entry {
    entry(R::KIND, body)
}

/// A record that waits in memory while the disk is full or gone.
pub(crate) fn kept<R: Record>(body: &R) -> Entry {
    Entry {
        keep: true,
        ..record(body)
    }
}

/// A record whose kind does not follow from its body.
pub(crate) fn entry(kind: &'static str, body: &impl Serialize) -> Entry {
    let mut members = match serde_json::to_value(body) {
        Ok(Value::Object(members)) => members,
        // No body of a record is so; a record that says less is better than none.
        Ok(other) => Map::from_iter([("body".to_owned(), other)]),
        Err(error) => Map::from_iter([("body".to_owned(), error.to_string().into())]),
    };
    members.insert("time".to_owned(), wall_clock().into());
    members.insert("boot_ns".to_owned(), BootTime::now().0.into());
    Entry {
        kind,
        body: Value::Object(members).to_string(),
        keep: false,
        terminal: false,
    }
}

/// Marks the record of a planned effect, which did not happen.
pub(crate) fn planned(entry: Entry) -> Entry {
    let body = match serde_json::from_str::<Value>(&entry.body) {
        Ok(Value::Object(mut members)) => {
            members.insert("planned".to_owned(), true.into());
            Value::Object(members).to_string()
        }
        _ => entry.body.clone(),
    };
    Entry { body, ..entry }
}

/// The time in RFC 3339, UTC, with microseconds.
fn wall_clock() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

/// Splits a long text into parts for records of their own, which precede the record that it belongs to; `None` if the
/// text is short enough for the record itself.
pub(crate) fn parted(member: &str, text: &str) -> Option<Vec<Part>> {
    if text.len() <= PART {
        return None;
    }
    let part = |(part, text): (u64, &str)| Part {
        part,
        text: text.to_owned(),
        member: member.to_owned(),
    };
    Some((0..).zip(pieces(text)).map(part).collect())
}

/// The records of the parts of an effect's long member, and what the member itself holds then.
pub(crate) fn effect_parts(parts: Vec<Part>) -> (Vec<Entry>, Value) {
    let count = parts.len();
    let entries = parts.into_iter().map(|part| record(&EffectPart { part }));
    (entries.collect(), json!({ "parts": count }))
}

/// Splits a text at character boundaries.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut at = rest.len().min(PART);
        while !rest.is_char_boundary(at) {
            at -= 1;
        }
        let (piece, tail) = rest.split_at(at);
        pieces.push(piece);
        rest = tail;
    }
    pieces
}

/// The policy decisions, in the form that every record of an effect or method has. Consecutive requests that differ
/// only in the resource and have the same decision are grouped.
pub(crate) fn decisions(asked: &[(Request, Decision)], policy: &str) -> (Vec<Entry>, Value) {
    let allowed = asked
        .iter()
        .all(|(_, decision)| matches!(decision, Decision::Allow(_)));
    let mut groups: Vec<(Value, &Request, &Decision, Vec<&Resource>)> = Vec::new();
    for (request, decision) in asked {
        match groups.last_mut() {
            Some((_, first, answer, resources)) if *answer == decision && alike(first, request) => {
                resources.push(&request.resource);
            }
            _ => groups.push((json!(request), request, decision, vec![&request.resource])),
        }
    }
    let decisions: Vec<Value> = groups
        .into_iter()
        .map(|(mut request, _, decision, resources)| {
            if let Value::Object(members) = &mut request {
                members.remove("resource");
            }
            json!({ "request": request, "resources": resources, "decision": decision })
        })
        .collect();
    let mut gate = json!({ "policy": policy, "allowed": allowed });
    let text = Value::Array(decisions.clone()).to_string();
    if text.len() <= MAX_INLINE {
        gate["decisions"] = decisions.into();
        return (Vec::new(), gate);
    }
    let (parts, _) = effect_parts(parted("decisions", &text).unwrap_or_default());
    gate["parts"] = parts.len().into();
    (parts, gate)
}

/// The decision for the end of an operator's own change, which policy does not decide about.
pub(crate) fn own(lease: u64, policy: &str) -> Value {
    json!({ "policy": policy, "allowed": true, "own": lease })
}

/// The longest member in the record itself, in bytes; a longer one is split into parts.
pub(crate) const MAX_INLINE: usize = PART;

/// Whether two requests differ only in the resource.
fn alike(one: &Request, other: &Request) -> bool {
    let Request {
        action,
        resource: _,
        operator,
        roles,
        environment,
        mode,
        ttl,
        life,
        reason,
    } = one;
    *action == other.action
        && *operator == other.operator
        && *roles == other.roles
        && *environment == other.environment
        && *mode == other.mode
        && *ttl == other.ttl
        && *life == other.life
        && *reason == other.reason
}

/// The outcome of a revert, for its record.
#[derive(Default)]
pub(crate) struct EndReport {
    /// Why a part of the change was kept.
    pub(crate) conflict: Option<String>,
    /// The lease above that covers the change.
    pub(crate) covered_by: Option<u64>,
    /// Keyed digest and length of the value there now.
    pub(crate) restored: Value,
    /// The same of the value that the end of the lease above will restore.
    pub(crate) base: Value,
    /// Whether the service wrote there in between; its value was kept.
    pub(crate) foreign: bool,
    /// Where the changed element was found, if not at the target.
    pub(crate) found: Option<String>,
    /// What was compared to find it.
    pub(crate) compared: &'static [&'static str],
}

/// The terminal record of a lease.
pub(crate) fn lease_ended(
    kind: &'static str,
    lease: &Lease,
    by: &str,
    told: &EndReport,
    detail: Value,
) -> Entry {
    let conflict = told.conflict.as_ref().map(|why| ConflictRecord {
        why: why.clone(),
        ended_as: kind.to_owned(),
    });
    let kind = if conflict.is_some() { LEASE_CONFLICT } else { kind };
    let body = LeaseEnded {
        lease: lease.id,
        target: lease.target().to_string(),
        owner: lease.owner.clone(),
        session: Some(lease.session),
        by: by.to_owned(),
        conflict,
        covered_by: told.covered_by,
        restored: Some(told.restored.clone()),
        base: Some(told.base.clone()),
        foreign: told.foreign,
        found: told.found.clone(),
        compared: told.compared.iter().map(|what| (*what).to_owned()).collect(),
        detail: Some(detail),
    };
    Entry {
        terminal: true,
        keep: true,
        ..entry(kind, &body)
    }
}

/// The record of a settled conflict. It is not terminal: the lease had ended before.
pub(crate) fn lease_settled(lease: &Lease, by: &str, how: &str, restored: &Value, detail: Value) -> Entry {
    kept(&LeaseSettled {
        lease: lease.id,
        target: lease.target().to_string(),
        owner: lease.owner.clone(),
        by: by.to_owned(),
        how: how.to_owned(),
        restored: Some(restored.clone()),
        detail: Some(detail),
    })
}
