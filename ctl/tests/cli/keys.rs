//! Files that should hold a certificate or a key, and hold something else.

use std::fs;

use rcgen::PKCS_ECDSA_P521_SHA512;

use crate::authority::{AGENT_ID, OPERATOR_ID};
use crate::world::{Ended, World, write};

/// Runs an eval with `--key`, `--cert` or `--ca` naming another file.
fn with(world: &World, option: &str, file: &str) -> Ended {
    let path = world.path(file).display().to_string();
    world.run(&["eval", "TARGET", "1", option, &path])
}

#[track_caller]
fn says(world: &World, option: &str, file: &str, why: &str, help: &str) {
    let ended = with(world, option, file);
    ended.check(
        2,
        "",
        &format!("error: cannot use `{}`: {why}", world.path(file).display()),
    );
    let told = ended
        .stderr
        .split_once("help: ")
        .map(|(_, help)| help)
        .unwrap_or_default();
    assert!(
        told.contains(help),
        "`{help}` is not in the help: {}",
        ended.stderr
    );
}

#[test]
fn a_key_that_cannot_be_used_is_told_what_it_is() {
    let world = World::new();
    let key = fs::read_to_string(world.path("alice/key.pem")).unwrap();
    // The encrypted content does not matter here; the lines around it are what `openssl` writes.
    let body = key.lines().nth(1).unwrap();
    let label = "ENCRYPTED PRIVATE KEY";
    write(
        &world.path("locked.pem"),
        &format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"),
    );
    let command = format!("openssl pkey -in '{}'", world.path("locked.pem").display());
    says(
        &world,
        "--key",
        "locked.pem",
        "its private key is encrypted with a passphrase",
        &command,
    );
    let (label, how) = (
        "RSA PRIVATE KEY",
        "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n",
    );
    let old = format!("-----BEGIN {label}-----\n{how}\n{body}\n-----END {label}-----\n");
    write(&world.path("old.pem"), &old);
    says(
        &world,
        "--key",
        "old.pem",
        "its private key is encrypted with a passphrase",
        "openssl pkey -in '",
    );

    let operator = world.authority.operator();
    write(&world.path("public.pem"), &operator.key.public_key_pem());
    says(
        &world,
        "--key",
        "public.pem",
        "it holds a public key, and no private key",
        "`key.pem`",
    );
    fs::write(world.path("key.der"), operator.key.serialize_der()).unwrap();
    says(
        &world,
        "--key",
        "key.der",
        "it is in DER or PKCS#12",
        "openssl pkey -inform DER -in '",
    );
    fs::write(world.path("cert.der"), &operator.certificate).unwrap();
    says(
        &world,
        "--cert",
        "cert.der",
        "it holds a certificate in DER",
        "openssl x509 -inform DER -in '",
    );
    says(
        &world,
        "--key",
        "cert.der",
        "it holds a certificate in DER, and no private key",
        "`--cert` and `--key`",
    );
    write(&world.path("empty.pem"), "");
    for option in ["--key", "--cert", "--ca"] {
        says(
            &world,
            option,
            "empty.pem",
            "it is empty, and no ",
            "debugctl certs",
        );
    }
    write(&world.path("cut.pem"), &key[..60]);
    says(
        &world,
        "--key",
        "cut.pem",
        "a PEM block in it does not end",
        "`key.pem`",
    );
    write(&world.path("words.pem"), "hello\n");
    says(
        &world,
        "--key",
        "words.pem",
        "it holds nothing in PEM that is known here",
        "`key.pem`",
    );

    // Line ends of another system are accepted.
    write(&world.path("crlf.pem"), &key.replace('\n', "\r\n"));
    with(&world, "--key", "crlf.pem").check(0, "1\n", "");
}

#[test]
fn files_that_were_taken_for_one_another_are_told() {
    let world = World::new();
    says(
        &world,
        "--key",
        "alice/cert.pem",
        "it holds a certificate, and no private key",
        "`--cert` and `--key`",
    );
    says(
        &world,
        "--cert",
        "alice/key.pem",
        "it holds a private key, and no certificate",
        "`--cert` and `--key`",
    );
    says(
        &world,
        "--cert",
        "alice/ca.pem",
        "it holds a certificate of a CA",
        "`--cert` and `--ca`",
    );
    says(
        &world,
        "--ca",
        "alice/cert.pem",
        "it holds the certificate of `spiffe://",
        "`--cert` and `--ca`",
    );
    says(
        &world,
        "--ca",
        "alice/key.pem",
        "it holds a private key, and no certificate",
        "`--ca` and `--key`",
    );
    let agent = world.authority.agent();
    write(&world.path("agent.pem"), &agent.pem);
    with(&world, "--cert", "agent.pem").check(2, "", "is the certificate of the agent `spiffe://");

    let other = world.authority.operator();
    write(&world.path("other.pem"), &other.key.serialize_pem());
    let ended = with(&world, "--key", "other.pem");
    ended.check(2, "", "is not the key of `");
    ended.check(2, "", "help: give the two files that were issued together");
    says(&world, "--key", "nosuch.pem", "No such file", "is the path right");
    let folder = world.path("alice/cert.pem").display().to_string();
    let ended = world.run(&["eval", "TARGET", "1", "--identity", &folder]);
    ended.check(2, "", "cert.pem` is no folder");
    ended.check(2, "", "help: `--identity` (DEBUGCTL_IDENTITY) names a folder");
}

#[test]
fn a_key_that_cannot_sign_evals_is_told_before_anything_is_connected() {
    let world = World::new();
    let other = world.authority.leaf(OPERATOR_ID, 24, &PKCS_ECDSA_P521_SHA512);
    world.identity(&other, AGENT_ID, &world.key.verifier().to_string());
    let ended = world.eval("1");
    ended.check(
        2,
        "",
        "help: use an Ed25519, ECDSA P-256 or P-384 key, or an RSA key of 2048 bits or more",
    );
    assert_eq!(world.agent.seen.lock().unwrap().sessions, 0);
}

/// An operator who gives no identity is the one of the working set in the current folder, and is told so.
#[test]
fn the_only_operator_of_a_working_set_in_the_current_folder_is_used_and_named() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let run = |args: &[&str]| {
        let mut command = world.command(args);
        command
            .env_remove("DEBUGCTL_IDENTITY")
            .current_dir(world.path("set"));
        Ended::of(command.spawn().unwrap())
    };
    fs::create_dir_all(world.path("set/operators")).unwrap();
    fs::rename(world.path("alice"), world.path("set/operators/alice")).unwrap();
    for dir in ["set/operators", "set/operators/alice"] {
        fs::set_permissions(world.path(dir), fs::Permissions::from_mode(0o755)).unwrap();
    }
    run(&["eval", "TARGET", "1"]).check(0, "1\n", "as `alice`, with `operators/alice` of this folder");
    // A given identity is never replaced, even if it is wrong.
    run(&["eval", "TARGET", "1", "--identity", "nowhere"]).check(2, "", "there is no folder `nowhere`");
    fs::create_dir(world.path("set/operators/bob")).unwrap();
    for file in ["cert.pem", "key.pem"] {
        fs::copy(
            world.path("set/operators/alice").join(file),
            world.path("set/operators/bob").join(file),
        )
        .unwrap();
    }
    run(&["eval", "TARGET", "1"]).check(
        2,
        "",
        "this folder has 2 operators: `operators/alice`, `operators/bob`",
    );
}
