use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::files::{MAX_FILE, judge};
use super::*;

const GOOD: &str = r#"
version = 1
service = "dienstplan"
instance = "1"
environment = "production"

[listen]
address = "127.0.0.1:7777"

[trust]
domain = "dienstplan.internal"
ca = "ca.pem"
crl = "crl.pem"
certificate = "agent.pem"
key = "/run/secrets/agent.key"

[policy]
file = "policy.toml"

[audit]
folder = "audit"
key = "audit.key"
"#;

/// Loads a configuration text with variables; paths and errors show the folder as `DIR`.
fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.toml");
    std::fs::write(&path, text).unwrap();
    let variables = variables
        .iter()
        .map(|(n, v)| (OsString::from(n), OsString::from(v)));
    let shown = folder.path().display().to_string();
    let short = |path: &Path| PathBuf::from(path.display().to_string().replace(&shown, "DIR"));
    let mut config = Config::load(&path, variables).map_err(|e| e.to_string().replace(&shown, "DIR"))?;
    for path in [
        &mut config.file,
        &mut config.policy,
        &mut config.trust.ca,
        &mut config.trust.crl,
        &mut config.trust.certificate,
        &mut config.trust.key,
        &mut config.audit.folder,
        &mut config.active,
        &mut config.audit.key,
    ] {
        *path = short(path);
    }
    Ok(config)
}

#[track_caller]
fn refused(text: &str, variables: &[(&str, &str)], expected: &str) {
    let error = load(text, variables).expect_err("was to be refused");
    assert!(error.contains(expected), "{error}");
}

/// The valid text with one line changed.
fn changed(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from));
    GOOD.replace(from, to)
}

#[test]
fn the_flag_is_on_or_off_and_nothing_else() {
    let flag = |value: &str| Flag::from_env(Some(OsStr::new(value)));
    assert_eq!(Flag::from_env(None), Ok(Flag::Off));
    for off in ["", "0", "off"] {
        assert_eq!(flag(off), Ok(Flag::Off), "{off}");
    }
    for on in ["1", "on"] {
        assert_eq!(flag(on), Ok(Flag::On), "{on}");
    }
    for other in [
        "true", "yes", "On", "OFF", "false", " 1", "1 ", "01", "2", "enabled",
    ] {
        let error = flag(other).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("DEBUG_AGENT: `{other}` is neither on nor off")
        );
        assert!(error.help.contains("`1` or `on`"));
    }
    assert_eq!(
        flag("standby").unwrap_err().to_string(),
        "DEBUG_AGENT: `standby` is not part of this version"
    );
    assert!(Flag::from_env(Some(OsStr::from_bytes(b"\xff"))).is_err());
}

#[test]
fn a_configuration_without_mistakes_is_read() {
    let config = load(
        GOOD,
        &[
            ("PATH", "/bin"),
            ("DEBUG_AGENT", "1"),
            ("DEBUG_AGENT_CONFIG", "x"),
        ],
    )
    .unwrap();
    let expected = Config {
        file: "DIR/agent.toml".into(),
        service: "dienstplan".into(),
        instance: "1".into(),
        environment: "production".into(),
        listen: "127.0.0.1:7777".parse().unwrap(),
        trust: Trust {
            domain: "dienstplan.internal".into(),
            ca: "DIR/ca.pem".into(),
            crl: "DIR/crl.pem".into(),
            certificate: "DIR/agent.pem".into(),
            key: "/run/secrets/agent.key".into(),
        },
        policy: "DIR/policy.toml".into(),
        audit: Audit {
            folder: "DIR/audit".into(),
            key: "DIR/audit.key".into(),
        },
        active: "DIR/active".into(),
        redact: Redact::default(),
        from_environment: vec![],
    };
    assert_eq!(config, expected);

    let config = load(&format!("{GOOD}\n[active]\nfolder = \"/run/dienstplan\"\n"), &[]).unwrap();
    assert_eq!(config.active, std::path::PathBuf::from("/run/dienstplan"));

    let redact = "\n[redact]\nnames = [\"*pin*\"]\nall = true\nvisible = [\"config.server.port\"]\n";
    let config = load(&format!("{GOOD}{redact}"), &[]).unwrap();
    let expected = Redact {
        names: vec!["*pin*".into()],
        all: true,
        visible: vec!["config.server.port".into()],
    };
    assert_eq!(config.redact, expected);
}

#[test]
fn all_mistakes_are_reported_together_each_with_its_place() {
    let text = r#"version = 2
servce = "dienstplan"
instance = "a b"
environment = "production"
vpn_interfaces = ["wg0"]
address = "127.0.0.1:1"

[listen]
adress = "127.0.0.1:7777"

[trust]
domain = "Dienstplan"
ca = 7
crl = ""
certificate = "agent.pem"

[policies]
file = "policy.toml"

[audit]
folder = "audit"
key = "audit.key"
"#;
    let error = load(
        text,
        &[
            ("DEBUG_AGENT__POLICY__FILE", "x"),
            ("DEBUG_AGENT__AUDIT__FOLDR", "y"),
        ],
    )
    .unwrap_err();
    let expected = "\
DIR/agent.toml:1:1: `service` is missing at the top of the file
  help: add `service = \"…\"`, the service's name as its certificate has it
DIR/agent.toml:1:1: `file` is missing in [policy]
  help: add `file = \"…\"`, the file of the rules
DIR/agent.toml:1:11: version `2` of the configuration is not known here
  help: write `version = 1`, or use the agent that this file was written for
DIR/agent.toml:2:1: unknown key `servce` at the top of the file
  help: did you mean `service`?
DIR/agent.toml:3:12: `a b` cannot be a name
  help: write 1 to 64 of `a-z`, `A-Z`, `0-9`, `.`, `_`, `-`
DIR/agent.toml:5:1: `vpn_interfaces` is not part of this version
  help: the agent of this version listens on loopback only; reach it through a tunnel to the host
DIR/agent.toml:6:1: unknown key `address` at the top of the file
  help: `address` belongs in [listen]
DIR/agent.toml:8:2: `address` is missing in [listen]
  help: add `address = \"…\"`, such as `127.0.0.1:7777`
DIR/agent.toml:9:1: unknown key `adress` in [listen]
  help: did you mean `address`?
DIR/agent.toml:11:2: `key` is missing in [trust]
  help: add `key = \"…\"`, the private key of the agent's certificate
DIR/agent.toml:12:10: `Dienstplan` is not a trust domain
  help: write 1 to 255 of `a-z`, `0-9`, `.`, `_`, `-`, without `spiffe://`
DIR/agent.toml:13:6: `trust.ca` is a number
  help: write a string in quotes
DIR/agent.toml:14:7: `` is not a path
  help: write the path of their revocation lists; there is no running without one
DIR/agent.toml:17:2: unknown key `policies` at the top of the file
  help: did you mean `policy`?
DEBUG_AGENT__AUDIT__FOLDR: overrides a key that does not exist
  help: did you mean `DEBUG_AGENT__AUDIT__FOLDER`?
DEBUG_AGENT__POLICY__FILE: `policy.file` cannot be overridden where `environment` is `production`: who may set a \
variable of the service may not thereby decide who gets in
  help: unset it and change the configuration file";
    assert_eq!(error, expected, "\n{error}\n");
}

#[test]
fn syntax_errors_are_reported_with_their_place() {
    refused("version = 1\nservice = \"a\nlisten\n", &[], "DIR/agent.toml:2:");
    refused(
        "version = 1\nversion = 1\n",
        &[],
        "DIR/agent.toml:2:1: not TOML: ",
    );
    refused("", &[], "`version` is missing");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.toml");
    std::fs::write(&path, b"version = 1\nservice = \"\xff\"\n").unwrap();
    let error = Config::load(&path, []).unwrap_err().to_string();
    assert!(error.contains("agent.toml:2:12: not UTF-8"), "{error}");
}

#[test]
fn only_addresses_of_loopback_are_listened_on() {
    for good in ["127.0.0.1:7777", "127.3.2.1:1", "[::1]:7777", "127.0.0.1:0"] {
        let config = load(&changed("127.0.0.1:7777", good), &[]).unwrap();
        assert_eq!(config.listen, good.parse().unwrap());
    }
    for (bad, why) in [
        ("0.0.0.0:7777", "would listen on every interface"),
        ("[::]:7777", "would listen on every interface"),
        ("10.0.0.1:7777", "is not loopback"),
        ("[fe80::1]:7777", "is not loopback"),
        ("[::ffff:127.0.0.1]:7777", "is not loopback"),
        ("localhost:7777", "host names are refused"),
        ("127.0.0.1", "not an IP address with a port"),
        ("127.1:7777", "not an IP address with a port"),
        ("0177.0.0.1:7777", "not an IP address with a port"),
        ("127.0.0.1:77777", "not an IP address with a port"),
        ("", "not an IP address with a port"),
    ] {
        refused(&changed("127.0.0.1:7777", bad), &[], why);
    }
}

#[test]
fn the_environment_overrides_and_is_remembered() {
    let development = changed("\"production\"", "\"development\"");
    let variables = [
        ("DEBUG_AGENT__LISTEN__ADDRESS", "[::1]:0"),
        ("DEBUG_AGENT__INSTANCE", "7"),
        ("DEBUG_AGENT__TRUST__CA", "other/ca.pem"),
        ("DEBUG_AGENT__REDACT__ALL", "true"),
        ("DEBUG_AGENT__REDACT__NAMES", "[\"*pin*\", \"*iban*\"]"),
    ];
    let config = load(&development, &variables).unwrap();
    assert_eq!(config.listen, "[::1]:0".parse().unwrap());
    assert_eq!(config.instance, "7");
    assert_eq!(config.trust.ca, Path::new("DIR/other/ca.pem"));
    assert!(config.redact.all);
    assert_eq!(config.redact.names, ["*pin*", "*iban*"]);
    let mut names: Vec<&str> = variables.iter().map(|(n, _)| *n).collect();
    names.sort_unstable();
    assert_eq!(config.from_environment, names);

    refused(
        &development,
        &[("DEBUG_AGENT__REDACT__ALL", "yes")],
        "DEBUG_AGENT__REDACT__ALL: `yes` is not a value",
    );
    refused(
        &development,
        &[("DEBUG_AGENT__REDACT__ALL", "1")],
        "`redact.all` is a number",
    );
    refused(
        &development,
        &[("DEBUG_AGENT__LISTEN__ADDRESS", "0.0.0.0:1")],
        "DEBUG_AGENT__LISTEN__ADDRESS: `0.0.0.0:1`",
    );
    refused(
        &development,
        &[("DEBUG_AGENT__VERSION", "1")],
        "overrides a key that does not exist",
    );
    refused(
        &development,
        &[("DEBUG_AGENT__listen__address", "x")],
        "overrides a key that does not exist",
    );
}

#[test]
fn in_production_the_environment_does_not_decide_who_gets_in() {
    for name in [
        "LISTEN__ADDRESS",
        "TRUST__CA",
        "TRUST__CRL",
        "TRUST__DOMAIN",
        "TRUST__KEY",
        "POLICY__FILE",
    ] {
        let name = format!("DEBUG_AGENT__{name}");
        refused(
            GOOD,
            &[(&name, "127.0.0.1:1")],
            "cannot be overridden where `environment` is `production`",
        );
    }
    refused(
        GOOD,
        &[("DEBUG_AGENT__ENVIRONMENT", "development")],
        "`environment` cannot be overridden",
    );
    assert_eq!(
        load(GOOD, &[("DEBUG_AGENT__INSTANCE", "7")]).unwrap().instance,
        "7"
    );
    // The same if a variable sets the environment to production.
    let development = changed("\"production\"", "\"development\"");
    let both = [
        ("DEBUG_AGENT__ENVIRONMENT", "production"),
        ("DEBUG_AGENT__POLICY__FILE", "x"),
    ];
    refused(&development, &both, "`policy.file` cannot be overridden");
    assert_eq!(load(&development, &both[..1]).unwrap().environment, "production");
}

#[test]
fn names_that_cannot_stand_in_a_certificate_are_refused() {
    for bad in ["", "a b", "a/b", "..", "ä", "a\\u001bb", &"x".repeat(65)] {
        refused(
            &changed("\"dienstplan\"", &format!("\"{bad}\"")),
            &[],
            "cannot be a name",
        );
    }
    assert!(load(&changed("\"dienstplan\"", "\"Dienst-plan_2.x\""), &[]).is_ok());
}

#[test]
fn a_section_that_is_a_value_and_a_value_that_is_a_section_are_refused() {
    refused(
        &changed("[listen]\naddress = \"127.0.0.1:7777\"", "[service.listen]"),
        &[],
        "not TOML",
    );
    let text = changed("[listen]\naddress = \"127.0.0.1:7777\"", "")
        .replace("version = 1", "version = 1\nlisten = 7");
    refused(&text, &[], "`listen` is a number, not a section");
    refused(
        &changed("instance = \"1\"", "instance = { a = 1 }"),
        &[],
        "`instance` is a table",
    );
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_file_is_believed_where_nobody_else_can_change_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    std::fs::write(&file, "text").unwrap();
    for good in [0o644, 0o600, 0o400, 0o755] {
        mode(&file, good);
        assert_eq!(trusted_file(&file).unwrap(), b"text");
    }
    for bad in [0o664, 0o646, 0o666, 0o777] {
        mode(&file, bad);
        let error = trusted_file(&file).unwrap_err();
        assert!(matches!(error, FileError::Writable { .. }), "{error}");
        assert!(error.advice().contains("chmod go-w"));
    }
    mode(&file, 0o644);
    mode(folder.path(), 0o775);
    assert!(matches!(trusted_file(&file), Err(FileError::Writable { .. })));
    mode(folder.path(), 0o755);
    assert!(trusted_file(&file).is_ok());
}

#[test]
fn a_private_key_is_read_where_nobody_else_can_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "text").unwrap();
    for good in [0o600, 0o400] {
        mode(&file, good);
        assert_eq!(*private_file(&file).unwrap(), b"text");
    }
    for bad in [0o640, 0o604, 0o610] {
        mode(&file, bad);
        assert!(matches!(private_file(&file), Err(FileError::Readable { .. })));
    }
}

#[test]
fn owners_are_root_or_the_service_and_only_roots_sticky_folders_may_be_shared() {
    let verdict = |owner, mode, folder| judge(Path::new("/p"), owner, mode, folder, 1000);
    for (owner, mode, folder) in [
        (0, 0o755, true),
        (1000, 0o700, true),
        (0, 0o1777, true),
        (1000, 0o644, false),
    ] {
        assert!(verdict(owner, mode, folder).is_ok(), "{owner} {mode:o}");
    }
    assert!(matches!(verdict(1001, 0o700, true), Err(FileError::Owner { .. })));
    assert!(matches!(
        verdict(1000, 0o1777, true),
        Err(FileError::Writable { .. })
    ));
    assert!(matches!(verdict(0, 0o777, true), Err(FileError::Writable { .. })));
    // Only for folders does the sticky bit have a meaning here.
    assert!(matches!(
        verdict(0, 0o1666, false),
        Err(FileError::Writable { .. })
    ));
}

#[test]
fn a_link_is_judged_by_what_it_resolves_to() {
    let folder = tempfile::tempdir().unwrap();
    let (data, link) = (folder.path().join("..2027"), folder.path().join("policy.toml"));
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("policy.toml"), "text").unwrap();
    symlink("..2027/policy.toml", &link).unwrap();
    assert_eq!(trusted_file(&link).unwrap(), b"text");
    mode(&data, 0o777);
    assert!(matches!(trusted_file(&link), Err(FileError::Writable { .. })));
}

#[test]
fn what_is_no_file_or_too_large_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(trusted_file(folder.path()), Err(FileError::Kind { .. })));
    assert!(trusted_file(Path::new("/dev/null")).is_err());
    assert!(matches!(
        trusted_file(Path::new("/")),
        Err(FileError::Kind { .. })
    ));
    assert!(matches!(
        trusted_file(&folder.path().join("none")),
        Err(FileError::Read { .. })
    ));

    let pipe = folder.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    assert!(matches!(trusted_file(&pipe), Err(FileError::Kind { .. })));

    let large = folder.path().join("large");
    let size = usize::try_from(MAX_FILE).unwrap();
    std::fs::write(&large, vec![b'#'; size]).unwrap();
    assert_eq!(trusted_file(&large).unwrap().len(), size);
    std::fs::write(&large, vec![b'#'; size + 1]).unwrap();
    assert!(matches!(trusted_file(&large), Err(FileError::Size { .. })));
}

#[test]
fn a_configuration_that_others_can_change_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.toml");
    std::fs::write(&path, GOOD).unwrap();
    assert!(Config::load(&path, []).is_ok());
    mode(&path, 0o666);
    let error = Config::load(&path, []).unwrap_err().to_string();
    assert!(
        error.contains("can be written by its group or by others"),
        "{error}"
    );
}
