use serde_json::{Value, json};

use super::*;

/// The digest of a value, as these tests write it.
fn hmac(value: &str) -> Value {
    if value.is_empty() {
        Value::Null
    } else {
        json!({ "hmac": value, "bytes": value.len() })
    }
}

/// `kind` and the members of its record.
type Record = (&'static str, Value);

fn boot() -> Record {
    ("boot", json!({}))
}

fn shutdown() -> Record {
    ("shutdown", json!({}))
}

/// A lease that writes `after` where `before` stood.
fn made(id: u64, path: &str, before: &str, after: &str) -> Record {
    let lease = json!({ "id": id, "target": format!("state:{path}") });
    (
        "lease.made",
        json!({ "lease": lease, "before": hmac(before), "after": hmac(after) }),
    )
}

fn patched(id: u64, point: &str) -> Record {
    let lease = json!({ "id": id, "target": format!("point:{point}") });
    (
        "lease.made",
        json!({ "lease": lease, "before": { "layers": 0 }, "after": null }),
    )
}

/// The end of a lease, after which `restored` stands there.
fn ended(kind: &'static str, id: u64, restored: &str) -> Record {
    let body = json!({ "lease": id, "covered_by": null, "restored": hmac(restored), "base": null,
        "foreign": false, "conflict": null, "detail": null });
    (kind, body)
}

/// Like [`ended`], below another lease.
fn covered(id: u64, above: u64, base: &str) -> Record {
    let body = json!({ "lease": id, "covered_by": above, "restored": hmac("whatever"), "base": hmac(base) });
    ("lease.expired", body)
}

fn about(kind: &'static str, id: u64) -> Record {
    (kind, json!({ "lease": id, "eval": 0 }))
}

fn with(record: Record, name: &str, value: Value) -> Record {
    let (kind, mut body) = record;
    body[name] = value;
    (kind, body)
}

/// Checks records, numbered from 0, up to the first that fails.
fn verdict(records: &[Record]) -> Result<Tally, String> {
    let mut leases = LeaseCheck {
        counts: true,
        ..LeaseCheck::default()
    };
    for (seq, (kind, body)) in (0..).zip(records) {
        let taken = leases.take(seq, kind, &body.to_string());
        taken.map_err(|Wrong { why, .. }| format!("record {seq}: {why}"))?;
    }
    leases.finish().map_err(|Wrong { why, .. }| why)?;
    Ok(leases.tally)
}

#[track_caller]
fn holds(records: &[Record], made: u64, ended: u64, put_back: u64) {
    let told = verdict(records).map(|tally| (tally.made, tally.ended, tally.put_back));
    assert_eq!(told, Ok((made, ended, put_back)));
}

#[track_caller]
fn fails(records: &[Record], why: &str) {
    assert_eq!(verdict(records), Err(why.to_owned()));
}

#[test]
fn each_way_to_end_is_one() {
    for kind in LEASE_ENDS
        .into_iter()
        .filter(|kind| ![LEASE_RESTART, LEASE_CONFLICT].contains(kind))
    {
        holds(
            &[boot(), made(1, "a", "x", "y"), ended(kind, 1, "x"), shutdown()],
            1,
            1,
            1,
        );
    }
}

#[test]
fn a_lease_ends_once_and_after_it_was_made() {
    let one = [boot(), made(1, "a", "x", "y"), ended("lease.reverted", 1, "x")];
    let and = |more: &[Record]| [one.as_slice(), more].concat();
    fails(
        &and(&[ended("lease.expired", 1, "x")]),
        "record 3: lease 1 had ended with record 2",
    );
    fails(
        &and(&[ended("lease.expired", 2, "x")]),
        "record 3: no record before it makes lease 2",
    );
    fails(
        &and(&[made(1, "a", "x", "y")]),
        "record 3: lease 1 was made before",
    );
    fails(
        &[ended("lease.expired", 1, "x"), made(1, "a", "x", "y")],
        "record 0: no record before it makes lease 1",
    );
}

#[test]
fn a_lease_without_an_end_is_of_a_run_that_goes_on() {
    let open = [
        boot(),
        made(1, "a", "x", "y"),
        made(2, "b", "x", "y"),
        ended("lease.reverted", 1, "x"),
    ];
    holds(&open, 2, 1, 1);
    let and = |more: &[Record]| [open.as_slice(), more].concat();
    fails(
        &and(&[shutdown()]),
        "the run ended with record 4, but no record ends lease 2, made by record 2",
    );
    // What the agent failed to undo before it stopped, the next start ends.
    holds(
        &and(&[
            shutdown(),
            boot(),
            ended("lease.restart", 2, ""),
            ("armed", json!({})),
        ]),
        2,
        2,
        1,
    );
    holds(&and(&[boot()]), 2, 1, 1);
    // A start that died before it could end the lease leaves that to the next start.
    holds(&and(&[boot(), boot(), ended("lease.restart", 2, "")]), 2, 2, 1);
    for next in [
        ("armed", json!({})),
        ("session.open", json!({})),
        shutdown(),
        made(3, "c", "x", "y"),
    ] {
        fails(
            &and(&[boot(), next]),
            "record 5: lease 2 of an earlier run has no record of its end before it",
        );
    }
    fails(
        &and(&[boot(), ended("lease.expired", 2, "x")]),
        "record 5: lease 2 is of an earlier run, whose end ended it",
    );
    fails(
        &and(&[ended("lease.restart", 2, "")]),
        "record 4: lease 2 is of this run, which goes on",
    );
}

#[test]
fn renewals_stand_between_the_making_and_the_end() {
    let made = made(1, "a", "x", "y");
    let end = ended("lease.reverted", 1, "x");
    for kind in ["lease.confirmed", "lease.extended", "lease.adopted"] {
        holds(
            &[boot(), made.clone(), about(kind, 1), about(kind, 1), end.clone()],
            1,
            1,
            1,
        );
        fails(
            &[boot(), about(kind, 1)],
            "record 1: no record before it makes lease 1",
        );
        let late = [boot(), made.clone(), end.clone(), about(kind, 1)];
        fails(&late, "record 3: lease 1 had ended with record 2");
        // The eval ran while another session ended the lease.
        let eval = |seq: u64| with(about(kind, 1), "eval", seq.into());
        let at_once = [boot(), made.clone(), ("eval", json!({})), end.clone(), eval(2)];
        holds(&at_once, 1, 1, 1);
        let over = [
            boot(),
            made.clone(),
            ("eval", json!({})),
            ("outcome", json!({ "eval": 2 })),
            end.clone(),
        ];
        fails(
            &[over.as_slice(), &[eval(2)]].concat(),
            "record 5: lease 1 had ended with record 4",
        );
        let later = [boot(), made.clone(), end.clone(), ("eval", json!({})), eval(3)];
        fails(&later, "record 4: lease 1 had ended with record 2");
    }
}

#[test]
fn a_conflict_is_settled_once_and_nothing_else_is() {
    let conflict = [boot(), made(1, "a", "x", "y"), ended("lease.conflict", 1, "z")];
    let settled = about("lease.settled", 1);
    holds(&conflict, 1, 1, 0);
    let once = [conflict.as_slice(), std::slice::from_ref(&settled)].concat();
    holds(&once, 1, 1, 0);
    let twice = [once.as_slice(), std::slice::from_ref(&settled)].concat();
    fails(&twice, "record 4: lease 1 was settled before");
    fails(
        &[boot(), settled.clone()],
        "record 1: no record before it makes lease 1",
    );
    fails(
        &[boot(), made(1, "a", "x", "y"), settled.clone()],
        "record 2: lease 1 has not ended, so there is nothing to settle",
    );
    fails(
        &[
            boot(),
            made(1, "a", "x", "y"),
            ended("lease.expired", 1, "x"),
            settled,
        ],
        "record 3: lease 1 ended with record 2, and not as a conflict",
    );
}

const NOT_BACK: &str =
    "was to put back what stood there before it, and something else stands there (by digest)";

#[test]
fn what_stood_before_stands_there_again() {
    let lease = made(1, "a", "x", "y");
    fails(
        &[boot(), lease.clone(), ended("lease.expired", 1, "y")],
        &format!("record 2: lease 1 {NOT_BACK}"),
    );
    // The service wrote in between, or the value was unreadable, or the log is of a version without digests.
    let foreign = with(ended("lease.expired", 1, "z"), "foreign", true.into());
    holds(&[boot(), lease.clone(), foreign], 1, 1, 0);
    holds(&[boot(), lease.clone(), ended("lease.expired", 1, "")], 1, 1, 0);
    holds(
        &[
            boot(),
            made(1, "a", "", ""),
            ("lease.expired", json!({ "lease": 1 })),
        ],
        1,
        1,
        0,
    );
    let never_made = with(
        ended("lease.undone", 1, ""),
        "detail",
        json!({ "never_made": "busy" }),
    );
    holds(&[boot(), lease.clone(), never_made], 1, 1, 0);
    // Leases on other paths do not matter.
    let beside = [
        boot(),
        lease.clone(),
        made(2, "b.c", "x", "y"),
        ended("lease.expired", 1, "y"),
    ];
    fails(&beside, &format!("record 3: lease 1 {NOT_BACK}"));
}

/// T80: a stack of three, in every order.
#[test]
fn a_stack_hands_its_base_up_in_whatever_order_it_ends() {
    let stack = [
        boot(),
        made(1, "a", "0", "1"),
        made(2, "a", "1", "2"),
        made(3, "a", "2", "3"),
    ];
    let top = |id, restored| ended("lease.reverted", id, restored);
    for ends in [
        [top(3, "2"), top(2, "1"), top(1, "0")],
        [top(3, "2"), covered(1, 2, "0"), top(2, "0")],
        [covered(2, 3, "1"), top(3, "1"), top(1, "0")],
        [covered(2, 3, "1"), covered(1, 3, "0"), top(3, "0")],
        [covered(1, 2, "0"), top(3, "2"), top(2, "0")],
        [covered(1, 2, "0"), covered(2, 3, "0"), top(3, "0")],
    ] {
        holds(&[stack.as_slice(), &ends].concat(), 3, 3, 3);
    }
    let ends = |ends: &[Record]| [stack.as_slice(), ends].concat();
    fails(
        &ends(&[covered(1, 2, "1")]),
        "record 4: lease 1 ended below lease 2, which will not put back what stood there before lease 1",
    );
    fails(
        &ends(&[covered(1, 2, "0"), top(3, "2"), top(2, "1")]),
        &format!("record 6: lease 2 {NOT_BACK}"),
    );
    fails(
        &ends(&[top(1, "0")]),
        "record 4: lease 1 ended as if nothing lay above it, where lease 2 stands",
    );
    fails(
        &ends(&[covered(1, 7, "0")]),
        "record 4: lease 1 is covered by lease 7, which no record makes",
    );
}

/// Two threads end two layers: the first to be undone may be the last to be recorded.
#[test]
fn ends_that_are_written_in_another_order_than_they_happened_are_understood() {
    let stack = [
        boot(),
        made(1, "a", "0", "1"),
        made(2, "a", "1", "2"),
        made(3, "a", "2", "3"),
    ];
    let top = ended("lease.reverted", 3, "0");
    let ends = [top.clone(), covered(2, 3, "0"), covered(1, 2, "0")];
    holds(&[stack.as_slice(), &ends].concat(), 3, 3, 3);
    // Until the others have ended, the order is unknown.
    holds(&[stack.as_slice(), std::slice::from_ref(&top)].concat(), 3, 1, 0);
    // They were not undone before it.
    let apart = [
        top,
        ended("lease.expired", 2, "1"),
        ended("lease.expired", 1, "0"),
    ];
    let why = "record 6: lease 1 ended as if nothing lay above it, where lease 2 stands";
    fails(&[stack.as_slice(), &apart].concat(), why);
    let other = [ended("lease.reverted", 2, "9"), covered(1, 2, "0")];
    let why = format!("record 4: of record 3: lease 2 {NOT_BACK}");
    fails(&[&stack[..3], &other].concat(), &why);
    // A new lease was made where one had just been undone.
    let at_once = [
        boot(),
        made(1, "a", "0", "1"),
        made(2, "a", "0", "2"),
        ended("lease.expired", 1, "0"),
        ended("lease.expired", 2, "0"),
    ];
    holds(&at_once, 2, 2, 2);
}

#[test]
fn where_the_service_wrote_between_two_layers_the_base_is_believed() {
    let stack = [boot(), made(1, "a", "0", "1"), made(2, "a", "1 and more", "2")];
    let ends = [
        covered(1, 2, "0 and more"),
        ended("lease.expired", 2, "0 and more"),
    ];
    holds(&[stack.as_slice(), &ends].concat(), 2, 2, 1);
    let ends = [
        covered(1, 2, "0 and more"),
        ended("lease.expired", 2, "1 and more"),
    ];
    fails(
        &[stack.as_slice(), &ends].concat(),
        &format!("record 4: lease 2 {NOT_BACK}"),
    );
}

#[test]
fn where_paths_overlap_only_what_can_be_told_is_judged() {
    let (outer, inner) = (made(1, "a", "0", "1"), made(2, "a.b", "b1", "b2"));
    // The inner lease was made last and ends first: the digests tell both.
    let nested = [boot(), outer.clone(), inner.clone()];
    let and = |more: &[Record]| [nested.as_slice(), more].concat();
    holds(
        &and(&[ended("lease.expired", 2, "b1"), ended("lease.expired", 1, "0")]),
        2,
        2,
        2,
    );
    // The outer one may have been undone first.
    holds(
        &and(&[ended("lease.expired", 2, "b0"), ended("lease.expired", 1, "0")]),
        2,
        2,
        0,
    );
    // The outer one ends below: only the agent knows what is in the inner one's place then.
    holds(
        &and(&[ended("lease.expired", 1, "?"), ended("lease.expired", 2, "b0")]),
        2,
        2,
        0,
    );
    // The other way round: the outer one covers the inner one.
    let other = [boot(), made(1, "a.b", "b0", "b1"), made(2, "a", "1", "2")];
    let and = |more: &[Record]| [other.as_slice(), more].concat();
    holds(
        &and(&[covered(1, 2, "b0"), ended("lease.expired", 2, "?")]),
        2,
        2,
        0,
    );
    holds(
        &and(&[ended("lease.expired", 2, "1"), ended("lease.expired", 1, "b0")]),
        2,
        2,
        2,
    );
    let wrong = [boot(), outer, inner, covered(1, 2, "0")];
    fails(
        &wrong,
        "record 3: lease 1 is covered by lease 2, which changes another path",
    );
}

#[test]
fn a_point_has_no_more_layers_left_than_leases() {
    let end = |id, layers: u64| {
        let end = ended("lease.expired", id, "");
        with(end, "restored", json!({ "layers": layers }))
    };
    holds(&[boot(), patched(1, "GET /a"), end(1, 0)], 1, 1, 0);
    holds(
        &[
            boot(),
            patched(1, "GET /a"),
            patched(2, "GET /a"),
            end(1, 1),
            end(2, 0),
        ],
        2,
        2,
        0,
    );
    fails(
        &[boot(), patched(1, "GET /a"), patched(2, "GET /b"), end(1, 1)],
        "record 3: after lease 1 1 layers were left, and only 0 could be there",
    );
}

#[test]
fn what_follows_the_checkpoint_is_checked_but_not_counted() {
    let mut leases = LeaseCheck::default();
    for (seq, (kind, body)) in (0..).zip([boot(), made(1, "a", "x", "y"), ended("lease.expired", 1, "x")]) {
        assert!(leases.take(seq, kind, &body.to_string()).is_ok());
    }
    assert_eq!(leases.tally, Tally::default());
    let (kind, body) = ended("lease.expired", 1, "x");
    assert!(leases.take(3, kind, &body.to_string()).is_err());
}

#[test]
fn the_report_is_in_words() {
    let text = |made, ended, put_back| {
        Tally {
            made,
            ended,
            put_back,
            ..Tally::default()
        }
        .text()
    };
    assert_eq!(text(0, 0, 0), "no leases");
    let one = "1 lease, ended exactly once; 1 put back what stood there before (checked by digest)";
    assert_eq!(text(1, 1, 1), one);
    let all = "3 leases, all ended exactly once; 2 put back what stood there before (checked by digest)";
    assert_eq!(text(3, 3, 2), format!("{all}, 1 of which digests tell nothing"));
    let patches = Tally {
        made: 3,
        ended: 3,
        put_back: 2,
        stateless: 1,
        ..Tally::default()
    }
    .text();
    assert_eq!(patches, format!("{all}, 1 changed no state"));
    assert!(text(3, 2, 1).starts_with("3 leases, 1 not ended yet, the others exactly once; 1 put back"));
    assert!(text(1, 0, 0).starts_with("1 lease, none ended yet; 0 put back"));
}

/// Each end is counted once, so that the counts add up to the number of ended leases.
#[test]
fn the_counts_of_the_report_add_up() {
    let told = |records: &[Record], ends: &str| {
        let tally = verdict(records).unwrap();
        let text = tally.text();
        let (_, seen) = text.split_once("(checked by digest)").unwrap();
        assert_eq!(seen, ends, "{text}");
        // After the first `;` each number counts ended leases.
        let counts = text.split_once("; ").unwrap().1.split(", ");
        let counts = counts.map(|part| part.split(' ').next().unwrap().parse::<u64>().unwrap());
        assert_eq!(counts.sum::<u64>(), tally.ended, "{text}");
    };
    let (one, two) = (made(1, "a", "x", "y"), made(2, "b", "x", "y"));
    told(&[boot(), one.clone(), ended("lease.expired", 1, "x")], "");
    let never = with(
        ended("lease.undone", 2, ""),
        "detail",
        json!({ "never_made": "busy" }),
    );
    told(&[boot(), one.clone(), two, never], ", 1 never came into force");
    told(
        &[boot(), one.clone(), ended(LEASE_CONFLICT, 1, "z")],
        ", 1 ended as a conflict",
    );
    told(
        &[boot(), one.clone(), boot(), ended(LEASE_RESTART, 1, "")],
        ", 1 ended with the process",
    );
    told(
        &[boot(), patched(1, "GET /a"), boot(), ended(LEASE_RESTART, 1, "")],
        ", 1 changed no state",
    );
    told(
        &[boot(), patched(1, "GET /a"), ended(LEASE_CONFLICT, 1, "")],
        ", 1 changed no state",
    );
    let foreign = with(ended("lease.expired", 1, "z"), "foreign", true.into());
    told(&[boot(), one, foreign], ", 1 of which digests tell nothing");
    let below = [
        boot(),
        made(1, "a", "0", "1"),
        made(2, "a", "1 and more", "2"),
        covered(1, 2, "0"),
    ];
    told(&below, ", 1 ended below another change");
    let both = [below.as_slice(), &[ended("lease.expired", 2, "0")]].concat();
    told(&both, ", 1 ended below another change");
    let wide = [
        boot(),
        made(1, "a.b", "b0", "b1"),
        made(2, "a", "1", "2"),
        covered(1, 2, "b0"),
    ];
    told(
        &[wide.as_slice(), &[ended("lease.expired", 2, "?")]].concat(),
        ", 1 ended below another change, 1 of which digests tell nothing",
    );
}

#[test]
fn a_record_that_cannot_be_read_is_named() {
    fails(
        &[("lease.made", json!({}))],
        "record 0: it is not of its kind: missing field `lease` at line 1 column 2",
    );
}
