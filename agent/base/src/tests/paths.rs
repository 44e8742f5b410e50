use proptest::prelude::*;

use super::*;

#[test]
fn a_path_is_segments_in_one_spelling() {
    for (spelling, segments) in [
        ("config", vec!["config"]),
        ("config.db.host", vec!["config", "db", "host"]),
        ("config.hosts.0", vec!["config", "hosts", "0"]),
        (r#"config["a b"].x"#, vec!["config", "a b", "x"]),
        (r#"config["a\"b"]["."].y"#, vec!["config", "a\"b", ".", "y"]),
        (r#"["größe"]"#, vec!["größe"]),
        (r#"a[""]"#, vec!["a", ""]),
    ] {
        let path: Path = spelling.parse().unwrap();
        assert_eq!(path.0, segments);
        assert_eq!(path.to_string(), spelling);
    }
}

#[test]
fn every_other_spelling_is_refused() {
    for spelling in [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "a b",
        "größe",
        r#"a["b"]"#,
        r#"a.["b c"]"#,
        r#"a["b c"]d"#,
        "a[0]",
        r#"a["b c""#,
        r#"a["b c" ]"#,
        r#"a[ "b c"]"#,
        r#"a["\u0062 c"]"#,
        "a[b]",
        "a]",
        r#"a["b c"]."#,
        "a/b",
        "a\u{200b}",
    ] {
        assert!(spelling.parse::<Path>().is_err(), "{spelling}");
    }
    let error = r#"config["db"]"#.parse::<Path>().unwrap_err().to_string();
    assert!(error.contains("write `db`"), "{error}");
    // Invisible characters are escaped.
    let path = Path(vec!["config".to_owned(), "a\u{202e}b".to_owned()]);
    assert_eq!(path.to_string(), r#"config["a\u202eb"]"#);
    assert!("a".repeat(MAX_LEN + 1).parse::<Path>().is_err());
}

const MAX_LEN: usize = super::super::path::MAX_PATH_LEN;

proptest! {
    #[test]
    fn what_a_path_displays_parses_to_it(segments in prop::collection::vec(any::<String>(), 1..5)) {
        let path = Path(segments);
        prop_assume!(path.to_string().len() <= MAX_LEN && path.0.iter().all(|segment| segment.len() <= 256));
        prop_assert_eq!(path.to_string().parse::<Path>().unwrap(), path);
    }

    #[test]
    fn a_text_that_parses_is_what_its_path_displays(text in r#"[a-c0.\["\]\\ ]{0,12}"#) {
        if let Ok(path) = text.parse::<Path>() {
            prop_assert_eq!(path.to_string(), text);
        }
    }
}

#[test]
fn only_what_exists_is_replaced() {
    let tree = Tree::Map(vec![
        (
            "db".into(),
            Tree::Map(vec![("host".into(), text("a")), ("port".into(), Tree::I64(1))]),
        ),
        ("hosts".into(), Tree::Seq(vec![text("x"), text("y")])),
        (
            "token".into(),
            Tree::Secret(Box::new(Tree::Map(vec![("inner".into(), text("z"))]))),
        ),
    ]);
    let replaced = tree.clone().replaced(&segments("hosts.1"), text("z")).unwrap();
    assert_eq!(replaced.at(&segments("hosts.1")), Some(&text("z")));
    assert_eq!(tree.clone().replaced(&[], Tree::Null).unwrap(), Tree::Null);
    for (path, expected) in [
        (
            "db.hots",
            "no such path `db.hots`; did you mean `host`? known: host, port",
        ),
        ("db.user", "no such path `db.user`; known: host, port"),
        (
            "hosts.2",
            "no such path `hosts.2`; the list has the elements 0 to 1",
        ),
        (
            "hosts.01",
            "no such path `hosts.01`; the list has the elements 0 to 1",
        ),
        ("db.host.x", "no such path `db.host.x`; text stands above it"),
        (
            "token.inner",
            "no such path `token.inner`; a secret stands above it, which is read and written as a whole",
        ),
    ] {
        assert_eq!(
            tree.clone()
                .replaced(&segments(path), Tree::Null)
                .unwrap_err()
                .to_string(),
            expected
        );
        assert_eq!(tree.known_at(&segments(path)).unwrap_err().to_string(), expected);
        assert_eq!(tree.at(&segments(path)), None);
    }
}

#[test]
fn an_empty_container_and_a_secret_are_leaves() {
    let tree = Tree::Map(vec![
        ("none".into(), Tree::Seq(vec![])),
        ("list".into(), Tree::Seq(vec![Tree::Null, Tree::Map(vec![])])),
        (
            "secret".into(),
            Tree::Secret(Box::new(Tree::Seq(vec![Tree::Null]))),
        ),
    ]);
    let leaves: Vec<_> = tree.leaves().map(|(path, _)| path.to_string()).collect();
    assert_eq!(leaves, ["none", "list.0", "list.1", "secret"]);
    assert_eq!(Tree::Null.leaves().count(), 1);
}
