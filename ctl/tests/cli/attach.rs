//! `debugctl attach` without a terminal.

use debug_wire::messages::After;

use crate::world::World;

#[test]
fn submissions_of_a_pipe_run_one_after_the_other_without_prompts() {
    let world = World::new();
    let ended = world.run_with(&["attach", "TARGET"], "1\nf(\n  2\n)\n\nconfig.db.host\n");
    ended.check(
        0,
        "1\nf(\n  2\n)\nconfig.db.host\n",
        "attached to dienstplan, instance 1, environment production (agent 0.1.0) as alice with the roles oncall",
    );
    let seen = world.agent.seen.lock().unwrap();
    assert_eq!(seen.payloads.len(), 3);
    assert!(
        seen.payloads
            .iter()
            .all(|payload| payload.after == Some(After::Revert))
    );
}

#[test]
fn commands_work_in_a_pipe_and_failures_do_not_stop_it_where_that_was_said() {
    let world = World::new();
    let script = ":change INC-42\npatch()\n:leases\ndeny\n:nosuch\n:revert 1\n:leases\n:quit\nnot_run()\n";
    let ended = world.run_with(&["attach", "TARGET", "--keep-going"], script);
    let stdout = "\
mode change
lease 1: patched, reverts in 5m unless confirmed
id  target                      owner  state        reverts in  reason
1   point:GET /api/healthcheck  alice  provisional  5m          INC-42
lease 1: reverted
";
    ended.check(3, stdout, "error: denied: patch");
    ended.check(3, stdout, "error: there is no command `:nosuch`");
    ended.check(3, stdout, "no leases");
    ended.check(
        3,
        stdout,
        "error: not all submissions succeeded; the first failure was: denied",
    );
}

/// Any kind of failure counts: the following lines may depend on the failed one.
#[test]
fn the_first_failure_ends_a_pipe_with_its_exit_code() {
    for (failing, code, error) in [
        ("deny", 3, "error: denied: patch"),
        ("approve", 4, "error: needs 1 approval"),
        ("throw", 1, "error: line 1: thrown"),
        (":nosuch", 2, "error: there is no command `:nosuch`"),
        (":revert x", 2, "error: expected `:revert ID`"),
        (":watch x", 2, "error: there is no command `:watch`"),
    ] {
        let world = World::new();
        let script = format!(":change INC-42\nf(\n1)\n{failing}\npatch()\n");
        let ended = world.run_with(&["attach", "TARGET"], &script);
        ended.check(code, "mode change\nf(\n1)\n", error);
        ended.check(
            code,
            "mode change\nf(\n1)\n",
            "stopped at the submission in line 4: nothing below it was run",
        );
        assert_eq!(ended.stderr.matches("error: ").count(), 1, "{}", ended.stderr);
        assert!(world.agent.seen.lock().unwrap().leases.is_empty(), "{failing}");
    }
}

#[test]
fn what_a_pipe_changed_before_its_failure_is_told() {
    let world = World::new();
    let args = ["attach", "TARGET", "--change", "--reason", "INC-42"];
    let ended = world.run_with(&args, "patch()\ndeny\n1\n");
    let stdout = "mode change\nlease 1: patched, reverts in 5m unless confirmed\n";
    ended.check(
        3,
        stdout,
        "in force: lease 1; leases that were not confirmed revert 60 s after the session",
    );
}

#[test]
fn words_with_which_people_leave_other_programs_leave_this_one() {
    for word in ["exit", "quit()", "q;", ":q", ":exit", ":quit"] {
        let world = World::new();
        let ended = world.run_with(&["attach", "TARGET"], &format!("1\n{word}\n2\n"));
        ended.check(0, "1\n", "");
        assert!(!ended.stderr.contains("error"), "{word}: {}", ended.stderr);
    }
    // Here `q` is a name that the service knows.
    World::new()
        .run_with(&["attach", "TARGET"], "q\n2\n")
        .check(0, "q\n2\n", "");
}

#[test]
fn leaving_with_changes_in_force_tells_what_becomes_of_them() {
    let world = World::new();
    let args = ["attach", "TARGET", "--change", "--reason", "INC-42"];
    let ended = world.run_with(&args, "patch()\n");
    ended.check(
        0,
        "mode change\nlease 1: patched, reverts in 5m unless confirmed\n",
        "in force: lease 1; leases that were not confirmed revert 60 s after the session, unless you attach again",
    );
}

#[test]
fn a_lost_connection_ends_a_pipe_with_exit_5() {
    let world = World::new();
    world
        .run_with(&["attach", "TARGET"], "1\nvanish\n2\n")
        .check(5, "1\n", "error: the connection was lost");
}

#[test]
fn an_agent_that_hides_a_record_ends_the_session() {
    let world = World::new();
    world.lies.lock().unwrap().no_proof = true;
    let ended = world.run_with(&["attach", "TARGET"], "1\n2\n");
    ended.check(6, "1\n", "error: the agent gives no proof");
    assert_eq!(world.agent.seen.lock().unwrap().payloads.len(), 1);
}

#[test]
fn what_was_never_proven_is_told_at_the_end_and_is_exit_6() {
    let world = World::new();
    world.lies.lock().unwrap().cut = true;
    let ended = world.run_with(&["attach", "TARGET"], "1\n2\n");
    ended.check(
        6,
        "1\n",
        "error: the connection was lost: the agent vanished without a goodbye\n",
    );
    ended.check(
        6,
        "1\n",
        "before the agent proved that the last eval is in its log",
    );

    *world.lies.lock().unwrap() = crate::agent::Lies {
        unrecorded: true,
        ..Default::default()
    };
    let ended = world.run_with(&["attach", "TARGET", "--keep-going"], "1\nleases()\ndeny\n2\n");
    ended.check(
        6,
        "1\n[..]\n2\n",
        "error: the agent did not say where in its log 2 evals are\n",
    );
    world
        .run_with(&["attach", "TARGET"], "leases()\n")
        .check(0, "[..]\n", "not yet on disk");
}
