use std::os::unix::ffi::OsStringExt;

use super::*;

fn read(vars: &[(&str, &str)]) -> Result<Config, String> {
    let lookup = |name: &str| {
        vars.iter()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| OsString::from(value))
    };
    Config::from_lookup(lookup).map_err(|mistakes| mistakes.to_string())
}

fn mistakes(vars: &[(&str, &str)]) -> String {
    read(vars).err().unwrap_or_default()
}

#[test]
fn an_empty_environment_gives_the_defaults() {
    let config = read(&[]).unwrap();
    assert_eq!(
        (config.server.port, config.server.loglevel),
        (8080, LogLevel::Info)
    );
    assert_eq!(
        (config.db.host.as_str(), config.db.port, config.db.dbname.as_str()),
        ("localhost", 5432, "dienstplan")
    );
    assert_eq!(expose(&config.slack.sign), "");
}

#[test]
fn every_variable_arrives_at_its_path() {
    let config = read(&[
        ("APP__DEBUG", "true"),
        ("SLACK__TOKEN", "a token"),
        ("SLACK__SIGN", "a signing secret"),
        ("ALERTS__SENTRY_DSN", "an address"),
        ("SERVER__PORT", "0"),
        ("SERVER__LOGLEVEL", "debug"),
        ("DB__SERVER_NAME", "db.example"),
        ("DB__PORT_NUMBER", "15432"),
        ("DB__DATABASE_NAME", "rotas"),
        ("DB__USERNAME", "writer"),
        ("DB__PASSWORD", "a password"),
    ])
    .unwrap();
    assert!(config.application.debug);
    assert_eq!(
        (expose(&config.slack.token), expose(&config.slack.sign)),
        ("a token", "a signing secret")
    );
    assert_eq!(expose(&config.alerts.sentry), "an address");
    assert_eq!((config.server.port, config.server.loglevel), (0, LogLevel::Debug));
    assert_eq!(
        (config.db.host.as_str(), config.db.port, config.db.dbname.as_str()),
        ("db.example", 15432, "rotas")
    );
    assert_eq!(
        (config.db.username.as_str(), expose(&config.db.password)),
        ("writer", "a password")
    );
}

#[test]
fn all_mistakes_are_reported_together() {
    let told = mistakes(&[
        ("APP__DEBUG", "yes"),
        ("SERVER__PORT", "80800"),
        ("SERVER__LOGLEVEL", "loud\u{1b}[2J"),
        ("DB__DATABASE", "a"),
        ("DB__DATABASE_NAME", "b"),
    ]);
    let expected = "APP__DEBUG is `yes`; expected `true` or `false`\n\
        SERVER__PORT is `80800`; expected a port from 0 to 65535\n\
        SERVER__LOGLEVEL is `loud\\u{1b}[2J`; expected `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`\n\
        DB__DATABASE_NAME and DB__DATABASE differ; expected one of them, or equal values";
    assert_eq!(told, expected);
}

#[test]
fn a_secret_that_is_not_utf8_is_not_shown() {
    let lookup = |name: &str| (name == "SLACK__SIGN").then(|| OsString::from_vec(b"visible\xff".to_vec()));
    let told = Config::from_lookup(lookup).err().unwrap().to_string();
    assert_eq!(told, "SLACK__SIGN is not UTF-8; expected text");
}

#[test]
fn the_second_name_of_the_database_works_too() {
    assert_eq!(read(&[("DB__DATABASE", "rotas")]).unwrap().db.dbname, "rotas");
    assert_eq!(
        read(&[("DB__DATABASE", "rotas"), ("DB__DATABASE_NAME", "rotas")])
            .unwrap()
            .db
            .dbname,
        "rotas"
    );
}

#[test]
fn set_to_nothing_counts_as_unset() {
    assert_eq!(read(&[("SERVER__PORT", "")]).unwrap().server.port, 8080);
}

#[test]
fn a_serialized_configuration_shows_no_secret() {
    let config = read(&[
        ("SLACK__TOKEN", "nobodys-token"),
        ("DB__PASSWORD", "nobodys-password"),
    ])
    .unwrap();
    let tree = serde_json::to_value(&config).unwrap();
    assert_eq!(tree["server"]["loglevel"], "INFO");
    assert!(!tree.to_string().contains("nobodys"), "{tree}");
    // The placeholder of a secret is no value: a written configuration cannot be loaded by mistake.
    assert!(serde_json::from_value::<Config>(tree).is_err());
}
