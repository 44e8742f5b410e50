//! `debugctl eval` and the commands that are one eval.

use debug_wire::messages::After;
use serde_json::{Value, json};

use crate::agent::until;
use crate::world::{Ended, World, write};

#[test]
fn a_value_goes_to_stdout_and_nothing_else() {
    let world = World::new();
    let ended = world.eval("config.db.host");
    ended.check(0, "config.db.host\n", "");
    assert_eq!(ended.stderr, "");
    world
        .run_with(&["eval", "TARGET", "-"], "1 +\n2")
        .check(0, "1 +\n2\n", "");
    write(&world.path("code.rhai"), "from_file()");
    let file = world.path("code.rhai").display().to_string();
    world
        .run(&["eval", "TARGET", "--file", &file])
        .check(0, "from_file()\n", "");
}

#[test]
fn failures_have_the_promised_exit_codes() {
    let world = World::new();
    world.eval("throw").check(1, "", "error: line 1: thrown");
    world.eval("deny").check(3, "", "help: ask for something else");
    world
        .eval("approve")
        .check(4, "", "error: needs 1 approval by lead");
    world
        .run(&["eval", "TARGET", "1", "--change", "--reason", "x"])
        .check(2, "", "`--persist` or `--hold`");
    // A file is one submission: a failure in it ends all of it.
    write(&world.path("failing.rhai"), "throw");
    let file = world.path("failing.rhai").display().to_string();
    world
        .run(&["eval", "TARGET", "--file", &file])
        .check(1, "", "error: line 1: thrown");
    world
        .run(&["eval", "TARGET", "--file", "nosuch.rhai"])
        .check(2, "", "cannot use `nosuch.rhai`");
}

/// Output piped into a program that has stopped reading is no failure worth a message.
#[test]
fn a_closed_pipe_is_quiet_and_a_full_disk_is_not() {
    let world = World::new();
    world.agent.seen.lock().unwrap().leases = vec![1];
    for args in [
        &["eval", "TARGET", "print"][..],
        &["leases", "TARGET"],
        &["eval", "TARGET", "1", "--json"],
    ] {
        let ended = world.run_unread(args);
        ended.check(141, "", "");
        assert_eq!(ended.stderr, "", "{args:?}");
    }
    // The failed eval outweighs the closed stdout.
    world
        .run_unread(&["eval", "TARGET", "deny", "--json"])
        .check(3, "", "error: denied");
    world.lies.lock().unwrap().no_proof = true;
    world
        .run_unread(&["revert", "TARGET", "1"])
        .check(6, "", "error: the agent gives no proof");
    world.lies.lock().unwrap().no_proof = false;

    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let child = world
        .command(&["eval", "TARGET", "1"])
        .stdout(full)
        .spawn()
        .unwrap();
    Ended::of(child).check(2, "", "error: cannot write to stdout: No space left on device");
}

#[test]
fn json_is_one_object_with_the_promised_members() {
    let world = World::new();
    let ended = world.run(&["eval", "TARGET", "print", "--json"]);
    ended.check(0, &ended.stdout, "");
    let mut value: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert!(
        value["audit"]["checkpoint"]
            .as_str()
            .unwrap()
            .starts_with("example.internal/dienstplan/1/")
    );
    value["audit"]["checkpoint"] = json!("…");
    let expected = json!({
        "value": 2, "display": "2", "output": "one\n\u{1b}]0;two\u{7}\n", "leases": [],
        "audit": { "eval": 2, "first": 2, "last": 3, "checkpoint": "…" },
    });
    assert_eq!(value, expected);
    assert_eq!(ended.stdout.lines().count(), 1);

    let failed = world.run(&["eval", "TARGET", "deny", "--json"]);
    let expected = concat!(
        r#"{"error":{"code":"denied","message":"denied: patch point:GET /api/healthcheck","#,
        r#""help":"ask for something else"}}"#,
        "\n"
    );
    failed.check(3, expected, "error: denied");
}

/// T46.
#[test]
fn what_an_agent_sends_cannot_act_on_the_terminal() {
    let world = World::new();
    world
        .eval("hostile")
        .check(0, "\\u{1b}[2J\\u{9b}1A\\u{202e}gone\\u{d}\n", "");
    world.eval("print").check(0, "one\n\\u{1b}]0;two\\u{7}\n2\n", "");
    world.eval("throw").check(1, "", "thrown\\u{1b}[31m\\u{202e}");
    let json = world.run(&["eval", "TARGET", "hostile", "--json"]);
    json.check(0, &json.stdout, "");
    assert!(json.stdout.contains(r"\u001b[2J\u202e"), "{}", json.stdout);
}

#[test]
fn an_oversize_message_ends_the_connection() {
    World::new()
        .eval("oversize")
        .check(5, "", "a message is longer than 1048576 bytes");
    World::new().eval("vanish").check(
        5,
        "",
        "error: the connection was lost: the agent vanished without a goodbye",
    );
}

#[test]
fn arguments_are_bound_and_secrets_leave_only_a_commitment_in_the_payload() {
    let world = World::new();
    write(&world.path("secret"), "hunter2-example\n");
    let secret = format!("pw=@{}", world.path("secret").display());
    let args = [
        "eval",
        "TARGET",
        "x",
        "--arg",
        "n=5",
        "--arg",
        "s=a b",
        "--arg-secret",
        &secret,
    ];
    world.run(&args).check(0, "x\n", "");
    let seen = world.agent.seen.lock().unwrap();
    let payload = &seen.payloads[0];
    assert_eq!(json!(payload.args), json!({ "n": 5, "s": "a b" }));
    assert_eq!(payload.secret_args["pw"].len(), 64);
    assert_eq!(seen.secrets[0]["pw"]["value"], "hunter2-example");
    assert!(!serde_json::to_string(payload).unwrap().contains("hunter2"));
    assert_eq!(payload.after, None);
}

#[test]
fn a_change_is_two_signed_evals_and_persists_when_told() {
    let world = World::new();
    let args = [
        "eval",
        "TARGET",
        "patch()",
        "--change",
        "--reason",
        "INC-42\"); x",
        "--persist",
    ];
    world
        .run(&args)
        .check(0, "lease 1: patched, reverts in 5m unless confirmed\n", "");
    let seen = world.agent.seen.lock().unwrap();
    assert_eq!(seen.payloads[0].code, "change(reason)");
    assert_eq!(seen.payloads[0].args["reason"], "INC-42\"); x");
    assert_eq!(seen.payloads[1].after, Some(After::Persist));
}

#[test]
fn hold_stays_until_the_leases_end() {
    let world = World::new();
    let args = [
        "eval", "TARGET", "patch()", "--change", "--reason", "INC-42", "--hold",
    ];
    let child = world.start(&args);
    let asked = || {
        let seen = world.agent.seen.lock().unwrap();
        seen.payloads.iter().any(|payload| payload.code == "leases()")
    };
    until(asked);
    world.agent.seen.lock().unwrap().leases.clear();
    Ended::of(child).check(
        0,
        "lease 1: patched, reverts in 5m unless confirmed\n",
        "holding lease 1; Ctrl-C reverts\nall of them have ended",
    );
}

#[test]
fn an_interrupt_reverts_what_is_held_and_cancels_what_runs() {
    let world = World::new();
    let interrupt = |child: &std::process::Child| {
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    };
    let child = world.start(&[
        "eval", "TARGET", "patch()", "--change", "--reason", "INC-42", "--hold",
    ]);
    until(|| !world.agent.seen.lock().unwrap().leases.is_empty());
    // The client knows the lease once it has asked for the list.
    until(|| {
        world
            .agent
            .seen
            .lock()
            .unwrap()
            .payloads
            .iter()
            .any(|payload| payload.code == "leases()")
    });
    interrupt(&child);
    let ended = Ended::of(child);
    ended.check(
        0,
        "lease 1: patched, reverts in 5m unless confirmed\n",
        "lease 1: reverted",
    );
    assert!(world.agent.seen.lock().unwrap().leases.is_empty());

    let child = world.start(&["eval", "TARGET", "wait"]);
    until(|| {
        world
            .agent
            .seen
            .lock()
            .unwrap()
            .payloads
            .iter()
            .any(|payload| payload.code == "wait")
    });
    interrupt(&child);
    Ended::of(child).check(1, "waiting\n", "error: cancelled");
}

#[test]
fn lists_are_tables_or_json() {
    let world = World::new();
    world.run(&["leases", "TARGET"]).check(0, "", "no leases");
    world.agent.seen.lock().unwrap().leases = vec![1, 12];
    let table = "\
id  target                      owner  state        reverts in  reason
1   point:GET /api/healthcheck  alice  provisional  5m          INC-42
12  point:GET /api/healthcheck  alice  provisional  5m          INC-42
";
    world.run(&["leases", "TARGET"]).check(0, table, "");
    let json = world.run(&["leases", "TARGET", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json.stdout).unwrap()[1]["id"], 12);
    world
        .run(&["revert", "TARGET", "12"])
        .check(0, "lease 12: reverted\n", "");
    assert_eq!(world.agent.seen.lock().unwrap().leases, [1]);
    let confirm = ["confirm", "TARGET", "1", "20m", "--reason", "INC-42 holds"];
    world.run(&confirm).check(0, "confirm(id, ttl)\n", "");
    let seen = world.agent.seen.lock().unwrap();
    let [.., change, confirm] = seen.payloads.as_slice() else {
        panic!()
    };
    assert_eq!(
        (change.code.as_str(), &change.args["reason"]),
        ("change(reason)", &json!("INC-42 holds"))
    );
    assert_eq!(json!(confirm.args), json!({ "id": 1, "ttl": "20m" }));
}

#[test]
fn changes_of_others_are_adopted_and_conflicts_settled() {
    let world = World::new();
    let adopt = ["adopt", "TARGET", "3", "--reason", "INC-42 alice goes home"];
    world.run(&adopt).check(0, "adopt(id)\n", "");
    let settle = ["settle", "TARGET", "4", "force", "--reason", "INC-42"];
    world.run(&settle).check(0, "settle(id, how)\n", "");
    world
        .run(&["settle", "TARGET", "4", "undo", "--reason", "x"])
        .check(2, "", "[possible values: keep, force]");
    let seen = world.agent.seen.lock().unwrap();
    let [change, adopt, _, settle] = seen.payloads.as_slice() else {
        panic!()
    };
    assert_eq!(
        (change.code.as_str(), json!(adopt.args)),
        ("change(reason)", json!({ "id": 3 }))
    );
    assert_eq!(
        (settle.code.as_str(), json!(settle.args)),
        ("settle(id, how)", json!({ "id": 4, "how": "force" }))
    );
}

/// Without a terminal each change prints a table; Ctrl-C ends the command.
#[test]
fn leases_are_watched_until_an_interrupt() {
    let world = World::new();
    {
        let mut seen = world.agent.seen.lock().unwrap();
        (seen.leases, seen.ends_once_listed) = (vec![1], true);
    }
    let looks = || {
        let seen = world.agent.seen.lock().unwrap();
        seen.payloads
            .iter()
            .filter(|payload| payload.code == "leases()")
            .count()
    };
    let child = world.start(&["leases", "TARGET", "--watch"]);
    // The end shows at the second lookup, and is printed before the third.
    until(|| looks() >= 3);
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let table = "\
id  target                      owner  state        reverts in  reason
1   point:GET /api/healthcheck  alice  provisional  5m          INC-42
no leases
";
    Ended::of(child).check(0, table, "");
}

#[test]
fn a_watch_that_loses_its_agent_says_so() {
    let world = World::new();
    world.lies.lock().unwrap().cut = true;
    world.run(&["leases", "TARGET", "--watch"]).check(
        6,
        "",
        "before the agent proved that the last eval is in its log",
    );
}

/// Calls that must work while the log cannot be written do not fail then.
#[test]
fn a_call_that_ends_changes_may_wait_for_its_record() {
    let world = World::new();
    world.lies.lock().unwrap().unrecorded = true;
    world.agent.seen.lock().unwrap().leases = vec![1];
    for args in [
        &["leases", "TARGET", "--json"][..],
        &["sessions", "TARGET"],
        &["revert", "TARGET", "1"],
    ] {
        let ended = world.run(args);
        ended.check(0, &ended.stdout, "warning: this eval is not yet on disk");
    }
    world
        .eval("help(\"patch\")")
        .check(0, "help(\"patch\")\n", "warning: this eval is not yet on disk");
}

#[test]
fn an_eval_of_which_the_agent_does_not_say_where_it_is_recorded_is_exit_6() {
    let world = World::new();
    world.lies.lock().unwrap().unrecorded = true;
    let finding = "error: the agent did not say where in its log an eval is\nhelp: ";
    for code in ["1", "points()", "info(); patch()", "leases() + 1"] {
        let ended = world.eval(code);
        ended.check(6, &ended.stdout, finding);
        assert_eq!(ended.stdout, format!("{code}\n"));
    }
    let points = world.run(&["points", "TARGET"]);
    points.check(6, &points.stdout, finding);
    let change = [
        "eval",
        "TARGET",
        "leases()",
        "--change",
        "--reason",
        "x",
        "--persist",
    ];
    world.run(&change).check(6, "[..]\n", finding);
    // A denied eval did not run, and its exit code says so.
    world.eval("deny").check(3, "", "error: denied");
}

#[test]
fn an_agent_that_vanishes_before_it_has_proven_an_eval_is_exit_6() {
    let world = World::new();
    world.lies.lock().unwrap().cut = true;
    let finding = "error: the session ended (the agent vanished without a goodbye) before the agent proved that the \
                   last eval is in its log\nhelp: what was answered rests on the agent's word: verify the folder of the \
                   log `example.internal/dienstplan/1/";
    world.eval("1").check(6, "1\n", finding);
    world.eval("deny").check(6, "", "error: denied");
    world
        .run(&["revert", "TARGET", "1"])
        .check(6, "lease 1: reverted\n", finding);
    for args in [
        ["eval", "TARGET", "2", "--json"].as_slice(),
        &["leases", "TARGET", "--json"],
    ] {
        let ended = world.run(args);
        ended.check(6, &ended.stdout, finding);
        assert_eq!(ended.stdout.lines().count(), 1, "{}", ended.stdout);
        let value: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert!(value.get("error").is_none(), "{value}");
    }
    let denied = world.run(&["eval", "TARGET", "deny", "--json"]);
    let value: Value = serde_json::from_str(&denied.stdout).unwrap();
    assert_eq!(
        (denied.code, &value["error"]["code"]),
        (6, &json!("verification"))
    );
    // The missing proofs can be fetched later.
    world.lies.lock().unwrap().cut = false;
    world.eval("3").check(0, "3\n", "");
}
