use proptest::prelude::*;

use super::*;

#[track_caller]
fn one_spelling(text: &str, expected: Resource) {
    let read: Resource = text.parse().unwrap();
    assert_eq!(read, expected);
    assert_eq!(read.to_string(), text);
    assert_eq!(
        serde_json::from_str::<Resource>(&serde_json::to_string(&read).unwrap()).unwrap(),
        read
    );
}

fn path(segments: &[&str]) -> Resource {
    Resource::State(segments.iter().map(|s| (*s).to_owned()).collect())
}

#[test]
fn each_kind_has_one_spelling() {
    one_spelling("agent", Resource::Agent);
    one_spelling("state:config", path(&["config"]));
    one_spelling("state:config.db.host", path(&["config", "db", "host"]));
    one_spelling("state:config.hosts.0", path(&["config", "hosts", "0"]));
    one_spelling("state:log_level.max-age", path(&["log_level", "max-age"]));
    one_spelling("lease:alice_b-c.d", Resource::Lease("alice_b-c.d".to_owned()));
    one_spelling(r#"state:config["a b"].x"#, path(&["config", "a b", "x"]));
    one_spelling(r#"state:["a b"]["größe"].x"#, path(&["a b", "größe", "x"]));
    one_spelling(
        r#"state:config["a\"b\\c\n\u200b"]"#,
        path(&["config", "a\"b\\c\n\u{200b}"]),
    );
    one_spelling(r#"state:config["\udb40\udc41"]"#, path(&["config", "\u{e0041}"]));
    one_spelling(r#"state:config["a]b"]["*"]"#, path(&["config", "a]b", "*"]));
    one_spelling(r#"state:config[""]"#, path(&["config", ""]));
    one_spelling("point:GET /api/x", Resource::Point("GET /api/x".to_owned()));
    one_spelling(
        "point:dienstplan::rota::next",
        Resource::Point("dienstplan::rota::next".to_owned()),
    );
    one_spelling("target:hyper", Resource::Target("hyper".to_owned()));
    one_spelling(
        "target:hyper::client",
        Resource::Target("hyper::client".to_owned()),
    );
    one_spelling("lease:alice", Resource::Lease("alice".to_owned()));
}

#[test]
fn a_second_spelling_of_a_path_is_refused() {
    let refused = [
        r#"state:["config"]"#,
        r#"state:config["db"]"#,
        r#"state:config.["a b"]"#,
        r#"state:config["\u0061 b"]"#,
        r#"state:config["a\/b"]"#,
        r#"state:config["a b" ]"#,
        r#"state:config[ "a b"]"#,
        r#"state:config["\u000a"]"#,
        r#"state:config["\u200B"]"#,
        "state:config[\"a\u{200b}\"]",
        "state:config['a b']",
        "state:config[0]",
        "state:a..b",
        "state:.a",
        "state:a.",
        "state:a b",
        "state:a.b ",
        "state:größe",
        "state:a[\"b c\"]d",
        "state:a[\"b c\"",
        "state:a[\"b c",
        "state:a[\"\\ud800\"]",
        "state:",
        "state:a.*",
        "state:**",
    ];
    for text in refused {
        assert!(text.parse::<Resource>().is_err(), "{text}");
    }
}

#[test]
fn hidden_characters_are_refused_in_points_targets_and_operators() {
    for name in [
        "a\u{202e}b",
        "a\u{200b}b",
        "a\nb",
        "a\0",
        "GET\u{a0}/x",
        " GET /x",
        "GET /x ",
        "GET  /x",
        "",
        "\u{feff}a",
    ] {
        assert!(format!("point:{name}").parse::<Resource>().is_err(), "{name:?}");
        assert!(Resource::Point(name.to_owned()).check().is_err(), "{name:?}");
    }
    for name in [
        "",
        "a\u{202e}b",
        "a\u{200b}b",
        "a\nb",
        " a",
        "a ",
        "a  b",
        "a::",
        "::a",
        "a::::b",
        "::",
        "a\u{a0}::b",
    ] {
        assert!(format!("target:{name}").parse::<Resource>().is_err(), "{name:?}");
        assert!(Resource::Target(name.to_owned()).check().is_err(), "{name:?}");
    }
    for name in ["", "a b", "a/b", "ä", "a\n", "*"] {
        assert!(format!("lease:{name}").parse::<Resource>().is_err(), "{name:?}");
    }
    assert!(
        !Resource::Point("a\n\u{202e}b".to_owned())
            .to_string()
            .contains(['\n', '\u{202e}'])
    );
}

#[test]
fn lengths_are_bounded() {
    let deep = |n| format!("state:{}", vec!["a"; n].join("."));
    assert!(deep(MAX_SEGMENTS).parse::<Resource>().is_ok());
    assert_eq!(
        deep(MAX_SEGMENTS + 1).parse::<Resource>(),
        Err(InvalidResource::TooDeep)
    );
    assert!(
        format!("state:{}", "a".repeat(MAX_SEGMENT))
            .parse::<Resource>()
            .is_ok()
    );
    assert!(
        format!("state:{}", "a".repeat(MAX_SEGMENT + 1))
            .parse::<Resource>()
            .is_err()
    );
    assert!(
        format!("point:{}", "a".repeat(MAX_POINT))
            .parse::<Resource>()
            .is_ok()
    );
    assert!(
        format!("point:{}", "a".repeat(MAX_POINT + 1))
            .parse::<Resource>()
            .is_err()
    );
    assert!(
        format!("target:{}", "a".repeat(MAX_TARGET))
            .parse::<Resource>()
            .is_ok()
    );
    assert!(
        format!("target:{}", "a".repeat(MAX_TARGET + 1))
            .parse::<Resource>()
            .is_err()
    );
    assert!(
        format!("lease:{}", "a".repeat(MAX_OPERATOR + 1))
            .parse::<Resource>()
            .is_err()
    );
}

#[test]
fn another_kind_is_refused() {
    for text in [
        "",
        "Agent",
        "agent:",
        "agent ",
        "states:a",
        "STATE:a",
        "config.db",
        "targets:x",
        "level:x",
    ] {
        assert!(
            matches!(text.parse::<Resource>(), Err(InvalidResource::Kind(_))),
            "{text}"
        );
    }
}

proptest! {
    #[test]
    fn every_path_within_bounds_reads_back_equal(path in proptest::collection::vec(any::<String>(), 1..8)) {
        prop_assume!(path.iter().all(|s| s.len() <= MAX_SEGMENT));
        prop_assert_eq!(parse_path(&format_path(&path)).unwrap(), path);
    }

    #[test]
    fn what_is_read_is_written_the_same(text in "([a-z.*]|\\[\"|\"\\]|\\\\|u00|[ö\u{200b}\n]){0,12}") {
        if let Ok(path) = parse_path(&text) {
            prop_assert_eq!(format_path(&path), text);
        }
    }
}

#[test]
fn the_name_of_an_operator_is_bounded() {
    let longest = "a".repeat(MAX_OPERATOR);
    assert!(format!("lease:{longest}").parse::<Resource>().is_ok());
    assert!(format!("lease:{longest}a").parse::<Resource>().is_err());
}
