//! Whom the client trusts, and how it refuses the others.

use crate::authority::{AGENT_ID, Authority, OPERATOR_ID};
use crate::world::{Ended, KEY_NAME, World};
use debug_audit::SigningKey;
use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use serde_json::json;

#[test]
fn an_agent_that_refuses_the_certificate_is_exit_5() {
    let world = World::new();
    let stranger = Authority::new().operator();
    world.identity(&stranger, AGENT_ID, &world.key.verifier().to_string());
    world
        .eval("1")
        .check(5, "", "error: the agent refused this certificate");
}

/// The error names the option that a newcomer can set; a single file is named only if other single files are given.
#[test]
fn who_says_not_who_they_are_is_told_how_to() {
    let world = World::new();
    let run = |set: &[&str]| {
        let mut command = world.command(&["eval", "TARGET", "1"]);
        command.env_remove("DEBUGCTL_IDENTITY");
        for name in set {
            command.env(name, "anything.pem");
        }
        Ended::of(command.spawn().unwrap())
    };
    run(&[]).check(
        2,
        "",
        "error: who you are is not given: `--identity` (DEBUGCTL_IDENTITY) is missing\n",
    );
    run(&["DEBUGCTL_CERT"]).check(
        2,
        "",
        "is not given: `--key` (DEBUGCTL_KEY) is missing\nhelp: give `--identity DIR`",
    );
}

#[test]
fn an_expired_certificate_is_named_as_the_reason() {
    let world = World::new();
    let expired = world.authority.leaf(OPERATOR_ID, 5, &PKCS_ED25519);
    world.identity(&expired, AGENT_ID, &world.key.verifier().to_string());
    let ended = world.eval("1");
    ended.check(5, "", "it says that the certificate expired");
    ended.check(5, "", "help: the certificate expired 1h");
}

/// T22: a certificate of a person, or of another service, at the address of the agent.
#[test]
fn only_the_pinned_agent_is_talked_to() {
    let another = "spiffe://example.internal/agent/other/1";
    let is_another = format!("the other end is `{another}`, expected `{AGENT_ID}`");
    for (other, why) in [
        (OPERATOR_ID, "`alice` is an operator, expected an agent"),
        (another, &is_another),
        (
            "spiffe://example.org/agent/dienstplan/1",
            "is of the trust domain `example.org`, expected",
        ),
    ] {
        let authority = Authority::new();
        let leaf = authority.leaf(other, 24, &PKCS_ECDSA_P256_SHA256);
        let world = World::with(authority, &leaf);
        world.eval("1").check(5, "", why);
        assert!(world.agent.seen.lock().unwrap().payloads.is_empty());
    }
}

#[test]
fn an_agent_of_another_ca_is_not_trusted() {
    let authority = Authority::new();
    let leaf = Authority::new().agent();
    World::with(authority, &leaf)
        .eval("1")
        .check(5, "", "is not vouched for by the CA");
}

#[test]
fn nobody_listening_is_exit_5() {
    let world = World::new();
    world
        .run(&["eval", "127.0.0.1:1", "1"])
        .check(5, "", "error: cannot connect to 127.0.0.1:1");
}

/// T54.
#[test]
fn a_log_signed_with_another_key_is_exit_6() {
    let world = World::new();
    let other = SigningKey::generate(KEY_NAME).unwrap();
    world.identity(
        &world.authority.operator(),
        AGENT_ID,
        &other.verifier().to_string(),
    );
    world.eval("1").check(
        6,
        "",
        "the agent's checkpoint does not hold: the note is not signed by the key",
    );
}

/// T59.
#[test]
fn a_log_of_another_name_is_refused() {
    let world = World::new();
    world.lies.lock().unwrap().origin = Some("example.internal/other/1/00".into());
    world
        .eval("1")
        .check(5, "", "expected one of `example.internal/dienstplan/1`");
}

#[test]
fn the_name_of_a_log_cannot_pose_as_a_line_of_debugctl() {
    let world = World::new();
    world.lies.lock().unwrap().origin = Some("example.internal/dienstplan/1/x\nverified: all".into());
    let ended = world.eval("1");
    ended.check(5, "", "expected one of `example.internal/dienstplan/1`");
    assert!(
        !ended.stderr.lines().any(|line| line.starts_with("verified")),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_rewritten_log_is_refused_and_the_evidence_kept() {
    let world = World::new();
    world.eval("1").check(0, "1\n", "");
    for size in [100, 1] {
        world.lies.lock().unwrap().forked = Some(size);
        let ended = world.eval("2");
        ended.check(6, "", "error: the agent's log was rewritten");
        let evidence = ended
            .stderr
            .split_once("are kept in `")
            .unwrap()
            .1
            .split_once('`')
            .unwrap()
            .0;
        let evidence = std::fs::read_to_string(evidence).unwrap();
        assert!(
            evidence.contains("\"remembered\"") && evidence.contains("\"offered\""),
            "{evidence}"
        );
    }
    assert_eq!(
        world.agent.seen.lock().unwrap().payloads.len(),
        1,
        "nothing was sent to it"
    );
    world.lies.lock().unwrap().forked = None;
    world.eval("3").check(0, "3\n", "");
}

/// T60.
#[test]
fn the_log_must_hold_what_was_sent() {
    let world = World::new();
    let lies = [
        |l: &mut crate::agent::Lies| l.payload = Some(r#"{"code":"something else"}"#.into()),
        |l: &mut crate::agent::Lies| {
            l.payload = None;
            l.record = Some(r#"{"v":1,"seq":2,"kind":"eval"}"#.into());
        },
        |l: &mut crate::agent::Lies| {
            l.record = None;
            l.no_proof = true;
        },
    ];
    let messages = [
        "the payload differs",
        "does not lead to the signed root hash",
        "no proof today",
    ];
    for (lie, message) in lies.into_iter().zip(messages) {
        lie(&mut world.lies.lock().unwrap());
        world.eval("1").check(6, "1\n", message);
    }
}

/// The signature stands in the eval's record, the payload in the records before it.
#[test]
fn the_parts_of_a_payload_must_be_what_was_sent() {
    let world = World::new();
    world.lies.lock().unwrap().split = true;
    world.eval("1").check(0, "1\n", "");
    let lies: [(crate::agent::Alter, &str); 7] = [
        (
            |parts| parts[1]["text"] = json!(r#"ode":"2"}"#),
            "the payload differs in record ",
        ),
        (
            |parts| parts[1]["text"] = json!(r#"ode":"1""#),
            "the end of the payload is missing",
        ),
        (|parts| parts.swap(0, 1), "is not part 0 of it"),
        (|parts| parts[1]["part"] = json!(0), "is not part 1 of it"),
        (|parts| parts[1]["session"] = json!(0), "is not part 1 of it"),
        (|parts| drop(parts.remove(0)), "its part in record "),
        (|parts| parts[0] = json!({}), "its part in record "),
    ];
    for (lie, message) in lies {
        world.lies.lock().unwrap().parts = Some(lie);
        let ended = world.run(&["eval", "TARGET", "1", "--arg", "a=5"]);
        ended.check(6, &ended.stdout, message);
        ended.check(6, &ended.stdout, "is not the eval that was sent");
    }
    world.lies.lock().unwrap().parts = None;
    world.eval("2").check(0, "2\n", "");
}

#[test]
fn a_log_that_begins_anew_is_loud() {
    let mut world = World::new();
    world.eval("1").check(0, "1\n", "");
    std::fs::create_dir_all(world.path("agent2/audit")).unwrap();
    let leaf = world.authority.agent();
    let audit = world.path("agent2/audit");
    world.agent = crate::agent::Agent::start(
        &world.authority,
        &leaf,
        world.key.clone(),
        &audit,
        world.lies.clone(),
    );
    world.identity(
        &world.authority.operator(),
        AGENT_ID,
        &world.key.verifier().to_string(),
    );
    world
        .eval("2")
        .check(0, "2\n", "WARNING: this agent begins another log");
    let quiet = world.eval("3");
    assert!(!quiet.stderr.contains("WARNING"), "{}", quiet.stderr);
}

#[test]
fn first_messages_that_are_none_are_exit_5() {
    let world = World::new();
    let ready = |bytes: &[u8]| world.lies.lock().unwrap().ready = Some(bytes.to_vec());
    let too_long = vec![b'x'; debug_wire::MAX_MESSAGE + 2];
    for (bytes, message) in [
        (b"SSH-2.0-OpenSSH\n".as_slice(), "the agent's first message is not what it should be"),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1}\n", "it is not `ready`"),
        (b"\x1b[2J\n", "the agent's first message cannot be read"),
        (&too_long, "a message is longer than 1048576 bytes"),
        (
            b"{\"jsonrpc\":\"2.0\",\"method\":\"ready\",\"params\":{\"protocol\":9,\"version\":\"9\",\"service\":\"x\",\"instance\":\"x\",\"environment\":\"x\",\"origin\":\"x\"}}\n",
            "the agent speaks version 9 of the protocol",
        ),
    ] {
        ready(bytes);
        world.eval("1").check(5, "", message);
    }
}

#[test]
fn what_is_not_given_is_named() {
    let world = World::new();
    std::fs::remove_file(world.path("alice/agents.toml")).unwrap();
    world.eval("1").check(2, "", "no agent is pinned");
    world
        .run(&["eval", "example.org:7777", "1"])
        .check(2, "", "names of hosts are not looked up");
    std::fs::remove_file(world.path("alice/key.pem")).unwrap();
    world.eval("1").check(2, "", "key.pem");
}
