use super::*;

fn mark(redactor: &Redactor, tree: Tree) -> Tree {
    redactor.mark(&path("config"), tree)
}

fn secret_paths(tree: &Tree) -> Vec<String> {
    tree.leaves()
        .filter(|(_, leaf)| leaf.holds_secret())
        .map(|(path, _)| path.to_string())
        .collect()
}

#[test]
fn types_names_and_shapes_make_a_value_secret() {
    let marked = mark(&Redactor::new(&[]), tree(&config()));
    assert_eq!(
        secret_paths(&marked),
        ["slack.token", "slack.sign", "db.password"]
    );
    assert!(!format!("{marked:?}").contains("CANARY"));
    let again = mark(&Redactor::new(&[]), marked.clone());
    assert_eq!(again, marked);
}

#[test]
fn a_secret_name_covers_all_below_it_but_nothing_that_is_empty() {
    let value = Tree::Map(vec![(
        "X-API-Keys".into(),
        Tree::Map(vec![
            (
                "list".into(),
                Tree::Seq(vec![
                    text("a"),
                    Tree::I64(1),
                    Tree::Bool(true),
                    Tree::Null,
                    text(""),
                ]),
            ),
            ("none".into(), Tree::Seq(vec![])),
        ]),
    )]);
    let marked = mark(&Redactor::new(&[]), value.clone());
    let expected = ["X-API-Keys.list.0", "X-API-Keys.list.1", "X-API-Keys.list.2"];
    assert_eq!(secret_paths(&marked), expected);
    assert!(marked.same(&value));
    assert_eq!(
        secret_paths(&Redactor::new(&[]).mark(&path("config.secrets"), text("x"))),
        [""]
    );
}

#[test]
fn globs_match_one_segment_whatever_its_case() {
    let redactor = Redactor::new(&["Salz".into(), "a*b*c".into(), "end*".into()]);
    for name in [
        "PASSWORD",
        "dbPass",
        "api_key",
        "Authorization",
        "dsn",
        "salz",
        "abc",
        "aXXbYYc",
        "ending",
        "aabbcc",
    ] {
        assert!(redactor.is_secret_segment(name), "{name}");
    }
    for name in ["host", "port", "salzig", "ab", "bend", "acb", ""] {
        assert!(!redactor.is_secret_segment(name), "{name}");
    }
}

#[test]
fn texts_of_a_secret_shape_are_secret_wherever_they_stand() {
    let many = "a1B2".repeat(10);
    for secret in [
        "postgres://app:hunter22@db/app".to_owned(),
        "see amqp://guest@mq:5672/ for more".to_owned(),
        "redis://:pa/ss@cache".to_owned(),
        "-----BEGIN PRIVATE KEY-----".to_owned(),
        format!("xoxb-{many}"),
        format!("token=ghp_{many}!"),
        format!("AKIA{}", "A".repeat(16)),
        format!("sk_live_{many}"),
        format!("glpat-{many}"),
        format!("Bearer eyJ{many}.{many}.{many}"),
        format!("eyJ{many}.{many}."),
    ] {
        assert_eq!(
            secret_paths(&mark(&Redactor::new(&[]), Tree::Seq(vec![text(&secret)]))),
            ["0"],
            "{secret}"
        );
    }
    for open in [
        "http://localhost:8080/a@b",
        "mail a@b.c",
        "task-sk-1",
        "xoxb-",
        "eyJ",
        "https://host/path",
        "hf_x",
        "a://b:80/@",
    ] {
        assert!(
            secret_paths(&mark(&Redactor::new(&[]), text(open))).is_empty(),
            "{open}"
        );
    }
}

#[test]
fn redact_all_leaves_only_the_listed_paths() {
    let redactor = Redactor::new(&[]).redact_all(vec![path("config.server"), path("config.db.password")]);
    let marked = mark(&redactor, tree(&config()));
    assert_eq!(
        secret_paths(&marked),
        ["slack.token", "slack.sign", "db.host", "db.password"]
    );
}

fn scrubber() -> Scrubber {
    let scrubber = Scrubber::default();
    scrubber.learn(&path("config"), &mark(&Redactor::new(&[]), tree(&config())));
    scrubber
}

#[test]
fn a_known_secret_is_scrubbed_in_every_form() {
    let scrubber = Scrubber::default();
    let secret = "p\"ä/ss+w ord%";
    scrubber.learn(&path("a"), &Tree::Secret(Box::new(text(secret))));
    use base64::Engine;
    use base64::engine::general_purpose as engines;
    let mut forms = vec![secret.to_owned(), serde_json::to_string(secret).unwrap()];
    for engine in [
        &engines::STANDARD,
        &engines::STANDARD_NO_PAD,
        &engines::URL_SAFE,
        &engines::URL_SAFE_NO_PAD,
    ] {
        forms.push(engine.encode(secret));
        forms.extend(["", "x", "xy", "user:"].map(|before| engine.encode(format!("{before}{secret}..."))));
    }
    forms.extend(
        [
            "p%22%C3%A4%2Fss%2Bw%20ord%25",
            "p%22%c3%a4%2fss%2bw%20ord%25",
            "p%22%C3%A4%2Fss%2Bw+ord%25",
        ]
        .map(Into::into),
    );
    for form in forms {
        let scrubbed = scrubber.scrub(&format!("before {form} after")).into_owned();
        assert!(scrubber.find(&form), "{form}");
        assert!(scrubbed.contains(PLACEHOLDER), "{form}: {scrubbed}");
        assert!(
            scrubbed.starts_with("before ") && scrubbed.ends_with(" after"),
            "{scrubbed}"
        );
    }
}

#[test]
fn numbers_and_the_password_of_a_url_are_scrubbed_too() {
    let scrubber = Scrubber::default();
    let secrets = Tree::Seq(vec![text("postgres://app:hunter22@db/app"), Tree::I64(1_234_567)]);
    scrubber.learn(&path("a"), &Tree::Secret(Box::new(secrets)));
    assert_eq!(
        scrubber.scrub("login with hunter22 failed, pin 1234567"),
        "login with ‹secret› failed, pin ‹secret›"
    );
}

#[test]
fn what_was_revealed_stays_and_nothing_else() {
    let scrubber = scrubber();
    let mut shown = Shown::default();
    shown.add(&text("CANARY-token"));
    // The shown secret in base64 and verbatim; the other one in neither form.
    let said = "CANARY-token Q0FOQVJZLXRva2Vu CANARY-sign Q0FOQVJZLXNpZ24=";
    assert_eq!(
        scrubber.scrub_but(said, &shown),
        "CANARY-token Q0FOQVJZLXRva2Vu ‹secret› ‹secret›"
    );
}

#[test]
fn a_part_adds_to_what_is_known_and_the_whole_state_replaces_it() {
    let scrubber = scrubber();
    assert_eq!(scrubber.scrub("CANARY-token CANARY-sign"), "‹secret› ‹secret›");
    scrubber.learn(
        &path("config.slack"),
        &Tree::Map(vec![("token".into(), Tree::Secret(Box::new(text("another"))))]),
    );
    // The service may have moved the secret that stood there to another element of the same state.
    assert_eq!(
        scrubber.scrub("CANARY-token another CANARY-password"),
        "‹secret› ‹secret› ‹secret›"
    );
    for number in 0..100 {
        let token = Tree::Secret(Box::new(text(&format!("rotated-{number}"))));
        scrubber.learn(&path("config.slack"), &Tree::Map(vec![("token".into(), token)]));
    }
    assert!(scrubber.find("rotated-99") && scrubber.find("rotated-90") && !scrubber.find("rotated-20"));
    scrubber.learn(&path("config"), &Tree::Null);
    assert!(!scrubber.find("CANARY-token another CANARY-password"));
}

#[test]
fn short_secrets_and_those_equal_to_an_identifier_are_not_searched_for() {
    let scrubber = Scrubber::default();
    let entry = |key: &str, value: &str| (key.to_owned(), Tree::Secret(Box::new(text(value))));
    let secrets = Tree::Map(vec![
        entry("short", "12345"),
        entry("named", "dienstplan"),
        entry("other", "dienstplaner"),
    ]);
    scrubber.protect_identifiers(["dienstplan::rota::next", "GET /api/healthcheck"]);
    scrubber.learn(&path("config"), &secrets);
    assert_eq!(
        scrubber.scrub("12345 dienstplan dienstplaner"),
        "12345 dienstplan ‹secret›"
    );
    assert_eq!(scrubber.unsearched(), [Origin::from(&path("config.named"))]);
}

#[test]
fn of_secrets_that_begin_alike_the_longest_is_replaced() {
    let scrubber = Scrubber::default();
    let list = ["abcdef", "abcdefgh", "abcdefghij", "abcdex", "defghijk"];
    let secrets = list
        .iter()
        .map(|secret| Tree::Secret(Box::new(text(secret))))
        .collect();
    scrubber.learn(&path("a"), &Tree::Seq(secrets));
    for (text, expected) in [
        ("abcdefghijk", "‹secret›k"),
        ("abcdefghi", "‹secret›i"),
        ("abcdefgx", "‹secret›gx"),
        ("abcdezabcdex", "abcdez‹secret›"),
        ("xdefghijk", "x‹secret›"),
        ("abcde", "abcde"),
        ("", ""),
    ] {
        assert_eq!(scrubber.scrub(text), expected);
    }
    assert!(matches!(scrubber.scrub("nothing"), std::borrow::Cow::Borrowed(_)));
}

proptest::proptest! {
    #[test]
    fn scrubbing_agrees_with_a_plain_search(
        secrets in proptest::collection::vec("[ab]{6,9}", 1..6),
        text in "[ab]{0,40}",
    ) {
        let scrubber = Scrubber::default();
        let marked = secrets.iter().map(|secret| Tree::Secret(Box::new(super::text(secret)))).collect();
        scrubber.learn(&path("a"), &Tree::Seq(marked));
        let (mut expected, mut rest) = (String::new(), text.as_str());
        while let Some(first) = rest.chars().next() {
            let longest = secrets.iter().filter(|secret| rest.starts_with(secret.as_str())).map(String::len).max();
            match longest {
                Some(_) => expected.push_str(PLACEHOLDER),
                None => expected.push(first),
            }
            rest = &rest[longest.unwrap_or(1)..];
        }
        proptest::prop_assert_eq!(scrubber.scrub(&text), expected);
    }
}
