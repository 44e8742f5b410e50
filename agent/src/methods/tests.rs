//! A panic while a session is served costs that session and is reported; the thread and the other work go on.

use std::sync::atomic::AtomicBool;

use debug_wire::messages::EvalParams;

use super::*;
use crate::core::planted;
use debug_base::threads::Next;

struct Set {
    core: Arc<Core>,
    _folder: tempfile::TempDir,
}

impl Set {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            core: Arc::new(gate::tests::core(&folder)),
            _folder: folder,
        }
    }

    fn session(&self) -> Arc<Session> {
        let who = debug_certs::Operator::new("test".parse().unwrap(), "alice", ["oncall"]).unwrap();
        let peer = "127.0.0.1:1".parse().unwrap();
        let outbox = Outbox::new(1 << 20);
        Arc::new(Session::new(
            self.core.next_session(),
            who,
            peer,
            Vec::new(),
            [0; 32],
            outbox,
            "development".into(),
        ))
    }

    /// Answers `hello` on this thread, as the reserved thread does.
    fn greet(&self, session: &Arc<Session>) {
        let params = json!({ "version": "0", "checkpoint": 0 });
        let call = Call {
            jsonrpc: debug_wire::messages::Version::V2,
            id: 1,
            method: debug_wire::table::MethodId::Hello,
            params,
        };
        let queue = Arc::new(Queue::default());
        Methods::new(self.core.clone(), queue.clone()).call(session, call);
        // No more messages come: without an answer to `hello` this loop ends.
        queue.stop();
        assert_eq!(queue.work_reserved(), Next::Turn);
    }

    /// Evaluates code without a signature, with everything that the eval thread does before and after it.
    fn evaluate(&self, session: &Arc<Session>) {
        let params: EvalParams = serde_json::from_value(json!({ "payload": "{}", "sig": "" })).unwrap();
        let submission = Submission::new(session, 2, params, 1, Arc::new(AtomicBool::new(false)));
        eval::evaluate(&self.core, submission);
    }

    #[track_caller]
    fn told(&self, what: &str) {
        assert!(planted::has_panicked(), "`{what}` was not come to");
        let sentence = self.core.faults.sentence().unwrap_or_default();
        assert!(sentence.contains(&format!("{what} (1 times)")), "{sentence}");
    }
}

#[test]
fn a_panic_in_a_greeting_closes_that_session_alone() {
    let set = Set::new();
    let (one, other) = (set.session(), set.session());
    planted::panic_in("an attaching");
    set.greet(&one);
    set.told("an attaching");
    assert!(one.outbox.closed().is_some() && !one.is_attached());
    set.greet(&other);
    assert!(
        set.core
            .faults
            .sentence()
            .unwrap()
            .ends_with("an attaching (1 times)"),
        "only once"
    );
}

#[test]
fn a_panic_in_what_ends_a_session_ends_nothing_else() {
    for begin in [Set::greet, Set::evaluate] {
        let set = Set::new();
        let session = set.session();
        planted::panic_in("the end of a session");
        begin(&set, &session);
        set.told("the end of a session");
        begin(&set, &set.session());
    }
}

#[test]
fn a_panic_in_the_search_for_what_is_overdue_costs_no_eval() {
    let set = Set::new();
    planted::panic_in("looking for what is overdue");
    set.evaluate(&set.session());
    set.told("looking for what is overdue");
}
