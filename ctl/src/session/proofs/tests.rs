use std::collections::BTreeMap;

use debug_audit::SigningKey;
use serde_json::json;

use super::*;

const NAME: &str = "example.internal/dienstplan/1";
const ID: &str = "spiffe://example.internal/agent/dienstplan/1";

fn proofs(log: &str) -> Proofs {
    let dir = tempfile::tempdir().unwrap();
    let key = SigningKey::generate(NAME).unwrap();
    let pin = Pin::new(ID, &key.verifier().to_string()).unwrap();
    let store = TrustStore::at(dir.path().join("state"));
    Proofs::new(store, pin, format!("{NAME}/{log}"))
}

fn params(code: &str) -> EvalParams {
    let payload = json!({ "code": code }).to_string();
    EvalParams {
        payload,
        sig: String::new(),
        secrets: BTreeMap::new(),
    }
}

fn at(eval: u64) -> Option<AuditRange> {
    Some(AuditRange {
        eval,
        first: eval,
        last: eval,
        checkpoint: String::new(),
    })
}

#[track_caller]
fn open(proofs: &Proofs, messages: &[&str]) {
    let failure = proofs.complete(Some("it was cut")).unwrap_err();
    for message in messages {
        assert!(failure.message.contains(message), "{}", failure.message);
    }
}

#[test]
fn what_is_left_to_prove_is_counted() {
    let mut proofs = proofs("00");
    proofs.answered(params("leases()"), None);
    proofs.failed(params("1"), Code::Denied, None);
    assert_eq!(proofs.complete(None), Ok(()));
    proofs.answered(params("1"), at(1));
    open(
        &proofs,
        &["(it was cut) before the agent proved that the last eval is in its log"],
    );
    proofs.failed(params("1"), Code::Denied, at(2));
    proofs.failed(params("1"), Code::Eval, None);
    open(
        &proofs,
        &["proved that 2 evals are in its log; the agent did not say where in its log an eval is"],
    );
}

#[test]
fn the_next_session_takes_over_what_the_lost_one_has_not_seen_proven() {
    let (mut lost, mut same, mut other) = (proofs("00"), proofs("00"), proofs("01"));
    for eval in [1, 2] {
        lost.answered(params("1"), at(eval));
    }
    lost.answered(params("1"), None);
    same.answered(params("2"), at(3));
    same.take_over(lost);
    let order: Vec<u64> = same.unseen.iter().map(|sent| sent.audit.eval).collect();
    assert_eq!(order, [1, 2, 3]);
    open(&same, &["3 evals are", "where in its log an eval is"]);

    // Another log cannot prove them, so the agent is not asked and they stay open.
    other.take_over(same);
    assert!(other.unseen.is_empty());
    open(&other, &["3 evals are", "where in its log an eval is"]);
}
