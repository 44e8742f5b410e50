use super::Secret;
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Login {
    user: String,
    password: Secret<String>,
    pin: Option<Secret<u32>>,
    keys: Secret<Vec<String>>,
}

fn login() -> Login {
    Login {
        user: "alice".into(),
        password: Secret::new("correct horse".into()),
        pin: Some(Secret::new(123_456)),
        keys: Secret::new(vec!["one".into()]),
    }
}

#[test]
fn a_secret_prints_and_serializes_as_the_placeholder() {
    let shown = format!("{:?} {}", login(), login().password);
    let json = serde_json::to_string(&login()).unwrap();
    assert!(
        !shown.contains("horse") && !json.contains("horse"),
        "{shown} {json}"
    );
    assert!(
        !shown.contains("123456") && !json.contains("123456"),
        "{shown} {json}"
    );
    assert_eq!(serde_json::to_value(login().pin).unwrap(), "‹secret›");
}

#[test]
fn a_configuration_is_read_as_usual() {
    let json = r#"{"user": "alice", "password": "correct horse", "pin": 123456, "keys": ["one"]}"#;
    assert_eq!(serde_json::from_str::<Login>(json).unwrap(), login());
    let toml = "user = 'alice'\npassword = 'correct horse'\npin = 123456\nkeys = ['one']";
    assert_eq!(toml::from_str::<Login>(toml).unwrap(), login());
}

#[test]
fn the_placeholder_is_refused_wherever_text_stands_in_a_secret() {
    for json in [
        r#"{"user": "a", "password": "‹secret›", "keys": []}"#,
        r#"{"user": "a", "password": "b", "keys": ["‹secret›"]}"#,
    ] {
        let error = serde_json::from_str::<Login>(json).unwrap_err().to_string();
        assert!(error.contains("placeholder"), "{error}");
    }
    type Map = Secret<std::collections::BTreeMap<String, Option<String>>>;
    assert!(serde_json::from_str::<Map>(r#"{"a": "‹secret›"}"#).is_err());
    assert!(serde_json::from_str::<Map>(r#"{"‹secret›": "a"}"#).is_ok());
}

#[test]
fn a_scope_on_this_thread_opens_no_other_serializer() {
    let _scope = crate::SecretScope::enter();
    assert_eq!(
        serde_json::to_value(Secret::new("correct horse")).unwrap(),
        "‹secret›"
    );
    assert!(serde_json::from_str::<Secret<String>>("\"typed by someone\"").is_err());
}
