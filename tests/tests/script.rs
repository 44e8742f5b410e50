//! Code does what it says: reading writes nothing, a path is the value there, a missing value is an error. Through real processes
//! and sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test fails the test"
)]

use debug_tests::{Client, Set};

/// The service `kinds`, with `alice` in the mode `observe`.
fn set() -> Set {
    Set::looking(env!("CARGO_BIN_EXE_kinds"))
}

fn changing() -> Set {
    Set::changing(env!("CARGO_BIN_EXE_kinds"))
}

#[track_caller]
fn shows(set: &mut Set, code: &str, expected: &str) {
    let reply = set.client.eval(code);
    assert!(reply.is_ok(), "{code}: {}", reply.0);
    assert_eq!(reply.display(), expected, "{code}");
}

/// The eval fails, with all of these texts in its message or its help.
#[track_caller]
fn fails(set: &mut Set, code: &str, said: &[&str]) {
    let reply = set.client.eval(code);
    let text = format!("{} — {}", reply.failed().1, reply.help());
    for part in said {
        assert!(text.contains(part), "{code}: `{part}` is not in: {text}");
    }
    for internal in [
        "‹object›",
        "anon$",
        "core::ops",
        "debug_agent::",
        "debug_script::",
        "debug_base::",
        "debug_state::",
        "Fn)",
        "(state",
    ] {
        assert!(!text.contains(internal), "{code}: {text}");
    }
}

#[track_caller]
fn leases(set: &mut Set) -> String {
    set.client.eval("leases().len()").display().to_owned()
}

/// Paths of the states of `kinds`, leaves first.
const PATHS: [&str; 13] = [
    "kinds.text",
    "kinds.integer",
    "kinds.float",
    "kinds.truth",
    "kinds.nothing",
    "kinds.letter",
    "kinds.big",
    "kinds.hidden",
    "kinds.rows[0].name",
    "kinds.list",
    "kinds.empty",
    "kinds.map",
    "kinds.rows",
];

/// Functions that change the value they are called on: calling one is meant as a write.
const CHANGERS: [&str; 11] = [
    "clear", "insert", "pad", "pop", "push", "remove", "replace", "reverse", "set", "sort", "trim",
];

/// Names that are not called with arguments only, or that the table has as well.
const OTHERS: [&str; 5] = ["throw", "is_def_fn", "is_def_var", "Fn", "get"];

/// Arguments of functions after the value they are called on.
const ARGUMENTS: [&str; 9] = [
    "",
    "1",
    "\"a\"",
    "'a'",
    "1, 1",
    "\"a\", \"b\"",
    "|x| true",
    "|a, b| a, 0",
    "[1]",
];

/// The functions of the language, as the agent lists them.
fn language(client: &mut Client) -> Vec<String> {
    let help = client.eval("help()").display().to_owned();
    let (_, names) = help.split_once("of the language").unwrap();
    let (_, names) = names.split_once("`: ").unwrap();
    names.split(", ").map(|name| name.trim().to_owned()).collect()
}

#[test]
fn what_other_languages_have_is_told_as_it_is_written_here() {
    let mut set = set();
    for (code, said) in [
        ("let i = 0; i++", ["there is no operator `++`", "write `x += 1`"]),
        ("let i = 0; i--", ["there is no operator `--`", "write `x -= 1`"]),
        (
            "while 1 { }",
            ["a condition is `true` or `false`, not a number", "`x > 0`"],
        ),
        (
            "for x in 5 { x }",
            [
                "what is looped over is a list, a range or a text",
                "`for i in 0..5 {",
            ],
        ),
        (
            r#"eval("1")"#,
            ["`eval` is not part of this language", "type the code itself"],
        ),
        ("revert 5", ["its arguments stand in brackets", "`revert(1)`"]),
        (
            "plan kinds.integer = 1",
            ["its arguments stand in brackets", "plan(|| "],
        ),
        (
            "let l = []; l[0]",
            ["there is no element 0: the list is empty", "count from 0"],
        ),
        (
            "let l = [1]; l[5]",
            ["there is no element 5: the list has 1 element", "count from 0"],
        ),
        (
            r#""abc"[9]"#,
            [
                "there is no character 9: the text has 3 characters",
                "count from 0",
            ],
        ),
        (
            "fn one(a) { a } one(1, 2)",
            [
                "`one` does not take (an integer, an integer)",
                "number of arguments",
            ],
        ),
        (
            "kinds.map()",
            ["`map` does not take (a list or map of a state)", "help(\"map\")"],
        ),
        (
            "kinds.nosuch()",
            ["there is no function `nosuch`", "without brackets"],
        ),
    ] {
        fails(&mut set, code, &said);
    }
}

/// In the mode `observe` a write ends the eval, even if the code catches errors.
#[test]
fn no_function_of_the_language_writes_what_it_only_reads() {
    let mut set = set();
    let before = set.says("/");
    let names = language(&mut set.client);
    assert!(names.len() > 80, "{names:?}");
    let reads = names
        .iter()
        .map(String::as_str)
        .filter(|name| !CHANGERS.contains(name) && !OTHERS.contains(name));
    let reads: Vec<&str> = reads.collect();
    for path in PATHS {
        // A session keeps every closure that it was given, so one session cannot hold them all.
        set.client = Client::attach(set.service.agent(), &set.certificates.operator("alice"));
        for arguments in ARGUMENTS {
            let comma = if arguments.is_empty() { "" } else { ", " };
            let forms: [&dyn Fn(&str) -> String; 4] = [
                &|name| format!("{path}.{name}({arguments})"),
                &|name| format!("{name}({path}{comma}{arguments})"),
                &|name| format!("let v = {path}; v.{name}({arguments})"),
                &|name| format!("`${{{path}.{name}({arguments})}}`"),
            ];
            for form in forms {
                for some in reads.chunks(100) {
                    let tries = some
                        .iter()
                        .map(|name| format!("try {{ {} }} catch {{}}", form(name)));
                    let code = tries.collect::<Vec<_>>().join("\n");
                    let reply = set.client.eval(&format!("{code}\n1"));
                    assert!(reply.is_ok(), "{path} ({arguments}): {}\n{code}", reply.0);
                }
            }
        }
    }
    assert_eq!(leases(&mut set), "0");
    assert_eq!(set.says("/"), before);
}

#[test]
fn reading_is_no_change_in_the_mode_change_either() {
    let mut set = changing();
    let before = set.says("/");
    for code in [
        "kinds.integer.to_string()",
        "kinds.text.len()",
        "kinds.list[0].to_upper()",
        "kinds[\"integer\"].to_string()",
        "let k = kinds; k.integer.to_string()",
        "let f = || kinds.integer.to_string(); f.call()",
        "[1, 2].map(|x| kinds.float.to_string())",
        "`${kinds.integer.to_string()}`",
        "kinds.hidden.to_string()",
        "kinds.nothing.to_debug()",
        "kinds.integer += 0",
        "kinds.text += \"\"",
        "kinds.hosts_are_not_here ?? 1",
        "switch kinds.integer { 7 => 1, _ => 2 }",
        "for x in kinds.list { x.trim() }",
        "kinds.list[0].trim()",
        "kinds.list.sort()",
        "7 in kinds.numbers",
        "kinds.list = kinds.list",
        "plan(|| kinds.integer.to_string())",
    ] {
        let reply = set.client.eval(code);
        let leases = reply.0["result"]["leases"].as_array().map_or(0, Vec::len);
        assert_eq!(leases, 0, "{code}: {}", reply.0);
    }
    assert_eq!(
        set.client
            .eval("plan(|| kinds.integer.to_string()).len()")
            .display(),
        "0"
    );
    assert_eq!(leases(&mut set), "0");
    assert_eq!(set.says("/"), before);
}

#[test]
fn an_assignment_of_an_equal_value_is_a_write() {
    for code in [
        "kinds.integer = 7",
        "kinds.integer = kinds.integer",
        r#"set("kinds.integer", 7)"#,
        "let k = kinds; k.integer = 7",
        "pause_ms = 10",
    ] {
        let mut set = changing();
        set.client.eval(code).ok();
        assert_eq!(leases(&mut set), "1", "{code}");
    }
}

#[test]
fn a_method_that_changes_is_one_write() {
    for (code, seen) in [
        (
            r#"kinds.list.push("dora")"#,
            r#"list: ["anna", "ben", "chloe", "dora"]"#,
        ),
        (
            r#"push(kinds.list, "dora")"#,
            r#"list: ["anna", "ben", "chloe", "dora"]"#,
        ),
        (
            r#"let l = kinds.list; l.push("dora")"#,
            r#"list: ["anna", "ben", "chloe", "dora"]"#,
        ),
        ("kinds.list.pop()", r#"list: ["anna", "ben"]"#),
        ("kinds.list.remove(0)", r#"list: ["ben", "chloe"]"#),
        ("kinds.list.clear()", "list: []"),
        ("kinds.list.reverse()", r#"list: ["chloe", "ben", "anna"]"#),
        ("kinds.numbers.sort()", "numbers: [1, 2, 3]"),
        (r#"kinds.list += ["x"]"#, r#"list: ["anna", "ben", "chloe", "x"]"#),
        (r#"kinds.map.set("one", 9)"#, r#"{"one": 9, "two": 2}"#),
        ("kinds.text.trim()", r#"text: "some Text""#),
        (r#"kinds.text.replace("some", "any")"#, r#"text: " any Text ""#),
        (
            r#"kinds.list[0].replace("a", "x")"#,
            r#"list: ["xnnx", "ben", "chloe"]"#,
        ),
        ("kinds.list[-1] = \"z\"", r#"list: ["anna", "ben", "z"]"#),
        ("kinds.integer += 1", "integer: 8"),
        ("pause_ms = 20", "pause_ms=20"),
        ("pause_ms += 5", "pause_ms=15"),
        ("fn f() { pause_ms = 21; } f()", "pause_ms=21"),
        ("let f = || pause_ms = 22; f.call()", "pause_ms=22"),
        (r#"hosts = ["h2"]"#, r#"hosts=["h2"]"#),
        (r#"hosts += ["h2"]"#, r#"hosts=["h1", "h2"]"#),
        ("kinds.numbers = [kinds.integer]", "numbers: [7]"),
        ("hosts = kinds.list", r#"hosts=["anna", "ben", "chloe"]"#),
        (r#"kinds["max-conn"] = 9"#, "max_conn: 9"),
    ] {
        let mut set = changing();
        let before = set.says("/");
        assert!(!before.contains(seen), "{code}");
        let reply = set.client.eval(code);
        assert_eq!(
            reply.ok()["leases"].as_array().unwrap().len(),
            1,
            "{code}: {}",
            reply.0
        );
        assert!(set.says("/").contains(seen), "{code}: {}", set.says("/"));
        set.client.eval("revert_all()").ok();
        assert_eq!(set.says("/"), before, "{code}");
    }
}

#[test]
fn a_variable_of_the_code_stays_one() {
    let mut set = changing();
    let before = set.says("/");
    shows(
        &mut set,
        "let pause_ms = 5; pause_ms = 6; pause_ms += 1; pause_ms",
        "7",
    );
    set.client.eval("let hosts = 1;").ok();
    shows(&mut set, "hosts = 2; hosts", "2");
    shows(
        &mut set,
        "let f = |pause_ms| { pause_ms = 3; pause_ms }; f.call(1)",
        "3",
    );
    assert_eq!((leases(&mut set).as_str(), set.says("/")), ("0", before));
}

#[test]
fn a_plan_of_an_assignment_to_a_state_lists_it() {
    let mut set = set();
    shows(&mut set, "plan(|| pause_ms = 20).len()", "1");
    shows(&mut set, "plan(|| pause_ms = 20)[0].target", "\"state:pause_ms\"");
    fails(&mut set, "pause_ms = 20", &["denied: write state:pause_ms"]);
    set.client.eval(r#"change("a test")"#).ok();
    fails(
        &mut set,
        r#"patch("GET /x", |req| { pause_ms = 1; 2 }, #{ unseen: true })"#,
        &["`set`", "effect"],
    );
}

#[test]
fn a_path_is_the_value_that_stands_there() {
    let mut set = set();
    for (code, expected) in [
        (r#"kinds.list.contains("anna")"#, "true"),
        (r#"kinds.list.contains("1")"#, "false"),
        (r#""anna" in kinds.list"#, "true"),
        (r#""one" in kinds.map"#, "true"),
        (r#"kinds.list == ["anna", "ben", "chloe"]"#, "true"),
        (r#"["anna", "ben", "chloe"] == kinds.list"#, "true"),
        (r#"kinds.list != ["anna", "ben", "chloe"]"#, "false"),
        (r#"kinds.map == get("kinds.map")"#, "true"),
        (r#"get("kinds.map") == kinds.map"#, "true"),
        ("kinds.map == #{ one: 1, two: 2 }", "true"),
        ("kinds == get(\"kinds\")", "true"),
        ("kinds.list == kinds.map", "false"),
        ("kinds.list == 5", "false"),
        ("kinds.rows[0] == #{ name: \"a\", weight: 1 }", "true"),
        ("[kinds.list] == [get(\"kinds.list\")]", "true"),
        ("#{ a: kinds.map } == #{ a: get(\"kinds.map\") }", "true"),
        ("[get(\"kinds.map\")].contains(kinds.map)", "true"),
        ("[kinds.map].index_of(get(\"kinds.map\"))", "0"),
        ("kinds.list.map(|p| p.len())", "[4, 3, 5]"),
        ("kinds.rows.map(|r| r.weight)", "[1, 2]"),
        ("kinds.list.filter(|p| p == \"ben\")", "[\"ben\"]"),
        ("kinds.list.index_of(\"ben\")", "1"),
        ("kinds.list.find(|p| p == \"ben\")", "\"ben\""),
        ("kinds.list.some(|p| p == \"ben\")", "true"),
        ("kinds.list.all(|p| p == \"ben\")", "false"),
        ("kinds.numbers.reduce(|sum, n| sum + n, 0)", "6"),
        ("kinds.list.len()", "3"),
        ("kinds.map.len()", "2"),
        ("kinds.empty.is_empty()", "true"),
        ("kinds.map.keys()", "[\"one\", \"two\"]"),
        ("kinds.map.values()", "[1, 2]"),
        ("kinds.map.get(\"one\")", "1"),
        ("kinds.list[0..2]", "[\"anna\", \"ben\"]"),
        ("kinds.list[1..=2]", "[\"ben\", \"chloe\"]"),
        ("kinds.list[-1]", "\"chloe\""),
        ("kinds.list.extract(1, 1)", "[\"ben\"]"),
        ("kinds.list.join(\"+\")", "\"anna+ben+chloe\""),
        (
            "kinds.list + [\"dora\"]",
            "[\"anna\", \"ben\", \"chloe\", \"dora\"]",
        ),
        (
            "[\"dora\"] + kinds.list",
            "[\"dora\", \"anna\", \"ben\", \"chloe\"]",
        ),
        ("`${kinds.numbers}`", "\"[3, 1, 2]\""),
        ("\"n: \" + kinds.numbers", "\"n: [3, 1, 2]\""),
        ("kinds.numbers.to_string()", "\"[3, 1, 2]\""),
        ("[kinds.numbers, 1]", "[[3, 1, 2], 1]"),
        ("#{ a: kinds.numbers }", "#{a: [3, 1, 2]}"),
        ("fn f(x) { x.len() } f(kinds.list)", "3"),
        ("let n = 0; for x in kinds.numbers { n += x; } n", "6"),
        ("try { kinds.list.map(|p| p.len())[0] } catch { 0 }", "4"),
        ("if kinds.list == [] { 1 } else { 2 }", "2"),
        ("let old = kinds; [old.integer, kinds.integer]", "[7, 7]"),
    ] {
        shows(&mut set, code, expected);
    }
    assert_eq!(leases(&mut set), "0");
}

/// No type of Rust and no name that Rhai makes is shown, wherever a value of the agent ends up.
#[test]
fn what_is_thrown_or_does_not_fit_is_told_in_words() {
    let mut set = set();
    for (code, words) in [
        ("throw kinds.list", "kinds.list"),
        ("throw [kinds, 1]", "the code threw ["),
        ("fn thrower(a) { throw a } thrower(kinds)", "the code threw"),
        ("[1].filter(|x| kinds)", "not a list or map of a state"),
        ("[1].filter(|x| 5)", "not an integer"),
        ("[1].some(|x| 1..2)", "not a range"),
        ("(|a, b| a).call(1)", "the closure does not take (an integer)"),
        ("1 + ()", "(an integer, nothing)"),
        ("let five = 5; five()", "there is no function `five`"),
    ] {
        fails(&mut set, code, &[words]);
    }
}

#[test]
fn what_a_list_or_map_cannot_be_is_said() {
    let mut set = set();
    fails(&mut set, "kinds.list < 5", &["`<`", "`kinds.list`"]);
    fails(
        &mut set,
        "if kinds.list { 1 }",
        &["a list or map of a state", "a truth value"],
    );
    fails(&mut set, "kinds.list.nosuch()", &["`nosuch`"]);
    fails(&mut set, "kinds[true]", &["`kinds`", "truth value"]);
    fails(&mut set, "for x in kinds.map { x }", &["kinds.map.keys()"]);
    fails(&mut set, "kinds.list[7]", &["kinds.list", "0 to 2"]);
    fails(&mut set, "-kinds.map", &["`-`"]);
}

/// A comparison with a value that contains a secret of the service reveals nothing about it.
#[test]
fn secrets_below_a_path_are_not_guessed() {
    let mut set = set();
    for guess in ["another-guess-1", "not-a-real-secret-8"] {
        for code in [
            format!("[kinds.hidden] == [\"{guess}\"]"),
            format!("#{{ a: kinds.hidden }} == #{{ a: \"{guess}\" }}"),
            format!("[kinds.hidden].contains(\"{guess}\")"),
            format!("kinds.values().contains(\"{guess}\")"),
            format!("let k = get(\"kinds\"); k.hidden = \"{guess}\"; kinds == k"),
        ] {
            fails(&mut set, &code, &["secret"]);
        }
    }
    assert!(!set.client.eval("kinds").display().contains("not-a-real-secret-9"));
    assert!(
        !set.client
            .eval("`${kinds} ${[kinds]}`")
            .display()
            .contains("not-a-real-secret-9")
    );
}

#[test]
fn what_is_not_there_is_an_error_with_the_nearest_name() {
    let mut set = changing();
    fails(&mut set, "info().uptime", &["`uptime`", "did you mean `up`?"]);
    fails(&mut set, "info()[\"uptime\"]", &["`uptime`"]);
    fails(&mut set, "get(\"kinds.map\").won", &["`won`", "known: one, two"]);
    fails(
        &mut set,
        "get(\"kinds\").rows[0].wieght",
        &["did you mean `weight`?"],
    );
    fails(
        &mut set,
        "sessions().map(|s| s.operatr)",
        &["did you mean `operator`?"],
    );
    set.client.eval("kinds.integer = 8").ok();
    fails(&mut set, "leases()[0].ownr", &["did you mean `owner`?"]);
    set.client.eval("let i = info();").ok();
    fails(&mut set, "i.uptime", &["did you mean `up`?"]);
    // A map of the code's own may have any names.
    shows(&mut set, "let m = #{ a: 1 }; if m.b == () { 1 } else { 2 }", "1");
    shows(
        &mut set,
        "let m = #{}; m.x = 1; m.y = 2; m.keys()",
        "[\"x\", \"y\"]",
    );
    shows(
        &mut set,
        "let m = #{}; m.x = 1; if m.z == () { 0 }; m.keys()",
        "[\"x\"]",
    );
    shows(
        &mut set,
        "let m = #{}; for k in [\"a\", \"b\"] { m[k] = 1; } m[\"c\"]; m.keys()",
        "[\"a\", \"b\"]",
    );
    shows(&mut set, "let o = get(\"kinds.map\"); o.three = 3; o.len()", "3");
    shows(&mut set, "kinds.nothing", "()");
    shows(&mut set, "get(\"kinds.nothing\")", "()");
    shows(&mut set, "let x = 1;", "");
}

#[test]
fn names_that_are_no_names_of_the_language_have_a_way() {
    let mut set = changing();
    for word in ["debug", "private", "import", "new", "if"] {
        fails(
            &mut set,
            &format!("kinds.{word}"),
            &[&format!("`kinds[\"{word}\"]`"), "nothing ran"],
        );
        fails(
            &mut set,
            &format!("kinds.{word} = 1"),
            &[&format!("`kinds[\"{word}\"]`")],
        );
        assert!(set.client.eval(&format!("kinds[\"{word}\"]")).is_ok());
        assert!(set.client.eval(&format!("get(\"kinds.{word}\")")).is_ok());
    }
    shows(&mut set, "kinds.type", "4");
    fails(&mut set, "kinds.max-conn", &["[\"max-conn\"]"]);
    fails(&mut set, "kinds.2fast", &["`kinds[\"2fast\"]`"]);
    fails(&mut set, "kinds.list.0", &["`kinds.list[0]`"]);
}

#[test]
fn the_name_of_a_function_without_parentheses_is_told_how_it_is_called() {
    let mut set = set();
    for name in ["help", "ls", "leases", "revert_all"] {
        fails(
            &mut set,
            name,
            &[&format!("`{name}` is a function"), &format!("call it: `{name}(")],
        );
    }
    fails(
        &mut set,
        "help(patch)",
        &["`patch` is a function", "`help(\"patch\")`"],
    );
    fails(
        &mut set,
        "let f = len;",
        &["`len` is a function", "`help(\"len\")`"],
    );
    fails(&mut set, "threads", &["not part of this version"]);
}

/// A list or map is live, a single value is read where it is named, as `help()` says.
#[test]
fn a_single_value_is_read_where_it_is_named() {
    let mut set = changing();
    shows(&mut set, "let y = kinds.integer; kinds.integer = 9; y", "7");
    shows(&mut set, "let k = kinds; kinds.float = 2.5; k.float", "2.5");
    let help = set.client.eval("help()").display().to_owned();
    assert!(
        help.contains("a single value, such as `config.db.port`, is read where it is named"),
        "{help}"
    );
}

#[test]
fn a_value_that_does_not_fit_is_told_what_does() {
    let mut set = changing();
    fails(
        &mut set,
        "kinds.map.one = -1",
        &["expected u32 (0 to 4294967295)"],
    );
    fails(
        &mut set,
        "kinds.hidden = \"x\"",
        &["only a secret", "debugctl eval AT CODE --arg-secret name=@FILE"],
    );
    fails(
        &mut set,
        "let k = get(\"kinds\"); k.hidden = \"x\"; kinds = k;",
        &["--arg-secret"],
    );
}

/// Advice can be typed as it stands.
#[test]
fn help_can_be_followed() {
    let mut set = set();
    for name in language(&mut set.client) {
        set.client.eval(&format!("help(\"{name}\")")).ok();
    }
    fails(&mut set, "exit", &["Ctrl-D leaves"]);
    fails(&mut set, "quit", &["Ctrl-D leaves"]);
    fails(&mut set, "q()", &["Ctrl-D leaves"]);
    fails(&mut set, "let f = |x| x; f(3)", &["`f.call(3)`"]);
    fails(&mut set, "fn g(f) { f(3) } g(|x| x)", &["`f.call(3)`"]);
    let far = set.client.eval("zzz(1)");
    assert!(!far.help().contains("did you mean"), "{}", far.help());
    fails(&mut set, "lenn(\"a\")", &["did you mean `len`?"]);
    fails(&mut set, "help(\"mapp\")", &["did you mean `map`?"]);
    set.client.eval("help(\"len\")").ok();
    assert!(set.client.eval("help()").display().contains("is a copy"));
}

/// An assignment and a method take no options: the advised code can be typed, and then makes the change.
#[test]
fn advice_for_a_place_that_is_changed_already_can_be_followed() {
    let mut set = changing();
    set.client.eval("kinds.list.push(\"dora\")").ok();
    for code in [
        "kinds.list.push(\"eve\")",
        "kinds.list = [\"eve\"]",
        "kinds.list[0] = \"eve\"",
        "hosts += [\"h2\"]",
    ] {
        if code.starts_with("hosts") {
            set.client.eval("hosts.push(\"h3\")").ok();
        }
        let reply = set.client.eval(code);
        reply.failed();
        let advice = reply.help().split('`').nth(1).unwrap().to_owned();
        assert!(advice.starts_with("set(\""), "{code}: {advice}");
        let value = if advice.contains(".0\"") {
            "\"eve\""
        } else {
            "[\"eve\"]"
        };
        let reply = set.client.eval(&format!("let value = {value}; {advice}"));
        assert!(reply.is_ok(), "{code}: {advice}: {}", reply.0);
        let made = reply.0["result"]["leases"][0]["id"].as_u64().unwrap();
        set.client.eval(&format!("revert({made})")).ok();
    }
    set.client
        .eval(r#"patch("GET /x", |req| #{ body: "1" }, #{ unseen: true })"#)
        .ok();
    fails(
        &mut set,
        r#"patch("GET /x", |req| #{ body: "2" })"#,
        &[r#"`patch("GET /x", code, #{ over: "#],
    );
    set.client
        .eval(r#"let code = |req| #{ body: "2" }; patch("GET /x", code, #{ over: leases()[-1].id })"#)
        .ok();
}

#[test]
fn the_type_of_a_path_is_that_of_what_stands_there() {
    let mut set = set();
    for (code, expected) in [
        ("type_of(kinds.list)", "\"array\""),
        ("type_of(kinds.map)", "\"map\""),
        ("kinds.rows[0].type_of()", "\"map\""),
        ("type_of(kinds)", "\"map\""),
        ("type_of(hosts)", "\"array\""),
        ("let k = kinds; type_of(k)", "\"map\""),
        ("type_of(kinds.integer)", "\"i64\""),
        ("type_of(kinds.text)", "\"string\""),
        ("type_of(1.5)", "\"f64\""),
        ("type_of([1])", "\"array\""),
        ("fn kind(x) { type_of(x) } kind(kinds.list)", "\"array\""),
    ] {
        shows(&mut set, code, expected);
    }
    fails(&mut set, "type_of(1, 2)", &["`type_of` does not take"]);
    set.client.eval(r#"change("a test")"#).ok();
    set.client
        .eval(r#"patch("GET /x", |req| #{ body: type_of(req) }, #{ unseen: true })"#)
        .ok();
}

#[test]
fn switch_compares_what_stands_at_a_path() {
    let mut set = set();
    for (code, expected) in [
        ("switch kinds.integer { 7 => 1, _ => 2 }", "1"),
        (
            "switch kinds.list { [\"anna\", \"ben\", \"chloe\"] => 1, _ => 2 }",
            "1",
        ),
        (
            "switch kinds.rows[0] { #{ name: \"a\", weight: 1 } => 1, _ => 2 }",
            "1",
        ),
        (
            "switch kinds[\"numbers\"] { [3, 1, 2] => kinds.numbers.len(), _ => 2 }",
            "3",
        ),
        ("let k = kinds; switch k.numbers { [3, 1, 2] => 1, _ => 2 }", "1"),
        (
            "fn f(k) { switch k.numbers { [3, 1, 2] => 1, _ => 2 } } f(kinds)",
            "1",
        ),
        (
            "let f = || switch kinds.numbers { [3, 1, 2] => 1, _ => 2 }; f.call()",
            "1",
        ),
        ("switch get(\"kinds.numbers\") { [3, 1, 2] => 1, _ => 2 }", "1"),
    ] {
        shows(&mut set, code, expected);
    }
    // In a later submission, and in a function of an earlier one.
    shows(&mut set, "f(kinds)", "1");
    fails(
        &mut set,
        "switch hosts { [\"h1\"] => 1, _ => 2 }",
        &["`switch`", "`get(\"hosts\")`"],
    );
    fails(
        &mut set,
        "let n = kinds.numbers; switch n { [3, 1, 2] => 1, _ => 2 }",
        &["`get(\"kinds.numbers\")`"],
    );
    shows(
        &mut set,
        "let n = get(\"kinds.numbers\"); switch n { [3, 1, 2] => 1, _ => 2 }",
        "1",
    );
    // A parameter or variable with the name of a state is not that state, in this function or elsewhere.
    shows(
        &mut set,
        "fn kind_of(kinds) { switch kinds { 7 => 1, _ => 2 } } kind_of(7)",
        "1",
    );
    shows(&mut set, "kinds.integer", "7");
    shows(&mut set, "fn seven() { kinds.integer } seven()", "7");
    shows(
        &mut set,
        "fn local() { let kinds = 7; switch kinds { 7 => 1, _ => 2 } } local() + kinds.integer",
        "8",
    );
    // Also if the function declares a variable of that name elsewhere.
    for body in [
        "let r = switch hosts { [\"h1\"] => 1, _ => 2 }; let hosts = 3; r",
        "if false { let hosts = 1; } switch hosts { [\"h1\"] => 1, _ => 2 }",
        "for hosts in 0..2 { } switch hosts { [\"h1\"] => 1, _ => 2 }",
    ] {
        fails(
            &mut set,
            &format!("fn missed() {{ {body} }} missed()"),
            &["`switch`", "`get(\"hosts\")`"],
        );
    }
    // A `switch` on the parameter of one function is no fault of another one.
    shows(
        &mut set,
        "fn seven_is(x, y) { switch x { 7 => y, _ => 0 } } seven_is(7, 1)",
        "1",
    );
    shows(
        &mut set,
        "fn how_many(x) { x.numbers.len() } how_many(kinds)",
        "3",
    );
    for compared in [
        "{ kinds.list }",
        "if true { kinds.list } else { 1 }",
        "() ?? kinds.list",
    ] {
        let code = format!("switch {compared} {{ [\"anna\", \"ben\", \"chloe\"] => 1, _ => 2 }}");
        shows(&mut set, &code, "1");
        shows(&mut set, &format!("fn chosen() {{ {code} }} chosen()"), "1");
    }
    fails(&mut set, "kind_of(kinds)", &["`switch`", "`get(\"kinds\")`"]);
    fails(
        &mut set,
        "fn state() { switch kinds { 7 => 1, _ => 2 } } state()",
        &["`get(\"kinds\")`"],
    );
}

#[test]
fn a_copy_is_not_changed_in_silence() {
    let mut set = changing();
    let before = set.says("/");
    for (code, way) in [
        ("trim(kinds.text)", "`kinds.text.trim()`"),
        (
            "replace(kinds.list[0], \"a\", \"x\")",
            "`kinds.list[0].replace(\"a\", \"x\")`",
        ),
        ("pad(kinds[\"text\"], 20, ' ')", "`kinds[\"text\"].pad(20, ' ')`"),
        (
            "get(\"kinds.list\").push(\"dora\")",
            "`kinds.list.push(\"dora\")` changes the state",
        ),
        (
            "get(\"kinds\").list.push(\"dora\")",
            "`kinds.list.push(\"dora\")` changes the state",
        ),
        (
            "get(\"kinds.rows.0\").set(\"weight\", 9)",
            "`kinds.rows[0].set(\"weight\", 9)` changes the state",
        ),
        (
            "get(\"kinds.text\").trim()",
            "`kinds.text.trim()` changes the state",
        ),
        (
            "get(\"kinds.list\").pop()",
            "`kinds.list.pop()` takes it out of the state",
        ),
        ("kinds.list.filter(|p| true).sort()", "give it a name first"),
        (
            "kinds.rows.find(|r| true).set(\"weight\", 9)",
            "give it a name first",
        ),
        (
            "let f = |x| get(\"kinds.list\").clear(); f.call(1)",
            "`kinds.list.clear()`",
        ),
        ("let o = get(\"kinds\"); push(o.list, 1)", "`o.list.push(1)`"),
        ("sort([2, 1])", "give it a name first"),
    ] {
        fails(&mut set, code, &["copy", way, "nothing ran"]);
    }
    assert_eq!((leases(&mut set).as_str(), set.says("/")), ("0", before));
    for (code, expected) in [
        ("let l = get(\"kinds.numbers\"); l.sort(); l", "[1, 2, 3]"),
        ("let l = get(\"kinds.numbers\"); sort(l); l", "[1, 2, 3]"),
        ("let o = get(\"kinds\"); o.list.push(1); o.list.len()", "4"),
        ("\"a,b\".split(\",\").pop()", "\"b\""),
        ("fn trim(a, b) { a + b } trim(kinds.integer, 1)", "8"),
    ] {
        shows(&mut set, code, expected);
    }
}

/// A missing name is an error also in code that assigns to a state.
#[test]
fn a_missing_name_is_told_also_where_a_state_is_assigned_to() {
    let mut set = changing();
    for code in [
        "kinds.integer = kinds.integer + 1; info().uptime",
        "kinds.integer = 9; info().integer",
        "kinds.rows[0].weight += 1; info().uptime",
        "kinds.map[\"a\" + \"b\"] = 1; info().uptime",
        "plan(|| kinds.integer = 3)[0].targt",
        "let rows = plan(|| kinds.integer = 3); rows[0].targt",
    ] {
        fails(&mut set, code, &["there is no `"]);
    }
    shows(
        &mut set,
        "let n = #{}; for p in kinds.list { n[p] = (n[p] ?? 0) + 1; } n.len()",
        "3",
    );
    // A variable with the name of a state is a variable.
    set.client.eval("let pause_ms = #{};").ok();
    shows(
        &mut set,
        "pause_ms.a = 1; pause_ms.b = pause_ms.a; pause_ms",
        "#{a: 1, b: 1}",
    );
    shows(&mut set, "let kinds = #{ a: 1 }; kinds.b = 2; kinds.b", "2");
}

/// A lookup in an eval takes the service's lock like a read: it costs as much, and the eval's record lists it.
#[test]
fn containers_that_are_looked_at_are_counted_and_recorded() {
    let mut set = set();
    set.client.eval("kinds.rows; kinds.rows[-1]; kinds.list[-1]").ok();
    let looked = set.certificates.records_of("outcome").pop().unwrap()["looked"].clone();
    let expected = serde_json::json!([
        { "path": "kinds", "times": 3 },
        { "path": "kinds.list", "times": 2 },
        { "path": "kinds.rows", "times": 3 },
        { "path": "kinds.rows.1", "times": 1 },
    ]);
    assert_eq!(looked, expected);
    set.client.eval("1 + 1").ok();
    assert!(
        set.certificates
            .records_of("outcome")
            .pop()
            .unwrap()
            .get("looked")
            .is_none()
    );
    // Nearly all operations of an eval, with and without lookups.
    let spent = "for i in 0..900_000 { }";
    set.client
        .eval(&format!("{spent} for i in 0..1_000 {{ i; }}"))
        .ok();
    for code in ["kinds;", "kinds.map;", "kinds.list[-1];"] {
        let (kind, message) = set
            .client
            .eval(&format!("{spent} for i in 0..1_000 {{ {code} }}"))
            .failed();
        assert_eq!(
            (kind.as_str(), message.as_str()),
            ("limit", "the eval used more than 1000000 operations"),
            "{code}"
        );
    }
}
