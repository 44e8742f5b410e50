use proptest::prelude::*;

use super::*;

#[track_caller]
fn covers_all(pattern: &str, covered: &[&str], others: &[&str]) {
    let compiled = Pattern::parse(pattern).unwrap();
    for (texts, expected) in [(covered, true), (others, false)] {
        for text in texts {
            let resource: Resource = text.parse().unwrap();
            assert_eq!(
                compiled.covers(&Target::new(&resource)),
                expected,
                "{pattern} on {text}"
            );
        }
    }
}

#[test]
fn a_pattern_covers_its_kind_only() {
    let one_each = [
        "agent",
        "state:a",
        "point:a",
        "point:GET /a",
        "lease:a",
        "target:a",
    ];
    for (at, pattern) in [
        "agent",
        "state:**",
        "point:**",
        "point:* /**",
        "lease:*",
        "target:**",
    ]
    .iter()
    .enumerate()
    {
        let covered: Vec<_> = match at {
            2 => vec!["point:a", "point:GET /a"],
            3 => vec!["point:GET /a"],
            4 => vec!["lease:a"],
            5 => vec!["target:a"],
            _ => vec![one_each[at]],
        };
        let others: Vec<_> = one_each
            .iter()
            .copied()
            .filter(|r| !covered.contains(r))
            .collect();
        covers_all(pattern, &covered, &others);
    }
}

#[test]
fn two_stars_cover_any_number_of_segments_and_none() {
    covers_all(
        "state:config.**",
        &["state:config", "state:config.a", "state:config.a.b"],
        &["state:configs", "state:a.config"],
    );
    covers_all(
        "state:**.port",
        &["state:port", "state:a.port", "state:a.b.port"],
        &["state:port.a"],
    );
    covers_all(
        "state:a.**.z",
        &["state:a.z", "state:a.b.z", "state:a.z.z", "state:a.b.c.z"],
        &["state:a", "state:z", "state:a.z.b"],
    );
    covers_all(
        "state:a.**.m.**.z",
        &["state:a.m.z", "state:a.m.m.z.z", "state:a.b.m.c.z"],
        &["state:a.z", "state:a.b.z"],
    );
    covers_all(
        "point:* /api/**",
        &["point:GET /api", "point:POST /api/", "point:GET /api/a/b"],
        &["point:GET /apis", "point:GET /"],
    );
    covers_all(
        "point:billing::**",
        &["point:billing", "point:billing::a::b"],
        &["point:billings", "point:GET /billing"],
    );
    covers_all(
        "target:dienstplan::**",
        &["target:dienstplan", "target:dienstplan::a::b"],
        &[
            "target:dienstplans",
            "target:a::dienstplan",
            "point:dienstplan::a",
        ],
    );
    covers_all(
        "target:**",
        &["target:a", "target:a::b", "target:a b::c"],
        &["point:a::b"],
    );
    covers_all("point:* /**", &["point:GET /", "point:GET /a/b"], &["point:a::b"]);
}

#[test]
fn one_star_stays_inside_one_segment() {
    covers_all(
        "state:config.*",
        &["state:config.a", r#"state:config["a.b"]"#, r#"state:config[""]"#],
        &["state:config", "state:config.a.b"],
    );
    covers_all(
        "state:*.pass*",
        &["state:a.pass", "state:a.password"],
        &["state:a.b.pass", "state:a.compass"],
    );
    covers_all(
        "state:a*b*c",
        &["state:abc", "state:axbxc", "state:abcbc"],
        &["state:ab", "state:acb"],
    );
    covers_all("state:ab*ba", &["state:abba", "state:abxba"], &["state:aba"]);
    covers_all(
        "point:GET /users/*/edit",
        &["point:GET /users/{id}/edit"],
        &["point:GET /users/a/b/edit", "point:PUT /users/a/edit"],
    );
    covers_all(
        "point:a::*::c",
        &["point:a::b::c"],
        &["point:a::c", "point:a::b::b::c"],
    );
    covers_all(
        "target:a::*::c",
        &["target:a::b::c"],
        &["target:a::c", "target:a::b::b::c"],
    );
    covers_all(
        "target:hyper*",
        &["target:hyper", "target:hyper_util"],
        &["target:hyper::client"],
    );
    covers_all("lease:al*", &["lease:alice", "lease:al"], &["lease:bob"]);
}

#[test]
fn names_are_compared_exactly() {
    covers_all(
        "point:POST /api/login",
        &["point:POST /api/login"],
        &[
            "point:POST /api//login",
            "point:POST /api/./login",
            "point:POST /api/login/",
            "point:POST /API/login",
            "point:post /api/login",
            "point:POST /api/l\u{43e}gin",
        ],
    );
    // The letter ö in one and in two code points: two names, never folded into one.
    covers_all(
        "point:GET /\u{f6}",
        &["point:GET /\u{f6}"],
        &["point:GET /o\u{308}"],
    );
}

#[test]
fn inside_brackets_a_star_is_a_star() {
    covers_all(r#"state:a["*"].b"#, &[r#"state:a["*"].b"#], &["state:a.x.b"]);
    covers_all(
        r#"state:a["**"]"#,
        &[r#"state:a["**"]"#],
        &["state:a", "state:a.x"],
    );
}

#[test]
fn what_would_cover_something_else_than_it_says_is_refused() {
    let refused = [
        "",
        "*",
        "**",
        "config.**",
        "/api/**",
        "GET /api",
        "agent:*",
        "State:a",
        "state:",
        "state:a.***",
        "state:a**",
        "state:a..b",
        "state:a.",
        r#"state:["a"]"#,
        "state:a b",
        "point:",
        "point:*",
        "point:get /a",
        "point:G* /a",
        "point:GET a",
        "point:/a",
        "point:GET",
        "point:GET  /a",
        "point: /a",
        "point:GET /a**",
        "point:a::b**",
        "point:a\u{200b}",
        "target:",
        "target:*",
        "target:a::",
        "target:::a",
        "target:a::b**",
        "target:a\u{200b}",
        "lease:",
        "lease:**",
        "lease:a**",
        "lease:a b",
        "lease:a/*",
    ];
    for text in refused {
        // A single word is a function's name, so `point:GET` is one.
        assert_eq!(Pattern::parse(text).is_err(), text != "point:GET", "{text}");
    }
}

#[test]
fn a_hostile_pattern_costs_no_more_than_the_product_of_the_lengths() {
    let pattern = Pattern::parse(&format!("point:{}b", "a*".repeat(250))).unwrap();
    let name = Resource::Point("a".repeat(512));
    let many = Pattern::parse(&format!("point:* /{}b", "**/a*/".repeat(60))).unwrap();
    let path = Resource::Point(format!("GET {}", "/aa".repeat(150)));
    // Exponential backtracking would not finish.
    for _ in 0..1000 {
        assert!(!pattern.covers(&Target::new(&name)));
        assert!(!many.covers(&Target::new(&path)));
    }
}

/// A level set for a target is set for all below it.
#[test]
fn a_pattern_touches_a_target_if_it_covers_any_below_it() {
    let touches = |pattern: &str, target: &str| {
        let resource: Resource = target.parse().unwrap();
        Pattern::parse(pattern).unwrap().touches(&Target::new(&resource))
    };
    for pattern in [
        "target:a::b::c",
        "target:a::b",
        "target:a",
        "target:**",
        "target:a::**",
        "target:*::b*",
        "target:**::z",
    ] {
        assert!(touches(pattern, "target:a"), "{pattern}");
    }
    for pattern in [
        "target:b",
        "target:b::a",
        "target:ab::**",
        "target:b::**::a",
        "point:a",
        "state:a.b",
    ] {
        assert!(!touches(pattern, "target:a"), "{pattern}");
    }
    for (pattern, expected) in [("target:a", false), ("target:a::b", true), ("target:a::c", false)] {
        assert_eq!(touches(pattern, "target:a::b"), expected, "{pattern}");
    }
    // No other kind of resource stands for what is below it.
    assert!(!touches("point:a::b", "point:a") && !touches("state:a.b", "state:a"));
}

/// A direct, exponential implementation of the definition.
fn naive(pattern: &[&str], path: &[String]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, rest) => rest.is_none(),
        (Some((&"**", rest)), _) => (0..=path.len()).any(|skip| naive(rest, &path[skip..])),
        (Some(_), None) => false,
        (Some((glob, rest)), Some((segment, others))) => {
            naive_glob(glob.as_bytes(), segment.as_bytes()) && naive(rest, others)
        }
    }
}

fn naive_glob(glob: &[u8], text: &[u8]) -> bool {
    match (glob.split_first(), text.split_first()) {
        (None, rest) => rest.is_none(),
        (Some((b'*', rest)), _) => (0..=text.len()).any(|skip| naive_glob(rest, &text[skip..])),
        (Some((c, rest)), Some((d, others))) => c == d && naive_glob(rest, others),
        (Some(_), None) => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn the_matcher_agrees_with_the_definition(
        pattern in proptest::collection::vec(prop_oneof![1 => Just("**".to_owned()), 3 => "a|b|\\*|a\\*|\\*b|a\\*b|\\*a\\*|ab\\*ba"], 1..6),
        path in proptest::collection::vec("[ab]{1,4}", 1..6),
    ) {
        let parts: Vec<&str> = pattern.iter().map(String::as_str).collect();
        let expected = naive(&parts, &path);
        for (text, resource) in [
            (format!("state:{}", parts.join(".")), Resource::State(path.clone())),
            (format!("point:* /{}", parts.join("/")), Resource::Point(format!("GET /{}", path.join("/")))),
            (format!("point:x::{}", parts.join("::")), Resource::Point(format!("x::{}", path.join("::")))),
            (format!("target:x::{}", parts.join("::")), Resource::Target(format!("x::{}", path.join("::")))),
        ] {
            let compiled = Pattern::parse(&text).unwrap();
            prop_assert_eq!(compiled.covers(&Target::new(&resource)), expected, "{} on {}", text, resource);
        }
    }

    /// For any continuation of a name: a pattern that covers the longer name touches the shorter one.
    #[test]
    fn what_covers_a_longer_target_touches_each_it_begins_with(
        pattern in proptest::collection::vec(prop_oneof![1 => Just("**".to_owned()), 3 => "a|b|a\\*|\\*b|a\\*b"], 1..6),
        path in proptest::collection::vec("[ab]{1,2}", 1..6),
        shorter in 1_usize..6,
    ) {
        let compiled = Pattern::parse(&format!("target:x::{}", pattern.join("::"))).unwrap();
        let target = |path: &[String]| Resource::Target(format!("x::{}", path.join("::")));
        let begin = &path[..shorter.min(path.len())];
        if compiled.covers(&Target::new(&target(&path))) {
            prop_assert!(compiled.touches(&Target::new(&target(begin))));
        }
    }

    #[test]
    fn no_text_panics(text in "(agent|state:|point:|target:|lease:)?\\PC{0,20}") {
        let _ = Pattern::parse(&text);
    }
}

#[test]
fn a_pattern_reaches_a_path_if_it_covers_something_there() {
    let reaches = |pattern: &str, text: &str| {
        let resource: Resource = text.parse().unwrap();
        Pattern::parse(pattern).unwrap().reaches(&Target::new(&resource))
    };
    for (pattern, text, expected) in [
        ("state:config.db.port", "state:config", true),
        ("state:config.db.port", "state:config.db.port", true),
        ("state:config.db.port", "state:config.db.host", false),
        ("state:config.db.port", "state:other", false),
        ("state:config.**", "state:config.db", true),
        ("state:config.**", "point:config", false),
        ("target:a::b", "target:a", true),
        ("target:a::b", "target:b", false),
        ("agent", "agent", true),
        ("agent", "lease:a", false),
    ] {
        assert_eq!(reaches(pattern, text), expected, "{pattern} on {text}");
    }
}

#[test]
fn the_parts_between_stars_follow_each_other() {
    let covers = |glob: &str, text: &str| Glob::new(glob).covers(text);
    assert!(covers("*ab*b*", "xabb") && covers("*ab*b*", "ab-b"));
    assert!(!covers("*ab*b*", "xab"), "the `b` is part of `ab`");
    assert!(!covers("*ab*ab*", "xaba"));
}
