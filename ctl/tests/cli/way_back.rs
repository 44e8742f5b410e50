//! Changes can be ended and listed, independent of faults on the operator's side.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use debug_audit::SigningKey;
use rcgen::PKCS_ECDSA_P256_SHA256;

use crate::authority::{AGENT_ID, Authority};
use crate::world::{Ended, KEY_NAME, World};

/// The commands that end and list changes.
const WAYS: [&[&str]; 5] = [
    &["revert", "TARGET", "1"],
    &["revert-all", "TARGET"],
    &["leases", "TARGET"],
    &["sessions", "TARGET"],
    &["eval", "TARGET", "revert_all()"],
];

/// Each of them succeeds, prints the warning and exits with 6; nothing else is sent.
#[track_caller]
fn check(world: &World, warning: &str, prepare: &dyn Fn(&mut Command)) {
    let run = |args: &[&str], input: &str| {
        let mut command = world.command(args);
        prepare(&mut command);
        let mut child = command.spawn().unwrap();
        use std::io::Write;
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Ended::of(child)
    };
    for way in WAYS {
        world.agent.seen.lock().unwrap().leases = vec![1];
        let ended = run(way, "");
        ended.check(6, &ended.stdout, "WARNING: ");
        ended.check(6, &ended.stdout, warning);
        assert!(
            !ended.stdout.is_empty() && !ended.stderr.contains("error: "),
            "{way:?}: {}",
            ended.stderr
        );
        let reverts = way.iter().any(|word| word.starts_with("revert"));
        assert_eq!(
            world.agent.seen.lock().unwrap().leases.is_empty(),
            reverts,
            "{way:?}"
        );
    }
    world.agent.seen.lock().unwrap().leases = vec![1];
    let ended = run(&["attach", "TARGET"], ":leases\n:revert 1\n:leases\n");
    ended.check(6, &ended.stdout, warning);
    ended.check(
        6,
        &ended.stdout,
        "so only these work here: `:leases`, `:revert ID`",
    );
    assert!(ended.stdout.contains("lease 1: reverted"), "{}", ended.stdout);

    let sent = world.agent.seen.lock().unwrap().payloads.len();
    let secret = format!("x=@{}", world.path("alice/agents.toml").display());
    for other in [
        &["eval", "TARGET", "config.db.host"][..],
        &["eval", "TARGET", "help(x)", "--arg-secret", &secret],
        &[
            "eval",
            "TARGET",
            "patch()",
            "--change",
            "--reason",
            "x",
            "--persist",
        ],
        &["points", "TARGET"],
        &["confirm", "TARGET", "1", "5m", "--reason", "x"],
    ] {
        let ended = run(other, "");
        assert!(matches!(ended.code, 5 | 6), "{other:?}: {}", ended.code);
        ended.check(
            ended.code,
            "",
            "; nothing was sent, as only changes can be ended and looked at now\nhelp: ",
        );
    }
    assert_eq!(
        world.agent.seen.lock().unwrap().payloads.len(),
        sent,
        "something was sent"
    );
}

#[test]
fn without_a_home() {
    let world = World::new();
    let warning = "there is no place to remember checkpoints in";
    check(&world, warning, &|command| {
        command.env_remove("XDG_STATE_HOME").env_remove("HOME");
    });
    check(&world, warning, &|command| {
        command.env("XDG_STATE_HOME", "relative").env("HOME", "");
    });
}

#[test]
fn with_a_home_that_cannot_be_written() {
    let world = World::new();
    // Not even root can make a folder there.
    check(
        &world,
        "cannot make the folder `/proc/nowhere/debugctl`",
        &|command| {
            command.env("XDG_STATE_HOME", "/proc/nowhere");
        },
    );
    fs::write(world.path("file"), "").unwrap();
    let file = world.path("file");
    check(
        &world,
        "there is no place to remember checkpoints in",
        &|command| {
            command.env("XDG_STATE_HOME", &file);
        },
    );
}

/// A full disk allows the empty lock file, and no content. (`ulimit -f` makes each write fail like that, also for root.)
#[test]
fn with_a_disk_that_is_full() {
    let world = World::new();
    check(&world, "cannot remember a checkpoint in ", &|command| {
        limited(command)
    });
    let left: Vec<_> = fs::read_dir(world.path("state/debugctl"))
        .unwrap()
        .flatten()
        .collect();
    assert!(
        left.iter()
            .all(|file| !file.path().to_string_lossy().ends_with(".new")),
        "{left:?}"
    );
}

/// Makes the command run with a file size limit of 0.
fn limited(command: &mut Command) {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"])
        .arg(command.get_program());
    shell.args(command.get_args());
    shell
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    shell.envs(
        command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    shell.stdin(std::process::Stdio::piped());
    shell
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    *command = shell;
}

/// The only remembered checkpoint.
fn remembered(world: &World) -> std::path::PathBuf {
    let files = fs::read_dir(world.path("state/debugctl")).unwrap().flatten();
    let mut paths = files.map(|file| file.path());
    paths
        .find(|path| path.extension().is_some_and(|end| end == "checkpoint"))
        .unwrap()
}

#[test]
fn with_a_memory_that_is_damaged() {
    let world = World::new();
    world.eval("1").check(0, "1\n", "");
    let path = remembered(&world);
    let good = fs::read(&path).unwrap();
    let broken = |damage: &dyn Fn(&Path)| {
        let _ = fs::remove_file(&path);
        damage(&path);
        check(&world, "the remembered checkpoint `", &|_| ());
    };
    broken(&|path| fs::write(path, "").unwrap());
    broken(&|path| fs::write(path, [0xff; 40]).unwrap());
    broken(&|path| fs::write(path, good.iter().rev().copied().collect::<Vec<_>>()).unwrap());
    broken(&|path| std::os::unix::fs::symlink(path, path).unwrap());
    broken(&|path| fs::create_dir(path).unwrap());
    // The file may be evidence, so it stays.
    assert!(path.is_dir());
    fs::remove_dir(&path).unwrap();
    fs::write(&path, good).unwrap();
    world.eval("2").check(0, "2\n", "");
}

/// No process ever writes to it, so reading it would block.
#[test]
fn with_a_memory_that_would_be_waited_for() {
    let world = World::new();
    world.eval("1").check(0, "1\n", "");
    let path = remembered(&world);
    fs::remove_file(&path).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    check(&world, "it is no file", &|_| ());
}

#[test]
fn while_another_debugctl_was_stopped_amid_its_writing() {
    let world = World::new();
    world.eval("1").check(0, "1\n", "");
    let lock = fs::OpenOptions::new()
        .append(true)
        .open(world.path("state/debugctl/lock"))
        .unwrap();
    lock.lock().unwrap();
    world.agent.seen.lock().unwrap().leases = vec![1];
    let ended = world.run(&["revert", "TARGET", "1"]);
    ended.check(
        6,
        "lease 1: reverted\n",
        "another debugctl has held its lock for 2 s",
    );
}

/// The evidence is kept, and the remembered checkpoint is not overwritten.
#[test]
fn with_a_log_that_is_not_the_one_it_was() {
    let world = World::new();
    world.eval("1").check(0, "1\n", "");
    let before = fs::read(remembered(&world)).unwrap();
    world.lies.lock().unwrap().forked = Some(100);
    world.agent.seen.lock().unwrap().leases = vec![1];
    let ended = world.run(&["revert", "TARGET", "1"]);
    ended.check(6, "lease 1: reverted\n", "WARNING: the agent's log was rewritten");
    ended.check(
        6,
        "lease 1: reverted\n",
        "both checkpoints and the proof are kept in `",
    );
    assert_eq!(fs::read(remembered(&world)).unwrap(), before);
}

#[test]
fn with_a_log_of_another_key() {
    let world = World::new();
    let other = SigningKey::generate(KEY_NAME).unwrap();
    world.identity(
        &world.authority.operator(),
        AGENT_ID,
        &other.verifier().to_string(),
    );
    check(
        &world,
        "the agent's checkpoint does not hold: the note is not signed by the key",
        &|_| (),
    );
}

/// To a clock far ahead, the certificate has expired.
#[test]
fn with_a_clock_by_which_the_agents_certificate_is_over() {
    let authority = Authority::new();
    let leaf = authority.leaf(AGENT_ID, 5, &PKCS_ECDSA_P256_SHA256);
    let world = World::with(authority, &leaf);
    check(&world, "the agent's certificate expired at 2", &|_| ());
    check(&world, "is that clock right? `date -u` shows it", &|_| ());
}

/// To a clock in 1970, the certificate is not valid yet.
#[test]
fn with_a_clock_by_which_the_agents_certificate_is_not_valid_yet() {
    let authority = Authority::new();
    let leaf = authority.leaf_from(AGENT_ID, 1, 24, &PKCS_ECDSA_P256_SHA256);
    let world = World::with(authority, &leaf);
    check(&world, "the agent's certificate is valid only from 2", &|_| ());
}

/// The validity period is the only fault that is tolerated.
#[test]
fn a_certificate_that_is_over_and_not_the_agents_is_trusted_for_nothing() {
    let stranger = Authority::new().leaf(AGENT_ID, 5, &PKCS_ECDSA_P256_SHA256);
    let world = World::with(Authority::new(), &stranger);
    world
        .run(&["revert", "TARGET", "1"])
        .check(5, "", "is not vouched for by the CA");
    let authority = Authority::new();
    let other = authority.leaf(
        "spiffe://example.internal/agent/other/1",
        5,
        &PKCS_ECDSA_P256_SHA256,
    );
    let world = World::with(authority, &other);
    world
        .run(&["revert", "TARGET", "1"])
        .check(5, "", "the other end is `");
    assert!(world.agent.seen.lock().unwrap().payloads.is_empty());
}

/// Harmless circumstances cause no warning.
#[test]
fn with_streams_that_are_closed_and_no_terminal() {
    let world = World::new();
    for (redirects, stdout) in [
        ("<&-", "lease 1: reverted\n"),
        (">&-", ""),
        ("2>&-", "lease 1: reverted\n"),
        ("<&- >&- 2>&-", ""),
    ] {
        world.agent.seen.lock().unwrap().leases = vec![1];
        let mut command = world.command(&["revert", "TARGET", "1"]);
        let script = format!("exec \"$@\" {redirects}");
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &script, "sh"])
            .arg(command.get_program())
            .args(command.get_args())
            .env_clear();
        shell.envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        shell.stdin(std::process::Stdio::null());
        shell
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        command = shell;
        let ended = Ended::of(command.spawn().unwrap());
        ended.check(0, stdout, "");
        assert!(world.agent.seen.lock().unwrap().leases.is_empty(), "{redirects}");
    }
}

/// File permissions do not bind root, who runs these tests in some places; then there is no warning either.
#[test]
fn with_a_memory_that_may_not_be_read() {
    let world = World::new();
    world.eval("1").check(0, "1\n", "");
    fs::set_permissions(remembered(&world), fs::Permissions::from_mode(0o000)).unwrap();
    world.agent.seen.lock().unwrap().leases = vec![1];
    let ended = world.run(&["revert", "TARGET", "1"]);
    let readable = fs::read(remembered(&world)).is_ok();
    ended.check(
        if readable { 0 } else { 6 },
        "lease 1: reverted\n",
        if readable { "" } else { "WARNING" },
    );
}
