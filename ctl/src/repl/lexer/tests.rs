use proptest::prelude::*;

use super::is_open;

#[test]
fn whole_submissions_are_whole() {
    for text in [
        "",
        "config.db.host",
        "#{ a: [1, 2], b: (3) }",
        r#""a ( in a string""#,
        r#""an escaped \" quote (""#,
        r#""two "" of them (""#,
        "'('",
        r"'\''",
        "`a ( in backticks`",
        "`lines\n( and ${ #{ a: `inner ${1}` }.a } of them`",
        r"`no \${ interpolation`",
        r##"#"raw " ( "#"##,
        r###"##"raw "# ( "##"###,
        "1 // a ( in a comment",
        "1 /* ( /* [ */ { */ + 2",
        "8 / 2",
        "\"over \\\n two lines\"",
        "fn f(a) { a }\nf(1)",
    ] {
        assert!(!is_open(text), "{text}");
    }
}

#[test]
fn what_more_lines_can_close_is_open() {
    for text in [
        "patch(\"GET /api/healthcheck\", |req| {",
        "#{ a: [1,",
        "f(\")\"",
        "`lines",
        "`lines ${ 1 + `inner",
        "`lines ${ f(",
        "`a ${ 1 } b",
        r##"#"raw "##,
        r###"##"raw "#"###,
        "\"goes on \\",
        "\"goes on \\\n",
        "1 /* comment",
        "1 /* a /* b */",
        "f( // )",
    ] {
        assert!(is_open(text), "{text}");
    }
}

#[test]
fn what_no_line_can_repair_is_left_to_the_agent() {
    for text in ["(]", ")", "f(\"no end\n", "f(\"no end", "'", "{ (}", "`${ ) }`"] {
        assert!(!is_open(text), "{text}");
    }
}

/// Rhai in which every construct is closed.
fn balanced() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "[a-z0-9 .,;+|=-]{0,8}",
        r#""[a-z(){}\[\]'`#/ ]{0,6}""#,
        "'[(){}\"]'",
        r##"#"[a-z(){}" ]{0,6}\."#"##,
        Just("/* ( */".to_owned()),
        Just("// [\n".to_owned()),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|s| format!("({s})")),
            inner.clone().prop_map(|s| format!("[{s}]")),
            inner.clone().prop_map(|s| format!("{{\n{s}}}")),
            inner.clone().prop_map(|s| format!("#{{{s}}}")),
            inner.clone().prop_map(|s| format!("`a ${{{s}}} b`")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("{a} {b}")),
        ]
    })
}

proptest! {
    #[test]
    fn balanced_code_is_whole_and_opens_again_with_a_bracket(code in balanced()) {
        prop_assert!(!is_open(&code), "{code}");
        let open = format!("{{ {code}");
        prop_assert!(is_open(&open), "{open}");
        let more = format!("`{open}");
        prop_assert!(is_open(&format!("`a ${{{code}")), "{more}");
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        is_open(&text);
    }

    #[test]
    fn no_mixture_of_delimiters_panics(text in "[\"'`#$(){}\\[\\]/*\\\\\n a]{0,40}") {
        is_open(&text);
    }
}
