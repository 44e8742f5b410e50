use proptest::prelude::*;
use rhai::packages::{Package, StandardPackage};
use rhai::{Engine, Module, Scope};

use super::*;
use crate::ScriptResult;

fn keyed() -> Keyed {
    Keyed::new([7; 32]).unwrap()
}

fn path(text: &str) -> Path {
    text.parse().unwrap()
}

fn text(text: &str) -> Tree {
    Tree::Str(text.to_owned())
}

fn secret(value: &str) -> Tree {
    Tree::Secret(Box::new(text(value)))
}

fn engine() -> Engine {
    let mut engine = Engine::new_raw();
    StandardPackage::new().register_into_engine(&mut engine);
    let mut module = Module::new();
    register_types(&mut module);
    engine.register_global_module(module.into());
    engine
}

fn run(code: &str) -> ScriptResult<Dynamic> {
    let keyed = keyed();
    let mut scope = Scope::new();
    scope.push_dynamic("s", to_dynamic(&secret("CANARY"), &path("config.token"), &keyed));
    scope.push_dynamic("t", to_dynamic(&secret("CANARY"), &path("config.other"), &keyed));
    scope.push_dynamic(
        "u",
        to_dynamic(&secret("CANARY-2"), &path("config.other"), &keyed),
    );
    scope.push_dynamic(
        "big",
        to_dynamic(&Tree::U64(u64::MAX), &path("config.big"), &keyed),
    );
    engine().eval_with_scope(&mut scope, code)
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Null),
        any::<bool>().prop_map(Tree::Bool),
        any::<i64>().prop_map(Tree::I64),
        (i64::MAX as u64 + 1..).prop_map(Tree::U64),
        any::<f64>()
            .prop_filter("finite", |value| value.is_finite())
            .prop_map(Tree::F64),
        any::<String>().prop_map(Tree::Str),
        any::<String>().prop_map(|value| Tree::Secret(Box::new(Tree::Str(value)))),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Tree::Seq),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|entries| Tree::Map(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_value_written_back_to_its_own_path_is_the_same_tree(tree in tree()) {
        let at = path("config.db");
        let value = to_dynamic(&tree, &at, &keyed());
        prop_assert_eq!(from_dynamic(value, Some(&at)).unwrap(), tree);
    }

    #[test]
    fn no_secret_is_shown(value in "[a-z]{12}") {
        let marked = Tree::Map(vec![("a".into(), Tree::Seq(vec![secret(&value)]))]);
        let value_shown = to_dynamic(&marked, &path("config"), &keyed());
        let all = format!("{} {} {value_shown:?} {value_shown}", display(&value_shown), to_json(&value_shown));
        prop_assert!(!all.contains(&value), "{}", all);
    }
}

#[test]
fn a_secret_goes_nowhere_but_to_its_own_path() {
    let at = path("config.slack.token");
    let value = || to_dynamic(&secret("CANARY"), &at, &keyed());
    assert_eq!(from_dynamic(value(), Some(&at)).unwrap(), secret("CANARY"));
    for target in [None, Some(path("config.slack.sign")), Some(path("config.slack"))] {
        let error = from_dynamic(value(), target.as_ref()).unwrap_err();
        assert_eq!(error, ConvertError::SecretMoved(at.clone()));
        assert!(
            error.to_string().contains("the secret of `config.slack.token`"),
            "{error}"
        );
    }
    let inside = Dynamic::from_map(Map::from([("token".into(), value())]));
    assert!(from_dynamic(inside.clone(), Some(&path("config.slack"))).is_ok());
    assert!(from_dynamic(inside, Some(&path("config.other"))).is_err());
}

#[test]
fn what_is_no_data_is_refused_with_its_place() {
    for (code, expected) in [
        ("#{a: [1, |x| x]}", "at `a.1`: a function cannot be stored"),
        ("#{a: Fn(\"f\")}", "at `a`: a function cannot be stored"),
        ("0..5", "a range cannot be stored"),
        ("timestamp()", "a moment in time cannot be stored"),
        (
            "[0.0 / 0.0]",
            "at `0`: a number that is not finite cannot be stored",
        ),
        ("1.0 / 0.0", "a number that is not finite cannot be stored"),
    ] {
        let error = from_dynamic(run(code).unwrap(), None).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{code}: {error}");
    }
    assert!(from_dynamic(Dynamic::from(std::sync::Arc::new(5)), None).is_err());
}

#[test]
fn shared_variables_blobs_and_characters_become_data() {
    let shared = run("let k = [1]; let f = || k; k.push('x'); #{k: k, b: blob(2, 7)}").unwrap();
    let list = Tree::Seq(vec![Tree::I64(1), text("x")]);
    let expected = Tree::Map(vec![
        ("b".into(), Tree::Seq(vec![Tree::I64(7), Tree::I64(7)])),
        ("k".into(), list),
    ]);
    assert_eq!(from_dynamic(shared, None).unwrap(), expected);
}

#[test]
fn what_exceeds_a_bound_is_refused_and_shown_within_bounds() {
    let deep = (0..100).fold(Dynamic::ONE, |inner, _| Dynamic::from_array(vec![inner]));
    let wide = Dynamic::from_array(vec![Dynamic::ONE; MAX_ENTRIES + 1]);
    let long = Dynamic::from_array(vec!["x".repeat(1000).into(); 2000]);
    for value in [deep, wide, long.clone(), Dynamic::from_blob(vec![0; MAX_ENTRIES])] {
        assert!(matches!(
            from_dynamic(value.clone(), None),
            Err(ConvertError::TooLarge(_))
        ));
        assert!(display(&value).len() < 300_000);
    }
    let shown = display(&long);
    let (text, marker) = shown.rsplit_once("\n… ").unwrap();
    let cut: usize = marker.strip_suffix(" more bytes cut").unwrap().parse().unwrap();
    // A line is indented by 2, and has quotes, a comma and a line break.
    assert_eq!(text.len() + cut, 2 + 2000 * (1000 + 6) + 1);
}

#[test]
fn a_list_that_holds_itself_is_refused_and_shown_within_bounds() {
    let list = run("let a = []; let f = || a; a.push(1); a")
        .unwrap()
        .into_shared();
    let mut cell = list.clone();
    cell.write_lock::<rhai::Array>()
        .unwrap()
        .extend([list.clone(), list.clone()]);
    assert!(from_dynamic(list.clone(), None).is_err());
    assert!(display(&list).len() < 600_000);
    assert!(to_json(&list).is_array());
    cell.write_lock::<rhai::Array>().unwrap().clear(); // Or it would never be freed.
}

#[test]
fn values_are_shown_as_they_could_be_written() {
    for (code, expected) in [
        ("()", "()"),
        ("true", "true"),
        ("1.0", "1.0"),
        ("1e300", "1e300"),
        ("\"a\\n\\\"ä\"", r#""a\n\"ä""#),
        ("'x'", "'x'"),
        ("[1, [], #{}]", "[1, [], #{}]"),
        (
            "#{b: 1, a: \"x\", \"c d\": ()}",
            r##"#{a: "x", b: 1, "c d": ()}"##,
        ),
        ("0..5", "0..5"),
        ("|x| x", "‹function›"),
        ("big", "18446744073709551615"),
        ("blob(2, 7)", "2 bytes [7, 7]"),
    ] {
        assert_eq!(display(&run(code).unwrap()), expected, "{code}");
    }
    let lines = display(&run("let a = []; for i in 0..40 { a.push(1000 + i) } #{list: a, x: 1}").unwrap());
    assert!(
        lines.starts_with("#{\n  list: [\n    1000,\n    1001,\n"),
        "{lines}"
    );
    assert!(lines.ends_with("    1039,\n  ],\n  x: 1,\n}"), "{lines}");
}

#[test]
fn many_bytes_are_counted_and_begun() {
    let bytes = Dynamic::from_blob(vec![7; 1_000_000]);
    assert!(display(&bytes).starts_with("1000000 bytes, of which the first are [7, 7, "));
    assert!(display(&bytes).len() < 200);
    assert_eq!(to_json(&bytes), "…");
}

#[test]
fn json_keeps_numbers_and_hides_secrets() {
    let value = run("#{a: [1, 1.5, (), 'x', \"y\", true], big: big, nan: 0.0/0.0, s: s, f: |x| x}").unwrap();
    let json = to_json(&value);
    assert_eq!(json["a"], serde_json::json!([1, 1.5, null, "x", "y", true]));
    assert_eq!(json["big"], u64::MAX);
    assert_eq!(json["nan"], serde_json::Value::Null);
    assert_eq!(json["f"], "‹function›");
    assert!(json["s"].as_str().unwrap().starts_with("‹secret "), "{json}");
}

#[test]
fn a_secret_is_shown_as_its_fingerprint_and_how_to_reveal_it() {
    let keyed = keyed();
    let value = to_dynamic(&secret("CANARY"), &path("config.slack.token"), &keyed);
    let fingerprint = keyed.fingerprint(&text("CANARY"));
    let expected = format!("‹secret {fingerprint}…, reveal(\"config.slack.token\") needs action reveal›");
    assert_eq!(display(&value), expected);
}

#[test]
fn a_secret_is_equal_to_an_equal_secret() {
    for (code, expected) in [
        ("s == s", true),
        ("s == t", true),
        ("s != t", false),
        ("s == u", false),
        ("s != u", true),
        ("[s] == [t]", true),
        ("#{a: s} == #{a: u}", false),
        ("[u, s].contains(t)", true),
        ("big == big", true),
        ("big != big", false),
    ] {
        assert_eq!(run(code).unwrap().as_bool(), Ok(expected), "{code}");
    }
}

#[test]
fn every_other_use_of_a_secret_is_an_error_that_names_it() {
    for code in [
        "s == \"CANARY\"",
        "\"CANARY\" == s",
        "s != \"CANARY\"",
        "s == 1",
        "1 != s",
        "s == ()",
        "s < \"D\"",
        "\"A\" <= s",
        "s > t",
        "s >= t",
        "s + \"\"",
        "\"\" + s",
        "s + t",
        "1 + s",
        "s * 2",
        "s - t",
        "s..5",
        "s & t",
        "s[0]",
        "s.len()",
        "s.len",
        "len(s)",
        "s.contains(\"C\")",
        "s.starts_with(\"C\")",
        "s.sub_string(0, 1)",
        "s.split(\"\")",
        "s.to_upper()",
        "s.bytes",
        "parse_int(s)",
        "s.to_blob()",
        "let x = \"\"; x += s; x",
        "let x = s; x += \"a\"; x",
        "[s].contains(\"CANARY\")",
        "\"C\" in s",
        "s in \"CANARY\"",
        "\"CANARY\".contains(s)",
        "\"CANARY\".index_of(s)",
        "#{a: s} == #{a: \"CANARY\"}",
        "[\"CANARY\"] == [s]",
        "-s",
        "!s",
        "s.value",
        "s.fingerprint",
    ] {
        let error = run(code)
            .map(|value| value.to_string())
            .expect_err(code)
            .to_string();
        assert!(
            error.contains("secret") && !error.contains("CANARY"),
            "{code}: {error}"
        );
    }
    // Rhai's own checks, which name no value: they must not show one.
    for code in [
        "for c in s { c }",
        "if s { 1 }",
        "[s, u].sort()",
        "#{CANARY: 1}[s]",
    ] {
        let error = run(code)
            .map(|value| value.to_string())
            .expect_err(code)
            .to_string();
        assert!(!error.contains("CANARY"), "{code}: {error}");
    }
}

#[test]
fn a_secret_in_text_is_the_fingerprint() {
    for code in [
        "`a ${s}`",
        "s.to_string()",
        "s.to_debug()",
        "[s].to_string()",
        "#{a: s}.to_json()",
        "`${[s]} ${#{a: s}}`",
        "switch s { \"CANARY\" => \"guessed\", _ => \"no\" }",
        "type_of(s)",
        "let a = []; a += s; a.to_string()",
    ] {
        let shown = run(code).map(|value| value.to_string()).unwrap_or_default();
        assert!(
            !shown.contains("CANARY") && !shown.contains("guessed"),
            "{code}: {shown}"
        );
    }
    assert!(run("`a ${s}`").unwrap().to_string().starts_with("a ‹secret "));
}
